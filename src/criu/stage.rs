//! The mount namespace in which CRIU brings a container back.
//!
//! CRIU wants the root to be a mount that nothing above covers. It is made in a mount namespace for CRIU alone: nothing
//! is to be undone, whoever of us is killed, and no removal of the state directory can reach the root through it.

use crate::abi::mount::{MS_REC, MS_SLAVE};
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Context, Error, Result};
use crate::log::Log;
use crate::sys::{file, mount, ns};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// We are on the stage as long as this value lives; who is started meanwhile stays there.
pub(super) struct Stage<'a> {
    namespace: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
    log: &'a Log,
}

fn mounts() -> Namespaces {
    let mut kinds = Namespaces::default();
    kinds.insert(Namespace::Mount);
    kinds
}

impl<'a> Stage<'a> {
    /// Enters a new one, where `rootfs` is also mounted on `at`.
    pub(super) fn enter(rootfs: &Path, at: &Path, log: &'a Log) -> Result<Self> {
        let open = |path, flags| file::open(file::cwd(), path, flags, 0).context(|| format!("open {path:?}"));
        let stage = Self {
            namespace: open(c"/proc/self/ns/mnt", libc::O_RDONLY)?,
            root: open(c"/", libc::O_PATH | libc::O_DIRECTORY)?,
            directory: open(c".", libc::O_PATH | libc::O_DIRECTORY)?,
            log,
        };
        ns::unshare(mounts()).context(|| "unshare(mount)")?;
        // what the host mounts and unmounts goes on; what is mounted here stays here
        mount::propagate(c"/", MS_SLAVE | MS_REC).context(|| "make mounts slave")?;
        let name =
            |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::msg("a path with a zero byte"));
        let tree = mount::clone_tree(file::cwd(), &name(rootfs)?, true, true)
            .context(|| format!("open_tree({:?})", rootfs.display()))?;
        let place = file::open(file::cwd(), &name(at)?, libc::O_PATH | libc::O_DIRECTORY, 0);
        let place = place.context(|| format!("open {}", at.display()))?;
        mount::attach(tree.as_fd(), place.as_fd()).context(|| format!("mount the root on {}", at.display()))?;
        Ok(stage)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        let back = || {
            ns::join(self.namespace.as_fd(), mounts())?;
            // joining has put us at the root of the namespace, which need not be our own
            file::fchdir(self.root.as_fd())?;
            file::chroot(c".")?;
            file::fchdir(self.directory.as_fd())
        };
        if let Err(errno) = back() {
            self.log.warn(&format!("return to the host's mount namespace: {}", Error::from(errno)));
        }
    }
}
