//! The names of the UTS namespace.

use std::ffi::CStr;

use super::{Errno, Result};

/// sethostname(2).
pub fn sethostname(name: &CStr) -> Result<()> {
    // SAFETY: the pointer and length describe a live string.
    Errno::result(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }).map(drop)
}

/// setdomainname(2).
pub fn setdomainname(name: &CStr) -> Result<()> {
    // SAFETY: the pointer and length describe a live string.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr(), name.count_bytes()) }).map(drop)
}
