//! What this machine and this caller can do: asked when needed, a literal in tests.

use crate::sys::file::{self, cwd};
use crate::sys::{cred, kernel, ns};

/// Security modules that give labels.
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
    /// User and group, real and effective, are root's of this user namespace.
    pub root: bool,
    /// The effective user is not root, not even of a user namespace: what needs rights is done in the container's own.
    pub unprivileged: bool,
    /// The host half can't clone what is mounted, so init does; asked only for bundles with a user namespace.
    pub foreign_mounts: bool,
    /// A mount namespace can be made of one tree, and entered (Linux 7.0).
    pub namespaces_of_trees: bool,
    /// Security modules.
    pub lsm: Lsm,
}

impl Facts {
    /// Asks. Security modules are looked for only if the bundle names a label, mounts only if it has a user namespace
    /// for which they would be cloned.
    #[must_use]
    pub fn ask(labels: bool, user_namespace: bool) -> Self {
        let unprivileged = !cred::is_privileged();
        Self {
            root: cred::is_root(),
            unprivileged,
            foreign_mounts: unprivileged || (user_namespace && !ns::owns_mounts()),
            namespaces_of_trees: false,
            lsm: if labels { lsm() } else { Lsm::default() },
        }
    }

    /// Asks what matters to whoever makes a container: whether its mount namespace can be made of its root.
    #[must_use]
    pub fn of_trees(self) -> Self {
        Self { namespaces_of_trees: kernel::makes_namespaces_of_trees(), ..self }
    }
}

fn lsm() -> Lsm {
    let mut answer = [0u8; 1];
    let apparmor = file::open(cwd(), c"/sys/module/apparmor/parameters/enabled", libc::O_RDONLY, 0)
        .and_then(|file| file::read(std::os::fd::AsFd::as_fd(&file), &mut answer))
        .is_ok_and(|_| answer == *b"Y");
    let selinux = file::stat_at(cwd(), c"/sys/fs/selinux/enforce", 0).is_ok();
    Lsm { apparmor, selinux }
}
