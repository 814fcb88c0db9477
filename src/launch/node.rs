//! Device nodes for a user namespace, in which init can make none.

use crate::abi::mount::{ATTR_NOEXEC, ATTR_NOSUID, MS_SLAVE, MountAttr};
use crate::error::{Context, Error, Result};
use crate::facts::host_node;
use crate::spec::clean_in_root;
use crate::sys::file::{self, cwd};
use crate::sys::{Answer, Errno, mount};
use oci_spec::runtime::{LinuxDeviceType, Spec};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

/// A detached mount of a device node: one that is made, with owner and permissions as asked; or the host's with the same number,
/// where there is no owner to give it to, or the kernel refuses.
pub(super) fn open(source: &CStr, mode: u32, device: u64, owner: Option<(u32, u32)>) -> Result<OwnedFd> {
    match owner.map(|owner| made(mode, device, owner)) {
        Some(Ok(node)) => return Ok(node),
        // EPERM: we may make no devices either, or not this one (a device cgroup). EINVAL: a kernel before 6.15 clones nothing
        // that is mounted nowhere
        Some(Err(Errno::EPERM | Errno::EINVAL)) | None => {}
        Some(Err(errno)) => return Err(errno).context(|| format!("make device {}", numbers(device))),
    }
    let Some(found) = host_node(source, mode, device) else {
        let text = format!("device {} can't be made, and the host has it neither here nor in /dev", numbers(device));
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
fn made(mode: u32, device: u64, (uid, gid): (u32, u32)) -> Answer<OwnedFd> {
    const NAME: &CStr = c"node";
    let place = mount::new(c"tmpfs", c"tmpfs", c"mode=700,nr_inodes=2", 0, ATTR_NOSUID | ATTR_NOEXEC)?;
    file::mknod(place.as_fd(), NAME, mode, device)?;
    file::chown(place.as_fd(), NAME, Some(uid), Some(gid), libc::AT_SYMLINK_NOFOLLOW)?;
    // whatever the umask is
    file::chmod(place.as_fd(), NAME, mode & 0o7777)?;
    mount::clone_tree(place.as_fd(), NAME, false, false)
}

fn numbers(device: u64) -> String {
    format!("{}:{}", libc::major(device), libc::minor(device))
}

/// The devices of a bundle that the host has at other paths, by the bundle's paths.
pub(super) fn elsewhere(spec: &Spec) -> BTreeMap<String, CString> {
    let devices = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let node = |device: &oci_spec::runtime::LinuxDevice| {
        let kind = if device.typ() == LinuxDeviceType::B { libc::S_IFBLK } else { libc::S_IFCHR };
        let number = file::device(u32::try_from(device.major()).ok()?, u32::try_from(device.minor()).ok()?);
        let path = clean_in_root(device.path());
        let found = host_node(&CString::new(path.as_str()).ok()?, kind, number)?;
        Some((path, found))
    };
    devices.iter().filter(|device| device.typ() != LinuxDeviceType::P).filter_map(node).collect()
}
