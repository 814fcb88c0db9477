//! Moments that init leaves for the host half, in a page that both see: `--trace`.

use super::{Answer, Errno};
use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds of `CLOCK_MONOTONIC`, which both halves read alike.
#[must_use]
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: time is ours and lives through the call; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// A row of moments in shared memory: the number of a step, and when it began.
#[repr(transparent)]
#[derive(Debug)]
pub struct Marks([AtomicU64; Marks::COUNT]);

impl Marks {
    /// How many steps have a place. The steps of a longer plan go without.
    pub const COUNT: usize = 1024;

    /// Shared memory, full of zeros, for as long as the process lives.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn leak() -> Answer<&'static Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Self>(), protection, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // SAFETY: the mapping is as long as that, page-aligned, zeroed, and never taken away; atomics may be shared.
        Ok(unsafe { &*at.cast::<Self>() })
    }

    /// Says that a step begins.
    pub fn mark(&self, step: usize) {
        if let Some(place) = self.0.get(step) {
            place.store(now(), Ordering::Relaxed);
        }
    }

    /// When a step began; `None` for one that has not.
    #[must_use]
    pub fn began(&self, step: usize) -> Option<u64> {
        self.0.get(step).map(|place| place.load(Ordering::Relaxed)).filter(|moment| *moment != 0)
    }
}
