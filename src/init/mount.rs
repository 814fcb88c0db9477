//! Mounts, devices and what is hidden: each step by descriptors, never by a path twice.

use super::path::{self, Place, Scratch};
use super::{Done, Scene, Trouble, leave, tree};
use crate::abi::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, ATTR_STRICTATIME,
    MS_REMOUNT, MountAttr,
};
use crate::plan::Mapped;
use crate::plan::step::{Slot, Step, Sync};
use crate::sys::file::{self, RESOLVE_NO_MAGICLINKS, cwd, open_in};
use crate::sys::{Answer, Errno, mount};
use crate::wire::{self, Cause};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `PROC_SUPER_MAGIC` (`statfs(2)`).
pub(super) const PROC_MAGIC: i64 = 0x9fa0;

// check: table: one arm a step: what it is made of
pub(super) fn perform(step: &'static Step, scene: &mut Scene<'_>) -> Done {
    match step {
        Step::Remount { target, flags, data } => {
            let place = open_in(scene.root()?, target, libc::O_PATH, 0)?;
            file::enter(place.as_fd())?;
            Ok(mount::filesystem(c"", c".", c"", *flags | MS_REMOUNT, data)?)
        }
        Step::Clone { source, recursive, instead } => {
            scene.put(Slot::TREE, tree::clone_of_host(source, instead.as_deref(), *recursive)?);
            Ok(())
        }
        Step::CloneInside { source, recursive } => {
            let place = open_in(scene.root()?, if source.is_empty() { c"." } else { source }, libc::O_PATH, 0)?;
            let tree = mount::clone_tree(place.as_fd(), c"", *recursive, true)?;
            scene.put(Slot::TREE, tree);
            Ok(())
        }
        Step::Take { slot, .. } => {
            let tree = scene.take(*slot)?;
            scene.put(Slot::TREE, tree);
            Ok(())
        }
        Step::IdMap { mapped, by_host, .. } => map_ids(scene, *mapped, *by_host),
        Step::Attr { slot, attr, recursive } => Ok(mount::set_attr(scene.get(*slot)?, attr, *recursive)?),
        Step::AttrKeepLocked { attr, explicit, host } => keep_locked(scene.get(Slot::TREE)?, attr, *explicit, *host),
        Step::Attach { target, in_proc } => attach(scene, target, *in_proc),
        Step::AttrAt { target, attr, explicit, then } => {
            let place = open_in(scene.root()?, target, libc::O_PATH, 0)?;
            keep_locked(place.as_fd(), attr, *explicit, false)?;
            match then {
                Some((attr, recursive)) => Ok(mount::set_attr(place.as_fd(), attr, *recursive)?),
                None => Ok(()),
            }
        }
        Step::Link { at, path, target } => link(scene, *at, path, target),
        Step::LinkTo { name, target } => match open_in(scene.root()?, target, libc::O_PATH, 0) {
            Ok(found) => {
                leave(found);
                link(scene, Slot::DEV, name, target)
            }
            Err(_) => Ok(()),
        },
        Step::OpenDev => open_dev(scene),
        Step::Node { at, path, mode, device, owner } => node(scene, *at, path, *mode, *device, *owner),
        Step::Unlink { at, path } => match file::unlink(scene.get(*at)?, path, false) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        },
        Step::OpenProc => open_proc(scene),
        Step::WriteProc { file, value, .. } => write_proc(scene, file, value),
        // `super::perform` sends nothing else here
        _ => Err(Errno::ENOSYS.into()),
    }
}

fn map_ids(scene: &Scene<'_>, mapped: Mapped, by_host: bool) -> Done {
    let tree = scene.get(Slot::TREE)?;
    if !by_host {
        return Ok(mount::map_ids(tree, scene.get(mapped.namespace)?, mapped.recursive)?);
    }
    wire::hand(scene.wire, Slot::TREE, tree)?;
    Ok(wire::wait(scene.wire, Sync::IdMapped)?)
}

