//! What this machine offers: the cgroup mode that is seen on `/sys/fs/cgroup`, and which controllers it has.
//!
//! `ONGGI_CGROUP=v2` gives this process a mount namespace of its own in which only cgroup2 is mounted there: the pure v2
//! view of a machine whose controllers may be v1's. `native`, or nothing, takes the machine as it is.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::path::{Path, PathBuf};

/// Where cgroups are mounted.
pub(crate) const CGROUP: &str = "/sys/fs/cgroup";

/// What stands on `/sys/fs/cgroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    /// cgroup2 alone.
    V2,
    /// v1 controllers, with or without a v2 tree beside them.
    V1,
}

/// The world as a runtime sees it: by the file system's magic number.
pub(crate) fn world() -> World {
    let facts = nix::sys::statfs::statfs(CGROUP).expect("statfs /sys/fs/cgroup");
    if facts.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC { World::V2 } else { World::V1 }
}

/// Chooses the world before `main`, while there is one thread. A wrong wish ends the run.
pub(super) fn choose() {
    let wish = std::env::var("ONGGI_CGROUP").unwrap_or_else(|_| "native".to_owned());
    let made = match wish.as_str() {
        "native" => Ok(()),
        "v2" => pure_v2().map_err(|error| format!("ONGGI_CGROUP=v2: {error}")),
        other => Err(format!("ONGGI_CGROUP={other}: must be native or v2")),
    };
    if let Err(why) = made {
        eprintln!("integration: {why}");
        std::process::exit(2);
    }
}

fn pure_v2() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    umount2(CGROUP, MntFlags::MNT_DETACH)?;
    mount(Some("cgroup2"), CGROUP, Some("cgroup2"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, none)
}

/// The top directory of every hierarchy in this world.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    match world() {
        World::V2 => vec![CGROUP.into()],
        World::V1 => subdirectories(Path::new(CGROUP)),
    }
}

/// Whether a limit of this controller can be set in this world.
pub(crate) fn has_controller(name: &str) -> bool {
    match world() {
        World::V2 => std::fs::read_to_string(format!("{CGROUP}/cgroup.controllers"))
            .is_ok_and(|all| all.split_whitespace().any(|controller| controller == name)),
        World::V1 => Path::new(CGROUP).join(name).is_dir(),
    }
}

/// The directory of a cgroup for one controller.
pub(crate) fn cgroup_dir(controller: &str, path: &str) -> PathBuf {
    let path = path.trim_start_matches('/');
    match world() {
        World::V2 => Path::new(CGROUP).join(path),
        World::V1 => Path::new(CGROUP).join(controller).join(path),
    }
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).map(|all| all.flatten().map(|entry| entry.path()).collect());
    let mut entries: Vec<PathBuf> = entries.unwrap_or_default();
    entries.retain(|path| path.is_dir() && !path.is_symlink());
    entries
}
