//! The heap of a program that lives for milliseconds: a bump allocator over one static area.
//!
//! A start makes some hundred small allocations and then exits. A general allocator makes a system call or two for the first
//! allocation of each size, and each new page costs a fault. Here the area is part of the program (`.bss`), and one `madvise(2)`
//! maps many of its pages at once. Freed memory is reused only if it was allocated last. When the area is full (`events`, which may
//! run for days, and big documents) the system's allocator takes over.
//!
//! In debug builds the allocator ends init if it allocates: between the clone and execve another thread could hold the lock of the
//! system's allocator, and new pages cost time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Status of an init that allocated.
#[cfg(debug_assertions)]
const ALLOCATED: i32 = 99;

/// More than a start with Docker's usual configuration needs.
const SIZE: usize = 192 * 1024;

/// How much is mapped at once: what a start with the configuration of `runc spec` needs, and some more. `state` and `kill`
/// need one page.
const STEP: usize = 96 * 1024;

/// The part that is not mapped in advance. (Pages may be larger.)
const FIRST: usize = 4096;

/// The area; the program's `#[global_allocator]`.
#[allow(missing_debug_implementations, reason = "nobody prints 192 KiB")]
#[repr(C, align(4096))]
pub struct Arena {
    memory: UnsafeCell<[u8; SIZE]>,
    /// Offset of the first free byte.
    next: AtomicUsize,
    /// How much has been mapped in advance, beyond the first page. (All fields are zero at first, so that the area takes no
    /// space in the file.)
    ready: AtomicUsize,
}

// SAFETY: the memory is only used through allocations, each of which has one owner.
unsafe impl Sync for Arena {}

impl Arena {
    /// An empty area.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "there is one, and it is a static")]
    pub const fn new() -> Self {
        Self { memory: UnsafeCell::new([0; SIZE]), next: AtomicUsize::new(0), ready: AtomicUsize::new(0) }
    }

    fn start(&self) -> usize {
        self.memory.get() as usize
    }

    fn take(&self, layout: Layout) -> Option<*mut u8> {
        let start = self.start();
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            let at = (start + next).checked_next_multiple_of(layout.align())?;
            let end = at.checked_add(layout.size())? - start;
            if end > SIZE {
                return None;
            }
            match self.next.compare_exchange_weak(next, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    self.reach(end);
                    return Some(at as *mut u8);
                }
                Err(now) => next = now,
            }
        }
    }

    fn reach(&self, end: usize) {
        if end > FIRST + self.ready.load(Ordering::Relaxed) {
            self.populate(end);
        }
    }

    /// Maps the pages up to `end`, and some more. Before Linux 5.14 the kernel maps them when they are first used. Two threads
    /// may do this at once: mapped pages stay.
    #[cold]
    fn populate(&self, end: usize) {
        let from = FIRST + self.ready.load(Ordering::Relaxed);
        let to = end.next_multiple_of(STEP);
        // a larger page may begin before the area: that is the program's own data, too
        let start = (self.start() + from) & !(super::image::page() - 1);
        let length = (self.start() + to).saturating_sub(start);
        // SAFETY: the pages are the program's own data, and keep what they hold.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_POPULATE_WRITE) };
        self.ready.fetch_max(to - FIRST, Ordering::Relaxed);
    }

    fn holds(&self, memory: *mut u8) -> bool {
        (self.start()..self.start() + SIZE).contains(&(memory as usize))
    }

    /// Resizes an allocation in place, if it is the last one and there is room.
    fn resize_last(&self, memory: *mut u8, old: usize, new: usize) -> bool {
        let (from, to) = (memory as usize - self.start() + old, memory as usize - self.start() + new);
        let moved = to <= SIZE && self.next.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if moved {
            self.reach(to);
        }
        moved
    }
}

// SAFETY: memory is handed out once: `next` moves past it by a compare-exchange, and moves back only when the owner of the last
// allocation frees or shrinks it. Everything else is the system allocator's.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        match self.take(layout) {
            Some(memory) => memory,
            // SAFETY: the caller's promise is passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check();
        match self.take(layout) {
            Some(memory) => {
                // SAFETY: the allocation has this length, and only the caller has it.
                unsafe { memory.write_bytes(0, layout.size()) };
                memory
            }
            // SAFETY: the caller's promise is passed on. Fresh pages need no zeroing, which the system knows of.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        check();
        if self.holds(memory) {
            self.resize_last(memory, layout.size(), 0);
        } else {
            // SAFETY: it came from there; the caller's promise is passed on.
            unsafe { System.dealloc(memory, layout) }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check();
        if !self.holds(memory) {
            // SAFETY: it came from there; the caller's promise is passed on.
            return unsafe { System.realloc(memory, layout, size) };
        }
        if self.resize_last(memory, layout.size(), size) || size <= layout.size() {
            return memory;
        }
        // SAFETY: the caller promises that size, rounded up to the alignment, does not overflow; both allocations are at least as
        // long as what is copied, and do not overlap, since the old one is still in use.
        unsafe {
            let to = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !to.is_null() {
                std::ptr::copy_nonoverlapping(memory, to, layout.size());
                self.dealloc(memory, layout);
            }
            to
        }
    }
}

#[cfg(debug_assertions)]
thread_local! {
    /// Of the thread, not of the process: init may share the memory of the host half.
    static FORBIDDEN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(debug_assertions)]
fn check() {
    if FORBIDDEN.get() {
        super::task::exit_now(ALLOCATED);
    }
}

#[cfg(not(debug_assertions))]
const fn check() {}

/// Forbids or allows allocation in this thread; enforced in debug builds.
#[cfg_attr(not(debug_assertions), allow(unused_variables))]
pub fn forbid(forbidden: bool) {
    #[cfg(debug_assertions)]
    FORBIDDEN.set(forbidden);
}

#[cfg(test)]
mod tests {
    use super::{Arena, SIZE};
    use std::alloc::{GlobalAlloc, Layout};

    #[test]
    fn pieces_are_aligned_apart_and_come_back_from_the_end() {
        let arena = Arena::new();
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        // SAFETY: the layouts are those that the pieces were asked for with, and nothing is used after it was given back.
        unsafe {
            let one = arena.alloc(layout(3, 1));
            let two = arena.alloc(layout(8, 64));
            assert_eq!(two as usize % 64, 0);
            assert!(two as usize >= one as usize + 3);
            two.write_bytes(7, 8);
            // the last one grows where it is, another moves with its content
            assert_eq!(arena.realloc(two, layout(8, 64), 100), two);
            let three = arena.alloc(layout(1, 1));
            let moved = arena.realloc(two, layout(100, 64), 200);
            assert!(moved > three);
            assert_eq!(std::slice::from_raw_parts(moved, 8), [7; 8]);
            arena.dealloc(moved, layout(200, 64));
            assert_eq!(arena.alloc(layout(1, 64)), moved);
            // what does not fit is the system's
            let big = arena.alloc(layout(SIZE, 8));
            assert!(!big.is_null() && !arena.holds(big));
            arena.dealloc(big, layout(SIZE, 8));
            assert_eq!(arena.realloc(one, layout(3, 1), 2), one);
        }
    }
}
