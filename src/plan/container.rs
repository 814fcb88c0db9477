//! **The order** of `create` and `run`: everything that init does, in order, with the reason for each position.

use super::dev::Dev;
use super::namespaces::{self, Chosen};
use super::opens::Opens;
use super::planner::Planner;
pub use super::request::{Mode, Request, StartOptions};
use super::request::{environment, home_wanted, keyring, notify_mount, placeholder};
use super::step::{Attempt, Slot, Step, Sync};
use super::{
    Open, Plan, devices, hooks, identity, image, masked_paths, mounts, network, rootfs, seccomp, terminal,
    tree_namespace,
};
use crate::abi::mount::{ATTR_RDONLY, MountAttr};
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::spec::{Checked, Config, MountEntry, MountKind};
use oci_spec::runtime::{Linux, Process, Root};
use std::path::Path;

/// Plans a container.
///
/// # Errors
/// The bundle asks for something impossible; the error names the JSON path.
pub fn plan(config: &Checked<Config>, request: &Request<'_>, facts: &Facts) -> Result<Plan> {
    // `create` accepts a bundle without `process`; only `start` fails then (runtime.md, Start)
    let nobody = request.options.waits().then(placeholder);
    let absent = || Error::spec("process", "process property must not be empty");
    let process = config.spec.process().as_ref().or(nobody.as_ref()).ok_or_else(absent)?;
    let empty = empty();
    let linux = config.spec.linux().as_ref().unwrap_or(&empty);
    let mut mounts = config.mounts.clone();
    mounts.extend(request.notify.map(notify_mount));
    let mut planner = planner(config, (process, linux, &mounts), request, facts)?;

    let env = environment(process, request);
    let env = image::environment(env.iter().map(String::as_str));
    let home = home_wanted(process);
    let image = image::Image::new("process", process.args().as_deref().unwrap_or_default(), &env, home)?;
    let caller = planner.caller();
    let (seccomp, details) = (linux.seccomp().as_ref(), &mut planner.details);
    let strict = seccomp.filter(|_| config.extensions.seccomp_strict);
    strict.map_or(Ok(()), |profile| seccomp::check_names(profile, "linux.seccomp"))?;
    let mut confined = identity::confine(process, seccomp, caller, identity::Role::First, details)?;
    planner.notes.append(&mut confined.notes);
    let hooks = hooks::of(&config.spec)?;
    let (creating, starting) = planner.inner_hooks(&env)?;
    let limits = identity::limits(process);

    let mut steps = Vec::with_capacity(96);
    planner.enter(&mut steps)?;
    planner.build_root(&mut steps)?;
    // the root is complete, and the host's paths still work: these hooks need both (runtime.md, Lifecycle)
    if !(hooks.runtime.is_empty() && creating.is_empty() && starting.is_empty()) {
        steps.push(Step::Tell(Sync::RootMounted));
        steps.push(Step::Await(Sync::RootMounted));
    }
    steps.extend(creating);
    planner.finish_root(&mut steps)?;
    // from here on the process takes on the payload's attributes
    planner.limit(&mut steps, &limits)?;
    steps.extend(confined.before);
    if home {
        steps.push(Step::Home(process.user().uid()));
    }
    // with `create` the host half exits at the gate, so a listener must be sent before it
    let reported = confined.last.take_if(|_| request.options.waits() && confined.listener.is_some());
    planner.go(&mut steps, reported, !starting.is_empty() || confined.last.is_some());
    // these hooks are programs of the container: they are confined like the payload
    steps.extend(confined.last);
    steps.extend(starting);
    steps.push(Step::Exec);

    let Planner { chosen, host_root, network, keyring, opens, notes, details, .. } = planner;
    let (opens, slots) = opens.into_parts();
    Ok(Plan {
        root: host_root,
        network,
        opens,
        slots,
        // raising a hard limit needs CAP_SYS_RESOURCE in the initial user namespace: the host does it
        limits: if chosen.user { limits } else { Vec::new() },
        clone_spec: chosen.clone_spec,
        oom_score_adj: process.oom_score_adj(),
        keyring,
        hooks,
        steps,
        image,
        listener: confined.listener,
        delegate: request.delegate.cloned(),
        added: Vec::new(),
        notes,
        details,
    })
}

