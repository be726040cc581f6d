//! Shorthands for what tests change in config.json.

use serde_json::{Value, json};

use super::Bundle;

impl Bundle {
    /// A bundle whose root file system can be written.
    pub fn writable(script: &str) -> Bundle {
        let mut bundle = Bundle::new(script);
        bundle.config["root"]["readonly"] = json!(false);
        bundle
    }

    /// A bundle whose program waits until it is killed.
    pub fn sleeping() -> Bundle {
        Bundle::writable("trap 'exit 15' TERM; trap 'exit 10' USR1; while :; do sleep 0.02; done")
    }

    /// Sets `process.args`.
    pub fn args(&mut self, args: &[&str]) {
        self.config["process"]["args"] = json!(args);
    }

    /// Adds a variable to the program's environment.
    pub fn env(&mut self, pair: &str) {
        push(&mut self.config["process"]["env"], json!(pair));
    }

    /// Adds a mount.
    pub fn mount(&mut self, dest: &str, kind: &str, source: &str, options: &[&str]) {
        let mount = json!({ "destination": dest, "type": kind, "source": source, "options": options });
        push(&mut self.config["mounts"], mount);
    }

    /// Adds a namespace in the place of the one of that kind: a new one, or the one at `path`.
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) {
        self.without_namespace(kind);
        let namespace = match path {
            Some(path) => json!({ "type": kind, "path": path }),
            None => json!({ "type": kind }),
        };
        push(&mut self.config["linux"]["namespaces"], namespace);
    }

    /// Shares the host's namespace of that kind.
    pub fn without_namespace(&mut self, kind: &str) {
        let list = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != kind);
    }

    /// A new user namespace whose root is `host` outside, and owns the root directory.
    pub fn user_namespace(&mut self, host: u32) {
        self.namespace("user", None);
        std::os::unix::fs::chown(self.rootfs(), Some(host), Some(host)).unwrap();
        let map = json!([{ "containerID": 0, "hostID": host, "size": 65536 }]);
        self.config["linux"]["uidMappings"] = map.clone();
        self.config["linux"]["gidMappings"] = map;
    }

    /// Adds a hook that runs a shell script of the host (of the container for startContainer).
    pub fn hook(&mut self, kind: &str, script: &str) {
        push(&mut self.config["hooks"][kind], json!({ "path": "/bin/sh", "args": ["sh", "-c", script] }));
    }

    /// Sets all capability sets but the ambient one.
    pub fn capabilities(&mut self, names: &[&str]) {
        self.config["process"]["capabilities"] = json!({ "bounding": names, "effective": names, "permitted": names });
    }
}

fn push(list: &mut Value, item: Value) {
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().unwrap().push(item);
}
