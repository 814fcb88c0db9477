//! A plan as text: for `onggi plan`, and the golden files of the sample bundles.

use super::cgroup::CgroupPlan;
use super::step::Slot;
use super::{IdRange, Mapped, Open, Plan};
use crate::abi::ns::Namespace;
use std::fmt::{self, Write as _};

/// The whole plan, one line for each step, with the numbers that errors use.
#[must_use]
pub fn text(plan: &Plan, cgroups: &CgroupPlan) -> String {
    let mut out = String::new();
    // writing to a string does not fail
    let _ = write_cgroups(cgroups, &mut out).and_then(|()| write(plan, &mut out));
    out
}

fn write_cgroups(cgroups: &CgroupPlan, out: &mut String) -> fmt::Result {
    for (name, path) in &cgroups.paths {
        let name = if name.is_empty() { "cgroup2" } else { name };
        writeln!(out, "host  {name} cgroup {path:?}")?;
    }
    if let Some(unit) = &cgroups.unit {
        let whose = if unit.user { "user's" } else { "system's" };
        writeln!(out, "host  start unit {} of the {whose} systemd", unit.name)?;
        for property in &unit.properties {
            writeln!(out, "host  property {property}")?;
        }
    }
    if let Some(owner) = cgroups.owner {
        writeln!(out, "host  give the cgroup to user {owner}")?;
    }
    for write in cgroups.early.iter().chain(&cgroups.writes) {
        writeln!(out, "host  write {write}")?;
    }
    Ok(())
}

fn write(plan: &Plan, out: &mut String) -> fmt::Result {
    if plan.clone_spec.network_ahead {
        writeln!(out, "ahead unshare(network) and bring lo up, on a thread")?;
    }
    let memory = if plan.clone_spec.shares_memory { ", sharing memory until execve" } else { "" };
    let mut new = plan.clone_spec.new;
    if plan.clone_spec.network_ahead {
        new.remove(Namespace::Network);
    }
    writeln!(out, "clone {new}{memory}")?;
    if let Some(maps) = &plan.clone_spec.maps {
        for (name, ranges) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
            for range in ranges {
                writeln!(out, "host  {name} {} {} {}", range.inside, range.outside, range.count)?;
            }
        }
    }
    for offset in &plan.clone_spec.offsets {
        writeln!(out, "host  timens_offsets {} {} {}", offset.clock, offset.seconds, offset.nanoseconds)?;
    }
    for (slot, kind) in &plan.clone_spec.join_before_clone {
        writeln!(out, "host  join {} (slot {})", kind.name(), slot.0)?;
    }
    if !plan.clone_spec.join_in_intermediate.is_empty() {
        writeln!(
            out,
            "host  setns({} of the process of slot {}) before the clone",
            plan.clone_spec.join_in_intermediate,
            Slot::INIT.0
        )?;
    }
    if plan.clone_spec.empty_mounts {
        writeln!(out, "host  an empty mount namespace")?;
    }
    if let Some(root) = &plan.root {
        writeln!(out, "host  attach root {root:?} on itself, private, until delete (slot {})", Slot::ROOT.0)?;
    }
    for (slot, open) in &plan.opens {
        writeln!(out, "host  slot {}: {open}", slot.0)?;
    }
    if let Some(score) = plan.oom_score_adj {
        writeln!(out, "host  oom_score_adj {score}")?;
    }
    if let Some(name) = &plan.keyring {
        writeln!(out, "host  join session keyring {name:?}")?;
    }
    for device in &plan.network.devices {
        writeln!(out, "host  move network device {:?} in, to be {:?}", device.name, device.inside)?;
    }
    for limit in &plan.limits {
        writeln!(out, "host  prlimit({}, {}, {})", limit.name, limit.soft, limit.hard)?;
    }
    for hook in plan.hooks.runtime.iter().chain(&plan.hooks.poststart) {
        writeln!(out, "host  {} {}", hook.name, hook.image)?;
    }
    let total = plan.steps.len();
    for (i, step) in plan.steps.iter().enumerate() {
        writeln!(out, "{:>3}/{total} {step}", i + 1)?;
    }
    writeln!(out, "exec  {}", plan.image)
}

impl fmt::Display for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recursive = if self.recursive { ", recursive" } else { "" };
        write!(f, "mount_setattr(set idmap of slot {}{recursive})", self.namespace.0)
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace { path, kind, .. } => write!(f, "{} namespace {:?}", kind.name(), path),
            Self::Tree { source, recursive, mapped, .. } => {
                write!(f, "open_tree({:?}{})", source, if *recursive { ", recursive" } else { "" })?;
                match mapped {
                    Some(mapped) => write!(f, ", {mapped}"),
                    None => Ok(()),
                }
            }
            Self::Node { source, mode, device, owner } => {
                let (major, minor) = (libc::major(*device), libc::minor(*device));
                match owner {
                    Some((uid, gid)) => write!(f, "mknod({source:?}, {mode:#o}, {major}:{minor}) of {uid}:{gid}"),
                    None => write!(f, "open_tree({source:?}), device {major}:{minor}"),
                }
            }
            Self::Mapping(maps) => {
                let list = |ranges: &[IdRange]| {
                    let texts: Vec<_> =
                        ranges.iter().map(|r| format!("{} {} {}", r.inside, r.outside, r.count)).collect();
                    texts.join(", ")
                };
                write!(f, "a user namespace with uid_map {}; gid_map {}", list(&maps.uids), list(&maps.gids))
            }
            Self::HookFiles(_) => f.write_str("files for hooks"),
            Self::Console(path) => write!(f, "console socket {path:?}"),
        }
    }
}
