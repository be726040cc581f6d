//! The JSON side of reading: syntax errors by line, type errors by JSON path, unknown fields as warnings.
//!
//! A document is first cut into its sections. The seccomp profile, four fifths of what Docker writes
//! and without any gap in its types, is typed straight from the text, and so are others in their usual shape
//! ([`super::plain`]); all else becomes `serde_json::Value`s, which [`super::gaps`] prepares for oci-spec's types.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Part;
use super::at::At;
use super::plain::Plain;
use crate::error::Result;

/// A config.json, cut in pieces.
pub struct Document<'a> {
    /// All of it but the rest.
    pub value: Value,
    /// The text of `linux.seccomp`.
    pub seccomp: Option<&'a RawValue>,
    /// Sections that are typed already.
    pub plain: Plain,
}

impl<'a> Document<'a> {
    /// Cuts the text, in one pass where its sections are in the usual shape, and leaves out what `part` does.
    pub fn split(text: &'a str, part: Part) -> Result<Document<'a>> {
        refuse_nul(text, &At::Root)?;
        Document::read(text, part, true).or_else(|_| Document::read(text, part, false)).map_err(|e| {
            match e.classify() {
                serde_json::error::Category::Data if text.trim() == "null" => anyhow::anyhow!("config cannot be null"),
                serde_json::error::Category::Data => At::Root.fault("expected an object"),
                _ => syntax(&e),
            }
        })
    }

    /// `plain`: whether sections are expected to be in the usual shape.
    pub(super) fn read(text: &'a str, part: Part, plain: bool) -> serde_json::Result<Document<'a>> {
        let document = Document { value: Value::Null, seccomp: None, plain: Plain::default() };
        let mut parser = serde_json::Deserializer::from_str(text);
        let document = parser.deserialize_map(Top { part, plain, document })?;
        parser.end().map(|()| document)
    }
}

/// Reads the object that a config.json is.
struct Top<'a> {
    part: Part,
    plain: bool,
    document: Document<'a>,
}

impl<'a> Visitor<'a> for Top<'a> {
    type Value = Document<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut members: M) -> std::result::Result<Document<'a>, M::Error> {
        let Top { part, plain, mut document } = self;
        let mut top = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if part.leaves_out(&key) {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            if plain && document.plain.read_top(&key, &mut members)? {
                continue;
            }
            let value = match key.as_str() {
                // The last of several counts, with all that it has.
                "linux" | "process" => {
                    document.plain.forget(&key);
                    if key == "linux" {
                        document.seccomp = None;
                    }
                    members.next_value_seed(Section { name: &key, part, plain, document: &mut document })?
                }
                _ => members.next_value()?,
            };
            top.insert(key, value);
        }
        document.value = Value::Object(top);
        Ok(document)
    }
}

/// Reads `linux` or `process`, which may turn out to be no object.
struct Section<'a, 'b> {
    name: &'b str,
    part: Part,
    plain: bool,
    document: &'b mut Document<'a>,
}

impl<'a> DeserializeSeed<'a> for Section<'a, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'a>>(self, parser: D) -> std::result::Result<Value, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Section<'a, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut members: M) -> std::result::Result<Value, M::Error> {
        let Section { name, part, plain, document } = self;
        let is_linux = name == "linux";
        let mut section = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if is_linux && part.leaves_out_of_linux(&key) {
                members.next_value::<IgnoredAny>()?;
            } else if is_linux && key == "seccomp" {
                document.seccomp = Some(members.next_value()?);
            } else if !plain || !document.plain.read_in(name, &key, &mut members)? {
                section.insert(key, members.next_value()?);
            }
        }
        Ok(Value::Object(section))
    }

    fn visit_seq<S: SeqAccess<'a>>(self, items: S) -> std::result::Result<Value, S::Error> {
        Value::deserialize(SeqAccessDeserializer::new(items))
    }

    fn visit_str<E: Error>(self, text: &str) -> std::result::Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bool<E: Error>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }
}

/// The text as UTF-8, which JSON has to be.
pub fn utf8(text: &[u8]) -> Result<&str> {
    std::str::from_utf8(text).map_err(|e| anyhow::anyhow!("not UTF-8 text after byte {}", e.valid_up_to()))
}

/// Reads the whole text of an object that stands at `at`.
pub fn read(text: &str, at: &At<'_>) -> Result<Value> {
    refuse_nul(text, at)?;
    match parse(text, text)? {
        Value::Null => Err(anyhow::anyhow!("config cannot be null")),
        value => Ok(Value::Object(object(value, at)?)),
    }
}

/// Parses a part; an error is searched again in the whole text, whose lines the user counts.
fn parse(part: &str, whole: &str) -> Result<Value> {
    serde_json::from_str(part).map_err(|e| match serde_json::from_str::<Value>(whole) {
        Err(e) => syntax(&e),
        Ok(_) => syntax(&e),
    })
}

fn syntax(e: &serde_json::Error) -> anyhow::Error {
    let text = e.to_string();
    let why = text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why);
    anyhow::anyhow!("line {} column {}: {why}", e.line(), e.column())
}

/// Finds NUL bytes, which would silently cut a string short on its way into the kernel.
fn refuse_nul(text: &str, at: &At<'_>) -> Result<()> {
    // The escape is the only way to write one; raw control characters are no JSON.
    if text.contains("\\u0000") {
        // A text that does not parse fails later, with its line.
        if let Ok(value) = serde_json::from_str(text) {
            return find_nul(&value, at);
        }
    }
    Ok(())
}

