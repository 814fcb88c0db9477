//! The cgroup layout ("world") of the test run: what is mounted on `/sys/fs/cgroup`, and which controllers it has.
//!
//! `ONGGI_CGROUP=v2` gives this process a mount namespace in which only cgroup2 is mounted there, as on a pure v2
//! machine, even if the controllers are v1's. `native`, the default, takes the machine as it is.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::path::{Path, PathBuf};

/// Where cgroups are mounted.
pub(crate) const CGROUP: &str = "/sys/fs/cgroup";

/// What is mounted on `/sys/fs/cgroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    /// cgroup2 alone.
    V2,
    /// v1 hierarchies, with or without a cgroup2 mount beside them.
    V1,
}

/// The layout as a runtime detects it: by the file system's magic number.
#[track_caller]
pub(crate) fn world() -> World {
    let facts = nix::sys::statfs::statfs(CGROUP).expect("statfs /sys/fs/cgroup");
    if facts.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC { World::V2 } else { World::V1 }
}

/// Selects the layout before `main`, while there is one thread. An invalid value ends the run.
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

/// The top directory of every hierarchy.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    match world() {
        World::V2 => vec![CGROUP.into()],
        World::V1 => subdirectories(Path::new(CGROUP)),
    }
}

/// In which kind of hierarchy a controller is. A hybrid machine has some in v1 hierarchies and some in cgroup2.
pub(crate) fn home(controller: &str) -> Option<World> {
    let file = unified().unwrap_or_default().join("cgroup.controllers");
    let listed = std::fs::read_to_string(file).unwrap_or_default();
    match world() {
        World::V1 if is_hierarchy(&Path::new(CGROUP).join(controller)) => Some(World::V1),
        World::V1 | World::V2 => listed.split_whitespace().any(|name| name == controller).then_some(World::V2),
    }
}

/// Where cgroup2 is mounted, if it is.
pub(crate) fn unified() -> Option<PathBuf> {
    let place = if world() == World::V2 { CGROUP.into() } else { Path::new(CGROUP).join("unified") };
    is_hierarchy(&place).then_some(place)
}

/// Whether limits of this controller can be set.
pub(crate) fn has_controller(name: &str) -> bool {
    home(name).is_some()
}

/// The directory of a cgroup for one controller.
#[track_caller]
pub(crate) fn cgroup_dir(controller: &str, path: &str) -> PathBuf {
    let top = match (world(), home(controller)) {
        (World::V1, Some(World::V1) | None) => Some(Path::new(CGROUP).join(controller)),
        (World::V1 | World::V2, _) => unified(),
    };
    top.expect("a hierarchy").join(path.trim_start_matches('/'))
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).map(|all| all.flatten().map(|entry| entry.path()).collect());
    let mut entries: Vec<PathBuf> = entries.unwrap_or_default();
    entries.retain(|path| is_hierarchy(path) && !path.is_symlink());
    entries
}

/// Whether a cgroup file system is mounted there. Engines may leave plain directories with names of hierarchies.
fn is_hierarchy(path: &Path) -> bool {
    use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
    statfs(path).is_ok_and(|fs| [CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC].contains(&fs.filesystem_type()))
}
