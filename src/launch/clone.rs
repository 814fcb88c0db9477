//! The one clone.
//!
//! `clone3(2)` makes all new namespaces at once and puts the child into its cgroup (Linux 5.7), so that no later move
//! waits for a grace period of the kernel. Where the child must be born in namespaces that are joined first (a pid
//! namespace by path, a user namespace by path, clock offsets), a go-between that shares our memory and descriptors
//! joins them and makes the clone with `CLONE_PARENT`; the child is ours all the same.
//!
//! A child of which no other container can get hold (`Birth::shares_memory`) lives on our memory until its execve
//! (`CLONE_VM`): no page table is copied, and no page on its first touch.

#![allow(clippy::wildcard_enum_match_arm, reason = "errno is an open set, and most steps explain themselves")]
#![allow(unsafe_code)]

use crate::abi::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, MS_REC, MS_SLAVE};
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Context, Error, Result};
use crate::init::{self, Pack};
use crate::plan::step::Slot;
use crate::plan::{Birth, Plan};
use crate::sys::exec::CloneArgs;
use crate::sys::marks::Marks;
use crate::sys::netns::{Ahead, Refused};
use crate::sys::share::{self, Cradle};
use crate::sys::signal;
use crate::sys::task::Word;
use crate::sys::{Errno, entry, file, mount, ns, task};
use crate::wire::{self, Cause, Failure, Message};
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

const CLONE_VM: i32 = 0x100;
const CLONE_FILES: i32 = 0x400;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: i32 = 0x4000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A started init.
#[derive(Debug)]
pub struct Child {
    /// Its number, as the host counts.
    pub pid: i32,
    /// A descriptor that means it.
    pub pidfd: OwnedFd,
    /// CRIU made it: it never executes a program to become the payload.
    pub restored: bool,
}

/// What the child takes with it. It is never given back: the child may share our memory, and outlive us in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Luggage {
    pack: NonNull<Pack>,
    birth: &'static Birth,
    /// Our last word to the child, where it shares our memory.
    pub(super) ready: Option<&'static Word>,
}

impl Luggage {
    /// Packs. The descriptors stay ours, too: the child has its own table of them.
    pub(super) fn new(
        plan: &'static mut Plan,
        slots: &[Option<OwnedFd>],
        wire: BorrowedFd<'_>,
        marks: Option<&'static Marks>,
    ) -> (Self, &'static Plan) {
        // SAFETY: these are never dropped on our side, where the descriptors have another owner, and on the child's side
        // that owner does not exist.
        let twin = |fd: BorrowedFd<'_>| unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) };
        let image = plan.image.part();
        let plan: &'static Plan = plan;
        let slots: Vec<_> = slots.iter().map(|slot| slot.as_ref().map(|fd| twin(fd.as_fd()))).collect();
        let slots = slots.leak();
        let mut inherited: Vec<RawFd> =
            slots.iter().flatten().map(AsRawFd::as_raw_fd).chain([wire.as_raw_fd()]).collect();
        inherited.sort_unstable();
        let inherited = inherited.leak();
        let ready = plan.birth.shares_memory.then(|| &*Box::leak(Box::<Word>::default()));
        let pack = Box::leak(Box::new(Pack { plan, image, slots, inherited, wire: twin(wire), ready, marks }));
        (Self { pack: NonNull::from(pack), birth: &plan.birth, ready }, plan)
    }

    /// The child's life.
    fn unpack(self) -> ! {
        // SAFETY: the pack is leaked and the child's alone.
        init::walk(unsafe { &mut *self.pack.as_ptr() })
    }
}

