//! Host and domain names: config.md#hostname, config.md#domainname (runtime-spec v1.3.0).
//!
//! Both belong to the UTS namespace. Asked for without a private one they would rename the host, so
//! that is refused here, before anything is done.

use std::ffi::CString;
use std::fmt;

use anyhow::anyhow;
use oci_spec::runtime::Spec;

use super::{Kind, Namespaces};
use crate::error::Result;
use crate::plan::{Fault, Init, Inside, Plan};
use crate::sys::uts;

/// Adds the steps that name the container.
///
/// # Errors
/// A name without a private UTS namespace, or longer than the kernel's 64 bytes.
pub fn plan(spec: &Spec, namespaces: &Namespaces, plan: &mut Plan) -> Result<()> {
    if let Some(name) = spec.hostname().as_deref().filter(|name| !name.is_empty()) {
        namespaces.require_private(Kind::Uts, "hostname")?;
        plan.inside(SetHostname(checked("hostname", name)?));
    }
    if let Some(name) = spec.domainname().as_deref().filter(|name| !name.is_empty()) {
        namespaces.require_private(Kind::Uts, "domainname")?;
        plan.inside(SetDomainname(checked("domainname", name)?));
    }
    Ok(())
}

fn checked(field: &str, name: &str) -> Result<CString> {
    const NEW_UTS_LEN: usize = 64;
    if name.len() > NEW_UTS_LEN {
        return Err(anyhow!("config.json: {field} {name:?} is longer than {NEW_UTS_LEN} bytes"));
    }
    CString::new(name).map_err(|_| anyhow!("config.json: {field} contains a NUL byte"))
}

struct SetHostname(CString);

impl fmt::Display for SetHostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting hostname to {:?}", self.0)
    }
}

impl Inside for SetHostname {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(uts::sethostname(&self.0)?)
    }
}

struct SetDomainname(CString);

impl fmt::Display for SetDomainname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting domainname to {:?}", self.0)
    }
}

impl Inside for SetDomainname {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(uts::setdomainname(&self.0)?)
    }
}
