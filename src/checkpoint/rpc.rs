//! CRIU's RPC messages (its `rpc.proto`, proto2): the fields that orlop sets or reads, each under CRIU's own name.
//!
//! They are written by hand, so that no compiler of `.proto` files is needed to build orlop. A field that is not
//! here is skipped when it is received, as protobuf has it.

/// `criu_req_type`.
pub mod kind {
    /// Writes the images and, unless told to leave them running, ends the processes.
    pub const DUMP: i32 = 1;
    /// Makes the processes of the images.
    pub const RESTORE: i32 = 2;
    /// Writes the memory alone.
    pub const PRE_DUMP: i32 = 4;
    /// From criu: something is about to happen, or has; it waits for the answer.
    pub const NOTIFY: i32 = 6;
    /// Asks what the kernel can do.
    pub const FEATURE_CHECK: i32 = 9;
    /// Asks for the version.
    pub const VERSION: i32 = 10;
}

/// `criu_req`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// One of [`kind`].
    #[prost(int32, required, tag = "1")]
    pub kind: i32,
    /// What is asked for.
    #[prost(message, optional, tag = "2")]
    pub opts: Option<Opts>,
    /// The answer to a notification.
    #[prost(bool, optional, tag = "3")]
    pub notify_success: Option<bool>,
    /// What is asked about.
    #[prost(message, optional, tag = "5")]
    pub features: Option<Features>,
}

/// `criu_opts`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Opts {
    /// A descriptor of this process.
    #[prost(int32, required, tag = "1")]
    pub images_dir_fd: i32,
    /// The root of the processes to dump.
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
    /// Whether they go on after the dump.
    #[prost(bool, optional, tag = "3")]
    pub leave_running: Option<bool>,
    /// Whether sockets may be connected to processes outside.
    #[prost(bool, optional, tag = "4")]
    pub ext_unix_sk: Option<bool>,
    /// Whether established connections are kept.
    #[prost(bool, optional, tag = "5")]
    pub tcp_established: Option<bool>,
    /// Whether a device may have another path now.
    #[prost(bool, optional, tag = "6")]
    pub evasive_devices: Option<bool>,
    /// Whether session and terminal may be those of a shell outside.
    #[prost(bool, optional, tag = "7")]
    pub shell_job: Option<bool>,
    /// Whether file locks are kept.
    #[prost(bool, optional, tag = "8")]
    pub file_locks: Option<bool>,
    /// 4 is everything.
    #[prost(int32, optional, tag = "9")]
    pub log_level: Option<i32>,
    /// In the work directory.
    #[prost(string, optional, tag = "10")]
    pub log_file: Option<String>,
    /// Where memory is sent to.
    #[prost(message, optional, tag = "11")]
    pub ps: Option<PageServer>,
    /// Whether notifications are sent.
    #[prost(bool, optional, tag = "12")]
    pub notify_scripts: Option<bool>,
    /// The root file system.
    #[prost(string, optional, tag = "13")]
    pub root: Option<String>,
    /// Earlier images, relative to the directory of these.
    #[prost(string, optional, tag = "14")]
    pub parent_img: Option<String>,
    /// Whether changes of memory are tracked from now on.
    #[prost(bool, optional, tag = "15")]
    pub track_mem: Option<bool>,
    /// Whether pages that newer images have are dropped from older ones.
    #[prost(bool, optional, tag = "16")]
    pub auto_dedup: Option<bool>,
    /// A descriptor of this process.
    #[prost(int32, optional, tag = "17")]
    pub work_dir_fd: Option<i32>,
    /// Whether unlinked files may be linked again.
    #[prost(bool, optional, tag = "18")]
    pub link_remap: Option<bool>,
    /// Mounts that are not criu's business.
    #[prost(message, repeated, tag = "23")]
    pub ext_mnt: Vec<ExtMount>,
    /// What `manage_cgroups_mode` was before it had modes.
    #[prost(bool, optional, tag = "24")]
    pub manage_cgroups: Option<bool>,
    /// Where the processes' cgroups begin.
    #[prost(message, repeated, tag = "25")]
    pub cg_root: Vec<CgroupRoot>,
    /// Whether the restored process becomes this process's child.
    #[prost(bool, optional, tag = "26")]
    pub rst_sibling: Option<bool>,
    /// Descriptors of criu's that take the place of what the images name.
    #[prost(message, repeated, tag = "27")]
    pub inherit_fd: Vec<InheritFd>,
    /// `criu_cg_mode`.
    #[prost(int32, optional, tag = "34")]
    pub manage_cgroups_mode: Option<i32>,
    /// Resources outside, such as `net[4026531840]:key`.
    #[prost(string, repeated, tag = "37")]
    pub external: Vec<String>,
    /// CLONE_NEW* of namespaces whose contents are not kept.
    #[prost(uint32, optional, tag = "38")]
    pub empty_ns: Option<u32>,
    /// Namespaces to enter.
    #[prost(message, repeated, tag = "39")]
    pub join_ns: Vec<JoinNamespace>,
    /// The cgroup that stops the processes.
    #[prost(string, optional, tag = "44")]
    pub freeze_cgroup: Option<String>,
    /// Whether connections that are being made are left out.
    #[prost(bool, optional, tag = "46")]
    pub tcp_skip_in_flight: Option<bool>,
    /// Whether memory follows later.
    #[prost(bool, optional, tag = "48")]
    pub lazy_pages: Option<bool>,
    /// Whether the master of a terminal is sent here.
    #[prost(bool, optional, tag = "50")]
    pub orphan_pts_master: Option<bool>,
    /// More options, which count more than these.
    #[prost(string, optional, tag = "51")]
    pub config_file: Option<String>,
    /// Whether established connections are closed.
    #[prost(bool, optional, tag = "52")]
    pub tcp_close: Option<bool>,
    /// `TYPE:NAME`
    #[prost(string, optional, tag = "53")]
    pub lsm_profile: Option<String>,
    /// The context of mounts.
    #[prost(string, optional, tag = "63")]
    pub lsm_mount_context: Option<String>,
}

