//! The D-Bus message format (D-Bus specification 0.43, "Message Protocol"), as far as systemd's interface needs it.
//!
//! Messages are written in little-endian order and read in either, as a bus passes them on as they were sent.

use std::fmt;

use anyhow::{anyhow, bail};

use crate::error::Result;

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F64(f64),
    Text(String),
    Object(String),
    Signature(String),
    /// The signature of an element, and the elements.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    pub fn variant(value: Value) -> Value {
        Value::Variant(Box::new(value))
    }

    /// The text of a string or an object path.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Object(text) => Some(text),
            Value::Variant(inner) => inner.as_str(),
            _ => None,
        }
    }

    pub fn signature(&self) -> String {
        match self {
            Value::Byte(_) => "y".into(),
            Value::Bool(_) => "b".into(),
            Value::I16(_) => "n".into(),
            Value::U16(_) => "q".into(),
            Value::I32(_) => "i".into(),
            Value::U32(_) => "u".into(),
            Value::I64(_) => "x".into(),
            Value::U64(_) => "t".into(),
            Value::F64(_) => "d".into(),
            Value::Text(_) => "s".into(),
            Value::Object(_) => "o".into(),
            Value::Signature(_) => "g".into(),
            Value::Array(element, _) => format!("a{element}"),
            Value::Struct(fields) => format!("({})", fields.iter().map(Value::signature).collect::<String>()),
            Value::Variant(_) => "v".into(),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        align(out, alignment(&self.signature()));
        match self {
            Value::Byte(value) => out.push(*value),
            Value::Bool(value) => out.extend(u32::from(*value).to_le_bytes()),
            Value::I16(value) => out.extend(value.to_le_bytes()),
            Value::U16(value) => out.extend(value.to_le_bytes()),
            Value::I32(value) => out.extend(value.to_le_bytes()),
            Value::U32(value) => out.extend(value.to_le_bytes()),
            Value::I64(value) => out.extend(value.to_le_bytes()),
            Value::U64(value) => out.extend(value.to_le_bytes()),
            Value::F64(value) => out.extend(value.to_le_bytes()),
            Value::Text(text) | Value::Object(text) => {
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
                out.push(0);
            }
            Value::Signature(text) => {
                out.push(text.len() as u8);
                out.extend(text.as_bytes());
                out.push(0);
            }
            Value::Array(element, list) => {
                let at = out.len();
                out.extend([0; 4]);
                // The padding in front of the first element does not count.
                align(out, alignment(element));
                let begin = out.len();
                list.iter().for_each(|value| value.put(out));
                let len = ((out.len() - begin) as u32).to_le_bytes();
                if let Some(place) = out.get_mut(at..at + 4) {
                    place.copy_from_slice(&len);
                }
            }
            Value::Struct(fields) => fields.iter().for_each(|value| value.put(out)),
            Value::Variant(inner) => {
                Value::Signature(inner.signature()).put(out);
                inner.put(out);
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |list: &[Value]| list.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Value::Byte(value) => write!(f, "{value}"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::I16(value) => write!(f, "{value}"),
            Value::U16(value) => write!(f, "{value}"),
            Value::I32(value) => write!(f, "{value}"),
            Value::U32(value) => write!(f, "{value}"),
            Value::I64(value) => write!(f, "{value}"),
            Value::U64(u64::MAX) => f.write_str("infinity"),
            Value::U64(value) => write!(f, "{value}"),
            Value::F64(value) => write!(f, "{value}"),
            Value::Text(text) | Value::Object(text) | Value::Signature(text) => write!(f, "{text:?}"),
            Value::Array(_, list) => write!(f, "[{}]", join(list)),
            Value::Struct(fields) => write!(f, "({})", join(fields)),
            Value::Variant(inner) => write!(f, "<{inner}>"),
        }
    }
}

fn align(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
    /// "Unknown types must be ignored."
    Other = 0,
}

/// A message; fields that it does not have are empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Message {
    pub kind: Kind,
    pub serial: u32,
    /// The serial of the call that this answers.
    pub reply: u32,
    pub path: String,
    pub interface: String,
    pub member: String,
    pub destination: String,
    /// The name of an error.
    pub error: String,
    pub body: Vec<Value>,
}

/// systemd's messages have some hundreds of bytes; what claims to be longer than this is no message.
const LONGEST: usize = 16 << 20;
/// How deep values may be nested, as the specification limits it.
const DEEPEST: usize = 32;

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.body.iter().for_each(|value| value.put(&mut body));
        let mut out = vec![b'l', self.kind as u8, 0, 1];
        out.extend((body.len() as u32).to_le_bytes());
        out.extend(self.serial.to_le_bytes());
        let mut fields = Vec::new();
        let mut add = |code, value| fields.push(Value::Struct(vec![Value::Byte(code), Value::variant(value)]));
        for (code, text) in [(2, &self.interface), (3, &self.member), (4, &self.error), (6, &self.destination)] {
            if !text.is_empty() {
                add(code, Value::text(text));
            }
        }
        if !self.path.is_empty() {
            add(1, Value::Object(self.path.clone()));
        }
        if self.reply != 0 {
            add(5, Value::U32(self.reply));
        }
        if !self.body.is_empty() {
            add(8, Value::Signature(self.body.iter().map(Value::signature).collect()));
        }
        Value::Array("(yv)".into(), fields).put(&mut out);
        align(&mut out, 8);
        out.extend(body);
        out
    }

    /// The first message of the bytes and its length; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes are no message.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Message, usize)>> {
        let Some(fixed) = bytes.get(..16) else { return Ok(None) };
        let big = match fixed.first() {
            Some(b'l') => false,
            Some(b'B') => true,
            _ => bail!("a message in no byte order"),
        };
        let mut head = Reader { bytes: fixed, at: 4, big };
        let (body, serial, fields) = (head.u32()? as usize, head.u32()?, head.u32()? as usize);
        let begin = fields.saturating_add(16).next_multiple_of(8);
        let end = begin.saturating_add(body);
        if end > LONGEST {
            bail!("a message of {end} bytes");
        }
        let Some(whole) = bytes.get(..end) else { return Ok(None) };
        let kind = match fixed.get(1) {
            Some(1) => Kind::Call,
            Some(2) => Kind::Return,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            _ => Kind::Other,
        };
        let mut message = Message { kind, serial, ..Message::default() };
        let mut reader = Reader { bytes: whole.get(..16 + fields).unwrap_or_default(), at: 12, big };
        let Value::Array(_, list) = reader.value("a(yv)", 0)? else { bail!("a message without fields") };
        let mut signature = String::new();
        for field in list {
            let Value::Struct(pair) = field else { continue };
            let [Value::Byte(code), Value::Variant(value)] = pair.as_slice() else { continue };
            match (code, value.as_ref()) {
                (1, Value::Object(text)) => message.path.clone_from(text),
                (2, Value::Text(text)) => message.interface.clone_from(text),
                (3, Value::Text(text)) => message.member.clone_from(text),
                (4, Value::Text(text)) => message.error.clone_from(text),
                (5, Value::U32(number)) => message.reply = *number,
                (6, Value::Text(text)) => message.destination.clone_from(text),
                (8, Value::Signature(text)) => signature.clone_from(text),
                _ => {}
            }
        }
        let mut reader = Reader { bytes: whole.get(begin..).unwrap_or_default(), at: 0, big };
        let mut rest = signature.as_str();
        while !rest.is_empty() {
            let (first, others) = rest.split_at(complete(rest, 0)?);
            message.body.push(reader.value(first, 0)?);
            rest = others;
        }
        Ok(Some((message, end)))
    }
}

