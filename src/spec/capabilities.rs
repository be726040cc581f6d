//! The five capability sets: config.md#linux-process (runtime-spec v1.3.0).
//!
//! oci-spec's enum refuses a document that names a capability it does not know, where the
//! specification wants a warning: profiles written for newer kernels must still start. So the
//! names are taken out of the document before it is typed, and kept as masks, which is also
//! what the kernel wants.

use caps::Capability;
use serde_json::Value;

use super::at::At;
use super::json;
use crate::error::Result;

/// The capability sets of a process as masks: bit n is capability n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What may ever be gained.
    pub bounding: u64,
    /// What is checked.
    pub effective: u64,
    /// What execve keeps where the file says so too.
    pub inheritable: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What execve keeps for programs without file capabilities.
    pub ambient: u64,
}

/// The number of a capability named as in the specification: `CAP_CHOWN` is 0.
pub fn capability_number(name: &str) -> Option<u8> {
    name.parse::<Capability>().ok().map(|capability| capability.index())
}

/// The names of all known capabilities, by number.
pub fn capability_names() -> Vec<String> {
    capability_names_of(u64::MAX)
}

/// The names of the capabilities of a set.
pub fn capability_names_of(set: u64) -> Vec<String> {
    let mut all: Vec<Capability> = caps::all().into_iter().filter(|one| set & 1 << one.index() != 0).collect();
    all.sort_by_key(Capability::index);
    all.iter().map(Capability::to_string).collect()
}

impl Capabilities {
    /// The set that has this name in config.json.
    pub(super) fn named(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "bounding" => &mut self.bounding,
            "effective" => &mut self.effective,
            "inheritable" => &mut self.inheritable,
            "permitted" => &mut self.permitted,
            "ambient" => &mut self.ambient,
            _ => return None,
        })
    }

    /// Takes `process.capabilities` out of the document; an unknown name is dropped with a warning.
    pub(super) fn take(value: Value, at: &At<'_>, warnings: &mut Vec<String>) -> Result<Capabilities> {
        let mut sets = Capabilities::default();
        let mut unknown = Vec::new();
        for (key, names) in json::object(value, at)? {
            let at = at.key(&key);
            let Some(set) = sets.named(&key) else {
                warnings.push(json::unknown_field(&at));
                continue;
            };
            for name in json::strings(names, &at)? {
                match capability_number(&name) {
                    Some(number) => *set |= 1 << number,
                    None if unknown.contains(&name) => {}
                    None => unknown.push(name),
                }
            }
        }
        if !unknown.is_empty() {
            warnings.push(format!("{at}: ignoring unknown or unavailable capabilities: [{}]", unknown.join(" ")));
        }
        Ok(sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(capability_number("CAP_CHOWN"), Some(0));
        assert_eq!(capability_number("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(capability_number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(capability_number("SYS_ADMIN"), None);
        assert_eq!(capability_number("cap_sys_admin"), None);
    }

    #[test]
    fn names_stand_in_the_order_of_their_numbers() {
        let names = capability_names();
        assert_eq!(names.len(), 41);
        assert!(names.iter().enumerate().all(|(n, name)| capability_number(name) == Some(n as u8)));
    }
}