/// Makes the child. `mend` is asked about a cgroup that does not take processes as it is (`EOPNOTSUPP`: one in a threaded
/// tree); if it can be mended, there is a second try.
///
/// # Errors
/// The kernel's answer, with what was to be made.
pub(super) fn birth(
    luggage: Luggage,
    cgroup: Option<BorrowedFd<'_>>,
    mut mend: impl FnMut(Errno) -> Result<()>,
) -> Result<Child> {
    let cradle = luggage.birth.shares_memory.then(Cradle::take).transpose().context(|| "take a stack for init")?;
    let make = || match cradle {
        Some(cradle) => on_our_memory(luggage, cgroup, cradle),
        None if luggage.birth.needs_between() => between(luggage, cgroup),
        None => clone(luggage, cgroup, 0),
    };
    let mut answer = make();
    if let Err(errno @ Errno::EOPNOTSUPP) = answer {
        mend(errno)?;
        answer = make();
    }
    answer.map_err(|errno| {
        let what = format!("clone3({})", luggage.birth.new);
        explained(errno).fact("syscall", "clone3").context(what)
    })
}

/// What the kernel's refusal of a namespace or a cgroup means.
fn explained(errno: Errno) -> Error {
    let error = Error::from(errno);
    match errno {
        Errno::EACCES => error.hint("users may place processes only in the part of the cgroup tree that is theirs"),
        Errno::EPERM => error.hint("namespaces need root, or a user namespace in linux.namespaces"),
        Errno::ENOSPC => error.hint("a limit of /proc/sys/user or of nested namespaces is reached"),
        Errno::EBUSY => error.hint("the cgroup has controllers enabled for its children"),
        _ => error,
    }
}

/// The error for a network namespace that could not be made ahead.
pub(super) fn no_network(refused: Refused) -> Error {
    let (syscall, what) = if refused.loopback { ("ioctl", "bring lo up") } else { ("unshare", "unshare(network)") };
    explained(refused.errno).fact("syscall", syscall).context(what)
}

/// Begins to make a network namespace, for a child that shares our memory or not.
///
/// # Errors
/// There can be no more threads.
pub fn begin_network(traced: bool) -> Result<&'static Ahead> {
    Ahead::begin(hand, traced).context(|| "start a thread")
}

/// The word of the thread to a child that was born before there was a network namespace.
fn hand(wire: BorrowedFd<'_>, made: std::result::Result<OwnedFd, Refused>) {
    // a child that is gone is noticed by the host half
    let _heard = match made {
        Ok(fd) => wire::hand(wire, Slot::NETWORK, fd.as_fd()),
        Err(Refused { loopback, errno }) => {
            let cause = if loopback { Cause::NoLoopback } else { Cause::NoNetwork };
            wire::tell(wire, Message::Failed(Failure { step: 0, cause, errno: errno as i32, detail: 0 }))
        }
    };
}

fn arguments(luggage: Luggage, cgroup: Option<BorrowedFd<'_>>, pidfd: *mut i32) -> CloneArgs {
    let mut new = luggage.birth.new;
    if luggage.birth.network_ahead {
        new.remove(Namespace::Network);
    }
    let mut args = CloneArgs {
        flags: CLONE_PIDFD | new.0,
        pidfd: pidfd as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    args
}

fn clone(luggage: Luggage, cgroup: Option<BorrowedFd<'_>>, extra: u64) -> std::result::Result<Child, Errno> {
    let mut pidfd: i32 = -1;
    let mut args = arguments(luggage, cgroup, &raw mut pidfd);
    args.flags |= extra;
    if extra & CLONE_PARENT != 0 {
        args.exit_signal = 0;
    }
    let hidden = entry::hide();
    // SAFETY: no CLONE_VM: the child runs on a copy of our memory and never comes back from `unpack`, which neither
    // allocates nor takes locks (held by scripts/check/words.py for the code of init, and in debug builds by the allocator, which
    // ends an init that allocates); args lives through the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid == 0 {
        hidden.forget();
        luggage.unpack();
    }
    let refused = Errno::last();
    hidden.show();
    if pid < 0 {
        return Err(refused);
    }
    child(i32::try_from(pid).map_err(|_| Errno::ESRCH)?, pidfd)
}

