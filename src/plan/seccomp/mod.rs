//! `linux.seccomp` as a BPF program: `profile` reads it, `rules` sorts it by number, `dispatch`, `search` and `condition`
//! write it down, `program` assembles. Depends on the spec's types and the kernel's words, makes no call.
//!
//! The verdicts are those of runc with libseccomp, which the tests compare call by call (`tests/seccomp_diff`).

mod arch;
mod condition;
mod dispatch;
mod names;
mod profile;
mod program;
mod rules;
mod search;
mod table;

pub use arch::Arch;

use crate::error::{Error, Result};
use oci_spec::runtime::LinuxSeccomp;
use profile::Profile;
use seccompiler::sock_filter;
use std::path::PathBuf;

/// A compiled profile, ready for `seccomp(SECCOMP_SET_MODE_FILTER)`.
#[derive(Debug)]
pub struct Filter {
    /// The program: an array that `struct sock_fprog` can point to, of at most 4096 instructions.
    pub program: Vec<sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*` of seccomp(2).
    pub flags: u32,
    /// Who gets the notify descriptor; there if and only if the flags have `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
    pub listener: Option<Listener>,
    /// What was left out of the program because nothing on this machine could meet it: for the debug log.
    pub notes: Vec<String>,
}

/// The agent that answers `SCMP_ACT_NOTIFY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its socket, a path of the host (`listenerPath`).
    pub path: PathBuf,
    /// What it is told about the container (`listenerMetadata`), or nothing.
    pub metadata: String,
}

/// Compiles a profile for this machine; `path` is its JSON path, which errors begin with.
///
/// # Errors
/// A mistake in the profile, with the JSON path of the value; a profile that needs more than 4096 instructions.
pub fn filter(seccomp: &LinuxSeccomp, path: &str) -> Result<Filter> {
    match Arch::NATIVE {
        Some(native) => compile(seccomp, native, path),
        None => Err(Error::spec(path, "seccomp profiles are not supported on this architecture")),
    }
}

/// Compiles a profile for a machine whose kernel is of the architecture `native`.
///
/// # Errors
/// As [`filter`].
pub fn compile(seccomp: &LinuxSeccomp, native: Arch, path: &str) -> Result<Filter> {
    let profile = Profile { seccomp, path };
    let default = profile.default()?;
    let mut notes = Vec::new();
    let archs = profile.architectures(native, &mut notes);
    let sorted = profile.sort(&archs, default, &mut notes)?;
    let (flags, listener) = profile.listener(sorted.notifies)?;
    let program = dispatch::write(&sorted, default, profile.newer());
    if program.len() > program::MOST {
        let message = format!("needs {} instructions, the kernel takes {}", program.len(), program::MOST);
        return Err(Error::spec(path, message));
    }
    Ok(Filter { program, flags, listener, notes })
}
