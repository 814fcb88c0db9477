//! The child half: executes the steps of the plan, one after another. It allocates nothing (`scripts/check/words.py` forbids the
//! types that do, and in debug builds the allocator ends an init that allocates).
//!
//! The plan decides. Where a step has more than one way, only the kernel's answer to one of its calls chooses between them,
//! and the step's doc in `plan::step` names them all. What init remembers from one step to the next is what the kernel
//! answered: see [`State`].
//!
//! It runs between the clone and execve, as the only thread of its process, on memory that it shares with the host half (which
//! continues to run) or on a copy of it. A failure is reported to the host half as `(step, errno)`; the host half still has the
//! plan and writes the message.

mod copy;
mod creds;
mod device;
mod fds;
mod filesystem;
mod hook;
mod masked_paths;
mod mount;
mod path;
mod proc;
mod root;
mod tree;
mod tty;

use crate::abi::errno::text;
use crate::abi::ns::Namespace;
use crate::plan::Plan;
use crate::plan::image::Image;
use crate::plan::step::{COVER, Slot, Step, Sync};
use crate::sync_socket::{self, Cause, Failure, Message};
use crate::sys::marks::{Marks, Progress};
use crate::sys::{self, Errno, cred, entry, exe, exec, file, net, ns, signal, task};
use device::Node;
use filesystem::{Cgroup, Fs};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use tree::HostTree;

/// Status of an init that could not become the payload.
pub const FAILED: i32 = 1;

/// Why a step failed, without its number.
#[derive(Debug, Clone, Copy)]
struct StepError {
    cause: Cause,
    errno: i32,
    detail: i32,
}

impl From<Errno> for StepError {
    fn from(errno: Errno) -> Self {
        Self { cause: Cause::Kernel, errno: errno as i32, detail: 0 }
    }
}

impl From<Cause> for StepError {
    fn from(cause: Cause) -> Self {
        Self { cause, errno: 0, detail: 0 }
    }
}

type StepResult = Result<(), StepError>;

/// Leaves a descriptor to the next [`Step::CloseFds`], which closes many in one call. The plan has one behind the last mount, before
/// any path of the image is looked up. Bundles with many mounts, and callers with few descriptors to give, would run into
/// the limit of open files that way: numbers from [`LEAK_BELOW`] on are closed at once.
fn leak_until_exec<T: AsFd>(fd: T) {
    if file::raw_fd(&fd) < LEAK_BELOW.load(Ordering::Relaxed) {
        std::mem::forget(fd);
    }
}

/// Written before the clone, by the host half.
static LEAK_BELOW: AtomicI32 = AtomicI32::new(0);

/// Says how many descriptors init may have open. Some numbers are left for what its steps need at the same time.
pub fn limit_descriptors(most: u64) {
    const HIGHEST: u64 = 48;
    const NEEDED: u64 = 10;
    let below = most.saturating_sub(NEEDED).min(HIGHEST);
    LEAK_BELOW.store(i32::try_from(below).unwrap_or_default(), Ordering::Relaxed);
}

/// What one step leaves to those after it: descriptors, and what the kernel answered.
struct State<'a> {
    slots: &'a mut [Option<OwnedFd>],
    /// The numbers of the sync socket and of what was in the slots at the clone, in ascending order.
    inherited: &'a [RawFd],
    socket: BorrowedFd<'a>,
    /// The first attempt to enter the working directory was refused ([`First`](crate::plan::step::Attempt::First)).
    cwd_refused: bool,
    /// The umask of the caller, once we have changed ours.
    umask: Option<u32>,
    /// The working directory is the container's `/dev`, so that the next step that needs it makes no call.
    in_dev: bool,
    /// We have created `/dev/null` in a `/dev` of our own, so that masks may use it by name (`for_masks` of [`Step::Node`]).
    own_null: bool,
    /// The state of the network namespace that a thread of the host half creates.
    network: Network,
    /// A message to go on that arrived before we waited for it.
    heard: Option<Sync>,
    /// If the mount namespace was created from the root alone: the propagation of mounts that are cloned from the host.
    propagation: u64,
}

/// The network namespace that a thread of the host half creates meanwhile.
#[derive(Debug, Clone, Copy)]
enum Network {
    /// No message is expected: it is in its slot, or there is none.
    Settled,
    /// The thread has not sent it yet.
    Expected,
    /// It could not be created.
    Failed(StepError),
}