/// `criu_page_server_info`
#[derive(Clone, PartialEq, prost::Message)]
pub struct PageServer {
    /// Its address.
    #[prost(string, optional, tag = "1")]
    pub address: Option<String>,
    /// Its TCP port.
    #[prost(int32, optional, tag = "2")]
    pub port: Option<i32>,
}

/// `ext_mount_map`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExtMount {
    /// For a dump the mount point, for a restore the name that the dump gave it.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// For a dump its name, for a restore the source.
    #[prost(string, required, tag = "2")]
    pub val: String,
}

/// `cgroup_root`
#[derive(Clone, PartialEq, prost::Message)]
pub struct CgroupRoot {
    /// The controllers of the hierarchy.
    #[prost(string, optional, tag = "1")]
    pub ctrl: Option<String>,
    /// Below the hierarchy's root.
    #[prost(string, required, tag = "2")]
    pub path: String,
}

/// `inherit_fd`
#[derive(Clone, PartialEq, prost::Message)]
pub struct InheritFd {
    /// What the images call it.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// criu's descriptor.
    #[prost(int32, required, tag = "2")]
    pub fd: i32,
}

/// `join_namespace`
#[derive(Clone, PartialEq, prost::Message)]
pub struct JoinNamespace {
    /// Its kind, as below /proc/PID/ns.
    #[prost(string, required, tag = "1")]
    pub ns: String,
    /// Its path.
    #[prost(string, required, tag = "2")]
    pub ns_file: String,
}

/// `criu_features`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Features {
    /// Changes of memory can be tracked.
    #[prost(bool, optional, tag = "1")]
    pub mem_track: Option<bool>,
    /// Memory can follow later.
    #[prost(bool, optional, tag = "2")]
    pub lazy_pages: Option<bool>,
}

/// `criu_resp`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// One of [`kind`].
    #[prost(int32, required, tag = "1")]
    pub kind: i32,
    /// Whether it has been done.
    #[prost(bool, required, tag = "2")]
    pub success: bool,
    /// What a notification says.
    #[prost(message, optional, tag = "5")]
    pub notify: Option<Notify>,
    /// Why it has not been done.
    #[prost(int32, optional, tag = "7")]
    pub cr_errno: Option<i32>,
    /// What the kernel can do.
    #[prost(message, optional, tag = "8")]
    pub features: Option<Features>,
    /// Why it has not been done, in words.
    #[prost(string, optional, tag = "9")]
    pub cr_errmsg: Option<String>,
    /// The version.
    #[prost(message, optional, tag = "10")]
    pub version: Option<Version>,
}

/// `criu_notify`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Notify {
    /// What is happening, such as `post-restore`.
    #[prost(string, optional, tag = "1")]
    pub script: Option<String>,
    /// The first process that has been restored.
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
}

/// `criu_version`
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Version {
    /// 3 of 3.17.1
    #[prost(int32, required, tag = "1")]
    pub major_number: i32,
    /// 17 of 3.17.1
    #[prost(int32, required, tag = "2")]
    pub minor_number: i32,
    /// 1 of 3.17.1
    #[prost(int32, optional, tag = "4")]
    pub sublevel: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn messages_have_the_numbers_of_rpc_proto() {
        let opts =
            Opts { images_dir_fd: 5, ext_mnt: vec![ExtMount { key: "/a".into(), val: "b".into() }], ..Opts::default() };
        let request = Request { kind: kind::DUMP, opts: Some(opts), ..Request::default() };
        assert_eq!(request.encode_to_vec(), b"\x08\x01\x12\x0c\x08\x05\xba\x01\x07\x0a\x02/a\x12\x01b");
    }

    #[test]
    fn what_is_not_known_is_skipped() {
        // A version with gitid (3) and name (6).
        let bytes = b"\x08\x0a\x10\x01\x52\x0a\x08\x04\x10\x02\x1a\x01g\x20\x01\x32\x00";
        let mut bytes = bytes.to_vec();
        bytes[5] = (bytes.len() - 6) as u8;
        let response = Response::decode(bytes.as_slice()).unwrap();
        assert_eq!(response.version, Some(Version { major_number: 4, minor_number: 2, sublevel: Some(1) }));
    }
}
