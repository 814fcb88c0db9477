//! The fixture language of the integration tests, so that a test reads like a sentence:
//! `Bundle::new("readonly").set("/root/readonly", true).run(&["open", "/new", "w"]).ok().has("open /new w", "EROFS")`.
//!
//! * `bundle`: a bundle on disk, its `config.json`, and the container made of it; checks at its end that nothing is left;
//! * `runtime`: which binary is under test, one call of it, and what came out;
//! * `world`: what this machine offers: cgroup mode, controllers;
//! * `kernel`: facts from outside, out of `/proc` and the cgroup files;
//! * `reaper`: the test process as the subreaper that an engine's shim is;
//! * `tty`: pseudoterminals and the sockets that carry descriptors;
//! * `agent`: who answers for a seccomp filter;
//! * `process`: processes that join: members of a cgroup, callers of a special kind;
//! * `user`: callers without privileges;
//! * `private`: a small host of its own, for attackers who look at processes;
//! * `swapper`: the neighbour who exchanges names on a shared volume;
//! * `payload`: the program inside.

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

/// How long anything may take before it counts as hung: generous, the machine may be busy. `ONGGI_TEST_PATIENCE` sets
/// other seconds, for runs that are meant to fail.
pub(crate) fn patience() -> Duration {
    let seconds = std::env::var("ONGGI_TEST_PATIENCE").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// Waits until `ready` gives something.
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
