//! Places in a JSON document, as messages name them: `linux.namespaces[3].path`.
//!
//! A place lives on the stack and costs nothing until an error prints it.

use std::fmt;

use crate::error::escaped;

/// A place in the document.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// The document itself.
    Root,
    /// A member of an object.
    Key(&'a At<'a>, &'a str),
    /// An element of an array.
    Index(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    /// The member `name` of this place.
    pub fn key(&'a self, name: &'a str) -> At<'a> {
        At::Key(self, name)
    }

    /// The element `index` of this place.
    pub fn index(&'a self, index: usize) -> At<'a> {
        At::Index(self, index)
    }

    /// An error about this place.
    pub fn fault(&self, why: impl fmt::Display) -> anyhow::Error {
        match self {
            At::Root => anyhow::anyhow!(escaped(&why.to_string(), &[])),
            _ => anyhow::anyhow!(escaped(&format!("{self}: {why}"), &[])),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root => Ok(()),
            At::Index(parent, index) => write!(f, "{parent}[{index}]"),
            // Names with dots in them (sysctls, annotations) are quoted, so that a path reads one way only.
            At::Key(parent, name) if !is_plain(name) => write!(f, "{parent}[{name:?}]"),
            At::Key(At::Root, name) => f.write_str(name),
            At::Key(parent, name) => write!(f, "{parent}.{name}"),
        }
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_in_the_document() {
        let (root, linux) = (At::Root, At::Key(&At::Root, "linux"));
        let namespaces = linux.key("namespaces");
        assert_eq!(namespaces.index(3).key("path").to_string(), "linux.namespaces[3].path");
        assert_eq!(linux.key("sysctl").key("net.core.somaxconn").to_string(), "linux.sysctl[\"net.core.somaxconn\"]");
        assert_eq!(root.fault("empty").to_string(), "empty");
        assert_eq!(root.key("root").fault("required").to_string(), "root: required");
    }
}
