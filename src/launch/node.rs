//! Device nodes for a user namespace, in which init can make none.

use crate::abi::mount::{ATTR_NOEXEC, ATTR_NOSUID, MS_SLAVE, MountAttr};
use crate::error::{Context, Error, Result};
use crate::plan;
use crate::sys::file::{self, cwd};
use crate::sys::{Answer, Errno, device, mount};
use oci_spec::runtime::Linux;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

/// A detached mount of a device node: one that is made, with owner and permissions as asked; or the host's with the same number,
/// where there is no owner to give it to, or the kernel refuses.
pub(super) fn open(source: &CStr, mode: u32, number: u64, owner: Option<(u32, u32)>) -> Result<OwnedFd> {
    match owner.map(|owner| made(mode, number, owner)) {
        Some(Ok(node)) => return Ok(node),
        // EPERM: we may make no devices either, or not this one (a device cgroup). EINVAL: a kernel before 6.15 clones nothing
        // that is mounted nowhere
        Some(Err(Errno::EPERM | Errno::EINVAL)) | None => {}
        Some(Err(errno)) => return Err(errno).context(|| format!("make device {}", device::numbers(number))),
    }
    let Some(found) = device::find(source, mode, number) else {
        let text =
            format!("device {} can't be made, and the host has it neither here nor in /dev", device::numbers(number));
        return Err(Error::from(Errno::ENOENT).context(text));
    };
    let attr = MountAttr { set: ATTR_NOSUID | ATTR_NOEXEC, propagation: MS_SLAVE, ..MountAttr::default() };
    let bound = || {
        let tree = mount::clone_tree(cwd(), &found, false, true)?;
        mount::set_attr(tree.as_fd(), &attr, false)?;
        Ok::<_, Errno>(tree)
    };
    bound().context(|| format!("open_tree({:?})", found.to_string_lossy()))
}

/// Makes a node in a file system of its own, which is mounted nowhere. The clone of the node shows nothing else of it.
fn made(mode: u32, number: u64, (uid, gid): (u32, u32)) -> Answer<OwnedFd> {
    const NAME: &CStr = c"node";
    let place = mount::new(c"tmpfs", c"tmpfs", c"mode=700,nr_inodes=2", 0, ATTR_NOSUID | ATTR_NOEXEC)?;
    file::mknod(place.as_fd(), NAME, mode, number)?;
    file::chown(place.as_fd(), NAME, Some(uid), Some(gid), libc::AT_SYMLINK_NOFOLLOW)?;
    // whatever the umask is
    file::chmod(place.as_fd(), NAME, mode & 0o7777)?;
    mount::clone_tree(place.as_fd(), NAME, false, false)
}

/// Where the host has the devices of a bundle, by the bundle's paths. Queried only if init may have to bind them:
/// `foreign_mounts` for a container with a user namespace, and a caller that can make no devices for another.
pub(super) fn elsewhere(linux: Option<&Linux>, foreign_mounts: Option<bool>) -> BTreeMap<String, CString> {
    let devices = linux.map(plan::listed_devices).unwrap_or_default();
    if devices.is_empty() || !foreign_mounts.unwrap_or_else(device::can_make_none) {
        return BTreeMap::new();
    }
    let found = |(path, mode, number): (String, u32, u64)| {
        let found = device::find(&CString::new(path.as_str()).ok()?, mode, number)?;
        Some((path, found))
    };
    devices.into_iter().filter_map(found).collect()
}
