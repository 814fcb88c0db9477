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
use crate::init::{self, Pack};
use crate::plan::{Birth, Plan};
use crate::sys::exec::{self, CloneArgs};
use crate::sys::marks::{Marks, now};
use crate::sys::signal::{self, Mask};
use crate::sys::{Errno, alloc, file, net, ns, task};
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Enough for the deepest step: copying up a tree below a tmpfs.
const STACK: usize = 1024 * 1024;

/// Enough for a handful of calls, the C library's part of a thread included.
const MAKER_STACK: usize = 32 * 1024;

const CLONE_VM: i32 = 0x100;
const CLONE_FILES: i32 = 0x400;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: i32 = 0x4000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
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
    /// Our end of the wire, which the child closes.
    host: RawFd,
}

impl Luggage {
    /// Packs. The descriptors stay ours, too: the child has its own table of them.
    pub(super) fn new(
        plan: &'static mut Plan,
        slots: &[Option<OwnedFd>],
        (host, wire): (BorrowedFd<'_>, BorrowedFd<'_>),
        mask: Option<Mask>,
        marks: Option<&'static Marks>,
    ) -> (Self, &'static Plan) {
        // SAFETY: these are never dropped on our side, where the descriptors have another owner, and on the child's side
        // that owner does not exist.
        let twin = |fd: BorrowedFd<'_>| unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) };
        let image = plan.image.part();
        let plan: &'static Plan = plan;
        let slots: Vec<_> = slots.iter().map(|slot| slot.as_ref().map(|fd| twin(fd.as_fd()))).collect();
        let slots = slots.leak();
        let pack = Box::leak(Box::new(Pack { plan, image, slots, wire: twin(wire), mask, marks }));
        (Self { pack: NonNull::from(pack), birth: &plan.birth, host: host.as_raw_fd() }, plan)
    }

    /// The child's life.
    fn unpack(self) -> ! {
        // SAFETY: the child's table of descriptors is a copy, in which our end has no owner; closing it lets the end of
        // the host be seen. The pack is leaked and the child's alone.
        let pack = unsafe {
            libc::close(self.host);
            &mut *self.pack.as_ptr()
        };
        init::walk(pack)
    }
}

/// Makes the child. `mend` is asked about a cgroup that does not take processes as it is (`EOPNOTSUPP`: one in a threaded
/// tree); if it can be mended, there is a second try. A maker has its order already.
///
/// # Errors
/// The kernel's answer, with what was to be made.
pub(super) fn birth(
    luggage: Luggage,
    cgroup: Option<BorrowedFd<'_>>,
    maker: Option<Maker>,
    mut mend: impl FnMut(Errno) -> Result<()>,
) -> Result<Child> {
    let make = || match maker {
        Some(maker) => maker.bear(),
        None if luggage.birth.needs_between() => between(luggage, cgroup).map_err(Refusal::from),
        None => clone(luggage, cgroup, 0).map_err(Refusal::from),
    };
    let mut answer = make();
    if let Err(Refusal { errno: errno @ Errno::EOPNOTSUPP, .. }) = answer {
        mend(errno)?;
        if let Some(maker) = maker {
            maker.order(luggage, cgroup);
        }
        answer = make();
    }
    answer.map_err(|refusal| {
        let new = luggage.birth.new;
        let (syscall, what) = match refusal.stage {
            Stage::Clone => ("clone3", format!("clone3({new})")),
            Stage::Network => ("unshare", "unshare(network)".to_owned()),
            Stage::Loopback => ("ioctl", "bring lo up".to_owned()),
        };
        let error = Error::from(refusal.errno).fact("syscall", syscall).context(what);
        match refusal.errno {
            Errno::EACCES => error.hint("users may place processes only in the part of the cgroup tree that is theirs"),
            Errno::EPERM => error.hint("namespaces need root, or a user namespace in linux.namespaces"),
            Errno::ENOSPC => error.hint("a limit of /proc/sys/user or of nested namespaces is reached"),
            Errno::EBUSY => error.hint("the cgroup has controllers enabled for its children"),
            _ => error,
        }
    })
}

/// What was refused on the way to a child.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Clone,
    Network,
    Loopback,
}

#[derive(Debug, Clone, Copy)]
struct Refusal {
    stage: Stage,
    errno: Errno,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { stage: Stage::Clone, errno }
    }
}