fn child(pid: i32, pidfd: RawFd) -> std::result::Result<Child, Errno> {
    // SAFETY: CLONE_PIDFD has stored the number of a new descriptor there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid, pidfd, restored: false })
}

/// A child on our memory. It begins with the signals that we block, and with a table of descriptors of its own.
fn on_our_memory(
    luggage: Luggage,
    cgroup: Option<BorrowedFd<'_>>,
    cradle: Cradle,
) -> std::result::Result<Child, Errno> {
    extern "C" fn begin(luggage: *mut c_void) -> ! {
        // SAFETY: what is passed below.
        let luggage = unsafe { *luggage.cast_const().cast::<Luggage>() };
        luggage.unpack()
    }
    let mut pidfd: i32 = -1;
    let mut args = arguments(luggage, cgroup, &raw mut pidfd);
    let luggage = Box::leak(Box::new(luggage));
    // SAFETY: one child is made in the cradle; the luggage, the pack and the plan are leaked, and but for the plan, which is
    // not changed any more, touched by nobody but the child.
    let pid = unsafe { cradle.bear(&mut args, begin, std::ptr::from_mut(luggage).cast()) }?;
    child(pid, pidfd)
}

struct Between<'a> {
    luggage: Luggage,
    cgroup: Option<BorrowedFd<'a>>,
    answer: std::result::Result<Child, Errno>,
}

/// Lets a go-between make the clone. It shares descriptors and we sleep until it has ended (`vfork(2)`), so what it opens is
/// ours. It shares memory, too, but for a time namespace that is to be joined, which only a process with memory of its
/// own may (`setns(2)`): what it stores lies where both see it.
fn between(luggage: Luggage, cgroup: Option<BorrowedFd<'_>>) -> std::result::Result<Child, Errno> {
    let stack = share::stack()?;
    let shared = task::shared(Between { luggage, cgroup, answer: Err(Errno::ECHILD) })?;
    let memory = if luggage.birth.joins(Namespace::Time) { 0 } else { CLONE_VM };
    // SAFETY: the stack is ours, aligned by its type, and stays; we wait for the go-between (CLONE_VFORK), which returns
    // from `go_between` or execs never; shared stays and we do not touch it meanwhile.
    let pid = unsafe {
        libc::clone(
            go_between,
            stack.as_mut_ptr_range().end.cast(),
            memory | CLONE_FILES | CLONE_VFORK | libc::SIGCHLD,
            shared.as_ptr().cast(),
        )
    };
    if pid < 0 {
        return Err(Errno::last());
    }
    signal::reap(pid, true)?;
    // SAFETY: the go-between has ended, and it is read once.
    unsafe { shared.read() }.answer
}

