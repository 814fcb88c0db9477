//! **The host half** of `run` and `create`: from a checked configuration to a container that runs, or waits for `start`.
//!
//! ```text
//! run, create   plan ── prepare.rs ── spawn.rs ── start() ── accompany.rs
//! exec          plan ──────────────── spawn.rs ── provide() ─ accompany.rs      (exec.rs)
//! restore       plan ── prepare.rs ── CRIU ──────────────────                   (crate::criu)
//! ```
//!
//! One clone. Every effect registers its undo; success disarms them. What init does not need before it mounts (limits, record, pid
//! file) is done while it mounts.

mod accompany;
pub mod console;
mod debug_log;
pub mod exec;
pub mod exec_fifo;
mod fds;
pub mod hooks;
mod idmap;
mod init_error;
pub mod mounts;
mod network;
mod node;
pub mod notify;
mod oom;
pub mod patience;
pub mod prepare;
mod record;
pub mod root;
mod send;
mod spawn;
mod undo;

use accompany::{Accompany, became_payload};
pub use fds::{check_preserved, preserve};
pub use init_error::lost;
use prepare::Prepared;
use record::inner_pid;
pub use record::{document, record, record_process};
pub use send::{send_listener, send_pidfd};
use spawn::Spawn;
pub use spawn::{Child, end, reap, start_netns_thread};
pub use undo::Undo;

use crate::abi::ns::Namespace;
use crate::cgroup::{self, Cgroup};
use crate::error::{Context, Result};
use crate::facts::Facts;
use crate::log::Log;
use crate::plan::cgroup::{CgroupPlan, Driver, Rootless};
use crate::plan::container::{self, Request, StartOptions};
use crate::plan::mounts::CgroupTree;
use crate::plan::step::{Slot, Sync};
use crate::plan::{self, Plan};
use crate::spec::{Checked, Config, MountEntry};
use crate::state::{self, Root};
use crate::sys::exe::ExeProtection;
use crate::sys::netns::NetnsThread;
use crate::sys::{Errno, cred};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Which verb starts a process: for the wording of errors, and for when the process counts as started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Run,
    Exec,
    Mounts,
}

/// The protection of our own executable, as errors name it.
pub const PROTECTION: &str = "protect our own binary from the container";

/// What a container is planned from. Planning needs neither a state directory nor anything else that has effects.
#[derive(Debug, Clone)]
pub struct PlanInput<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The bundle's configuration.
    pub config: &'a Checked<Config>,
    /// The cgroup driver.
    pub driver: Driver,
    /// Whether permission errors of cgroups are ignored if the bundle sets no limits.
    pub rootless: Rootless,
    /// How the process is started.
    pub options: &'a StartOptions,
    /// The host's directory of the notify socket, if the container has one.
    pub notify: Option<PathBuf>,
}

/// A container to be launched.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// What it is planned from.
    pub input: PlanInput<'a>,
    /// The directory of all containers' state.
    pub root: &'a Root,
    /// The thread that creates the network namespace, if it was started before the bundle was parsed.
    pub netns_thread: Option<&'static NetnsThread>,
}

/// A container's record.
pub type Record = state::Record<Cgroup>;

/// runc's warning about a container whose processes can't all be found.
const WARN_NO_CGROUP_NO_PIDNS: &str = "Creating a rootless container with no cgroup and no private pid namespace. \
                                       Such configuration is strongly discouraged (as it is impossible to properly \
                                       kill all container's processes).";

/// A launched container.
#[derive(Debug)]
pub struct Launched {
    /// Its first process.
    pub child: Child,
    /// Its directory and record.
    pub container: state::Container<Cgroup>,
    /// The terminal's master, for a terminal in the foreground.
    pub terminal: Option<OwnedFd>,
    /// The notify socket, if the payload runs already.
    pub relay: Option<notify::Relay>,
}

