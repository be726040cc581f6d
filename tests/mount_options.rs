//! Every word of `mounts[].options`, read back from the kernel: config.md#mounts (runtime-spec 1.3).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Bundle;
use serde_json::Value;

/// What a new mount has by itself.
const PLAIN: &str = "rw,relatime";

/// What the mount of a word shows: its options, its propagation, and what the file system as a whole shows beside `rw`.
const SHOWN: &[(&str, &str, &str, &str)] = &[
    ("acl", PLAIN, "", ""),
    ("async", PLAIN, "", ""),
    ("atime", PLAIN, "", ""),
    ("defaults", PLAIN, "", ""),
    ("dev", PLAIN, "", ""),
    ("diratime", PLAIN, "", ""),
    ("dirsync", PLAIN, "", "dirsync"),
    ("exec", PLAIN, "", ""),
    ("iversion", PLAIN, "", ""),
    ("lazytime", PLAIN, "", "lazytime"),
    ("loud", PLAIN, "", ""),
    ("mand", PLAIN, "", "mand"),
    ("noacl", PLAIN, "", ""),
    ("noatime", "rw,noatime", "", ""),
    ("nodev", "rw,nodev,relatime", "", ""),
    ("nodiratime", "rw,nodiratime,relatime", "", ""),
    ("noexec", "rw,noexec,relatime", "", ""),
    ("noiversion", PLAIN, "", ""),
    ("nolazytime", PLAIN, "", ""),
    ("nomand", PLAIN, "", ""),
    ("norelatime", PLAIN, "", ""),
    ("nostrictatime", PLAIN, "", ""),
    ("nosuid", "rw,nosuid,relatime", "", ""),
    ("nosymfollow", "rw,relatime,nosymfollow", "", ""),
    ("private", PLAIN, "", ""),
    ("ratime", PLAIN, "", ""),
    ("rdev", PLAIN, "", ""),
    ("rdiratime", PLAIN, "", ""),
    ("relatime", PLAIN, "", ""),
    ("rexec", PLAIN, "", ""),
    ("rnoatime", "rw,noatime", "", ""),
    ("rnodev", "rw,nodev,relatime", "", ""),
    ("rnodiratime", "rw,nodiratime,relatime", "", ""),
    ("rnoexec", "rw,noexec,relatime", "", ""),
    ("rnorelatime", PLAIN, "", ""),
    ("rnostrictatime", PLAIN, "", ""),
    ("rnosuid", "rw,nosuid,relatime", "", ""),
    ("rnosymfollow", "rw,relatime,nosymfollow", "", ""),
    ("ro", "ro,relatime", "", ""),
    ("rprivate", PLAIN, "", ""),
    ("rrelatime", PLAIN, "", ""),
    ("rro", "ro,relatime", "", ""),
    ("rrw", PLAIN, "", ""),
    ("rshared", PLAIN, "shared", ""),
    ("rslave", PLAIN, "", ""),
    ("rstrictatime", "rw", "", ""),
    ("rsuid", PLAIN, "", ""),
    ("rsymfollow", PLAIN, "", ""),
    ("runbindable", PLAIN, "unbindable", ""),
    ("rw", PLAIN, "", ""),
    ("shared", PLAIN, "shared", ""),
    ("silent", PLAIN, "", ""),
    ("slave", PLAIN, "", ""),
    ("strictatime", "rw", "", ""),
    ("suid", PLAIN, "", ""),
    ("symfollow", PLAIN, "", ""),
    ("sync", PLAIN, "", "sync"),
    ("unbindable", PLAIN, "unbindable", ""),
];

/// Words that are tested elsewhere, as they are not about flags.
const OTHERS: [&str; 6] = ["bind", "rbind", "idmap", "ridmap", "remount", "tmpcopyup"];

/// A word that takes a flag away, and the flag as mountinfo shows it.
const CLEARED: [(&str, &str); 7] = [
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("suid", "nosuid"),
    ("symfollow", "nosymfollow"),
    ("rw", "ro"),
    ("atime", "noatime"),
    ("diratime", "nodiratime"),
];

/// Mount point to options, propagation and options of the file system, as /proc/self/mountinfo has them.
fn mounts(mountinfo: &str) -> BTreeMap<String, (String, String, String)> {
    let mount = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        let dash = fields.iter().position(|field| *field == "-").unwrap();
        let words: Vec<_> = fields[6..dash].iter().map(|word| word.split(':').next().unwrap()).collect();
        (fields[4].to_owned(), (fields[5].to_owned(), words.join(" "), fields[dash + 3].to_owned()))
    };
    mountinfo.lines().map(mount).collect()
}