/// Decides everything that the parts of the plan depend on.
pub(super) fn planner<'a>(
    config: &'a Config,
    (process, linux, mounts): (&'a Process, &'a Linux, &'a [MountEntry]),
    request: &'a Request<'a>,
    facts: &'a Facts,
) -> Result<Planner<'a>> {
    let mut opens = Opens::new();
    let mut chosen = namespaces::choose(config, facts.unprivileged, &mut opens);
    if facts.unprivileged {
        namespaces::rootless(&chosen, &config.mounts)?;
    }
    let mut late = Namespaces::default();
    if request.placed_late && chosen.clone_spec.new.has(Namespace::Cgroup) {
        // the root of a cgroup namespace is its creator's cgroup, and init is moved to its cgroup after the clone
        chosen.clone_spec.new.remove(Namespace::Cgroup);
        late.insert(Namespace::Cgroup);
    }
    if is_seen(config, &chosen, request, facts) {
        chosen.clone_spec.empty_mounts = true;
        chosen.clone_spec.new.remove(Namespace::Mount);
    }
    let joined = chosen.mount && !chosen.made.has(Namespace::Mount);
    let hidden = (chosen.clone_spec.empty_mounts || joined) && !facts.foreign_mounts;
    // a key counts against its creator's quota, and the host user of many user namespaces would soon exhaust it
    let by_host_keyring = chosen.user && !(request.options.no_new_keyring || facts.unprivileged);
    let mut planner = Planner {
        dev: Dev::of(mounts, chosen.mount || !config.mounts.is_empty()),
        host_root: rootfs::by_host(config, &chosen, !mounts.is_empty())?,
        by_host: (chosen.user || hidden) && !facts.foreign_mounts,
        hidden,
        root_alone: None,
        network: network::network(linux, &chosen, facts.unprivileged)?,
        keyring: by_host_keyring.then(|| keyring(request.id)).transpose()?,
        clones: Vec::new(),
        kept: None,
        readonly: Vec::new(),
        notes: config.notes.clone(),
        details: Vec::new(),
        config,
        process,
        linux,
        mounts,
        request,
        facts,
        chosen,
        late,
        opens,
    };
    planner.root_alone = tree_namespace::propagation(&planner);
    if planner.root_alone.is_some() {
        planner.chosen.clone_spec.new.remove(Namespace::Mount);
    }
    Ok(planner)
}