impl State<'_> {
    /// Changes the working directory by a descriptor (`fchdir(2)`).
    fn fchdir(&mut self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        self.in_dev = false;
        file::fchdir(directory)
    }

    /// Makes the container's `/dev` the working directory, if it is not.
    fn fchdir_to_dev(&mut self) -> Result<(), Errno> {
        if !self.in_dev {
            file::fchdir(self.get(Slot::DEV)?)?;
            self.in_dev = true;
        }
        Ok(())
    }

    /// The descriptor in a slot; `EBADF` if the slot is empty (a mistake in the plan).
    fn get(&self, slot: Slot) -> Result<BorrowedFd<'_>, Errno> {
        self.slots.get(slot.index()).and_then(Option::as_ref).map(AsFd::as_fd).ok_or(Errno::EBADF)
    }

    /// Puts a descriptor into a slot; closes the previous one.
    fn put(&mut self, slot: Slot, fd: OwnedFd) {
        if let Some(entry) = self.slots.get_mut(slot.index()) {
            *entry = Some(fd);
        }
    }

    /// Takes a descriptor out of a slot.
    fn take(&mut self, slot: Slot) -> Result<OwnedFd, Errno> {
        self.slots.get_mut(slot.index()).and_then(Option::take).ok_or(Errno::EBADF)
    }

    /// The container's root, before and after the pivot.
    fn root(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.get(Slot::ROOT)
    }
}

/// The arguments of init. They are leaked, and the host half may share this memory; after the clone it only reads the plan.
#[derive(Debug)]
pub struct InitArgs {
    /// The plan; the host half reads it, too.
    pub plan: &'static Plan,
    /// The program to execute.
    pub image: Image,
    /// The descriptors that steps use.
    pub slots: &'static mut [Option<OwnedFd>],
    /// Our end of the sync socket to the host half.
    pub socket: OwnedFd,
    /// The numbers of the sync socket and of what is in the slots, in ascending order: all that stays open.
    pub inherited: &'static [RawFd],
    /// Where the time of each step is recorded, for `--trace`.
    pub marks: Option<&'static Marks>,
    /// The step that init is at.
    pub progress: &'static Progress,
}

/// Executes all steps and then the payload.
pub fn run(args: &mut InitArgs) -> ! {
    sys::alloc::forbid(true);
    // for `exec` the host half still waits, and reports if execve fails
    let joins = args.slots[Slot::INIT.index()].is_some();
    let expected = args.plan.clone_spec.network_ahead && args.slots[Slot::NETWORK.index()].is_none();
    let mut state = State {
        network: if expected { Network::Expected } else { Network::Settled },
        slots: args.slots,
        inherited: args.inherited,
        socket: args.socket.as_fd(),
        cwd_refused: false,
        umask: None,
        in_dev: false,
        own_null: false,
        heard: None,
        propagation: 0,
    };
    let mut gate = false;
    for (index, step) in args.plan.steps.iter().enumerate() {
        args.progress.at(index);
        if let Some(marks) = args.marks {
            marks.mark(index);
        }
        state.in_dev &= matches!(step, Step::Mount { new_dir: true, .. } | Step::Mask { .. });
        // a failed wait for `start` too is what `start` must know: nobody else listens any more
        gate |= matches!(step, Step::Gate);
        if let Err(error) = perform(step, &mut args.image, &mut state) {
            if !joins && matches!(step, Step::Exec) && matches!(error.cause, Cause::Kernel) {
                refused(&args.image, error.errno);
            }
            for slot in args.plan.added.iter().rev() {
                // one that was not mounted is not in its slot
                let _ = mount::take_off(&state, *slot);
            }
            let step = u16::try_from(index).unwrap_or(u16::MAX);
            report(&state, Failure { step, cause: error.cause, errno: error.errno, detail: error.detail }, gate);
        }
    }
    task::exit_now(FAILED)
}

