//! Spawns init: one clone3(2), for `run`, `create` and `exec`.
//!
//! clone3 creates all new namespaces at once, and starts init in its cgroup (Linux 5.7): moving it later would wait for an RCU
//! grace period. If namespaces must be joined before the clone (exec; a pid or user namespace by path; clock offsets), an
//! intermediate process joins them and clones with `CLONE_PARENT`, so that init is still our child.
//!
//! The plan decides whether init shares our memory until its execve (`shares_memory`); `sys::spawn` explains why that is sound.

#![allow(clippy::wildcard_enum_match_arm, reason = "errno is an open set, and most need no hint")]

use super::debug_log;
use crate::abi::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, MS_REC, MS_SLAVE};
use crate::abi::ns::Namespace;
use crate::error::{Context, Error, Result};
use crate::init::{self, InitArgs};
use crate::log::Log;
use crate::plan::step::{Slot, Sync};
use crate::plan::{CloneSpec, Plan};
use crate::sync_socket::{self, Cause, Failure, Message};
use crate::sys::marks::Progress;
use crate::sys::netns::{NetnsError, NetnsThread};
use crate::sys::spawn::{ChildArgs, Request, for_child};
use crate::sys::{Answer, Errno, file, mount, ns, proc, signal, socket, task, wait};
use crate::trace::{Span, Trace};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A process that we have started: init of a container, a process of `exec`, or one that CRIU restored.
#[derive(Debug)]
pub struct Child {
    /// Its pid on the host.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// Its start time, in clock ticks since boot, if it was read at the clone.
    pub start: Option<u64>,
    /// CRIU restored it: it is the payload already, without an execve.
    pub restored: bool,
    /// Which step it is at, if it is an init of ours.
    pub progress: Option<&'static Progress>,
}

/// The host half's end of the sync socket.
#[derive(Debug)]
pub(super) struct InitSocket(OwnedFd);

impl InitSocket {
    pub(super) const fn new(host: OwnedFd) -> Self {
        Self(host)
    }

    /// Lets init continue after its `Await(sync)`.
    pub(super) fn go(&self, sync: Sync) -> Result<()> {
        // if init has ended, the next receive returns the reason
        match sync_socket::send_to_init(self.as_fd(), Message::Go(sync)) {
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(errno).context(|| "send to init"),
        }
    }

    /// The next message of init, with the descriptor that may come with it; `None` at the end of the stream.
    pub(super) fn receive(&self) -> Result<Option<(Message, Option<OwnedFd>)>> {
        sync_socket::receive(self.as_fd()).context(|| "receive from init")
    }
}

impl AsFd for InitSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An init that is ready to be cloned.
pub(super) struct Spawn<'a> {
    plan: &'static Plan,
    args: ChildArgs<InitArgs>,
    progress: &'static Progress,
    socket: InitSocket,
    _init_socket: OwnedFd,
    _span: Span<'a>,
}

impl<'a> Spawn<'a> {
    /// Prepares everything that init inherits: the sync socket, the descriptors in the slots, the session keyring and the
    /// CPU affinity. The descriptors stay ours, too.
    ///
    /// The thread that creates the network namespace is told where to send it; if it has finished, the namespace goes into
    /// its slot.
    pub(super) fn prepare(
        plan: &'static mut Plan,
        slots: &mut [Option<OwnedFd>],
        netns: Option<&'static NetnsThread>,
        log: &'a Log,
    ) -> Result<Self> {
        debug_log::before_clone(plan, log);
        let span = log.span("clone3");
        let (host, init) = socket::pair().context(|| "socketpair")?;
        if let Some(netns) = netns {
            let made =
                if plan.clone_spec.shares_memory { netns.request_over(host.as_fd()) } else { Some(netns.wait()) };
            slots[Slot::NETWORK.index()] = made.transpose().map_err(no_network)?;
        }
        let marks = log.trace().map(Trace::marks);
        let image = plan.image.part();
        let plan: &'static Plan = plan;
        let mut inherited: Vec<_> = slots.iter().flatten().map(AsRawFd::as_raw_fd).chain([init.as_raw_fd()]).collect();
        inherited.sort_unstable();
        let slots: Vec<_> = slots.iter().map(|slot| slot.as_ref().map(|fd| for_child(fd.as_fd()))).collect();
        let (slots, inherited, socket) = (slots.leak(), inherited.leak(), for_child(init.as_fd()));
        init::limit_descriptors(task::open_files().unwrap_or_default());
        let progress: &'static Progress = Box::leak(Box::default());
        let args = ChildArgs::new(InitArgs { plan, image, slots, inherited, socket, marks, progress }, init::run);
        join_keyring(plan)?;
        set_affinity(&plan.clone_spec.affinity)?;
        let socket = InitSocket::new(host);
        Ok(Self { plan, args, progress, socket, _init_socket: init, _span: span })
    }