/// What a remount would do; in a user namespace some flags of the source are locked, and those stay that nobody asked
/// to be cleared. Of a clone that the host made the kernel does not know that, so we look.
fn keep_locked(tree: BorrowedFd<'_>, attr: &MountAttr, explicit: u64, host: bool) -> Done {
    const LOCKABLE: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
    let mut attr = *attr;
    if host {
        // the ST_ flags of these have the numbers of the attributes
        let flags = mount::flags_of(tree)?;
        let locked = flags & LOCKABLE & !attr.set;
        if locked & explicit != 0 || changes_times(&attr, flags) {
            return Err(Errno::EPERM.into());
        }
        attr.clear &= !locked;
    }
    match mount::set_attr(tree, &attr, false) {
        Err(Errno::EPERM) if attr.clear & !explicit != 0 => {
            Ok(mount::set_attr(tree, &MountAttr { clear: attr.clear & explicit, ..attr }, false)?)
        }
        answer => Ok(answer?),
    }
}

/// Whether attributes would change when access times are written, given the `ST_` flags of a mount.
fn changes_times(attr: &MountAttr, flags: u64) -> bool {
    // of linux/statfs.h; not every C library names it
    const ST_RELATIME: u64 = 0x1000;
    const TIMES: u64 = libc::ST_NOATIME | libc::ST_NODIRATIME | ST_RELATIME;
    let mut wanted = match attr.set & ATTR_ATIME {
        ATTR_NOATIME => libc::ST_NOATIME,
        ATTR_STRICTATIME => 0,
        _ => ST_RELATIME,
    };
    if attr.set & ATTR_NODIRATIME != 0 {
        wanted |= libc::ST_NODIRATIME;
    }
    attr.clear & ATTR_ATIME != 0 && flags & TIMES != wanted
}

/// A mount in a procfs can make it say what is not so, to the container and to who comes to join it. The plan has judged the
/// spelling of a target; where links of the image led somewhere else, that place is judged.
pub(super) fn outside_proc(place: &Place, in_proc: bool) -> Done {
    let judged = place.literal || in_proc;
    if !judged && file::filesystem(place.fd.as_fd())? == PROC_MAGIC { Err(Cause::InProc.into()) } else { Ok(()) }
}

/// Makes the container's `/dev` the working directory, as long as steps follow that name what lies in it.
pub(super) fn enter_dev(scene: &mut Scene<'_>) -> Answer<()> {
    if !scene.in_dev {
        file::enter(scene.get(Slot::DEV)?)?;
        scene.in_dev = true;
    }
    Ok(())
}

/// Opens the image's own `/dev`. What is mounted there, by whatever name, is not the image's: it may be the host's, whose
/// nodes nobody wants to see replaced.
fn open_dev(scene: &mut Scene<'_>) -> Done {
    let dev = path::directory(scene.root()?, c"/dev")?;
    if mount::id_of(dev.as_fd())? != mount::id_of(scene.root()?)? {
        return Err(Cause::ForeignDev.into());
    }
    scene.put(Slot::DEV, dev);
    Ok(())
}

fn attach(scene: &mut Scene<'_>, target: &CStr, in_proc: bool) -> Done {
    let tree = scene.take(Slot::TREE)?;
    let is_directory = file::stat(tree.as_fd())?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    if target == c"/proc" && file::filesystem(tree.as_fd())? != PROC_MAGIC {
        return Err(Cause::NotProcfs.into());
    }
    let place = path::target(scene.root()?, target, is_directory)?;
    outside_proc(&place, in_proc)?;
    let place = place.fd;
    match mount::attach(tree.as_fd(), place.as_fd()) {
        // what mount(2) says when only one of the two is a directory
        Err(Errno::EINVAL) if (file::stat(place.as_fd())?.st_mode & libc::S_IFMT == libc::S_IFDIR) != is_directory => {
            return Err(Errno::ENOTDIR.into());
        }
        Err(Errno::ELOOP) if scene.get(Slot::MOUNTS).is_ok() => {
            mount::attach(tree::without_namespaces(scene, tree.as_fd())?.as_fd(), place.as_fd())?;
        }
        answer => answer?,
    }
    leave(tree);
    leave(place);
    Ok(())
}

/// Relative to a directory that is known, a name needs no resolving; a path from the root gets its parents made.
fn within<T>(scene: &Scene<'_>, at: Slot, path: &CStr, act: impl Fn(BorrowedFd<'_>, &CStr) -> Answer<T>) -> Answer<T> {
    if at == Slot::ROOT { below_root(scene, path, act) } else { act(scene.get(at)?, path) }
}

