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

/// The arguments and the environment as the kernel laid them on the stack, one behind the other, before the name of the
/// executed file (execve(2)).
fn strings() -> &'static mut [u8] {
    let first = ARGUMENTS.load(Ordering::Relaxed);
    if first.is_null() {
        return &mut [];
    }
    // SAFETY: the array ends with a null pointer; the answer of getauxval is the address of a string above the others, all of
    // which are on our stack for good, and writable.
    unsafe {
        let (start, end) = ((*first).cast::<u8>().cast_mut(), libc::getauxval(libc::AT_EXECFN) as usize);
        let length = end.saturating_sub(start as usize);
        if start.is_null() { &mut [] } else { std::slice::from_raw_parts_mut(start, length) }
    }
}

/// Overwrites the arguments and the environment, in init: `/proc/PID/cmdline` is everybody's to read, and our caller's
/// environment may hold secrets. Whoever reads a variable afterwards finds it empty.
///
/// Init that shares the host half's memory does so at the gate, behind its word that it is ready, which is what the host half
/// has waited for before it ends: `create` reads neither afterwards.
pub fn wipe() {
    strings().fill(0);
}

/// The arguments and the environment while they are off the stack.
#[derive(Debug)]
pub struct Hidden(Vec<u8>);

/// Takes the arguments and the environment off the stack for the moment of a clone: a child with a copy of our memory is visible
/// from its first instant. We put them back ([`Hidden::show`]), the child forgets them ([`Hidden::wipe`]).
#[must_use]
pub fn hide() -> Hidden {
    let strings = strings();
    let kept = strings.to_vec();
    strings.fill(0);
    Hidden(kept)
}

impl Hidden {
    /// Puts everything back.
    pub fn show(self) {
        strings().copy_from_slice(&self.0);
    }

    /// Overwrites it, and frees nothing: for a child that may not use the heap.
    pub fn wipe(mut self) {
        self.0.fill(0);
        std::mem::forget(self);
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
