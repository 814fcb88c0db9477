//! The child half: walks the steps of the plan. It decides nothing, formats nothing, allocates nothing.
//!
//! It runs between the clone and execve, as the only thread of its process, on the memory that it shares with the host
//! half, which goes on, or on a copy of it. A step that fails is told to the host as `(step, errno)`; the host still holds the plan and makes the sentence.

#![allow(clippy::wildcard_enum_match_arm, reason = "errno is an open set")]

mod copy;
mod creds;
mod fds;
mod filesystem;
mod hide;
mod hook;
mod mount;
mod path;
mod root;
mod tree;
mod tty;

use crate::plan::Plan;
use crate::plan::image::Image;
use crate::plan::step::{COVER, Slot, Step, Sync};
use crate::sys::marks::Marks;
use crate::sys::task::Word;
use crate::sys::{Errno, cred, entry, exe, exec, file, net, ns, signal, task};
use crate::wire::{self, Cause, Failure, Message};
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
    /// The working directory was entered with the rights of root.
    entered: bool,
    /// The umask of the caller, once it is no longer ours.
    umask: Option<u32>,
    /// The working directory is the container's `/dev`.
    in_dev: bool,
    /// `/dev` is a file system that was empty and that only we can reach.
    own_dev: bool,
    /// And `null` in it is our own.
    own_null: bool,
    /// The thread that makes the network namespace has not written yet.
    expects: bool,
    /// The host's word to go on came before it was asked for.
    heard: Option<Sync>,
    /// There is no network namespace.
    refused: Option<Trouble>,
    /// The host's last word may lie in our memory.
    ready: Option<&'static Word>,
    /// How what comes from the host propagates, if the container's mount namespace does not begin as a copy of it.
    propagation: u64,
}

impl Scene<'_> {
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
    crate::sys::alloc::forbid(true);
    let mut scene = Scene {
        expects: pack.plan.birth.network_ahead && pack.slots[usize::from(Slot::NETWORK.0)].is_none(),
        slots: pack.slots,
        inherited: pack.inherited,
        wire: pack.wire.as_fd(),
        entered: false,
        umask: None,
        in_dev: false,
        own_dev: false,
        own_null: false,
        heard: None,
        refused: None,
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
        Step::Propagate(flags) => crate::sys::mount::propagate(c"/", *flags)?,
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
        Step::Mount { .. } | Step::MountCgroup { .. } => filesystem::perform(step, scene)?,
        Step::ReadonlyPath { path } => hide::readonly_path(path)?,
        Step::Mask { path, cover, file } => hide::mask(scene, path, cover.as_deref().unwrap_or(COVER), *file)?,
        Step::Remount { .. }
        | Step::Clone { .. }
        | Step::CloneInside { .. }
        | Step::Take { .. }
        | Step::IdMap { .. }
        | Step::Attr { .. }
        | Step::AttrKeepLocked { .. }
        | Step::Attach { .. }
        | Step::AttrAt { .. }
        | Step::Link { .. }
        | Step::LinkTo { .. }
        | Step::OpenDev
        | Step::Node { .. }
        | Step::Unlink { .. }
        | Step::OpenProc
        | Step::WriteProc { .. } => mount::perform(step, scene)?,
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
        Step::Chdir { path, lenient, make } => creds::chdir(path, *lenient, *make, scene)?,
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
    while scene.expects && scene.heard.is_none() {
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
    while scene.expects {
        listen(scene)?;
    }
    if let Some(refused) = scene.refused {
        return Err(refused);
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
            scene.expects = false;
        }
        Some((Message::Failed(Failure { cause, errno, detail, .. }), _)) => {
            scene.refused = Some(Trouble { cause, errno, detail });
            scene.expects = false;
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
