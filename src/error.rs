//! How errors are worded: lower-case errno texts as Go prints them, and the exit status they carry.

use std::fmt;

use nix::errno::Errno;

/// The result of everything that runs outside the container.
pub type Result<T> = anyhow::Result<T>;

/// The text of an errno as runc's users know it (Go's table: all lower case).
pub fn errno_text(errno: Errno) -> String {
    match errno {
        Errno::EIO => "input/output error".into(),
        Errno::EAGAIN => "resource temporarily unavailable".into(),
        Errno::EOPNOTSUPP => "operation not supported".into(),
        Errno::EXDEV => "invalid cross-device link".into(),
        Errno::E2BIG => "argument list too long".into(),
        Errno::ENOTTY => "inappropriate ioctl for device".into(),
        Errno::UnknownErrno => "unknown error".into(),
        _ => errno.desc().to_lowercase(),
    }
}

/// An errno as a std error whose text follows [`errno_text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sys(pub Errno);

impl fmt::Display for Sys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&errno_text(self.0))
    }
}

impl std::error::Error for Sys {}

impl From<Errno> for Sys {
    fn from(errno: Errno) -> Sys {
        Sys(errno)
    }
}

/// Turns system errors into ones that say what was tried, in orlop's wording.
pub trait Why<T> {
    /// Adds `what` in front of the error; the error itself is worded as Go words it.
    ///
    /// # Errors
    /// The original error, with `what` as its context.
    fn why<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Why<T> for std::result::Result<T, Errno> {
    fn why<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|errno| anyhow::Error::new(Sys(errno)).context(what().to_string()))
    }
}

impl<T> Why<T> for std::io::Result<T> {
    fn why<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| match e.raw_os_error() {
            Some(raw) => anyhow::Error::new(Sys(Errno::from_raw(raw))).context(what().to_string()),
            None => anyhow::Error::new(e).context(what().to_string()),
        })
    }
}

/// The errno at the bottom of an error, where a system call caused it.
pub fn errno_of(error: &anyhow::Error) -> Option<Errno> {
    error.chain().find_map(|cause| cause.downcast_ref::<Sys>().map(|sys| sys.0))
}

/// One line: all contexts, outermost first, joined as Go joins wrapped errors. Only what a hook or a helper has printed,
/// which is quoted as it is, may have several; what would steer a terminal is escaped there too.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&escaped(&cause.to_string(), &['\n', '\t']));
    }
    line
}

/// The text with its control characters escaped, except those of `kept`.
pub fn escaped(text: &str, kept: &[char]) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !kept.contains(&c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}

/// The code of an error of execve(2) itself, after everything has been set up: its message is printed as it is.
pub const EXEC_FAILED: &str = "exec-failed";

/// What was being done, and what the user can do about it; found again by `--log-format json`.
#[derive(Debug, Clone, Default)]
pub struct Detail {
    /// A short stable word for programs, such as `step-failed`.
    pub code: &'static str,
    /// `plan`, `outside` or `inside`.
    pub phase: &'static str,
    /// The step's own words.
    pub step: String,
    /// Advice in one sentence, empty when there is none.
    pub hint: String,
}

/// An error with a [`Detail`] attached; prints as its message alone.
#[derive(Debug)]
pub struct Detailed {
    /// The message.
    pub message: String,
    /// The machine-readable rest.
    pub detail: Detail,
    /// The errno, where a system call failed.
    pub errno: Option<Errno>,
}

impl fmt::Display for Detailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Detailed {}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn errno_texts_are_those_of_go() {
        assert_eq!(errno_text(Errno::ENOENT), "no such file or directory");
        assert_eq!(errno_text(Errno::EPERM), "operation not permitted");
        assert_eq!(errno_text(Errno::EIO), "input/output error");
    }

    #[test]
    fn what_others_have_said_does_not_steer_a_terminal() {
        let error = anyhow::anyhow!("output: one\n\u{1b}[31mtwo\r, é").context("a");
        assert_eq!(one_line(&error), "a: output: one\n\\u{1b}[31mtwo\\r, é");
    }

    #[test]
    fn contexts_are_joined_by_colons_outermost_first() {
        let error = Err::<(), _>(Errno::ENOENT).why(|| "open /x").context("a").unwrap_err();
        assert_eq!(one_line(&error), "a: open /x: no such file or directory");
        assert_eq!(errno_of(&error), Some(Errno::ENOENT));
    }
}
