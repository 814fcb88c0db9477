//! Errors of init. Init reports a failure in twelve bytes (`crate::sync_socket`); the host half, which holds the plan, makes the
//! message.

#![allow(clippy::wildcard_enum_match_arm, reason = "errno is an open set, and most steps explain themselves")]

use super::{Mode, hooks};
use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, reason};
use crate::plan::Plan;
use crate::plan::image::Image;
use crate::plan::step::{Slot, Step};
use crate::sync_socket::{Cause, Failure};
use crate::sys::Errno;
use crate::sys::netns::NetnsError;
use crate::sys::signal::End;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

/// Scheduling policy (linux/sched.h).
const SCHED_DEADLINE: u32 = 6;

/// runc's prefix of everything that fails in a process of `exec`.
pub(super) const EXEC: &str = "unable to start container process";

impl Mode {
    /// runc's prefix of everything that fails in init.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Create | Self::Run => "unable to start container process: error during container init",
            Self::Exec => EXEC,
            Self::Mounts => "unable to change the container's mounts",
        }
    }
}

/// The error for a failure that init has reported.
pub(super) fn of(mode: Mode, plan: &Plan, failure: Failure, slots: &[Option<OwnedFd>]) -> Error {
    step_error(plan, failure, slots).context(mode.prefix())
}

fn step_error(plan: &Plan, failure: Failure, slots: &[Option<OwnedFd>]) -> Error {
    let index = usize::from(failure.step);
    let Some(step) = plan.steps.get(index) else { return Error::msg(format!("step {index} failed")) };
    let errno = Errno::from_raw(failure.errno);
    let place = format!("step {}/{}", index + 1, plan.steps.len());
    let error = known(step, failure, errno, &plan.image, slots).unwrap_or_else(|| {
        let why = cause(failure.cause).map_or_else(|| reason(errno), str::to_owned);
        Error::msg(format!("{place}: {step}: {why}"))
    });
    let error = match hint(step, errno) {
        Some(hint) => error.with_hint(hint),
        None => error,
    };
    let error = match bind_at(&plan.steps, index) {
        Some((source, target)) => error.context(mounting(source, target)),
        None => error,
    };
    error.fact("phase", "init").fact("step", place).fact("code", format!("{errno:?}"))
}

/// runc's prefix of the errors of a bind mount.
pub(super) fn mounting(source: &CStr, target: &CStr) -> String {
    format!("error mounting {:?} to rootfs at {:?}", source.to_string_lossy(), target.to_string_lossy())
}

/// Source and target of the bind mount that a step belongs to: any step from the clone of the source to its attachment, and a clone
/// in advance.
pub(super) fn bind_at(steps: &[Step], index: usize) -> Option<(&CStr, &CStr)> {
    let source = |step: &Step| matches!(step, Step::Clone { .. } | Step::CloneInside { .. } | Step::Take { .. });
    let first = match steps.get(index)? {
        // cloned in advance; the steps of its bind mount come later
        Step::CloneAhead { slot, .. } => {
            steps.iter().position(|step| matches!(step, Step::Take { slot: taken, .. } if taken == slot))?
        }
        step if source(step) => index,
        Step::IdMap { .. }
        | Step::AttrKeepLocked { .. }
        | Step::Attach { .. }
        | Step::Attr { slot: Slot::TREE, .. } => index - steps[..index].iter().rev().position(source)? - 1,
        _ => return None,
    };
    let (Step::Clone { source, .. } | Step::CloneInside { source, .. } | Step::Take { source, .. }) = &steps[first]
    else {
        return None;
    };
    steps[first..].iter().find_map(|step| match step {
        Step::Attach { target, .. } => Some((source.as_c_str(), target.as_c_str())),
        _ => None,
    })
}

