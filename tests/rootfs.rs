//! The container's file system: config.md#root and #mounts, config-linux.md#default-filesystems, #devices,
//! #rootfs-mount-propagation, #masked-paths, #readonly-paths and #sysctl (runtime-spec 1.3).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use common::Bundle;
use serde_json::json;

/// The mount that covers `point` in the container: its options, optional fields, type and the type's options.
fn mount_at<'a>(mountinfo: &'a str, point: &str) -> [&'a str; 4] {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(point));
    let line = line.unwrap_or_else(|| panic!("{point} is no mount point in {mountinfo}"));
    let (first, last) = line.split_once(" - ").unwrap();
    let optional = first.splitn(7, ' ').nth(6).unwrap_or_default();
    [first.split(' ').nth(5).unwrap(), optional, last.split(' ').next().unwrap(), last.split(' ').nth(2).unwrap()]
}

fn has_all(options: &str, wanted: &[&str]) -> bool {
    wanted.iter().all(|option| options.split(',').any(|found| found == *option))
}

fn mountinfo(mut bundle: Bundle) -> String {
    bundle.args(&["cat", "/proc/self/mountinfo"]);
    bundle.run().ok()
}

#[test]
fn the_default_mounts_are_as_the_configuration_says() {
    need_root!();
    let said = mountinfo(Bundle::new(""));
    for (point, kind, options, data) in [
        ("/proc", "proc", &["rw", "relatime"][..], &["rw"][..]),
        ("/dev", "tmpfs", &["rw", "nosuid"], &["size=65536k", "mode=755"]),
        ("/dev/pts", "devpts", &["rw", "nosuid", "noexec"], &["gid=5", "mode=620", "ptmxmode=666"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec"], &["size=65536k"]),
        ("/dev/mqueue", "mqueue", &["rw", "nosuid", "nodev", "noexec"], &["rw"]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"], &["ro"]),
        ("/proc/sys", "proc", &["ro"], &["rw"]),
    ] {
        let [found, _, fstype, super_options] = mount_at(&said, point);
        assert_eq!(fstype, kind, "{point}");
        assert!(has_all(found, options) && has_all(super_options, data), "{point}: {found} {super_options}");
    }
}

#[test]
fn no_mount_of_the_host_is_left_in_the_container() {
    need_root!();
    let said = mountinfo(Bundle::new(""));
    let known = ["/", "/proc", "/dev", "/sys"];
    for line in said.lines() {
        let point = line.split(' ').nth(4).unwrap();
        assert!(
            known.iter().any(|root| point == *root || *root != "/" && point.starts_with(&format!("{root}/"))),
            "{line}"
        );
    }
    assert_eq!(said.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count(), 1, "{said}");
}

#[test]
fn the_root_is_read_only_where_the_configuration_says_so() {
    need_root!();
    let bundle = Bundle::new("touch /file");
    let done = bundle.run();
    assert!(done.code == 1 && done.stderr.contains("Read-only file system"), "{done:?}");
    let bundle = Bundle::writable("touch /file && echo written");
    assert_eq!(bundle.run().ok(), "written\n");
    assert!(bundle.rootfs().join("file").exists());
}

#[test]
fn mounts_of_a_read_only_root_can_still_be_written() {
    need_root!();
    let mut bundle = Bundle::new("touch /scratch/file /dev/shm/file && ls /scratch");
    bundle.mount("/scratch", "tmpfs", "tmpfs", &["mode=1777"]);
    assert_eq!(bundle.run().ok(), "file\n");
}

#[test]
fn a_bind_mount_shows_a_directory_or_a_file_of_the_host() {
    need_root!();
    let mut bundle = Bundle::writable("cat /dir/file /single; echo changed >/dir/file");
    let source = bundle.temp().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "text\n").unwrap();
    std::fs::write(bundle.path().join("relative"), "by the bundle\n").unwrap();
    bundle.mount("/dir", "bind", source.to_str().unwrap(), &["bind"]);
    bundle.mount("/single", "bind", "relative", &["rbind", "ro"]);
    assert_eq!(bundle.run().ok(), "text\nby the bundle\n");
    assert_eq!(std::fs::read_to_string(source.join("file")).unwrap(), "changed\n");
}

#[test]
fn options_of_bind_mounts_are_set() {
    need_root!();
    let mut bundle = Bundle::new("");
    let source = bundle.temp();
    for (point, options) in [
        ("/ro", &["bind", "ro"][..]),
        ("/no", &["bind", "nosuid", "nodev", "noexec"]),
        ("/atime", &["bind", "noatime"]),
        ("/all", &["rbind", "ro", "nosuid", "nodev", "noexec", "nodiratime"]),
    ] {
        bundle.mount(point, "none", source.to_str().unwrap(), options);
    }
    let said = mountinfo(bundle);
    assert!(has_all(mount_at(&said, "/ro")[0], &["ro"]));
    assert!(has_all(mount_at(&said, "/no")[0], &["rw", "nosuid", "nodev", "noexec"]));
    assert!(has_all(mount_at(&said, "/atime")[0], &["noatime"]));
    assert!(has_all(mount_at(&said, "/all")[0], &["ro", "nosuid", "nodev", "noexec", "nodiratime"]));
}

#[test]
fn a_read_only_bind_mount_cannot_be_written() {
    need_root!();
    let mut bundle = Bundle::new("touch /mnt/file");
    let source = bundle.temp();
    bundle.mount("/mnt", "bind", source.to_str().unwrap(), &["rbind", "ro"]);
    let done = bundle.run();
    assert!(done.code == 1 && done.stderr.contains("Read-only file system"), "{done:?}");
}

#[test]
fn rro_makes_mounts_below_read_only_too_and_ro_does_not() {
    need_root!();
    for (option, expected) in [("ro", "rw"), ("rro", "ro")] {
        let mut bundle = Bundle::new("awk '$5 == \"/mnt/below\" { print substr($6, 1, 2) }' /proc/self/mountinfo");
        let below = bundle.temp().join("below");
        std::fs::create_dir(&below).unwrap();
        bundle.mount("/mnt", "bind", bundle.temp().to_str().unwrap(), &["rbind", option]);
        let script = format!("mount -t tmpfs none {} && exec \"$0\" \"$@\"", below.display());
        let orlop = bundle.command(&["run", &bundle.id()]);
        let mut unshare = std::process::Command::new("unshare");
        unshare
            .args(["-m", "sh", "-c", &script])
            .arg(orlop.get_program())
            .args(orlop.get_args())
            .current_dir(bundle.path());
        assert_eq!(bundle.finish(unshare).ok(), format!("{expected}\n"), "{option}");
    }
}

#[test]
fn tmpfs_options_reach_the_file_system() {
    need_root!();
    let mut bundle = Bundle::new("stat -c '%a %u %g' /scratch; df -k /scratch | awk 'NR == 2 { print $2 }'");
    bundle.mount("/scratch", "tmpfs", "tmpfs", &["nosuid", "size=1024k", "mode=1750", "uid=3", "gid=4"]);
    assert_eq!(bundle.run().ok(), "1750 3 4\n1024\n");
}

#[test]
fn mounts_are_made_in_their_order() {
    need_root!();
    let mut bundle = Bundle::new("ls /a/b; ls /a");
    for (point, name) in [("/a", "outer"), ("/a/b", "inner")] {
        let source = bundle.temp().join(name);
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join(name), "").unwrap();
        bundle.mount(point, "bind", source.to_str().unwrap(), &["bind"]);
    }
    assert_eq!(bundle.run().ok(), "inner\nb\nouter\n");
}

#[test]
fn propagation_of_a_mount_is_as_its_option_says() {
    need_root!();
    for (option, expected) in [("rshared", "shared:"), ("rprivate", ""), ("shared", "shared:"), ("private", "")] {
        let mut bundle = Bundle::new("");
        bundle.mount("/mnt", "bind", bundle.temp().to_str().unwrap(), &["rbind", option]);
        let said = mountinfo(bundle);
        let optional = mount_at(&said, "/mnt")[1];
        assert!(
            optional.starts_with(expected) && (expected.is_empty() == optional.is_empty()),
            "{option}: {optional:?}"
        );
    }
}

/// What is mounted below a directory that the host shares, after a container has mounted something there.
fn reaches_the_host(root: Option<&str>, options: &[&str]) -> String {
    let mut bundle = Bundle::new("mount -t tmpfs tmpfs /mnt/late");
    bundle.capabilities(&["CAP_SYS_ADMIN"]);
    let dir = bundle.temp().join("shared");
    std::fs::create_dir_all(dir.join("late")).unwrap();
    bundle.mount("/mnt", "bind", dir.to_str().unwrap(), options);
    if let Some(word) = root {
        bundle.config["linux"]["rootfsPropagation"] = json!(word);
    }
    let id = bundle.id();
    let run = bundle.command(&["run", &id]);
    let script = "mount --bind \"$0\" \"$0\" && mount --make-shared \"$0\" && before=$(cut -d ' ' -f 1-6 /proc/self/mountinfo) &&
        \"$@\" && cut -d ' ' -f 1-6 /proc/self/mountinfo | grep -vxF \"$before\" | cut -d ' ' -f 5 || true";
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&dir).arg(run.get_program());
    unshare.args(run.get_args()).current_dir(bundle.path()).stdin(std::process::Stdio::null());
    let said = bundle.finish(unshare).ok();
    said.replace(dir.to_str().unwrap(), "$SHARED")
}

