//! System calls that are not there: an old kernel, or a seccomp filter around the runtime that hides them.
//!
//! Asked only after something has failed with ENOSYS or EPERM, as each question is a system call itself. Linux 5.10 has
//! all but mount_setattr(2); seccomp profiles of container engines that are older than a call answer EPERM or ENOSYS
//! for it on any kernel.

use super::{Errno, check};

/// What is asked in a way that no kernel takes: one that has the call answers EINVAL before it looks at privileges.
/// fsopen(2) and move_mount(2) look at them first, so their EPERM says nothing.
const CALLS: [(&str, libc::c_long, [usize; 5], bool); 8] = [
    ("clone3", libc::SYS_clone3, [0, 0, 0, 0, 0], true),
    ("close_range", libc::SYS_close_range, [2, 1, 0, 0, 0], true),
    ("fsopen", libc::SYS_fsopen, [0, usize::MAX, 0, 0, 0], false),
    ("mount_setattr", libc::SYS_mount_setattr, [usize::MAX, 0, 0, 0, 0], true),
    ("move_mount", libc::SYS_move_mount, [usize::MAX, 0, usize::MAX, 0, usize::MAX], false),
    ("open_tree", libc::SYS_open_tree, [usize::MAX, 0, usize::MAX, 0, 0], true),
    ("openat2", libc::SYS_openat2, [usize::MAX, 0, 0, 0, 0], true),
    ("pidfd_open", libc::SYS_pidfd_open, [usize::MAX, 0, 0, 0, 0], true),
];

/// The names of those of the newer system calls that fail with this errno whatever is asked of them.
pub fn hidden(errno: Errno) -> Vec<&'static str> {
    let asks = |unprivileged: bool| errno == Errno::ENOSYS || errno == Errno::EPERM && unprivileged;
    let found = CALLS.iter().filter(|(_, number, [a, b, c, d, e], unprivileged)| {
        // SAFETY: no pointer is passed that the kernel would follow: sizes are zero, flags unknown, descriptors none.
        asks(*unprivileged) && check(unsafe { libc::syscall(*number, *a, *b, *c, *d, *e) }) == Err(errno)
    });
    found.map(|(name, ..)| *name).collect()
}

/// That the call behind an error is not there, in words; `None` where all are.
pub fn explain(errno: Errno) -> Option<String> {
    let names = match errno {
        Errno::ENOSYS | Errno::EPERM => hidden(errno),
        _ => Vec::new(),
    };
    if names.is_empty() {
        return None;
    }
    let list = names.iter().map(|name| format!("{name}(2)")).collect::<Vec<_>>().join(", ");
    Some(format!("this kernel, or a seccomp filter around orlop, does not have {list}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_new_enough_hides_nothing_for_want_of_it() {
        // The tests are run again with each call hidden, by hack/old-kernel.
        if std::env::var_os("ORLOP_TEST_HIDDEN").is_none() {
            assert_eq!(hidden(Errno::ENOSYS), Vec::<&str>::new());
            assert_eq!(explain(Errno::EPERM), None);
        }
        assert_eq!(explain(Errno::ENOENT), None);
    }
}
