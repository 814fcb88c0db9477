//! The steps that init executes: a closed list of primitives, each of them one system call or one small, documented fallback.
//!
//! A step is complete when it is created: strings are C strings, numbers are the kernel's. A choice that depends on what the
//! kernel answers inside the container (is the masked path a file?) is made within one step, and the step's doc says so.
//! `text.rs` has the words of each step.

mod text;

use super::Mapped;
pub use super::slot::Slot;
use crate::abi::mount::MountAttr;
use crate::abi::ns::{Namespace, Namespaces};
use crate::sys::cred::CapSets;
use crate::sys::task::SchedAttr;
use crate::sys::tty::Size;
use std::ffi::{CStr, CString};

/// A string ready for the kernel.
pub type Str = CString;

/// Options of the tmpfs that covers a masked directory: it is to hold nothing.
pub const COVER: &CStr = c"nr_blocks=1,nr_inodes=2";

/// Synchronization points of parent and init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// The parent has written the id maps and moved the process into its cgroups.
    Mapped,
    /// All mounts of the root are made, before `pivot_root(2)`: the runtime hooks may run.
    RootMounted,
    /// The parent has set the limits that init may not set.
    Limited,
    /// The parent has moved init to the cgroup that is the payload's own, below the root of its cgroup namespace.
    Delegated,
    /// The parent has mapped the ids of a mount that init sent to it.
    IdMapped,
    /// The parent has written limits, record and pid file.
    Ready,
}

/// Root may be refused a directory that the user may enter (NFS with `root_squash`), and the user one that root may enter: so the
/// working directory is tried with the rights of both, before and after the change of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// There is no other.
    Only,
    /// Being refused is no failure: a second attempt follows.
    First,
    /// Made only if the first was refused.
    Second,
}

/// What a hook in the container runs.
#[derive(Debug)]
pub struct HookStep {
    /// Which kind, and which of its list.
    pub name: String,
    /// The program.
    pub image: super::image::Image,
    /// Seconds; none means no limit.
    pub timeout: Option<u32>,
    /// It runs at `start`, not at `create`.
    pub late: bool,
    /// It gets the payload's environment, which is complete only after [`Step::Home`].
    pub inherits: bool,
    /// Its standard output and its standard error are files that keep what is in them (`run.oci.hooks.stdout`).
    pub appends: [bool; 2],
}

/// What is done with a new file system before it is attached, and what its descriptor is kept for.
#[derive(Debug)]
pub struct Detached {
    /// `MOUNT_ATTR_*`.
    pub attr: u64,
    /// Copies what lies at the target into it (`tmpcopyup`).
    pub copy_up: bool,
    /// Further attributes, and whether each is set on everything below too.
    pub attrs: Box<[(MountAttr, bool)]>,
    /// Where its descriptor is kept. `DEV`: it is the container's `/dev`.
    pub keep: Option<Slot>,
}

