//! **The order** of create and run: what init does, one call a line, each with the reason why it stands there.

use super::devices::Nodes;
use super::mounts::{CgroupTree, Ids, Place};
use super::namespaces::{Chosen, choose};
use super::network::{self, Network};
use super::step::{Slot, Step, Str, Sync};
use super::{Open, Plan, devices, hide, hooks, identity, image, mounts, namespaces, rootfs, terminal, tree};
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Error, Result};
use crate::facts::Facts;
use oci_spec::runtime::{Linux, Mount, Process, Spec};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// What was typed, as far as the plan depends on it.
#[derive(Debug)]
pub struct Request<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The bundle, absolute.
    pub bundle: &'a Path,
    /// `create`: init waits for `start`.
    pub gate: bool,
    /// `--console-socket`.
    pub console_socket: Option<&'a Path>,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that the payload keeps: `--preserve-fds` and the caller's `LISTEN_FDS`.
    pub preserve_fds: u32,
    /// `LISTEN_FDS` of the caller, for the payload's environment.
    pub listen_fds: u32,
    /// The directory of the notify socket, to be seen in the container.
    pub notify: Option<&'a Path>,
    /// The container's cgroups.
    pub cgroups: &'a CgroupTree,
    /// The cgroup namespace must be made late, because the process is placed in its cgroup after the clone.
    pub placed_late: bool,
}

/// Where the root file system lies: `root.path`, relative to the bundle.
///
/// # Errors
/// There is none in the spec.
pub fn rootfs(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let root = spec.root().as_ref().ok_or_else(|| Error::spec("root", "a container needs a root"))?;
    if root.path().as_os_str().is_empty() {
        return Err(Error::spec("root.path", "must not be empty"));
    }
    Ok(bundle.join(root.path()))
}

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
    let nobody = request.gate.then(nobody);
    let absent = || Error::spec("process", "process property must not be empty");
    let process = spec.process().as_ref().or(nobody.as_ref()).ok_or_else(absent)?;
    let (mut opens, mut slots) = (Vec::new(), Slot::FREE);
    let mut chosen = choose(spec, &mut opens, &mut slots)?;
    if facts.unprivileged {
        namespaces::rootless(&chosen, spec.mounts().as_deref().unwrap_or_default())?;
    }
    let late = late(&mut chosen, request);
    let mut draft = Draft::new(spec, process, request, facts, chosen, late);
    (draft.opens, draft.slots) = (opens, slots);
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
    let reported = confined.last.take_if(|_| request.gate && confined.listener.is_some());
    draft.go(&mut steps, reported, !starting.is_empty() || confined.last.is_some());
    // programs of the container's own: what holds for the payload holds for them
    steps.extend(confined.last);
    steps.extend(starting);
    steps.push(Step::Exec);

    let Draft { chosen, here, network, opens, slots, notes, details, .. } = draft;
    Ok(Plan {
        id: request.id.to_owned(),
        root: here,
        network,
        opens,
        slots,
        birth: chosen.birth,
        limits: host_limits,
        oom_score_adj: process.oom_score_adj(),
        hooks,
        terminal: process.terminal().unwrap_or_default() && request.console_socket.is_none(),
        steps,
        image,
        listener: confined.listener,
        notes,
        details,
    })
}

impl<'a> Draft<'a> {
    fn new(
        spec: &'a Spec,
        process: &'a Process,
        request: &'a Request<'a>,
        facts: &'a Facts,
        chosen: Chosen,
        late: Namespaces,
    ) -> Self {
        Self {
            spec,
            process,
            linux: spec.linux().as_ref().map_or_else(|| Cow::Owned(empty()), Cow::Borrowed),
            request,
            facts,
            chosen,
            late,
            here: None,
            network: Network::default(),
            alone: false,
            opens: Vec::new(),
            slots: Slot::FREE,
            notes: Vec::new(),
            details: Vec::new(),
        }
    }
}

