//! Builds the payload program and puts it into root file systems.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The payload's name inside a container.
pub(crate) const INSIDE: &str = "/payload";

/// The path of the built payload. `cargo test --test integration` does not build examples, so it is built here if needed.
#[track_caller]
pub(crate) fn binary() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let own = std::env::current_exe().expect("the path of this test program");
        let built = own.parent().and_then(Path::parent).expect("deps/..").join("examples/payload");
        if changed(&built) < newest_source() {
            build(&own);
        }
        assert!(built.is_file(), "{} is missing: cargo build --example payload", built.display());
        built
    })
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

fn newest_source() -> Option<SystemTime> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payload");
    std::fs::read_dir(sources).ok()?.flatten().filter_map(|entry| changed(&entry.path())).max()
}

fn build(own: &Path) {
    let mut cargo = std::process::Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["build", "--quiet", "--example", "payload"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if own.components().any(|part| part.as_os_str() == "release") {
        cargo.arg("--release");
    }
    finish(&mut cargo, Duration::from_secs(600));
}

/// Puts the payload into a directory as `name`: as a hard link if possible, since it is large.
pub(crate) fn place(dir: &Path, name: &str) {
    let target = dir.join(name.trim_start_matches('/'));
    if std::fs::hard_link(binary(), &target).is_ok() {
        return;
    }
    // Copied by another process. If we had the file open for writing, a child that another thread forks meanwhile would
    // inherit the descriptor until its execve, and executing the file would fail with ETXTBSY.
    let mut copy = std::process::Command::new("cp");
    finish(copy.arg(binary()).arg(&target), Duration::from_secs(60));
}

/// Runs a program and asserts that it succeeds.
fn finish(command: &mut std::process::Command, most: Duration) {
    let born = Instant::now();
    super::reaper::start();
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let status = super::reaper::status_of(i32::try_from(child.id()).unwrap(), born, most);
    assert_eq!(status.map(super::reaper::code), Some(0), "{command:?}");
}