    /// The clone. If it fails it may be tried again, with the same or another cgroup.
    ///
    /// A cgroup in which `cgroup.kill` was ever written kills every child that is cloned into it, or from it into another, by
    /// `CLONE_INTO_CGROUP`: the kernel compares its count of kills with that of the caller's cgroup (seen on Linux 6.18).
    /// Such a child is cloned again by an intermediate process that has moved into the cgroup.
    ///
    /// # Errors
    /// The kernel's answer, with the namespaces that were requested.
    pub(super) fn clone3(&mut self, cgroup: Option<BorrowedFd<'_>>) -> Result<Child> {
        let child = self.attempt(cgroup, false)?;
        if cgroup.is_none() {
            return Ok(child);
        }
        let what = || format!("read /proc/{}/stat", child.pid);
        let Some(stat) = proc::stat(Pid::from_raw(child.pid)).context(what)? else { return Ok(child) };
        if stat.killed && reap_killed(&child)? && self.args.spawn_again() {
            return self.attempt(cgroup, true);
        }
        Ok(Child { start: Some(stat.start), ..child })
    }

    fn attempt(&mut self, cgroup: Option<BorrowedFd<'_>>, again: bool) -> Result<Child> {
        let clone_spec = &self.plan.clone_spec;
        let mut new = clone_spec.new;
        if clone_spec.network_ahead {
            new.remove(Namespace::Network);
        }
        let request = Request { new, cgroup };
        let spawned = if clone_spec.shares_memory && !again {
            self.args.spawn_sharing_memory(request)
        } else if clone_spec.needs_intermediate() || again {
            // inside a cgroup namespace a process can't be moved into it from outside (nsdelegate): so the intermediate
            // process moves before it joins, and the child inherits its cgroup
            let moves = cgroup.filter(|_| again || clone_spec.joins(Namespace::Cgroup));
            let request = if moves.is_some() { Request { cgroup: None, ..request } } else { request };
            let mut before = |pack: &InitArgs| {
                moves.map_or(Ok(()), move_to_cgroup)?;
                join_before_clone(clone_spec, pack.slots)?;
                if clone_spec.empty_mounts { enter_empty_mounts() } else { Ok(()) }
            };
            self.args.spawn_through(request, clone_spec.joins(Namespace::Time), &mut before)
        } else {
            self.args.spawn(request)
        };
        let child = spawned.map_err(|errno| {
            let error = match errno {
                Errno::EPERM if clone_spec.new.has(Namespace::User) => Error::from(errno).with_hint(
                    "a caller in a chroot can make no user namespace, and some machines forbid them (see /proc/sys/user)",
                ),
                errno => explained(errno),
            };
            error.fact("syscall", "clone3").context(format!("clone3({})", clone_spec.new))
        })?;
        let (pid, pidfd, progress) = (child.pid, child.pidfd, Some(self.progress));
        Ok(Child { pid, pidfd, start: None, restored: false, progress })
    }

    /// Closes init's end of the socket in the host half, so that the end of the stream means that init has closed it.
    pub(super) fn finish(self, child: &Child, log: &Log) -> (InitSocket, &'static Plan) {
        debug_log::after_clone(child.pid, self.plan, log);
        (self.socket, self.plan)
    }
}

