//! The messages of CRIU's RPC (`rpc.proto` of CRIU, protocol buffers version 2) that we use. Field numbers are CRIU's and
//! never change; fields that are missing here are never sent, and are ignored when received.

use prost::Message;

/// Kinds of requests and responses (`criu_req_type`).
pub mod kind {
    /// Checkpoint.
    pub const DUMP: i32 = 1;
    /// Restore.
    pub const RESTORE: i32 = 2;
    /// Checkpoint only the memory; the processes run on.
    pub const PRE_DUMP: i32 = 4;
    /// A notification while CRIU works, and our answer.
    pub const NOTIFY: i32 = 6;
    /// Which features CRIU and the kernel have.
    pub const FEATURE_CHECK: i32 = 9;
    /// Which CRIU it is.
    pub const VERSION: i32 = 10;

    /// CRIU's name for it.
    #[must_use]
    pub fn name(kind: i32) -> &'static str {
        match kind {
            DUMP => "DUMP",
            RESTORE => "RESTORE",
            PRE_DUMP => "PRE_DUMP",
            NOTIFY => "NOTIFY",
            FEATURE_CHECK => "FEATURE_CHECK",
            VERSION => "VERSION",
            _ => "EMPTY",
        }
    }
}

/// How cgroups are checkpointed and restored (`criu_cg_mode`).
pub mod cgroup_mode {
    /// Not at all.
    pub const IGNORE: i32 = 0;
    /// Properties of cgroups that CRIU makes.
    pub const SOFT: i32 = 3;
    /// Properties of all.
    pub const FULL: i32 = 4;
    /// Like full, and the cgroups must not exist before.
    pub const STRICT: i32 = 5;
}

/// A key and a value.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Pair {
    /// What CRIU calls it.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// What it is.
    #[prost(string, required, tag = "2")]
    pub val: String,
}

/// A descriptor that replaces one of the saved processes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InheritFd {
    /// What CRIU calls it.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// Its number in CRIU's process.
    #[prost(int32, required, tag = "2")]
    pub fd: i32,
}

/// Where saved cgroups are to lie.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CgroupRoot {
    /// The hierarchy.
    #[prost(string, optional, tag = "1")]
    pub controller: Option<String>,
    /// The cgroup, seen from the hierarchy's root.
    #[prost(string, required, tag = "2")]
    pub path: String,
}

/// Who takes the memory pages.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PageServer {
    /// Its address.
    #[prost(string, optional, tag = "1")]
    pub address: Option<String>,
    /// Its port.
    #[prost(int32, optional, tag = "2")]
    pub port: Option<i32>,
}

/// How to do it (`criu_opts`). The names are CRIU's.
#[derive(Clone, PartialEq, Eq, Message)]
#[allow(missing_docs, reason = "criu(8) explains its options, and these have their names")]
pub struct Options {
    #[prost(int32, required, tag = "1")]
    pub images_dir_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub leave_running: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub ext_unix_sk: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub tcp_established: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub evasive_devices: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub shell_job: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub log_level: Option<i32>,
    #[prost(string, optional, tag = "10")]
    pub log_file: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub page_server: Option<PageServer>,
    #[prost(bool, optional, tag = "12")]
    pub notify_scripts: Option<bool>,
    #[prost(string, optional, tag = "13")]
    pub root: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub parent_img: Option<String>,
    #[prost(bool, optional, tag = "15")]
    pub track_mem: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub auto_dedup: Option<bool>,
    #[prost(int32, optional, tag = "17")]
    pub work_dir_fd: Option<i32>,
    #[prost(bool, optional, tag = "18")]
    pub link_remap: Option<bool>,
    #[prost(message, repeated, tag = "23")]
    pub ext_mnt: Vec<Pair>,
    #[prost(bool, optional, tag = "24")]
    pub manage_cgroups: Option<bool>,
    #[prost(message, repeated, tag = "25")]
    pub cg_root: Vec<CgroupRoot>,
    #[prost(bool, optional, tag = "26")]
    pub rst_sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub inherit_fd: Vec<InheritFd>,
    #[prost(int32, optional, tag = "34")]
    pub manage_cgroups_mode: Option<i32>,
    #[prost(string, repeated, tag = "37")]
    pub external: Vec<String>,
    #[prost(uint32, optional, tag = "38")]
    pub empty_ns: Option<u32>,
    #[prost(string, optional, tag = "44")]
    pub freeze_cgroup: Option<String>,
    #[prost(bool, optional, tag = "46")]
    pub tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub lazy_pages: Option<bool>,
    #[prost(int32, optional, tag = "49")]
    pub status_fd: Option<i32>,
    #[prost(bool, optional, tag = "50")]
    pub orphan_pts_master: Option<bool>,
    #[prost(string, optional, tag = "51")]
    pub config_file: Option<String>,
    #[prost(string, optional, tag = "53")]
    pub lsm_profile: Option<String>,
    #[prost(string, optional, tag = "63")]
    pub lsm_mount_context: Option<String>,
}

/// What CRIU and the kernel are able to do together.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Features {
    /// The kernel tells which pages were written.
    #[prost(bool, optional, tag = "1")]
    pub mem_track: Option<bool>,
    /// Pages can be fetched when they are touched (`userfaultfd(2)`).
    #[prost(bool, optional, tag = "2")]
    pub lazy_pages: Option<bool>,
}

/// What is asked of CRIU.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Request {
    /// See [`kind`].
    #[prost(int32, required, tag = "1")]
    pub kind: i32,
    /// How.
    #[prost(message, optional, tag = "2")]
    pub options: Option<Options>,
    /// The answer to a notification.
    #[prost(bool, optional, tag = "3")]
    pub notify_success: Option<bool>,
    /// Which ones are asked about.
    #[prost(message, optional, tag = "5")]
    pub features: Option<Features>,
}

/// A restored container.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Restored {
    /// Its first process.
    #[prost(int32, required, tag = "1")]
    pub pid: i32,
}

/// A moment in CRIU's work.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Notification {
    /// Which moment.
    #[prost(string, optional, tag = "1")]
    pub script: Option<String>,
    /// The first process, where it is there.
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
}

/// Which CRIU it is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Version {
    /// 4 of 4.1.2
    #[prost(int32, required, tag = "1")]
    pub major: i32,
    /// 1 of 4.1.2
    #[prost(int32, required, tag = "2")]
    pub minor: i32,
    /// Built between two versions.
    #[prost(string, optional, tag = "3")]
    pub gitid: Option<String>,
    /// 2 of 4.1.2
    #[prost(int32, optional, tag = "4")]
    pub sublevel: Option<i32>,
}

/// What CRIU answers.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Response {
    /// See [`kind`].
    #[prost(int32, required, tag = "1")]
    pub kind: i32,
    /// Whether it was done.
    #[prost(bool, required, tag = "2")]
    pub success: bool,
    /// Of RESTORE.
    #[prost(message, optional, tag = "4")]
    pub restore: Option<Restored>,
    /// Of NOTIFY.
    #[prost(message, optional, tag = "5")]
    pub notify: Option<Notification>,
    /// What CRIU takes for the reason.
    #[prost(int32, optional, tag = "7")]
    pub errno: Option<i32>,
    /// Of `FEATURE_CHECK`.
    #[prost(message, optional, tag = "8")]
    pub features: Option<Features>,
    /// CRIU's own sentence.
    #[prost(string, optional, tag = "9")]
    pub message: Option<String>,
    /// Of VERSION.
    #[prost(message, optional, tag = "10")]
    pub version: Option<Version>,
}
