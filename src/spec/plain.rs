//! Sections in the shape that all callers write them in, typed while the text is read.
//!
//! These are most of a config.json, and have nothing that has to be looked at before it is typed. What is not
//! quite of that shape (a null, an unknown name, another type, an escape in a key) ends this reading: then the document is read
//! again as a whole, in the way that knows all shapes and words their errors.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Mount, Spec};
use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::capabilities::{Capabilities, capability_number};

/// What was typed; a section that is absent is none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plain {
    pub mounts: Option<Vec<Mount>>,
    pub capabilities: Option<Capabilities>,
    pub namespaces: Option<Vec<LinuxNamespace>>,
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
}

/// The error of what is of another shape. Nobody sees it.
fn other_shape<E: Error>() -> E {
    E::custom("another shape")
}

/// One object of a kind.
trait Object {
    fn read<'a, M: MapAccess<'a>>(members: M) -> Result<Self, M::Error>
    where
        Self: Sized;
}

/// An object of a kind, as serde reads it.
struct Shaped<T>(T);

impl<'a, T: Object> Deserialize<'a> for Shaped<T> {
    fn deserialize<D: Deserializer<'a>>(parser: D) -> Result<Shaped<T>, D::Error> {
        parser.deserialize_map(Reader(PhantomData)).map(Shaped)
    }
}

struct Reader<T>(PhantomData<T>);

impl<'a, T: Object> Visitor<'a> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, members: M) -> Result<T, M::Error> {
        T::read(members)
    }
}

/// The next value, a list of objects of a kind.
fn list<'a, T: Object, M: MapAccess<'a>>(members: &mut M) -> Result<Option<Vec<T>>, M::Error> {
    let list: Vec<Shaped<T>> = members.next_value()?;
    Ok(Some(list.into_iter().map(|Shaped(object)| object).collect()))
}

/// A string, where the empty one is none.
fn text<'a, M: MapAccess<'a>>(members: &mut M) -> Result<Option<String>, M::Error> {
    members.next_value::<String>().map(|text| Some(text).filter(|text| !text.is_empty()))
}

impl Object for Mount {
    fn read<'a, M: MapAccess<'a>>(mut members: M) -> Result<Mount, M::Error> {
        let mut mount = Mount::default();
        let mut destination = None;
        while let Some(key) = members.next_key::<&str>()? {
            match key {
                "destination" => destination = text(&mut members)?,
                "type" => drop(mount.set_typ(text(&mut members)?)),
                "source" => drop(mount.set_source(text(&mut members)?.map(PathBuf::from))),
                "options" => drop(mount.set_options(Some(members.next_value()?))),
                _ => return Err(other_shape()),
            }
        }
        mount.set_destination(destination.ok_or_else(other_shape)?.into());
        Ok(mount)
    }
}

impl Object for LinuxNamespace {
    fn read<'a, M: MapAccess<'a>>(mut members: M) -> Result<LinuxNamespace, M::Error> {
        let mut namespace = LinuxNamespace::default();
        let mut kind = None;
        while let Some(key) = members.next_key::<&str>()? {
            match key {
                "type" => {
                    let name = members.next_value::<&str>()?;
                    kind = Some(LinuxNamespaceType::deserialize(name.into_deserializer())?);
                }
                "path" => drop(namespace.set_path(text(&mut members)?.map(PathBuf::from))),
                _ => return Err(other_shape()),
            }
        }
        namespace.set_typ(kind.ok_or_else(other_shape)?);
        Ok(namespace)
    }
}

impl Object for Capabilities {
    fn read<'a, M: MapAccess<'a>>(mut members: M) -> Result<Capabilities, M::Error> {
        let mut sets = Capabilities::default();
        while let Some(key) = members.next_key::<&str>()? {
            let set = sets.named(key).ok_or_else(other_shape)?;
            *set = 0;
            for name in members.next_value::<Vec<&str>>()? {
                *set |= 1 << capability_number(name).ok_or_else(other_shape)?;
            }
        }
        Ok(sets)
    }
}

impl Plain {
    /// Forgets a section, of which the last of several counts, with all that it has.
    pub fn forget(&mut self, section: &str) {
        match section {
            "process" => self.capabilities = None,
            _ => *self = Plain { mounts: self.mounts.take(), capabilities: self.capabilities, ..Plain::default() },
        }
    }

    /// Gives the typed sections to the rest of the document.
    pub fn complete(self, spec: &mut Spec) {
        let Plain { mounts, capabilities: _, namespaces, masked_paths, readonly_paths } = self;
        if mounts.is_some() {
            spec.set_mounts(mounts);
        }
        let Some(linux) = spec.linux_mut() else { return };
        if namespaces.is_some() {
            linux.set_namespaces(namespaces);
        }
        if masked_paths.is_some() {
            linux.set_masked_paths(masked_paths);
        }
        if readonly_paths.is_some() {
            linux.set_readonly_paths(readonly_paths);
        }
    }