#[test]
fn mounts_of_the_container_reach_the_host_through_a_shared_bind_alone() {
    need_root!();
    let there = "$SHARED/late\n";
    for (root, options, expected) in [
        (Some("rshared"), &["rbind", "rshared"][..], there),
        (Some("shared"), &["bind", "shared", "ro"], there),
        (Some("rshared"), &["rbind"], there),
        (Some("rshared"), &["rbind", "rslave"], ""),
        (Some("rshared"), &["rbind", "rprivate"], ""),
        (None, &["rbind", "rshared"], ""),
        (Some("rslave"), &["rbind"], ""),
    ] {
        assert_eq!(reaches_the_host(root, options), expected, "{root:?} {options:?}");
    }
}

#[test]
fn propagation_of_the_root_is_as_the_configuration_says() {
    need_root!();
    for (word, expected) in [("shared", "shared:"), ("rprivate", ""), ("unbindable", "unbindable")] {
        let mut bundle = Bundle::new("");
        bundle.config["linux"]["rootfsPropagation"] = json!(word);
        let said = mountinfo(bundle);
        let optional = mount_at(&said, "/")[1];
        assert!(optional.starts_with(expected) && (expected.is_empty() == optional.is_empty()), "{word}: {optional:?}");
    }
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["rootfsPropagation"] = json!("sideways");
    assert!(bundle.run().fails().contains("linux.rootfsPropagation"));
}

