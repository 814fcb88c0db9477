//! **The story** of the host half of exec: one more process for a container that is there.
//!
//! Straight line, one clone, like its neighbour `launch`; there is only one thing to take back, the process itself. The
//! process is born in the container's cgroup; from before the clone on nobody may look into it (CVE-2016-9962).

use super::clone::{self, Child, Luggage};
use super::{Record, fds, oom, sentence, stages};
use crate::cgroup::Sub;
use crate::error::{Context, Error, Result};
use crate::facts::Facts;
use crate::log::Log;
use crate::plan::Plan;
use crate::plan::step::{Slot, Step, Sync};
use crate::plan::tenant::{self, Request};
use crate::state::{self, Held};
use crate::sys::exe::Rest;
use crate::sys::signal::End;
use crate::sys::{Answer, Errno, cred, file, socket, task, tty};
use crate::trace::Trace;
use crate::wire::{self, Message};
use oci_spec::runtime::{Linux, Process};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What is to be done.
#[derive(Debug)]
pub struct Job<'a> {
    /// What is remembered of the container.
    pub record: &'a Record,
    /// The process.
    pub process: &'a Process,
    /// `linux` of the container's configuration.
    pub linux: Option<&'a Linux>,
    /// `--console-socket`.
    pub console_socket: Option<&'a Path>,
    /// `--pidfd-socket`.
    pub pidfd_socket: Option<&'a Path>,
    /// `--pid-file`.
    pub pid_file: Option<&'a Path>,
    /// `--preserve-fds`.
    pub preserve_fds: u32,
    /// `--cgroup`.
    pub subs: &'a [Sub],
    /// Somebody waits for the process's end, and learns then how it ended.
    pub foreground: bool,
}

/// A process that joined a container.
#[derive(Debug)]
pub struct Tenant {
    /// The process.
    pub child: Child,
    /// The terminal's master, for a terminal in the foreground.
    pub terminal: Option<OwnedFd>,
}

/// Plans a process for a container.
///
/// # Errors
/// The process asks for what can't be.
pub fn plan(job: &Job<'_>) -> Result<Plan> {
    let process = job.process;
    let labels = process.apparmor_profile().is_some() || process.selinux_label().is_some();
    let request = Request {
        id: &job.record.id,
        process,
        linux: job.linux,
        console_socket: job.console_socket,
        no_new_keyring: job.record.no_new_keyring,
        preserve_fds: job.preserve_fds,
        privileged: cred::is_privileged(),
        placed_late: placed_late(job),
    };
    tenant::plan(&request, &Facts::ask(labels, false))
}

/// Whether the process may have to be moved: on v1; and by a user's systemd, which may do what the user may not.
fn placed_late(job: &Job<'_>) -> bool {
    let cgroup = &job.record.cgroup;
    cgroup.cgroup_paths.keys().any(|key| !key.is_empty()) || cgroup.systemd_unit.as_ref().is_some_and(|unit| unit.user)
}

/// Launches a process in a container: comes back when it runs. `rest` is what is left of the protection of our binary.
///
/// # Errors
/// Any step that failed; then there is no process.
pub fn launch(job: &Job<'_>, init: Held, rest: Option<Rest>, log: &Log) -> Result<Tenant> {
    let planning = log.span("plan");
    let plan = Box::leak(Box::new(plan(job)?));
    drop(planning);
    plan.notes.iter().for_each(|note| log.warn(note));
    plan.details.iter().for_each(|detail| log.debug(|| detail.clone()));
    let mut slots = fds::open(plan)?;
    let (first, place) = (init.pid.as_raw(), usize::from(Slot::INIT.0));
    if plan.steps.iter().any(|step| matches!(step, Step::EnterRoot)) {
        slots[usize::from(Slot::ROOT.0)] = Some(root(&init)?);
    }
    slots[place] = Some(init.into_pidfd());
    enter(plan, &mut slots, (job, first, rest), log).map_err(|error| {
        match slots[place].as_ref().map(|pidfd| ended(pidfd.as_fd())) {
            // whatever went wrong, that is why: no more processes in its pid namespace, nobody to join
            Some(Ok(true)) => error.context("cannot exec in a stopped container"),
            Some(Ok(false) | Err(_)) | None => error,
        }
    })
}

