//! The test process as an engine's shim: it adopts orphans and reaps them, and it chooses its cgroup world before `main`.
//!
//! PID 1 of a small machine may not reap; a container whose runtime has left would stay a zombie and count as running.
//! So this process is a child subreaper, and one thread takes every child that ends, runtimes and orphans alike, and
//! keeps its status. Nobody else may wait: children are started with `Command::spawn` and waited for with [`status_of`].
#![allow(unsafe_code, reason = "a function before `main`, while there is one thread, is a linker section")]

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Condvar, Mutex, Once};
use std::time::{Duration, Instant};

/// Process id, and what became of it when.
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

/// Starts the reaper; called before any child is.
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

/// The status of a child (own or adopted) that ended after `born`, once it has; `None` when `patience` runs out.
#[track_caller]
pub(crate) fn status_of(pid: i32, born: Instant, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    let mut ended = ENDED.lock().unwrap();
    loop {
        match ended.get_or_insert_default().get(&pid) {
            // an older entry belongs to an earlier process of that number
            Some((when, status)) if *when >= born => return Some(*status),
            Some(_) | None => {}
        }
        let left = end.checked_duration_since(Instant::now())?;
        ended = BELL.wait_timeout(ended, left).unwrap().0;
    }
}

/// As a shell says it: 0 to 255, or 128 and the signal's number.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
