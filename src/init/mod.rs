//! The child half: carries out the steps of the plan, one after another. It allocates nothing (`scripts/check/words.py` forbids the
//! types that do, and in debug builds the allocator ends an init that comes to it).
//!
//! The plan decides. Where a step has more than one way, only the kernel's answer to one of its calls chooses between them,
//! and the step's doc in `plan::step` names them all. What init remembers from one step to the next is what the kernel
//! answered: see [`State`].
//!
//! It runs between the clone and execve, as the only thread of its process, on memory that it shares with the host half,
//! which goes on, or on a copy of it. A step that fails is reported to the host as `(step, errno)`; the host still has the
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
use crate::sys::marks::Marks;
use crate::sys::task::ReadyFlag;
use crate::sys::{self, Errno, cred, entry, exe, exec, file, net, ns, signal, task};
use device::Node;
use filesystem::{Cgroup, Fs};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

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
/// the limit of open files that way: higher numbers are closed at once.
fn leak_until_exec<T: AsFd>(fd: T) {
    const HIGHEST: i32 = 48;
    if file::raw_fd(&fd) < HIGHEST {
        std::mem::forget(fd);
    }
}

/// What one step leaves to those after it: descriptors, and what the kernel answered.
struct State<'a> {
    slots: &'a mut [Option<OwnedFd>],
    /// The numbers of the sync socket and of what was in the slots at the clone, in ascending order.
    inherited: &'a [RawFd],
    socket: BorrowedFd<'a>,
    /// The working directory was refused to root ([`First`](crate::plan::step::Attempt::First)).
    cwd_refused: bool,
    /// The umask of the caller, once it is no longer ours.
    umask: Option<u32>,
    /// The working directory is the container's `/dev`: for steps in a row that need it, which call nothing then.
    in_dev: bool,
    /// The node that masks use by its name was made (`for_masks` of [`Step::Node`]).
    own_null: bool,
    /// Where the network namespace is that a thread of the host half makes.
    network: Network,
    /// The host's word to go on came before it was asked for.
    heard: Option<Sync>,
    /// The host's last word may lie in our memory.
    ready: Option<&'static ReadyFlag>,
    /// How what comes from the host propagates, if the container's mount namespace does not begin as a copy of it.
    propagation: u64,
}

/// The network namespace that a thread of the host half makes meanwhile.
#[derive(Debug, Clone, Copy)]
enum Network {
    /// Nothing is expected: it is in its slot, or there is none.
    Settled,
    /// The thread has not written yet.
    Expected,
    /// It could not be made.
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

    /// What lies in a slot; `EBADF` if the plan forgot to fill it.
    fn get(&self, slot: Slot) -> Result<BorrowedFd<'_>, Errno> {
        self.slots.get(usize::from(slot.0)).and_then(Option::as_ref).map(AsFd::as_fd).ok_or(Errno::EBADF)
    }

    /// Puts a descriptor in a slot; the one before is closed.
    fn put(&mut self, slot: Slot, fd: OwnedFd) {
        if let Some(place) = self.slots.get_mut(usize::from(slot.0)) {
            *place = Some(fd);
        }
    }

    /// Takes a descriptor out of a slot.
    fn take(&mut self, slot: Slot) -> Result<OwnedFd, Errno> {
        self.slots.get_mut(usize::from(slot.0)).and_then(Option::take).ok_or(Errno::EBADF)
    }

    /// The container's root: before the pivot the descriptor, behind it the same.
    fn root(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.get(Slot::ROOT)
    }
}

/// The arguments of init. They live as long as the memory that they lie in, which the parent may share; from the clone on only
/// the plan is read by both.
#[derive(Debug)]
pub struct InitArgs {
    /// What is to be done; the host half reads it too.
    pub plan: &'static Plan,
    /// What is to be become.
    pub image: Image,
    /// The descriptors that steps use.
    pub slots: &'static mut [Option<OwnedFd>],
    /// Our end of the sync socket to the host half.
    pub socket: OwnedFd,
    /// The numbers of the sync socket and of what is in the slots, in ascending order: all that stays open.
    pub inherited: &'static [RawFd],
    /// The host's last word, if we share its memory: then it need not send it.
    pub ready: Option<&'static ReadyFlag>,
    /// Where the beginning of each step is marked.
    pub marks: Option<&'static Marks>,
}