/// Reaps a child that was killed; says whether it was by SIGKILL.
fn reap_killed(child: &Child) -> Result<bool> {
    Ok(reap(child)? == Some(signal::End::Killed(libc::SIGKILL)))
}

/// An error with a hint about why the kernel may refuse a namespace or a cgroup.
fn explained(errno: Errno) -> Error {
    let error = Error::from(errno);
    match errno {
        Errno::EACCES => {
            error.with_hint("users may place processes only in the part of the cgroup tree that is theirs")
        }
        Errno::EPERM => error.with_hint("namespaces need root, or a user namespace in linux.namespaces"),
        Errno::ENOSPC => error.with_hint("a limit of /proc/sys/user or of nested namespaces is reached"),
        Errno::EBUSY => error.with_hint("the cgroup has controllers enabled for its children"),
        _ => error,
    }
}

/// The error for a network namespace that the helper thread could not create.
pub(super) fn no_network(refused: NetnsError) -> Error {
    let (syscall, what) = if refused.loopback { ("ioctl", "bring lo up") } else { ("unshare", "unshare(network)") };
    // the hint about namespaces does not apply to the loopback device
    let error = if refused.loopback { Error::from(refused.errno) } else { explained(refused.errno) };
    error.fact("syscall", syscall).context(what)
}

/// Starts the helper thread that creates a network namespace.
///
/// # Errors
/// There can be no more threads.
pub fn start_netns_thread(traced: bool) -> Result<&'static NetnsThread> {
    NetnsThread::start(send_network, traced).context(|| "start a thread")
}

/// How the thread sends the network namespace to an init that was spawned before it was there.
fn send_network(socket: BorrowedFd<'_>, made: std::result::Result<OwnedFd, NetnsError>) {
    let failure = |cause, errno: Errno| {
        let failure = Failure { step: 0, cause, errno: errno as i32, detail: 0 };
        sync_socket::send_to_init(socket, Message::Failed(failure))
    };
    // if init is gone, the host half notices
    let lost = |sent: &Answer<()>| !matches!(sent, Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET));
    let sent = match made {
        Ok(fd) => match sync_socket::send_fd(socket, Slot::NETWORK, fd.as_fd()) {
            Err(errno) if lost(&Err(errno)) => failure(Cause::NoNetwork, errno),
            sent => sent,
        },
        Err(NetnsError { loopback, errno }) => {
            failure(if loopback { Cause::NoLoopback } else { Cause::NoNetwork }, errno)
        }
    };
    if lost(&sent) {
        // both halves wait for a message: let both meet the end of the stream
        socket::shut(socket);
    }
}

/// Sets the CPU affinity that init inherits: `process.execCPUAffinity.initial`, or all CPUs that its cgroup allows.
fn set_affinity(cpus: &[u64]) -> Result<()> {
    if cpus.is_empty() {
        task::reset_affinity();
        return Ok(());
    }
    task::set_affinity(cpus).context(|| "sched_setaffinity (process.execCPUAffinity.initial)")
}

fn move_to_cgroup(cgroup: BorrowedFd<'_>) -> Answer<()> {
    let procs = file::open(cgroup, c"cgroup.procs", libc::O_WRONLY, 0)?;
    file::write(procs.as_fd(), b"0")
}

