//! Network devices that move into the container: config-linux.md#network-devices (runtime-spec 1.3).
//!
//! Each test gives the runtime a network namespace of its own as the host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::process::{Child, Command, Stdio};

use common::{Bundle, Done};
use serde_json::json;

/// A pair of devices, of which `v0` has all that is to be kept, and some that is not.
const SETUP: &str = "
    ip link add v0 type veth peer name p0
    ip link set v0 mtu 1400 address 02:00:00:00:00:aa
    ip addr add 10.1.0.1/24 brd + dev v0
    ip addr add 10.1.0.2/24 dev v0
    ip addr add 10.3.0.1 peer 10.3.0.2 dev v0
    ip addr add 10.8.0.1/24 dev v0 valid_lft 1000 preferred_lft 1000
    ip addr add 10.9.0.1/24 scope link dev v0
    ip -6 addr add 2001:db8::1/64 dev v0 nodad
    ip link set v0 up; ip link set p0 up
    ip route add 10.2.0.0/16 via 10.1.0.254
    ip route add default via 10.1.0.254 metric 7
";

fn in_network(bundle: &Bundle, setup: &str, args: &[&str], after: &str) -> Done {
    let orlop = bundle.command(args);
    let mut command = Command::new("unshare");
    let script = format!("set -e\n{setup}\ncode=0; \"$@\" || code=$?\n{after}\nexit $code");
    command.args(["-n", "sh", "-c", &script, "sh"]).arg(orlop.get_program()).args(orlop.get_args());
    command.current_dir(bundle.path()).stdin(Stdio::null());
    bundle.finish(command)
}

fn run(bundle: &Bundle, setup: &str) -> Done {
    in_network(bundle, setup, &["run", &bundle.id()], "")
}

/// Leaves the test where the kernel cannot make the devices that it needs.
macro_rules! need_veth {
    () => {
        need_root!();
        let made = Command::new("unshare").args(["-n", "ip", "link", "add", "v0", "type", "veth"]).output();
        if !made.is_ok_and(|made| made.status.success()) {
            skip!("this kernel or host cannot make a veth device (ip, unshare)");
        }
    };
}

/// A network namespace of some other container.
struct Pod(Child);

