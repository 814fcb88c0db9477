//! **The order** of create and run: what init does, one call a line, each with the reason why it stands there.

use super::mounts::{CgroupTree, Place};
use super::namespaces::{Chosen, choose};
use super::step::{Slot, Step, Sync};
use super::{Open, Plan, devices, hide, hooks, identity, image, mounts, namespaces, rootfs, terminal};
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Error, Result};
use crate::facts::Facts;
use oci_spec::runtime::{Linux, Process, Spec};
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

/// Plans a container.
///
/// # Errors
/// The bundle asks for what can't be; the error names the JSON path.
pub fn plan(spec: &Spec, request: &Request<'_>, facts: &Facts) -> Result<Plan> {
    let process =
        spec.process().as_ref().ok_or_else(|| Error::spec("process", "process property must not be empty"))?;
    let linux = spec.linux().clone().unwrap_or_default_empty();
    let (mut opens, mut slots, mut notes) = (Vec::new(), Slot::FREE, Vec::new());
    let mut chosen = choose(spec, &mut opens, &mut slots)?;
    let late = late(&mut chosen, request);
    let limits = identity::limits(process)?;
    let home = home_wanted(process);
    let env = environment(process, request);
    let env: Vec<&str> = env.iter().map(String::as_str).collect();
    let env = image::environment(env.iter().copied());
    let image = image::Image::new("process", process.args().as_deref().unwrap_or_default(), &env, home)?;
    let is_root = facts.root && !chosen.user;
    let confined =
        identity::confine(process, linux.seccomp().as_ref(), true, is_root, identity::Role::First, &mut notes)?;
    let terminal = process.terminal().unwrap_or_default();
    let inner = spec.hooks().as_ref();
    let mut inside = hooks::inside("createContainer", inner.and_then(|h| h.create_container().as_deref()), &[])?;
    let starting = hooks::inside("startContainer", inner.and_then(|h| h.start_container().as_deref()), &env)?;
    let has_hooks = !(inside.is_empty() && starting.is_empty());
    let hooks = hooks::of(spec)?;
    let proc = proc_writes(&linux, process, &chosen, facts)?;

    let mut steps = Vec::with_capacity(96);
    // ids mean nothing before the maps are written, and a cgroup namespace is rooted where the process is
    if chosen.birth.maps.is_some() || request.placed_late {
        steps.push(Step::Await(Sync::Mapped));
    }
    // given namespaces first: everything below happens in them
    steps.extend(namespaces::join(&chosen));
    // in a user namespace nobody is root before he becomes it
    if chosen.user {
        steps.push(Step::BecomeRoot);
    }
    // what the clone could not make
    if !late.is_empty() {
        steps.push(Step::Unshare(late));
    }
    // a session of our own: signals for the caller's terminal are not ours, and a controlling one may be taken later
    steps.push(Step::Session);
    // before labels: the ring takes the label of its maker
    if !request.no_new_keyring {
        steps.push(Step::Keyring(image::c_string("id", format!("_ses.{}", request.id))?));
    }
    steps.extend(namespaces::names(spec, &chosen)?);
    // modes of nodes and directories are meant as they are written
    steps.push(Step::Umask(0));
    let rootfs = rootfs(spec, request.bundle)?;
    steps.extend(rootfs::open(spec, &rootfs, &chosen, &mut opens, &mut slots)?);
    steps.extend(mount_steps(spec, request, &linux, &chosen, &mut opens, &mut slots, &mut notes)?);
    let fresh =
        |m: &oci_spec::runtime::Mount| m.destination().as_os_str() == "/dev" && m.typ().as_deref() == Some("tmpfs");
    let fresh_dev = spec.mounts().iter().flatten().any(fresh);
    let own_dev = chosen.mount && devices::ours(spec.mounts().as_deref().unwrap_or_default());
    if own_dev {
        steps.extend(devices::steps(
            linux.devices().as_deref().unwrap_or_default(),
            chosen.user,
            fresh_dev,
            &mut opens,
            &mut slots,
        )?);
    }
    // the root is complete and the host's is still in sight: that is what these hooks are for
    if !hooks.runtime.is_empty() || has_hooks {
        steps.push(Step::Tell(Sync::Rooted));
        steps.push(Step::Await(Sync::Rooted));
    }
    steps.append(&mut inside);
    steps.extend(rootfs::pivot(spec, &chosen, request.no_pivot)?);
    // behind the pivot, so that the terminal's paths are the container's
    if terminal {
        steps.extend(terminal::steps(process, request.console_socket, own_dev, &mut opens)?);
    }
    // sysctls and labels are written through a procfs that nothing covers, before parts of it are masked
    let writes_proc = identity::wants_proc(&proc);
    if writes_proc {
        steps.push(Step::OpenProc);
    }
    steps.extend(proc);
    if spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or_default() && chosen.mount {
        steps.push(Step::ReadonlyRoot);
    }
    steps.extend(hide::paths(&linux, &chosen)?);
    // from here on the process is what the payload will be, bit by bit
    steps.extend(identity::scheduling(process, linux.memory_policy().as_ref(), linux.personality().as_ref())?);
    let host_limits = if chosen.user {
        limits
    } else {
        steps.extend(identity::limit_steps(&limits));
        Vec::new()
    };
    // no descriptor of ours outlives execve, whatever opened it
    steps.push(Step::CloseFds(3 + request.preserve_fds));
    if !host_limits.is_empty() {
        // raising a limit takes a right that a user namespace does not give: the host does it
        steps.push(Step::Tell(Sync::Limited));
        steps.push(Step::Await(Sync::Limited));
    }
    steps.extend(confined.before);
    if home {
        steps.push(Step::Home(process.user().uid()));
    }
    // early, so that create fails and not start
    steps.push(Step::Find);
    // limits, record and pid file are written when anybody may learn of the container
    steps.push(Step::Await(Sync::Ready));
    if request.gate {
        steps.push(Step::Tell(Sync::Ready));
        steps.push(Step::Gate);
    }
    steps.push(Step::Signals);
    steps.extend(starting);
    steps.extend(confined.last);
    steps.push(Step::Exec);

    if has_hooks {
        opens.push((Slot::HOOK[0], Open::HookFiles));
    }
    Ok(Plan {
        id: request.id.to_owned(),
        opens,
        slots,
        birth: chosen.birth,
        limits: host_limits,
        oom_score_adj: process.oom_score_adj(),
        hooks,
        terminal: terminal && request.console_socket.is_none(),
        steps,
        image,
        listener: confined.listener,
        notes,
    })
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
    !process.env().iter().flatten().any(|variable| variable.strip_prefix("HOME=").is_some_and(|home| !home.is_empty()))
}