impl Planner<'_> {
    /// What is known about the caller.
    fn caller(&self) -> identity::Caller {
        identity::Caller {
            groups: !self.facts.unprivileged,
            keeps_groups: self.config.extensions.keep_groups,
            is_root: self.facts.root && !self.chosen.user,
        }
    }

    /// Enters the namespaces; names, session and keyring in them.
    fn enter(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        // first: our caller may have left the write end of a pipe open, and its reader must not wait for init to end
        steps.push(Step::CloseInherited { preserve: self.request.options.preserve_fds });
        // before ids are used (maps), the cgroup namespace is created (its root is our cgroup), and network settings are made
        let devices = !self.network.devices.is_empty();
        if self.chosen.clone_spec.maps.is_some() || self.request.placed_late || devices {
            steps.push(Step::Await(Sync::Mapped));
        }
        if !self.chosen.clone_spec.undumpable {
            steps.push(Step::Undumpable);
        }
        // given namespaces first: everything below must happen in them
        steps.extend(namespaces::join(&self.chosen));
        // the ids of a process do not change when its user namespace is created
        if self.chosen.user {
            let alone = !(self.facts.unprivileged || self.config.extensions.keep_groups);
            steps.push(Step::BecomeRoot { alone });
            steps.push(Step::Undumpable);
        }
        if !self.late.is_empty() {
            steps.push(Step::Unshare(self.late));
        }
        // behind the cgroup namespace, whose root is the cgroup above
        if self.request.delegate.is_some() {
            steps.extend([Step::Tell(Sync::Delegated), Step::Await(Sync::Delegated)]);
        }
        // a new session: the caller's terminal must not signal us, and only a session leader can take a terminal
        steps.push(Step::Session);
        // before labels: a keyring takes the label of its creator
        if !self.request.options.no_new_keyring && self.keyring.is_none() {
            steps.push(Step::Keyring(keyring(self.request.id)?));
        }
        steps.extend(namespaces::names(&self.config.spec, &self.chosen)?);
        // so that nodes and directories get exactly the modes that we pass
        steps.push(Step::Umask(0));
        Ok(())
    }

    /// Builds the root, while the host's is still `/`.
    fn build_root(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        // planned first: sources on the host may have to be cloned before the root is opened
        let mounts = self.mount()?;
        steps.extend(rootfs::open(self)?);
        steps.extend(mounts);
        // after the mounts, because /dev may be one of them
        if self.dev.own {
            devices::steps(self, steps)?;
        }
        Ok(())
    }

    /// The mounts, in the order of the configuration.
    fn mount(&mut self) -> Result<Vec<Step>> {
        let mut steps = Vec::with_capacity(self.mounts.len() * 2);
        // joined as late as possible, because the thread is still creating it; but before sysfs, which shows the network
        // devices of its mounter's namespace
        let shows_network = |mount: &MountEntry| mount.kind() == MountKind::New && mount.typ == "sysfs";
        let mut ahead = self.chosen.clone_spec.network_ahead;
        for (number, mount) in self.mounts.iter().enumerate() {
            if ahead && shows_network(mount) {
                steps.push(Step::JoinNetwork);
                ahead = false;
            }
            mounts::steps(self, number, &mut steps)?;
        }
        steps.extend(ahead.then_some(Step::JoinNetwork));
        Ok(steps)
    }

    /// Makes the root `/`, and masks what the container must not see.
    fn finish_root(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        steps.extend(rootfs::pivot(self));
        // no path leads to the host's tree any more, so no descriptor may either
        steps.push(Step::CloseFds { preserve: self.request.options.preserve_fds, keep: self.kept().collect() });
        // after the pivot, so that the path of the terminal is the container's
        if self.process.terminal().unwrap_or_default() {
            let (socket, own_dev) = (self.request.options.console_socket.as_deref(), self.dev.own);
            steps.extend(terminal::steps(self.process, socket, own_dev, &mut self.opens)?);
        }
        // sysctls and labels are written through a procfs of our own, before parts of procfs are masked
        let writes = proc_writes(self.config, self.process, self.facts)?;
        if identity::wants_proc(&writes) {
            steps.push(Step::OpenProc);
        }
        steps.extend(writes);
        let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
        steps.extend(self.readonly.iter().map(|slot| Step::Attr { slot: *slot, attr, recursive: false }));
        let readonly = self.config.spec.root().as_ref().and_then(Root::readonly);
        if readonly.unwrap_or_default() {
            let cwd = image::c_string("process.cwd", self.process.cwd().as_os_str().as_encoded_bytes())?;
            steps.extend(Some(cwd).filter(|cwd| cwd.as_c_str() != c"/").map(Step::MakeCwd));
            steps.push(Step::ReadonlyRoot);
        }
        let context_type = self.config.extensions.context_type.as_deref().unwrap_or("context");
        let hidden = masked_paths::paths(self.linux, context_type, &mut self.notes)?;
        let masks = hidden.iter().any(|step| matches!(step, Step::Mask { .. }));
        steps.extend(hidden);
        if (self.root_alone.is_some() || masks) && self.process.cwd() == Path::new("/") {
            // no pivot has set the working directory, or masking has changed it to /dev
            steps.push(Step::Chdir { path: c"/".to_owned(), attempt: Attempt::Only, make: false });
        }
        Ok(())
    }

    /// Fails if the plan needs more slots than there are.
    fn check_slots(&self) -> Result<()> {
        if !self.opens.is_full() {
            return Ok(());
        }
        Err(Error::spec("mounts", "needs more descriptors at once than a start has slots for")
            .with_hint("in a user namespace the host opens each mount's source and each device first"))
    }

    /// Scheduling and limits: after the mounts, which they could make fail.
    fn limit(&self, steps: &mut Vec<Step>, limits: &[super::Limit]) -> Result<()> {
        self.check_slots()?;
        let (memory, persona) = (self.linux.memory_policy().as_ref(), self.linux.personality().as_ref());
        steps.extend(identity::scheduling(self.process, memory, persona)?);
        // from here on paths of the image are resolved, and nothing of the host may be open
        let keep = self.harmless().into_iter().flatten().collect();
        steps.push(Step::CloseFds { preserve: self.request.options.preserve_fds, keep });
        if !self.chosen.user {
            steps.extend(identity::limit_steps(limits));
        } else if !limits.is_empty() {
            // raising a hard limit needs CAP_SYS_RESOURCE in the initial user namespace: the host does it
            steps.push(Step::Tell(Sync::Limited));
            steps.push(Step::Await(Sync::Limited));
        }
        Ok(())
    }

    /// The last steps before the payload. Usually execve looks the program up. It is looked up here for `create` (so that `create`
    /// fails and not `start`), before hooks run, and before a seccomp filter that could block the lookup. `early`: hooks or a
    /// filter follow these steps.
    fn go(&self, steps: &mut Vec<Step>, filter: Option<Step>, early: bool) {
        let filtered = filter.is_some() || steps.iter().any(|step| matches!(step, Step::Seccomp { .. }));
        if self.config.spec.process().is_some() && (early || filtered || self.request.options.waits()) {
            steps.push(Step::Find);
        }
        steps.extend(filter);
        // only now the limits, the record and the pid file are written
        steps.push(Step::Await(Sync::Ready));
        if self.request.options.waits() {
            steps.push(Step::Tell(Sync::Ready));
            steps.push(Step::Gate);
        }
        steps.push(Step::Signals);
    }

    /// The hooks that run in the container: `createContainer`, `startContainer`.
    fn inner_hooks(&mut self, env: &[&str]) -> Result<(Vec<Step>, Vec<Step>)> {
        let (hooks, output) = (self.config.spec.hooks().as_ref(), &self.config.extensions.hook_output);
        let appends = [output[0].is_some(), output[1].is_some()];
        let list = hooks.and_then(|h| h.create_container().as_deref());
        let creating = hooks::inside("createContainer", list, &[], appends)?;
        let list = hooks.and_then(|h| h.start_container().as_deref());
        let starting = hooks::inside("startContainer", list, env, appends)?;
        if !(creating.is_empty() && starting.is_empty()) {
            self.opens.open_at(Slot::HOOK[0], Open::HookFiles(output.clone()));
        }
        Ok((creating, starting))
    }

    /// What stays open after the pivot: the container's root and `/dev`, mounts that become read-only, and [`Self::harmless`].
    fn kept(&self) -> impl Iterator<Item = Slot> + '_ {
        let root = [Some(Slot::ROOT), self.dev.own.then_some(Slot::DEV)];
        let late = self.readonly.iter().copied().filter(|slot| *slot != Slot::DEV).map(Some);
        let console = [self.request.options.console_socket.as_ref().map(|_| Slot::CONSOLE)];
        root.into_iter().chain(late).chain(console).chain(self.harmless()).flatten()
    }

    /// Descriptors that init needs until it executes the payload, none of which leads to a directory.
    fn harmless(&self) -> [Option<Slot>; 6] {
        let gate = [Slot::EXEC_FIFO, Slot::STATUS_LOCK].map(|slot| Some(slot).filter(|_| self.request.options.waits()));
        let start_hooks = self.config.spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref());
        let late_hooks = start_hooks.is_some_and(|hooks| !hooks.is_empty());
        let hooks = [Slot::HOOK[0], Slot::HOOK[1], Slot::HOOK[2], Slot::HOOK_START];
        let hooks = hooks.map(|slot| Some(slot).filter(|_| late_hooks));
        [gate[0], gate[1], hooks[0], hooks[1], hooks[2], hooks[3]]
    }
}

/// Whether init starts in an empty mount namespace. It must not show the host's mounts if it joins a pid namespace, whose
/// processes can read its `/proc/PID/mountinfo`. Not possible with hooks that need the root at its path on the host, with
/// `--no-pivot`, or in a user namespace, in which the kernel mounts a procfs only if a complete one is visible.
fn is_seen(config: &Config, chosen: &Chosen, request: &Request<'_>, facts: &Facts) -> bool {
    let joins_pid = chosen.clone_spec.joins(Namespace::Pid);
    let possible =
        chosen.clone_spec.new.has(Namespace::Mount) && !(chosen.user || facts.nested || facts.foreign_mounts);
    joins_pid && possible && tree_namespace::hooks_allow(&config.spec) && !request.options.no_pivot
}

fn proc_writes(config: &Config, process: &Process, facts: &Facts) -> Result<Vec<Step>> {
    let mut steps = masked_paths::sysctls(&config.sysctls)?;
    steps.extend(identity::labels(process, &facts.lsm)?);
    Ok(steps)
}

/// An empty `linux`. (The crate's `Linux::default()` is a filled example.)
fn empty() -> Linux {
    serde_json::from_str("{}").unwrap_or_default()
}