/// Failures with a well-known message, which engines may parse.
// check: table: one arm for each failure
fn known(step: &Step, failure: Failure, errno: Errno, image: &Image, slots: &[Option<OwnedFd>]) -> Option<Error> {
    match (step, failure.cause) {
        (Step::Find | Step::Exec, Cause::NoProgram) => Some(program(image, false, errno)),
        (Step::Exec, Cause::Kernel) => Some(program(image, true, errno)),
        (Step::Hook(hook), cause) => {
            let end = match cause {
                Cause::HookExited => Some(End::Exited(failure.detail)),
                Cause::HookKilled => Some(End::Killed(failure.detail)),
                Cause::HookTimeout => None,
                _ => {
                    let text = format!("error running {}: fork/exec {}", hook.name, hook.image.program);
                    return Some(Error::from(errno).context(text));
                }
            };
            let text = |slot: Slot| {
                slots.get(slot.index()).and_then(Option::as_ref).map(|fd| hooks::output(fd.as_fd())).unwrap_or_default()
            };
            let how = hooks::how(end, hook.timeout);
            let failed =
                hooks::failed(&hook.name, &hook.image.program, &how, &text(Slot::HOOK[1]), &text(Slot::HOOK[2]));
            // the container exists already: what fails is the start of the payload
            Some(if hook.late { failed.with_kind(Kind::Launch) } else { failed })
        }
        (Step::Chdir { .. }, Cause::CwdOutside) => Some(Error::msg(
            "current working directory is outside of container mount namespace root -- possible container breakout detected",
        )),
        (Step::Chdir { path, .. }, _) => {
            let path = path.to_string_lossy();
            Some(Error::msg(format!("chdir to cwd ({path:?}) set in config.json failed: {}", reason(errno))))
        }
        (Step::Clone { source, .. } | Step::CloneAhead { source, .. }, _) if errno == Errno::ENOENT => {
            let path = source.to_string_lossy();
            Some(Error::msg(format!("failed to fulfil mount request: open {path}: {}", reason(errno))))
        }
        (Step::IdMap { source, by_host: false, .. }, _) => Some(not_mapped(source, errno)),
        (Step::Uid(id), _) if errno == Errno::EINVAL => Some(unmapped("uid", *id)),
        (Step::Gid(id), _) if errno == Errno::EINVAL => Some(unmapped("gid", *id)),
        (Step::AttrKeepLocked { .. }, _) if errno == Errno::EPERM => {
            let words = Error::msg(format!("{step}: {}", reason(errno)));
            Some(words.with_hint(
                "flags locked by the host mount (nosuid, nodev, noexec, ro) cannot be cleared in a user namespace",
            ))
        }
        (Step::OpenRoot { path, .. } | Step::NewTree { path, .. } | Step::Chroot(path), _)
            if matches!(errno, Errno::ENOENT | Errno::ENOTDIR) =>
        {
            Some(Error::new(Kind::Spec, format!("invalid rootfs: stat {}: {}", path.to_string_lossy(), reason(errno))))
        }
        (Step::Mount { target, fstype, .. }, Cause::NotOrdinary) => {
            let (fstype, target) = (fstype.to_string_lossy(), target.to_string_lossy());
            Some(Error::msg(format!(
                "filesystem {fstype:?} must be mounted on ordinary directory, but {target} is none"
            )))
        }
        (Step::JoinNetwork, Cause::NoNetwork | Cause::NoLoopback) => {
            Some(super::spawn::no_network(NetnsError { loopback: failure.cause == Cause::NoLoopback, errno }))
        }
        (
            Step::Attach { target, .. } | Step::Mount { target, .. } | Step::MountCgroup { target, .. },
            Cause::InProc,
        ) => {
            let target = target.to_string_lossy();
            let text = format!("{target:?} cannot be mounted because it is inside /proc");
            Some(Error::msg(text).with_hint("a symbolic link of the image leads there"))
        }
        (Step::OpenDev, Cause::ForeignDev) => Some(
            Error::msg("/dev of the container is a mount that the configuration does not name /dev: it is not filled")
                .with_hint("mount a tmpfs on /dev, or bind what is to be /dev there by that name"),
        ),
        (Step::Attach { target, .. }, Cause::NotProcfs) => {
            let target = target.to_string_lossy();
            Some(Error::msg(format!("{target:?} cannot be mounted because it is not of type proc")))
        }
        _ => None,
    }
}

/// The error for a mount whose ids could not be mapped, worded like runc's.
pub(super) fn not_mapped(source: &CStr, errno: Errno) -> Error {
    let why = match errno {
        Errno::EINVAL => " (maybe the filesystem used doesn't support idmap mounts on this kernel?)",
        _ => "",
    };
    let (path, reason) = (source.to_string_lossy(), reason(errno));
    let text = format!("failed to fulfil mount request: failed to set MOUNT_ATTR_IDMAP on {path}: {reason}{why}");
    Error::msg(text).fact("syscall", "mount_setattr").fact("path", path).fact("code", format!("{errno:?}"))
}

fn unmapped(kind: &str, id: u32) -> Error {
    let text = format!("unable to setup user: cannot set{kind} to unmapped {kind} {id} in user namespace");
    Error::msg(text).with_hint(format!("linux.{kind}Mappings lists the ids of the user namespace"))
}

/// The error for a program that can't be found, or that execve refuses, worded like Go's `exec.LookPath` and runc's execve.
fn program(image: &Image, found: bool, errno: Errno) -> Error {
    let name = &image.program;
    let missing = matches!(errno, Errno::ENOENT | Errno::ENOTDIR);
    let text = if found {
        format!("exec {name}: {}", reason(errno))
    } else if image.searched && missing {
        format!("exec: {name:?}: executable file not found in $PATH")
    } else if missing {
        format!("exec: {name:?}: stat {name}: {}", reason(errno))
    } else {
        format!("exec: {name:?}: {}", reason(errno))
    };
    let error = Error::msg(text).fact("path", name.clone());
    match errno {
        // the file exists and may be executed: its interpreter or its loader does not exist
        Errno::ENOENT if found => error.with_hint("the interpreter or the loader of the program is missing"),
        Errno::ENOEXEC => error.with_hint("the program is of another architecture, or a script without #! line"),
        _ => error,
    }
}