/// The payload's environment: the spec's, and what the runtime adds to it.
fn environment(process: &Process, request: &Request<'_>) -> Vec<String> {
    let mut env: Vec<String> = process.env().clone().unwrap_or_default();
    env.retain(|variable| variable != "HOME=");
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

fn mount_steps(
    spec: &Spec,
    request: &Request<'_>,
    linux: &Linux,
    chosen: &Chosen,
    opens: &mut Vec<(Slot, Open)>,
    slots: &mut u16,
    notes: &mut Vec<String>,
) -> Result<Vec<Step>> {
    let mut list = spec.mounts().clone().unwrap_or_default();
    if let Some(directory) = request.notify {
        let mut mount = oci_spec::runtime::Mount::default();
        mount.set_destination("/run/notify".into());
        mount.set_typ(Some("bind".to_owned()));
        mount.set_source(Some(directory.to_owned()));
        mount.set_options(Some(["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned).to_vec()));
        list.push(mount);
    }
    if list.is_empty() {
        return Ok(Vec::new());
    }
    if !chosen.mount {
        return Err(Error::spec("mounts", "mounts need a mount namespace in linux.namespaces"));
    }
    let place = Place {
        bundle: request.bundle,
        user: chosen.user,
        cgroup_namespace: chosen.own.has(Namespace::Cgroup),
        cgroups: request.cgroups,
        label: linux.mount_label().as_deref(),
    };
    mounts::steps(&list, &place, opens, slots, notes)
}

/// `Linux::default()` of the crate is a filled example; what is absent in the bundle is empty here.
trait EmptyLinux {
    fn unwrap_or_default_empty(self) -> Linux;
}

impl EmptyLinux for Option<Linux> {
    fn unwrap_or_default_empty(self) -> Linux {
        self.unwrap_or_else(|| serde_json::from_str("{}").unwrap_or_default())
    }
}
