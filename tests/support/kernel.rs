//! Facts seen from outside the container: what `/proc` and the cgroup files say about a process.

use super::world::{self, World, world};
use std::fs;
use std::path::Path;

/// One line of `/proc/PID/mountinfo` (proc(5)).
#[derive(Debug, Clone)]
pub(crate) struct Mount {
    /// The file system's device number.
    pub(crate) device: String,
    /// The mount point.
    pub(crate) point: String,
    /// The per-mount flags, comma-separated.
    pub(crate) options: Vec<String>,
    /// `shared:N`, `master:N`, `unbindable`.
    pub(crate) tags: Vec<String>,
    /// The file system's type.
    pub(crate) fstype: String,
    /// The superblock's flags and options.
    pub(crate) super_options: Vec<String>,
}

impl Mount {
    /// Whether the mount has a flag.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Whether the superblock has an option.
    pub(crate) fn super_has(&self, option: &str) -> bool {
        self.super_options.iter().any(|o| o == option)
    }

    /// `private`, `shared`, `slave`, `unbindable`, `shared slave`.
    pub(crate) fn propagation(&self) -> String {
        let word = |tag: &String| match tag.split(':').next() {
            Some("shared") => Some("shared"),
            Some("master") => Some("slave"),
            Some("unbindable") => Some("unbindable"),
            Some(_) | None => None,
        };
        let words: Vec<&str> = self.tags.iter().filter_map(word).collect();
        if words.is_empty() { "private".to_owned() } else { words.join(" ") }
    }
}

/// Reads the lines of a mountinfo file.
pub(crate) fn mounts(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (own, file_system) = line.split_once(" - ")?;
    let own: Vec<&str> = own.split(' ').collect();
    let file_system: Vec<&str> = file_system.split(' ').collect();
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<String>>();
    Some(Mount {
        device: (*own.get(2)?).to_owned(),
        point: (*own.get(4)?).to_owned(),
        options: list(own.get(5)?),
        tags: own.get(6..)?.iter().map(|tag| (*tag).to_owned()).collect(),
        fstype: (*file_system.first()?).to_owned(),
        super_options: list(file_system.get(2)?),
    })
}

/// The topmost mount at a path.
#[track_caller]
pub(crate) fn mount_at(mounts: &[Mount], point: &str) -> Mount {
    mounts.iter().rev().find(|m| m.point == point).cloned().unwrap_or_else(|| {
        panic!("nothing is mounted at {point}; mounts: {:?}", mounts.iter().map(|m| &m.point).collect::<Vec<_>>())
    })
}

/// The mounts of a process's namespace.
pub(crate) fn mounts_of(pid: i32) -> Vec<Mount> {
    mounts(&fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default())
}

/// A field of `/proc/PID/status`.
pub(crate) fn status_field(pid: i32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_owned())
}

/// The state letter of a process; `None` once it no longer exists.
pub(crate) fn process_state(pid: i32) -> Option<char> {
    status_field(pid, "State")?.chars().next()
}

/// `pid:[4026531836]` of a process.
#[track_caller]
pub(crate) fn namespace(pid: impl std::fmt::Display, name: &str) -> String {
    let link = format!("/proc/{pid}/ns/{name}");
    fs::read_link(&link).unwrap_or_else(|e| panic!("{link}: {e}")).display().to_string()
}

/// The cgroup of a process in one controller's hierarchy (v2 has only one hierarchy).
#[track_caller]
pub(crate) fn cgroup_of(pid: i32, controller: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let fits = |names: &str| match (world(), world::home(controller)) {
        (World::V2, _) | (World::V1, Some(World::V2)) => names.is_empty(),
        (World::V1, Some(World::V1) | None) => names.split(',').any(|name| name == controller),
    };
    let line = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).find(|(names, _)| fits(names));
    line.map(|(_, path)| path.to_owned()).unwrap_or_else(|| panic!("no {controller} cgroup of {pid} in:\n{text}"))
}

/// Every process with `mark` in its cgroup path, command line or environment.
#[track_caller]
pub(crate) fn processes_with(mark: &str) -> Vec<(i32, String)> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).unwrap();
    pids.filter(|&pid| pid != own)
        .filter_map(|pid| {
            let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let command = String::from_utf8_lossy(&file("cmdline")).replace('\0', " ");
            let found = [file("cgroup"), command.clone().into_bytes(), file("environ")]
                .iter()
                .any(|bytes| String::from_utf8_lossy(bytes).contains(mark));
            let state = process_state(pid)?;
            found.then(|| (pid, format!("{state} {command}")))
        })
        .collect()
}

/// Every cgroup directory with `mark` in its path, deepest first.
pub(crate) fn cgroups_with(mark: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for top in world::hierarchies() {
        collect_cgroups(&top, mark, false, 0, &mut found);
    }
    found.reverse();
    found
}

fn collect_cgroups(dir: &Path, mark: &str, inside: bool, depth: usize, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || depth > 6 {
            continue;
        }
        let inside = inside || entry.file_name().to_string_lossy().contains(mark);
        if inside {
            found.push(entry.path());
        }
        collect_cgroups(&entry.path(), mark, inside, depth + 1, found);
    }
}

/// Where a hanging process sleeps in the kernel.
pub(crate) fn where_it_hangs(pid: i32) -> String {
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    format!(
        "pid {pid} {:?}\nwchan {}\nsyscall {}stack {}",
        file("cmdline"),
        file("wchan"),
        file("syscall"),
        file("stack")
    )
}
