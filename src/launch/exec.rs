//! **The host half** of `exec`: one more process in an existing container.
//!
//! One clone, as in `launch`. The only thing to undo is the process itself. It starts in the container's cgroup, and is undumpable
//! from before the clone on (CVE-2016-9962).

use super::accompany::Accompany;
use super::init_error::EXEC;
use super::prepare::write_pid_file;
use super::spawn::{Child, Spawn, end};
use super::{Mode, Record, Undo, debug_log, fds, init_error, oom};
use crate::cgroup::{Cgroup, SubCgroup};
use crate::error::{Context, Error, Result};
use crate::facts::Facts;
use crate::log::Log;
use crate::plan::Plan;
use crate::plan::annotation::{self, DELEGATE, SUBGROUP};
use crate::plan::exec::{self, Request};
use crate::plan::request::StartOptions;
use crate::plan::step::{Slot, Step, Sync};
use crate::spec::Checked;
use crate::state::Held;
use crate::sys::exe::ExeProtection;
use crate::sys::signal::End;
use crate::sys::{Answer, Errno, cred, file, wait};
use oci_spec::runtime::{Linux, Process};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A process to be started in a container.
#[derive(Debug)]
pub struct Job<'a> {
    /// The container's record.
    pub record: &'a Record,
    /// What it is planned from.
    pub request: Request<'a>,
    /// `--cgroup`.
    pub subs: &'a [SubCgroup],
}

impl<'a> Job<'a> {
    /// A process of a container: `linux` is of the container's config.json, and `options.no_new_keyring` is what the container
    /// was created with.
    #[must_use]
    pub fn new(
        record: &'a Record,
        process: &'a Checked<Process>,
        linux: Option<&'a Linux>,
        options: &'a StartOptions,
        subs: &'a [SubCgroup],
    ) -> Self {
        let (privileged, placed_late) = (cred::is_privileged(), placed_late(&record.cgroup));
        let keeps_groups = record.annotations.contains_key(annotation::KEEP_GROUPS);
        let request = Request { id: &record.id, process, linux, options, privileged, keeps_groups, placed_late };
        Self { record, request, subs }
    }
}

/// A process that was started in a container.
#[derive(Debug)]
pub struct Exec {
    /// The process.
    pub child: Child,
    /// The terminal's master, for a terminal in the foreground.
    pub terminal: Option<OwnedFd>,
}

/// Plans a process for a container.
///
/// # Errors
/// The process asks for something impossible.
pub fn plan(job: &Job<'_>) -> Result<Plan> {
    let process = job.request.process;
    let labels = process.apparmor_profile().is_some() || process.selinux_label().is_some();
    exec::plan(&job.request, &Facts::ask(labels, false))
}

/// Whether the process must be moved into its cgroups after the clone: on v1; or by the user's systemd, because the user lacks
/// the permission.
fn placed_late(cgroup: &Cgroup) -> bool {
    cgroup.cgroup_paths.keys().any(|key| !key.is_empty()) || cgroup.systemd_unit.as_ref().is_some_and(|unit| unit.user)
}

/// Launches a process in a container: returns when it runs.
///
/// # Errors
/// Any step that failed; then there is no process.
pub fn launch(job: &Job<'_>, init: Held, protection: ExeProtection, log: &Log) -> Result<Exec> {
    let planning = log.span("plan");
    let plan = Box::leak(Box::new(plan(job)?));
    drop(planning);
    plan.notes.iter().for_each(|note| log.warn(note));
    plan.details.iter().for_each(|detail| log.debug(|| detail.clone()));
    let mut slots = fds::open(plan)?;
    let (first, at) = (init.pid.as_raw(), Slot::INIT.index());
    if plan.steps.iter().any(|step| matches!(step, Step::EnterRoot)) {
        slots[Slot::ROOT.index()] = Some(root(&init)?);
    }
    slots[at] = Some(init.into_pidfd());
    start(plan, &mut slots, job, first, protection, log).map_err(|error| {
        match slots[at].as_ref().map(|pidfd| ended(pidfd.as_fd())) {
            // the reason for whatever failed: a pid namespace without its init takes no more processes
            Some(Ok(true)) => error.context("cannot exec in a stopped container"),
            Some(Ok(false) | Err(_)) | None => error,
        }
    })
}

/// The root of the container's first process. Not opened by its path on the host, where the container may have put anything.
pub(super) fn root(init: &Held) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", init.pid);
    let what = || format!("open {path}");
    let name = CString::new(path.as_str()).map_err(|_| Error::msg(what()))?;
    let root = file::open(file::cwd(), &name, libc::O_PATH | libc::O_DIRECTORY, 0).context(what)?;
    // we hold its pidfd: if it has not ended by now, the pid was not reused
    if ended(init.as_fd())? { Err(Error::msg("cannot exec in a stopped container")) } else { Ok(root) }
}

/// Whether the process of a pidfd has ended.
fn ended(pidfd: BorrowedFd<'_>) -> Answer<bool> {
    wait::events([(Some(pidfd), libc::POLLIN)], 0).map(|[ready]| ready != 0)
}

