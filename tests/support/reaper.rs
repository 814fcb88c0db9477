//! Makes the test process a child subreaper, as an engine's shim is, and selects the cgroup layout before `main`.
//!
//! PID 1 of a small machine may not reap; a container whose runtime has exited would then stay a zombie and count as
//! running. So this process adopts orphans, and one thread waits for every child, runtimes and orphans alike, and keeps
//! its status. No other code may wait: children are started with `Command::spawn` and waited for with [`status_of`].
#![allow(unsafe_code, reason = "a function before `main`, while there is one thread, is a linker section")]

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Condvar, Mutex, Once};
use std::time::{Duration, Instant};

/// Process id, exit status, and when it was reaped.
static ENDED: Mutex<Option<HashMap<i32, (Instant, ExitStatus)>>> = Mutex::new(None);
static BELL: Condvar = Condvar::new();
static REAPER: Once = Once::new();

// SAFETY: the section holds addresses of functions that the C library calls before `main`, and this is one.
#[unsafe(link_section = ".init_array")]
#[used]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    if let Err(error) = nix::sys::prctl::set_child_subreaper(true) {
        eprintln!("integration: cannot become a subreaper: {error}");
    }
    super::world::choose();
}

/// Starts the reaper thread; called before any child is started.
pub(crate) fn start() {
    REAPER.call_once(|| {
        std::thread::spawn(reap);
    });
}

fn reap() {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a live int.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid <= 0 {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let mut ended = ENDED.lock().unwrap();
        ended.get_or_insert_default().insert(pid, (Instant::now(), ExitStatus::from_raw(status)));
        BELL.notify_all();
    }
}

/// Waits for a child (own or adopted) that ends after `born` and returns its status; `None` after `patience`.
#[track_caller]
pub(crate) fn status_of(pid: i32, born: Instant, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    let mut ended = ENDED.lock().unwrap();
    loop {
        match ended.get_or_insert_default().get(&pid) {
            // an older entry belongs to an earlier process with the same pid
            Some((when, status)) if *when >= born => return Some(*status),
            Some(_) | None => {}
        }
        let left = end.checked_duration_since(Instant::now())?;
        ended = BELL.wait_timeout(ended, left).unwrap().0;
    }
}

/// The status as a shell reports it: 0 to 255, or 128 plus the signal's number.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
