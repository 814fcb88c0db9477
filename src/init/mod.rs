//! The child half: carries out the steps of the plan, one after another. It allocates nothing (`scripts/check/words.py` forbids the
//! types that do, and in debug builds the allocator ends an init that comes to it).
//!
//! The plan decides. Where a step has more than one way, only the kernel's answer to one of its calls chooses between them,
//! and the step's doc in `plan::step` names them all. What init remembers from one step to the next is what the kernel
//! answered: see [`Scene`].
//!
//! It runs between the clone and execve, as the only thread of its process, on memory that it shares with the host half,
//! which goes on, or on a copy of it. A step that fails is reported to the host as `(step, errno)`; the host still has the
//! plan and writes the message.

mod copy;
mod creds;
mod device;
mod fds;
mod filesystem;
mod hide;
mod hook;
mod mount;
mod path;
mod proc;
mod root;
mod tree;
mod tty;

use crate::plan::Plan;
use crate::plan::image::Image;
use crate::plan::step::{COVER, Slot, Step, Sync};
use crate::sys::marks::Marks;
use crate::sys::task::Word;
use crate::sys::{self, Errno, cred, entry, exe, exec, file, net, ns, signal, task};
use crate::wire::{self, Cause, Failure, Message};
use device::Node;
use filesystem::{Cgroup, Fs};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// Status of an init that could not become the payload.
pub const FAILED: i32 = 1;

/// Why a step failed, without its number.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    cause: Cause,
    errno: i32,
    detail: i32,
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self { cause: Cause::Kernel, errno: errno as i32, detail: 0 }
    }
}

impl From<Cause> for Trouble {
    fn from(cause: Cause) -> Self {
        Self { cause, errno: 0, detail: 0 }
    }
}

type Done = Result<(), Trouble>;

/// Leaves a descriptor to the next [`Step::CloseFds`], which closes many in one call. The plan has one behind the last mount, before
/// any path of the image is looked up. Bundles with many mounts, and callers with few descriptors to give, would run into
/// the limit of open files that way: higher numbers are closed at once.
fn leave<T: AsFd>(fd: T) {
    const HIGHEST: i32 = 48;
    if file::number(&fd) < HIGHEST {
        std::mem::forget(fd);
    }
}

/// The descriptors that steps leave for one another.
struct Scene<'a> {
    slots: &'a mut [Option<OwnedFd>],
    /// The numbers of the wire and of what was in the slots at the birth, in ascending order.
    inherited: &'a [RawFd],
    wire: BorrowedFd<'a>,
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
    ready: Option<&'static Word>,
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
    Failed(Trouble),
}