/// Plans a bundle against this machine, for [`launch`], `plan`, `checkpoint` and `restore`.
///
/// # Errors
/// The bundle asks for something impossible.
pub fn plan(input: &PlanInput<'_>) -> Result<(Plan, CgroupPlan)> {
    let spec = &input.config.spec;
    let linux = spec.linux().as_ref();
    let wanted = plan::cgroup::CgroupRequest {
        resources: linux.and_then(|linux| linux.resources().as_ref()),
        cgroups_path: linux.and_then(|linux| linux.cgroups_path().as_deref()),
        annotations: spec.annotations().as_ref(),
        id: input.id,
        driver: input.driver,
        owner: plan::cgroup::owner(input.config),
        rootless: input.rootless,
        extensions: Some(&input.config.extensions),
    };
    let facts = cgroup::facts(plan::cgroup::wants_own(&wanted))?;
    let mut notes = Vec::new();
    let cgroups = plan::cgroup::plan(&wanted, &facts, &mut notes)?;
    let tree = CgroupTree::of(&facts, &cgroups);
    let request = Request {
        id: input.id,
        options: input.options,
        notify: input.notify.as_deref(),
        cgroups: &tree,
        delegate: cgroups.delegate.as_ref(),
        placed_late: cgroups.paths.keys().any(|key| !key.is_empty()) || cgroups.driver == Driver::Systemd,
    };
    let mut caller = facts_for(input.config);
    if input.options.no_pivot {
        caller = caller.of_instances(&input.config.rootfs)?;
    }
    let config = input.config;
    let copied = |mount: &&MountEntry| mount.options.links.copy;
    if config.mounts.iter().any(|mount| copied(&mount)) {
        let sources = config.mounts.iter().filter(copied).map(|mount| config.bundle.join(&mount.source));
        caller = caller.of_links(sources, &config.rootfs);
    }
    let mut plan = container::plan(input.config, &request, &caller)?;
    plan.notes.extend(notes);
    Ok((plan, cgroups))
}

fn facts_for(config: &Config) -> Facts {
    let process = config.spec.process().as_ref();
    let labels = process.is_some_and(|p| p.apparmor_profile().is_some() || p.selinux_label().is_some());
    let user = config.namespaces.all.has(Namespace::User);
    // for a container that joins one of these the host half clones the sources of bind mounts
    let joins = config.namespaces.joined.iter().any(|joined| matches!(joined.kind, Namespace::Pid | Namespace::Mount));
    let facts = Facts::ask(labels, user || joins);
    let nodes = node::elsewhere(config.spec.linux().as_ref(), user.then_some(facts.foreign_mounts));
    let facts = Facts { nodes, ..facts };
    if user || facts.unprivileged { facts } else { facts.of_trees() }
}

/// Launches a container: returns when it runs, or for `create` when it waits for `start`.
///
/// # Errors
/// Any step that failed; then nothing is left of the container.
pub fn launch(job: &Job<'_>, protection: ExeProtection, log: &Log) -> Result<Launched> {
    let options = job.input.options;
    let netns = netns_thread(job, log)?;
    let (plan, cgroups) = prepare::planned(&job.input, log)?;
    // leaked, because init may use it after we have exited
    let plan = Box::leak(Box::new(plan));
    if plan.clone_spec.undumpable {
        // inherited at the clone: other processes may see the child, but not read its memory or descriptors
        cred::set_dumpable(false).context(|| "prctl(PR_SET_DUMPABLE, 0)")?;
    }
    // a child with a copy of our memory must be protected before the clone; one that shares it is protected together with us,
    // while it mounts
    let protection = if plan.clone_spec.shares_memory { protection } else { finish(protection, log)? };
    let root = plan.root.as_ref().map(root::detached).transpose()?;
    // declared before `undo`, which borrows it
    let child;
    let mut undo = Undo::new(log);
    let mut prepared = prepare::prepare(job, cgroups, root.as_ref().map(|root| root.id), &mut undo, log)?;
    warn_without_cgroup(&prepared, plan, log);
    let mut slots = fds::open(plan)?;
    if let Some(root) = root {
        undo.push("unmount the root", root.attach(&mut slots)?);
    }
    if options.waits() {
        exec_fifo::make(&prepared.claim.dir, &mut slots)?;
    }
    let (spawned, socket, plan) = spawn_init(plan, &mut slots, &prepared, netns, log)?;
    child = spawned;
    undo.push("end init", || end(&child));
    if let Some(lent) = network::lend(&plan.network, child.pid, &slots)? {
        undo.push("take the network devices back", move || lent.take_back());
    }
    // only init may hold the status lock; the other descriptors are not needed here any more
    for slot in [Slot::ROOT, Slot::EXEC_FIFO, Slot::STATUS_LOCK, Slot::CONSOLE, Slot::NETWORK] {
        slots[slot.index()] = None;
    }
    let mode = if options.waits() { Mode::Create } else { Mode::Run };
    let foreground = options.foreground();
    let dir = prepared.claim.dir.again();
    let accompany =
        Accompany { mode, plan, child: &child, socket: &socket, slots: &slots, foreground, dir: Some(&dir), log };
    let started = start(&accompany, job, &mut prepared, protection, &mut undo);
    if started.is_ok() {
        debug_log::complete(netns, log);
    }
    // the thread may still send over the socket, which is closed below
    netns.filter(|_| started.is_err()).into_iter().for_each(NetnsThread::join);
    debug_log::trace(netns, child.pid, plan, log);
    let terminal = started?;
    undo.disarm();
    let Prepared { claim, record, relay, .. } = prepared;
    Ok(Launched { child, container: state::Container::new(claim, record), terminal, relay })
}

