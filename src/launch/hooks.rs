//! Runs the hooks of the host, and makes the state document that every hook reads.

use super::patience::{self, Told};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::annotation;
use crate::plan::hooks::{Planned, host};
use crate::state::Awaited;
use crate::sys::exec::Strings;
use crate::sys::paths::{self, Before};
use crate::sys::signal::End;
use crate::sys::{Errno, exec, file};
use oci_spec::runtime::Hook;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The state document of the spec (runtime.md, State), as hooks get it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateDocument<'a> {
    /// The version of the spec.
    pub oci_version: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// The container's status.
    pub status: &'a str,
    /// The pid in the pid namespace of the hook; absent if there is no process.
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: i32,
    /// The bundle.
    pub bundle: &'a Path,
    /// The annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference
fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

impl StateDocument<'_> {
    /// The document as bytes.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::msg(format!("write the state document: {error}")))
    }
}

/// Memory files as standard input, output and error of hooks. Nobody blocks on them, whatever a hook reads or writes, and
/// whatever it leaves running. Annotations may put files of the host in the place of the last two.
#[derive(Debug)]
pub struct Files {
    fds: [OwnedFd; 3],
    /// The output and the errors are files that keep what is in them.
    appends: [bool; 2],
}

/// How much of a hook's output goes into an error message, in bytes.
const MOST: usize = 4096;

impl Files {
    /// Creates empty files, or opens those that the annotations name.
    ///
    /// # Errors
    /// The kernel's answer; a file that is not taken.
    pub fn new(output: &[Option<PathBuf>; 2]) -> Result<Self> {
        let memory = || file::memfd(c"hook").context(|| "memfd_create");
        let open = |path: &Option<PathBuf>| match path {
            Some(path) => paths::output(path, Before::Stays, 0o600).map(OwnedFd::from).map_err(|error| {
                Error::from(error).context(format!("open {} for the output of hooks", path.display()))
            }),
            None => memory(),
        };
        let [stdout, stderr] = output;
        let appends = [stdout.is_some(), stderr.is_some()];
        Ok(Self { fds: [memory()?, open(stdout)?, open(stderr)?], appends })
    }

    /// The descriptors.
    pub(super) fn into_inner(self) -> [OwnedFd; 3] {
        self.fds
    }

    fn borrow(&self) -> [BorrowedFd<'_>; 3] {
        [self.fds[0].as_fd(), self.fds[1].as_fd(), self.fds[2].as_fd()]
    }
}

/// Writes the state document for a hook to read.
///
/// # Errors
/// The kernel's answer.
pub(super) fn fill(stdin: BorrowedFd<'_>, document: &StateDocument<'_>) -> Result<()> {
    let bytes = document.bytes()?;
    file::truncate(stdin)
        .and_then(|()| file::write(stdin, &bytes))
        .and_then(|()| file::rewind(stdin))
        .context(|| "write the state document")
}

