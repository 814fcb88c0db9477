//! **The story** of the host half: from a loaded bundle to a container that runs, or waits for `start`.
//!
//! Straight line, one clone. Every effect pushes its undo; success disarms it. What the child does not need before it
//! mounts (limits, record, pid file) is done while it mounts.

mod clone;
pub mod console;
mod ended;
mod fds;
pub mod gate;
pub mod hooks;
mod idmap;
mod line;
mod network;
pub mod notify;
mod oom;
mod record;
pub mod root;
mod seal;
mod send;
mod sentence;
mod stages;
pub mod tenant;
mod undo;

use clone::Luggage;
pub use clone::{Child, begin_network, reap};
use ended::became_payload;
pub use ended::lost;
pub use fds::check_preserved;
use line::Line;
use record::inner_pid;
pub use record::{document, record, settle};
pub use seal::SEAL;
use seal::Sealing;
pub use send::{send_listener, send_pidfd};
pub use undo::Undo;

use crate::abi::ns::Namespace;
use crate::cgroup;
use crate::cgroup::Handle;
use crate::error::{Context, Error, Result};
use crate::facts::Facts;
use crate::log::Log;
use crate::plan::cgroup::{CgroupPlan, Driver, Rootless};
use crate::plan::container::{self, Request};
use crate::plan::mounts::CgroupTree;
use crate::plan::step::{Slot, Step, Sync};
use crate::plan::{self, Plan};
use crate::spec::Loaded;
use crate::state::{self, Announced, Root};
use crate::sys::exe::View;
use crate::sys::netns::Ahead;
use crate::sys::{cred, socket, task};
use crate::trace::Trace;
use crate::wire::{self, Message};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What is to be launched.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Where containers are remembered.
    pub root: &'a Root,
    /// The bundle, absolute.
    pub bundle: &'a Path,
    /// Its configuration.
    pub loaded: &'a Loaded<Spec>,
    /// `create`: init waits for `start`.
    pub gate: bool,
    /// Somebody waits for the payload's end, and learns then how it ended.
    pub foreground: bool,
    /// Who makes cgroups.
    pub driver: Driver,
    /// Permission errors of cgroups are forgiven where nothing was asked of them.
    pub rootless: Rootless,
    /// `--console-socket`.
    pub console_socket: Option<&'a Path>,
    /// `--pidfd-socket`.
    pub pidfd_socket: Option<&'a Path>,
    /// `--pid-file`.
    pub pid_file: Option<&'a Path>,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// `--preserve-fds` and `LISTEN_FDS`.
    pub preserve_fds: u32,
    /// `LISTEN_FDS`.
    pub listen_fds: u32,
    /// The caller's `NOTIFY_SOCKET`.
    pub notify: Option<PathBuf>,
    /// The network namespace, if it was begun on the strength of a look at the bundle.
    pub network: Option<&'static Ahead>,
}

/// What is remembered of a container.
pub type Record = state::Record<Handle>;

/// runc's words for a container that nothing holds together.
const NO_GRIP: &str = "Creating a rootless container with no cgroup and no private pid namespace. Such configuration \
                       is strongly discouraged (as it is impossible to properly kill all container's processes).";

/// A launched container.
#[derive(Debug)]
pub struct Launched {
    /// Its first process.
    pub child: Child,
    /// Its directory and record.
    pub container: state::Container<Handle>,
    /// The terminal's master, for a terminal in the foreground.
    pub terminal: Option<OwnedFd>,
    /// The notify socket of a container that runs already.
    pub relay: Option<notify::Relay>,
}