/// Starts the process. `first` is the pid of the container's first process.
fn start(
    plan: &'static mut Plan,
    slots: &mut [Option<OwnedFd>],
    job: &Job<'_>,
    first: i32,
    protection: ExeProtection,
    log: &Log,
) -> Result<Exec> {
    // before we become undumpable: then our own files in /proc belong to root
    let score = oom::lend(plan.oom_score_adj)?;
    cred::set_dumpable(false).context(|| "prctl(PR_SET_DUMPABLE, 0)")?;
    let mut spawn = Spawn::prepare(plan, slots, None, log)?;
    let (child, in_cgroup) = clone_into_cgroup(&mut spawn, job, first).map_err(|error| error.context(EXEC))?;
    let (socket, plan) = spawn.finish(&child, log);
    drop(score);
    debug_log::about_to_exec(plan, log);
    let mut undo = Undo::new(log);
    undo.push("end the process", || end(&child));
    let (socket, foreground) = (&socket, job.request.options.foreground());
    let accompany = Accompany { mode: Mode::Exec, plan, child: &child, socket, slots, foreground, dir: None, log };
    let started = log.span("accompany");
    let terminal = provide(&accompany, job, in_cgroup)
        .map_err(|error| error.context(EXEC))
        .and_then(|()| accompany.answer_init(job.record, protection))
        .and_then(|terminal| write_pid_file(job.request.options.pid_file.as_deref(), child.pid).map(|()| terminal));
    drop(started);
    debug_log::trace(None, child.pid, plan, log);
    let terminal = terminal?;
    undo.disarm();
    Ok(Exec { child, terminal })
}

/// Does what the process cannot do itself.
fn provide(accompany: &Accompany<'_>, job: &Job<'_>, in_cgroup: bool) -> Result<()> {
    let pid = accompany.child.pid;
    if accompany.waits_for(Sync::Mapped) {
        match job.record.cgroup.join(pid, job.subs, in_cgroup) {
            Err(error) if stays_outside(job, &error) => {}
            answer => answer?,
        }
        accompany.go(Sync::Mapped)?;
    }
    oom::give(pid, accompany.plan.oom_score_adj, false)?;
    accompany.set_limits()?;
    job.request.options.pidfd_socket.as_ref().map_or(Ok(()), |path| super::send_pidfd(path, accompany.child, b"setns"))
}

/// Whether the process may stay in our own cgroup: in a rootless container, if the caller lacks the permission.
fn stays_outside(job: &Job<'_>, error: &Error) -> bool {
    job.record.rootless && job.subs.is_empty() && matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM))
}

/// Spawns the process in the container's cgroup. If that takes no processes, because the payload has enabled controllers for
/// cgroups below it, the process is spawned in the cgroup of the first process; so it is where annotations have moved that one.
/// Also returns whether it is in a cgroup of the container.
fn clone_into_cgroup(spawn: &mut Spawn<'_>, job: &Job<'_>, first: i32) -> Result<(Child, bool)> {
    let mut attempt = |cgroup: Option<&OwnedFd>| {
        let child = spawn.clone3(cgroup.map(AsFd::as_fd))?;
        Ok((child, cgroup.is_some()))
    };
    let handle = &job.record.cgroup;
    let moved = [SUBGROUP, DELEGATE].iter().any(|key| job.record.annotations.get(*key).is_some_and(|v| !v.is_empty()));
    let cgroup = if moved && job.subs.is_empty() { handle.dir_fd_of(first) } else { handle.dir_fd(job.subs) };
    let tried = cgroup.and_then(|cgroup| attempt(cgroup.as_ref()));
    let tried = tried.map_err(|error| refused(error, job));
    match tried {
        Err(error) if job.subs.is_empty() && matches!(error.errno(), Some(Errno::EBUSY | Errno::ENOENT)) => {
            handle.dir_fd_of(first).and_then(|cgroup| attempt(cgroup.as_ref())).map_err(|_| error)
        }
        Err(error) if stays_outside(job, &error) => attempt(None).map_err(|_| error),
        tried => tried,
    }
}

/// The error for a cgroup that does not take the process, worded like a failed write to `cgroup.procs`, as in runc: the reasons are
/// the same.
fn refused(error: Error, job: &Job<'_>) -> Error {
    const PLACING: &str = "error adding pid of the process to cgroups";
    match (error.errno(), job.record.cgroup.dir(job.subs)) {
        (Some(errno @ (Errno::EBUSY | Errno::EOPNOTSUPP | Errno::ENODEV)), Ok(Some(dir))) => {
            let named = Error::from(errno).fact("syscall", "clone3").fact("path", dir.to_string_lossy());
            let named = named.context(format!("clone3 into {}/cgroup.procs", dir.display())).context(PLACING);
            match error.hint() {
                Some(hint) => named.with_hint(hint),
                None => named,
            }
        }
        (Some(Errno::ENOENT), _) => error.context(PLACING),
        (Some(_) | None, _) => error,
    }
}

/// The error for a process that ends before it has executed its program.
pub fn lost(record: &Record) -> impl Fn(Option<End>) -> Error {
    |end| init_error::vanished(Mode::Exec, end, &record.cgroup)
}
