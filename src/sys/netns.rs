//! A network namespace that is made ahead, by a thread, while everything else is made ready: it takes the kernel longer
//! than all of that. Init is born meanwhile, begins without it, and joins it when it needs it.
//!
//! ```text
//!   thread   unshare(CLONE_NEWNET) ── lo up ── SIOCGSKNS ─┬─ before the birth: init has a copy of the descriptor
//!   host     … plan … ── expect ── clone3                 └─ behind it: the thread sends it over the wire
//! ```

use super::marks::now;
use super::task::{self, Latch};
use super::{Answer, Errno, net, ns, share};
use crate::abi::ns::{Namespace, Namespaces};
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

/// What could not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The namespace is there, its loopback device stays down.
    pub loopback: bool,
    /// The kernel's answer.
    pub errno: Errno,
}

/// A descriptor of the namespace.
pub type Made = Result<OwnedFd, Refused>;

/// Passes the namespace on to an init that was born before it was there.
pub type Hand = fn(wire: BorrowedFd<'_>, made: Made);

/// A network namespace being made. Known to the thread and the host half.
#[derive(Debug)]
pub struct Ahead {
    running: Latch,
    over: Latch,
    /// One of [`Ahead::MAKING`] and the following.
    state: AtomicU32,
    errno: AtomicI32,
    fd: AtomicI32,
    wire: AtomicI32,
    hand: Hand,
    traced: bool,
    /// When the thread began, had a namespace, had its loopback device up; for the trace.
    laps: [AtomicU64; 3],
}

impl Ahead {
    const MAKING: u32 = 0;
    /// It is wanted over the wire.
    const EXPECTED: u32 = 1;
    const DONE: u32 = 2;
    const NO_NAMESPACE: u32 = 3;
    const NO_LOOPBACK: u32 = 4;

    /// Begins. The thread blocks what signals we block now.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn begin(hand: Hand, traced: bool) -> Answer<&'static Self> {
        let [errno, fd, wire] = [const { AtomicI32::new(-1) }; 3];
        let (running, over) = (Latch::default(), Latch::default());
        let (state, laps) = (AtomicU32::new(Self::MAKING), Default::default());
        let ahead = Box::leak(Box::new(Self { running, over, state, errno, fd, wire, hand, traced, laps }));
        share::thread(make, ahead)?;
        Ok(ahead)
    }

    /// Sees to it that the thread runs. The kernel may have queued it behind us though another processor is idle (some pack
    /// threads on purpose, to let processors sleep): if it has not begun by now, we step aside, and it moves away.
    pub fn run(&self) {
        self.running.wait();
    }

    /// Says over which wire an init that is about to be born expects the namespace; an answer means that it is there by
    /// now (or can't be had), and will not be sent.
    pub fn expect(&self, wire: BorrowedFd<'_>) -> Option<Made> {
        self.wire.store(wire.as_raw_fd(), Ordering::Release);
        match self.state.compare_exchange(Self::MAKING, Self::EXPECTED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(Self::EXPECTED) => None,
            Err(state) => Some(self.made(state)),
        }
    }

    /// Waits for it.
    ///
    /// # Errors
    /// What was refused.
    pub fn wait(&self) -> Made {
        self.settle();
        self.made(self.state.load(Ordering::Acquire))
    }

    /// Waits until the thread has nothing more to do, sending included.
    pub fn settle(&self) {
        self.over.wait();
    }

    /// What the thread did, and from when to when.
    #[must_use]
    pub fn laps(&self) -> [(&'static str, u64, u64); 2] {
        let [began, made, up] = [0, 1, 2].map(|lap| self.laps[lap].load(Ordering::Acquire));
        [("unshare(network)", began, made), ("bring lo up", made, up)]
    }

    fn made(&self, state: u32) -> Made {
        match state {
            Self::DONE => match self.fd.swap(-1, Ordering::AcqRel) {
                -1 => Err(Refused { loopback: false, errno: Errno::EBADF }),
                // SAFETY: the thread has left an open descriptor there, and it is taken once.
                fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            },
            state => {
                let errno = Errno::from_raw(self.errno.load(Ordering::Acquire));
                Err(Refused { loopback: state == Self::NO_LOOPBACK, errno })
            }
        }
    }

    fn lap(&self, number: usize) {
        if self.traced {
            self.laps[number].store(now(), Ordering::Release);
        }
    }

    fn make(&self) -> Result<OwnedFd, Refused> {
        let mut network = Namespaces::default();
        network.insert(Namespace::Network);
        self.lap(0);
        ns::unshare(network).map_err(|errno| Refused { loopback: false, errno })?;
        self.lap(1);
        let socket = net::control().map_err(|errno| Refused { loopback: true, errno })?;
        let up = net::loopback_up(socket.as_fd());
        let made = up.and_then(|()| net::namespace(socket.as_fd())).map_err(|errno| Refused { loopback: true, errno });
        self.lap(2);
        // the end of our process closes it
        std::mem::forget(socket);
        made
    }

    fn serve(&self) {
        if self.running.open() {
            task::move_away();
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
        if self.state.swap(state, Ordering::AcqRel) == Self::EXPECTED {
            // SAFETY: whoever expects it keeps the wire open until we are done (`settle`), or init has gone on.
            let wire = unsafe { BorrowedFd::borrow_raw(self.wire.load(Ordering::Acquire)) };
            (self.hand)(wire, self.made(state));
        }
        self.over.open();
    }
}

extern "C" fn make(ahead: *mut c_void) -> ! {
    // SAFETY: `begin` passes a value that is leaked.
    let ahead: &'static Ahead = unsafe { &*ahead.cast_const().cast() };
    ahead.serve();
    share::end_thread()
}
