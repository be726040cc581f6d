//! A connection to a D-Bus: authentication, calls and signals, one after the other and each within a deadline.
//!
//! The SASL exchange names no user: the bus takes the socket's credentials, which are right in a user
//! namespace too, where the runtime does not know its own user's number outside.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

use super::dbus_wire::{Kind, Message, Value};
use crate::error::{Result, Why};

/// How long one connection may take for all that it is used for.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Refused {
    /// Such as `org.freedesktop.systemd1.NoSuchUnit`.
    pub name: String,
    pub text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() { f.write_str(&self.name) } else { write!(f, "{} ({})", self.text, self.name) }
    }
}

impl std::error::Error for Refused {}

/// The object that a call goes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
}

const DRIVER: Target<'_> =
    Target { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };

/// A connection that has been greeted.
#[derive(Debug)]
pub(super) struct Bus {
    socket: UnixStream,
    deadline: Instant,
    serial: u32,
    /// What has been received and not yet been looked at.
    buffer: Vec<u8>,
    /// Signals that came while an answer was waited for.
    signals: Vec<Message>,
}

impl Bus {
    /// Connects to the first of the addresses that answers.
    ///
    /// # Errors
    /// The last address's failure.
    pub fn connect(addresses: &str) -> Result<Bus> {
        let mut failure = anyhow!("no usable D-Bus address in {addresses:?}");
        for address in addresses.split(';').filter(|address| !address.is_empty()) {
            let connected = socket_address(address).and_then(|to| UnixStream::connect_addr(&to).why(|| "connect"));
            match connected {
                Ok(socket) => return Bus::greet(socket).map_err(|e| e.context(format!("D-Bus at {address}"))),
                Err(error) => failure = error.context(format!("D-Bus at {address}")),
            }
        }
        Err(failure)
    }

    fn greet(socket: UnixStream) -> Result<Bus> {
        let deadline = Instant::now() + PATIENCE;
        let mut bus = Bus { socket, deadline, serial: 0, buffer: Vec::new(), signals: Vec::new() };
        // All at once, as the answers are known; what the bus refuses it says before it reads on.
        bus.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let line = bus.line()?;
            match line.split(' ').next() {
                Some("DATA") => {}
                Some("OK") => break,
                _ => bail!("authentication refused: {line}"),
            }
        }
        bus.call(DRIVER, "Hello", Vec::new())?;
        Ok(bus)
    }

    /// Asks the bus for signals.
    ///
    /// # Errors
    /// When it refuses or is gone.
    pub fn add_match(&mut self, rule: &str) -> Result<()> {
        self.call(DRIVER, "AddMatch", vec![Value::text(rule)]).map(drop)
    }

    /// Calls a method and gives its answer back.
    ///
    /// # Errors
    /// A [`Refused`] when the answer is an error; otherwise what is wrong with the connection.
    pub fn call(&mut self, target: Target<'_>, member: &str, body: Vec<Value>) -> Result<Vec<Value>> {
        self.serial += 1;
        let call = Message {
            serial: self.serial,
            path: target.path.into(),
            interface: target.interface.into(),
            member: member.into(),
            destination: target.destination.into(),
            body,
            ..Message::default()
        };
        let failed = |error: anyhow::Error| error.context(format!("calling {member}"));
        self.write(&call.encode()).map_err(failed)?;
        loop {
            let message = self.receive().map_err(failed)?;
            match message.kind {
                Kind::Return if message.reply == call.serial => return Ok(message.body),
                Kind::Error if message.reply == call.serial => {
                    let text = message.body.first().and_then(Value::as_str).unwrap_or_default().to_owned();
                    return Err(anyhow!(Refused { name: message.error, text }));
                }
                Kind::Signal => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// Waits for a signal, which may have come already.
    ///
    /// # Errors
    /// When the connection is gone or the time is up.
    pub fn signal(&mut self, wanted: impl Fn(&Message) -> bool) -> Result<Message> {
        if let Some(at) = self.signals.iter().position(&wanted) {
            return Ok(self.signals.swap_remove(at));
        }
        loop {
            let message = self.receive()?;
            if message.kind == Kind::Signal && wanted(&message) {
                return Ok(message);
            }
        }
    }

    fn receive(&mut self) -> Result<Message> {
        loop {
            if let Some((message, len)) = Message::decode(&self.buffer)? {
                self.buffer.drain(..len);
                return Ok(message);
            }
            self.fill()?;
        }
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(self.buffer.get(..at).unwrap_or_default()).into_owned();
                self.buffer.drain(..at + 2);
                return Ok(line);
            }
            self.fill()?;
        }
    }

    fn left(&self) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(anyhow!("no answer within {} s", PATIENCE.as_secs())) } else { Ok(left) }
    }

    fn fill(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        self.socket.set_read_timeout(Some(self.left()?)).why(|| "setsockopt")?;
        match self.socket.read(&mut chunk) {
            Ok(0) => bail!("the bus has closed the connection"),
            Ok(len) => self.buffer.extend_from_slice(chunk.get(..len).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error).why(|| "read"),
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.set_write_timeout(Some(self.left()?)).why(|| "setsockopt")?;
        self.socket.write_all(bytes).why(|| "write")
    }
}

/// The socket of a server address, `unix:path=…` or `unix:abstract=…`, with other keys behind.
fn socket_address(address: &str) -> Result<SocketAddr> {
    let unusable = || anyhow!("not a Unix socket's address");
    let keys = address.strip_prefix("unix:").ok_or_else(unusable)?;
    for pair in keys.split(',') {
        match pair.split_once('=') {
            Some(("path", path)) => {
                let path = std::ffi::OsString::from(String::from_utf8(unescape(path)?)?);
                return SocketAddr::from_pathname(path).why(|| "path");
            }
            Some(("abstract", name)) => return SocketAddr::from_abstract_name(unescape(name)?).why(|| "abstract"),
            _ => {}
        }
    }
    Err(unusable())
}

/// Addresses write most bytes that are not letters or digits as %XX.
fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| anyhow!("% without two hexadecimal digits"))?);
        rest = rest.get(2..).unwrap_or_default();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_paths_or_abstract_names() {
        let path = socket_address("unix:path=/run/a%20b,guid=00").unwrap();
        assert_eq!(path.as_pathname().unwrap().to_str(), Some("/run/a b"));
        let name = socket_address("unix:guid=00,abstract=/tmp/x").unwrap();
        assert_eq!(name.as_abstract_name(), Some(&b"/tmp/x"[..]));
        assert!(socket_address("tcp:host=localhost").is_err());
        assert!(socket_address("unix:path=/a%2").is_err());
    }

    #[test]
    fn a_bus_that_is_not_there_is_an_error_with_its_address() {
        let error = Bus::connect("tcp:x;unix:path=/nowhere/bus").unwrap_err();
        let text = crate::error::one_line(&error);
        assert_eq!(text, "D-Bus at unix:path=/nowhere/bus: connect: no such file or directory");
    }
}
