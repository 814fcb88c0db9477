//! **The order** of `exec`: everything that a process does that joins a container, in order, with the reason for each position.
//! It uses the same steps as `container.rs`, and the same executor.

use super::opens::Opens;
use super::request::StartOptions;
use super::step::{Slot, Step, Sync};
use super::{CloneSpec, Plan, identity, image, request, terminal};
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::Result;
use crate::facts::Facts;
use crate::plan::hooks::Hooks;
use crate::spec::{self, Checked, NamespaceSet};
use oci_spec::runtime::{Linux, Process};

/// What the plan of an `exec` depends on, besides the machine.
#[derive(Debug)]
pub struct Request<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The process.
    pub process: &'a Checked<Process>,
    /// `linux` of the container's configuration.
    pub linux: Option<&'a Linux>,
    /// How the process is started; `no_new_keyring` is the value with which the container was created.
    pub options: &'a StartOptions,
    /// The caller is root of its user namespace.
    pub privileged: bool,
    /// The caller's groups stay (`run.oci.keep_original_groups`).
    pub keeps_groups: bool,
    /// The process is moved into its cgroups after the clone (v1, or a user's systemd).
    pub placed_late: bool,
}

/// Plans a process of `exec`.
///
/// # Errors
/// The process asks for something impossible; the error names the JSON path.
pub fn plan(request: &Request<'_>, facts: &Facts) -> Result<Plan> {
    let (process, linux) = (request.process, request.linux);
    let (mut opens, mut details) = (Opens::new(), Vec::new());
    let own = spec::namespaces(linux)?;
    let user = own.all.has(Namespace::User);
    let (clone_spec, join) = split(own.all, request)?;
    let limits = identity::limits(process);
    let home = request::home_wanted(process);
    let env =
        process.env().iter().flatten().map(String::as_str).filter(|variable| !(home && variable.starts_with("HOME=")));
    let env: Vec<&str> = env.collect();
    let env = image::environment(env.into_iter());
    let image = image::Image::new("process", process.args().as_deref().unwrap_or_default(), &env, home)?;
    let profile = linux.and_then(|linux| linux.seccomp().as_ref());
    let keeps_groups = request.keeps_groups;
    let caller = identity::Caller { groups: request.privileged, keeps_groups, is_root: facts.root && !user };
    let confined = identity::confine(process, profile, caller, identity::Role::Exec, &mut details)?;
    let has_terminal = process.terminal().unwrap_or_default();
    let labels = identity::labels(process, &facts.lsm)?;

    let keyring = (!request.options.no_new_keyring && by_host(request, &own)).then(|| request::keyring(request.id));
    let keyring = keyring.transpose()?;
    let mut steps = Vec::with_capacity(40);
    enter(request, &own, labels, join, &mut steps)?;
    // opened in the container's devpts, so that its path is valid in the container
    if has_terminal {
        steps.extend(terminal::steps(process, request.options.console_socket.as_deref(), false, &mut opens)?);
    }
    // from here on the process takes on the payload's attributes
    steps.extend(affinity(process)?);
    let memory = linux.and_then(|linux| linux.memory_policy().as_ref());
    steps.extend(identity::scheduling(process, memory, linux.and_then(|linux| linux.personality().as_ref()))?);
    // raising a hard limit needs CAP_SYS_RESOURCE in the initial user namespace: there the host does it
    let host_limits = if user { limits.clone() } else { Vec::new() };
    steps.extend(identity::limit_steps(if user { &[] } else { &limits }));
    steps.extend(confined.before);
    go(process, home, !host_limits.is_empty(), &mut steps);
    steps.extend(confined.last);
    steps.push(Step::Exec);

    let (opens, slots) = opens.into_parts();
    Ok(Plan {
        root: None,
        network: super::network::Network::default(),
        opens,
        slots,
        clone_spec,
        limits: host_limits,
        oom_score_adj: process.oom_score_adj(),
        keyring,
        hooks: Hooks::default(),
        steps,
        image,
        listener: confined.listener,
        delegate: None,
        added: Vec::new(),
        notes: confined.notes,
        details,
    })
}

/// Whether the host half joins the container's keyring, as it did when it created the container.
fn by_host(request: &Request<'_>, own: &NamespaceSet) -> bool {
    request.privileged && own.all.has(Namespace::User)
}