#[test]
fn the_root_follows_the_host_only_where_the_configuration_says_slave() {
    need_root!();
    for (word, expected) in
        [(None, ""), (Some("rslave"), "master:"), (Some("slave"), "master:"), (Some("rshared"), "shared:")]
    {
        let mut bundle = Bundle::new("cut -d ' ' -f 5- /proc/self/mountinfo | sed -n 's/ - .*//; s|^/ [^ ]* *||p'");
        if let Some(word) = word {
            bundle.config["linux"]["rootfsPropagation"] = json!(word);
        }
        let run = bundle.command(&["run", &bundle.id()]);
        let script = "mount --bind \"$0\" \"$0\" && mount --make-shared \"$0\" && cd \"$0/..\" && exec \"$@\"";
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(bundle.rootfs());
        unshare.arg(run.get_program()).args(run.get_args()).current_dir(bundle.path());
        let said = bundle.finish(unshare).ok();
        let tags: String = said.trim().chars().filter(|c| !c.is_ascii_digit()).collect();
        assert_eq!(tags, expected, "{word:?}");
    }
}

#[test]
fn a_mount_point_through_a_symlink_stays_in_the_root() {
    need_root!();
    let mut bundle = Bundle::writable("cat /link/file; ls /outside");
    let outside = bundle.temp().join("outside");
    std::fs::create_dir(&outside).unwrap();
    // Absolute as on the host, and with more steps up than there are.
    let inside = bundle.rootfs().join(outside.strip_prefix("/").unwrap());
    std::fs::create_dir_all(&inside).unwrap();
    symlink(&outside, bundle.rootfs().join("link")).unwrap();
    symlink("../../../../../../..", bundle.rootfs().join("up")).unwrap();
    let source = bundle.temp().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "text\n").unwrap();
    bundle.mount("/link", "bind", source.to_str().unwrap(), &["bind"]);
    bundle.mount("/up/outside", "bind", source.to_str().unwrap(), &["bind"]);
    assert_eq!(bundle.run().ok(), "text\nfile\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(bundle.rootfs().join("outside").is_dir() && !std::path::Path::new("/outside").exists());
}

