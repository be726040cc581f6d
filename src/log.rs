//! Warnings and debug lines: to stderr, or to the `--log` file as text or as runc's JSON (`level`, `msg`, `time`).
//!
//! The destination is passed about as a [`Log`]; there is no global logger. Errors are not
//! logged here: they are returned, and printed once in `main`.

use std::cell::RefCell;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Detail, Result, Why, errno_text};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `time="…" level=… msg="…"`, as logrus writes it.
    #[default]
    Text,
    /// One JSON object a line, which containerd reads.
    Json,
}

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only with `--debug`.
    Debug,
    /// Worth knowing; orlop goes on.
    Warn,
    /// Why the command failed.
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Warn => "warning",
            Level::Error => "error",
        }
    }
}

/// Where log lines go.
#[derive(Debug, Default)]
pub struct Log {
    file: Option<PathBuf>,
    open: RefCell<Option<File>>,
    format: Format,
    debug: bool,
}

impl Log {
    /// A log that writes to `file` (opened at the first line, appended to) or to stderr.
    pub fn new(file: Option<&Path>, format: Format, debug: bool) -> Log {
        Log { file: file.map(Path::to_path_buf), open: RefCell::new(None), format, debug }
    }

    /// Whether the error is written as a log line: to the file, or as JSON to stderr.
    pub fn wants_line(&self) -> bool {
        self.file.is_some() || self.format == Format::Json
    }

    /// Whether a person at stderr still has to be told.
    pub fn wants_plain(&self) -> bool {
        self.file.is_some() || self.format == Format::Text
    }

    /// Opens the log file now, so that a wrong `--log` is an error and not silence.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn check(&self) -> Result<()> {
        if let Some(path) = &self.file {
            let file = File::options().append(true).create(true).open(path).why(|| format!("--log {path:?}"))?;
            *self.open.borrow_mut() = Some(file);
        }
        Ok(())
    }

    /// Something odd that does not stop the command.
    pub fn warn(&self, message: &str) {
        self.line(Level::Warn, message, None, None);
    }

    /// Something that the author of a configuration wants to know and a program that reads stderr does not: for the
    /// log file, or for a person at a terminal.
    pub fn note(&self, message: &str) {
        if self.file.is_some() || self.debug || std::io::stderr().is_terminal() {
            self.warn(message);
        }
    }

    /// A line for `--debug`.
    pub fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            self.line(Level::Debug, &message(), None, None);
        }
    }

    /// Several lines for `--debug`.
    pub fn debug_lines(&self, text: impl FnOnce() -> String) {
        if self.debug {
            text().lines().for_each(|line| self.line(Level::Debug, line, None, None));
        }
    }

    /// The command's one error, with what programs may want to know of it.
    pub fn error(&self, message: &str, detail: Option<&Detail>, errno: Option<nix::errno::Errno>) {
        self.line(Level::Error, message, detail, errno);
    }

    fn line(&self, level: Level, message: &str, detail: Option<&Detail>, errno: Option<nix::errno::Errno>) {
        let time = timestamp(SystemTime::now());
        let mut line = match self.format {
            Format::Text => format!("time={time:?} level={} msg={message:?}", level.name()),
            Format::Json => {
                let mut object = serde_json::Map::new();
                object.insert("level".into(), level.name().into());
                object.insert("msg".into(), message.into());
                object.insert("time".into(), time.into());
                if let Some(detail) = detail {
                    object.insert("code".into(), detail.code.into());
                    object.insert("phase".into(), detail.phase.into());
                    object.insert("step".into(), detail.step.clone().into());
                    if !detail.hint.is_empty() {
                        object.insert("hint".into(), detail.hint.clone().into());
                    }
                }
                if let Some(errno) = errno {
                    object.insert("errno".into(), errno_text(errno).into());
                }
                serde_json::Value::Object(object).to_string()
            }
        };
        line.push('\n');
        // A log that cannot be written must not stop the container's life; there is nowhere to say so but stderr.
        let mut open = self.open.borrow_mut();
        if let Some(path) = &self.file {
            if open.is_none() {
                *open = File::options().append(true).create(true).open(path).ok();
            }
            if let Some(file) = open.as_mut()
                && file.write_all(line.as_bytes()).is_ok()
            {
                return;
            }
        }
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// RFC 3339 in UTC with nanoseconds, the form of runc's `created` and of its log times.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days as i64);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_nanos()
    )
}

/// The proleptic Gregorian date of a day number counted from 1970-01-01.
fn civil(days: i64) -> (i64, u32, u32) {
    // Years are counted from March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timestamps_are_rfc_3339() {
        let at = |s| timestamp(UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56.000000000Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59.000000000Z");
    }
}
