//! onggi: a low-level OCI container runtime.
//!
//! The program is what is meant to be used (`onggi --help`). As a library it offers two things that need no privileges and
//! have no effect: what a start of a container would do, as a list of steps ([`plan`]), and a seccomp profile as a BPF program
//! ([`plan::seccomp`]).
//!
//! ```
//! use onggi::{Facts, plan};
//!
//! // a profile of linux.seccomp, for x86_64
//! let profile = serde_json::from_str(
//!     r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]}"#,
//! )?;
//! let filter = plan::seccomp::compile(&profile, plan::seccomp::Arch::X86_64, "linux.seccomp")?;
//! assert!(!filter.program.is_empty());
//!
//! // what root would do to run a bundle
//! let text = r#"{"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["sh"]}}"#;
//! let config = plan::parse(text.into(), "config.json".as_ref())?;
//! let config = plan::check(config, "/bundle".as_ref(), true)?;
//! let request = plan::container::Request {
//!     id: "example",
//!     options: &plan::request::StartOptions::default(),
//!     notify: None,
//!     cgroups: &plan::mounts::CgroupTree::Unified(None),
//!     delegate: None,
//!     placed_late: false,
//! };
//! let machine = Facts { root: true, ..Facts::default() };
//! let plan = plan::container::plan(&config, &request, &machine)?;
//! println!("{}", plan::show::text(&plan, &plan::cgroup::CgroupPlan::default()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything else is private, so that the compiler shows what nobody uses. The modules stand in the order in which a
//! container is started: the command line, the bundle, the machine, the plan made of these, the host half (parent) that
//! carries it out, the child half that carries out its steps.

mod cli;

mod spec;

mod facts;

pub mod plan;

mod launch;

mod cgroup;

mod sync_socket;

mod init;

mod state;

mod criu;

mod cmd;

mod abi;
mod error;
mod log;
mod sys;
mod trace;

pub use error::{Error, Kind, Result};
pub use facts::{Facts, Lsm};

/// What `src/main.rs` uses; no interface for others.
#[doc(hidden)]
pub mod program {
    pub mod cli {
        pub use crate::cli::{Call, Global, Misuse, clap_command, parse};
    }
    pub mod cmd {
        pub use crate::cmd::run;
    }
    pub mod log {
        pub use crate::log::Log;
    }
    pub mod trace {
        pub use crate::trace::Trace;
    }
    pub mod sys {
        pub use crate::sys::alloc::Arena;
        pub use crate::sys::cred::is_above_caller;
        pub use crate::sys::entry::{arguments, begin};
    }
}

/// What the fuzz targets use beside the plan (`fuzz/`); no interface for others.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::cli::parse;
    pub mod spec {
        pub use crate::spec::{check, check_process, config, load_process, looks_for_network, resources, template};
    }
    pub mod state {
        pub use crate::cgroup::Cgroup;
        pub use crate::state::{Record, Status, check_id};
    }
}