/// Plans a bundle against this machine, for `plan` and for [`launch`].
///
/// # Errors
/// The bundle asks for what can't be.
pub fn plan(job: &Job<'_>) -> Result<(Plan, CgroupPlan)> {
    let linux = job.loaded.spec.linux().as_ref();
    let wanted = plan::cgroup::Wanted {
        resources: linux.and_then(|linux| linux.resources().as_ref()),
        cgroups_path: linux.and_then(|linux| linux.cgroups_path().as_deref()),
        annotations: job.loaded.spec.annotations().as_ref(),
        id: job.id,
        driver: job.driver,
        owner: plan::cgroup::owner(&job.loaded.spec),
        rootless: job.rootless,
    };
    let facts = cgroup::facts(plan::cgroup::wants_own(&wanted))?;
    let mut notes = Vec::new();
    let cgroups = plan::cgroup::plan(&wanted, &facts, &mut notes)?;
    let tree = CgroupTree::of(&facts, &cgroups);
    let notify = job.notify.as_ref().map(|_| notify::directory(&job.root.path().join(job.id)));
    let request = Request {
        id: job.id,
        bundle: job.bundle,
        gate: job.gate,
        console_socket: job.console_socket,
        no_pivot: job.no_pivot,
        no_new_keyring: job.no_new_keyring,
        preserve_fds: job.preserve_fds,
        listen_fds: job.listen_fds,
        notify: notify.as_deref(),
        cgroups: &tree,
        placed_late: cgroups.paths.keys().any(|key| !key.is_empty()) || cgroups.driver == Driver::Systemd,
    };
    let mut caller = facts_for(&job.loaded.spec);
    if job.no_pivot {
        caller = caller.of_instances(&container::rootfs(&job.loaded.spec, job.bundle)?)?;
    }
    let mut plan = container::plan(&job.loaded.spec, &request, &caller)?;
    plan.notes.extend(notes);
    Ok((plan, cgroups))
}

fn facts_for(spec: &Spec) -> Facts {
    let process = spec.process().as_ref();
    let labels = process.is_some_and(|p| p.apparmor_profile().is_some() || p.selinux_label().is_some());
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let user = namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    // whoever joins one of these gets what it mounts from us
    let joins = namespaces.iter().any(|namespace| {
        let joinable = [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount].contains(&namespace.typ());
        joinable && namespace.path().as_ref().is_some_and(|path| !path.as_os_str().is_empty())
    });
    let facts = Facts::ask(labels, user || joins);
    if user || facts.unprivileged { facts } else { facts.of_trees() }
}

/// Launches a container: comes back when it runs, or with a gate when it waits.
///
/// # Errors
/// Any step that failed; then nothing is left of the container.
pub fn launch(job: &Job<'_>, view: View, log: &Log) -> Result<Launched> {
    let ahead = ahead(job, log)?;
    let mut seal = Sealing::View(view);
    let (plan, cgroups) = prepared(job, log)?;
    if plan.birth.undumpable {
        // a child is born as we are: whoever can see it can't look into it
        cred::set_dumpable(false).context(|| "prctl(PR_SET_DUMPABLE, 0)")?;
    }
    if !plan.birth.shares_memory {
        seal = seal.finish(log)?;
    }
    let mut undo = Undo::new(log);
    let claiming = log.span("claim the state directory");
    let claim = job.root.claim(job.id)?;
    undo.push_last("remove the state directory", claim.undo());
    let relay = job.notify.as_ref().map(|to| notify::prepare(claim.dir.path(), to, job.gate)).transpose()?.flatten();
    let root = plan.root.as_ref().map(root::detached).transpose()?;
    let root_mount = root.as_ref().map(|root| root.id);
    // whoever kills us from now on leaves word of the cgroup and the root for `delete --force`
    let announced = claim.announce(&Record { root_mount, ..record(job, Handle::planned(&cgroups))? })?;
    drop(claiming);
    let making = log.span("make the cgroup");
    let made = cgroup::make(&cgroups)?;
    drop(making);
    warn_of_no_grip(&made, plan, log);
    let (leftover, grip) = (made.handle().clone(), claim.grip());
    // if somebody has deleted the container for good, a newer one may have its cgroup
    undo.push("remove the cgroup", move || if grip.is_gone()? { leftover.remove_unused() } else { leftover.remove() });
    let mut slots = fds::open(plan)?;
    if let Some(root) = root {
        undo.push("unmount the root", root.attach(&mut slots)?);
    }
    if job.gate {
        gate::make(&claim.dir, &mut slots)?;
    }
    stages::clone(plan, log);
    let cloning = log.span("clone3");
    let (child, line, plan) = bear(plan, &mut slots, (&made, &cgroups), ahead, log)?;
    let child = std::rc::Rc::new(child);
    drop(cloning);
    stages::born(child.pid, plan, log);
    let doomed = std::rc::Rc::clone(&child);
    undo.push("end init", move || clone::end(&doomed));
    if let Some(lent) = network::lend(&plan.network, child.pid, &slots)? {
        undo.push("take the network devices back", move || lent.take_back());
    }
    // the lock on the gate is init's alone
    for slot in [Slot::ROOT, Slot::GATE, Slot::LOCK, Slot::CONSOLE, Slot::NETWORK] {
        slots[usize::from(slot.0)] = None;
    }
    let mut launch = Launch { plan, job, root_mount, line: &line, slots: &mut slots, log, child: &child };
    let accompanied = launch.accompany(&made, &cgroups, seal, announced);
    if accompanied.is_ok() {
        stages::complete(log);
    }
    // it may be about to write on the wire
    ahead.filter(|_| accompanied.is_err()).into_iter().for_each(Ahead::settle);
    trace(log, ahead, child.pid, plan);
    let (record, terminal) = accompanied?;
    undo.disarm();
    let child = std::rc::Rc::into_inner(child).ok_or_else(|| Error::msg("init is still to be undone"))?;
    // our end closes them, with everything else at once
    std::mem::forget((line, made));
    Ok(Launched { child, container: state::Container::new(claim, record), terminal, relay })
}

