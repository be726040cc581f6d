//! Where the kernel's resource control (cache and memory bandwidth, Intel RDT) is mounted: resctrl in the kernel's documentation.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::error::{Result, Why};

/// The file system `resctrl`. It is looked for when a container wants it, and not else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resctrl {
    /// Looked for when needed.
    Unread,
    /// Mounted there.
    At(PathBuf),
}

/// The kernel makes this directory, empty, where processor and kernel know resource control.
const USUAL: &str = "/sys/fs/resctrl";

impl Resctrl {
    /// Its mount point.
    ///
    /// # Errors
    /// When there is none; the message says what is missing.
    pub fn mount(&self) -> Result<PathBuf> {
        if let Resctrl::At(path) = self {
            return Ok(path.clone());
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").why(|| "reading /proc/self/mountinfo")?;
        if let Some(path) = mount_point(&mounts) {
            return Ok(path);
        }
        if Path::new(USUAL).is_dir() {
            bail!("resctrl is not mounted (mount -t resctrl resctrl {USUAL})");
        }
        bail!("there is no {USUAL}: this processor, or this kernel, has no resource control (Intel RDT, AMD QoS)")
    }
}

fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    let resctrl = |line: &&str| line.split_once(" - ").is_some_and(|(_, after)| after.starts_with("resctrl "));
    mountinfo.lines().find(resctrl)?.split(' ').nth(4).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_by_its_type() {
        let text = "36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw\n\
                    37 35 0:40 / /sys/fs/resctrl rw shared:9 - resctrl resctrl rw,cdp\n";
        assert_eq!(mount_point(text), Some(PathBuf::from("/sys/fs/resctrl")));
        assert_eq!(mount_point("36 35 98:0 / /resctrl rw - ext3 resctrl rw\n"), None);
    }

    #[test]
    fn without_a_mount_the_error_says_what_is_missing() {
        if let Err(error) = Resctrl::Unread.mount() {
            assert!(error.to_string().contains(USUAL), "{error}");
        }
    }
}