/// The root of the container's first process, whatever lies where the host had it.
fn root(init: &Held) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", init.pid);
    let what = || format!("open {path}");
    let name = CString::new(path.as_str()).map_err(|_| Error::msg(what()))?;
    let root = file::open(file::cwd(), &name, libc::O_PATH | libc::O_DIRECTORY, 0).context(what)?;
    // held since before: if it is there still, the number was its own all the while
    if ended(init.as_fd())? { Err(Error::msg("cannot exec in a stopped container")) } else { Ok(root) }
}

/// Whether the process that a pidfd means has ended.
fn ended(pidfd: BorrowedFd<'_>) -> Answer<bool> {
    tty::poll([(Some(pidfd), libc::POLLIN)], 0).map(|[ready]| ready != 0)
}

fn enter(
    plan: &'static mut Plan,
    slots: &mut [Option<OwnedFd>],
    (job, first, rest): (&Job<'_>, i32, Option<Rest>),
    log: &Log,
) -> Result<Tenant> {
    move_to(&plan.birth.affinity)?;
    let score = oom::lend(plan.oom_score_adj)?;
    cred::set_dumpable(false).context(|| "prctl(PR_SET_DUMPABLE, 0)")?;
    clone::join_keyring(plan)?;
    stages::clone(plan, log);
    let cloning = log.span("clone3");
    let (host, wire) = socket::pair().context(|| "socketpair")?;
    let marks = log.trace().map(Trace::marks);
    let (luggage, plan) = Luggage::new(plan, slots, wire.as_fd(), marks);
    let (child, inside) = born(luggage, job, first).map_err(|error| error.context(sentence::TENANT))?;
    drop(score);
    drop(wire);
    drop(cloning);
    stages::born(child.pid, plan, log);
    stages::about_to_exec(plan, log);
    let launch = Launch { plan, job, host: &host, slots, child: &child, inside };
    let waiting = log.span("accompany");
    let accompanied = launch.accompany(rest);
    drop(waiting);
    if let Some(trace) = log.trace() {
        trace.steps(child.pid, plan.steps.iter().map(ToString::to_string));
    }
    match accompanied {
        Ok(terminal) => Ok(Tenant { child, terminal }),
        Err(error) => {
            if let Err(left) = clone::end(&child) {
                log.warn(&format!("end the process after a failure: {left}"));
            }
            Err(error)
        }
    }
}

/// Where the process begins to run: where the document says; else wherever it may.
fn move_to(processors: &[u64]) -> Result<()> {
    if processors.is_empty() {
        task::roam();
        return Ok(());
    }
    task::set_affinity(processors).context(|| "sched_setaffinity (process.execCPUAffinity.initial)")
}

/// Has the process born in the container's cgroup. Where that takes none, because the payload has given its controllers on
/// to cgroups of its own, the first process is in one of these, and so will be this one.
fn born(luggage: Luggage, job: &Job<'_>, first: i32) -> Result<(Child, bool)> {
    let attempt = |cgroup: Option<&OwnedFd>| {
        let child = clone::birth(luggage, cgroup.map(AsFd::as_fd), |errno| Err(errno.into()))?;
        Ok((child, cgroup.is_some()))
    };
    let handle = &job.record.cgroup;
    let tried = handle.dir_fd(job.subs).and_then(|cgroup| attempt(cgroup.as_ref())).map_err(|error| {
        const PLACING: &str = "error adding pid of the process to cgroups";
        match (error.errno(), handle.dir(job.subs)) {
            // named as a write to the file would name it, which the kernel refuses for the same reasons
            (Some(errno @ (Errno::EBUSY | Errno::EOPNOTSUPP | Errno::ENODEV)), Ok(Some(dir))) => {
                let named = Error::from(errno).fact("syscall", "clone3").fact("path", dir.to_string_lossy());
                let named = named.context(format!("clone3 into {}/cgroup.procs", dir.display())).context(PLACING);
                match error.way_out() {
                    Some(hint) => named.hint(hint),
                    None => named,
                }
            }
            (Some(Errno::ENOENT), _) => error.context(PLACING),
            (Some(_) | None, _) => error,
        }
    });
    match tried.as_ref().err().and_then(Error::errno) {
        Some(Errno::EBUSY | Errno::ENOENT) if job.subs.is_empty() => {
            handle.dir_fd_of(first).and_then(|cgroup| attempt(cgroup.as_ref())).or(tried)
        }
        // rootless containers have the cgroup that they may have
        Some(Errno::EACCES | Errno::EPERM) if job.record.rootless && job.subs.is_empty() => attempt(None).or(tried),
        Some(_) | None => tried,
    }
}

/// What is wrong when a process ends before it has executed its program.
pub fn lost(record: &Record) -> impl Fn(Option<End>) -> Error {
    |end| sentence::tenant_vanished(end, &record.cgroup)
}

/// The host half beside a living child.
struct Launch<'a> {
    plan: &'a Plan,
    job: &'a Job<'a>,
    host: &'a OwnedFd,
    slots: &'a [Option<OwnedFd>],
    child: &'a Child,
    /// It was born in the container's cgroup2.
    inside: bool,
}

