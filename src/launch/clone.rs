//! The one clone.
//!
//! `clone3(2)` makes all new namespaces at once and puts the child into its cgroup (Linux 5.7), so that no later move
//! waits for a grace period of the kernel. Where the child must be born in namespaces that are joined first (a pid
//! namespace by path, a user namespace by path, clock offsets), a go-between that shares our memory and descriptors
//! joins them and makes the clone with `CLONE_PARENT`; the child is ours all the same.

#![allow(clippy::wildcard_enum_match_arm, reason = "errno is an open set, and most steps explain themselves")]
#![allow(unsafe_code)]

use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Context, Error, Result};
use crate::init;
use crate::plan::{Birth, Plan};
use crate::sys::exec::CloneArgs;
use crate::sys::signal::{self, Mask};
use crate::sys::{Errno, file, ns, task};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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

/// What the child takes with it.
pub(super) struct Luggage<'a> {
    pub(super) plan: &'a mut Plan,
    pub(super) slots: &'a mut [Option<OwnedFd>],
    /// The child's end of the wire.
    pub(super) wire: OwnedFd,
    /// Our end, which the child closes.
    pub(super) host: &'a OwnedFd,
    /// The signal mask that the payload gets back.
    pub(super) mask: Option<Mask>,
    /// The cgroup v2 directory to be born in.
    pub(super) cgroup: Option<BorrowedFd<'a>>,
}

/// Makes the child. `mend` is asked about a cgroup that does not take processes as it is (`EOPNOTSUPP`: one in a threaded
/// tree); if it can be mended, there is a second try.
///
/// # Errors
/// The kernel's answer, with what was to be made.
pub(super) fn birth(mut luggage: Luggage<'_>, mend: impl Fn(Errno) -> Result<()>) -> Result<Child> {
    let new = luggage.plan.birth.new;
    let mut make = || if luggage.plan.birth.needs_between() { between(&mut luggage) } else { clone(&mut luggage, 0) };
    let mut answer = make();
    if let Err(errno @ Errno::EOPNOTSUPP) = answer {
        mend(errno)?;
        answer = make();
    }
    answer.map_err(|errno| {
        let error = Error::from(errno).fact("syscall", "clone3").context(format!("clone3({new})"));
        match errno {
            Errno::EPERM => error.hint("namespaces need root, or a user namespace in linux.namespaces"),
            Errno::ENOSPC => error.hint("a limit of /proc/sys/user or of nested namespaces is reached"),
            Errno::EBUSY => error.hint("the cgroup has controllers enabled for its children"),
            _ => error,
        }
    })
}

fn clone(luggage: &mut Luggage<'_>, extra: u64) -> std::result::Result<Child, Errno> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: CLONE_PIDFD | luggage.plan.birth.new.0 | extra,
        pidfd: &raw mut pidfd as u64,
        exit_signal: if extra & CLONE_PARENT == 0 { u64::from(libc::SIGCHLD.cast_unsigned()) } else { 0 },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = luggage.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: no CLONE_VM: the child runs on a copy of our memory and never comes back from `walk`, which neither
    // allocates nor takes locks (held by clippy's disallowed lists in init and by the debug allocator); args lives
    // through the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid == 0 {
        // SAFETY: the child's copy of our end has no other owner here; closing it lets the end of the host be seen.
        unsafe { libc::close(luggage.host.as_raw_fd()) };
        init::walk(luggage.plan, luggage.slots, luggage.wire.as_fd(), luggage.mask.as_ref());
    }
    if pid < 0 {
        return Err(Errno::last());
    }
    // SAFETY: CLONE_PIDFD has stored the number of a new descriptor there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: i32::try_from(pid).map_err(|_| Errno::ESRCH)?, pidfd, restored: false })
}

struct Between<'a, 'b> {
    luggage: &'a mut Luggage<'b>,
    answer: std::result::Result<Child, Errno>,
}

/// Lets a go-between make the clone. It shares memory and descriptors and we sleep until it has ended (`vfork(2)`), so
/// what it stores and opens is ours.
fn between(luggage: &mut Luggage<'_>) -> std::result::Result<Child, Errno> {
    const STACK: usize = 256 * 1024;
    let mut stack = vec![0u8; STACK];
    let mut shared = Between { luggage, answer: Err(Errno::ECHILD) };
    let top = stack.as_mut_ptr_range().end as usize & !15;
    // SAFETY: the stack is ours, aligned, and outlives the go-between, for which we wait (CLONE_VFORK); it returns from
    // `go_between` or execs never; shared outlives it too and we do not touch it meanwhile.
    let pid = unsafe {
        libc::clone(
            go_between,
            top as *mut libc::c_void,
            CLONE_VM | CLONE_FILES | CLONE_VFORK | libc::SIGCHLD,
            (&raw mut shared).cast(),
        )
    };
    if pid < 0 {
        return Err(Errno::last());
    }
    signal::reap(pid, true)?;
    shared.answer
}

extern "C" fn go_between(shared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `between` passes its own value and sleeps until we have ended.
    let shared = unsafe { &mut *shared.cast::<Between<'_, '_>>() };
    shared.answer =
        prepare(&shared.luggage.plan.birth, shared.luggage.slots).and_then(|()| clone(shared.luggage, CLONE_PARENT));
    task::leave(0)
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
    Ok(())
}

fn write_offsets(birth: &Birth) -> std::result::Result<(), Errno> {
    let offsets = file::open(file::cwd(), c"/proc/self/timens_offsets", libc::O_WRONLY, 0)?;
    // one write for all: the go-between may allocate, it is the host half on another stack
    let lines: Vec<String> =
        birth.offsets.iter().map(|o| format!("{} {} {}\n", o.clock, o.seconds, o.nanoseconds)).collect();
    file::write(offsets.as_fd(), lines.concat().as_bytes())
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
