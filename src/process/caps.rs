//! The five capability sets: config.md#linux-process, capabilities(7). The bounding set goes while the
//! process is still root; the others after it has become its user.

use std::fmt;

use nix::errno::Errno;

use crate::error::errno_text;
use crate::plan::{Fault, Init, Inside, Plan};
use crate::sys::cred::{self, CapSets};

/// The sets as masks, bit n for capability n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Masks {
    /// effective, permitted and inheritable.
    pub sets: CapSets,
    /// What programs without file capabilities keep.
    pub ambient: u64,
}

/// Adds the drop of what is not in `bounding` from the bounding set, anywhere before the user changes: it tells only
/// what execve gives.
pub fn plan_bounding(bounding: u64, plan: &mut Plan) {
    plan.inside(DropBounding(bounding));
}

/// Adds the other sets, after the user has changed.
pub fn plan_sets(masks: Masks, plan: &mut Plan) {
    plan.inside(SetCapabilities(masks));
}

fn names(mask: u64) -> String {
    let mut names: Vec<String> = Vec::new();
    for number in (0..64).filter(|n| mask >> n & 1 == 1) {
        let known = caps::all().into_iter().find(|cap| u32::from(cap.index()) == number);
        names.push(known.map_or_else(|| number.to_string(), |cap| cap.to_string()));
    }
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

struct DropBounding(u64);

impl fmt::Display for DropBounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limiting capabilities to {}", names(self.0))
    }
}

impl Inside for DropBounding {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        for capability in (0..64).filter(|n| self.0 >> n & 1 == 0) {
            match cred::drop_bounding(capability) {
                // Beyond the kernel's last capability.
                Err(Errno::EINVAL) => break,
                other => other?,
            }
        }
        Ok(())
    }
}

struct SetCapabilities(Masks);

impl fmt::Display for SetCapabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Masks { sets, ambient, .. } = self.0;
        write!(f, "setting capabilities (effective {}", names(sets.effective))?;
        for (name, mask) in [("permitted", sets.permitted), ("inheritable", sets.inheritable), ("ambient", ambient)] {
            if mask != sets.effective && mask != 0 {
                write!(f, "; {name} {}", names(mask))?;
            }
        }
        f.write_str(")")
    }
}

impl Inside for SetCapabilities {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        cred::capset(self.0.sets)?;
        cred::clear_ambient()?;
        for capability in (0..64).filter(|n| self.0.ambient >> n & 1 == 1) {
            cred::raise_ambient(capability).map_err(Fault::at(u64::from(capability)))?;
        }
        Ok(())
    }

    fn explain(&self, fault: Fault) -> String {
        let missing = cred::capget().map_or(0, |own| self.0.sets.permitted & !own.permitted);
        if fault.errno == Errno::EPERM && missing != 0 {
            return format!("{}: the runtime itself does not have {}", errno_text(fault.errno), names(missing));
        }
        errno_text(fault.errno)
    }
}