#[test]
fn a_tmpfs_takes_the_mode_of_the_directory_that_it_covers() {
    need_root!();
    let mut bundle = Bundle::new("stat -c %a /private /open");
    std::fs::create_dir(bundle.rootfs().join("private")).unwrap();
    std::fs::set_permissions(bundle.rootfs().join("private"), PermissionsExt::from_mode(0o710)).unwrap();
    bundle.mount("/private", "tmpfs", "tmpfs", &[]);
    bundle.mount("/open", "tmpfs", "tmpfs", &[]);
    assert_eq!(bundle.run().ok(), "710\n1777\n");
}

#[test]
fn a_mount_over_a_symlinked_proc_is_refused_or_stays_inside() {
    need_root!();
    let bundle = Bundle::new("true");
    let outside = bundle.temp().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, bundle.rootfs().join("proc")).unwrap();
    let id = bundle.id();
    let done = bundle.orlop(&["run", &id]);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{done:?}");
    bundle.assert_nothing_of(&id);
}

#[test]
fn a_missing_source_or_an_unknown_type_is_named() {
    need_root!();
    let mut bundle = Bundle::new("true");
    bundle.mount("/x", "bind", "/no/such/source", &["bind"]);
    let said = bundle.run().fails();
    assert!(
        said.contains("error mounting \"/no/such/source\" to rootfs at \"/x\"") && said.contains("no such file"),
        "{said}"
    );
    let mut bundle = Bundle::new("true");
    bundle.mount("/x", "nosuchfs", "none", &[]);
    let said = bundle.run().fails();
    assert!(said.contains("\"/x\"") && said.contains("no such device"), "{said}");
}

#[test]
fn masked_files_read_empty_and_masked_directories_are_empty() {
    need_root!();
    let mut bundle = Bundle::writable("wc -c </secret; ls /hidden | wc -l; stat -c %F /secret; touch /hidden/new");
    std::fs::write(bundle.rootfs().join("secret"), "text").unwrap();
    std::fs::create_dir(bundle.rootfs().join("hidden")).unwrap();
    std::fs::write(bundle.rootfs().join("hidden/file"), "text").unwrap();
    bundle.config["linux"]["maskedPaths"] = json!(["/secret", "/hidden", "/not/there"]);
    let done = bundle.run();
    assert_eq!(done.stdout, "0\n0\ncharacter special file\n");
    assert!(done.code == 1 && done.stderr.contains("Read-only file system"), "{done:?}");
}

#[test]
fn the_default_masks_hide_the_kernels_files() {
    need_root!();
    let bundle = Bundle::new(
        "cat /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware /proc/scsi 2>/dev/null | grep -vc :",
    );
    assert_eq!(bundle.run().stdout, "0\n0\n");
}