/// Reports a failure: to the host half, or after [`Step::Gate`] in the locked file, which `start` reads.
fn report(state: &State<'_>, failure: Failure, gate: bool) -> ! {
    let message = Message::Failed(failure);
    if gate {
        if let Ok(lock) = state.get(Slot::STATUS_LOCK) {
            let _ = file::write(lock, &message.encode());
            hook::copy_output(state, lock);
        }
    } else if !matches!(sync_socket::send_from_init(state.socket, message), Ok(()) | Err(Errno::EPIPE)) {
        // an exit status would be taken for the payload's
        task::trap();
    }
    task::exit_now(FAILED)
}

/// The program was found and execve refuses it: another architecture, an interpreter that is missing. The message goes to the
/// payload's standard error, so that it is in the container's log. Returns if it cannot be written there.
fn refused(image: &Image, errno: i32) {
    const STDERR: RawFd = 2;
    let path = image.chosen.and_then(|chosen| image.candidates.get(chosen)).map_or(c"", |path| path);
    let mut line = [0; 4352];
    let mut length = 0;
    for part in [&b"exec "[..], path.to_bytes(), b": ", text(errno).as_bytes(), b"\n"] {
        if let Some(room) = line.get_mut(length..length + part.len()) {
            room.copy_from_slice(part);
            length += part.len();
        }
    }
    if file::write(file::given(STDERR), &line[..length]).is_ok() {
        task::exit_now(sync_socket::REFUSED);
    }
}

/// Brings `lo` up. The container can do without it: where the kernel refuses (gVisor), the host half warns.
fn loopback(state: &State<'_>) -> StepResult {
    match net::loopback_up(net::control()?.as_fd()) {
        Err(errno @ (Errno::EPERM | Errno::EACCES)) => {
            Ok(sync_socket::send_from_init(state.socket, Message::LoopbackDown(errno as i32))?)
        }
        answer => Ok(answer?),
    }
}

