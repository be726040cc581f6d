//! Ids and capabilities, set with masks for all sets at once.
//!
//! Raw system calls: the C library's wrappers synchronise threads, of which there is one.

use super::{Result, check};

/// setgroups(2).
pub fn setgroups(groups: &[libc::gid_t]) -> Result<()> {
    // SAFETY: the pointer and length describe a live slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// setresuid(2) with the three ids alike.
pub fn setuid(uid: libc::uid_t) -> Result<()> {
    // SAFETY: takes three numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// setresgid(2) with the three ids alike.
pub fn setgid(gid: libc::gid_t) -> Result<()> {
    // SAFETY: takes three numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Effective, permitted and inheritable capabilities as bit masks, bit n for capability n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSets {
    /// In force now.
    pub effective: u64,
    /// May be made effective.
    pub permitted: u64,
    /// Kept over execve where the file says so too.
    pub inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// capset(2) of this process.
pub fn capset(sets: CapSets) -> Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads one header and two data structures, which these are.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// capget(2) of this process.
pub fn capget() -> Result<CapSets> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads one header and writes two data structures, which these are.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(CapSets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Drops one capability of the bounding set. EINVAL: the kernel does not know it.
pub fn drop_bounding(capability: u32) -> Result<()> {
    super::process::prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0, 0, 0).map(drop)
}

/// Empties the ambient set.
pub fn clear_ambient() -> Result<()> {
    super::process::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0, 0, 0).map(drop)
}

/// Adds one capability, which must be permitted and inheritable, to the ambient set.
pub fn raise_ambient(capability: u32) -> Result<()> {
    super::process::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(capability), 0, 0)
        .map(drop)
}

/// PR_SET_KEEPCAPS: whether setuid away from 0 keeps the permitted set.
pub fn keep_capabilities(keep: u64) -> Result<()> {
    super::process::prctl(libc::PR_SET_KEEPCAPS, keep, 0, 0, 0).map(drop)
}
