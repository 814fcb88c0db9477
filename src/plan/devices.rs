//! Devices: the default nodes and links, the configured ones, `/dev/ptmx`.

use super::image::c_string;
use super::planner::Planner;
use super::step::{Slot, Step, Str};
use super::{IdRange, Open};
use crate::abi::mount::{ATTR_NOEXEC, ATTR_NOSUID, MountAttr};
use crate::error::{Error, Result};
use crate::spec::clean_in_root;
use crate::sys::file::device as device_number;
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};
use std::collections::BTreeSet;
use std::path::Path;

/// Nodes that every container has (config-linux.md, Default Devices): name, major, minor.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links that every container has (runtime-linux.md, Dev symbolic links).
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// The steps that fill `/dev`.
///
/// # Errors
/// An impossible device.
pub(super) fn steps(planner: &mut Planner<'_>, steps: &mut Vec<Step>) -> Result<()> {
    // a /dev that was mounted is in its slot already
    if planner.dev.mount.is_none() {
        steps.push(Step::OpenDev);
    }
    let devices = planner.linux.devices().as_deref().unwrap_or_default();
    let mut taken = BTreeSet::new();
    for (i, device) in devices.iter().enumerate() {
        let at = format!("linux.devices[{i}]");
        let path = device_path(&device.path().to_string_lossy(), &at, &mut planner.notes)?;
        // the runtime makes these two itself: a link to pts/ptmx, and a bind of the container's terminal
        if matches!(path.as_str(), "/dev/ptmx" | "/dev/console") || taken.contains(&path) {
            continue;
        }
        let mode = file_type(device.typ(), &at)? | device.file_mode().unwrap_or(0o666) & 0o7777;
        let number = |value: i64, field: &str| {
            u32::try_from(value)
                .map_err(|_| Error::spec(format!("{at}.{field}"), format!("{value} is no device number")))
        };
        let number = device_number(number(device.major(), "major")?, number(device.minor(), "minor")?);
        let owner = Some((device.uid().unwrap_or(0), device.gid().unwrap_or(0))).filter(|owner| *owner != (0, 0));
        steps.extend(node(planner, Node { at: &format!("{at}.path"), path: &path, mode, number, owner, asked: true })?);
        taken.insert(path);
    }
    for (name, major, minor) in NODES {
        let path = format!("/dev/{name}");
        if !taken.contains(&path) {
            let default = Node {
                at: "dev",
                path: &path,
                mode: libc::S_IFCHR | 0o666,
                number: device_number(major, minor),
                owner: None,
                asked: false,
            };
            steps.extend(node(planner, default)?);
        }
    }
    for (name, target) in LINKS {
        steps.push(link(name, target)?);
    }
    steps.push(Step::LinkTo { name: c_string("dev", "core")?, target: c_string("dev", "/proc/kcore")? });
    if !planner.dev.is_empty {
        // the image may have one
        steps.push(Step::Unlink { at: Slot::DEV, path: c_string("dev", "ptmx")? });
    }
    steps.push(link("ptmx", "pts/ptmx")?);
    Ok(())
}

/// The configured devices that are nodes of a type and number: path in the container, type, number.
#[must_use]
pub fn listed_devices(linux: &Linux) -> Vec<(String, u32, u64)> {
    let node = |device: &LinuxDevice| {
        let kind = file_type(device.typ(), "").ok().filter(|kind| *kind != libc::S_IFIFO)?;
        let number = device_number(u32::try_from(device.major()).ok()?, u32::try_from(device.minor()).ok()?);
        Some((clean_in_root(device.path()), kind, number))
    };
    linux.devices().iter().flatten().filter_map(node).collect()
}

/// The path of a device: clean, and from the root on. runc and crun take others, which the specification does not allow.
fn device_path(path: &str, at: &str, notes: &mut Vec<String>) -> Result<String> {
    let clean = clean_in_root(Path::new(path));
    if clean == "/" {
        return Err(Error::spec(format!("{at}.path"), format!("{path:?} must be the absolute path of a file")));
    }
    if !path.starts_with('/') || path.ends_with('/') {
        notes.push(format!("{at}.path: {path:?} is not the absolute path of a file: taken as {clean:?}"));
    }
    Ok(clean)
}

