//! **The order** of create and run: what init does, one call a line, each with the reason why it stands there.

use super::devices::Nodes;
use super::mounts::{Ids, Place};
use super::namespaces::{Chosen, choose};
use super::network::{self, Network};
pub use super::request::{Mode, Request, StartOptions, rootfs};
use super::request::{environment, home_wanted, keyring, nobody, notify_mount};
use super::step::{Attempt, Slot, Step, Str, Sync};
use super::{Open, Plan, devices, hide, hooks, identity, image, mounts, namespaces, rootfs, terminal, tree};
use crate::abi::mount::{ATTR_RDONLY, MountAttr};
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Error, Result};
use crate::facts::Facts;
use oci_spec::runtime::{Linux, Mount, Process, Spec};
use std::borrow::Cow;
use std::path::Path;

/// What the steps are planned from, and what the host has to do for them.
struct Draft<'a> {
    spec: &'a Spec,
    process: &'a Process,
    linux: Cow<'a, Linux>,
    request: &'a Request<'a>,
    facts: &'a Facts,
    chosen: Chosen,
    /// Made by init, because the clone can't.
    late: Namespaces,
    /// The root that the host mounts.
    here: Option<Str>,
    /// The devices that the host moves.
    network: Network,
    /// The session keyring, if the host half joins it.
    keyring: Option<Str>,
    /// The mounts, with cleaned destinations.
    list: Vec<Mount>,
    /// The mounts that become read-only when they are filled.
    readonly: Vec<Slot>,
    /// There are hooks at the start.
    late_hooks: bool,
    /// The mount namespace is made of the root alone, and no root is left to pivot from.
    alone: bool,
    opens: Vec<(Slot, Open)>,
    slots: u16,
    notes: Vec<String>,
    details: Vec<String>,
}

/// Plans a container.
///
/// # Errors
/// The bundle asks for what can't be; the error names the JSON path.
pub fn plan(spec: &Spec, request: &Request<'_>, facts: &Facts) -> Result<Plan> {
    // a container may be created without: it can be looked at, and not be started (runtime.md, Start)
    let nobody = request.options.waits().then(nobody);
    let absent = || Error::spec("process", "process property must not be empty");
    let process = spec.process().as_ref().or(nobody.as_ref()).ok_or_else(absent)?;
    let (mut opens, mut slots) = (Vec::new(), Slot::FREE);
    let chosen = choose(spec, facts.unprivileged, &mut opens, &mut slots)?;
    if facts.unprivileged {
        namespaces::rootless(&chosen, spec.mounts().as_deref().unwrap_or_default())?;
    }
    let mut draft = Draft::new((spec, process), request, facts, chosen, (opens, slots))?;
    let env = environment(process, request);
    let env = image::environment(env.iter().map(String::as_str));
    let home = home_wanted(process);
    let image = image::Image::new("process", process.args().as_deref().unwrap_or_default(), &env, home)?;
    let caller = identity::Caller { groups: !facts.unprivileged, is_root: facts.root && !draft.chosen.user };
    let seccomp = draft.linux.seccomp().as_ref();
    let mut confined = identity::confine(process, seccomp, caller, identity::Role::First, &mut draft.details)?;
    draft.notes.append(&mut confined.notes);
    let hooks = hooks::of(spec)?;
    let (creating, starting) = draft.inner_hooks(&env)?;
    draft.late_hooks = !starting.is_empty();
    let limits = identity::limits(process)?;
    let host_limits = if draft.chosen.user { limits.clone() } else { Vec::new() };

    let mut steps = Vec::with_capacity(96);
    draft.enter(&mut steps)?;
    draft.build_root(&mut steps)?;
    // the root is complete and the host's is still in sight: that is what these hooks are for
    if !(hooks.runtime.is_empty() && creating.is_empty() && starting.is_empty()) {
        steps.push(Step::Tell(Sync::Rooted));
        steps.push(Step::Await(Sync::Rooted));
    }
    steps.extend(creating);
    draft.finish_root(&mut steps)?;
    // from here on the process is what the payload will be, bit by bit
    draft.limit(&mut steps, &limits)?;
    steps.extend(confined.before);
    if home {
        steps.push(Step::Home(process.user().uid()));
    }
    // a listener goes to the host half, which leaves at the gate
    let reported = confined.last.take_if(|_| request.options.waits() && confined.listener.is_some());
    draft.go(&mut steps, reported, !starting.is_empty() || confined.last.is_some());
    // programs of the container's own: what holds for the payload holds for them
    steps.extend(confined.last);
    steps.extend(starting);
    steps.push(Step::Exec);

    let Draft { chosen, here, network, keyring, opens, slots, notes, details, .. } = draft;
    Ok(Plan {
        id: request.id.to_owned(),
        root: here,
        network,
        opens,
        slots,
        birth: chosen.birth,
        limits: host_limits,
        oom_score_adj: process.oom_score_adj(),
        keyring,
        hooks,
        terminal: process.terminal().unwrap_or_default() && request.options.console_socket.is_none(),
        steps,
        image,
        listener: confined.listener,
        notes,
        details,
    })
}