fn find_nul(value: &Value, at: &At<'_>) -> Result<()> {
    match value {
        Value::String(text) if text.contains('\0') => Err(at.fault("contains a NUL byte")),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(i, item)| find_nul(item, &at.index(i))),
        Value::Object(map) => map.iter().try_for_each(|(key, member)| match key.contains('\0') {
            true => Err(at.key(key).fault("contains a NUL byte")),
            false => find_nul(member, &at.key(key)),
        }),
        _ => Ok(()),
    }
}

/// Types a prepared value. `again` prepares it a second time, for the path of a type error: following
/// the path all along would slow down every start for the sake of those that fail.
pub fn typed<T: DeserializeOwned>(
    value: Value,
    at: &At<'_>,
    warnings: &mut Vec<String>,
    again: impl FnOnce() -> Result<Value>,
) -> Result<T> {
    serde_ignored::deserialize(value, |path| warnings.push(with_ignored(&path, at, unknown_field)))
        .or_else(|e| Err(explain::<T>(again()?, at, &e)))
}

/// Types a part of the whole text.
pub fn typed_text<T: DeserializeOwned>(part: &str, whole: &str, at: &At<'_>, warnings: &mut Vec<String>) -> Result<T> {
    let mut parser = serde_json::Deserializer::from_str(part);
    serde_ignored::deserialize(&mut parser, |path| warnings.push(with_ignored(&path, at, unknown_field)))
        .or_else(|e| Err(explain::<T>(parse(part, whole)?, at, &e)))
}

fn explain<T: DeserializeOwned>(value: Value, at: &At<'_>, error: &serde_json::Error) -> anyhow::Error {
    match serde_path_to_error::deserialize::<_, T>(value) {
        Err(e) => with_segments(&e.path().iter().collect::<Vec<_>>(), at, &e.inner().to_string()),
        Ok(_) => at.fault(error),
    }
}

fn with_segments(segments: &[&serde_path_to_error::Segment], at: &At<'_>, why: &str) -> anyhow::Error {
    use serde_path_to_error::Segment;
    match segments.split_first() {
        Some((Segment::Seq { index }, rest)) => with_segments(rest, &at.index(*index), why),
        Some((Segment::Map { key }, rest)) => with_segments(rest, &at.key(key), why),
        Some((_, rest)) => with_segments(rest, at, why),
        None => match why.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            Some(field) => fault(&at.key(field), "required"),
            None => fault(at, why),
        },
    }
}

/// Where runc has words for what is wrong with a field, they come first.
fn fault(at: &At<'_>, why: &str) -> anyhow::Error {
    let place = at.to_string();
    match place.strip_prefix("linux.memoryPolicy.").map(|rest| rest.split('[').next().unwrap_or(rest)) {
        Some("mode") => at.fault(format_args!("invalid memory policy mode: {why}")),
        Some("flags") => at.fault(format_args!("invalid memory policy flag: {why}")),
        _ => at.fault(why),
    }
}

fn with_ignored(path: &serde_ignored::Path<'_>, root: &At<'_>, print: fn(&At<'_>) -> String) -> String {
    fn walk(path: &serde_ignored::Path<'_>, root: &At<'_>, then: &mut dyn FnMut(&At<'_>)) {
        use serde_ignored::Path;
        match path {
            Path::Root => then(root),
            Path::Seq { parent, index } => walk(parent, root, &mut |at| then(&at.index(*index))),
            Path::Map { parent, key } => walk(parent, root, &mut |at| then(&at.key(key))),
            Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
                walk(parent, root, then);
            }
        }
    }
    let mut line = String::new();
    walk(path, root, &mut |at| line = print(at));
    line
}

const UNKNOWN_FIELD: &str = ": unknown field, ";

/// The warning about a field that the specification does not have.
pub fn unknown_field(at: &At<'_>) -> String {
    format!("{at}{UNKNOWN_FIELD}ignored")
}

/// The warning about a field that the specification has in another spelling.
pub fn respelled_field(at: &At<'_>, name: &str) -> String {
    format!("{at}{UNKNOWN_FIELD}read as {name:?}")
}

/// Whether a warning is one about an unknown field. The specification has such fields ignored, so that a program that
/// reads stderr is not told of them: a log file, a terminal and `plan` are.
pub fn is_unknown_field(warning: &str) -> bool {
    warning.contains(UNKNOWN_FIELD)
}

/// The members of an object.
pub fn object(value: Value, at: &At<'_>) -> Result<Map<String, Value>> {
    match value {
        Value::Object(map) => Ok(map),
        other => Err(not_an_object(&other, at)),
    }
}

/// The error about a value that has to be an object.
pub fn not_an_object(value: &Value, at: &At<'_>) -> anyhow::Error {
    at.fault(format_args!("expected an object, found {}", kind(value)))
}

/// The elements of an array of strings.
pub fn strings(value: Value, at: &At<'_>) -> Result<Vec<String>> {
    let Value::Array(items) = value else {
        return Err(at.fault(format_args!("expected an array of strings, found {}", kind(&value))));
    };
    let each = items.into_iter().enumerate().map(|(i, item)| string(item, &at.index(i)));
    each.collect()
}

/// A string.
pub fn string(value: Value, at: &At<'_>) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(at.fault(format_args!("expected a string, found {}", kind(&other)))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