#[test]
fn readonly_paths_can_be_read_and_not_written_with_a_leading_slash_or_without() {
    need_root!();
    let mut bundle = Bundle::writable(
        "cat /fixed/file; echo x >/fixed/file; touch /fixed/new; echo 1 >/proc/sys/net/ipv4/ip_forward",
    );
    std::fs::create_dir(bundle.rootfs().join("fixed")).unwrap();
    std::fs::write(bundle.rootfs().join("fixed/file"), "text\n").unwrap();
    bundle.config["linux"]["readonlyPaths"] = json!(["fixed", "/proc/sys", "not/there"]);
    let done = bundle.run();
    assert_eq!(done.stdout, "text\n");
    assert_eq!(done.stderr.matches("Read-only file system").count(), 3, "{done:?}");
}

#[test]
fn the_default_devices_and_links_are_there() {
    need_root!();
    let bundle = Bundle::new(
        "for d in null zero full random urandom tty; do stat -c '%n %t:%T %a %u:%g' /dev/$d; done; \
         for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done; \
         echo x >/dev/null; head -c 2 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x >/dev/full",
    );
    let done = bundle.run();
    let expected = "/dev/null 1:3 666 0:0\n/dev/zero 1:5 666 0:0\n/dev/full 1:7 666 0:0\n/dev/random 1:8 666 0:0\n\
        /dev/urandom 1:9 666 0:0\n/dev/tty 5:0 666 0:0\nfd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\n\
        stderr /proc/self/fd/2\nptmx pts/ptmx\n2\n3\n";
    assert_eq!(done.stdout, expected);
    assert!(done.stderr.contains("No space left on device"), "{done:?}");
}

#[test]
fn configured_devices_are_made_with_their_mode_and_owner() {
    need_root!();
    let mut bundle = Bundle::new("stat -c '%n %F %t:%T %a %u:%g' /dev/fuse /dev/deep/pipe /dev/null /dev/loop77");
    bundle.config["linux"]["devices"] = json!([
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 5, "gid": 6 },
        { "path": "/dev/deep/pipe", "type": "p", "fileMode": 0o622 },
        { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600 },
        { "path": "/dev/loop77", "type": "b", "major": 7, "minor": 77 },
    ]);
    let expected = "/dev/fuse character special file a:e5 640 5:6\n/dev/deep/pipe fifo 0:0 622 0:0\n\
        /dev/null character special file 1:3 600 0:0\n/dev/loop77 block special file 7:4d 666 0:0\n";
    assert_eq!(bundle.run().ok(), expected);
}

#[test]
fn every_type_of_device_is_made_anywhere_and_what_is_there_must_be_it() {
    need_root!();
    let mut bundle = Bundle::writable("stat -c '%F %a %u %g %t %T' /run/fifo /opt/x/u /opt/block");
    bundle.config["linux"]["devices"] = json!([
        { "path": "/run/fifo", "type": "p", "fileMode": 0o640, "uid": 5, "gid": 6 },
        { "path": "/opt/x/u", "type": "u", "major": 1, "minor": 3 },
        { "path": "/opt/block", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600 },
    ]);
    let wanted = "fifo 640 5 6 0 0\ncharacter special file 666 0 0 1 3\nblock special file 600 0 0 7 0\n";
    // The second time the nodes are there, as they were asked for.
    for _ in 0..2 {
        assert_eq!(bundle.run().ok(), wanted);
    }
    bundle.config["linux"]["devices"] = json!([{ "path": "/run/fifo", "type": "c", "major": 1, "minor": 3 }]);
    let said = bundle.run().fails();
    assert!(said.contains("/run/fifo: file exists"), "{said}");
}

