//! `main` for C's start-up code, for a program without Rust's runtime start-up.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsString, c_char};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The arguments, which the kernel has put on the stack. Without Rust's start-up, `std::env::args` does not have them on musl.
static ARGUMENTS: AtomicPtr<*const c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Called first by `main`: keeps the arguments, and repairs inherited state (standard descriptors, SIGCHLD).
pub fn begin(arguments: *const *const c_char) {
    ARGUMENTS.store(arguments.cast_mut(), Ordering::Relaxed);
    super::file::ensure_standard();
    super::signal::default_sigchld();
}

/// The arguments and the environment on the stack: one after the other, before the name of the executed file (execve(2)).
fn strings() -> &'static mut [u8] {
    let first = ARGUMENTS.load(Ordering::Relaxed);
    if first.is_null() {
        return &mut [];
    }
    // SAFETY: the array ends with a null pointer; getauxval returns the address of a string above the others. All of them stay on
    // our stack and are writable.
    unsafe {
        let (start, end) = ((*first).cast::<u8>().cast_mut(), libc::getauxval(libc::AT_EXECFN) as usize);
        let length = end.saturating_sub(start as usize);
        if start.is_null() { &mut [] } else { std::slice::from_raw_parts_mut(start, length) }
    }
}

/// Overwrites the arguments and the environment, in init: everybody can read `/proc/PID/cmdline`, and the caller's environment may
/// contain secrets. Variables are empty afterwards.
///
/// An init that shares the host half's memory does this at the gate, after its message that it is ready: `create` reads neither
/// after that message.
pub fn wipe() {
    strings().fill(0);
}

/// The arguments and the environment while they are not on the stack.
#[derive(Debug)]
pub struct Hidden(Vec<u8>);

/// Moves the arguments and the environment off the stack during a clone, because others may read a child's copy of our memory
/// as soon as it exists. The parent restores them ([`Hidden::show`]), the child wipes them ([`Hidden::wipe`]).
#[must_use]
pub fn hide() -> Hidden {
    let strings = strings();
    let kept = strings.to_vec();
    strings.fill(0);
    Hidden(kept)
}

impl Hidden {
    /// Restores them.
    pub fn show(self) {
        strings().copy_from_slice(&self.0);
    }

    /// Overwrites them without freeing anything, for a child that must not use the heap.
    pub fn wipe(mut self) {
        self.0.fill(0);
        std::mem::forget(self);
    }
}

/// The arguments of the program, with its name first. Empty if [`begin`] was not called.
#[must_use]
pub fn arguments() -> Vec<OsString> {
    let mut next = ARGUMENTS.load(Ordering::Relaxed).cast_const();
    let mut found = Vec::new();
    if next.is_null() {
        return found;
    }
    // SAFETY: execve(2) hands main an array of C strings that ends with a null pointer; nobody writes to it or frees it.
    unsafe {
        while !(*next).is_null() {
            found.push(OsString::from_vec(CStr::from_ptr(*next).to_bytes().to_vec()));
            next = next.add(1);
        }
    }
    found
}

/// Makes a function of type `fn() -> i32` the program's `main`.
///
/// Rust's start-up checks the standard descriptors, which is done here, too. It also ignores `SIGPIPE` (which the payload would
/// inherit), reads `/proc/self/maps` and installs handlers for stack overflows: fifteen system calls that a runtime does not need.
/// Arguments come from [`arguments`], not from `std::env::args`; the environment is libc's.
#[doc(hidden)]
#[macro_export]
macro_rules! entry {
    ($start:path) => {
        #[allow(unsafe_code, reason = "the one symbol that C's runtime calls, once")]
        mod entry {
            // SAFETY: no other symbol of the program has this name.
            #[unsafe(no_mangle)]
            extern "C" fn main(_count: i32, arguments: *const *const std::ffi::c_char) -> i32 {
                $crate::program::sys::begin(arguments);
                $start()
            }
        }
    };
}