/// Enters the container: its root, user namespace, session and keyring.
fn enter(
    request: &Request<'_>,
    own: &NamespaceSet,
    labels: Vec<Step>,
    join: Namespaces,
    steps: &mut Vec<Step>,
) -> Result<()> {
    // first: nothing that the host half or its caller has open may be visible in the container
    let preserve = request.options.preserve_fds;
    steps.push(Step::CloseInherited { preserve });
    // before anything else is opened or used, so that the container's limits and device rules apply to it
    if request.placed_late {
        steps.push(Step::Await(Sync::Mapped));
    }
    // through a procfs of our own, in which the container can have mounted nothing, and with the host's capabilities
    if !labels.is_empty() {
        steps.push(Step::OpenProc);
        steps.extend(labels);
    }
    if !join.is_empty() {
        steps.push(Step::Join(Slot::INIT, join));
    }
    // a container without a mount namespace of its own has its root by chroot(2): take the root of its first process, by
    // descriptor, because the container may have replaced what is at its path
    if !own.new.has(Namespace::Mount) {
        steps.push(Step::EnterRoot);
    }
    let keep = request.options.console_socket.as_ref().map(|_| Slot::CONSOLE);
    steps.push(Step::CloseFds { preserve, keep: keep.into_iter().collect() });
    // joining a user namespace does not change our ids
    if own.all.has(Namespace::User) {
        steps.push(Step::BecomeRoot { alone: request.privileged && !request.keeps_groups });
        steps.push(Step::Undumpable);
    }
    // a new session: the caller's terminal must not signal us, and only a session leader can take a terminal
    steps.push(Step::Session);
    // all processes of a container share its keyring
    if !(request.options.no_new_keyring || by_host(request, own)) {
        steps.push(Step::Keyring(request::keyring(request.id)?));
    }
    Ok(())
}

/// The last steps before the payload.
fn go(process: &Process, home: bool, limited: bool, steps: &mut Vec<Step>) {
    if home {
        steps.push(Step::Home(process.user().uid()));
    }
    steps.push(Step::Find);
    // the host has set what init may not set
    if process.oom_score_adj().is_some() || limited {
        steps.push(Step::Await(Sync::Ready));
    }
    steps.push(Step::Signals);
}

/// Splits the namespaces into those that an intermediate process joins before it clones the child, and those that the child
/// joins itself.
///
/// Most are joined by the intermediate process, so that the child never shows the container anything of the host: reading its
/// `/proc/PID/mountinfo` or `net` needs no privilege. It joins them in one call, so that the kernel checks each against the
/// capabilities that we have now, in any order. The child joins the cgroup namespace, because inside it the kernel may refuse the
/// clone into the container's cgroup (`nsdelegate`, cgroups(7): our own cgroup is not visible there); and, if we are root, the
/// user namespace: until then it has capabilities that no process of the container can have over it. A caller who is not root
/// gets the capabilities for the other namespaces only from the container's user namespace, so it is joined first.
fn split(own: Namespaces, request: &Request<'_>) -> Result<(CloneSpec, Namespaces)> {
    let mut clone_spec = CloneSpec::default();
    let initial = request.process.exec_cpu_affinity().as_ref().and_then(|affinity| affinity.initial().as_deref());
    clone_spec.affinity = identity::bit_list("process.execCPUAffinity.initial", initial.unwrap_or_default())?;
    clone_spec.undumpable = true;
    let mut rest = Namespaces::default();
    for kind in Namespace::ALL.into_iter().filter(|kind| own.has(*kind)) {
        match kind {
            Namespace::Cgroup => rest.insert(kind),
            Namespace::User if request.privileged => rest.insert(kind),
            Namespace::User => clone_spec.join_before_clone.push((Slot::INIT, kind)),
            Namespace::Mount
            | Namespace::Uts
            | Namespace::Ipc
            | Namespace::Pid
            | Namespace::Network
            | Namespace::Time => clone_spec.join_in_intermediate.insert(kind),
        }
    }
    Ok((clone_spec, rest))
}