extern "C" fn go_between(shared: *mut c_void) -> libc::c_int {
    // SAFETY: `between` passes its own value and sleeps until we have ended.
    let shared = unsafe { &mut *shared.cast::<Between<'_>>() };
    // SAFETY: the pack is the child's, and there is no child yet.
    let slots = unsafe { &*shared.luggage.pack.as_ref().slots };
    let birth = shared.luggage.birth;
    // from inside a cgroup namespace there is no way into a cgroup outside of it (nsdelegate): the child inherits ours
    let ahead = shared.cgroup.filter(|_| birth.joins(Namespace::Cgroup));
    let cgroup = if ahead.is_some() { None } else { shared.cgroup };
    shared.answer = ahead
        .map_or(Ok(()), enter_cgroup)
        .and_then(|()| prepare(birth, slots))
        .and_then(|()| if birth.empty_mounts { leave_mounts() } else { Ok(()) })
        .and_then(|()| clone(shared.luggage, cgroup, CLONE_PARENT));
    task::leave(0)
}

fn enter_cgroup(cgroup: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    let procs = file::open(cgroup, c"cgroup.procs", libc::O_WRONLY, 0)?;
    file::write(procs.as_fd(), b"0")
}

/// Makes a mount namespace and leaves everything that it was copied with: an empty file system goes over `/` and becomes the root.
fn leave_mounts() -> std::result::Result<(), Errno> {
    let mut mounts = Namespaces::default();
    mounts.insert(Namespace::Mount);
    ns::unshare(mounts)?;
    mount::propagate(c"/", MS_SLAVE | MS_REC)?;
    let root = file::open(file::cwd(), c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let empty =
        mount::new(c"tmpfs", c"tmpfs", c"mode=755,nr_blocks=1,nr_inodes=2", 0, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)?;
    mount::attach(empty.as_fd(), root.as_fd())?;
    file::fchdir(empty.as_fd())?;
    mount::pivot_here()?;
    mount::unmount(c".")
}

/// Joins what must be joined before the clone. With the rights of the host first; what that does not allow is tried
/// again from inside the user namespace.
fn prepare(birth: &Birth, slots: &[Option<OwnedFd>]) -> std::result::Result<(), Errno> {
    if !birth.offsets.is_empty() {
        let mut time = Namespaces::default();
        time.insert(Namespace::Time);
        ns::unshare(time)?;
        write_offsets(birth)?;
    }
    let join = |kind: Namespace, slot: usize| {
        let fd = slots.get(slot).and_then(Option::as_ref).ok_or(Errno::EBADF)?;
        let mut kinds = Namespaces::default();
        kinds.insert(kind);
        ns::join(fd.as_fd(), kinds)
    };
    let mut refused = 0u64;
    for (slot, kind) in birth.through.iter().filter(|(_, kind)| *kind != Namespace::User) {
        match join(*kind, slot.0.into()) {
            Err(Errno::EPERM) => refused |= kind.flag(),
            answer => answer?,
        }
    }
    for (slot, kind) in &birth.through {
        if *kind == Namespace::User || refused & kind.flag() != 0 {
            join(*kind, slot.0.into())?;
        }
    }
    if birth.inside.is_empty() {
        return Ok(());
    }
    let process = slots.get(usize::from(Slot::INIT.0)).and_then(Option::as_ref).ok_or(Errno::EBADF)?;
    ns::join(process.as_fd(), birth.inside)
}

fn write_offsets(birth: &Birth) -> std::result::Result<(), Errno> {
    let offsets = file::open(file::cwd(), c"/proc/self/timens_offsets", libc::O_WRONLY, 0)?;
    // one write for all: the go-between may allocate, it is the host half on another stack
    let lines: Vec<String> =
        birth.offsets.iter().map(|o| format!("{} {} {}\n", o.clock, o.seconds, o.nanoseconds)).collect();
    file::write(offsets.as_fd(), lines.concat().as_bytes())
}

/// Joins the session keyring that the child is to inherit, if the plan leaves that to us.
///
/// # Errors
/// The kernel's answer; a kernel without keyrings has none to hide.
pub(super) fn join_keyring(plan: &Plan) -> Result<()> {
    match plan.keyring.as_deref().map_or(Ok(()), task::join_keyring) {
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno)
            .context(|| "join the container's session keyring")
            .map_err(|error| error.hint("--no-new-keyring leaves the container in its caller's session keyring")),
    }
}

/// Ends a child and reaps it, whatever state it is in.
pub(super) fn end(child: &Child) -> Result<()> {
    match signal::send(child.pidfd.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(errno).context(|| format!("kill {}", child.pid)),
    }
    reap(child).map(drop)
}

/// Waits for a child's end. One that came by `CLONE_PARENT` sends no `SIGCHLD` and is waited for with `__WALL`.
///
/// # Errors
/// The kernel's answer.
pub fn reap(child: &Child) -> Result<Option<signal::End>> {
    match signal::reap(child.pid, true) {
        Ok(end) => Ok(end.map(|(_, end)| end)),
        Err(Errno::ECHILD) => Ok(None),
        Err(errno) => Err(errno).context(|| format!("wait for {}", child.pid)),
    }
}