#[cold]
#[inline(never)]
fn below_root<T>(scene: &Scene<'_>, path: &CStr, act: impl Fn(BorrowedFd<'_>, &CStr) -> Answer<T>) -> Answer<T> {
    let (parent, name) = path::parent(scene.root()?, path)?;
    act(parent.as_fd(), name.as_c()?)
}

fn link(scene: &Scene<'_>, at: Slot, path: &CStr, target: &CStr) -> Done {
    match within(scene, at, path, |dir, name| file::symlink(target, dir, name)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn node(scene: &mut Scene<'_>, at: Slot, path: &CStr, mode: u32, device: u64, owner: Option<(u32, u32)>) -> Done {
    let nofollow = libc::AT_SYMLINK_NOFOLLOW;
    let made = within(scene, at, path, |dir, name| file::mknod(dir, name, mode, device));
    if at == Slot::DEV && path == c"null" {
        scene.own_null = scene.own_dev && made.is_ok() && device == file::device(1, 3);
    }
    match made {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let found = within(scene, at, path, |dir, name| file::stat_at(dir, name, nofollow))?;
            let fifo = mode & libc::S_IFMT == libc::S_IFIFO;
            if found.st_mode & libc::S_IFMT != mode & libc::S_IFMT || (!fifo && found.st_rdev != device) {
                return Err(Cause::OtherNode.into());
            }
        }
        Err(Errno::EPERM) => return bind_node(scene, at, path, mode, device),
        Err(errno) => return Err(errno.into()),
    }
    if let Some((uid, gid)) = owner {
        within(scene, at, path, |dir, name| file::chown(dir, name, Some(uid), Some(gid), nofollow))?;
    }
    Ok(())
}

/// The host's node of the same name and number, which root of a user namespace may not make; it stays the host's, with
/// its owner and permissions.
#[cold]
#[inline(never)]
fn bind_node(scene: &mut Scene<'_>, at: Slot, path: &CStr, mode: u32, device: u64) -> Done {
    let mut whole = Scratch::new(if at == Slot::DEV { c"/dev/" } else { c"" })?;
    whole.push(path.to_bytes())?;
    let tree = tree::late(scene, whole.as_c()?, false)?;
    let found = file::stat(tree.as_fd())?;
    if found.st_mode & libc::S_IFMT != mode & libc::S_IFMT || found.st_rdev != device {
        return Err(Cause::OtherNode.into());
    }
    scene.put(Slot::TREE, tree);
    attach(scene, whole.as_c()?, false)
}

fn open_proc(scene: &mut Scene<'_>) -> Done {
    let proc = match mount::detached(c"proc", ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC) {
        Ok(proc) => proc,
        Err(_) => mounted_proc()?,
    };
    scene.put(Slot::PROC, proc);
    Ok(())
}

pub(super) fn mounted_proc() -> Result<OwnedFd, Trouble> {
    let proc = file::open(cwd(), c"/proc", libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
    if file::filesystem(proc.as_fd())? == PROC_MAGIC { Ok(proc) } else { Err(Cause::NotProcfs.into()) }
}

fn open_proc_file(proc: BorrowedFd<'_>, name: &CStr) -> Answer<OwnedFd> {
    let resolve = file::RESOLVE_BENEATH | file::RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
    file::openat2(proc, name, libc::O_WRONLY, 0, resolve)
}

/// Some security modules judge a detached procfs by a path that their rules do not know (AppArmor in LXC): what they
/// deny there is tried on the mounted procfs, which is verified.
fn write_proc(scene: &Scene<'_>, name: &CStr, value: &CStr) -> Done {
    let opened = match open_proc_file(scene.get(Slot::PROC)?, name) {
        Err(Errno::EACCES | Errno::EPERM) => open_proc_file(mounted_proc()?.as_fd(), name),
        // kernels before 5.8 have AppArmor's file one level up only
        Err(Errno::ENOENT) if name == c"self/attr/apparmor/exec" => {
            open_proc_file(scene.get(Slot::PROC)?, c"self/attr/exec")
        }
        answer => answer,
    };
    Ok(file::write(opened?.as_fd(), value.to_bytes())?)
}