/// The final CPU affinity, set once the process is in the container's cgroups.
fn affinity(process: &Process) -> Result<Option<Step>> {
    let list = process.exec_cpu_affinity().as_ref().and_then(|affinity| affinity.cpu_affinity_final().as_deref());
    let mask = identity::bit_list("process.execCPUAffinity.final", list.unwrap_or_default())?;
    Ok((!mask.is_empty()).then_some(Step::Affinity(mask)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::cgroup::CgroupPlan;
    use crate::plan::show;

    fn request<'a>(process: &'a Checked<Process>, linux: &'a Linux, options: &'a StartOptions) -> Request<'a> {
        Request {
            id: "web",
            process,
            linux: Some(linux),
            options,
            privileged: true,
            keeps_groups: false,
            placed_late: false,
        }
    }

    fn shown(linux: &str, process: &str, change: impl FnOnce(&mut Request<'_>)) -> String {
        shown_with(&StartOptions::default(), linux, process, change)
    }

    fn shown_with(options: &StartOptions, linux: &str, process: &str, change: impl FnOnce(&mut Request<'_>)) -> String {
        let process = spec::check_process(serde_json::from_str(process).unwrap()).unwrap();
        let linux: Linux = serde_json::from_str(linux).unwrap();
        let mut request = request(&process, &linux, options);
        change(&mut request);
        let facts = Facts { root: request.privileged, ..Facts::default() };
        show::text(&plan(&request, &facts).unwrap(), &CgroupPlan::default())
    }

    const ALL: &str = r#"{"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network", "path": "/run/n"},
        {"type": "user"}, {"type": "time"}, {"type": "cgroup"}]}"#;
    const TRUE: &str = r#"{"cwd": "/", "args": ["/bin/true"], "env": ["HOME=/"], "user": {"uid": 0, "gid": 0}}"#;

    #[test]
    fn the_order() {
        let plain = r#"{"namespaces": [{"type": "pid"}, {"type": "mount"}]}"#;
        let full = r#"{"cwd": "/w", "args": ["ls"], "env": ["PATH=/bin"], "user": {"uid": 5, "gid": 6}, "oomScoreAdj": 3,
            "noNewPrivileges": true, "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}], "terminal": true,
            "execCPUAffinity": {"initial": "0", "final": "1"}, "capabilities": {"bounding": ["CAP_KILL"]}}"#;
        let text = shown(plain, full, |request| request.placed_late = true);
        let order = [
            "host  setns(pid|mount of the process of slot 8) before the clone",
            "host  oom_score_adj 3",
            "close all descriptors from 3 on but slots",
            "wait for the host: mapped",
            "close all descriptors from 3 on",
            "setsid()",
            "join session keyring \"_ses.web\"",
            "open a terminal from /dev/pts/ptmx",
            "send the terminal to the host",
            "make the terminal the controlling one",
            "sched_setaffinity()",
            "prlimit(RLIMIT_CORE, 1, 2)",
            "chdir(\"/w\")",
            "prctl(PR_SET_NO_NEW_PRIVS)",
            "bound capabilities to 0x20",
            "setgroups([])",
            "setresgid(6)",
            "setresuid(5)",
            "chdir(\"/w\")",
            "capset(",
            "prctl(PR_SET_DUMPABLE, 0)",
            "look up HOME of uid 5",
            "find the program",
            "wait for the host: ready",
            "default signals",
            "execve",
        ];
        let mut rest = text.as_str();
        for line in order {
            let at = rest.find(line).unwrap_or_else(|| panic!("no {line:?} in the rest of\n{text}"));
            rest = &rest[at + line.len()..];
        }
    }

    #[test]
    fn root_joins_everything_but_the_pid_namespace_at_once() {
        let text = shown(ALL, TRUE, |_| {});
        assert!(
            text.contains("host  setns(network|pid|time|mount of the process of slot 8) before the clone"),
            "{text}"
        );
        assert!(text.contains("setns(user|cgroup of the process of slot 8)"), "{text}");
        assert!(text.contains("become id 0"), "{text}");
    }

    #[test]
    fn others_go_through_the_user_namespace_first() {
        let text = shown(ALL, TRUE, |request| request.privileged = false);
        let inside =
            "host  join user (slot 8)\nhost  setns(network|pid|time|mount of the process of slot 8) before the clone";
        assert!(text.contains(inside), "{text}");
        assert!(text.contains("setns(cgroup of the process of slot 8)"), "{text}");
    }

    #[test]
    fn what_nobody_needs_is_not_there() {
        let kept = StartOptions { no_new_keyring: true, ..StartOptions::default() };
        let text = shown_with(&kept, r#"{"namespaces": [{"type": "mount"}]}"#, TRUE, |_| {});
        for absent in ["wait for", "keyring", "pid", "chroot", "setresuid", "HOME", "chdir", "procfs", "become"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
        let chroot = shown(r#"{"namespaces": [{"type": "mount", "path": "/proc/1/ns/mnt"}]}"#, TRUE, |_| {});
        assert!(chroot.contains("setns(mount of") && chroot.contains("chroot to the root"), "{chroot}");
        assert!(shown("{}", TRUE, |_| {}).contains("chroot to the root"));
    }

    #[test]
    fn labels_are_written_before_the_container_is_entered() {
        let process = r#"{"cwd": "/", "args": ["x"], "user": {}, "apparmorProfile": "p"}"#;
        let process = spec::check_process(serde_json::from_str(process).unwrap()).unwrap();
        let linux: Linux = serde_json::from_str(ALL).unwrap();
        let options = StartOptions::default();
        let request = request(&process, &linux, &options);
        let facts = Facts { root: true, lsm: crate::facts::Lsm { apparmor: true, selinux: false }, ..Facts::default() };
        let steps = plan(&request, &facts).unwrap().steps;
        assert!(matches!(
            steps.as_slice(),
            [Step::CloseInherited { .. }, Step::OpenProc, Step::WriteProc { .. }, Step::Join(..), ..]
        ));
        assert!(plan(&request, &Facts::default()).is_err());
    }
}