fn arguments(luggage: Luggage, cgroup: Option<BorrowedFd<'_>>, pidfd: *mut i32) -> CloneArgs {
    let mut args = CloneArgs {
        flags: CLONE_PIDFD | luggage.birth.new.0,
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
    // SAFETY: no CLONE_VM: the child runs on a copy of our memory and never comes back from `unpack`, which neither
    // allocates nor takes locks (held by clippy's disallowed lists in init and by the debug allocator); args lives
    // through the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid == 0 {
        luggage.unpack();
    }
    if pid < 0 {
        return Err(Errno::last());
    }
    child(i32::try_from(pid).map_err(|_| Errno::ESRCH)?, pidfd)
}

fn child(pid: i32, pidfd: RawFd) -> std::result::Result<Child, Errno> {
    // SAFETY: CLONE_PIDFD has stored the number of a new descriptor there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid, pidfd, restored: false })
}

/// The thread that makes the network namespace while everything else is made ready, and of which the child is then
/// born, on the host half's memory (`Birth::network_ahead`, `Birth::shares_memory`). It sleeps meanwhile, as after vfork(2),
/// so that the child has its thread-local storage for itself.
#[derive(Debug, Clone, Copy)]
pub struct Maker(&'static Cradle);

/// What the thread, the host half and the child tell one another by.
#[derive(Debug, Default)]
struct Cradle {
    order: OnceLock<Order>,
    /// 0 until the thread runs, then 1; 2 while somebody waits for that.
    running: AtomicU32,
    /// How many orders there were.
    orders: AtomicU32,
    /// One of [`Cradle::NONE`] and the following.
    news: AtomicU32,
    errno: AtomicI32,
    pid: AtomicI32,
    pidfd: AtomicI32,
    /// The signals that were blocked when the thread began. It blocks all of them: a child's end must be heard, and of a
    /// signal that is not blocked and has no handler the kernel would say nothing.
    mask: OnceLock<Mask>,
    traced: bool,
    /// When the thread began, had a network namespace, had its loopback device up, and went on to the clone; for the trace.
    laps: [AtomicU64; 4],
}

impl Cradle {
    const NONE: u32 = 0;
    const BORN: u32 = 1;
    const NO_CHILD: u32 = 2;
    const NO_NETWORK: u32 = 3;
    const NO_LOOPBACK: u32 = 4;
}

#[derive(Debug, Clone, Copy)]
struct Order {
    luggage: Luggage,
    cgroup: Option<RawFd>,
    cradle: &'static Cradle,
}

// SAFETY: the pack that luggage points to is touched by nobody but the child.
unsafe impl Send for Order {}
// SAFETY: as above.
unsafe impl Sync for Order {}

impl Maker {
    /// Begins to make a network namespace.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn begin(traced: bool) -> Result<Self> {
        let cradle: &'static Cradle = Box::leak(Box::new(Cradle { traced, ..Cradle::default() }));
        let stack = task::stack(MAKER_STACK).context(|| "map a stack")?;
        task::spawn(stack, make, cradle).context(|| "start a thread")?;
        Ok(Self(cradle))
    }

    /// Sees to it that the thread runs. The kernel may have queued it behind us though another processor is idle (some pack
    /// threads on purpose, to let processors sleep): if it has not begun by now, we step aside, and it moves away.
    pub(super) fn run(&self) {
        let running = &self.0.running;
        if running.compare_exchange(0, 2, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            while running.load(Ordering::Acquire) == 2 {
                task::wait_while(running, 2);
            }
        }
    }

    /// What the thread did, and from when to when.
    pub(super) fn laps(&self) -> [(&'static str, u64, u64); 3] {
        let [began, made, up, went_on] = [0, 1, 2, 3].map(|lap| self.0.laps[lap].load(Ordering::Acquire));
        [("unshare(network)", began, made), ("bring lo up", made, up), ("wait for the plan", up, went_on)]
    }

    /// Says what child is wanted; [`birth`] waits for it. The cgroup's descriptor must stay open until then.
    pub(super) fn order(&self, luggage: Luggage, cgroup: Option<BorrowedFd<'_>>) {
        let cradle = self.0;
        let cgroup = cgroup.map(|fd| fd.as_raw_fd());
        let _the_second_try_is_the_same = cradle.order.set(Order { luggage, cgroup, cradle });
        cradle.news.store(Cradle::NONE, Ordering::Relaxed);
        task::tell(&cradle.orders, cradle.orders.load(Ordering::Relaxed) + 1);
    }

    fn bear(&self) -> std::result::Result<Child, Refusal> {
        let cradle = self.0;
        while cradle.news.load(Ordering::Acquire) == Cradle::NONE {
            task::wait_while(&cradle.news, Cradle::NONE);
        }
        let stage = match cradle.news.load(Ordering::Acquire) {
            Cradle::BORN => {
                let (pid, pidfd) = (cradle.pid.load(Ordering::Acquire), cradle.pidfd.load(Ordering::Acquire));
                return Ok(child(pid, pidfd)?);
            }
            Cradle::NO_NETWORK => Stage::Network,
            Cradle::NO_LOOPBACK => Stage::Loopback,
            _ => Stage::Clone,
        };
        Err(Refusal { stage, errno: Errno::from_raw(cradle.errno.load(Ordering::Acquire)) })
    }
}

/// The thread's life.
extern "C" fn make(cradle: *mut c_void) -> *mut c_void {
    // SAFETY: `begin` passes a cradle that is leaked.
    let cradle: &'static Cradle = unsafe { &*cradle.cast_const().cast() };
    cradle.serve();
    std::ptr::null_mut()
}

impl Cradle {
    fn serve(&'static self) {
        let lap = |number: usize| {
            if self.traced {
                self.laps[number].store(now(), Ordering::Release);
            }
        };
        let mut network = Namespaces::default();
        network.insert(Namespace::Network);
        if self.running.swap(1, Ordering::AcqRel) == 2 {
            task::tell(&self.running, 1);
            task::move_away();
        }
        lap(0);
        if let Ok(mask) = signal::block_all() {
            let _first = self.mask.set(mask);
        }
        let made = ns::unshare(network).map_err(|errno| (Cradle::NO_NETWORK, errno));
        lap(1);
        let made = made.and_then(|()| net::loopback_up().map_err(|errno| (Cradle::NO_LOOPBACK, errno)));
        lap(2);
        for seen in 0.. {
            while self.orders.load(Ordering::Acquire) == seen {
                task::wait_while(&self.orders, seen);
            }
            lap(3);
            let Some(order) = self.order.get() else { return };
            let born = made.and_then(|()| order.carry_out().map_err(|errno| (Cradle::NO_CHILD, errno)));
            let Err((news, errno)) = born else { return };
            self.errno.store(errno as i32, Ordering::Release);
            task::tell(&self.news, news);
        }
    }
}

impl Order {
    fn carry_out(&self) -> std::result::Result<(), Errno> {
        // SAFETY: the cgroup's descriptor is open until the child is born.
        let cgroup = self.cgroup.map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
        let mut args = arguments(self.luggage, cgroup, self.cradle.pidfd.as_ptr());
        args.flags &= !Namespace::Network.flag();
        args.flags |= CLONE_PARENT_SETTID;
        args.parent_tid = self.cradle.pid.as_ptr() as u64;
        task::roam();
        let stack = task::stack(STACK)?;
        args.stack = stack.as_mut_ptr() as u64;
        args.stack_size = STACK as u64;
        let shared = self.luggage.birth.shares_memory;
        if shared {
            args.flags |= u64::from((CLONE_VM | CLONE_VFORK).cast_unsigned());
        }
        let this = &raw const *self;
        // SAFETY: the stack is aligned by its type and the child's alone; the order, the pack and the plan are leaked, so
        // they live longer than the child needs them; if it shares our memory, it uses this thread's local storage while
        // the thread sleeps.
        let born = unsafe { exec::clone_apart(&args, begin, this.cast_mut().cast()) };
        // a child that shares our memory has forbidden it in this thread's name
        alloc::forbid(false);
        if !shared && born.is_ok() {
            task::tell(&self.cradle.news, Cradle::BORN);
        }
        born.map(drop)
    }
}

/// Where a child of the maker begins.
extern "C" fn begin(order: *mut c_void) -> ! {
    // SAFETY: `carry_out` passes its own order, which is leaked.
    let order = unsafe { &*order.cast_const().cast::<Order>() };
    // init begins with what the thread was given
    if let Some(mask) = order.cradle.mask.get() {
        let _init_sets_it_once_more = signal::set_mask(mask);
    }
    // heard if the memory is shared
    task::tell(&order.cradle.news, Cradle::BORN);
    order.luggage.unpack()
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
    let stack = task::stack(STACK)?;
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
        .and_then(|()| clone(shared.luggage, cgroup, CLONE_PARENT));
    task::leave(0)
}

fn enter_cgroup(cgroup: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    let procs = file::open(cgroup, c"cgroup.procs", libc::O_WRONLY, 0)?;
    file::write(procs.as_fd(), b"0")
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
