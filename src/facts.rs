//! Features of this machine and privileges of the caller: queried when needed, constants in tests.

use crate::error::{Context, Result};
use crate::sys::file::{self, cwd};
use crate::sys::{cred, kernel, mountinfo, ns};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Security modules with labels for processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lsm {
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on.
    pub selinux: bool,
}

/// The caller and the machine.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Real and effective user and group ids are all 0 in this user namespace.
    pub root: bool,
    /// The effective user is not root of our user namespace: privileged actions are done in the container's user namespace.
    pub unprivileged: bool,
    /// The host half may not clone mounts, because its mount namespace belongs to another user namespace; so init does. Queried
    /// only with `clones`.
    pub foreign_mounts: bool,
    /// We are in a user namespace other than the initial one, where the kernel mounts a procfs only if a complete one is visible
    /// (`mount_too_revealing`). Queried only with `clones`.
    pub nested: bool,
    /// A mount namespace can be created from one mount (`OPEN_TREE_NAMESPACE`, Linux 7.0).
    pub namespaces_of_trees: bool,
    /// Where complete instances of proc and sysfs are mounted outside the root, the deepest first. Queried only for
    /// `--no-pivot`, which leaves them in the mount namespace.
    pub instances: Vec<CString>,
    /// What these paths of the host say, which are symbolic links; asked only for sources of mounts with `copy-symlink`.
    pub links: BTreeMap<PathBuf, Vec<u8>>,
    /// Where the host has the devices of the bundle that are not at their own paths there, by these paths; asked only where
    /// init binds them.
    pub nodes: BTreeMap<String, CString>,
    /// Security modules.
    pub lsm: Lsm,
}

impl Facts {
    /// Queries the kernel. `labels`: the bundle has labels, so security modules matter. `clones`: the host half would clone
    /// mounts, for a user namespace or a joined namespace.
    #[must_use]
    pub fn ask(labels: bool, clones: bool) -> Self {
        let unprivileged = !cred::is_privileged();
        Self {
            root: cred::is_root(),
            unprivileged,
            foreign_mounts: unprivileged || (clones && !ns::owns_mounts()),
            nested: clones && ns::in_user_namespace(),
            namespaces_of_trees: false,
            instances: Vec::new(),
            links: BTreeMap::new(),
            nodes: BTreeMap::new(),
            lsm: if labels { lsm() } else { Lsm::default() },
        }
    }

    /// Queries what only the creation of a container needs: whether its mount namespace can be created from the root alone.
    #[must_use]
    pub fn of_trees(self) -> Self {
        Self { namespaces_of_trees: kernel::makes_namespaces_of_trees(), ..self }
    }

    /// Asks which of these paths are symbolic links, and what they say. A path below `root` is resolved inside it, as links of
    /// the image must lead nowhere else.
    #[must_use]
    pub fn of_links(self, paths: impl Iterator<Item = PathBuf>, root: &Path) -> Self {
        let links = paths.filter_map(|path| Some((path.clone(), link(&path, root)?))).collect();
        Self { links, ..self }
    }

    /// Queries what only `--no-pivot` needs.
    ///
    /// # Errors
    /// `/proc/self/mountinfo` cannot be read.
    pub fn of_instances(self, root: &Path) -> Result<Self> {
        let text = std::fs::read("/proc/self/mountinfo").context(|| "read /proc/self/mountinfo")?;
        // a root that does not exist fails later, when it is opened
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        Ok(Self { instances: instances(&text, &root), ..self })
    }
}

/// Full procfs and sysfs mounts outside the root file system. While one of them stays visible, the kernel lets a nested user
/// namespace mount a fresh, unmasked instance (`mount_too_revealing`).
fn instances(mountinfo: &[u8], root: &Path) -> Vec<CString> {
    let mut found: Vec<CString> = mountinfo::lines(mountinfo)
        .filter(|line| matches!(line.kind, b"proc" | b"sysfs") && line.root == b"/")
        // skip mounts inside the root (the container's own) and those that the root lies in
        .filter(|line| {
            let at = Path::new(OsStr::from_bytes(&line.at));
            !at.starts_with(root) && !root.starts_with(at)
        })
        .filter_map(|line| CString::new(line.at).ok())
        .collect();
    let depth = |path: &CString| path.as_bytes().iter().filter(|byte| **byte == b'/').count();
    found.sort_by(|one, other| depth(other).cmp(&depth(one)).then_with(|| one.cmp(other)));
    // stacked mounts on one path are handled by one entry
    found.dedup();
    found
}

/// What a symbolic link says; nothing if the path is none, or can't be read: the mount of it will tell.
fn link(path: &Path, root: &Path) -> Option<Vec<u8>> {
    let c_path = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let opened = match path.strip_prefix(root) {
        Ok(inside) => {
            let root = file::open(cwd(), &c_path(root)?, libc::O_PATH | libc::O_DIRECTORY, 0).ok()?;
            file::open_in(root.as_fd(), &c_path(inside)?, flags, 0).ok()?
        }
        Err(_) => file::open(cwd(), &c_path(path)?, flags, 0).ok()?,
    };
    let mut buffer = vec![0; libc::PATH_MAX as usize];
    file::readlink(opened.as_fd(), c"", &mut buffer).ok().map(<[u8]>::to_vec)
}

fn lsm() -> Lsm {
    let mut answer = [0u8; 1];
    let apparmor = file::open(cwd(), c"/sys/module/apparmor/parameters/enabled", libc::O_RDONLY, 0)
        .and_then(|file| file::read(file.as_fd(), &mut answer))
        .is_ok_and(|_| answer == *b"Y");
    let selinux = file::stat_at(cwd(), c"/sys/fs/selinux/enforce", 0).is_ok();
    Lsm { apparmor, selinux }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_outside_of_the_root_are_found_the_deepest_first() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/root rw\n\
                     2 1 0:2 / /proc rw - proc proc rw\n\
                     3 1 0:3 / /sys rw - sysfs sysfs rw\n\
                     4 2 0:4 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\n\
                     5 1 0:2 /self /one rw - proc proc rw\n\
                     6 1 0:2 / /b/root/proc rw - proc proc rw\n\
                     7 1 0:2 / /b/rootless/a\\040b rw - proc proc rw\n\
                     8 1 0:2 / /b rw - proc proc rw\n\
                     9 2 0:2 / /proc rw - proc proc rw\n";
        let found = instances(text, Path::new("/b/root"));
        assert_eq!(found, [c"/b/rootless/a b", c"/proc", c"/sys"].map(CString::from));
    }
}