impl Scene<'_> {
    /// Changes the working directory by a descriptor (`fchdir(2)`).
    fn fchdir(&mut self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        self.in_dev = false;
        file::enter(directory)
    }

    /// Makes the container's `/dev` the working directory, if it is not.
    fn fchdir_to_dev(&mut self) -> Result<(), Errno> {
        if !self.in_dev {
            file::enter(self.get(Slot::DEV)?)?;
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

/// What init walks with. It lives as long as the memory it lies in, which the host half may share; but for the plan,
/// nobody else touches it from the clone on.
#[derive(Debug)]
pub struct Pack {
    /// What is to be done; the host half reads it too.
    pub plan: &'static Plan,
    /// What is to be become.
    pub image: Image,
    /// The descriptors that steps use.
    pub slots: &'static mut [Option<OwnedFd>],
    /// Our end of the wire to the host half.
    pub wire: OwnedFd,
    /// The numbers of the wire and of what is in the slots, in ascending order: all that stays open.
    pub inherited: &'static [RawFd],
    /// The host's last word, if we share its memory: then it need not send it.
    pub ready: Option<&'static Word>,
    /// Where the beginning of each step is marked.
    pub marks: Option<&'static Marks>,
}

/// Walks all steps and becomes the payload; never comes back.
pub fn walk(pack: &mut Pack) -> ! {
    sys::alloc::forbid(true);
    let expected = pack.plan.birth.network_ahead && pack.slots[usize::from(Slot::NETWORK.0)].is_none();
    let mut scene = Scene {
        network: if expected { Network::Expected } else { Network::Settled },
        slots: pack.slots,
        inherited: pack.inherited,
        wire: pack.wire.as_fd(),
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
        scene.in_dev &= matches!(step, Step::Mount { fresh: true, .. } | Step::Mask { .. });
        if let Err(trouble) = perform(step, &mut pack.image, &mut scene) {
            let step = u16::try_from(index).unwrap_or(u16::MAX);
            report(&scene, Failure { step, cause: trouble.cause, errno: trouble.errno, detail: trouble.detail }, gate);
        }
        gate |= matches!(step, Step::Gate);
    }
    task::leave(FAILED)
}

/// Says what failed to whoever still listens: the host half, or behind the gate `start`, which reads the locked file.
fn report(scene: &Scene<'_>, failure: Failure, gate: bool) -> ! {
    let message = Message::Failed(failure);
    if gate {
        if let Ok(lock) = scene.get(Slot::LOCK) {
            let _ = file::write(lock, &message.encode());
            hook::copy_output(scene, lock);
        }
    } else if !matches!(wire::say(scene.wire, message), Ok(()) | Err(Errno::EPIPE)) {
        // a status alone would be taken for the payload's
        task::trap();
    }
    task::leave(FAILED)
}

// check: table: one line a step: which call it is
fn perform(step: &'static Step, image: &mut Image, scene: &mut Scene<'_>) -> Done {
    match step {
        Step::Tell(sync) => {
            // from now on others know of us, and may ask us to end
            if *sync == Sync::Ready {
                signal::heed();
            }
            wire::say(scene.wire, Message::Reached(*sync))?;
        }
        Step::Await(sync) => meet(*sync, scene)?,
        Step::Enter(slot, kind) => {
            let mut kinds = crate::abi::ns::Namespaces::default();
            kinds.insert(*kind);
            ns::join(scene.get(*slot)?, kinds)?;
        }
        Step::Join(slot, kinds) => creds::join(scene.get(*slot)?, *kinds)?,
        Step::JoinNetwork => join_network(scene)?,
        Step::Unshare(kinds) => ns::unshare(*kinds)?,
        Step::BecomeRoot { alone } => creds::become_root(*alone)?,
        Step::Session => task::new_session(),
        Step::Keyring(name) => creds::keyring(name)?,
        Step::Hostname(name) => ns::set_hostname(name)?,
        Step::Domainname(name) => ns::set_domainname(name)?,
        Step::Loopback => net::loopback_up(net::control()?.as_fd())?,
        Step::Umask(mask) => {
            let before = file::umask(*mask);
            scene.umask.get_or_insert(before);
        }
        Step::Propagate(flags) => sys::mount::propagate(c"/", *flags)?,
        Step::PrivateParent(path) => root::private_parent(path)?,
        Step::OpenRoot { path, tree, over } => root::open(if *over { c"/" } else { path }, *tree, scene)?,
        Step::Chroot(path) => root::change(path, scene)?,
        Step::EnterRoot => root::enter(scene)?,
        Step::NewTree { path, propagation } => tree::new(path, *propagation, scene)?,
        Step::CloneAhead { slot, source, recursive, instead, settled } => {
            tree::ahead(scene, *slot, source, instead.as_deref(), *recursive, *settled)?;
        }
        Step::TakeRoot => root::take(scene)?,
        Step::Pivot { cut } => root::pivot(*cut, scene)?,
        Step::Conceal { path, shared } => root::conceal(path, *shared)?,
        Step::MoveRoot => root::shift(scene)?,
        Step::ReadonlyRoot => root::readonly(scene)?,
        Step::Mount { source, fstype, target, flags, data, fresh, in_proc, detached } => {
            let fs = Fs { source, fstype, target, flags: *flags, data, in_proc: *in_proc };
            filesystem::mount(scene, &fs, *fresh, detached.as_deref())?;
        }
        Step::MountCgroup { target, flags, data, bind, attrs } => {
            filesystem::cgroup2(scene, &Cgroup { target, flags: *flags, data, bind: bind.as_deref(), attrs })?;
        }
        Step::ReadonlyPath { path } => hide::readonly_path(path)?,
        Step::Mask { path, cover, file } => hide::mask(scene, path, cover.as_deref().unwrap_or(COVER), *file)?,
        Step::Remount { target, flags, data } => mount::remount(scene, target, *flags, data)?,
        Step::Clone { source, recursive, instead } => {
            scene.put(Slot::TREE, tree::clone_of_host(source, instead.as_deref(), *recursive)?);
        }
        Step::CloneInside { source, recursive } => mount::clone_inside(scene, source, *recursive)?,
        Step::Take { slot, .. } => {
            let tree = scene.take(*slot)?;
            scene.put(Slot::TREE, tree);
        }
        Step::IdMap { mapped, by_host, .. } => mount::map_ids(scene, *mapped, *by_host)?,
        Step::Attr { slot, attr, recursive } => sys::mount::set_attr(scene.get(*slot)?, attr, *recursive)?,
        Step::AttrKeepLocked { attr, explicit, host } => {
            mount::keep_locked(scene.get(Slot::TREE)?, attr, *explicit, *host)?;
        }
        Step::Attach { target, in_proc } => mount::attach(scene, target, *in_proc)?,
        Step::AttrAt { target, attr, explicit, then } => mount::attr_at(scene, target, attr, *explicit, then.as_ref())?,
        Step::Link { at, path, target } => device::link(scene, *at, path, target)?,
        Step::LinkTo { name, target } => device::link_to(scene, name, target)?,
        Step::OpenDev => device::open_dev(scene)?,
        Step::Node { at, path, mode, device, owner, for_masks } => {
            let made = device::node(scene, &Node { at: *at, path, mode: *mode, device: *device, owner: *owner })?;
            scene.own_null |= *for_masks && made;
        }
        Step::Unlink { at, path } => device::unlink(scene, *at, path)?,
        Step::OpenProc => proc::open(scene)?,
        Step::WriteProc { file, value } => proc::write(scene, file, value)?,
        Step::OpenTerminal { size } => tty::open(*size, scene)?,
        Step::BindConsole => tty::bind_console(scene)?,
        Step::SendTerminal { socket } => tty::send(*socket, scene)?,
        Step::TakeTerminal(uid) => tty::take(*uid, scene)?,
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
        Step::Seccomp { program, flags } => creds::seccomp(program, *flags, scene)?,
        Step::MakeCwd(path) => drop(path::directory(scene.root()?, path)),
        Step::Chdir { path, attempt, make } => creds::chdir(path, *attempt, *make, scene)?,
        Step::Home(uid) => creds::home(*uid, image),
        Step::Find => find(image)?,
        Step::Hook(hook) => hook::run(hook, image, scene)?,
        Step::CloseInherited { preserve } => fds::close_inherited(*preserve, scene)?,
        Step::CloseFds { preserve, keep } => fds::close_others(*preserve, keep, scene)?,
        Step::Gate => gate(scene)?,
        Step::Signals => signal::default_all()?,
        Step::Exec => execute(image)?,
    }
    Ok(())
}

/// Waits for the host's word; anything else than that word ends init.
fn meet(sync: Sync, scene: &mut Scene<'_>) -> Done {
    if sync == Sync::Ready && scene.ready.is_some_and(Word::was_said) {
        return Ok(());
    }
    while matches!(scene.network, Network::Expected) && scene.heard.is_none() {
        listen(scene)?;
    }
    match scene.heard.take() {
        Some(heard) if heard == sync => Ok(()),
        Some(_) => Err(Errno::EPIPE.into()),
        None => Ok(wire::wait(scene.wire, sync)?),
    }
}

/// The network namespace is in its slot if it was there before us; else the thread that makes it sends it.
fn join_network(scene: &mut Scene<'_>) -> Done {
    while matches!(scene.network, Network::Expected) {
        listen(scene)?;
    }
    if let Network::Failed(why) = scene.network {
        return Err(why);
    }
    let mut network = crate::abi::ns::Namespaces::default();
    network.insert(crate::abi::ns::Namespace::Network);
    Ok(ns::join(scene.get(Slot::NETWORK)?, network)?)
}

/// Takes one message while two may write: the host half, which lets us go on, and the thread, which sends the network
/// namespace or says why there is none.
fn listen(scene: &mut Scene<'_>) -> Done {
    match wire::hear(scene.wire)? {
        Some((Message::Go(sync), _)) => scene.heard = Some(sync),
        Some((Message::Handed(Slot::NETWORK), Some(fd))) => {
            scene.put(Slot::NETWORK, fd);
            scene.network = Network::Settled;
        }
        Some((Message::Failed(Failure { cause, errno, detail, .. }), _)) => {
            scene.network = Network::Failed(Trouble { cause, errno, detail });
        }
        Some((Message::Handed(_) | Message::Reached(_), _)) | None => return Err(Errno::EPIPE.into()),
    }
    Ok(())
}

/// Waits for the byte that `start` writes into the fifo.
fn gate(scene: &Scene<'_>) -> Done {
    let mut byte = [0];
    exe::forget_text();
    entry::forget();
    match file::read(scene.get(Slot::GATE)?, &mut byte)? {
        1 => Ok(()),
        _ => Err(Errno::EPIPE.into()),
    }
}

/// The first candidate that may be executed. A file that is there but may not be executed decides the reason if no
/// later one can.
fn find(image: &mut Image) -> Done {
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
    Err(Trouble { cause: Cause::NoProgram, errno: reason as i32, detail: 0 })
}

fn executable(path: &CStr) -> Result<(), Errno> {
    let found = file::stat_at(file::cwd(), path, 0)?;
    if found.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    file::may_execute(path)
}

/// Executes the chosen candidate; if nobody has looked, the first one that can be, which is the same.
fn execute(image: &mut Image) -> Done {
    let all = 0..image.candidates.len();
    for index in image.chosen.map_or(all, |chosen| chosen..chosen + 1) {
        let Some(path) = image.candidates.get(index) else { break };
        let errno = exec::exec(path, &image.argv, &image.envp);
        if image.chosen.is_some() || executable(path).is_ok() {
            return Err(errno.into());
        }
    }
    find(image)
}