impl<'a> Draft<'a> {
    fn new(
        (spec, process): (&'a Spec, &'a Process),
        request: &'a Request<'a>,
        facts: &'a Facts,
        mut chosen: Chosen,
        (opens, slots): (Vec<(Slot, Open)>, u16),
    ) -> Result<Self> {
        let late = late(&mut chosen, request);
        if is_seen(spec, &chosen, request, facts) {
            chosen.birth.empty_mounts = true;
            chosen.birth.new.remove(Namespace::Mount);
        }
        let keyring =
            (chosen.user && !(request.options.no_new_keyring || facts.unprivileged)).then(|| keyring(request.id));
        let mut notes = Vec::new();
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        Ok(Self {
            list: mounts::cleaned(mounts, &rootfs(spec, request.bundle)?, &mut notes)?,
            spec,
            process,
            linux: spec.linux().as_ref().map_or_else(|| Cow::Owned(empty()), Cow::Borrowed),
            request,
            facts,
            chosen,
            late,
            here: None,
            network: Network::default(),
            keyring: keyring.transpose()?,
            readonly: Vec::new(),
            late_hooks: false,
            alone: false,
            opens,
            slots,
            notes,
            details: Vec::new(),
        })
    }
}

impl Draft<'_> {
    /// Into the namespaces, and names in them.
    fn enter(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        // first: whoever waits for the end of a pipe that our caller has left open is not to wait for init
        steps.push(Step::CloseInherited { preserve: self.request.options.preserve_fds });
        self.network = network::network(&self.linux, &self.chosen, self.facts.unprivileged)?;
        // ids mean nothing before the maps are written, a cgroup namespace is rooted where the process is, and devices
        // have settings
        let devices = !self.network.devices.is_empty();
        if self.chosen.birth.maps.is_some() || self.request.placed_late || devices {
            steps.push(Step::Await(Sync::Mapped));
        }
        if !self.chosen.birth.undumpable {
            steps.push(Step::Undumpable);
        }
        // given namespaces first: everything below happens in them
        steps.extend(namespaces::join(&self.chosen));
        // in a user namespace nobody is root before he becomes it
        if self.chosen.user {
            steps.push(Step::BecomeRoot { alone: !self.facts.unprivileged });
            steps.push(Step::Undumpable);
        }
        if !self.late.is_empty() {
            steps.push(Step::Unshare(self.late));
        }
        // a session of our own: signals of the caller's terminal are not ours, and a terminal may become ours later
        steps.push(Step::Session);
        // before labels: the ring takes the label of its maker
        if !self.request.options.no_new_keyring && self.keyring.is_none() {
            steps.push(Step::Keyring(keyring(self.request.id)?));
        }
        steps.extend(namespaces::names(self.spec, &self.chosen)?);
        // modes of nodes and directories are meant as they are written
        steps.push(Step::Umask(0));
        Ok(())
    }

    /// The root with everything in it, still beside the host's.
    fn build_root(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        let rootfs = rootfs(self.spec, self.request.bundle)?;
        let filled = self.request.notify.is_some() || !self.list().is_empty();
        self.here = rootfs::here(self.spec, &rootfs, &self.chosen, filled)?;
        let source = rootfs::Source { by_host: self.by_host(), hidden: self.hidden(), here: self.here.is_some() };
        let mut mounts = self.mounts()?;
        if self.own_dev() {
            devices::below_dev(&mut mounts);
        }
        if self.chosen.birth.network_ahead {
            // as late as may be: it is still being made. A sysfs shows the devices of the namespace that mounts it
            let needs = |step: &Step| matches!(step, Step::Mount { fstype, .. } if fstype.as_c_str() == c"sysfs");
            let at = mounts.iter().position(needs).unwrap_or(mounts.len());
            mounts.insert(at, Step::JoinNetwork);
        }
        if let Some(propagation) = self.alone(&rootfs, &mounts)? {
            self.alone = true;
            self.chosen.birth.new.remove(Namespace::Mount);
            let path = image::c_string("root.path", rootfs.as_os_str().as_encoded_bytes())?;
            steps.extend(tree::open(path, propagation, &mut mounts, &mut self.slots));
        } else {
            steps.extend(rootfs::open(self.spec, &rootfs, &self.chosen, source, &mut self.opens, &mut self.slots)?);
        }
        steps.extend(mounts);
        // behind the mounts: one of them is /dev
        if self.own_dev() {
            let nodes = self.linux.devices().as_deref().unwrap_or_default();
            let last = self.list.iter().rfind(|mount| devices::is_dev(mount));
            let (fresh, open) = (last.is_some_and(devices::is_empty), last.is_some());
            let from = match (self.chosen.user, self.by_host()) {
                (false, _) => Nodes::Made,
                (true, true) => Nodes::ClonedByHost,
                (true, false) => Nodes::Cloned,
            };
            steps.extend(devices::steps(nodes, from, fresh, open, &mut self.opens, &mut self.slots)?);
        }
        Ok(())
    }

    /// The root becomes `/`, and what must not be seen of it is hidden.
    fn finish_root(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        if !self.alone {
            let stays = self.request.options.no_pivot.then_some(&*self.facts.instances);
            steps.extend(rootfs::pivot(self.spec, &self.chosen, self.here.is_some(), stays)?);
        }
        // the host's tree is out of reach now, and nothing that leads there stays open
        steps.push(Step::CloseFds { preserve: self.request.options.preserve_fds, keep: self.kept().collect() });
        // behind the pivot, so that the terminal's paths are the container's
        if self.process.terminal().unwrap_or_default() {
            let own_dev = self.own_dev();
            steps.extend(terminal::steps(
                self.process,
                self.request.options.console_socket.as_deref(),
                own_dev,
                &mut self.opens,
            )?);
        }
        // sysctls and labels are written through a procfs that nothing covers, before parts of it are masked
        let writes = proc_writes(&self.linux, self.process, &self.chosen, self.facts)?;
        if identity::wants_proc(&writes) {
            steps.push(Step::OpenProc);
        }
        steps.extend(writes);
        let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
        steps.extend(self.readonly.iter().map(|slot| Step::Attr { slot: *slot, attr, recursive: false }));
        let readonly = self.spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly);
        if readonly.unwrap_or_default() {
            let cwd = image::c_string("process.cwd", self.process.cwd().as_os_str().as_encoded_bytes())?;
            steps.extend(Some(cwd).filter(|cwd| cwd.as_c_str() != c"/").map(Step::MakeCwd));
            steps.push(Step::ReadonlyRoot);
        }
        let hidden = hide::paths(&self.linux, &self.chosen, &mut self.notes)?;
        let masks = hidden.iter().any(|step| matches!(step, Step::Mask { .. }));
        steps.extend(hidden);
        if (self.alone || masks) && self.process.cwd() == Path::new("/") {
            // no pivot has brought us back from where we mounted; files are masked from within /dev
            steps.push(Step::Chdir { path: c"/".to_owned(), attempt: Attempt::Only, make: false });
        }
        Ok(())
    }

    /// Whether there was a slot for everything that is opened ahead: see `Plan::open`.
    fn slots(&self) -> Result<()> {
        if self.slots < u16::MAX {
            return Ok(());
        }
        Err(Error::spec("mounts", "needs more descriptors at once than a start has slots for")
            .with_hint("in a user namespace the host opens each mount's source and each device first"))
    }

    /// Scheduling and limits; behind the mounts, which they could hinder.
    fn limit(&self, steps: &mut Vec<Step>, limits: &[super::Limit]) -> Result<()> {
        self.slots()?;
        let (memory, persona) = (self.linux.memory_policy().as_ref(), self.linux.personality().as_ref());
        steps.extend(identity::scheduling(self.process, memory, persona)?);
        // from here on the image decides what its paths lead to
        let keep = self.harmless().into_iter().flatten().collect();
        steps.push(Step::CloseFds { preserve: self.request.options.preserve_fds, keep });
        if !self.chosen.user {
            steps.extend(identity::limit_steps(limits));
        } else if !limits.is_empty() {
            // raising a limit takes a right that a user namespace does not give: the host does it
            steps.push(Step::Tell(Sync::Limited));
            steps.push(Step::Await(Sync::Limited));
        }
        Ok(())
    }

    /// The last looks before the payload. Execve looks for itself; `early`, so that create fails and not start, before hooks
    /// run, and before a filter forbids to look.
    fn go(&self, steps: &mut Vec<Step>, filter: Option<Step>, early: bool) {
        let filtered = filter.is_some() || steps.iter().any(|step| matches!(step, Step::Seccomp { .. }));
        if self.spec.process().is_some() && (early || filtered || self.request.options.waits()) {
            steps.push(Step::Find);
        }
        steps.extend(filter);
        // limits, record and pid file are written when anybody may learn of the container
        steps.push(Step::Await(Sync::Ready));
        if self.request.options.waits() {
            steps.push(Step::Tell(Sync::Ready));
            steps.push(Step::Gate);
        }
        steps.push(Step::Signals);
    }

    /// The hooks that run in the container: at the creation and at the start.
    fn inner_hooks(&mut self, env: &[&str]) -> Result<(Vec<Step>, Vec<Step>)> {
        let hooks = self.spec.hooks().as_ref();
        let creating = hooks::inside("createContainer", hooks.and_then(|h| h.create_container().as_deref()), &[])?;
        let starting = hooks::inside("startContainer", hooks.and_then(|h| h.start_container().as_deref()), env)?;
        if !(creating.is_empty() && starting.is_empty()) {
            self.opens.push((Slot::HOOK[0], Open::HookFiles));
        }
        Ok((creating, starting))
    }

    /// Whether the host half clones what is to be seen in the container: a user namespace may be kept from reaching it.
    fn by_host(&self) -> bool {
        (self.chosen.user || self.hidden()) && !self.facts.foreign_mounts
    }

    /// Whether the host's paths mean nothing where init is: its mount namespace begins empty, or belongs to a container that may
    /// have put anything there.
    fn hidden(&self) -> bool {
        let joined = self.chosen.mount && !self.chosen.made.has(Namespace::Mount);
        (self.chosen.birth.empty_mounts || joined) && !self.facts.foreign_mounts
    }

    /// Whether the mount namespace is made of the root alone: then, how what comes from the host propagates.
    fn alone(&self, rootfs: &Path, mounts: &[Step]) -> Result<Option<u64>> {
        let own = self.chosen.birth.new.has(Namespace::Mount) && !self.chosen.user;
        let able = self.facts.namespaces_of_trees && own;
        let asked = rootfs::propagation(self.spec)?;
        let alone = able && !self.request.options.no_pivot && tree::allowed(self.spec) && tree::fits(mounts, rootfs);
        Ok(tree::propagation(asked).filter(|_| alone))
    }

    fn list(&self) -> &[Mount] {
        &self.list
    }

    /// What stays open behind the pivot: the container's own root and `/dev`, what becomes read-only, and what leads nowhere.
    fn kept(&self) -> impl Iterator<Item = Slot> + '_ {
        let root = [Some(Slot::ROOT), self.own_dev().then_some(Slot::DEV)];
        let late = self.readonly.iter().copied().filter(|slot| *slot != Slot::DEV).map(Some);
        let console = [self.request.options.console_socket.as_ref().map(|_| Slot::CONSOLE)];
        root.into_iter().chain(late).chain(console).chain(self.harmless()).flatten()
    }

    /// What init needs until it executes the payload: pipes and files that lead nowhere.
    fn harmless(&self) -> [Option<Slot>; 6] {
        let gate = [Slot::GATE, Slot::LOCK].map(|slot| Some(slot).filter(|_| self.request.options.waits()));
        let hooks = [Slot::HOOK[0], Slot::HOOK[1], Slot::HOOK[2], Slot::HOOK_START];
        let hooks = hooks.map(|slot| Some(slot).filter(|_| self.late_hooks));
        [gate[0], gate[1], hooks[0], hooks[1], hooks[2], hooks[3]]
    }

    /// Whether `/dev` is ours to fill.
    fn own_dev(&self) -> bool {
        (self.chosen.mount || !self.list().is_empty()) && devices::ours(self.list())
    }

    fn mounts(&mut self) -> Result<Vec<Step>> {
        let mut list = self.list.clone();
        list.extend(self.request.notify.map(notify_mount));
        if list.is_empty() {
            return Ok(Vec::new());
        }
        let root = rootfs(self.spec, self.request.bundle)?;
        let place = Place {
            bundle: self.request.bundle,
            root: &root,
            by_host: self.by_host(),
            hidden: self.hidden(),
            ids: &Ids::of(&self.linux, &self.chosen, self.facts.unprivileged)?,
            beside_host: !self.chosen.mount,
            cgroup_namespace: self.chosen.own.has(Namespace::Cgroup),
            cgroups: self.request.cgroups,
            label: self.linux.mount_label().as_deref(),
        };
        let (steps, late) = mounts::steps(&list, &place, &mut self.opens, &mut self.slots)?;
        self.readonly = late;
        Ok(steps)
    }
}

