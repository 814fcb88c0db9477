//! What the machine's cgroup file systems are. May use sys and the plan's types.

use crate::error::{Context, Error, Result};
use crate::plan::cgroup::{CgroupFacts, Hierarchy, Tree};
use crate::sys::cgroupfs::{Mounted, mounted, read_file};
use crate::sys::{Errno, file, mountinfo};
use std::path::{Path, PathBuf};

/// Where cgroups are mounted, on every distribution.
const TOP: &str = "/sys/fs/cgroup";

/// Looks which cgroup file systems there are. `wants_own`: also where we are ourselves (`plan::cgroup::wants_own`), which
/// costs the cgroup2 world one more file.
///
/// # Errors
/// If a file of procfs can't be read.
pub fn facts(wants_own: bool) -> Result<CgroupFacts> {
    let top = Path::new(TOP);
    if mounted(top) == Mounted::V2 {
        let own = if wants_own { own_unified(&own()?) } else { None };
        return Ok(CgroupFacts::Unified(Tree { root: top.to_owned(), own, controllers: Vec::new() }));
    }
    let mut facts = legacy(&read("/proc/self/mountinfo")?, &own()?);
    if let CgroupFacts::Legacy { unified: Some(tree), .. } = &mut facts {
        let list = read_file(&tree.root.join("cgroup.controllers")).context(|| "read the controllers of cgroup2")?;
        tree.controllers = list.split_whitespace().map(str::to_owned).collect();
    }
    Ok(facts)
}

fn read(path: &str) -> Result<String> {
    read_file(Path::new(path)).map_err(Error::from).context(|| format!("read {path}"))
}

fn own() -> Result<String> {
    let path = "/proc/self/cgroup";
    let text = file::contents(Path::new(path), 4096).context(|| format!("read {path}"))?;
    String::from_utf8(text).map_err(|_| Errno::EILSEQ).context(|| format!("read {path}"))
}

fn own_unified(cgroup: &str) -> Option<String> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// One mount of a cgroup file system.
struct Mount<'a> {
    root: String,
    at: String,
    kind: &'a str,
    options: &'a str,
}

/// The cgroup mounts in the text of `mountinfo` (proc(5)), those at the usual place first.
fn mounts(mountinfo: &str) -> Vec<Mount<'_>> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    let mut mounts: Vec<_> = mountinfo::lines(mountinfo.as_bytes())
        .filter(|line| line.kind.starts_with(b"cgroup"))
        .filter_map(|line| {
            let (kind, options) = (str::from_utf8(line.kind).ok()?, str::from_utf8(line.options).ok()?);
            Some(Mount { root: text(line.root)?, at: text(line.at)?, kind, options })
        })
        .collect();
    mounts.sort_by_key(|mount| !Path::new(&mount.at).starts_with(TOP));
    mounts
}

/// The v1 or hybrid world out of `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn legacy(mountinfo: &str, cgroup: &str) -> CgroupFacts {
    let mounts = mounts(mountinfo);
    let mut hierarchies = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(names), Some(own)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let offers = |mount: &&Mount<'_>| {
            mount.kind == "cgroup" && names.split(',').all(|name| mount.options.split(',').any(|option| option == name))
        };
        let name = names.strip_prefix("name=");
        // hierarchies of other init systems are no business of ours, nor is one that is not mounted here
        let ours = !names.is_empty() && name.is_none_or(|name| name == "systemd");
        let Some(mount) = mounts.iter().find(offers).filter(|_| ours) else { continue };
        hierarchies.push(Hierarchy {
            controllers: names.split(',').filter(|_| name.is_none()).map(str::to_owned).collect(),
            name: name.map(str::to_owned),
            mountpoint: PathBuf::from(&mount.at),
            own: seen_from(&mount.root, own),
        });
    }
    let tree = mounts.iter().find(|mount| mount.kind == "cgroup2" && Path::new(&mount.at).starts_with(TOP));
    let unified = tree.map(|mount| Tree {
        root: PathBuf::from(&mount.at),
        own: own_unified(cgroup).map(|own| seen_from(&mount.root, &own)),
        controllers: Vec::new(),
    });
    CgroupFacts::Legacy { hierarchies, unified }
}

/// A cgroup's path below a mount that shows the tree from `root` on; inside containers without a cgroup namespace the
/// two differ. What lies outside of the mount is taken for its top.
fn seen_from(root: &str, own: &str) -> String {
    let inside = Path::new(own).strip_prefix(root).map(|rest| format!("/{}", rest.display()));
    inside.unwrap_or_else(|_| "/".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_hybrid_machine() {
        let mountinfo = "\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 /docker/abc /sys/fs/cgroup/systemd ro - cgroup cgroup rw,xattr,name=systemd
90 23 0:29 / /mnt/a\\040b rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct
34 23 0:30 / /mnt/a\\040b rw - cgroup cgroup rw,freezer
35 30 0:31 / /sys/fs/cgroup/openrc rw - cgroup cgroup rw,name=openrc
";
        let cgroup = "\
5:cpu,cpuacct:/docker/abc/x
4:freezer:/f
3:memory:/not/mounted
2:name=openrc:/
1:name=systemd:/other
0::/docker/abc
";
        let hierarchy = |controllers: &[&str], name: Option<&str>, at: &str, own: &str| Hierarchy {
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            name: name.map(str::to_owned),
            mountpoint: at.into(),
            own: own.into(),
        };
        let want = CgroupFacts::Legacy {
            hierarchies: vec![
                hierarchy(&["cpu", "cpuacct"], None, "/sys/fs/cgroup/cpu,cpuacct", "/x"),
                hierarchy(&["freezer"], None, "/mnt/a b", "/f"),
                hierarchy(&[], Some("systemd"), "/sys/fs/cgroup/systemd", "/"),
            ],
            unified: Some(Tree {
                root: "/sys/fs/cgroup/unified".into(),
                own: Some("/docker/abc".into()),
                controllers: Vec::new(),
            }),
        };
        assert_eq!(legacy(mountinfo, cgroup), want);
    }

    #[test]
    fn finds_itself_in_the_tree() {
        assert_eq!(own_unified("1:cpu:/x\n0::/user.slice/a\n"), Some("/user.slice/a".to_owned()));
        assert_eq!(own_unified("1:cpu:/x\n"), None);
    }
}