/// Walks all steps and becomes the payload; never comes back.
pub fn run(pack: &mut InitArgs) -> ! {
    sys::alloc::forbid(true);
    // a process of `exec` joins the container's first process, and its caller is told what execve refuses
    let joins = pack.slots[usize::from(Slot::INIT.0)].is_some();
    let expected = pack.plan.clone_spec.network_ahead && pack.slots[usize::from(Slot::NETWORK.0)].is_none();
    let mut state = State {
        network: if expected { Network::Expected } else { Network::Settled },
        slots: pack.slots,
        inherited: pack.inherited,
        socket: pack.socket.as_fd(),
        cwd_refused: false,
        umask: None,
        in_dev: false,
        own_null: false,
        heard: None,
        ready: pack.ready,
        propagation: 0,
    };
    let mut gate = false;
    for (index, step) in pack.plan.steps.iter().enumerate() {
        if let Some(marks) = pack.marks {
            marks.mark(index);
        }
        state.in_dev &= matches!(step, Step::Mount { new_dir: true, .. } | Step::Mask { .. });
        if let Err(error) = perform(step, &mut pack.image, &mut state) {
            if !joins && matches!(step, Step::Exec) && matches!(error.cause, Cause::Kernel) {
                refuse(&pack.image, error.errno);
            }
            let step = u16::try_from(index).unwrap_or(u16::MAX);
            report(&state, Failure { step, cause: error.cause, errno: error.errno, detail: error.detail }, gate);
        }
        gate |= matches!(step, Step::Gate);
    }
    task::exit_now(FAILED)
}

/// Reports a failure: to the parent, or after [`Step::Gate`] in the locked file, which `start` reads.
fn report(state: &State<'_>, failure: Failure, gate: bool) -> ! {
    let message = Message::Failed(failure);
    if gate {
        if let Ok(lock) = state.get(Slot::STATUS_LOCK) {
            let _ = file::write(lock, &message.encode());
            hook::copy_output(state, lock);
        }
    } else if !matches!(sync_socket::send_from_init(state.socket, message), Ok(()) | Err(Errno::EPIPE)) {
        // a status alone would be taken for the payload's
        task::trap();
    }
    task::exit_now(FAILED)
}

/// The program was found and execve refuses it: another architecture, an interpreter that is missing. The message goes to the
/// payload's standard error, so that it is in the container's log.
fn refuse(image: &Image, errno: i32) -> ! {
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
    // nothing can be done if standard error is closed
    let _ = file::write(file::given(STDERR), &line[..length]);
    task::exit_now(sync_socket::REFUSED)
}

