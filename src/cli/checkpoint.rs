//! `checkpoint`, and the flags that it shares with `restore`.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use nix::errno::Errno;

use crate::checkpoint::{CgroupMode, Dump, Options};
use crate::container::{Context, checkpoint, id::ContainerId};
use crate::error::{Result, Why};
use crate::sys::fd;

/// Flags of `checkpoint` and `restore` alike.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Folder for criu's images
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    image_path: PathBuf,
    /// Folder for criu's log and other work [default: that of the images]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Folder of the last --pre-dump, relative to that of the images
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Keep established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Close established TCP connections
    #[arg(long)]
    tcp_close: bool,
    /// Allow Unix sockets to be connected to processes outside
    #[arg(long)]
    ext_unix_sk: bool,
    /// Allow the session and terminal of a shell outside
    #[arg(long)]
    shell_job: bool,
    /// Keep file locks
    #[arg(long)]
    file_locks: bool,
    /// Drop pages from images that later ones have
    #[arg(long)]
    auto_dedup: bool,
    /// Let memory follow later, through userfaultfd
    #[arg(long)]
    lazy_pages: bool,
    /// What criu does about cgroups [default: soft]
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<Mode>,
    /// Do not keep what is in the namespace of this kind; that of the network is always made empty
    #[arg(long, value_name = "KIND")]
    #[allow(dead_code)] // Checked, and what it says is done anyway.
    empty_ns: Vec<EmptyNamespace>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Soft,
    Full,
    Strict,
    Ignore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EmptyNamespace {
    Network,
}

impl Common {
    /// The flags as criu is told; paths are absolute, as seen from here.
    pub fn options(&self) -> Result<Options> {
        let absolute = |path: &Path| std::path::absolute(path).why(|| format!("{path:?}"));
        Ok(Options {
            images: absolute(&self.image_path)?,
            work: self.work_path.as_deref().map(absolute).transpose()?,
            tcp_established: self.tcp_established,
            tcp_close: self.tcp_close,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
            cgroups: match self.manage_cgroups_mode {
                None => CgroupMode::Default,
                Some(Mode::Soft) => CgroupMode::Soft,
                Some(Mode::Full) => CgroupMode::Full,
                Some(Mode::Strict) => CgroupMode::Strict,
                Some(Mode::Ignore) => CgroupMode::Ignore,
            },
            config_file: None,
        })
    }

    /// `--parent-path`, checked: criu would take one that is not there for none, and write everything.
    fn parent(&self) -> Result<Option<String>> {
        let Some(parent) = &self.parent_path else { return Ok(None) };
        if parent.is_absolute() {
            bail!("--parent-path {parent:?} must be relative to --image-path");
        }
        let invalid = |errno| Err(errno).why(|| format!("invalid --parent-path {parent:?}"));
        match std::fs::metadata(self.image_path.join(parent)) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return invalid(Errno::ENOTDIR),
            Err(error) => return invalid(Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOENT))),
        }
        let text = parent.to_str().ok_or_else(|| anyhow!("--parent-path {parent:?} is not UTF-8"))?;
        Ok(Some(text.to_owned()))
    }
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Let the container run on
    #[arg(long)]
    leave_running: bool,
    /// Write the memory alone and let the container run on; a checkpoint with --parent-path follows
    #[arg(long)]
    pre_dump: bool,
    /// Leave out TCP connections that are being made
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Allow unlinked files to be linked again
    #[arg(long)]
    link_remap: bool,
    /// Send the memory to this page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Write a zero byte to this descriptor when --lazy-pages can be asked for
    #[arg(long, value_name = "FD", allow_negative_numbers = true)]
    status_fd: Option<i32>,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

impl Args {
    #[inline(never)]
    pub fn checkpoint(&self, context: &mut Context) -> Result<()> {
        let id = ContainerId::new(&self.id)?;
        let parent = self.common.parent_path.as_ref().map(|_| {
            // Relative to a folder that may not be there yet.
            let made = std::fs::create_dir_all(&self.common.image_path);
            made.why(|| format!("--image-path {:?}", self.common.image_path)).and_then(|()| self.common.parent())
        });
        let dump = Dump {
            options: self.common.options()?,
            parent: parent.transpose()?.flatten(),
            leave_running: self.leave_running,
            memory_only: self.pre_dump,
            tcp_skip_in_flight: self.tcp_skip_in_flight,
            link_remap: self.link_remap,
            page_server: self.page_server.as_deref().map(page_server).transpose()?,
            status: self.status()?,
            ..Dump::default()
        };
        checkpoint::checkpoint(context, &id, dump)
    }

    /// runc's default of -1 is none.
    fn status(&self) -> Result<Option<std::os::fd::OwnedFd>> {
        let Some(number) = self.status_fd.filter(|number| *number != -1) else { return Ok(None) };
        let words = || format!("invalid --status-fd {number}");
        let flags = fd::status_flags(number).why(words)?;
        if flags & libc::O_ACCMODE == libc::O_RDONLY {
            bail!("{}: not writable", words());
        }
        fd::take_over(number).why(words).map(Some)
    }
}

/// `ADDRESS:PORT`, an IPv6 address in brackets.
fn page_server(text: &str) -> Result<(String, u16)> {
    let wrong = || anyhow!("--page-server {text:?} is not ADDRESS:PORT");
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    if address.is_empty() {
        return Err(wrong());
    }
    Ok((address.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_has_an_address_and_a_port() {
        assert_eq!(page_server("10.0.0.1:27").unwrap(), ("10.0.0.1".to_owned(), 27));
        assert_eq!(page_server("[::1]:27").unwrap(), ("::1".to_owned(), 27));
        for wrong in ["", "10.0.0.1", ":27", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:99999", "[]:1"] {
            assert!(page_server(wrong).is_err(), "{wrong}");
        }
    }
}
