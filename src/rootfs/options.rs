//! Mount options: config.md#mounts (runtime-spec v1.3.0), mount(8), mount_setattr(2).
//!
//! One table says what each word means; `features` prints the same table.

use crate::sys::mount::MountAttr;

/// How far an id mapping goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The mount alone.
    Mount,
    /// The mount and all below it.
    Tree,
}

/// What one option word does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Sets MS_* flags.
    Set(u64),
    /// Clears MS_* flags.
    Clear(u64),
    /// Sets MOUNT_ATTR_* on the mount and all below.
    RecursiveSet(u64),
    /// Clears MOUNT_ATTR_* on the mount and all below.
    RecursiveClear(u64),
    /// Changes the propagation.
    Propagation(u64),
    /// Maps the ids of the mount.
    IdMap(Reach),
    /// Copies what a tmpfs hides into it.
    CopyUp,
    /// Means nothing.
    Nothing,
}

use Effect::{Clear, CopyUp, IdMap, Nothing, Propagation, RecursiveClear, RecursiveSet, Set};

const REC: u64 = libc::MS_REC;
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
/// libc has no name for it yet (Linux 5.10).
pub const MS_NOSYMFOLLOW: u64 = 256;

const TABLE: &[(&str, Effect)] = &[
    ("acl", Set(libc::MS_POSIXACL)),
    ("async", Clear(libc::MS_SYNCHRONOUS)),
    ("atime", Clear(libc::MS_NOATIME)),
    ("bind", Set(libc::MS_BIND)),
    ("defaults", Nothing),
    ("dev", Clear(libc::MS_NODEV)),
    ("diratime", Clear(libc::MS_NODIRATIME)),
    ("dirsync", Set(libc::MS_DIRSYNC)),
    ("exec", Clear(libc::MS_NOEXEC)),
    ("idmap", IdMap(Reach::Mount)),
    ("iversion", Set(libc::MS_I_VERSION)),
    ("lazytime", Set(libc::MS_LAZYTIME)),
    ("loud", Clear(libc::MS_SILENT)),
    ("mand", Set(libc::MS_MANDLOCK)),
    ("noacl", Clear(libc::MS_POSIXACL)),
    ("noatime", Set(libc::MS_NOATIME)),
    ("nodev", Set(libc::MS_NODEV)),
    ("nodiratime", Set(libc::MS_NODIRATIME)),
    ("noexec", Set(libc::MS_NOEXEC)),
    ("noiversion", Clear(libc::MS_I_VERSION)),
    ("nolazytime", Clear(libc::MS_LAZYTIME)),
    ("nomand", Clear(libc::MS_MANDLOCK)),
    ("norelatime", Clear(libc::MS_RELATIME)),
    ("nostrictatime", Clear(libc::MS_STRICTATIME)),
    ("nosuid", Set(libc::MS_NOSUID)),
    ("nosymfollow", Set(MS_NOSYMFOLLOW)),
    ("private", Propagation(libc::MS_PRIVATE)),
    ("ratime", RecursiveClear(libc::MOUNT_ATTR_NOATIME)),
    ("rbind", Set(libc::MS_BIND | REC)),
    ("rdev", RecursiveClear(libc::MOUNT_ATTR_NODEV)),
    ("rdiratime", RecursiveClear(libc::MOUNT_ATTR_NODIRATIME)),
    ("relatime", Set(libc::MS_RELATIME)),
    ("remount", Set(libc::MS_REMOUNT)),
    ("rexec", RecursiveClear(libc::MOUNT_ATTR_NOEXEC)),
    ("ridmap", IdMap(Reach::Tree)),
    ("rnoatime", RecursiveSet(libc::MOUNT_ATTR_NOATIME)),
    ("rnodev", RecursiveSet(libc::MOUNT_ATTR_NODEV)),
    ("rnodiratime", RecursiveSet(libc::MOUNT_ATTR_NODIRATIME)),
    ("rnoexec", RecursiveSet(libc::MOUNT_ATTR_NOEXEC)),
    ("rnorelatime", RecursiveClear(libc::MOUNT_ATTR_RELATIME)),
    ("rnostrictatime", RecursiveClear(libc::MOUNT_ATTR_STRICTATIME)),
    ("rnosuid", RecursiveSet(libc::MOUNT_ATTR_NOSUID)),
    ("rnosymfollow", RecursiveSet(libc::MOUNT_ATTR_NOSYMFOLLOW)),
    ("ro", Set(libc::MS_RDONLY)),
    ("rprivate", Propagation(libc::MS_PRIVATE | REC)),
    ("rrelatime", RecursiveSet(libc::MOUNT_ATTR_RELATIME)),
    ("rro", RecursiveSet(libc::MOUNT_ATTR_RDONLY)),
    ("rrw", RecursiveClear(libc::MOUNT_ATTR_RDONLY)),
    ("rshared", Propagation(libc::MS_SHARED | REC)),
    ("rslave", Propagation(libc::MS_SLAVE | REC)),
    ("rstrictatime", RecursiveSet(libc::MOUNT_ATTR_STRICTATIME)),
    ("rsuid", RecursiveClear(libc::MOUNT_ATTR_NOSUID)),
    ("rsymfollow", RecursiveClear(libc::MOUNT_ATTR_NOSYMFOLLOW)),
    ("runbindable", Propagation(libc::MS_UNBINDABLE | REC)),
    ("rw", Clear(libc::MS_RDONLY)),
    ("shared", Propagation(libc::MS_SHARED)),
    ("silent", Set(libc::MS_SILENT)),
    ("slave", Propagation(libc::MS_SLAVE)),
    ("strictatime", Set(libc::MS_STRICTATIME)),
    ("suid", Clear(libc::MS_NOSUID)),
    ("symfollow", Clear(MS_NOSYMFOLLOW)),
    ("sync", Set(libc::MS_SYNCHRONOUS)),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation(libc::MS_UNBINDABLE)),
];

