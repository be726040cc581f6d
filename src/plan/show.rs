//! The dry run: a plan in words, one step a line, with who does it.

use std::fmt;

use super::{Plan, Step};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning  {warning}")?;
        }
        for step in &self.before {
            writeln!(f, "before   {step}")?;
        }
        if self.clones() {
            writeln!(f, "spawn    {}", self.spawn_words())?;
        }
        for step in &self.steps {
            match step {
                // A step that does others tells of them here alone.
                Step::Outside(step) => writeln!(f, "outside  {step:#}")?,
                Step::Inside(step) => writeln!(f, "inside   {step}")?,
                Step::Alongside(step) => writeln!(f, "beside   {step}")?,
            }
        }
        Ok(())
    }
}

impl Plan {
    fn spawn_words(&self) -> String {
        const KINDS: [(i32, &str); 8] = [
            (libc::CLONE_NEWUSER, "user"),
            (libc::CLONE_NEWPID, "pid"),
            (libc::CLONE_NEWNS, "mount"),
            (libc::CLONE_NEWNET, "network"),
            (libc::CLONE_NEWUTS, "uts"),
            (libc::CLONE_NEWIPC, "ipc"),
            (libc::CLONE_NEWCGROUP, "cgroup"),
            (libc::CLONE_NEWTIME, "time"),
        ];
        let kinds: Vec<_> =
            KINDS.iter().filter(|(flag, _)| self.spawn.flags & *flag as u64 != 0).map(|(_, name)| *name).collect();
        let mut words = String::from("cloning the container's process");
        if !kinds.is_empty() {
            words += " into new namespaces: ";
            words += &kinds.join(", ");
        }
        if !self.spawn.for_children.is_empty() {
            words += "; into an existing pid namespace";
        }
        if self.spawn.through_user.is_some() {
            words += "; through an existing user namespace";
        }
        if self.spawn.cgroup.is_some() {
            words += "; into its cgroup";
        }
        words
    }
}