// check: table: one line for each step: its system call or its function
fn perform(step: &'static Step, image: &mut Image, state: &mut State<'_>) -> StepResult {
    match step {
        Step::Tell(sync) => {
            // from now on others know our pid and may send signals to it
            if *sync == Sync::Ready {
                signal::exit_on_term_signals();
            }
            sync_socket::send_from_init(state.socket, Message::Reached(*sync))?;
        }
        Step::Await(sync) => meet(*sync, state)?,
        Step::Setns(slot, kind) => {
            ns::join(state.get(*slot)?, (*kind).into())?;
        }
        Step::Join(slot, kinds) => creds::join(state.get(*slot)?, *kinds)?,
        Step::JoinNetwork => join_network(state)?,
        Step::Unshare(kinds) => ns::unshare(*kinds)?,
        Step::BecomeRoot { alone } => creds::become_root(*alone)?,
        Step::Session => task::new_session(),
        Step::Keyring(name) => creds::keyring(name)?,
        Step::Hostname(name) => ns::set_hostname(name)?,
        Step::Domainname(name) => ns::set_domainname(name)?,
        Step::Loopback => loopback(state)?,
        Step::Umask(mask) => {
            let before = file::umask(*mask);
            state.umask.get_or_insert(before);
        }
        Step::Propagate(flags) => root::propagate(*flags)?,
        Step::PropagateParent(path, flags) => root::propagate_parent(path, *flags)?,
        Step::OpenRoot { path, tree, private, over } => {
            root::open(if *over { c"/" } else { path }, *tree, *private, state)?;
        }
        Step::Chroot(path) => root::change(path, state)?,
        Step::EnterRoot => root::enter(state)?,
        Step::NewTree { path, propagation } => tree::new(path, *propagation, state)?,
        Step::CloneAhead { slot, source, recursive, nofollow, fallback, propagation_follows } => {
            let host = HostTree { source, recursive: *recursive, nofollow: *nofollow, fallback: fallback.as_deref() };
            tree::ahead(state, *slot, &host, *propagation_follows)?;
        }
        Step::TakeRoot => root::take(state)?,
        Step::Pivot { cut } => root::pivot(*cut, state)?,
        Step::UnmountOrCover { path, shared } => root::conceal(path, *shared)?,
        Step::MoveRoot => root::shift(state)?,
        Step::ReadonlyRoot => root::readonly(state)?,
        Step::Mount { source, fstype, target, flags, data, new_dir, in_proc, detached } => {
            let fs = Fs { source, fstype, target, flags: *flags, data, in_proc: *in_proc };
            filesystem::mount(state, &fs, *new_dir, detached.as_deref())?;
        }
        Step::MountCgroup { target, flags, data, own, bind, attrs } => {
            let (flags, own, bind) = (*flags, *own, bind.as_deref());
            filesystem::cgroup2(state, &Cgroup { target, flags, data, own, bind, attrs })?;
        }
        Step::ReadonlyPath { path } => masked_paths::readonly_path(path)?,
        Step::Mask { path, cover } => masked_paths::mask(state, path, cover.as_deref().unwrap_or(COVER))?,
        Step::Remount { target, flags, data } => mount::remount(state, target, *flags, data)?,
        Step::Clone { source, recursive, nofollow, fallback } => {
            let host = HostTree { source, recursive: *recursive, nofollow: *nofollow, fallback: fallback.as_deref() };
            state.put(Slot::TREE, tree::clone_of_host(&host)?);
        }
        Step::CloneInside { source, recursive, nofollow } => mount::clone_inside(state, source, *recursive, *nofollow)?,
        Step::Take { slot, .. } => {
            let tree = state.take(*slot)?;
            state.put(Slot::TREE, tree);
        }
        Step::IdMap { mapped, by_host, .. } => mount::map_ids(state, *mapped, *by_host)?,
        Step::Attr { slot, attr, recursive } => sys::mount::set_attr(state.get(*slot)?, attr, *recursive)?,
        Step::AttrKeepLocked { attr, must_clear, host } => {
            mount::keep_locked(state.get(Slot::TREE)?, attr, *must_clear, *host)?;
        }
        Step::Attach { target, in_proc, nofollow, keep } => mount::attach(state, target, *in_proc, *nofollow, *keep)?,
        Step::OpenMount { slot, target } => mount::open_root(state, *slot, target)?,
        Step::Unmount { slot, .. } => mount::take_off(state, *slot)?,
        Step::AttrAt { target, attr, must_clear, then } => {
            mount::attr_at(state, target, attr, *must_clear, then.as_ref())?
        }
        Step::Link { at, path, target } => device::link(state, *at, path, target)?,
        Step::LinkTo { name, target } => device::link_to(state, name, target)?,
        Step::CopyLink { path, target } => device::copy_link(state, path, target)?,
        Step::OpenDev => device::open_dev(state)?,
        Step::Node { at, path, mode, device, owner, host, for_masks } => {
            let (mode, device, owner, host) = (*mode, *device, *owner, host.as_deref());
            let made = device::node(state, &Node { at: *at, path, mode, device, owner, host })?;
            state.own_null |= *for_masks && made;
        }
        Step::Unlink { at, path } => device::unlink(state, *at, path)?,
        Step::OpenProc => proc::open(state)?,
        Step::WriteProc { file, value } => proc::write(state, file, value)?,
        Step::OpenTerminal { size } => tty::open(*size, state)?,
        Step::BindConsole => tty::bind_console(state)?,
        Step::SendTerminal { socket } => tty::send(*socket, state)?,
        Step::TakeTerminal(uid) => tty::take(*uid, state)?,
        Step::OwnStdio(uid) => tty::own_stdio(*uid),
        Step::Limit { resource, soft, hard, .. } => task::set_limit(0, *resource, *soft, *hard)?,
        Step::Scheduler(attr, _) => task::set_scheduler(attr)?,
        Step::IoPriority(class, level) => task::set_io_priority(*class, *level)?,
        Step::Affinity(mask) => task::set_affinity(mask)?,
        Step::MemoryPolicy(mode, nodes) => task::set_memory_policy(*mode, nodes)?,
        Step::Personality(persona) => task::set_personality(*persona)?,
        Step::Undumpable => cred::set_dumpable(false)?,
        Step::NoNewPrivs => cred::no_new_privs()?,
        Step::Bound(keep) => cred::bound(*keep)?,
        Step::KeepCaps(on) => cred::keep_caps(*on)?,
        Step::Groups(groups) => creds::set_groups(groups)?,
        Step::Gid(gid) => cred::set_gid(*gid)?,
        Step::Uid(uid) => cred::set_uid(*uid)?,
        Step::Caps(sets) => creds::set_caps(sets)?,
        Step::Ambient(set) => cred::set_ambient(*set)?,
        Step::Seccomp { program, flags } => creds::seccomp(program, *flags, state)?,
        Step::MakeCwd(path) => drop(path::directory(state.root()?, path)),
        Step::Chdir { path, attempt, make } => creds::chdir(path, *attempt, *make, state)?,
        Step::Home(uid) => creds::home(*uid, image),
        Step::Find => find(image)?,
        Step::Hook(hook) => hook::run(hook, image, state)?,
        Step::CloseInherited { preserve } => fds::close_inherited(*preserve, state)?,
        Step::CloseFds { preserve, keep } => fds::close_others(*preserve, keep, state)?,
        Step::Gate => gate(state)?,
        Step::Signals => signal::default_all()?,
        Step::Exec => execute(image)?,
        Step::End => task::exit_now(0),
    }
    Ok(())
}