/// Every option word that orlop knows, for `features`.
pub fn names() -> Vec<&'static str> {
    TABLE.iter().map(|(name, _)| *name).collect()
}

/// The options of one mount, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// MS_* for mount(2).
    pub flags: u64,
    /// MS_* that were asked to be off.
    pub cleared: u64,
    /// For the mount and all below it.
    pub recursive: (u64, u64),
    /// In the order of the configuration.
    pub propagation: Vec<u64>,
    /// Whether ids are to be mapped, and how far.
    pub idmap: Option<Reach>,
    /// Whether what a tmpfs hides is copied into it.
    pub copy_up: bool,
    /// What is left, for the file system itself.
    pub data: String,
}

impl Options {
    /// Reads the words of `mounts[n].options`.
    pub fn read(words: &[String]) -> Options {
        let mut options = Options::default();
        for word in words {
            match TABLE.iter().find(|(name, _)| name == word).map(|(_, effect)| *effect) {
                Some(Set(flags)) => {
                    options.flags |= flags;
                    options.cleared &= !flags;
                }
                Some(Clear(flags)) => {
                    options.flags &= !flags;
                    options.cleared |= flags;
                }
                Some(RecursiveSet(attr)) => options.set_recursive(attr),
                Some(RecursiveClear(attr)) => options.clear_recursive(attr),
                Some(Propagation(flags)) => options.propagation.push(flags),
                Some(Nothing) => {}
                Some(IdMap(reach)) => options.idmap = Some(reach),
                Some(CopyUp) => options.copy_up = true,
                None => {
                    if !options.data.is_empty() {
                        options.data.push(',');
                    }
                    options.data.push_str(word);
                }
            }
        }
        options
    }

