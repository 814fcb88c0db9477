//! The integration tests: the real binary, real containers, and what the kernel says about them.
//!
//! One test program. Run as root: `cargo test --test integration`. `ONGGI_RUNTIME=/usr/sbin/runc` tests another runtime,
//! `ONGGI_CGROUP=v2` runs the tests in a mount namespace in which only cgroup2 is mounted, `ONGGI_TEST_RUNS=2000` sets the
//! number of rounds of race tests, `ONGGI_KEEP_BUNDLES=1` keeps the bundles for inspection. Each test has its own state
//! root, id and cgroup, and fails if it leaves behind a process, a cgroup, a mount or a state directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics is a test that fails")]
#![allow(clippy::zombie_processes, reason = "one thread reaps every child: support/reaper.rs")]
#![allow(clippy::print_stderr, clippy::exit, reason = "a world that cannot be made must stop the run, loudly")]

mod support;

mod annotations;
mod attacks;
mod binary;
mod binds;
mod callers;
mod cgroup;
mod checkpoint;
mod cli;
mod clone;
mod console;
mod creds;
mod devices;
mod errors;
mod exec;
mod exec_context;
mod exec_flags;
mod exec_security;
mod faults;
mod fds;
mod hooks;
mod idmap;
mod inputs;
mod killed_cgroup;
mod lifecycle;
mod masked_paths;
mod mount_links;
mod mounts;
mod mounts_verb;
mod namespaces;
mod network;
mod no_mount_namespace;
mod odd_names;
mod open_tree_namespace;
mod placement;
mod program;
mod propagation;
mod races;
mod regressions;
mod restored;
mod rootless;
mod rootless_cgroup;
mod scopes;
mod seccomp;
mod shared_root;
mod spec;
mod verbs;