impl Draft<'_> {
    /// Into the namespaces, and names in them.
    fn enter(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        self.network = network::network(&self.linux, &self.chosen, self.facts.unprivileged)?;
        // ids mean nothing before the maps are written, a cgroup namespace is rooted where the process is, and devices
        // have settings
        let devices = !self.network.devices.is_empty();
        if self.chosen.birth.maps.is_some() || self.request.placed_late || devices {
            steps.push(Step::Await(Sync::Mapped));
        }
        // given namespaces first: everything below happens in them
        steps.extend(namespaces::join(&self.chosen));
        // in a user namespace nobody is root before he becomes it
        if self.chosen.user {
            steps.push(Step::BecomeRoot { alone: !self.facts.unprivileged });
        }
        if !self.late.is_empty() {
            steps.push(Step::Unshare(self.late));
        }
        // a session of our own: signals of the caller's terminal are not ours, and a terminal may become ours later
        steps.push(Step::Session);
        // before labels: the ring takes the label of its maker
        if !self.request.no_new_keyring {
            steps.push(Step::Keyring(image::c_string("id", format!("_ses.{}", self.request.id))?));
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
        let by = (self.by_host(), self.here.is_some());
        let mut mounts = self.mounts()?;
        let open = self.own_dev() && devices::below_dev(&mut mounts);
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
            steps.extend(rootfs::open(self.spec, &rootfs, &self.chosen, by, &mut self.opens, &mut self.slots)?);
        }
        steps.extend(mounts);
        // behind the mounts: one of them is /dev
        if self.own_dev() {
            let nodes = self.linux.devices().as_deref().unwrap_or_default();
            let fresh = self.list().iter().any(|mount| is_dev(mount) && mount.typ().as_deref() == Some("tmpfs"));
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
            let stays = self.request.no_pivot.then_some(&*self.facts.instances);
            steps.extend(rootfs::pivot(self.spec, &self.chosen, self.here.is_some(), stays)?);
        }
        // behind the pivot, so that the terminal's paths are the container's
        if self.process.terminal().unwrap_or_default() {
            let own_dev = self.own_dev();
            steps.extend(terminal::steps(self.process, self.request.console_socket, own_dev, &mut self.opens)?);
        }
        // sysctls and labels are written through a procfs that nothing covers, before parts of it are masked
        let writes = proc_writes(&self.linux, self.process, &self.chosen, self.facts)?;
        if identity::wants_proc(&writes) {
            steps.push(Step::OpenProc);
        }
        steps.extend(writes);
        steps.extend(mounts::readonly(self.list())?);
        let readonly = self.spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly);
        if readonly.unwrap_or_default() {
            steps.push(Step::ReadonlyRoot);
        }
        steps.extend(hide::paths(&self.linux, self.spec.mounts().as_deref().unwrap_or_default(), &self.chosen)?);
        if self.alone && self.process.cwd() == Path::new("/") {
            // no pivot has brought us back from where we mounted
            steps.push(Step::Chdir { path: c"/".to_owned(), lenient: false, make: false });
        }
        Ok(())
    }

    /// Whether there was a slot for everything that is opened ahead: see `Plan::open`.
    fn slots(&self) -> Result<()> {
        if self.slots < u16::MAX {
            return Ok(());
        }
        Err(Error::spec("mounts", "needs more descriptors at once than a start has slots for")
            .hint("in a user namespace the host opens each mount's source and each device first"))
    }

    /// Scheduling and limits; behind the mounts, which they could hinder.
    fn limit(&self, steps: &mut Vec<Step>, limits: &[super::Limit]) -> Result<()> {
        self.slots()?;
        let (memory, persona) = (self.linux.memory_policy().as_ref(), self.linux.personality().as_ref());
        steps.extend(identity::scheduling(self.process, memory, persona)?);
        // no descriptor of ours outlives execve, whatever opened it
        steps.push(Step::CloseFds(3 + self.request.preserve_fds));
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
        if self.spec.process().is_some() && (early || filtered || self.request.gate) {
            steps.push(Step::Find);
        }
        steps.extend(filter);
        // limits, record and pid file are written when anybody may learn of the container
        steps.push(Step::Await(Sync::Ready));
        if self.request.gate {
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
        self.chosen.user && !self.facts.foreign_mounts
    }

    /// Whether the mount namespace is made of the root alone: then, how what comes from the host propagates.
    fn alone(&self, rootfs: &Path, mounts: &[Step]) -> Result<Option<u64>> {
        let able = self.facts.namespaces_of_trees && self.chosen.made.has(Namespace::Mount) && !self.chosen.user;
        let asked = rootfs::propagation(self.spec)?;
        let alone = able && !self.request.no_pivot && tree::allowed(self.spec) && tree::fits(mounts, rootfs);
        Ok(tree::propagation(asked).filter(|_| alone))
    }

    fn list(&self) -> &[Mount] {
        self.spec.mounts().as_deref().unwrap_or_default()
    }

    /// Whether `/dev` is ours to fill.
    fn own_dev(&self) -> bool {
        (self.chosen.mount || !self.list().is_empty()) && devices::ours(self.list())
    }

    fn mounts(&mut self) -> Result<Vec<Step>> {
        let mut list = self.list().to_vec();
        list.extend(self.request.notify.map(notify_mount));
        if list.is_empty() {
            return Ok(Vec::new());
        }
        let root = rootfs(self.spec, self.request.bundle)?;
        let place = Place {
            bundle: self.request.bundle,
            root: &root,
            by_host: self.by_host(),
            ids: &Ids::of(&self.linux, &self.chosen, self.facts.unprivileged)?,
            beside_host: !self.chosen.mount,
            cgroup_namespace: self.chosen.own.has(Namespace::Cgroup),
            cgroups: self.request.cgroups,
            label: self.linux.mount_label().as_deref(),
        };
        mounts::steps(&list, &place, &mut self.opens, &mut self.slots, &mut self.notes)
    }
}

/// Who waits at the gate of a container that has no process: root without any right.
fn nobody() -> Process {
    serde_json::from_str(r#"{"cwd": "/", "args": ["none"], "user": {"uid": 0, "gid": 0}}"#).unwrap_or_default()
}

fn is_dev(mount: &Mount) -> bool {
    mount.destination().as_os_str() == "/dev"
}

/// Where the payload finds its notify socket.
fn notify_mount(directory: &Path) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination("/run/notify".into());
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some(directory.to_owned()));
    mount.set_options(Some(["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned).to_vec()));
    mount
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

/// Whether `HOME` is to be looked up: it is missing, or empty.
pub(super) fn home_wanted(process: &Process) -> bool {
    let mut homes = process.env().iter().flatten().filter_map(|variable| variable.strip_prefix("HOME="));
    homes.next_back().is_none_or(str::is_empty)
}

/// The payload's environment: the spec's, and what the runtime adds to it.
fn environment(process: &Process, request: &Request<'_>) -> Vec<String> {
    let mut env: Vec<String> = process.env().clone().unwrap_or_default();
    if home_wanted(process) {
        env.retain(|variable| !variable.starts_with("HOME="));
    }
    if request.notify.is_some() {
        env.push("NOTIFY_SOCKET=/run/notify/notify.sock".to_owned());
    }
    if request.listen_fds > 0 {
        env.push(format!("LISTEN_FDS={}", request.listen_fds));
        env.push("LISTEN_PID=1".to_owned());
    }
    env
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
