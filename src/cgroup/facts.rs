//! Finds the cgroup file systems of this machine. May use sys and the plan's types.

use super::members::unified;
use crate::error::{Context, Result};
use crate::plan::cgroup::{CgroupFacts, Hierarchy, Tree};
use crate::sys::cgroupfs::{AT_FDCWD, Mounted, mounted, read_line_at};
use crate::sys::{file, mountinfo};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where cgroups are mounted, on every distribution.
const TOP: &str = "/sys/fs/cgroup";
/// The mount table: the only source for where a v1 hierarchy is mounted, and which part of it.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Finds the cgroup file systems. With `wants_own` also our own cgroup (`plan::cgroup::wants_own`), for which one more file
/// must be read where there is only cgroup2.
///
/// # Errors
/// A file of procfs can't be read.
pub fn facts(wants_own: bool) -> Result<CgroupFacts> {
    let top = Path::new(TOP);
    if mounted(top) == Mounted::V2 {
        let own = if wants_own { unified(&own()?).map(Path::to_owned) } else { None };
        return Ok(CgroupFacts::Unified(Tree { root: top.to_owned(), own, controllers: Vec::new() }));
    }
    let own = own()?;
    let table = file::open_path(Path::new(MOUNTS), libc::O_RDONLY, 0);
    let mountinfo = table.and_then(|table| needed(BufReader::new(table), &own)).context(|| format!("read {MOUNTS}"))?;
    let mut facts = legacy(&mountinfo, &own);
    if let CgroupFacts::Legacy { unified: Some(tree), .. } = &mut facts {
        let list = read_line_at(AT_FDCWD, &tree.root.join("cgroup.controllers"))
            .context(|| "read the controllers of cgroup2")?;
        tree.controllers = list.split_whitespace().map(str::to_owned).collect();
    }
    Ok(facts)
}

fn own() -> Result<Vec<u8>> {
    let path = "/proc/self/cgroup";
    file::contents(Path::new(path), 4096).context(|| format!("read {path}"))
}

/// The lines of cgroup file systems in `mountinfo`, read until there is one below [`TOP`] for each hierarchy: those were
/// mounted at boot, so they come before the thousands of mounts that engines may add.
fn needed(mut mountinfo: impl BufRead, cgroup: &[u8]) -> std::io::Result<Vec<u8>> {
    let (mut found, mut line) = (Vec::new(), Vec::new());
    while mountinfo.read_until(b'\n', &mut line)? > 0 {
        if mountinfo::lines(&line).any(|line| line.kind.starts_with(b"cgroup")) {
            found.append(&mut line);
            if is_enough(&found, cgroup) {
                break;
            }
        }
        line.clear();
    }
    Ok(found)
}

fn is_enough(mountinfo: &[u8], cgroup: &[u8]) -> bool {
    let mounts = mounts(mountinfo);
    let mut usual = mounts.iter().filter(|mount| mount.at.starts_with(TOP));
    wanted(cgroup).all(|(names, _)| usual.clone().any(|mount| mount.offers(names)))
        && (unified(cgroup).is_none() || usual.any(|mount| mount.kind == b"cgroup2"))
}

/// One mount of a cgroup file system.
struct Mount<'a> {
    root: PathBuf,
    at: PathBuf,
    kind: &'a [u8],
    options: &'a [u8],
}

impl Mount<'_> {
    /// Whether it is the v1 hierarchy of these controllers, or of this name.
    fn offers(&self, names: &str) -> bool {
        let has = |name: &str| self.options.split(|byte| *byte == b',').any(|option| option == name.as_bytes());
        self.kind == b"cgroup" && names.split(',').all(has)
    }
}

/// The v1 hierarchies in the text of `/proc/PID/cgroup` that we use, and the process's cgroup in each: all with controllers,
/// and systemd's named one, but none of other init systems.
fn wanted(cgroup: &[u8]) -> impl Iterator<Item = (&str, &Path)> {
    cgroup.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':').skip(1);
        // names that are not UTF-8 are neither a controller's nor systemd's
        let names = str::from_utf8(fields.next()?).ok()?;
        let own = Path::new(OsStr::from_bytes(fields.next()?));
        let ours = !names.is_empty() && names.strip_prefix("name=").is_none_or(|name| name == "systemd");
        ours.then_some((names, own))
    })
}

/// The cgroup mounts in the text of `mountinfo` (proc(5)), those below [`TOP`] first.
fn mounts(mountinfo: &[u8]) -> Vec<Mount<'_>> {
    let path = |bytes| PathBuf::from(OsString::from_vec(bytes));
    let mut mounts: Vec<_> = mountinfo::lines(mountinfo)
        .filter(|line| line.kind.starts_with(b"cgroup"))
        .map(|line| Mount { root: path(line.root), at: path(line.at), kind: line.kind, options: line.options })
        .collect();
    mounts.sort_by_key(|mount| !mount.at.starts_with(TOP));
    mounts
}