#[test]
fn the_table_of_this_test_has_every_word_that_features_lists() {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_orlop")).arg("features").output().unwrap();
    let features: Value = serde_json::from_slice(&done.stdout).unwrap();
    let listed: BTreeSet<_> =
        features["mountOptions"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    let tested: BTreeSet<_> = SHOWN.iter().map(|(word, ..)| *word).chain(OTHERS).collect();
    assert_eq!(listed, tested);
}

#[test]
fn every_word_is_in_force_on_a_new_file_system_and_on_a_bind() {
    need_root!();
    let mut bundle = Bundle::new("cat /proc/self/mountinfo");
    let source = bundle.temp().join("source");
    std::fs::create_dir(&source).unwrap();
    for (word, ..) in SHOWN {
        bundle.mount(&format!("/dev/new-{word}"), "tmpfs", "tmpfs", &[word]);
        bundle.mount(&format!("/dev/bind-{word}"), "bind", source.to_str().unwrap(), &["rbind", word]);
    }
    // The kernel has forgotten mandatory locks (5.15) but for the word.
    let found = mounts(&bundle.run().ok());
    for (word, options, propagation, whole) in SHOWN {
        let (new, bind) = (&found[&format!("/dev/new-{word}")], &found[&format!("/dev/bind-{word}")]);
        assert_eq!((new.0.as_str(), new.1.as_str()), (*options, *propagation), "{word}");
        assert_eq!((bind.0.as_str(), bind.1.as_str()), (*options, *propagation), "{word}, bound");
        assert!(whole.is_empty() || new.2.split(',').any(|shown| shown == *whole), "{word}: {new:?}");
    }
}

#[test]
fn words_that_clear_a_flag_leave_a_bind_its_access_times_and_with_an_r_all_other_flags() {
    need_root!();
    let mut bundle = Bundle::new("cat /proc/self/mountinfo");
    let source = bundle.temp().join("source");
    std::fs::create_dir(&source).unwrap();
    let from = source.to_str().unwrap();
    for (word, _) in CLEARED {
        bundle.mount(&format!("/dev/one-{word}"), "bind", from, &["rbind", word]);
        bundle.mount(&format!("/dev/all-{word}"), "bind", from, &["rbind", &format!("r{word}")]);
    }
    let flags = "nodev,noexec,nosuid,noatime,nodiratime,ro";
    let setup = format!(
        "mount -t tmpfs tmpfs {from} && mkdir {from}/sub && mount -t tmpfs -o {flags},nosymfollow tmpfs {from}/sub \
         && mount -o remount,{flags},nosymfollow {from} && exec \"$0\" \"$@\""
    );
    let orlop = bundle.command(&["run", &bundle.id()]);
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["-m", "sh", "-c", &setup]).arg(orlop.get_program()).args(orlop.get_args());
    unshare.current_dir(bundle.path()).stdin(std::process::Stdio::null());
    let found = mounts(&bundle.finish(unshare).ok());
    let all: BTreeSet<_> = "ro nosuid nodev noexec noatime nodiratime nosymfollow".split(' ').collect();
    let shown = |place: &str| -> BTreeSet<&str> { found[place].0.split(',').collect() };
    for (word, flag) in CLEARED {
        let left: BTreeSet<_> = all.iter().copied().filter(|shown| *shown != flag).collect();
        let flags_of = |place: &str| -> BTreeSet<&str> { shown(place).intersection(&all).copied().collect() };
        // The kernel keeps them when a remount names none.
        let access = BTreeSet::from(["noatime", "nodiratime"]);
        assert_eq!(flags_of(&format!("/dev/one-{word}")), access, "{word}");
        assert_eq!(flags_of(&format!("/dev/one-{word}/sub")), all, "{word} reaches no further");
        assert_eq!(flags_of(&format!("/dev/all-{word}")), left, "r{word}");
        assert_eq!(flags_of(&format!("/dev/all-{word}/sub")), left, "r{word} reaches what is below");
    }
}

#[test]
fn a_remount_changes_the_file_system_that_is_there() {
    need_root!();
    let mut bundle = Bundle::new("grep ' /dev/x ' /proc/self/mountinfo");
    bundle.mount("/dev/x", "tmpfs", "tmpfs", &["size=2m"]);
    bundle.mount("/dev/x", "tmpfs", "tmpfs", &["remount", "ro", "size=1m"]);
    let found = mounts(&bundle.run().ok());
    assert_eq!((found["/dev/x"].0.as_str(), found["/dev/x"].2.as_str()), ("ro,relatime", "rw,size=1024k"));
}

#[test]
fn every_type_of_the_specification_can_be_mounted() {
    need_root!();
    let mut bundle = Bundle::new("grep ' /dev/t-' /proc/self/mountinfo");
    let types = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "overlay", "cgroup", "cgroup2"];
    for kind in types {
        let options: &[&str] = if kind == "overlay" { &["lowerdir=/bin:/tmp"] } else { &["nosuid", "noexec", "nodev"] };
        bundle.mount(&format!("/dev/t-{kind}"), kind, kind, options);
    }
    let found = mounts(&bundle.run().ok());
    for kind in types {
        assert!(found.contains_key(&format!("/dev/t-{kind}")), "{kind}: {found:?}");
    }
}

#[test]
fn words_that_undo_each_other_and_options_of_a_bind_are_errors() {
    need_root!();
    for (options, wanted) in [
        (&["rbind", "ro", "rw"][..], "mounts[7].options[2]: \"rw\" contradicts \"ro\""),
        (&["rbind", "rro", "rrw"], "mounts[7].options[2]: \"rrw\" contradicts \"rro\""),
        (&["rbind", "rnoexec", "rexec"], "mounts[7].options[2]: \"rexec\" contradicts \"rnoexec\""),
        (&["bind", "mode=755"], "mounts[7].options: a bind mount takes no file system options (\"mode=755\")"),
    ] {
        let mut bundle = Bundle::new("true");
        bundle.mount("/dev/x", "bind", "/tmp", options);
        let id = bundle.id();
        let said = bundle.orlop(&["run", &id]).fails();
        assert!(said.contains(&format!("config.json: {wanted}")), "{said}");
        bundle.assert_nothing_of(&id);
    }
}
