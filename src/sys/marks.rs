//! What init leaves for the host half: which step it is at, and with `--trace` when each step began.

use super::{Answer, Errno};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The number of the step that init is at. Init has it at the same address as the host half, in the same memory or in a copy
/// of it: so the host half reads it from init's memory, and only when it wants to know.
#[derive(Debug, Default)]
pub struct Progress(AtomicU32);

impl Progress {
    /// Init comes to a step.
    pub fn at(&self, step: usize) {
        self.0.store(u32::try_from(step).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The step that a process is at, which has this value at the same address as we.
    ///
    /// # Errors
    /// `process_vm_readv(2)`'s: the process has ended, has executed a program, or may not be looked into.
    pub fn of(&'static self, pid: i32) -> Answer<usize> {
        let mut step = 0_u32;
        let length = size_of::<u32>();
        let here = libc::iovec { iov_base: (&raw mut step).cast(), iov_len: length };
        let there = libc::iovec { iov_base: self.0.as_ptr().cast(), iov_len: length };
        // SAFETY: the one buffer is ours and has that length; the other is only read, in the process's own memory.
        let read = unsafe { libc::process_vm_readv(pid, &raw const here, 1, &raw const there, 1, 0) };
        if usize::try_from(read) == Ok(length) { Ok(step as usize) } else { Err(Errno::last()) }
    }
}

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