#[test]
fn devices_that_are_not_allowed_cannot_be_opened() {
    need_root!();
    let mut bundle = Bundle::writable(
        "mknod /dev/mem1 c 1 1 && cat /dev/mem1; mknod /dev/n c 1 3 && echo x >/dev/n && echo null is open",
    );
    bundle.capabilities(&["CAP_MKNOD", "CAP_SYS_RAWIO"]);
    let done = bundle.run();
    assert_eq!(done.stdout, "null is open\n", "{done:?}");
    assert!(done.stderr.contains("/dev/mem1': Operation not permitted"), "{done:?}");
}

#[test]
fn nodes_in_the_image_are_not_those_of_the_host() {
    need_root!();
    let bundle = Bundle::new("true");
    bundle.run().ok();
    // /dev of the container is a tmpfs of its own; only its mount point is made in the image.
    let dev = std::fs::read_dir(bundle.rootfs().join("dev")).unwrap();
    assert!(dev.flatten().all(|entry| !entry.file_type().unwrap().is_char_device()));
}

#[test]
fn without_a_mount_at_dev_the_nodes_are_made_in_the_image() {
    need_root!();
    let mut bundle = Bundle::writable("echo x >/dev/null && echo fine");
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    assert_eq!(bundle.run().ok(), "fine\n");
    let null = std::fs::metadata(bundle.rootfs().join("dev/null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == nix::sys::stat::makedev(1, 3));
    // And it is taken as it is the next time.
    assert_eq!(bundle.run().ok(), "fine\n");
}

#[test]
fn the_working_directory_is_made_where_it_is_missing() {
    need_root!();
    let mut bundle = Bundle::writable("pwd");
    bundle.config["process"]["cwd"] = json!("/some/new/place");
    assert_eq!(bundle.run().ok(), "/some/new/place\n");
    let made = std::fs::metadata(bundle.rootfs().join("some/new/place")).unwrap();
    assert_eq!((made.permissions().mode() & 0o7777, made.uid()), (0o755, 0));
}

#[test]
fn a_working_directory_that_leads_out_of_the_root_is_refused() {
    need_root!();
    for number in 3..12 {
        let mut bundle = Bundle::new("pwd; ls");
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        // One of them may be the container's own root.
        let done = bundle.run();
        let refused = done.code == 1 && done.stdout.is_empty();
        assert!(refused || done.stdout == "/\nbin\ndev\nproc\nsys\n", "{done:?}");
    }
}

#[test]
fn the_cgroup_mount_shows_the_containers_own_cgroups_read_only() {
    need_root!();
    let bundle = Bundle::new(
        "ls -d /sys/fs/cgroup/pids/tasks || ls -d /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x",
    );
    let done = bundle.run();
    assert_eq!(done.stdout.lines().count(), 1, "{done:?}");
    assert_eq!(done.stderr.matches("Read-only file system").count(), 2, "{done:?}");
}

/// Runs a container where v2 is mounted at /sys/fs/cgroup, and then the command line `after`.
fn run_on_v2(bundle: &Bundle, after: &str) -> common::Done {
    let run = bundle.command(&["run", &bundle.id()]);
    // With the options that it has, as those of the last mount are the file system's.
    let script = format!(
        "options=$(awk '/ - cgroup2 / {{ print $NF; exit }}' /proc/self/mountinfo)
        grep -q ' /sys/fs/cgroup cgroup2 ' /proc/mounts ||
            {{ umount -R /sys/fs/cgroup; mount -t cgroup2 -o \"${{options:-rw}}\" none /sys/fs/cgroup; }}
        \"$@\" && {after}"
    );
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", &script, "sh"]).arg(run.get_program()).args(run.get_args());
    unshare.current_dir(bundle.path());
    bundle.finish(unshare)
}

fn with_cgroup_options(bundle: &mut Bundle, options: &[&str]) {
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["destination"] == "/sys/fs/cgroup" {
            mount["options"] = json!(options);
        }
    }
}

#[test]
fn without_a_cgroup_namespace_the_hosts_v2_mount_is_shown_and_keeps_its_options() {
    need_root!();
    const SHOW: &str = "awk '$5 == \"/sys/fs/cgroup\" { print $4, $6, $NF }' /proc/self/mountinfo";
    let mut bundle = Bundle::new(SHOW);
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "cgroup");
    with_cgroup_options(&mut bundle, &["nosuid", "noexec", "nodev", "ro", "favordynmods", "rslave"]);
    let said = run_on_v2(&bundle, &format!("echo \"$options\" && {SHOW}")).ok();
    let lines: Vec<Vec<_>> = said.lines().map(|line| line.split(' ').collect()).collect();
    let [shown, before, after] = &lines[..] else { panic!("{said}") };
    assert_eq!((shown[0], shown[2], after[2]), (after[0], before[0], before[0]), "{said}");
    assert!(["ro", "nosuid", "noexec", "nodev"].iter().all(|flag| shown[1].split(',').any(|f| f == *flag)), "{said}");
}

#[test]
fn options_of_a_v2_mount_in_a_cgroup_namespace_reach_the_file_system() {
    need_root!();
    let mut bundle = Bundle::new("true");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    namespaces.push(json!({"type": "cgroup"}));
    with_cgroup_options(&mut bundle, &["nosuid", "nsdelegate", "memory_recursiveprot"]);
    run_on_v2(&bundle, "true").ok();
    with_cgroup_options(&mut bundle, &["nosuid", "no_such_word"]);
    let said = run_on_v2(&bundle, "true").fails();
    let named = said.contains("error mounting \"cgroup\" to rootfs at \"/sys/fs/cgroup\"");
    assert!(named && said.contains("invalid argument"), "{said}");
}

#[test]
fn sysctl_sets_the_containers_parameters_and_not_the_hosts() {
    need_root!();
    let mut bundle = Bundle::new(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max",
    );
    let files = ["net/ipv4/ip_unprivileged_port_start", "kernel/shm_rmid_forced", "fs/mqueue/msg_max"];
    let host = || files.map(|file| std::fs::read_to_string(format!("/proc/sys/{file}")).unwrap());
    let before = host();
    bundle.config["linux"]["sysctl"] =
        json!({ "net.ipv4.ip_unprivileged_port_start": "77", "kernel.shm_rmid_forced": "1", "fs/mqueue/msg_max": "9" });
    assert_eq!(bundle.run().ok(), "77\n1\n9\n");
    assert_eq!(host(), before);
}

#[test]
fn a_sysctl_of_the_host_or_with_a_wrong_value_is_refused() {
    need_root!();
    for (name, value, why) in [
        ("kernel.panic", "1", "kernel.panic"),
        ("vm.swappiness", "10", "not in a separate kernel namespace"),
        ("net.ipv4.ip_forward", "many", "invalid argument"),
        ("net.no.such", "1", "no such file or directory"),
        ("net/../kernel/panic", "1", "is not the name of a parameter"),
    ] {
        let mut bundle = Bundle::new("true");
        bundle.config["linux"]["sysctl"] = json!({ name: value });
        let said = bundle.run().fails();
        assert!(said.contains(why), "{name}: {said}");
    }
}

#[test]
fn a_root_that_is_a_mount_point_or_a_symlink_works() {
    need_root!();
    let bundle = Bundle::new("echo here");
    std::fs::rename(bundle.rootfs(), bundle.path().join("real")).unwrap();
    symlink("real", bundle.rootfs()).unwrap();
    assert_eq!(bundle.run().ok(), "here\n");
    let mut absolute = Bundle::new("echo there");
    absolute.config["root"]["path"] = json!(bundle.path().join("real"));
    assert_eq!(absolute.run().ok(), "there\n");
}

#[test]
fn the_containers_mounts_do_not_reach_the_host_from_a_shared_root() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.config["linux"]["rootfsPropagation"] = json!("rshared");
    let id = bundle.running();
    assert_eq!(common::mounts_below(&bundle.path()), Vec::<String>::new());
    bundle.end(&id);
    bundle.assert_nothing_of(&id);
}
