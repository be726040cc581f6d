//! Container ids: runc's alphabet, so that an id is always one file name (never `..`, never with a slash).

use std::fmt;

use anyhow::bail;

use crate::error::Result;

/// A checked id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks an id.
    ///
    /// # Errors
    /// Empty, longer than a file name can be, `.` or `..`, or with other characters than `A-Z a-z 0-9 _ + - .`.
    pub fn new(id: &str) -> Result<ContainerId> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
        if id.is_empty() {
            bail!("container id cannot be empty");
        }
        if id == "." || id == ".." || id.len() > 255 || !id.chars().all(legal) {
            bail!("invalid container ID format: {id:?}");
        }
        Ok(ContainerId(id.to_owned()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_file_name() {
        for good in ["a", "web-1", "A_b+c.d", "...", "0"] {
            assert!(ContainerId::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../x", "a b", "é", "a\0", &"x".repeat(256)] {
            assert!(ContainerId::new(bad).is_err(), "{bad}");
        }
    }
}