/// Waits for the host half's message to go on after `sync`; any other message is an error.
fn meet(sync: Sync, state: &mut State<'_>) -> StepResult {
    while matches!(state.network, Network::Expected) && state.heard.is_none() {
        listen(state)?;
    }
    match state.heard.take() {
        Some(heard) if heard == sync => Ok(()),
        Some(_) => Err(Errno::EPIPE.into()),
        None => Ok(sync_socket::wait_for_go(state.socket, sync)?),
    }
}

/// Joins the network namespace: it is in its slot if it existed before the clone; otherwise the thread sends it.
fn join_network(state: &mut State<'_>) -> StepResult {
    while matches!(state.network, Network::Expected) {
        listen(state)?;
    }
    if let Network::Failed(why) = state.network {
        return Err(why);
    }
    Ok(ns::join(state.get(Slot::NETWORK)?, Namespace::Network.into())?)
}

/// Receives one message: from the host half, which lets us go on, or from the thread, which sends the network namespace or its
/// failure.
fn listen(state: &mut State<'_>) -> StepResult {
    match sync_socket::receive(state.socket)? {
        Some((Message::Go(sync), _)) => state.heard = Some(sync),
        Some((Message::Fd(Slot::NETWORK), Some(fd))) => {
            state.put(Slot::NETWORK, fd);
            state.network = Network::Settled;
        }
        Some((Message::Failed(Failure { cause, errno, detail, .. }), _)) => {
            state.network = Network::Failed(StepError { cause, errno, detail });
        }
        Some((Message::Fd(_) | Message::Reached(_) | Message::LoopbackDown(_), _)) | None => {
            return Err(Errno::EPIPE.into());
        }
    }
    Ok(())
}

/// Waits for the byte that `start` writes into the fifo.
fn gate(state: &State<'_>) -> StepResult {
    let mut byte = [0];
    exe::drop_clean_text();
    entry::wipe();
    let errno = match file::read(state.get(Slot::EXEC_FIFO)?, &mut byte) {
        Ok(1) => return Ok(()),
        Ok(_) => Errno::EPIPE,
        Err(errno) => errno,
    };
    Err(StepError { cause: Cause::Gate, errno: errno as i32, detail: 0 })
}

/// Finds the first candidate that may be executed. If there is none, a file that exists but may not be executed determines the
/// error.
fn find(image: &mut Image) -> StepResult {
    let mut reason = Errno::ENOENT;
    for (index, candidate) in image.candidates.iter().enumerate() {
        match executable(candidate) {
            Ok(()) => {
                image.chosen = Some(index);
                return Ok(());
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) if image.searched => {}
            Err(errno) => reason = errno,
        }
    }
    Err(StepError { cause: Cause::NoProgram, errno: reason as i32, detail: 0 })
}

fn executable(path: &CStr) -> Result<(), Errno> {
    let found = file::stat_at(file::cwd(), path, 0)?;
    if found.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    file::may_execute(path)
}

/// Executes the chosen candidate; or, if [`Step::Find`] was not planned, the first one that execve accepts.
fn execute(image: &mut Image) -> StepResult {
    let all = 0..image.candidates.len();
    let mut refused = Errno::ENOENT;
    for index in image.chosen.map_or(all, |chosen| chosen..chosen + 1) {
        let Some(path) = image.candidates.get(index) else { break };
        refused = exec::exec(path, &image.argv, &image.envp);
        if image.chosen.is_some() || executable(path).is_ok() {
            image.chosen = Some(index);
            return Err(refused.into());
        }
    }
    find(image)?;
    // one can be executed now that could not be looked at a moment ago
    Err(refused.into())
}
