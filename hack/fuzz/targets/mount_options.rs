//! Mount options: flags and their opposites exclude each other, nothing is lost, and a mount with them can be planned.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::rootfs::options::{Options, names};
use orlop_fuzz::{Choices, read_and_plan};
use serde_json::json;

const ATIME: u64 = 0x70;

/// Words of the table, and what the bytes say in between.
fn words(choices: &mut Choices) -> Vec<String> {
    let known = names();
    let mut words = Vec::new();
    while !choices.is_empty() && words.len() < 40 {
        match usize::from(choices.byte()) {
            index if index < known.len() => words.push(known[index].to_owned()),
            length => {
                let bytes: Vec<u8> = (0..length % 24).map(|_| choices.byte()).collect();
                words.push(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    words
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices(bytes);
    let kind = choices.byte();
    let file_system =
        *choices.one(&["bind", "tmpfs", "proc", "sysfs", "cgroup", "devpts", "mqueue", "overlay", "none"]);
    let destination = *choices.one(&["/a", "/dev", "/proc", "/", "/a/../b", "c", "/proc/sys", "/dev/pts"]);
    let words = words(&mut choices);
    let options = Options::read(&words);
    assert_eq!(options.flags & options.cleared, 0, "{words:?}: {options:?}");
    let (set, clear) = options.recursive;
    assert_eq!(set & clear & !ATIME, 0, "{words:?}: {options:?}");
    assert!(set & ATIME == 0 || clear & ATIME == ATIME, "the kernel wants the whole field cleared: {words:?}");
    let attributes = options.attributes();
    assert_eq!(attributes.set & attributes.clear & !ATIME, 0, "{words:?}: {attributes:?}");
    let rest: Vec<&str> = words.iter().map(String::as_str).filter(|word| !names().contains(word)).collect();
    for word in &rest {
        assert!(options.data.contains(word), "{word:?} of {words:?} is lost in {:?}", options.data);
    }
    let config = json!({"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": {"args": ["x"], "cwd": "/"},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
        "mounts": [{"destination": destination, "type": file_system, "source": "/", "options": words}]});
    let _ = read_and_plan(config.to_string().as_bytes(), kind);
});