impl Launch<'_> {
    /// Everything from the clone to the moment when the payload runs. The pid file comes last: callers take it for success.
    fn accompany(&self, rest: Option<Rest>) -> Result<Option<OwnedFd>> {
        self.provide().map_err(|error| error.context(sentence::TENANT))?;
        // it takes a while, which we would wait anyway
        drop(rest);
        let terminal = self.attend()?;
        if let Some(path) = self.job.pid_file {
            state::replace(path, self.child.pid.to_string().as_bytes(), 0o666)?;
        }
        Ok(terminal)
    }

    /// What the child cannot do itself.
    fn provide(&self) -> Result<()> {
        let pid = self.child.pid;
        if self.waits_for(Sync::Mapped) {
            match self.job.record.cgroup.join(pid, self.job.subs, self.inside) {
                Err(error)
                    if self.job.record.rootless
                        && self.job.subs.is_empty()
                        && matches!(error.errno(), Some(Errno::EACCES | Errno::EPERM)) => {}
                answer => answer?,
            }
            self.go(Sync::Mapped)?;
        }
        oom::give(pid, self.plan.oom_score_adj, false)?;
        for limit in &self.plan.limits {
            task::set_limit(pid, limit.resource, limit.soft, limit.hard)
                .context(|| format!("prlimit({}, {}, {})", limit.name, limit.soft, limit.hard))?;
        }
        if self.waits_for(Sync::Ready) {
            self.go(Sync::Ready)?;
        }
        match self.job.pidfd_socket {
            Some(path) => super::send_pidfd(path, self.child, b"setns"),
            None => Ok(()),
        }
    }

    fn waits_for(&self, sync: Sync) -> bool {
        self.plan.steps.iter().any(|step| matches!(step, Step::Await(known) if *known == sync))
    }

    fn go(&self, sync: Sync) -> Result<()> {
        // a child that is gone is noticed by whoever listens next, with its reason
        match wire::tell(self.host.as_fd(), Message::Go(sync)) {
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(errno).context(|| "talk to the process"),
        }
    }

    /// Listens until the child has become the payload.
    fn attend(&self) -> Result<Option<OwnedFd>> {
        let mut terminal = None;
        loop {
            match wire::hear(self.host.as_fd()).context(|| "listen to the process")? {
                Some((Message::Handed(Slot::PTY), fd)) => terminal = fd,
                Some((Message::Handed(_), Some(fd))) => self.listener(&fd)?,
                Some((Message::Failed(failure), _)) => {
                    return Err(sentence::told(self.plan, failure, self.slots).context(sentence::TENANT));
                }
                Some((Message::Handed(_) | Message::Go(_) | Message::Reached(_), _)) => {
                    return Err(Error::msg("the process says what it can't say"));
                }
                None => return self.silence().map(|()| terminal),
            }
        }
    }

    /// The end of the stream: the payload runs, or the process is going. Whoever waits for its end learns of that then;
    /// for others the kernel's word counts, which has changed before execve closes the stream.
    fn silence(&self) -> Result<()> {
        if self.job.foreground || super::became_payload(self.child.pid)? {
            return Ok(());
        }
        Err(lost(self.job.record)(super::reap(self.child)?))
    }

    /// Sends the seccomp listener to the agent that the profile names: each process has a filter of its own.
    fn listener(&self, fd: &OwnedFd) -> Result<()> {
        let Some((path, metadata)) = &self.plan.listener else { return Err(Error::msg("a listener without a path")) };
        super::send_listener(path, metadata, fd, self.job.record, self.child.pid, "running")
    }
}