fn cause(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::OtherNode => Some("another file exists there"),
        Cause::NotNull => Some("/dev/null of the container is not the null device"),
        Cause::InProc => Some("the target is inside /proc"),
        Cause::NotDevpts => Some("/dev/pts of the container is not devpts"),
        Cause::ForeignDev => Some("/dev is not the container's own"),
        Cause::NotProcfs => Some("/proc is not procfs"),
        Cause::NotOrdinary => Some("not an ordinary directory"),
        Cause::CwdOutside => Some("the working directory is outside of the root"),
        Cause::Kernel
        | Cause::NoNetwork
        | Cause::NoLoopback
        | Cause::NoProgram
        | Cause::HookExited
        | Cause::HookKilled
        | Cause::HookTimeout
        | Cause::HookRefused
        | Cause::Gate => None,
    }
}

fn hint(step: &Step, errno: Errno) -> Option<&'static str> {
    match (step, errno) {
        (Step::Mount { fstype, .. }, Errno::EPERM) if fstype.as_c_str() == c"proc" || fstype.as_c_str() == c"sysfs" => {
            Some(
                "in a user namespace a fresh instance needs a pid (proc) or network (sysfs) namespace of its own, \
                 and is refused while the host's own is partly covered: bind the host's",
            )
        }
        (Step::AttrKeepLocked { .. } | Step::AttrAt { .. }, Errno::EPERM) => {
            Some("flags locked by the host mount (nosuid, nodev, noexec, ro) cannot be cleared in a user namespace")
        }
        (Step::Mount { fstype, .. }, Errno::EINVAL) if fstype.as_c_str() == c"devpts" => {
            Some("in a user namespace gid= must be an id that is mapped there")
        }
        (Step::Limit { .. }, Errno::EPERM) => Some("raising a hard limit needs CAP_SYS_RESOURCE"),
        (Step::Scheduler(attr, _), Errno::EPERM) if attr.policy == SCHED_DEADLINE => {
            Some("SCHED_DEADLINE needs CAP_SYS_NICE, and is refused under a restricted set of processors")
        }
        (Step::Scheduler(..), Errno::EPERM) => Some(
            "a real-time policy or a lower nice value needs CAP_SYS_NICE; with cgroup v1 the cgroup may also need cpu.rt_runtime_us \
             (linux.resources.cpu.realtimeRuntime)",
        ),
        (Step::Propagate(_), Errno::EINVAL) => Some(
            "/ of the caller is not a mount point (a chroot below an initramfs): bind the directory on itself before chroot \
             (mount --rbind DIR DIR)",
        ),
        (Step::Seccomp { .. }, Errno::EACCES) => {
            Some("loading a filter needs process.noNewPrivileges or CAP_SYS_ADMIN")
        }
        (Step::Keyring(_), _) => Some("--no-new-keyring leaves the container in its caller's session keyring"),
        (Step::Pivot { .. }, Errno::EINVAL) => Some("where the root is an initramfs, --no-pivot"),
        _ => None,
    }
}

/// The error for a first process that ends before it has executed the payload.
pub fn lost(cgroup: &Cgroup) -> impl Fn(Option<End>) -> Error {
    |end| vanished(Mode::Run, end, cgroup)
}

/// The error for an init that ended without a report. The cgroup's counter tells whether the OOM killer was at work.
pub(super) fn vanished(mode: Mode, end: Option<End>, cgroup: &Cgroup) -> Error {
    let error = match end {
        Some(End::Killed(libc::SIGKILL)) if killed_for_memory(cgroup) => Error::msg(match mode {
            Mode::Create | Mode::Run => "container init was OOM-killed (memory limit too low?)",
            // runc's wording: some process in the cgroup was killed, perhaps this one
            Mode::Exec | Mode::Mounts => "killed by signal 9 (possibly OOM-killed)",
        }),
        Some(End::Killed(_) | End::Exited(_)) | None => ended(end),
    };
    error.context(mode.prefix())
}

fn killed_for_memory(cgroup: &Cgroup) -> bool {
    cgroup.oom_kills().is_ok_and(|count| count > 0)
}

fn ended(end: Option<End>) -> Error {
    let text = match end {
        Some(End::Killed(libc::SIGSYS)) => "the seccomp profile forbids a system call that the start needs".to_owned(),
        Some(End::Killed(libc::SIGILL)) => {
            "the seccomp profile forbids execve, and write or exit_group as well, so init could not report the failure"
                .to_owned()
        }
        Some(End::Killed(signal)) => format!("killed by signal {signal}"),
        Some(End::Exited(status)) => format!("exited with status {status}"),
        None => "init has ended without a report".to_owned(),
    };
    Error::msg(text)
}