impl Pod {
    fn new() -> Pod {
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", "echo ready; exec sleep 1000"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        Pod(child)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn ip(&self, args: &[&str]) {
        let target = self.0.id().to_string();
        let done = Command::new("nsenter").args(["-t", &target, "-n", "ip"]).args(args).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_device_is_moved_renamed_and_brought_up_with_addresses_and_routes() {
    need_veth!();
    let mut bundle = Bundle::new("ip addr show dev c0; ip route");
    bundle.config["linux"]["netDevices"] = json!({"v0": {"name": "c0"}});
    let said = run(&bundle, SETUP).ok();
    for wanted in [
        ",UP,",
        "mtu 1400",
        "02:00:00:00:00:aa",
        "inet 10.1.0.1/24 brd 10.1.0.255 scope global c0",
        "inet 10.1.0.2/24 scope global secondary c0",
        "inet 10.3.0.1 peer 10.3.0.2/32",
        "inet6 2001:db8::1/64 scope global",
        "10.1.0.0/24 dev c0",
        "10.2.0.0/16 via 10.1.0.254 dev c0",
        "default via 10.1.0.254 dev c0  metric 7",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // The one ends with a lease, the other is valid on its link alone.
    assert!(!said.contains("10.8.0.1") && !said.contains("10.9.0.1"), "{said}");
}

#[test]
fn a_device_keeps_its_name_and_is_there_for_hooks_and_in_a_user_namespace() {
    need_veth!();
    for user_namespace in [false, true] {
        let mut bundle = Bundle::sleeping();
        if user_namespace {
            bundle.user_namespace(100_000);
        }
        let seen = bundle.temp().join("seen");
        bundle.hook(
            "createRuntime",
            &format!("nsenter -t $(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/') -n ip -br a >{seen:?}"),
        );
        bundle.config["linux"]["netDevices"] = json!({"v0": {}, "p0": {"name": "peer"}});
        let id = bundle.id();
        in_network(&bundle, SETUP, &["create", &id], "! ip link show v0 2>&1").ok();
        let seen = std::fs::read_to_string(seen).unwrap();
        assert!(seen.contains("v0@peer") && seen.contains("10.1.0.1/24"), "{seen}");
        bundle.orlop(&["start", &id]).ok();
        let said = bundle.exec(&id, "ip link; ip -6 addr show dev v0");
        assert!(said.contains("peer@v0") && said.contains("2001:db8::1/64"), "{said}");
        bundle.orlop(&["delete", "--force", &id]).ok();
    }
}

#[test]
fn a_joined_namespace_may_have_the_name_already_unless_it_is_a_template() {
    need_veth!();
    let pod = Pod::new();
    pod.ip(&["link", "add", "c0", "type", "veth"]);
    let mut bundle = Bundle::new("ip addr show dev c1");
    bundle.namespace("network", Some(&pod.path()));
    bundle.config["linux"]["netDevices"] = json!({"v0": {"name": "c0"}});
    let id = bundle.id();
    let done = in_network(&bundle, SETUP, &["run", &id], "ip addr show dev v0; ip route");
    let wanted = "config.json: linux.netDevices.v0.name: the container's network namespace has a \"c0\" already";
    assert!(done.stderr.contains(wanted), "{done:?}");
    // It has not been touched.
    let kept = ["10.1.0.1/24", "2001:db8::1/64", "10.8.0.1/24", ",UP,", "default via 10.1.0.254"];
    assert!(kept.iter().all(|kept| done.stdout.contains(kept)), "{done:?}");
    bundle.assert_nothing_of(&id);
    bundle.config["linux"]["netDevices"] = json!({"v0": {"name": "c%d"}});
    assert!(run(&bundle, SETUP).ok().contains("inet 10.1.0.1/24"));
}

#[test]
fn devices_that_cannot_be_moved_are_named() {
    need_veth!();
    for (devices, wanted) in [
        (json!({"v9": {}}), "config.json: linux.netDevices.v9: no such device in the runtime's network namespace"),
        (json!({"v0": {}, "v0.1": {}}), "config.json: linux.netDevices[\"v0.1\"]: no such device"),
        (
            json!({"lo": {"name": "c0"}}),
            "config.json: linux.netDevices.lo: this device cannot change its network namespace",
        ),
        (
            json!({"v0": {"name": "lo"}}),
            "config.json: linux.netDevices.v0.name: the container's network namespace has a \"lo\"",
        ),
    ] {
        let mut bundle = Bundle::new("true");
        bundle.config["linux"]["netDevices"] = devices;
        let id = bundle.id();
        let done = in_network(&bundle, SETUP, &["run", &id], "ip link show v0");
        assert!(done.stderr.contains(wanted), "{done:?}");
        assert!(done.stdout.contains(",UP,"), "{done:?}");
        bundle.assert_nothing_of(&id);
    }
}

#[test]
fn devices_need_a_network_namespace_of_the_containers_own() {
    need_root!();
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["netDevices"] = json!({"v0": {}});
    bundle.namespace("network", Some("/proc/self/ns/net"));
    let said = bundle.run().fails();
    assert!(said.contains("config.json: linux.netDevices needs a network namespace of the container's own"), "{said}");
}

#[test]
fn without_rights_over_the_runtimes_network_nothing_is_begun() {
    need_veth!();
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["netDevices"] = json!({"v0": {}});
    bundle.config["linux"]["resources"] = json!({});
    let id = bundle.id();
    // A user namespace that does not own the network namespace, as in rootless Podman.
    let orlop = bundle.command(&["--rootless", "true", "run", &id]);
    let mut command = Command::new("unshare");
    let script = "ip link add v0 type veth && exec unshare --user --map-root-user \"$@\"";
    command.args(["-n", "sh", "-c", script, "sh"]).arg(orlop.get_program()).args(orlop.get_args());
    command.current_dir(bundle.path()).stdin(Stdio::null());
    let said = bundle.finish(command).fails();
    assert!(
        said.contains("linux.netDevices.v0: operation not permitted: moving a device needs CAP_NET_ADMIN"),
        "{said}"
    );
    bundle.assert_nothing_of(&id);
}
