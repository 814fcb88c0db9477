//! The mount namespace in which CRIU restores a container.
//!
//! CRIU wants the root to be a mount point that no other mount covers. We mount it in a mount namespace for CRIU alone: then
//! nothing has to be undone, whichever process is killed, and removing the state directory can't reach the root through it.

use crate::abi::mount::{MS_REC, MS_SLAVE};
use crate::abi::ns::Namespace;
use crate::error::{Context, Error, Result};
use crate::log::Log;
use crate::sys::{file, mount, ns};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// We are in the mount namespace as long as this value lives. A process that is started meanwhile stays there.
pub(super) struct RestoreMountNs<'a> {
    host: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
    log: &'a Log,
}

impl<'a> RestoreMountNs<'a> {
    /// Enters a new mount namespace, in which `rootfs` is also mounted on `at`.
    pub(super) fn enter(rootfs: &Path, at: &Path, log: &'a Log) -> Result<Self> {
        let open = |path, flags| file::open(file::cwd(), path, flags, 0).context(|| format!("open {path:?}"));
        let entered = Self {
            host: open(c"/proc/self/ns/mnt", libc::O_RDONLY)?,
            root: open(c"/", libc::O_PATH | libc::O_DIRECTORY)?,
            directory: open(c".", libc::O_PATH | libc::O_DIRECTORY)?,
            log,
        };
        ns::unshare(Namespace::Mount.into()).context(|| "unshare(mount)")?;
        // mounts of the host propagate into the namespace, and nothing propagates back
        mount::propagate(c"/", MS_SLAVE | MS_REC).context(|| "make mounts slave")?;
        let name =
            |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::msg("a path with a zero byte"));
        let tree = mount::clone_tree(file::cwd(), &name(rootfs)?, true, true)
            .context(|| format!("open_tree({:?})", rootfs.display()))?;
        let mountpoint = file::open(file::cwd(), &name(at)?, libc::O_PATH | libc::O_DIRECTORY, 0);
        let mountpoint = mountpoint.context(|| format!("open {}", at.display()))?;
        mount::attach(tree.as_fd(), mountpoint.as_fd()).context(|| format!("mount the root on {}", at.display()))?;
        Ok(entered)
    }
}

impl Drop for RestoreMountNs<'_> {
    fn drop(&mut self) {
        let back = || {
            ns::join(self.host.as_fd(), Namespace::Mount.into())?;
            // setns has changed our root to that of the namespace, which need not be ours
            file::fchdir(self.root.as_fd())?;
            file::chroot(c".")?;
            file::fchdir(self.directory.as_fd())
        };
        if let Err(errno) = back() {
            self.log.warn(&format!("return to the host's mount namespace: {}", Error::from(errno)));
        }
    }
}