/// Creates a mount namespace and unmounts everything in it: an empty file system is mounted over `/` and becomes the root.
fn enter_empty_mounts() -> Answer<()> {
    ns::unshare(Namespace::Mount.into())?;
    if mount::propagate(c"/", MS_SLAVE | MS_REC) == Err(Errno::EINVAL) {
        // the caller lives in a chroot
        ns::to_root_of_mounts()?;
        mount::propagate(c"/", MS_SLAVE | MS_REC)?;
    }
    let root = file::open(file::cwd(), c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let empty =
        mount::new(c"tmpfs", c"tmpfs", c"mode=755,nr_blocks=1,nr_inodes=2", 0, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)?;
    mount::attach(empty.as_fd(), root.as_fd())?;
    file::fchdir(empty.as_fd())?;
    mount::pivot_here()?;
    mount::unmount(c".")
}

/// Joins the namespaces that must be joined before the clone, in the intermediate process. First with our capabilities on the host;
/// what is refused is tried again inside the user namespace.
fn join_before_clone(clone_spec: &CloneSpec, slots: &[Option<OwnedFd>]) -> Answer<()> {
    if !clone_spec.offsets.is_empty() {
        ns::unshare(Namespace::Time.into())?;
        write_offsets(clone_spec)?;
    }
    let join = |kind: Namespace, slot: usize| {
        let fd = slots.get(slot).and_then(Option::as_ref).ok_or(Errno::EBADF)?;
        ns::join(fd.as_fd(), kind.into())
    };
    let mut refused = 0u64;
    for (slot, kind) in clone_spec.join_before_clone.iter().filter(|(_, kind)| *kind != Namespace::User) {
        match join(*kind, slot.0.into()) {
            Err(Errno::EPERM) => refused |= kind.flag(),
            answer => answer?,
        }
    }
    for (slot, kind) in &clone_spec.join_before_clone {
        if *kind == Namespace::User || refused & kind.flag() != 0 {
            join(*kind, slot.0.into())?;
        }
    }
    if clone_spec.join_in_intermediate.is_empty() {
        return Ok(());
    }
    let process = slots.get(Slot::INIT.index()).and_then(Option::as_ref).ok_or(Errno::EBADF)?;
    ns::join(process.as_fd(), clone_spec.join_in_intermediate)
}

fn write_offsets(clone_spec: &CloneSpec) -> Answer<()> {
    let offsets = file::open(file::cwd(), c"/proc/self/timens_offsets", libc::O_WRONLY, 0)?;
    // one write for all offsets; the intermediate process may allocate, since the host half sleeps
    let lines: Vec<String> =
        clone_spec.offsets.iter().map(|o| format!("{} {} {}\n", o.clock, o.seconds, o.nanoseconds)).collect();
    file::write(offsets.as_fd(), lines.concat().as_bytes())
}

/// Joins the session keyring that init inherits, if the plan has the host half do so.
///
/// # Errors
/// The kernel's answer, unless the kernel has no keyrings.
fn join_keyring(plan: &Plan) -> Result<()> {
    match plan.keyring.as_deref().map_or(Ok(()), task::join_keyring) {
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno)
            .context(|| "join the container's session keyring")
            .map_err(|error| error.with_hint("--no-new-keyring leaves the container in its caller's session keyring")),
    }
}

/// Kills a child, in whatever state it is, and reaps it.
///
/// # Errors
/// The kernel's answer; it does not end within some seconds: a frozen process of cgroup v1, or one that waits for a device.
pub fn end(child: &Child) -> Result<()> {
    const MOST: i32 = 2_000;
    match signal::send(child.pidfd.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(errno).context(|| format!("kill {}", child.pid)),
    }
    let [ended] = wait::events([(Some(child.pidfd.as_fd()), libc::POLLIN)], MOST).context(|| "wait for init")?;
    if ended == 0 {
        return Err(Error::msg(format!("process {} was killed and does not end", child.pid))
            .with_hint("its cgroup may be frozen, or it waits for a device or a network file system"));
    }
    reap(child).map(drop)
}

/// Waits until a child has ended. One that was cloned with `CLONE_PARENT` sends no `SIGCHLD` and is waited for with `__WALL`.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Init waits for the network namespace, and the message with it cannot be sent: neither half waits for ever.
    #[test]
    fn a_namespace_that_cannot_be_sent_ends_the_stream() {
        let (host, init) = socket::pair().unwrap();
        let flags = nix::fcntl::fcntl(&host, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
        assert!(flags.is_ok());
        while sync_socket::send_to_init(host.as_fd(), Message::Go(Sync::Mapped)).is_ok() {}
        send_network(host.as_fd(), Ok(file::open(file::cwd(), c"/", libc::O_PATH, 0).unwrap()));
        let said = std::iter::from_fn(|| sync_socket::receive(init.as_fd()).unwrap());
        assert!(said.map(|(message, _)| message).all(|message| message == Message::Go(Sync::Mapped)));
        assert!(sync_socket::receive(host.as_fd()).unwrap().is_none());
    }
}