    fn set_recursive(&mut self, attr: u64) {
        let (set, clear) = &mut self.recursive;
        // The access-time attributes are one field of several bits, cleared as a whole when one is set.
        if attr & ATIME != 0 || attr == libc::MOUNT_ATTR_RELATIME {
            *set &= !ATIME;
            *clear |= ATIME;
        } else {
            *clear &= !attr;
        }
        *set |= attr;
    }

    fn clear_recursive(&mut self, attr: u64) {
        let (set, clear) = &mut self.recursive;
        if attr & ATIME != 0 || attr == libc::MOUNT_ATTR_RELATIME {
            *set &= !ATIME;
            *clear |= ATIME;
        } else {
            *set &= !attr;
            *clear |= attr;
        }
    }

    /// Whether this is a bind mount.
    pub fn is_bind(&self) -> bool {
        self.flags & libc::MS_BIND != 0
    }

    /// Whether nothing is said against its being shared with the host.
    pub fn may_be_shared(&self) -> bool {
        self.propagation.last().is_none_or(|flags| flags & libc::MS_SHARED != 0)
    }

    /// Whether mounts may be passed on from the mount, or not be copied: it is asked to be shared or unbindable.
    pub fn is_asked_to_spread(&self) -> bool {
        self.propagation.iter().any(|flags| flags & (libc::MS_SHARED | libc::MS_UNBINDABLE) != 0)
    }

    /// Whether a bind mount takes what is mounted below its source along.
    pub fn is_recursive_bind(&self) -> bool {
        self.flags & REC != 0
    }

    /// Whether the mount is read-only.
    pub fn is_read_only(&self) -> bool {
        self.flags & libc::MS_RDONLY != 0
    }

    /// The flags as attributes of one mount, for mount_setattr(2) on a bind.
    pub fn attributes(&self) -> MountAttr {
        const PAIRS: [(u64, u64); 6] = [
            (libc::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
            (libc::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
            (libc::MS_NODEV, libc::MOUNT_ATTR_NODEV),
            (libc::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
            (libc::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
            (MS_NOSYMFOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
        ];
        let mut attr = MountAttr::default();
        for (flag, name) in PAIRS {
            if self.flags & flag != 0 {
                attr.set |= name;
            } else if self.cleared & flag != 0 {
                attr.clear |= name;
            }
        }
        if self.flags & (libc::MS_NOATIME | libc::MS_STRICTATIME | libc::MS_RELATIME) != 0 {
            attr.clear |= ATIME;
            if self.flags & libc::MS_NOATIME != 0 {
                attr.set |= libc::MOUNT_ATTR_NOATIME;
            } else if self.flags & libc::MS_STRICTATIME != 0 {
                attr.set |= libc::MOUNT_ATTR_STRICTATIME;
            }
        } else if self.cleared & (libc::MS_NOATIME | libc::MS_STRICTATIME) != 0 {
            attr.clear |= ATIME;
        }
        attr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Options {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        Options::read(&words)
    }

    #[test]
    fn the_last_of_contradicting_words_wins() {
        assert!(!read(&["ro", "rw"]).is_read_only());
        assert!(read(&["rw", "ro"]).is_read_only());
    }

    #[test]
    fn unknown_words_go_to_the_file_system() {
        assert_eq!(read(&["nosuid", "mode=755", "size=64k"]).data, "mode=755,size=64k");
    }

    #[test]
    fn bind_attributes_change_only_what_was_named() {
        let attr = read(&["rbind", "ro", "exec"]).attributes();
        assert_eq!((attr.set, attr.clear), (libc::MOUNT_ATTR_RDONLY, libc::MOUNT_ATTR_NOEXEC));
    }

    #[test]
    fn recursive_access_time_replaces_the_whole_field() {
        let options = read(&["rro", "rnoatime"]);
        assert_eq!(options.recursive, (libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOATIME, ATIME));
    }

    #[test]
    fn the_table_is_sorted_and_without_doubles() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
