//! In debug builds, an allocator that ends init when it allocates: between the clone and execve nothing may, since
//! another thread of the caller could have held the heap's lock, and since memory costs time.
//!
//! The one piece of global state of the program: set by init, once, in its own copy of the memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

/// Status of an init that allocated.
pub const ALLOCATED: i32 = 99;

static FORBIDDEN: AtomicBool = AtomicBool::new(false);

struct Watched;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

fn check() {
    if FORBIDDEN.load(Ordering::Relaxed) {
        super::task::leave(ALLOCATED);
    }
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        check();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// From now on this process may not touch the heap.
pub fn forbid() {
    FORBIDDEN.store(true, Ordering::Relaxed);
}