/// The clone. Answers the child, our end of the wire to it, and the plan, which is shared from now on.
fn bear(
    plan: &'static mut Plan,
    slots: &mut [Option<OwnedFd>],
    (made, cgroups): (&cgroup::Made, &CgroupPlan),
    ahead: Option<&'static Ahead>,
    log: &Log,
) -> Result<(Child, Line, &'static Plan)> {
    let (host, init) = socket::pair().context(|| "socketpair")?;
    if let Some(ahead) = ahead {
        let made = if plan.birth.shares_memory { ahead.expect(host.as_fd()) } else { Some(ahead.wait()) };
        slots[usize::from(Slot::NETWORK.0)] = made.transpose().map_err(clone::no_network)?;
    }
    let marks = log.trace().map(Trace::marks);
    let (luggage, plan) = Luggage::new(plan, slots, init.as_fd(), marks);
    let _score = oom::lend(plan.oom_score_adj)?;
    clone::join_keyring(plan)?;
    task::roam();
    let child = clone::birth(luggage, made.into_fd(), |errno| made.refused(errno, cgroups))?;
    Ok((child, Line::new(host, luggage.ready), plan))
}

fn warn_of_no_grip(made: &cgroup::Made, plan: &Plan, log: &Log) {
    if made.forgiven() && made.handle().cgroup_paths.is_empty() && !plan.birth.new.has(Namespace::Pid) {
        log.warn(NO_GRIP);
    }
}

fn trace(log: &Log, ahead: Option<&'static Ahead>, pid: i32, plan: &Plan) {
    if let Some(trace) = log.trace() {
        trace.beside(ahead.into_iter().flat_map(Ahead::laps));
        trace.steps(pid, plan.steps.iter().map(ToString::to_string));
    }
}

/// The network namespace: the one that was begun already, or one that is begun now.
fn ahead(job: &Job<'_>, log: &Log) -> Result<Option<&'static Ahead>> {
    if !plan::namespaces::network_ahead(&job.loaded.spec) {
        return Ok(None);
    }
    let begin = || begin_network(log.trace().is_some());
    let ahead = job.network.map_or_else(begin, Ok)?;
    ahead.run();
    Ok(Some(ahead))
}

/// Everything that touches nothing but ourselves.
fn prepared(job: &Job<'_>, log: &Log) -> Result<(&'static mut Plan, CgroupPlan)> {
    let _planning = log.span("plan");
    let (plan, cgroups) = plan(job)?;
    plan.notes.iter().for_each(|note| log.warn(note));
    plan.details.iter().for_each(|detail| log.debug(|| detail.clone()));
    // init may use it for longer than we live
    Ok((Box::leak(Box::new(plan)), cgroups))
}

/// The host half beside a living child.
struct Launch<'a> {
    plan: &'a Plan,
    root_mount: Option<u64>,
    job: &'a Job<'a>,
    line: &'a Line,
    slots: &'a mut [Option<OwnedFd>],
    log: &'a Log,
    child: &'a Child,
}

