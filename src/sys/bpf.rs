//! bpf(2), as far as device programs of cgroups need it: load, attach, detach, and the list of what is attached.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Errno, Result, check};

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_DETACH: i32 = 9;
const BPF_PROG_GET_NEXT_ID: i32 = 11;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_PROG_QUERY: i32 = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// The kernel's limit of programs attached to one cgroup.
const MAX_PROGRAMS: usize = 64;

#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

fn bpf<T>(command: i32, attr: &mut T) -> Result<libc::c_long> {
    // SAFETY: each caller passes the structure that belongs to the command, whose pointers are live, and its size.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) })
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: called only with a descriptor that bpf(2) has just made; it is close-on-exec.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// Whether this process may list the programs of the machine: only who has CAP_SYS_ADMIN in the first user namespace may
/// (capable() in kernel/bpf/syscall.c).
pub fn may_list_programs() -> bool {
    let mut first = ById::default();
    matches!(bpf(BPF_PROG_GET_NEXT_ID, &mut first), Ok(_) | Err(Errno::ENOENT))
}

/// Loads a program that decides about device access; `instructions` are in the kernel's encoding.
///
/// # Errors
/// EPERM without CAP_BPF or, before Linux 5.11, when RLIMIT_MEMLOCK is too small; EINVAL or EACCES when the verifier refuses.
pub fn load_device_program(instructions: &[u64]) -> Result<OwnedFd> {
    let mut load = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        prog_name: *b"orlop_devices\0\0\0",
        ..Load::default()
    };
    bpf(BPF_PROG_LOAD, &mut load).map(owned)
}

/// Attaches a device program to the v2 cgroup whose directory `cgroup` is, beside those of others.
///
/// With `replace` it takes the place of that program in one step (Linux 5.6).
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mut attach = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI | replace.map_or(0, |_| BPF_F_REPLACE),
        replace_bpf_fd: replace.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    bpf(BPF_PROG_ATTACH, &mut attach).map(drop)
}

/// Detaches one device program.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attach = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        ..Attach::default()
    };
    bpf(BPF_PROG_DETACH, &mut attach).map(drop)
}

/// The device programs attached to the cgroup itself. Allocates: outside only.
///
/// Programs that a security module hides (EACCES, EPERM) are left out: they can only restrict further.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut query = Query {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MAX_PROGRAMS as u32,
        ..Query::default()
    };
    bpf(BPF_PROG_QUERY, &mut query)?;
    let mut programs = Vec::new();
    for id in ids.iter().take(query.prog_cnt as usize) {
        match bpf(BPF_PROG_GET_FD_BY_ID, &mut ById { prog_id: *id, ..ById::default() }) {
            Ok(fd) => programs.push(owned(fd)),
            Err(Errno::EACCES | Errno::EPERM | Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(programs)
}