// check: table: one line a step: which call it is
fn perform(step: &'static Step, image: &mut Image, state: &mut State<'_>) -> StepResult {
    match step {
        Step::Tell(sync) => {
            // from now on others know our pid and may send signals
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
        Step::Loopback => net::loopback_up(net::control()?.as_fd())?,
        Step::Umask(mask) => {
            let before = file::umask(*mask);
            state.umask.get_or_insert(before);
        }
        Step::Propagate(flags) => sys::mount::propagate(c"/", *flags)?,
        Step::PrivateParent(path) => root::private_parent(path)?,
        Step::OpenRoot { path, tree, over } => root::open(if *over { c"/" } else { path }, *tree, state)?,
        Step::Chroot(path) => root::change(path, state)?,
        Step::EnterRoot => root::enter(state)?,
        Step::NewTree { path, propagation } => tree::new(path, *propagation, state)?,
        Step::CloneAhead { slot, source, recursive, fallback, propagation_follows } => {
            tree::ahead(state, *slot, source, fallback.as_deref(), *recursive, *propagation_follows)?;
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
        Step::Mask { path, cover, file } => masked_paths::mask(state, path, cover.as_deref().unwrap_or(COVER), *file)?,
        Step::Remount { target, flags, data } => mount::remount(state, target, *flags, data)?,
        Step::Clone { source, recursive, fallback } => {
            state.put(Slot::TREE, tree::clone_of_host(source, fallback.as_deref(), *recursive)?);
        }
        Step::CloneInside { source, recursive } => mount::clone_inside(state, source, *recursive)?,
        Step::Take { slot, .. } => {
            let tree = state.take(*slot)?;
            state.put(Slot::TREE, tree);
        }
        Step::IdMap { mapped, by_host, .. } => mount::map_ids(state, *mapped, *by_host)?,
        Step::Attr { slot, attr, recursive } => sys::mount::set_attr(state.get(*slot)?, attr, *recursive)?,
        Step::AttrKeepLocked { attr, must_clear, host } => {
            mount::keep_locked(state.get(Slot::TREE)?, attr, *must_clear, *host)?;
        }
        Step::Attach { target, in_proc } => mount::attach(state, target, *in_proc)?,
        Step::AttrAt { target, attr, must_clear, then } => {
            mount::attr_at(state, target, attr, *must_clear, then.as_ref())?
        }
        Step::Link { at, path, target } => device::link(state, *at, path, target)?,
        Step::LinkTo { name, target } => device::link_to(state, name, target)?,
        Step::OpenDev => device::open_dev(state)?,
        Step::Node { at, path, mode, device, owner, for_masks } => {
            let made = device::node(state, &Node { at: *at, path, mode: *mode, device: *device, owner: *owner })?;
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
    }
    Ok(())
}

/// Waits for the host's word; anything else than that word ends init.
fn meet(sync: Sync, state: &mut State<'_>) -> StepResult {
    if sync == Sync::Ready && state.ready.is_some_and(ReadyFlag::is_set) {
        return Ok(());
    }
    while matches!(state.network, Network::Expected) && state.heard.is_none() {
        listen(state)?;
    }
    match state.heard.take() {
        Some(heard) if heard == sync => Ok(()),
        Some(_) => Err(Errno::EPIPE.into()),
        None => Ok(sync_socket::wait_for_go(state.socket, sync)?),
    }
}

/// The network namespace is in its slot if it was there before us; else the thread that makes it sends it.
fn join_network(state: &mut State<'_>) -> StepResult {
    while matches!(state.network, Network::Expected) {
        listen(state)?;
    }
    if let Network::Failed(why) = state.network {
        return Err(why);
    }
    Ok(ns::join(state.get(Slot::NETWORK)?, Namespace::Network.into())?)
}

/// Takes one message while two may write: the host half, which lets us go on, and the thread, which sends the network
/// namespace or says why there is none.
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
        Some((Message::Fd(_) | Message::Reached(_), _)) | None => return Err(Errno::EPIPE.into()),
    }
    Ok(())
}

/// Waits for the byte that `start` writes into the fifo.
fn gate(state: &State<'_>) -> StepResult {
    let mut byte = [0];
    exe::drop_clean_text();
    entry::wipe();
    match file::read(state.get(Slot::EXEC_FIFO)?, &mut byte)? {
        1 => Ok(()),
        _ => Err(Errno::EPIPE.into()),
    }
}

/// The first candidate that may be executed. A file that is there but may not be executed decides the reason if no
/// later one can.
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

/// Executes the chosen candidate; if nobody has looked, the first one that can be, which is the same.
fn execute(image: &mut Image) -> StepResult {
    let all = 0..image.candidates.len();
    for index in image.chosen.map_or(all, |chosen| chosen..chosen + 1) {
        let Some(path) = image.candidates.get(index) else { break };
        let errno = exec::exec(path, &image.argv, &image.envp);
        if image.chosen.is_some() || executable(path).is_ok() {
            image.chosen = Some(index);
            return Err(errno.into());
        }
    }
    find(image)
}