/// The length of the first complete type of a signature.
fn complete(signature: &str, depth: usize) -> Result<usize> {
    if depth > DEEPEST {
        bail!("a signature that is nested too deep");
    }
    let close = match signature.as_bytes().first() {
        Some(b'a') => return Ok(1 + complete(signature.get(1..).unwrap_or_default(), depth + 1)?),
        Some(b'(') => b')',
        Some(b'{') => b'}',
        Some(b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' | b'h') => {
            return Ok(1);
        }
        _ => bail!("an unknown type in the signature {signature:?}"),
    };
    let mut at = 1;
    while signature.as_bytes().get(at) != Some(&close) {
        at += complete(signature.get(at..).unwrap_or_default(), depth + 1)?;
    }
    Ok(at + 1)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Result<&[u8]> {
        let end = self.at.saturating_add(len);
        let taken = self.bytes.get(self.at..end).ok_or_else(|| anyhow!("a message that is cut off"))?;
        self.at = end;
        Ok(taken)
    }

    /// A number of N bytes, aligned to its size, in little-endian order.
    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.at = self.at.next_multiple_of(N);
        let big = self.big;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        if big {
            bytes.reverse();
        }
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    fn text(&mut self, len: usize) -> Result<String> {
        let text = String::from_utf8(self.take(len)?.to_vec()).map_err(|_| anyhow!("a text that is not UTF-8"))?;
        self.take(1)?;
        Ok(text)
    }

    fn value(&mut self, signature: &str, depth: usize) -> Result<Value> {
        if depth > DEEPEST {
            bail!("a value that is nested too deep");
        }
        let inner = signature.get(1..).unwrap_or_default();
        Ok(match signature.as_bytes().first() {
            Some(b'y') => Value::Byte(u8::from_le_bytes(self.number()?)),
            Some(b'b') => Value::Bool(self.u32()? != 0),
            Some(b'n') => Value::I16(i16::from_le_bytes(self.number()?)),
            Some(b'q') => Value::U16(u16::from_le_bytes(self.number()?)),
            Some(b'i') => Value::I32(i32::from_le_bytes(self.number()?)),
            // An index into descriptors that come along, which nothing here asks for.
            Some(b'u' | b'h') => Value::U32(self.u32()?),
            Some(b'x') => Value::I64(i64::from_le_bytes(self.number()?)),
            Some(b't') => Value::U64(u64::from_le_bytes(self.number()?)),
            Some(b'd') => Value::F64(f64::from_le_bytes(self.number()?)),
            Some(kind @ (b's' | b'o')) => {
                let len = self.u32()? as usize;
                let text = self.text(len)?;
                if *kind == b's' { Value::Text(text) } else { Value::Object(text) }
            }
            Some(b'g') => Value::Signature(self.signature()?),
            Some(b'v') => {
                let signature = self.signature()?;
                if signature.is_empty() || complete(&signature, 0)? != signature.len() {
                    bail!("a variant of the signature {signature:?}");
                }
                Value::variant(self.value(&signature, depth + 1)?)
            }
            Some(b'a') => {
                let len = self.u32()? as usize;
                self.at = self.at.next_multiple_of(alignment(inner));
                let end = self.at.saturating_add(len);
                let mut list = Vec::new();
                while self.at < end {
                    list.push(self.value(inner, depth + 1)?);
                }
                Value::Array(inner.to_owned(), list)
            }
            Some(b'(' | b'{') => {
                self.at = self.at.next_multiple_of(8);
                let mut rest = inner.get(..inner.len().saturating_sub(1)).unwrap_or_default();
                let mut fields = Vec::new();
                while !rest.is_empty() {
                    let (first, others) = rest.split_at(complete(rest, 0)?);
                    fields.push(self.value(first, depth + 1)?);
                    rest = others;
                }
                Value::Struct(fields)
            }
            _ => bail!("an unknown type in the signature {signature:?}"),
        })
    }

    fn signature(&mut self) -> Result<String> {
        let [len] = self.number()?;
        self.text(usize::from(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Message {
        let entry = |a: &str, b: &str| Value::Struct(vec![Value::text(a), Value::text(b)]);
        let property = |name: &str, value| Value::Struct(vec![Value::text(name), Value::variant(value)]);
        Message {
            serial: 7,
            path: "/org/freedesktop/systemd1".into(),
            interface: "org.freedesktop.systemd1.Manager".into(),
            member: "StartTransientUnit".into(),
            destination: "org.freedesktop.systemd1".into(),
            body: vec![
                Value::text("a.scope"),
                Value::Array(
                    "(sv)".into(),
                    vec![
                        property("Delegate", Value::Bool(true)),
                        property("PIDs", Value::Array("u".into(), vec![Value::U32(42)])),
                        property("MemoryMax", Value::U64(u64::MAX)),
                        property("DeviceAllow", Value::Array("(ss)".into(), vec![entry("/dev/char/1:3", "rwm")])),
                        property("AllowedCPUs", Value::Array("y".into(), vec![Value::Byte(3)])),
                        property("Weight", Value::F64(0.5)),
                    ],
                ),
                Value::Array("(sa(sv))".into(), Vec::new()),
                Value::I16(-2),
            ],
            ..Message::default()
        }
    }

    #[test]
    fn a_message_reads_as_it_was_written() {
        let bytes = sample().encode();
        let (message, len) = Message::decode(&bytes).unwrap().unwrap();
        assert_eq!((message, len), (sample(), bytes.len()));
    }

    #[test]
    fn the_bytes_of_a_call_are_those_of_the_specification() {
        let call = Message { serial: 1, member: "Hi".into(), body: vec![Value::text("x")], ..Message::default() };
        let expected: &[u8] = b"l\x01\x00\x01\x06\x00\x00\x00\x01\x00\x00\x00\x17\x00\x00\x00\
            \x03\x01s\x00\x02\x00\x00\x00Hi\x00\x00\x00\x00\x00\x00\x08\x01g\x00\x01s\x00\x00\x01\x00\x00\x00x\x00";
        assert_eq!(call.encode(), expected);
    }

    #[test]
    fn a_message_of_a_big_endian_peer_is_read() {
        let bytes: &[u8] = b"B\x02\x00\x01\x00\x00\x00\x04\x00\x00\x00\x09\x00\x00\x00\x0f\
            \x05\x01u\x00\x00\x00\x00\x03\x08\x01g\x00\x01u\x00\x00\x00\x00\x00\x05";
        let (message, _) = Message::decode(bytes).unwrap().unwrap();
        assert_eq!((message.kind, message.serial, message.reply), (Kind::Return, 9, 3));
        assert_eq!(message.body, [Value::U32(5)]);
    }

    #[test]
    fn a_part_of_a_message_needs_more_and_no_change_of_a_byte_panics() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..len]).unwrap(), None);
        }
        for at in 0..bytes.len() {
            for value in [0, 1, b'a', b'(', 0x7f, 0xff] {
                let mut bad = bytes.clone();
                bad[at] = value;
                let _ = Message::decode(&bad);
            }
        }
    }
}