/// What a hook has written.
pub(super) fn output(of: BorrowedFd<'_>) -> String {
    let mut buffer = [0; MOST];
    let length = file::rewind(of).and_then(|()| file::read(of, &mut buffer)).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// The error for a hook that failed, worded like runc's.
pub(super) fn failed(name: &str, program: &str, how: &str, stdout: &str, stderr: &str) -> Error {
    Error::msg(format!("error running {name}: {how}, stdout: {stdout}, stderr: {stderr}")).fact("path", program)
}

/// Names of signals, as Go has them, which runc prints.
const SIGNALS: &[(i32, &str)] = &[
    (libc::SIGHUP, "hangup"),
    (libc::SIGINT, "interrupt"),
    (libc::SIGQUIT, "quit"),
    (libc::SIGILL, "illegal instruction"),
    (libc::SIGTRAP, "trace/breakpoint trap"),
    (libc::SIGABRT, "aborted"),
    (libc::SIGBUS, "bus error"),
    (libc::SIGFPE, "floating point exception"),
    (libc::SIGKILL, "killed"),
    (libc::SIGUSR1, "user defined signal 1"),
    (libc::SIGSEGV, "segmentation fault"),
    (libc::SIGUSR2, "user defined signal 2"),
    (libc::SIGPIPE, "broken pipe"),
    (libc::SIGALRM, "alarm clock"),
    (libc::SIGTERM, "terminated"),
    (libc::SIGXCPU, "CPU time limit exceeded"),
    (libc::SIGXFSZ, "file size limit exceeded"),
    (libc::SIGSYS, "bad system call"),
];

/// How a hook ended, worded like runc's.
pub(super) fn how(end: Option<End>, timeout: Option<u32>) -> String {
    match end {
        None => format!("hook ran past specified timeout of {}.0s", timeout.unwrap_or_default()),
        Some(End::Exited(status)) => format!("exit status {status}"),
        Some(End::Killed(signal)) => match SIGNALS.iter().find(|(number, _)| *number == signal) {
            Some((_, name)) => format!("signal: {name}"),
            None => format!("signal: signal {signal}"),
        },
    }
}

/// Runs hooks one after another until one fails.
///
/// # Errors
/// Which hook failed, how, and what it wrote.
pub fn run(hooks: &[Planned], document: &StateDocument<'_>, told: Told<'_>) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let named = |key: &str| document.annotations.get(key).map(PathBuf::from);
    let files = Files::new(&[named(annotation::HOOKS_STDOUT), named(annotation::HOOKS_STDERR)])?;
    for hook in hooks {
        told.log.debug(|| format!("run {} {}", hook.name, hook.image));
        one(hook, &files, document, told)?;
    }
    Ok(())
}

fn one(hook: &Planned, files: &Files, document: &StateDocument<'_>, told: Told<'_>) -> Result<()> {
    let [stdin, stdout, stderr] = files.borrow();
    fill(stdin, document)?;
    for (output, appends) in [stdout, stderr].into_iter().zip(files.appends) {
        if !appends {
            file::truncate(output).context(|| "empty a hook's output")?;
        }
    }
    let image = &hook.image;
    let Some(path) = image.candidates.first() else { return Err(Error::msg("a hook without a program")) };
    let limit = hook.timeout.map(|seconds| Duration::from_secs(seconds.into()));
    let own = hook.inherits.then(environment);
    let envp = own.as_ref().unwrap_or(&image.envp);
    let awaited = || Awaited { phase: "hook".to_owned(), step: format!("{} {}", hook.name, image.program) };
    let mut broken_off = None;
    let mut wait = |pidfd: BorrowedFd<'_>, pid| {
        let ended = [(Some(pidfd), libc::POLLIN), (None, 0)];
        patience::until(ended, limit, told, &|| (awaited(), pid)).map(|[ended, _]| ended != 0).map_err(|error| {
            broken_off = Some(error);
            Errno::EINTR
        })
    };
    let end = exec::run(path, &image.argv, envp, [stdin, stdout, stderr], None, &mut wait).map_err(|errno| {
        broken_off.take().unwrap_or_else(|| {
            Error::from(errno).context(format!("error running {}: fork/exec {}", hook.name, image.program))
        })
    })?;
    if end == Some(End::Exited(0)) {
        return Ok(());
    }
    let how = how(end, hook.timeout);
    Err(failed(&hook.name, &image.program, &how, &output(stdout), &output(stderr)))
}

/// Our own environment.
fn environment() -> Strings {
    let variable = |(name, value): (OsString, OsString)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok() // the kernel gave it to us as such a string
    };
    Strings::new(std::env::vars_os().filter_map(variable).collect())
}

/// Runs `poststart` hooks of a record.
///
/// # Errors
/// As [`run`]; then the caller must end the container (runtime-spec 1.3).
pub fn poststart(hooks: &[Hook], document: &StateDocument<'_>, told: Told<'_>) -> Result<()> {
    run(&host("poststart", Some(hooks))?, document, told)
}

/// Runs all `poststop` hooks, whatever fails; failures are warnings (runtime.md, Lifecycle, step 13).
pub fn poststop(hooks: &[Hook], document: &StateDocument<'_>, told: Told<'_>) {
    let log = told.log;
    let planned = match host("poststop", Some(hooks)) {
        Ok(planned) => planned,
        Err(error) => return log.warn(&error.to_string()),
    };
    for hook in planned {
        if let Err(error) = run(std::slice::from_ref(&hook), document, told) {
            log.warn(&error.with_kind(Kind::Other).to_string());
        }
    }
}