fn link(name: &str, target: &str) -> Result<Step> {
    Ok(Step::Link { at: Slot::DEV, path: c_string("dev", name)?, target: c_string("dev", target)? })
}

fn file_type(typ: LinuxDeviceType, at: &str) -> Result<u32> {
    match typ {
        LinuxDeviceType::C | LinuxDeviceType::U => Ok(libc::S_IFCHR),
        LinuxDeviceType::B => Ok(libc::S_IFBLK),
        LinuxDeviceType::P => Ok(libc::S_IFIFO),
        LinuxDeviceType::A => {
            Err(Error::spec(format!("{at}.type"), "\"a\" is a rule for all types, not a type of node"))
        }
    }
}

struct Node<'a> {
    at: &'a str,
    path: &'a str,
    mode: u32,
    number: u64,
    owner: Option<(u32, u32)>,
    /// The bundle asks for it.
    asked: bool,
}

/// The steps for one node: mknod; or for a user namespace, where that is not allowed, a mount of a node that the host half makes
/// or has.
fn node(planner: &mut Planner<'_>, node: Node<'_>) -> Result<Vec<Step>> {
    let path = c_string(node.at, node.path)?;
    // FIFOs can be created in a user namespace, too
    if planner.chosen.user && node.mode & libc::S_IFMT != libc::S_IFIFO {
        return Ok(bound(planner, &node, path));
    }
    let short = node.path.strip_prefix("/dev/").filter(|name| Path::new(name).components().count() == 1);
    let (at, path) = match short {
        Some(name) => (Slot::DEV, c_string(node.at, name)?),
        None => (Slot::ROOT, path),
    };
    let host = planner.facts.nodes.get(node.path).cloned();
    let is_char = node.mode & libc::S_IFMT == libc::S_IFCHR;
    let is_null = node.path == "/dev/null" && is_char && node.number == device_number(1, 3);
    let for_masks = planner.dev.is_empty && is_null;
    Ok(vec![Step::Node { at, path, mode: node.mode, device: node.number, owner: node.owner, host, for_masks }])
}

/// The steps for a node that init can't make. Nothing is executed through it.
fn bound(planner: &mut Planner<'_>, node: &Node<'_>, path: Str) -> Vec<Step> {
    let attach = Step::Attach { target: path.clone(), in_proc: false, nofollow: false, keep: None };
    if !planner.by_host {
        // the host's, with its owner and permissions
        let source = planner.facts.nodes.get(node.path).cloned().unwrap_or(path);
        let attr = MountAttr { set: ATTR_NOSUID | ATTR_NOEXEC, ..MountAttr::default() };
        let clone = Step::Clone { source, recursive: false, fallback: None, nofollow: false };
        return vec![clone, Step::Attr { slot: Slot::TREE, attr, recursive: false }, attach];
    }
    let maps = &planner.config.maps;
    let outside = |ranges: &[IdRange], id| ranges.iter().find_map(|range| range.translate(id, 1));
    let (uid, gid) = node.owner.unwrap_or_default();
    let owner = outside(&maps.uids, uid).zip(outside(&maps.gids, gid)).filter(|_| node.asked);
    let open = Open::Node { source: path.clone(), mode: node.mode, device: node.number, owner };
    vec![Step::Take { slot: planner.opens.open(open), source: path }, attach]
}

#[cfg(test)]
mod tests {
    use crate::plan::goldens::changed;

    #[test]
    fn defaults_yield_to_configured_nodes() {
        let null = serde_json::json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600}]);
        let plan = changed("/linux/devices", null);
        let nodes: Vec<&str> = plan.lines().filter(|line| line.contains(" mknod")).collect();
        assert_eq!(nodes.len(), 6, "{plan}");
        let nulls: Vec<_> = nodes.iter().filter(|line| line.contains("null")).collect();
        assert!(nulls.len() == 1 && nulls[0].contains("600"), "{nulls:?}");
    }
}
