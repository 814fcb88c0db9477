//! C's entry point, for a program that does without Rust's own start-up.

/// Makes a function of type `fn() -> i32` the program's `main`.
///
/// Rust's start-up would, beside looking at the standard descriptors, which is done here too, ignore `SIGPIPE` (which the payload would inherit),
/// read `/proc/self/maps` and install handlers for an overflowing stack: fifteen system calls that a runtime does not
/// need. `std::env` works all the same: glibc hands the arguments to it before `main`.
#[macro_export]
macro_rules! entry {
    ($start:path) => {
        #[allow(unsafe_code, reason = "the one symbol that C's runtime calls, once")]
        mod entry {
            // SAFETY: no other symbol of the program has this name.
            #[unsafe(no_mangle)]
            extern "C" fn main(_count: i32, _arguments: *const *const i8) -> i32 {
                $crate::sys::file::ensure_standard();
                $crate::sys::signal::default_sigchld();
                $start()
            }
        }
    };
}
