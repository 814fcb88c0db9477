//! An attacker on a shared volume: exchanges two names in a directory as fast as it can, until it is dropped.
#![allow(unsafe_code, reason = "not every C library has a function for renameat2(2)")]

use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The thread that exchanges the names.
#[derive(Debug)]
pub(crate) struct Swapper {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    /// Starts to exchange `DIR/one` and `DIR/other`, both of which must exist.
    #[track_caller]
    pub(crate) fn of(dir: &Path, one: &str, other: &str) -> Self {
        let c_path = |name| CString::new(dir.join(name).into_os_string().into_encoded_bytes()).unwrap();
        let (one, other) = (c_path(one), c_path(other));
        exchange(&one, &other).unwrap();
        Self::repeating(move |round| {
            // pauses of varying length: a fixed period could stay out of step with the runtime forever
            match round % 4 {
                1 => std::thread::sleep(Duration::from_micros(round * 7919 % 60)),
                2 => (0..round * 7919 % 3000).for_each(|_| std::hint::spin_loop()),
                _ => {}
            }
            exchange(&one, &other).is_ok()
        })
    }

    /// Repeats another act until it is dropped; the act returns whether it did something.
    pub(crate) fn repeating(mut act: impl FnMut(u64) -> bool + Send + 'static) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            move || {
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    done.fetch_add(u64::from(act(round)), Ordering::Relaxed);
                }
            }
        });
        Self { stop, done, thread: Some(thread) }
    }

    /// How often it has acted.
    pub(crate) fn count(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn exchange(one: &CString, other: &CString) -> std::io::Result<()> {
    let here = libc::AT_FDCWD;
    // SAFETY: both paths live through the call.
    let done =
        unsafe { libc::syscall(libc::SYS_renameat2, here, one.as_ptr(), here, other.as_ptr(), libc::RENAME_EXCHANGE) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
