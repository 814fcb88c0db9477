//! How each step reads, in `onggi plan` and in an error.

use super::{Detached, Slot, Step, Sync};
use crate::plan::fmt::{Flags, Quoted};
use std::fmt;

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mapped => "mapped",
            Self::RootMounted => "rooted",
            Self::Limited => "limited",
            Self::Delegated => "delegated",
            Self::IdMapped => "ids mapped",
            Self::Ready => "ready",
        })
    }
}

impl fmt::Display for Step {
    // check: table: one line a step: how it reads in a plan and in an error
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tell(sync) => write!(f, "tell the host: {sync}"),
            Self::Await(sync) => write!(f, "wait for the host: {sync}"),
            Self::Setns(slot, kind) => write!(f, "setns({} namespace of slot {})", kind.name(), slot.0),
            Self::Join(slot, kinds) => write!(f, "setns({kinds} of the process of slot {})", slot.0),
            Self::Unshare(kinds) => write!(f, "unshare({kinds})"),
            Self::BecomeRoot { .. } => f.write_str("become id 0 of the user namespace"),
            Self::Session => f.write_str("setsid()"),
            Self::Keyring(name) => write!(f, "join session keyring {}", Quoted(name)),
            Self::Hostname(name) => write!(f, "sethostname({})", Quoted(name)),
            Self::Domainname(name) => write!(f, "setdomainname({})", Quoted(name)),
            Self::JoinNetwork => f.write_str("join the network namespace that was made ahead"),
            Self::Loopback => f.write_str("bring lo up"),
            Self::MakeCwd(path) => write!(f, "mkdir({}) if it is missing", Quoted(path)),
            Self::Chdir { path, .. } => write!(f, "chdir({})", Quoted(path)),
            Self::Home(uid) => write!(f, "look up HOME of uid {uid} in /etc/passwd"),
            Self::Find => f.write_str("find the program"),
            Self::Hook(hook) => write!(f, "{} hook {}", hook.name, hook.image),
            Self::CloseInherited { preserve } => write!(f, "close all descriptors from {} on but slots", 3 + preserve),
            Self::CloseFds { preserve, keep } => {
                write!(f, "close all descriptors from {} on", 3 + preserve)?;
                keep.iter()
                    .enumerate()
                    .try_for_each(|(i, slot)| write!(f, "{}{}", if i == 0 { " but slot " } else { ", " }, slot.0))
            }
            Self::Gate => f.write_str("wait for start"),
            Self::Signals => f.write_str("default signals"),
            Self::Exec => f.write_str("execve"),
            Self::End => f.write_str("exit(0)"),
            Self::OpenMount { target, .. } => write!(f, "open the mount on {}", Quoted(target)),
            Self::Unmount { target, .. } => write!(f, "umount({})", Quoted(target)),
            Self::Propagate(flags) => write!(f, "mount(\"/\", {})", Flags(*flags)),
            Self::PropagateParent(path, flags) => {
                write!(f, "mount(the mount that {} lies on, {})", Quoted(path), Flags(*flags))
            }
            Self::OpenRoot { path, tree: None, private, .. } => {
                write!(f, "bind root {}{}", Quoted(path), if *private { ", private" } else { "" })
            }
            Self::OpenRoot { path, tree: Some(slot), over, .. } => {
                let place = if *over { " over /" } else { "" };
                write!(f, "attach root {} (slot {}){place}", Quoted(path), slot.0)
            }
            Self::Chroot(path) => write!(f, "chroot({})", Quoted(path)),
            Self::NewTree { path, .. } => write!(f, "open_tree({}, recursive, namespace)", Quoted(path)),
            Self::CloneAhead { slot, source, recursive, nofollow, .. } => {
                let (recursion, link) = (recursion(*recursive), unfollowed(*nofollow));
                write!(f, "open_tree({}{recursion}{link}) for slot {}", Quoted(source), slot.0)
            }
            Self::TakeRoot => f.write_str("take / as the root"),
            Self::Mount { source, fstype, target, flags, data, detached, .. } => write!(
                f,
                "mount({}, {}, {}, {}, {}){}",
                Quoted(source),
                Quoted(target),
                Quoted(fstype),
                Flags(*flags),
                Quoted(data),
                Beside(detached.as_deref())
            ),
            Self::MountCgroup { target, flags, own: false, bind: Some(bind), .. } => {
                write!(f, "bind({}, {}, {})", Quoted(bind), Quoted(target), Flags(*flags))
            }
            Self::MountCgroup { target, flags, data, .. } => {
                write!(f, "mount(\"cgroup\", {}, \"cgroup2\", {}, {})", Quoted(target), Flags(*flags), Quoted(data))
            }
            Self::Remount { target, flags, data } => {
                write!(f, "remount({}, {}, {})", Quoted(target), Flags(*flags), Quoted(data))
            }
            Self::Clone { source, recursive, nofollow, .. } => {
                write!(f, "open_tree({}{}{})", Quoted(source), recursion(*recursive), unfollowed(*nofollow))
            }
            Self::CloneInside { source, recursive, nofollow } => {
                write!(f, "open_tree(root {}{}{})", Quoted(source), recursion(*recursive), unfollowed(*nofollow))
            }
            Self::Take { slot, source } => write!(f, "take the tree of {} (slot {})", Quoted(source), slot.0),
            Self::IdMap { mapped, by_host, .. } => {
                write!(f, "{mapped}{}", if *by_host { " by the host" } else { "" })
            }
            Self::Attr { slot: Slot::TREE, attr, recursive } => {
                write!(f, "mount_setattr({attr}{})", recursion(*recursive))
            }
            Self::Attr { slot, attr, recursive } => {
                write!(f, "mount_setattr(slot {}, {attr}{})", slot.0, recursion(*recursive))
            }
            Self::AttrKeepLocked { attr, .. } => write!(f, "mount_setattr({attr}) keeping locked flags"),
            Self::Attach { target, nofollow, .. } => {
                write!(f, "move_mount({}{})", Quoted(target), unfollowed(*nofollow))
            }
            Self::AttrAt { target, attr, then, .. } => {
                write!(f, "mount_setattr({}, {attr})", Quoted(target))?;
                match then {
                    Some((attr, recursive)) => write!(f, " and ({attr}{})", recursion(*recursive)),
                    None => Ok(()),
                }
            }
            Self::Link { path, target, .. } | Self::CopyLink { path, target } => {
                write!(f, "symlink({}, {})", Quoted(target), Quoted(path))
            }
            Self::LinkTo { name, target } => {
                write!(f, "symlink({}, {}) if it exists", Quoted(target), Quoted(name))
            }
            Self::OpenDev => f.write_str("open /dev"),
            Self::Node { path, mode, device, .. } => {
                write!(f, "mknod({}, {mode:#o}, {}:{})", Quoted(path), libc::major(*device), libc::minor(*device))
            }
            Self::Unlink { path, .. } => write!(f, "unlink({})", Quoted(path)),
            Self::Pivot { cut } => write!(f, "pivot_root(){}", if *cut { ", cut the old root off" } else { "" }),
            Self::EnterRoot => f.write_str("chroot to the root"),
            Self::UnmountOrCover { path, shared: false } => write!(f, "unmount or cover {}", Quoted(path)),
            Self::UnmountOrCover { path, shared: true } => write!(f, "cover {}", Quoted(path)),
            Self::MoveRoot => f.write_str("move the root over / and chroot"),
            Self::OpenProc => f.write_str("open a procfs"),
            Self::WriteProc { file, value } => {
                write!(f, "write {} to /proc/{}", Quoted(value), file.to_string_lossy())
            }
            Self::ReadonlyRoot => f.write_str("make / read-only"),
            Self::ReadonlyPath { path } => write!(f, "make {} read-only", Quoted(path)),
            Self::Mask { path, .. } => write!(f, "mask {}", Quoted(path)),
            Self::OpenTerminal { .. } => f.write_str("open a terminal from /dev/pts/ptmx"),
            Self::BindConsole => f.write_str("bind the terminal on /dev/console"),
            Self::SendTerminal { socket: true } => f.write_str("send the terminal to the console socket"),
            Self::SendTerminal { socket: false } => f.write_str("send the terminal to the host"),
            Self::TakeTerminal(_) => f.write_str("make the terminal the controlling one"),
            Self::OwnStdio(uid) => write!(f, "give stdio to uid {uid}"),
            Self::Limit { name, soft, hard, .. } => write!(f, "prlimit({name}, {soft}, {hard})"),
            Self::Scheduler(attr, policy) => {
                write!(f, "sched_setattr({policy}, nice {}, priority {})", attr.nice, attr.priority)
            }
            Self::IoPriority(class, level) => write!(f, "ioprio_set(class {class}, level {level})"),
            Self::Affinity(_) => f.write_str("sched_setaffinity()"),
            Self::MemoryPolicy(mode, _) => write!(f, "set_mempolicy({mode:#x})"),
            Self::Personality(persona) => write!(f, "personality({persona:#x})"),
            Self::Undumpable => f.write_str("prctl(PR_SET_DUMPABLE, 0)"),
            Self::NoNewPrivs => f.write_str("prctl(PR_SET_NO_NEW_PRIVS)"),
            Self::Bound(keep) => write!(f, "bound capabilities to {keep:#x}"),
            Self::KeepCaps(on) => write!(f, "prctl(PR_SET_KEEPCAPS, {})", u8::from(*on)),
            Self::Groups(groups) => write!(f, "setgroups({groups:?})"),
            Self::Gid(gid) => write!(f, "setresgid({gid})"),
            Self::Uid(uid) => write!(f, "setresuid({uid})"),
            Self::Caps(sets) => write!(
                f,
                "capset(effective {:#x}, permitted {:#x}, inheritable {:#x})",
                sets.effective, sets.permitted, sets.inheritable
            ),
            Self::Ambient(set) => write!(f, "ambient capabilities {set:#x}"),
            Self::Umask(mask) => write!(f, "umask({mask:#o})"),
            Self::Seccomp { program, flags, .. } => {
                write!(f, "seccomp({} instructions, flags {flags:#x})", program.len())
            }
        }
    }
}

/// What is done to a new file system besides mounting it.
struct Beside<'a>(Option<&'a Detached>);

impl fmt::Display for Beside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(detached) = self.0 else { return Ok(()) };
        if detached.copy_up {
            f.write_str(" with a copy of what is below")?;
        }
        detached
            .attrs
            .iter()
            .try_for_each(|(attr, recursive)| write!(f, ", mount_setattr({attr}{})", recursion(*recursive)))?;
        match detached.keep {
            Some(slot) => write!(f, ", slot {}", slot.0),
            None => Ok(()),
        }
    }
}

fn unfollowed(on: bool) -> &'static str {
    if on { ", nofollow" } else { "" }
}

fn recursion(on: bool) -> &'static str {
    if on { ", recursive" } else { "" }
}
