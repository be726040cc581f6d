//! Mounts in real containers: copies into a tmpfs, mapped ids, mount points of the wrong kind, fallbacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail by panicking, as tests do.

#[macro_use]
mod common;

use std::ffi::CString;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use common::Bundle;
use serde_json::{Value, json};

fn add_mount(bundle: &mut Bundle, mount: Value) {
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
}

fn add_tmpfs(bundle: &mut Bundle, destination: &str, options: &[&str]) {
    let mount = json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options});
    add_mount(bundle, mount);
}

/// A user namespace whose root is 100000 on the host, which the rootfs belongs to.
fn with_user_namespace(bundle: &mut Bundle, size: u32) {
    let map = json!([{"containerID": 0, "hostID": 100000, "size": size}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    chown(bundle.rootfs(), Some(100000), Some(100000)).unwrap();
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        // Group 5 is that of terminals, which a short mapping lacks.
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| option != "gid=5");
        }
    }
}

fn source(bundle: &Bundle, owner: u32) -> String {
    let dir = bundle.temp().join("source");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("file"), "text").unwrap();
    chown(dir.join("file"), Some(owner), Some(owner + 1)).unwrap();
    dir.to_str().unwrap().to_owned()
}

fn age(path: &Path) {
    let c = CString::new(path.to_str().unwrap()).unwrap();
    let old = nix::sys::time::TimeSpec::new(1_000_000_000, 0);
    nix::sys::stat::utimensat(
        nix::fcntl::AT_FDCWD,
        c.as_c_str(),
        &old,
        &old,
        nix::sys::stat::UtimensatFlags::NoFollowSymlink,
    )
    .unwrap();
}

