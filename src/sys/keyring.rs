//! The session keyring (keyctl(2)): a container gets its own, so that it cannot use the runtime's keys.

use std::ffi::CStr;

use super::{Result, check};

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;
const KEYCTL_DESCRIBE: libc::c_int = 6;

/// Joins, or makes, the session keyring of that name, and gives its serial number.
pub fn join_session(name: &CStr) -> Result<i32> {
    // SAFETY: the name is a C string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })
        .map(|serial| serial as i32)
}

/// Adds `permissions` to those of the key (the user class is `0x00ff_0000`, search `0x08`).
pub fn add_permissions(serial: i32, permissions: u32) -> Result<()> {
    let mut text = [0u8; 512];
    // SAFETY: the kernel writes at most the length that is passed.
    let len =
        check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, serial, text.as_mut_ptr(), text.len()) })?;
    let text = text.get(..(len as usize).min(text.len())).unwrap_or_default();
    // "type;uid;gid;perm;description", perm in hexadecimal.
    let field = text.split(|b| *b == b';').nth(3).unwrap_or_default();
    let old = field.iter().try_fold(0u32, |sum, digit| Some(sum << 4 | (*digit as char).to_digit(16)?));
    let Some(old) = old else { return Err(super::Errno::EINVAL) };
    if old & permissions == permissions {
        return Ok(());
    }
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, old | permissions) }).map(drop)
}
