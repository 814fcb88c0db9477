//! C's entry point, for a program that does without Rust's own start-up.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsString, c_char};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The arguments as the kernel laid them on the stack. Rust's start-up would keep them for `std::env::args`; on musl
/// nobody else does.
static ARGUMENTS: AtomicPtr<*const c_char> = AtomicPtr::new(std::ptr::null_mut());

/// What C's runtime calls before anything of ours: keeps the arguments and sees to what is inherited.
pub fn begin(arguments: *const *const c_char) {
    ARGUMENTS.store(arguments.cast_mut(), Ordering::Relaxed);
    super::file::ensure_standard();
    super::signal::default_sigchld();
}

/// Overwrites the arguments and the environment that the kernel laid on our stack, in init: `/proc/PID/cmdline` is everybody's to
/// read, and our caller's environment may hold secrets. Whoever reads a variable afterwards finds it empty.
///
/// A child with memory of its own does so when it begins. One that shares the host half's does so at the gate, behind its word
/// that it is ready, which is what the host half has waited for before it ends: `create` reads neither afterwards.
pub fn forget() {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: both arrays end with a null pointer, their strings are on our stack and writable (execve(2)). A string that is
    // read meanwhile ends where a zero byte is, at its old end at the latest.
    unsafe {
        for mut next in [ARGUMENTS.load(Ordering::Relaxed).cast_const(), environ] {
            while !next.is_null() && !(*next).is_null() {
                let length = CStr::from_ptr(*next).count_bytes();
                std::ptr::write_bytes((*next).cast_mut(), 0, length);
                next = next.add(1);
            }
        }
    }
}

/// The arguments of the program, its own name first. Empty for a program that did not come through [`begin`].
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
/// Rust's start-up would, beside looking at the standard descriptors, which is done here too, ignore `SIGPIPE` (which the payload would inherit),
/// read `/proc/self/maps` and install handlers for an overflowing stack: fifteen system calls that a runtime does not
/// need. Arguments come from [`arguments`], not from `std::env::args`; the environment is libc's own.
#[macro_export]
macro_rules! entry {
    ($start:path) => {
        #[allow(unsafe_code, reason = "the one symbol that C's runtime calls, once")]
        mod entry {
            // SAFETY: no other symbol of the program has this name.
            #[unsafe(no_mangle)]
            extern "C" fn main(_count: i32, arguments: *const *const std::ffi::c_char) -> i32 {
                $crate::sys::entry::begin(arguments);
                $start()
            }
        }
    };
}