/// The clone. Returns init, our end of the socket to it, and the plan, which both halves read from now on.
fn spawn_init(
    plan: &'static mut Plan,
    slots: &mut [Option<OwnedFd>],
    prepared: &Prepared,
    netns: Option<&'static NetnsThread>,
    log: &Log,
) -> Result<(Child, spawn::InitSocket, &'static Plan)> {
    let _score = oom::lend(plan.oom_score_adj)?;
    let mut spawn = Spawn::prepare(plan, slots, netns, log)?;
    let cgroup = prepared.cgroup.clone_into_fd();
    let child = spawn.clone3(cgroup).or_else(|error| match error.errno() {
        // the cgroup is in a threaded subtree and invalid as it is; if it can be repaired, there is a second try
        Some(errno @ Errno::EOPNOTSUPP) => {
            prepared.cgroup.retry_after(errno, &prepared.cgroups)?;
            spawn.clone3(cgroup)
        }
        Some(_) | None => Err(error),
    })?;
    let (socket, plan) = spawn.finish(&child, log);
    Ok((child, socket, plan))
}

/// Everything from the clone until the container is created or running. Returns the terminal's master.
fn start(
    accompany: &Accompany<'_>,
    job: &Job<'_>,
    prepared: &mut Prepared,
    protection: ExeProtection,
    undo: &mut Undo<'_>,
) -> Result<Option<OwnedFd>> {
    let (plan, child, log) = (accompany.plan, accompany.child, accompany.log);
    let options = job.input.options;
    let protection = finish(protection, log)?;
    let score = place_and_limit(accompany, prepared)?;
    let recording = log.span("record");
    prepared.complete(child.pid, child.start, plan, &job.input.config.bytes)?;
    if let Some(path) = &options.pidfd_socket {
        send_pidfd(path, child, b"standard")?;
    }
    if let Some(path) = &job.input.config.extensions.pidfd_receiver {
        send_pidfd(path, child, b"standard")?;
    }
    prepare::write_pid_file(options.pid_file.as_deref(), child.pid)?;
    if let Some(path) = options.pid_file.clone() {
        undo.push("remove the pid file", move || {
            let _may_be_gone = std::fs::remove_file(path);
            Ok(())
        });
    }
    drop(recording);
    let _waiting = log.span("wait for init");
    let terminal = accompany.answer_init(&prepared.record, protection)?;
    if options.waits() {
        // init still shares our OOM score, and we are about to exit
        std::mem::forget(score);
    }
    Ok(terminal)
}

/// Places init in its cgroups, maps its ids, and sets the limits and the OOM score, which is also ours until the returned
/// value is dropped.
fn place_and_limit(accompany: &Accompany<'_>, prepared: &Prepared) -> Result<Option<oom::Lent>> {
    let (plan, pid) = (accompany.plan, accompany.child.pid);
    let (cgroup, cgroups) = (&prepared.cgroup, &prepared.cgroups);
    let _placing = accompany.log.span("place, map, limit");
    cgroup.place(pid, cgroups)?;
    if let Some(maps) = &plan.clone_spec.maps {
        idmap::write(pid, maps)?;
    }
    // v1's device rules first deny everything, then allow: init must not create devices in between
    if cgroup.needs_placing() {
        cgroup.limit(cgroups)?;
    }
    accompany.go(Sync::Mapped)?;
    let score = oom::give(pid, plan.oom_score_adj, plan.clone_spec.shares_memory)?;
    if !cgroup.needs_placing() {
        cgroup.limit(cgroups).map_err(|error| accompany.prefer_inits(error))?;
    }
    Ok(score)
}

/// Applies the protection of our executable, if that is still to be done.
fn finish(protection: ExeProtection, log: &Log) -> Result<ExeProtection> {
    let _span = log.span("seal our binary");
    protection.apply().context(|| PROTECTION)
}

fn warn_without_cgroup(prepared: &Prepared, plan: &Plan, log: &Log) {
    let cgroup = &prepared.cgroup;
    if cgroup.forgiven() && cgroup.handle().cgroup_paths.is_empty() && !plan.clone_spec.new.has(Namespace::Pid) {
        log.warn(WARN_NO_CGROUP_NO_PIDNS);
    }
}

/// The thread that creates the network namespace, if the plan will need one: the one that runs already, or a new one.
fn netns_thread(job: &Job<'_>, log: &Log) -> Result<Option<&'static NetnsThread>> {
    if !plan::namespaces::network_ahead(job.input.config) {
        return Ok(None);
    }
    let netns = job.netns_thread.map_or_else(|| start_netns_thread(log.trace().is_some()), Ok)?;
    netns.wait_until_running();
    Ok(Some(netns))
}