/// Whether others may see init before it has left the host's mounts, and there is a way to be born without them: in a pid
/// namespace that it joins. Not where hooks are to find the root at the host's path, or where nothing can be pivoted; nor in a
/// user namespace, where the kernel mounts a procfs only beside a whole one.
fn is_seen(spec: &Spec, chosen: &Chosen, request: &Request<'_>, facts: &Facts) -> bool {
    let joins_pid = chosen.birth.joins(Namespace::Pid);
    let possible = chosen.birth.new.has(Namespace::Mount) && !(chosen.user || facts.nested || facts.foreign_mounts);
    joins_pid && possible && tree::allowed(spec) && !request.options.no_pivot
}

/// The namespaces that init must make itself: the cgroup namespace where the process is placed after the clone.
fn late(chosen: &mut Chosen, request: &Request<'_>) -> Namespaces {
    let mut late = Namespaces::default();
    if request.placed_late && chosen.birth.new.has(Namespace::Cgroup) {
        chosen.birth.new.remove(Namespace::Cgroup);
        late.insert(Namespace::Cgroup);
    }
    late
}

fn proc_writes(linux: &Linux, process: &Process, chosen: &Chosen, facts: &Facts) -> Result<Vec<Step>> {
    let mut steps = hide::sysctls(linux, chosen)?;
    steps.extend(identity::labels(process, &facts.lsm)?);
    Ok(steps)
}

/// `Linux::default()` of the crate is a filled example; what is absent in the bundle is empty here.
fn empty() -> Linux {
    serde_json::from_str("{}").unwrap_or_default()
}
