//! Devices: the default nodes and links, the configured ones, `/dev/ptmx`.

use super::image::c_string;
use super::step::{Slot, Step};
use super::{Open, Plan};
use crate::error::{Error, Result};
use crate::sys::file::device;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount};
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

/// Whether the container's `/dev` is ours to fill: not if the host's is bound there, or mounted there once more (there is one
/// devtmpfs on a machine, which shows the same nodes everywhere). The mounts are `mounts::cleaned`.
#[must_use]
pub(super) fn ours(mounts: &[Mount]) -> bool {
    !mounts.iter().any(|mount| {
        let bind = mount.options().iter().flatten().any(|o| o == "bind" || o == "rbind");
        (bind || matches!(mount.typ().as_deref(), Some("bind" | "devtmpfs"))) && is_dev(mount)
    })
}

/// Whether something is mounted on `/dev`.
#[must_use]
pub(super) fn is_dev(mount: &Mount) -> bool {
    mount.destination() == Path::new("/dev")
}

/// Whether what is mounted is a file system that holds nothing at first.
#[must_use]
pub(super) fn is_empty(mount: &Mount) -> bool {
    let copies = mount.options().iter().flatten().any(|option| option == "tmpcopyup");
    mount.typ().as_deref() == Some("tmpfs") && !copies
}

/// Where `/dev` is one empty tmpfs of our own, what is mounted on new names in it needs no resolving.
pub(super) fn below_dev(steps: &mut [Step]) {
    let is_dev = |step: &Step| matches!(step, Step::Mount { target, .. } | Step::Attach { target, .. } if target.as_c_str() == c"/dev");
    let mut all = steps.iter().enumerate().filter(|(_, step)| is_dev(step));
    let (Some((at, Step::Mount { fstype, detached: Some(dev), .. })), None) = (all.next(), all.next()) else { return };
    if fstype.as_c_str() != c"tmpfs" || dev.copy_up || dev.keep != Some(Slot::DEV) {
        return;
    }
    let mut seen = BTreeSet::new();
    for step in &mut steps[at + 1..] {
        if let Step::Mount { target, fstype, detached: None, fresh, .. } = step
            && let Some(name) = target.to_bytes().strip_prefix(b"/dev/")
            && !(name.is_empty() || name.contains(&b'/'))
            && !matches!(fstype.to_bytes(), b"proc" | b"sysfs")
            && seen.insert(target.clone())
        {
            *fresh = true;
        }
    }
}

/// Where nodes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nodes {
    /// They are made.
    Made,
    /// In a user namespace, where making is not allowed, they are bound from the host; the host half clones them.
    ClonedByHost,
    /// The same, cloned by init.
    Cloned,
}

/// The steps that fill `/dev`; `fresh`: a file system was mounted there that holds nothing yet; `open`: it is in its slot,
/// because it was mounted there.
///
/// # Errors
/// A device that can't be.
pub(super) fn steps(
    devices: &[LinuxDevice],
    nodes: Nodes,
    fresh: bool,
    open: bool,
    opens: &mut Vec<(Slot, Open)>,
    slots: &mut u16,
) -> Result<Vec<Step>> {
    let mut steps = Vec::with_capacity(16);
    if !open {
        steps.push(Step::OpenDev);
    }
    let mut taken = BTreeSet::new();
    for (i, node) in devices.iter().enumerate() {
        let at = format!("linux.devices[{i}]");
        let path = node.path().to_string_lossy().into_owned();
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(Error::spec(format!("{at}.path"), format!("{path:?} is no absolute path of a file")));
        }
        // the container's own multiplexer and console are what these are: links and binds of the runtime
        if matches!(path.as_str(), "/dev/ptmx" | "/dev/console") || taken.contains(&path) {
            continue;
        }
        let mode = file_type(node.typ(), &at)? | node.file_mode().unwrap_or(0o666) & 0o7777;
        let number = |value: i64, field: &str| {
            u32::try_from(value)
                .map_err(|_| Error::spec(format!("{at}.{field}"), format!("{value} is no device number")))
        };
        let number = device(number(node.major(), "major")?, number(node.minor(), "minor")?);
        let owner = Some((node.uid().unwrap_or(0), node.gid().unwrap_or(0))).filter(|owner| *owner != (0, 0));
        let node = Node { at: &format!("{at}.path"), path: &path, mode, number, owner, fresh };
        push(&mut steps, node, nodes, opens, slots)?;
        taken.insert(path);
    }
    for (name, major, minor) in NODES {
        let path = format!("/dev/{name}");
        if !taken.contains(&path) {
            let (mode, number) = (libc::S_IFCHR | 0o666, device(major, minor));
            let node = Node { at: "dev", path: &path, mode, number, owner: None, fresh };
            push(&mut steps, node, nodes, opens, slots)?;
        }
    }
    for (name, target) in LINKS {
        steps.push(link(name, target)?);
    }
    steps.push(Step::LinkTo { name: c_string("dev", "core")?, target: c_string("dev", "/proc/kcore")? });
    if !fresh {
        // an image may bring one of its own
        steps.push(Step::Unlink { at: Slot::DEV, path: c_string("dev", "ptmx")? });
    }
    steps.push(link("ptmx", "pts/ptmx")?);
    Ok(steps)
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
    /// `/dev` was empty.
    fresh: bool,
}

fn push(
    steps: &mut Vec<Step>,
    node: Node<'_>,
    nodes: Nodes,
    opens: &mut Vec<(Slot, Open)>,
    slots: &mut u16,
) -> Result<()> {
    let path = c_string(node.at, node.path)?;
    // everybody may make fifos
    if nodes != Nodes::Made && node.mode & libc::S_IFMT != libc::S_IFIFO {
        steps.push(if nodes == Nodes::ClonedByHost {
            let slot = Plan::open(
                opens,
                slots,
                Open::Tree { source: path.clone(), recursive: false, mapped: None, instead: None, shares: false },
            );
            Step::Take { slot, source: path.clone() }
        } else {
            Step::Clone { source: path.clone(), recursive: false, instead: None }
        });
        steps.push(Step::Attach { target: path, in_proc: false });
        return Ok(());
    }
    let short = node.path.strip_prefix("/dev/").filter(|name| Path::new(name).components().count() == 1);
    let (at, path) = match short {
        Some(name) => (Slot::DEV, c_string(node.at, name)?),
        None => (Slot::ROOT, path),
    };
    let is_null = node.path == "/dev/null" && node.mode & libc::S_IFMT == libc::S_IFCHR && node.number == device(1, 3);
    let for_masks = node.fresh && is_null;
    steps.push(Step::Node { at, path, mode: node.mode, device: node.number, owner: node.owner, for_masks });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_yield_to_configured_nodes() {
        let mut null = LinuxDevice::default();
        null.set_path("/dev/null".into())
            .set_typ(LinuxDeviceType::C)
            .set_major(1)
            .set_minor(3)
            .set_file_mode(Some(0o600));
        let steps = steps(&[null], Nodes::Made, true, false, &mut Vec::new(), &mut 16).unwrap();
        let nulls = steps.iter().filter(|s| matches!(s, Step::Node { path, .. } if path.as_c_str() == c"null"));
        assert_eq!(nulls.count(), 1);
        assert_eq!(steps.iter().filter(|s| matches!(s, Step::Node { .. })).count(), 6);
    }
}