#[test]
fn tmpcopyup_copies_contents_owners_modes_times_and_links() {
    need_root!();
    let script = "cd /var/data && cat sub/file && readlink link && stat -c '%n %u %g %a %Y %F' . sub sub/file link fifo && grep -c ' /var/data tmpfs' /proc/mounts && touch new";
    let mut bundle = Bundle::new(script);
    let data = bundle.rootfs().join("var/data");
    std::fs::create_dir_all(data.join("sub")).unwrap();
    std::fs::write(data.join("sub/file"), "contents\n").unwrap();
    symlink("/nowhere", data.join("link")).unwrap();
    nix::unistd::mkfifo(&data.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    for (path, owner, mode) in [("sub/file", 7, 0o4755), ("fifo", 8, 0o640), ("sub", 9, 0o2755), (".", 10, 0o1777)] {
        chown(data.join(path), Some(owner), Some(owner + 1)).unwrap();
        std::fs::set_permissions(data.join(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    ["sub/file", "fifo", "link", "sub", "."].iter().for_each(|path| age(&data.join(path)));
    add_tmpfs(&mut bundle, "/var/data", &["nosuid", "size=1m", "tmpcopyup"]);
    let lines = [
        "contents",
        "/nowhere",
        ". 10 11 1777 1000000000 directory",
        "sub 9 10 2755 1000000000 directory",
        "sub/file 7 8 4755 1000000000 regular file",
        "link 0 0 777 1000000000 symbolic link",
        "fifo 8 9 640 1000000000 fifo",
        "1",
    ];
    assert_eq!(bundle.run().ok().lines().collect::<Vec<_>>(), lines);
    assert!(!data.join("new").exists());
}

#[test]
fn tmpcopyup_keeps_holes_and_copies_many_and_big_files() {
    need_root!();
    let mut bundle =
        Bundle::new("cd /data && stat -c '%s %b' sparse && ls many | wc -l && md5sum sparse big | cut -c1-32");
    let data = bundle.rootfs().join("data");
    std::fs::create_dir_all(data.join("many")).unwrap();
    (0..300).for_each(|n| std::fs::write(data.join(format!("many/a-rather-long-name-{n}")), "").unwrap());
    std::fs::write(data.join("big"), (0..3_000_000).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>()).unwrap();
    let sparse = std::fs::File::create(data.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"x", 20 << 20).unwrap();
    sparse.set_len(64 << 20).unwrap();
    add_tmpfs(&mut bundle, "/data", &["size=8m", "tmpcopyup"]);
    let sums = std::process::Command::new("md5sum").args(["sparse", "big"]).current_dir(&data).output().unwrap().stdout;
    let sums =
        String::from_utf8(sums).unwrap().lines().map(|line| line[..32].to_owned()).collect::<Vec<_>>().join("\n");
    assert_eq!(bundle.run().ok().trim(), format!("{} 8\n300\n{sums}", 64 << 20));
}

#[test]
fn tmpcopyup_follows_no_link_out_of_the_directory() {
    need_root!();
    let mut bundle = Bundle::new("find /data | sort; [ -L /data/dir ] && [ -L /data/up ]");
    let secret = bundle.temp().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("key"), "").unwrap();
    std::fs::create_dir(bundle.rootfs().join("data")).unwrap();
    symlink(&secret, bundle.rootfs().join("data/dir")).unwrap();
    symlink("../..", bundle.rootfs().join("data/up")).unwrap();
    add_tmpfs(&mut bundle, "/data", &["tmpcopyup"]);
    assert_eq!(bundle.run().ok(), "/data\n/data/dir\n/data/up\n");
}

#[test]
fn tmpcopyup_says_when_the_tree_is_too_deep_or_the_tmpfs_too_small() {
    need_root!();
    let mut bundle = Bundle::new("true");
    std::fs::create_dir_all(bundle.rootfs().join("deep").join("d/".repeat(129))).unwrap();
    std::fs::create_dir(bundle.rootfs().join("full")).unwrap();
    std::fs::write(bundle.rootfs().join("full/file"), vec![1; 100_000]).unwrap();
    add_tmpfs(&mut bundle, "/deep", &["tmpcopyup"]);
    let said = bundle.run().fails();
    assert!(said.contains("copying what it hides: more than 128 directories within each other"), "{said}");
    std::fs::remove_dir_all(bundle.rootfs().join("deep")).unwrap();
    std::fs::create_dir_all(bundle.rootfs().join("deep").join("d/".repeat(128))).unwrap();
    bundle.run().ok();
    add_tmpfs(&mut bundle, "/full", &["size=8k", "tmpcopyup"]);
    let said = bundle.run().fails();
    assert!(said.contains("at \"/full\"") && said.contains("copying what it hides: no space left on device"), "{said}");
}

#[test]
fn tmpcopyup_works_in_a_user_namespace_and_read_only() {
    need_root!();
    let mut bundle = Bundle::new("stat -c '%u %a' /data/mine /data/theirs; touch /data/x 2>&1");
    let data = bundle.rootfs().join("data");
    std::fs::create_dir(&data).unwrap();
    for (name, owner) in [("mine", 100_007), ("theirs", 7)] {
        std::fs::write(data.join(name), "").unwrap();
        chown(data.join(name), Some(owner), Some(owner)).unwrap();
        std::fs::set_permissions(data.join(name), PermissionsExt::from_mode(0o4755)).unwrap();
    }
    with_user_namespace(&mut bundle, 1000);
    add_tmpfs(&mut bundle, "/data", &["ro", "tmpcopyup"]);
    // An owner that is not mapped cannot be kept, and without it no set-user-id bit.
    let done = bundle.run();
    assert_eq!(done.stdout, "7 4755\n0 755\ntouch: /data/x: Read-only file system\n", "{done:?}");
}

#[test]
fn tmpcopyup_is_for_tmpfs_alone() {
    let mut bundle = Bundle::new("true");
    let mount = json!({"destination": "/data", "type": "bind", "source": "/tmp", "options": ["bind", "tmpcopyup"]});
    add_mount(&mut bundle, mount);
    let said = bundle.orlop(&["plan"]).fails();
    assert!(said.contains(".options: \"tmpcopyup\" is for mounts of type tmpfs"), "{said}");
}

#[test]
fn a_file_on_a_directory_or_the_reverse_is_not_a_directory() {
    need_root!();
    let mut bundle = Bundle::new("true");
    let dir = source(&bundle, 0);
    std::fs::create_dir(bundle.rootfs().join("dir")).unwrap();
    std::fs::write(bundle.rootfs().join("file"), "").unwrap();
    let mounts = bundle.config["mounts"].clone();
    for (from, to) in [(dir.clone(), "/file"), (format!("{dir}/file"), "/dir")] {
        bundle.config["mounts"] = mounts.clone();
        add_mount(&mut bundle, json!({"destination": to, "type": "bind", "source": from, "options": ["rbind"]}));
        let said = bundle.run().fails();
        assert!(said.contains(&format!("error mounting {from:?} to rootfs at {to:?}: ")), "{said}");
        assert!(said.trim_end().ends_with(": not a directory"), "{said}");
    }
}

#[test]
fn ids_are_mapped_by_the_mounts_own_mappings_without_a_user_namespace() {
    need_root!();
    let mut bundle = Bundle::new("stat -c '%u %g' /mapped/file /plain/file; touch /mapped/new; stat -c %u /mapped/new");
    let dir = source(&bundle, 5);
    let maps = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    add_mount(&mut bundle, json!({"destination": "/plain", "type": "bind", "source": dir, "options": ["rbind"]}));
    add_mount(
        &mut bundle,
        json!({"destination": "/mapped", "type": "bind", "source": dir, "options": ["bind"],
        "uidMappings": maps, "gidMappings": maps}),
    );
    let done = bundle.run();
    // Root is not mapped, so it cannot make a file there.
    assert_eq!(done.stdout, "1005 1006\n5 6\n", "{done:?}");
    assert!(done.stderr.contains("/mapped/new: Value too large"), "{done:?}");
}

#[test]
fn idmap_alone_takes_the_mappings_of_the_containers_user_namespace() {
    need_root!();
    let mut bundle = Bundle::new("stat -c '%u %g' /mapped/file /plain/file && echo >/mapped/new");
    let dir = source(&bundle, 5);
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
    with_user_namespace(&mut bundle, 1000);
    add_mount(&mut bundle, json!({"destination": "/plain", "type": "bind", "source": dir, "options": ["rbind", "ro"]}));
    add_mount(
        &mut bundle,
        json!({"destination": "/mapped", "type": "bind", "source": dir, "options": ["bind", "nodev", "idmap"]}),
    );
    assert_eq!(bundle.run().ok(), "5 6\n65534 65534\n");
    assert_eq!(std::fs::metadata(format!("{dir}/new")).unwrap().uid(), 0);
}

#[test]
fn idmap_takes_the_mappings_of_a_joined_user_namespace() {
    need_root!();
    let (mut holder, mut bundle) = (Bundle::new("sleep 100"), Bundle::new("stat -c '%u %g' /mapped/file"));
    with_user_namespace(&mut holder, 1000);
    with_user_namespace(&mut bundle, 1000);
    let id = holder.id();
    holder.orlop(&["run", "--detach", &id]).ok();
    let pid = holder.state(&id)["pid"].clone();
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.last_mut().unwrap()["path"] = json!(format!("/proc/{pid}/ns/user"));
    let dir = source(&bundle, 5);
    add_mount(
        &mut bundle,
        json!({"destination": "/mapped", "type": "bind", "source": dir, "options": ["rbind", "ridmap"]}),
    );
    assert_eq!(bundle.run().ok(), "5 6\n");
}

#[test]
fn idmap_goes_no_deeper_than_asked() {
    need_root!();
    let mut bundle = Bundle::new("stat -c %u /one/file /one/sub/file /all/file /all/sub/file");
    let dir = source(&bundle, 5);
    std::fs::create_dir(format!("{dir}/sub")).unwrap();
    let maps = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    for (to, option) in [("/one", "idmap"), ("/all", "ridmap")] {
        add_mount(
            &mut bundle,
            json!({"destination": to, "type": "bind", "source": dir, "options": ["rbind", option],
            "uidMappings": maps, "gidMappings": maps}),
        );
    }
    // A mount below the source, in a mount namespace of its own.
    let id = bundle.id();
    let run = bundle.command(&["run", &id]);
    let mut command = std::process::Command::new("unshare");
    let script = "mount --bind \"$0\" \"$0/sub\" && exec \"$@\"";
    command
        .args(["-m", "sh", "-c", script, &dir])
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(bundle.path());
    assert_eq!(bundle.finish(command).ok(), "1005\n5\n1005\n1005\n");
}

#[test]
fn a_new_tmpfs_can_have_mapped_ids() {
    need_root!();
    let mut bundle = Bundle::new("stat -c '%u %g %a' /data /data/file; grep -c ' /data tmpfs rw,nodev' /proc/mounts");
    let maps = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    std::fs::create_dir(bundle.rootfs().join("data")).unwrap();
    std::fs::write(bundle.rootfs().join("data/file"), "").unwrap();
    add_mount(
        &mut bundle,
        json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs",
        "options": ["nodev", "tmpcopyup", "mode=711", "size=64k"], "uidMappings": maps, "gidMappings": maps}),
    );
    let done = bundle.run();
    if done.stderr.contains("this kernel cannot map the ids of this file system") {
        skip!("tmpfs cannot be id-mapped before Linux 6.3");
    }
    assert_eq!(done.ok(), "1000 1000 711\n1000 1000 644\n1\n");
}

#[test]
fn what_cannot_be_mapped_is_an_error_that_says_so() {
    need_root!();
    let mut bundle = Bundle::new("true");
    let maps = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    let mounts = bundle.config["mounts"].clone();
    add_mount(
        &mut bundle,
        json!({"destination": "/data", "type": "bind", "source": "/proc", "options": ["bind"],
        "uidMappings": maps, "gidMappings": maps}),
    );
    let said = bundle.run().fails();
    assert!(said.contains("mapping the ids of the mount: invalid argument: this kernel cannot"), "{said}");
    bundle.config["mounts"] = mounts;
    let proc = &mut bundle.config["mounts"][0];
    (proc["uidMappings"], proc["gidMappings"]) = (maps.clone(), maps);
    let said = bundle.orlop(&["plan"]).fails();
    assert!(said.contains("config.json: mounts[0]: the ids of a mount of type proc cannot be mapped"), "{said}");
}

#[test]
fn no_process_or_descriptor_of_the_mapping_is_left() {
    need_root!();
    let mut bundle = Bundle::new("exec sleep 100");
    let dir = source(&bundle, 5);
    with_user_namespace(&mut bundle, 1000);
    for n in 0..10 {
        let maps = json!([{"containerID": 0, "hostID": 1000 * n, "size": 100}]);
        let to = format!("/mapped{n}");
        add_mount(
            &mut bundle,
            json!({"destination": to, "type": "bind", "source": dir, "options": ["bind"],
            "uidMappings": maps, "gidMappings": maps}),
        );
    }
    let id = bundle.id();
    let said = bundle.orlop(&["run", "--detach", &id]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(common::processes_with(bundle.root().to_str().unwrap()), [0; 0]);
    let init = bundle.state(&id)["pid"].clone();
    assert_eq!(std::fs::read_dir(format!("/proc/{init}/fd")).unwrap().count(), 3);
}

#[test]
fn an_unmapped_group_of_devpts_is_named() {
    need_root!();
    let mut bundle = Bundle::new("true");
    with_user_namespace(&mut bundle, 3);
    for mount in bundle.config["mounts"].as_array_mut().unwrap().iter_mut().filter(|mount| mount["type"] == "devpts") {
        mount["options"].as_array_mut().unwrap().push(json!("gid=5"));
    }
    let said = bundle.run().fails();
    let wanted = "error mounting \"devpts\" to rootfs at \"/dev/pts\": invalid argument (the id of the option \"gid=5\" is not in linux.gidMappings)";
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn sysfs_of_the_hosts_network_is_bound_in_a_user_namespace() {
    need_root!();
    let mut bundle = Bundle::new("grep ' /sys sysfs' /proc/mounts | cut -d ' ' -f 4; ls -d /sys/class/net");
    with_user_namespace(&mut bundle, 1000);
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
    let said = bundle.run().ok();
    let flags: Vec<_> = said.lines().next().unwrap().split(',').collect();
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|flag| flags.contains(flag)), "{said}");
    assert!(said.ends_with("/sys/class/net\n"), "{said}");
}

#[test]
fn a_cgroup_mount_shows_the_containers_own_cgroup_as_its_root() {
    need_root!();
    for kind in ["cgroup", "cgroup2"] {
        let mut bundle = Bundle::new(
            "find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs -exec cat {} + | grep -c '^1$'; touch /sys/fs/cgroup/x",
        );
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
        add_mount(
            &mut bundle,
            json!({"destination": "/sys/fs/cgroup", "type": kind, "source": "cgroup", "options": options}),
        );
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
        namespaces.push(json!({"type": "cgroup"}));
        let done = bundle.run();
        assert!(done.stdout.trim().parse::<u32>().is_ok_and(|found| found >= 1), "{done:?}");
        assert!(done.stderr.contains("touch: /sys/fs/cgroup/x: Read-only file system"), "{done:?}");
    }
}

#[test]
fn a_file_is_bound_where_a_dangling_link_of_the_image_points() {
    need_root!();
    let mut bundle = Bundle::new("cat /etc/resolv.conf /run/systemd/resolve/stub-resolv.conf");
    std::fs::create_dir_all(bundle.rootfs().join("etc")).unwrap();
    let link = bundle.rootfs().join("etc/resolv.conf");
    std::os::unix::fs::symlink("../run/systemd/resolve/stub-resolv.conf", link).unwrap();
    let source = bundle.temp().join("resolv.conf");
    std::fs::write(&source, "nameserver 127.0.0.1\n").unwrap();
    let mount = json!({"destination": "/etc/resolv.conf", "source": source, "type": "bind", "options": ["bind", "ro"]});
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    assert_eq!(bundle.run().ok(), "nameserver 127.0.0.1\nnameserver 127.0.0.1\n");
}

#[test]
fn what_becomes_read_only_is_the_mount_and_not_what_its_name_leads_to_later() {
    need_root!();
    let mut bundle = Bundle::writable("touch /mnt/file && umount /mnt && ! touch /mnt/file 2>/dev/null && echo once");
    let shared = bundle.temp().join("shared");
    std::fs::create_dir(&shared).unwrap();
    bundle.capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["ro", "rprivate"]);
    bundle.mount("/mnt", "bind", shared.to_str().unwrap(), &["bind"]);
    assert_eq!(bundle.run().ok(), "once\n");
}