/// The facts of a v1 or hybrid machine, from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn legacy(mountinfo: &[u8], cgroup: &[u8]) -> CgroupFacts {
    let mounts = mounts(mountinfo);
    let mut hierarchies = Vec::new();
    for (names, own) in wanted(cgroup) {
        let name = names.strip_prefix("name=");
        // a hierarchy that is not mounted can't be used
        let Some(mount) = mounts.iter().find(|mount| mount.offers(names)) else { continue };
        hierarchies.push(Hierarchy {
            controllers: names.split(',').filter(|_| name.is_none()).map(str::to_owned).collect(),
            name: name.map(str::to_owned),
            mountpoint: mount.at.clone(),
            own: seen_from(&mount.root, own),
        });
    }
    let tree = mounts.iter().find(|mount| mount.kind == b"cgroup2" && mount.at.starts_with(TOP));
    let unified = tree.map(|mount| Tree {
        root: mount.at.clone(),
        own: unified(cgroup).map(|own| seen_from(&mount.root, own)),
        controllers: Vec::new(),
    });
    CgroupFacts::Legacy { hierarchies, unified }
}

/// A cgroup's path relative to a mount that shows the hierarchy from `root` on. (`root` is not `/` in a container without a
/// cgroup namespace.) A cgroup outside the mount is taken for the mount's root.
fn seen_from(root: &Path, own: &Path) -> PathBuf {
    Path::new("/").join(own.strip_prefix(root).unwrap_or(Path::new("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_hybrid_machine() {
        let mountinfo = b"\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 /docker/abc /sys/fs/cgroup/systemd ro - cgroup cgroup rw,xattr,name=systemd
90 23 0:29 / /mnt/a\\040b rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct
34 23 0:30 / /mnt/\xff\\040b rw - cgroup cgroup rw,freezer
91 23 0:40 / /mnt/\xff\xfe\\012c rw - tmpfs \xff rw
92 23 0:41 / /mnt/- rw - fuse.\xff cgroup rw,memory
35 30 0:31 / /sys/fs/cgroup/openrc rw - cgroup cgroup rw,name=openrc
";
        let cgroup = b"\
5:cpu,cpuacct:/docker/abc/x
4:freezer:/f:\xff
3:memory:/not/mounted
2:name=openrc:/
1:name=systemd:/other
0::/docker/abc
";
        let hierarchy = |controllers: &[&str], name: Option<&str>, at: &[u8], own: &[u8]| Hierarchy {
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            name: name.map(str::to_owned),
            mountpoint: PathBuf::from(OsStr::from_bytes(at)),
            own: PathBuf::from(OsStr::from_bytes(own)),
        };
        let want = CgroupFacts::Legacy {
            hierarchies: vec![
                hierarchy(&["cpu", "cpuacct"], None, b"/sys/fs/cgroup/cpu,cpuacct", b"/x"),
                hierarchy(&["freezer"], None, b"/mnt/\xff b", b"/f:\xff"),
                hierarchy(&[], Some("systemd"), b"/sys/fs/cgroup/systemd", b"/"),
            ],
            unified: Some(Tree {
                root: "/sys/fs/cgroup/unified".into(),
                own: Some("/docker/abc".into()),
                controllers: Vec::new(),
            }),
        };
        assert_eq!(legacy(mountinfo, cgroup), want);
        assert_eq!(legacy(&needed(&mountinfo[..], cgroup).unwrap(), cgroup), want);
    }

    #[test]
    fn the_table_is_read_as_far_as_it_is_needed() {
        let systemd = "32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let elsewhere = "33 30 0:29 / /mnt/cpu rw - cgroup cgroup rw,cpu\n";
        let cpu = "34 30 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let tree = "35 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let others = "36 30 0:31 / /data rw - ext4 /dev/sdb rw\n".repeat(100);
        let (v1, hybrid) = (&b"2:cpu:/\n1:name=systemd:/\n"[..], &b"2:cpu:/\n1:name=systemd:/\n0::/\n"[..]);
        for (parts, cgroup, left) in [
            (vec![&*others, systemd, elsewhere, cpu, &others], v1, others.len()),
            (vec![systemd, elsewhere, cpu, tree, &others], hybrid, others.len()),
            // what is missing at the usual place may come later
            (vec![systemd, elsewhere, cpu, &others], hybrid, 0),
            (vec![systemd, elsewhere, &others], v1, 0),
        ] {
            let text = parts.concat();
            let mut reader = text.as_bytes();
            let found = needed(&mut reader, cgroup).unwrap();
            assert_eq!(reader.len(), left, "{text}");
            assert_eq!(legacy(&found, cgroup), legacy(text.as_bytes(), cgroup), "{text}");
        }
    }
}