/// One primitive.
#[derive(Debug)]
pub enum Step {
    // -- meet
    /// Tells the host that a moment has come.
    Tell(Sync),
    /// Waits for the host's word.
    Await(Sync),
    // -- join
    /// `setns(2)` into a namespace that the host opened.
    Setns(Slot, Namespace),
    /// `setns(2)` into namespaces of the process that a pidfd means, in one call (Linux 5.8). A user namespace that we
    /// are in already is left out: the kernel lets nobody join his own.
    Join(Slot, Namespaces),
    /// Waits for the network namespace that a thread makes meanwhile, and joins it (`setns(2)`).
    JoinNetwork,
    /// `unshare(2)` of what could not be made by the clone.
    Unshare(Namespaces),
    /// Becomes id 0 of the new user namespace.
    BecomeRoot {
        /// Drops the caller's groups, where the namespace allows it.
        alone: bool,
    },
    // -- name
    /// `setsid(2)`.
    Session,
    /// Joins a session keyring of that name; a kernel without keyrings is forgiven.
    Keyring(Str),
    /// `sethostname(2)`.
    Hostname(Str),
    /// `setdomainname(2)`.
    Domainname(Str),
    /// Brings `lo` up.
    Loopback,
    // -- root
    /// Changes how `/` and all below it propagate.
    Propagate(u64),
    /// Changes how the mount that a path lies on propagates (`MS_PRIVATE`, `MS_SLAVE`): the longest prefix that is a mount point.
    PropagateParent(Str, u64),
    /// Clones the tree at the path and attaches it over itself, or the host's clone over `/` if we can't reach it; fills `ROOT`.
    OpenRoot {
        /// The directory.
        path: Str,
        /// A clone that the host made.
        tree: Option<Slot>,
        /// What the host mounts in the directory later does not appear in the clone that init makes.
        private: bool,
        /// The host's path means nothing here (an empty mount namespace, or a container's): the clone goes over `/`.
        over: bool,
    },
    /// Takes `/` as the root without a mount namespace of our own, after `chroot(2)`; fills `ROOT`.
    Chroot(Str),
    /// Makes a mount namespace that holds a copy of the tree at the path and nothing else (Linux 7.0); fills `MOUNTS`.
    /// Something unbindable is copied with the whole namespace around it.
    NewTree {
        /// The directory.
        path: Str,
        /// How what comes from the host will propagate.
        propagation: u64,
    },
    /// Clones a tree of the host for the namespace of `NewTree`, from where it can't be reached any more.
    CloneAhead {
        /// Where the clone waits for `Take`.
        slot: Slot,
        /// The path.
        source: Str,
        /// With everything mounted below it.
        recursive: bool,
        /// A link is cloned itself.
        nofollow: bool,
        /// What is cloned where the path is not there.
        fallback: Option<Str>,
        /// A later step says how all of it propagates.
        propagation_follows: bool,
    },
    /// Takes the `/` that we are at as the root; fills `ROOT`.
    TakeRoot,
    // -- mounts
    /// Mounts a new file system; the directory is made if it is missing.
    Mount {
        /// As it will stand in `mountinfo`.
        source: Str,
        /// The file system.
        fstype: Str,
        /// Where, inside the root.
        target: Str,
        /// `MS_*`.
        flags: u64,
        /// What the file system parses itself.
        data: Str,
        /// The mount point is a new directory directly below our own empty `/dev` (slot `DEV`), or (`EEXIST`) resolved as usual.
        new_dir: bool,
        /// The target may lie in a procfs: its name says so.
        in_proc: bool,
        /// It is made with `fsmount(2)`, since more is to be done with it than `mount(2)` can do.
        detached: Option<Box<Detached>>,
    },
    /// Mounts cgroup2. Without a cgroup namespace of its `own`, or where the kernel refuses (`EPERM`, `EBUSY`: not our user
    /// namespace's), `bind` is bound instead; where that does not exist (a rootless container without a cgroup), an empty tmpfs
    /// is the cover.
    MountCgroup {
        /// Where, inside the root.
        target: Str,
        /// `MS_*`.
        flags: u64,
        /// What the file system parses itself.
        data: Str,
        /// The cgroup namespace is the container's own: in the host's a mount sets the options of its hierarchy (cgroups(7)).
        own: bool,
        /// What is bound; nothing: a detached instance of the cgroup namespace's is attached.
        bind: Option<Str>,
        /// Attributes, and whether each is set on everything below too.
        attrs: Box<[(MountAttr, bool)]>,
    },
    /// Changes the flags of the mount at a path (`MS_REMOUNT`).
    Remount {
        /// Where, inside the root.
        target: Str,
        /// `MS_*`.
        flags: u64,
        /// What the file system parses itself.
        data: Str,
    },
    /// Clones the tree at a path of the host; fills `TREE`.
    Clone {
        /// The path.
        source: Str,
        /// With everything mounted below it.
        recursive: bool,
        /// A link is cloned itself.
        nofollow: bool,
        /// What is cloned where the path is not there.
        fallback: Option<Str>,
    },
    /// The same of what lies in the root.
    CloneInside {
        /// The path in the root.
        source: Str,
        /// With everything mounted below it.
        recursive: bool,
        /// A link is cloned itself.
        nofollow: bool,
    },
    /// Takes a clone that the host or `CloneAhead` made as `TREE`.
    Take {
        /// Where it is.
        slot: Slot,
        /// The path that was cloned.
        source: Str,
    },
    /// Maps the ids of `TREE`. Init of a user namespace may not: it hands the tree to the host, which does.
    IdMap {
        /// How.
        mapped: Mapped,
        /// What was cloned, for the message.
        source: Str,
        /// By the host.
        by_host: bool,
    },
    /// Sets attributes on a mount by its descriptor: on `TREE` before anybody sees it, on others when they are filled.
    Attr {
        /// The mount.
        slot: Slot,
        /// Set, clear, propagation.
        attr: MountAttr,
        /// On everything below too.
        recursive: bool,
    },
    /// Like `Attr` without recursion; flags that are locked in this user namespace are kept where clearing is refused (`EPERM`).
    AttrKeepLocked {
        /// Set and clear.
        attr: MountAttr,
        /// What was asked to be cleared by name, and so may not be kept.
        must_clear: u64,
        /// The host made the clone for a user namespace: the kernel would let flags be cleared that are locked there.
        host: bool,
    },
    /// Attaches `TREE` at a path inside the root; a missing target is made, as a file or directory like the root of `TREE`.
    Attach {
        /// Where, inside the root.
        target: Str,
        /// The target may lie in a procfs: its name says so.
        in_proc: bool,
        /// A link is covered itself.
        nofollow: bool,
        /// Where its descriptor is kept, for a mount that may have to be taken off again.
        keep: Option<Slot>,
    },
    /// Sets attributes of the mount at a path inside the root (a bind mount's `remount`); flags that are locked are kept as in
    /// `AttrKeepLocked`.
    AttrAt {
        /// Where, inside the root.
        target: Str,
        /// Set and clear.
        attr: MountAttr,
        /// What was asked to be cleared by name.
        must_clear: u64,
        /// Propagation and recursive attributes, which come second; and whether they are set on everything below too.
        then: Option<(MountAttr, bool)>,
    },
    /// Makes a symbolic link; what is there already stays.
    Link {
        /// The directory it is relative to.
        at: Slot,
        /// Where.
        path: Str,
        /// What it says.
        target: Str,
    },
    /// Makes a symbolic link inside the root, with the directories above it; the same link may be there, and nothing else.
    CopyLink {
        /// Where, inside the root.
        path: Str,
        /// What it says.
        target: Str,
    },
    /// Opens the root of the mount at a path inside the root, no name of which may be a link.
    OpenMount {
        /// Where its descriptor is kept.
        slot: Slot,
        /// Where, inside the root.
        target: Str,
    },
    /// Unmounts what is in a slot, through the procfs in `PROC`.
    Unmount {
        /// The root of the mount.
        slot: Slot,
        /// Where it was found.
        target: Str,
    },
    /// Makes a symbolic link in `DEV` to a path of the root, if that is there.
    LinkTo {
        /// Its name.
        name: Str,
        /// What it says, and what must be there.
        target: Str,
    },
    // -- devices
    /// Opens the image's own `/dev` (made if missing); fills `DEV`. Refused if something is mounted there.
    OpenDev,
    /// Makes a device node; one that is there already must be the same device. Where making is refused (to root of a user
    /// namespace), the host's is bound.
    Node {
        /// The directory it is relative to: `DEV` for names right below it, else `ROOT`.
        at: Slot,
        /// Where.
        path: Str,
        /// Type and permissions.
        mode: u32,
        /// Number.
        device: u64,
        /// Owner and group, if not 0:0.
        owner: Option<(u32, u32)>,
        /// Where the host has the device, if init may have to bind it and it is at another path there.
        host: Option<Str>,
        /// It is `/dev/null` in an empty file system that only we can reach: masks use it by its name, without a check.
        for_masks: bool,
    },
    /// Removes a file, if it is there.
    Unlink {
        /// The directory it is relative to.
        at: Slot,
        /// Where.
        path: Str,
    },
    // -- pivot
    /// Changes root to `ROOT`: without a mount namespace there is nothing to pivot in.
    EnterRoot,
    /// `pivot_root(2)` to `ROOT`, and unmounts the old root.
    Pivot {
        /// The old root may share its mounts with the host: it is made a slave first, so that its unmounting stays here.
        cut: bool,
    },
    /// Unmounts a procfs or sysfs; covers it if it is locked, or shared with the host.
    UnmountOrCover {
        /// Where it is mounted.
        path: Str,
        /// Unmounting it would unmount it on the host, too.
        shared: bool,
    },
    /// Moves `ROOT` over `/` and changes root to it (`--no-pivot`).
    MoveRoot,
    // -- finish
    /// Opens a procfs of our own; where that is refused (a covered `/proc` in a user namespace, a security module) the
    /// mounted one after a check that it is procfs; fills `PROC`.
    OpenProc,
    /// Writes a file of `PROC`.
    WriteProc {
        /// Relative to procfs.
        file: Str,
        /// What.
        value: Str,
    },
    /// Makes the root mount read-only.
    ReadonlyRoot,
    /// Makes a path read-only, if it exists.
    ReadonlyPath {
        /// The path.
        path: Str,
    },
    /// Covers a path, if it exists: a file by `/dev/null`, a directory by an empty one.
    Mask {
        /// The path.
        path: Str,
        /// Options of the tmpfs that covers a directory, if there are more than the usual ones.
        cover: Option<Str>,
    },
    // -- terminal
    /// Opens a terminal in the devpts that is mounted on the container's `/dev/pts`; fills `PTY` and `TTY`; gives it a size.
    OpenTerminal {
        /// The size, if it is known.
        size: Option<Size>,
    },
    /// Binds the terminal on `/dev/console`.
    BindConsole,
    /// Sends the master: to `--console-socket`, or to the host half.
    SendTerminal {
        /// Whether a console socket waits in `CONSOLE`.
        socket: bool,
    },
    /// Makes the terminal 0, 1, 2 and our controlling one, owned by the user.
    TakeTerminal(u32),
    /// Gives 0, 1, 2 to the user where they are ours to give.
    OwnStdio(u32),
    // -- limit
    /// `prlimit(2)` of ourselves.
    Limit {
        /// `RLIMIT_*`.
        resource: u32,
        /// Its name.
        name: &'static str,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// `sched_setattr(2)`.
    Scheduler(SchedAttr, &'static str),
    /// `ioprio_set(2)`: class and level.
    IoPriority(u16, u16),
    /// `sched_setaffinity(2)`.
    Affinity(Box<[u64]>),
    /// `set_mempolicy(2)`.
    MemoryPolicy(u32, Box<[u64]>),
    /// `personality(2)`.
    Personality(u64),
    // -- drop
    /// `prctl(PR_SET_DUMPABLE)` 0.
    Undumpable,
    /// `prctl(PR_SET_NO_NEW_PRIVS)`.
    NoNewPrivs,
    /// `prctl(PR_CAPBSET_DROP)` of all but these.
    Bound(u64),
    /// `prctl(PR_SET_KEEPCAPS)`.
    KeepCaps(bool),
    /// `setgroups(2)`; not where the user namespace denies it to everybody.
    Groups(Box<[u32]>),
    /// `setresgid(2)`.
    Gid(u32),
    /// `setresuid(2)`.
    Uid(u32),
    /// `capset(2)`.
    Caps(CapSets),
    /// `prctl(PR_CAP_AMBIENT)`.
    Ambient(u64),
    /// `umask(2)`.
    Umask(u32),
    // -- seal
    /// `seccomp(2)`; fills `LISTENER` if asked for one.
    Seccomp {
        /// The program.
        program: Vec<seccompiler::sock_filter>,
        /// `SECCOMP_FILTER_FLAG_*`.
        flags: u32,
    },
    // -- go
    /// Makes the working directory (0755), with its parents, if it is missing, while the root can still be written to. A failure is
    /// told by `Chdir`.
    MakeCwd(Str),
    /// Changes to the working directory, made if missing; refuses one outside the root.
    Chdir {
        /// The directory.
        path: Str,
        /// Whether another attempt follows or went before.
        attempt: Attempt,
        /// Makes it (0755), with its parents, if it is missing.
        make: bool,
    },
    /// Adds `HOME` to the environment: the home directory in the container's `/etc/passwd`, or `/` if the user is not in it.
    Home(u32),
    /// Finds the program among the candidates.
    Find,
    /// Runs a hook in the container and waits for it.
    Hook(Box<HookStep>),
    /// Closes every descriptor but 0 to 2, those from 3 on that the payload keeps (`--preserve-fds`), the sync socket, and the
    /// slots that are filled: init begins with what the host half had open.
    CloseInherited {
        /// How many from 3 on the payload keeps.
        preserve: u32,
    },
    /// Closes every descriptor but 0 to 2, those from 3 on that the payload keeps, the sync socket, and the slots that are named.
    /// Other slots are empty afterwards. Until execve, what the image's links lead to may be a descriptor of init's
    /// (`/proc/self/fd`): so no directory and no file of the host may be open when one of its paths is looked up.
    CloseFds {
        /// How many from 3 on the payload keeps.
        preserve: u32,
        /// What stays open.
        keep: Box<[Slot]>,
    },
    /// Waits for a byte through the fifo (`create`).
    Gate,
    /// Gives the standard signals their usual effect and unblocks all.
    Signals,
    /// `execve(2)`.
    Exec,
    /// Ends, with success: there is no program to become.
    End,
}
