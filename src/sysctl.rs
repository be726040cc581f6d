//! Kernel parameters: config-linux.md#sysctl (runtime-spec v1.3.0). Reading config.json has refused those
//! that are not the container's own.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;

use anyhow::anyhow;

use crate::error::{Result, errno_text};
use crate::plan::{Fault, Init, Inside, Plan, Slot};
use crate::sys::{fd, root};

/// Adds the writing of all parameters, sorted, through a private procfs.
///
/// # Errors
/// NUL bytes.
pub fn plan(values: &BTreeMap<String, String>, proc: impl FnOnce(&mut Plan) -> Slot, plan: &mut Plan) -> Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let mut writes = Vec::new();
    for (name, value) in values {
        let nul = |_| anyhow!("config.json: linux.sysctl.{name:?} contains a NUL byte");
        let path = CString::new(format!("sys/{}", crate::spec::sysctl::path(name))).map_err(nul)?;
        writes.push(Write { name: name.clone(), path, value: CString::new(value.as_str()).map_err(nul)? });
    }
    let proc = proc(plan);
    plan.inside(SetSysctl { writes, proc });
    Ok(())
}

struct Write {
    name: String,
    path: CString,
    value: CString,
}

struct SetSysctl {
    writes: Vec<Write>,
    proc: Slot,
}

impl fmt::Display for SetSysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.writes.iter().map(|w| format!("{}={}", w.name, w.value.to_string_lossy())).collect();
        write!(f, "setting sysctls {}", words.join(", "))
    }
}

impl Inside for SetSysctl {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let proc = init.slots.get(self.proc)?;
        for (index, write) in self.writes.iter().enumerate() {
            let fault = Fault::at(index as u64);
            let file = root::openat2(proc, &write.path, libc::O_WRONLY, 0, root::BENEATH).map_err(&fault)?;
            fd::write_once(file.as_fd(), write.value.to_bytes()).map_err(&fault)?;
        }
        Ok(())
    }

    fn explain(&self, fault: Fault) -> String {
        let name = self.writes.get(fault.detail as usize).map_or("", |write| write.name.as_str());
        format!("linux.sysctl.{name:?}: {}", errno_text(fault.errno))
    }
}
