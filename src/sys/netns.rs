//! A helper thread that creates the network namespace while the host half prepares everything else, because that takes the kernel
//! longer than all the rest. Init is spawned meanwhile, starts without it, and joins it when it needs it.
//!
//! ```text
//!   thread   unshare(CLONE_NEWNET) ── lo up ── SIOCGSKNS ─┬─ before the clone: init inherits the descriptor
//!   host     … plan … ── request_over ── clone3           └─ after it: the thread sends it over the sync socket
//! ```

use super::marks::now;
use super::task::{self, Latch};
use super::{Answer, Errno, file, net, ns, spawn};
use crate::abi::ns::Namespace;
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// Why there is no network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetnsError {
    /// The namespace was created, but its loopback device could not be brought up.
    pub loopback: bool,
    /// The kernel's answer.
    pub errno: Errno,
}

/// The namespace, or why there is none.
pub type NetnsResult = Result<OwnedFd, NetnsError>;

/// How the namespace is sent to an init that was spawned before it existed.
pub type Send = fn(socket: BorrowedFd<'_>, made: NetnsResult);

/// The helper thread, as the host half knows it. Both write to it, so everything in it is atomic.
#[derive(Debug)]
pub struct NetnsThread {
    running: Latch,
    over: Latch,
    /// [`NetnsThread::MAKING`] or one of the constants after it.
    state: AtomicU32,
    errno: AtomicI32,
    fd: AtomicI32,
    socket: AtomicI32,
    send: Send,
    traced: bool,
    /// When the thread started, had the namespace, had its loopback device up; for `--trace`.
    times: [AtomicU64; 3],
}

impl NetnsThread {
    const MAKING: u32 = 0;
    /// The host half has asked for it to be sent over the socket.
    const REQUESTED: u32 = 1;
    const DONE: u32 = 2;
    const NO_NAMESPACE: u32 = 3;
    const NO_LOOPBACK: u32 = 4;

    /// Starts the thread, which blocks the signals that we block now.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(send: Send, traced: bool) -> Answer<&'static Self> {
        let [errno, fd, socket] = [const { AtomicI32::new(-1) }; 3];
        let (running, over) = (Latch::default(), Latch::default());
        let (state, times) = (AtomicU32::new(Self::MAKING), Default::default());
        let thread = Box::leak(Box::new(Self { running, over, state, errno, fd, socket, send, traced, times }));
        spawn::thread(run, thread)?;
        Ok(thread)
    }

    /// Makes sure that the thread runs. The scheduler may have queued it on our CPU although another is idle: if it has not
    /// started by now, we wait until it runs, and it moves to another CPU.
    pub fn wait_until_running(&self) {
        self.running.wait();
    }

    /// Registers the socket over which the namespace is to be sent to an init that is about to be spawned. Returns `Some` if
    /// the thread has finished already, or failed: then nothing will be sent.
    pub fn request_over(&self, socket: BorrowedFd<'_>) -> Option<NetnsResult> {
        self.socket.store(socket.as_raw_fd(), Ordering::Release);
        match self.state.compare_exchange(Self::MAKING, Self::REQUESTED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(Self::REQUESTED) => None,
            Err(state) => Some(self.made(state)),
        }
    }

    /// Waits for the namespace.
    ///
    /// # Errors
    /// What failed.
    pub fn wait(&self) -> NetnsResult {
        self.join();
        self.made(self.state.load(Ordering::Acquire))
    }

    /// Waits until the thread has nothing more to do, sending included.
    pub fn join(&self) {
        self.over.wait();
    }

    /// What the thread did, with start and end.
    #[must_use]
    pub fn timings(&self) -> [(&'static str, u64, u64); 2] {
        let [started, made, up] = [0, 1, 2].map(|number| self.times[number].load(Ordering::Acquire));
        [("unshare(network)", started, made), ("bring lo up", made, up)]
    }

    /// Why the loopback device of the namespace stays down, if it does: we lack `CAP_NET_ADMIN`.
    #[must_use]
    pub fn loopback_down(&self) -> Option<Errno> {
        let made = self.state.load(Ordering::Acquire) == Self::DONE;
        Some(self.errno.load(Ordering::Acquire)).filter(|errno| made && *errno > 0).map(Errno::from_raw)
    }

    fn made(&self, state: u32) -> NetnsResult {
        match state {
            Self::DONE => match self.fd.swap(-1, Ordering::AcqRel) {
                -1 => Err(NetnsError { loopback: false, errno: Errno::EBADF }),
                // SAFETY: the thread has stored an open descriptor there, and it is taken once.
                fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            },
            state => {
                let errno = Errno::from_raw(self.errno.load(Ordering::Acquire));
                Err(NetnsError { loopback: state == Self::NO_LOOPBACK, errno })
            }
        }
    }

    fn note_time(&self, number: usize) {
        if self.traced {
            self.times[number].store(now(), Ordering::Release);
        }
    }

    fn make(&self) -> Result<OwnedFd, NetnsError> {
        self.note_time(0);
        ns::unshare(Namespace::Network.into()).map_err(|errno| NetnsError { loopback: false, errno })?;
        self.note_time(1);
        let socket = net::control().map_err(|errno| NetnsError { loopback: true, errno })?;
        let up = net::loopback_up(socket.as_fd());
        self.note_time(2);
        let made = match up {
            Ok(()) => net::namespace(socket.as_fd()),
            // the container can do without its loopback device: the host half warns
            Err(errno @ (Errno::EPERM | Errno::EACCES)) => {
                self.errno.store(errno as i32, Ordering::Release);
                file::open(file::cwd(), c"/proc/thread-self/ns/net", libc::O_RDONLY, 0)
            }
            Err(errno) => Err(errno),
        };
        let made = made.map_err(|errno| NetnsError { loopback: true, errno });
        // process exit closes it
        std::mem::forget(socket);
        made
    }

    fn work(&self) {
        if self.running.open() {
            task::hop_cpu();
        }
        let state = match self.make() {
            Ok(fd) => {
                self.fd.store(fd.into_raw_fd(), Ordering::Release);
                Self::DONE
            }
            Err(refused) => {
                self.errno.store(refused.errno as i32, Ordering::Release);
                if refused.loopback { Self::NO_LOOPBACK } else { Self::NO_NAMESPACE }
            }
        };
        if self.state.swap(state, Ordering::AcqRel) == Self::REQUESTED {
            // SAFETY: the host half keeps the socket open until we are done (`join`), or until init has executed the payload.
            let socket = unsafe { BorrowedFd::borrow_raw(self.socket.load(Ordering::Acquire)) };
            (self.send)(socket, self.made(state));
        }
        self.over.open();
    }
}

extern "C" fn run(thread: *mut c_void) -> ! {
    // SAFETY: `start` passes a value that is leaked.
    let thread: &'static NetnsThread = unsafe { &*thread.cast_const().cast() };
    thread.work();
    spawn::end_thread()
}