impl Launch<'_> {
    /// Everything from the clone to the moment when the container may be told of.
    fn accompany(
        &mut self,
        made: &cgroup::Made,
        cgroups: &CgroupPlan,
        seal: Sealing,
        announced: Announced,
    ) -> Result<(Record, Option<OwnedFd>)> {
        let pid = self.child.pid;
        let seal = seal.finish(self.log)?;
        let placing = self.log.span("place, map, limit");
        made.place(pid, cgroups)?;
        if let Some(maps) = &self.plan.birth.maps {
            idmap::write(pid, maps)?;
        }
        // the device rules of v1 deny everything before they allow something: init must not make its nodes meanwhile
        if made.needs_placing() {
            made.limit(cgroups)?;
        }
        if self.waits_for(Sync::Mapped) {
            self.line.go(Sync::Mapped)?;
        }
        let score = oom::give(pid, self.plan.oom_score_adj, self.plan.birth.shares_memory)?;
        if !made.needs_placing() {
            made.limit(cgroups).map_err(|error| self.rather_inits(error))?;
        }
        drop(placing);
        let recording = self.log.span("record");
        let record = self.record(made)?;
        announced.complete(&record, &self.job.loaded.bytes)?;
        if let Some(path) = self.job.pidfd_socket {
            send_pidfd(path, self.child, b"standard")?;
        }
        if let Some(path) = self.job.pid_file {
            state::replace(path, pid.to_string().as_bytes(), 0o666)?;
        }
        drop(recording);
        let _waiting = self.log.span("wait for init");
        let terminal = self.attend(&record, seal).inspect_err(|_| {
            // a caller takes a pid file for success
            if let Some(path) = self.job.pid_file {
                let _ = std::fs::remove_file(path);
            }
        })?;
        if self.job.gate {
            // init still shares it, and we are about to end
            std::mem::forget(score);
        }
        Ok((record, terminal))
    }

    /// What goes wrong with the limits is the reason only if nothing goes wrong with the mounts, which init makes at the
    /// same time and runc makes first.
    fn rather_inits(&self, error: Error) -> Error {
        const PATIENCE: i32 = 50;
        let heard = crate::sys::tty::poll([(Some(self.line.as_fd()), libc::POLLIN)], PATIENCE);
        let said = heard.is_ok_and(|[heard]| heard != 0).then(|| wire::hear(self.line.as_fd()));
        match said {
            Some(Ok(Some((Message::Failed(failure), _)))) => sentence::of(self.plan, failure, self.slots),
            Some(_) | None => error,
        }
    }

    fn waits_for(&self, sync: Sync) -> bool {
        self.plan.steps.iter().any(|step| matches!(step, Step::Await(known) if *known == sync))
    }

    fn record(&self, made: &cgroup::Made) -> Result<Record> {
        let mut record = record(self.job, made.handle().clone())?;
        record.rootless |= made.forgiven();
        record.root_mount = self.root_mount;
        settle(&mut record, self.child.pid, self.plan)?;
        Ok(record)
    }

    /// Listens until init waits at the gate or has become the payload.
    fn attend(&mut self, record: &Record, seal: Sealing) -> Result<Option<OwnedFd>> {
        let asks =
            |step: &&Step| matches!(step, Step::Tell(Sync::Rooted | Sync::Limited) | Step::IdMap { by_host: true, .. });
        let mut unmapped = self.plan.steps.iter().filter(|step| matches!(step, Step::IdMap { by_host: true, .. }));
        let mut open_questions = self.plan.steps.iter().filter(asks).count();
        let mut terminal = None;
        if open_questions == 0 {
            self.line.go(Sync::Ready)?;
        }
        // its rest takes a while, which we would wait anyway
        drop(seal);
        loop {
            match wire::hear(self.line.as_fd()).context(|| "listen to init")? {
                Some((Message::Reached(Sync::Ready), _)) => return Ok(terminal),
                Some((Message::Handed(Slot::TREE), Some(tree))) => {
                    self.map_ids(tree.as_fd(), unmapped.next())?;
                    open_questions -= 1;
                    if open_questions == 0 {
                        self.line.go(Sync::Ready)?;
                    }
                }
                Some((Message::Reached(sync), _)) => {
                    self.answer(sync, record)?;
                    open_questions = open_questions.saturating_sub(1);
                    if open_questions == 0 {
                        self.line.go(Sync::Ready)?;
                    }
                }
                Some((Message::Handed(Slot::PTY), fd)) => terminal = fd,
                Some((Message::Handed(_), Some(fd))) => self.listener(&fd, record)?,
                Some((Message::Failed(failure), _)) => return Err(sentence::of(self.plan, failure, self.slots)),
                Some((Message::Handed(_) | Message::Go(_), _)) => {
                    return Err(Error::msg("init says what it can't say"));
                }
                None => return self.silence(record).map(|()| terminal),
            }
        }
    }

    /// The end of the stream: the payload runs, or init is gone.
    fn silence(&self, record: &Record) -> Result<()> {
        if self.job.gate {
            return Err(sentence::vanished(reap(self.child)?, &record.cgroup));
        }
        if self.job.foreground {
            return Ok(());
        }
        if became_payload(self.child.pid)? {
            return Ok(());
        }
        Err(sentence::vanished(reap(self.child)?, &record.cgroup))
    }

    fn answer(&mut self, sync: Sync, record: &Record) -> Result<()> {
        match sync {
            Sync::Rooted => {
                // the environment is there (runtime.md, Lifecycle, steps 2 and 3)
                let document = document(record, "created", record.init_process_pid);
                hooks::run(&self.plan.hooks.runtime, &document, self.log)?;
                self.fill_hooks(record)?;
            }
            Sync::Limited => {
                for limit in &self.plan.limits {
                    task::set_limit(self.child.pid, limit.resource, limit.soft, limit.hard)
                        .context(|| format!("prlimit({}, {}, {})", limit.name, limit.soft, limit.hard))?;
                }
            }
            Sync::Mapped | Sync::IdMapped | Sync::Ready => {}
        }
        self.line.go(sync)
    }

    /// Maps the ids of what init has cloned, which takes rights over the file system that init does not have.
    fn map_ids(&self, tree: BorrowedFd<'_>, step: Option<&Step>) -> Result<()> {
        match step {
            Some(Step::IdMap { mapped, source, .. }) => fds::map_ids(tree, source, *mapped, self.slots)?,
            Some(_) | None => return Err(Error::msg("init hands what nobody wants")),
        }
        self.line.go(Sync::IdMapped)
    }

    /// Hooks in the container count processes as the container does.
    fn fill_hooks(&self, record: &Record) -> Result<()> {
        for slot in [Slot::HOOK[0], Slot::HOOK_START] {
            if let Some(stdin) = self.slots.get(usize::from(slot.0)).and_then(Option::as_ref) {
                let pid = inner_pid(record.init_process_pid)?;
                hooks::fill(stdin.as_fd(), &document(record, "created", pid))?;
            }
        }
        Ok(())
    }

    /// Sends the seccomp listener to the agent that the profile names (config-linux.md, Container Process State).
    fn listener(&self, fd: &OwnedFd, record: &Record) -> Result<()> {
        let Some((path, metadata)) = &self.plan.listener else { return Err(Error::msg("a listener without a path")) };
        send_listener(path, metadata, fd, record, record.init_process_pid, "creating")
    }
}
