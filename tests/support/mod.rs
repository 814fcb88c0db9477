//! The helpers of the integration tests. With them a test reads like a sentence:
//! `Bundle::new("readonly").set("/root/readonly", true).run(&["open", "/new", "w"]).ok().has("open /new w", "EROFS")`.
//!
//! * `bundle`: a bundle on disk, its `config.json`, and the container made from it; checks on drop that nothing is left;
//! * `runtime`: the binary under test, one call of it, and its output;
//! * `world`: the cgroup layout of this machine: mode, controllers;
//! * `kernel`: facts seen from outside the container, from `/proc` and the cgroup files;
//! * `reaper`: makes the test process a subreaper, as an engine's shim is;
//! * `tty`: pseudoterminals and the sockets that carry descriptors;
//! * `agent`: a seccomp agent, which answers notifications of a filter;
//! * `process`: members of a cgroup, and callers with unusual signals, limits or descriptors;
//! * `user`: callers without privileges;
//! * `private`: private pid and mount namespaces that stand for a host, for attackers that look at its processes;
//! * `swapper`: an attacker that exchanges names on a shared volume;
//! * `payload`: the program that runs in the container.

pub(crate) mod agent;
pub(crate) mod bundle;
pub(crate) mod kernel;
pub(crate) mod payload;
pub(crate) mod private;
pub(crate) mod process;
pub(crate) mod reaper;
pub(crate) mod runtime;
pub(crate) mod swapper;
pub(crate) mod tty;
pub(crate) mod user;
pub(crate) mod world;

pub(crate) use bundle::Bundle;
pub(crate) use runtime::{Output, Runtime, not_here, peer_differs};
pub(crate) use serde_json::{Value, json};
pub(crate) use world::{World, world};

use std::time::{Duration, Instant};

/// Whether `ONGGI_TEST_SLOW` says that this machine is slow (User Mode Linux beside other tests).
pub(crate) fn is_slow() -> bool {
    std::env::var_os("ONGGI_TEST_SLOW").is_some()
}

/// A time limit of so many seconds; nine times as many on a slow machine.
pub(crate) fn limit(seconds: u64) -> Duration {
    Duration::from_secs(if is_slow() { 9 * seconds } else { seconds })
}

/// How long anything may take before it counts as hung. Long, since the machine may be busy. `ONGGI_TEST_PATIENCE` sets
/// it in seconds, for runs that are expected to fail.
pub(crate) fn patience() -> Duration {
    let seconds = std::env::var("ONGGI_TEST_PATIENCE").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or_else(|| limit(60), Duration::from_secs)
}

/// Waits until `ready` returns a value.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let patience = patience();
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(Instant::now() < end, "waited {patience:?} for {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}
