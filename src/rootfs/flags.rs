//! The flags of a bind mount: config.md#mounts (runtime-spec v1.3.0), mount(8).
//!
//! A bind without any flag among its options keeps those of its source. With one, set or cleared, it has exactly
//! the flags that are set, as in runc; only of the access-time flags the source's are kept where none is set.
//! Where the container has a user namespace, what its source has cannot be taken away: the kernel locks it.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::options::{MS_NOSYMFOLLOW, Options};
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::{self, fd};

const ATIME: u64 = libc::MS_NOATIME | libc::MS_RELATIME | libc::MS_STRICTATIME;
const ANY_ATIME: u64 = ATIME | libc::MS_NODIRATIME;
const LOCKABLE: u64 = libc::MS_RDONLY | libc::MS_NODEV | libc::MS_NOSUID | libc::MS_NOEXEC | ANY_ATIME;

/// What the options of a bind mount ask for.
#[derive(Debug, Clone, Copy)]
pub struct Flags {
    set: u64,
    cleared: u64,
    /// Whether the flags of the source stay: the container has a user namespace.
    locked: bool,
}

/// What is still to be done once the mount is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Applied,
    /// Linux before 5.12 can only remount what is attached: [`Flags::remount`].
    Later,
}

impl Flags {
    /// Those of one entry of `mounts`.
    pub fn of(options: &Options, user_namespace: bool) -> Flags {
        let set = options.flags & !(libc::MS_BIND | libc::MS_REC | libc::MS_REMOUNT);
        Flags { set, cleared: options.cleared, locked: user_namespace }
    }

    /// The same with more flags.
    #[must_use]
    pub fn and(self, more: u64) -> Flags {
        Flags { set: self.set | more, ..self }
    }

    fn is_nothing(self) -> bool {
        self.set == 0 && self.cleared == 0
    }

    /// Gives them to a mount that is attached nowhere yet.
    pub fn apply(self, tree: BorrowedFd<'_>) -> sys::Result<Outcome> {
        if self.is_nothing() {
            return Ok(Outcome::Applied);
        }
        let refused = self.locked && self.takes_from(source_flags(tree)?);
        let first = if refused { Err(Errno::EPERM) } else { change(tree, attributes(self.set)) };
        let result = match first {
            Err(Errno::EPERM) => change(tree, attributes(self.with_those_of(tree)?)),
            other => other,
        };
        match result {
            Err(Errno::ENOSYS) => Ok(Outcome::Later),
            other => other.map(|()| Outcome::Applied),
        }
    }

    /// The same by remount(2), for a mount that has been attached.
    pub fn remount(self, mounted: BorrowedFd<'_>) -> sys::Result<()> {
        let remount = |flags| sys::mount::change(mounted, flags | libc::MS_BIND | libc::MS_REMOUNT);
        match remount(self.set) {
            Err(Errno::EPERM) => remount(self.with_those_of(mounted)?),
            other => other,
        }
    }

    /// With the flags that the source has and that are locked; EPERM where the options ask for the opposite.
    fn with_those_of(self, source: BorrowedFd<'_>) -> sys::Result<u64> {
        let has = source_flags(source)?;
        if has & self.cleared & LOCKABLE != 0 || self.wants_other_atime(has) {
            return Err(Errno::EPERM);
        }
        Ok(self.set | has & LOCKABLE)
    }

    /// Whether having exactly the set flags would take a locked one away, which the kernel refuses.
    fn takes_from(self, has: u64) -> bool {
        has & LOCKABLE & !ANY_ATIME & !self.set != 0 || self.wants_other_atime(has)
    }

    fn wants_other_atime(self, has: u64) -> bool {
        self.set & ANY_ATIME != 0 && self.set & ANY_ATIME != has & ANY_ATIME
    }
}

/// The flags of a mount as mount(2) would set them.
fn source_flags(source: BorrowedFd<'_>) -> sys::Result<u64> {
    let has = fd::mount_flags(source)?;
    // No flag of its own, but the absence of the two others.
    Ok(if has & ATIME == 0 { has | libc::MS_STRICTATIME } else { has })
}

fn change(tree: BorrowedFd<'_>, attributes: MountAttr) -> sys::Result<()> {
    match mount_setattr(tree, attributes, 0, None) {
        // Linux before 5.14 does not know this one.
        Err(Errno::EINVAL) if attributes.set & libc::MOUNT_ATTR_NOSYMFOLLOW == 0 => {
            let clear = attributes.clear & !libc::MOUNT_ATTR_NOSYMFOLLOW;
            mount_setattr(tree, MountAttr { clear, ..attributes }, 0, None)
        }
        other => other,
    }
}

/// What makes a mount have exactly these flags, as a remount would: the words of mount(2) in those of mount_setattr(2).
fn attributes(flags: u64) -> MountAttr {
    const PAIRS: [(u64, u64); 5] = [
        (libc::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
        (libc::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
        (libc::MS_NODEV, libc::MOUNT_ATTR_NODEV),
        (libc::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (MS_NOSYMFOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let mut attributes = MountAttr::default();
    for (flag, name) in PAIRS {
        let field = if flags & flag != 0 { &mut attributes.set } else { &mut attributes.clear };
        *field |= name;
    }
    if flags & ANY_ATIME == 0 {
        return attributes;
    }
    attributes.clear |= libc::MOUNT_ATTR__ATIME | libc::MOUNT_ATTR_NODIRATIME;
    if flags & libc::MS_NODIRATIME != 0 {
        attributes.set |= libc::MOUNT_ATTR_NODIRATIME;
    }
    if flags & libc::MS_STRICTATIME != 0 {
        attributes.set |= libc::MOUNT_ATTR_STRICTATIME;
    } else if flags & libc::MS_NOATIME != 0 {
        attributes.set |= libc::MOUNT_ATTR_NOATIME;
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_cleared() {
        let MountAttr { set, clear, .. } = attributes(libc::MS_RDONLY | libc::MS_NODEV);
        assert_eq!(set, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV);
        assert_eq!(clear, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_NOSYMFOLLOW);
    }

    #[test]
    fn access_time_flags_are_kept_unless_one_is_set() {
        let field = libc::MOUNT_ATTR__ATIME | libc::MOUNT_ATTR_NODIRATIME;
        assert_eq!(attributes(libc::MS_RDONLY).clear & field, 0);
        for (flags, set) in [
            (libc::MS_RELATIME, 0),
            (libc::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
            (libc::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
            (libc::MS_NODIRATIME | libc::MS_STRICTATIME, libc::MOUNT_ATTR_NODIRATIME | libc::MOUNT_ATTR_STRICTATIME),
        ] {
            let attributes = attributes(flags);
            assert_eq!((attributes.clear & field, attributes.set), (field, set), "{flags:#x}");
        }
    }
}