    /// Reads the section of that name at the top of the document, or says that it is none of these.
    pub fn read_top<'a, M: MapAccess<'a>>(&mut self, key: &str, members: &mut M) -> Result<bool, M::Error> {
        match key {
            "mounts" => self.mounts = list(members)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The same in the section `process` or `linux`.
    pub fn read_in<'a, M: MapAccess<'a>>(
        &mut self,
        section: &str,
        key: &str,
        members: &mut M,
    ) -> Result<bool, M::Error> {
        match (section, key) {
            ("process", "capabilities") => self.capabilities = Some(members.next_value::<Shaped<_>>()?.0),
            ("linux", "namespaces") => self.namespaces = list(members)?,
            ("linux", "maskedPaths") => self.masked_paths = Some(members.next_value()?),
            ("linux", "readonlyPaths") => self.readonly_paths = Some(members.next_value()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::Document;
    use super::super::{Config, Part, parse_document};

    fn read(text: &str, plain: bool) -> Option<Config> {
        let document = Document::read(text, Part::Whole, plain).ok()?;
        Some(parse_document(document, text, Part::Whole).unwrap())
    }

    fn with(sections: &str) -> String {
        format!(r#"{{"ociVersion": "1.2.0", "root": {{"path": "rootfs"}}, {sections}}}"#)
    }

    #[test]
    fn both_ways_read_the_same() {
        let mut plain = 0;
        let examples = std::fs::read_dir("tests/data").unwrap().map(|entry| entry.unwrap().path());
        for path in examples.filter(|path| path.extension().is_some_and(|ending| ending == "json")) {
            let text = std::fs::read_to_string(&path).unwrap();
            let Ok(general) = Document::read(&text, Part::Whole, false) else { continue };
            let Ok(general) = parse_document(general, &text, Part::Whole) else { continue };
            let Some(quick) = read(&text, true) else { continue };
            assert_eq!(quick.spec, general.spec, "{}", path.display());
            assert_eq!(quick.capabilities, general.capabilities);
            assert_eq!(quick.warnings, general.warnings);
            plain += 1;
        }
        assert!(plain > 10, "{plain}");
        let usual = include_str!("../../config.json.example");
        let (quick, general) = (read(usual, true).unwrap(), read(usual, false).unwrap());
        assert_eq!((quick.spec, quick.capabilities), (general.spec, general.capabilities));
    }

    #[test]
    fn empty_strings_and_the_last_of_several_are_as_elsewhere() {
        let text = with(
            r#""mounts": [{"destination": "/a"}], "mounts": [
                {"destination": "/proc", "type": "bind", "type": "", "source": "", "options": ["", "ro"]}],
            "process": {"cwd": "/", "args": ["a"], "capabilities": {"bounding": ["CAP_KILL"]}},
            "process": {"cwd": "/", "args": ["a"], "capabilities": {
                "bounding": ["CAP_KILL"], "effective": [], "bounding": ["CAP_CHOWN"]}},
            "linux": {"maskedPaths": ["/proc/a"], "namespaces": [{"type": "pid"}]},
            "linux": {"readonlyPaths": ["/proc/b"], "namespaces": [{"type": "mount", "path": ""}, {"path": "/n", "type": "uts"}]}"#,
        );
        let (quick, general) = (read(&text, true).unwrap(), read(&text, false).unwrap());
        assert_eq!(quick.spec, general.spec);
        assert_eq!(quick.capabilities, general.capabilities);
        let linux = quick.spec.linux().as_ref().unwrap();
        assert_eq!((linux.masked_paths(), linux.namespaces().as_ref().map(Vec::len)), (&None, Some(2)));
        assert_eq!(quick.capabilities.unwrap().bounding, 1);
        // A later section that has none takes what an earlier one had.
        let text = with(
            r#""process": {"cwd": "/", "args": ["a"], "capabilities": {}}, "process": {"cwd": "/", "args": ["a"]}"#,
        );
        assert_eq!(read(&text, true).unwrap().capabilities, None);
        assert_eq!(read(&text, false).unwrap().capabilities, None);
    }

    #[test]
    fn all_other_shapes_are_left_to_the_general_way() {
        for sections in [
            r#""mounts": null"#,
            r#""mounts": {}"#,
            r#""mounts": [["/proc"]]"#,
            r#""mounts": [{"destination": ""}]"#,
            r#""mounts": [{"type": "proc"}]"#,
            r#""mounts": [{"destination": "/a", "options": null}]"#,
            r#""mounts": [{"destination": "/a", "uidMappings": []}]"#,
            r#""mounts": [{"destination": "/a", "Type": "proc"}]"#,
            r#""mounts": [{"dest\u0069nation": "/a"}]"#,
            r#""process": {"capabilities": null}"#,
            r#""process": {"capabilities": {"bounding": ["CAP_OF_TOMORROW"]}}"#,
            r#""process": {"capabilities": {"other": []}}"#,
            r#""linux": {"namespaces": [{}]}"#,
            r#""linux": {"namespaces": [{"type": "unknown"}]}"#,
            r#""linux": {"namespaces": [{"type": {"pid": null}}]}"#,
            r#""linux": {"namespaces": null}"#,
            r#""linux": {"maskedPaths": [1]}"#,
            r#""linux": {"readonlyPaths": null}"#,
        ] {
            let text = with(sections);
            assert!(Document::read(&text, Part::Whole, true).is_err(), "{sections}");
            assert!(Document::read(&text, Part::Whole, false).is_ok(), "{sections}");
        }
    }
}
