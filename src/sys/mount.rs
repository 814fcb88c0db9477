//! Mounts: `mount(2)` taken apart by what it does, and the descriptor-based calls of Linux 5.2 and later.

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use super::{Answer, Errno, call, check, owned};
use crate::abi::mount::{ATTR_IDMAP, MS_DIRSYNC, MS_LAZYTIME, MS_RDONLY, MS_REC, MS_SYNCHRONOUS, MountAttr};
use nix::mount::{MntFlags, MsFlags};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

// of linux/stat.h; not every C library names them
const STATX_MNT_ID: u32 = 0x1000;
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// An argument of `mount(2)` that the kind of change leaves out.
const NONE: Option<&CStr> = None;

fn raw(fd: BorrowedFd<'_>) -> usize {
    fd.as_raw_fd().cast_unsigned() as usize
}

/// `mount(2)` of a new file system (or a remount, with `MS_REMOUNT`) on a path; `"."` after `file::fchdir` is a path
/// that can't be exchanged.
///
/// # Errors
/// `EPERM` in a user namespace also means that the host's instance is partly covered (`mount_too_revealing`).
pub fn filesystem(source: &CStr, target: &CStr, fstype: &CStr, flags: u64, data: &CStr) -> Answer<()> {
    let data = if data.is_empty() { None } else { Some(data) };
    nix::mount::mount(Some(source), target, Some(fstype), MsFlags::from_bits_retain(flags), data)
}

/// `mount(2)` that changes how a mount propagates (`MS_SHARED`, `MS_SLAVE`, … with or without `MS_REC`).
///
/// # Errors
/// `EINVAL`: the path is no mount point.
pub fn propagate(target: &CStr, flags: u64) -> Answer<()> {
    nix::mount::mount(NONE, target, NONE, MsFlags::from_bits_retain(flags), NONE)
}

/// `mount(2)` with `MS_MOVE`: the mount under `source` moves to `target`.
///
/// # Errors
/// The kernel's answer.
pub fn move_to(source: &CStr, target: &CStr) -> Answer<()> {
    nix::mount::mount(Some(source), target, NONE, MsFlags::MS_MOVE, NONE)
}

/// Of `open_tree(2)`: the copy of the tree becomes the root of a new mount namespace.
pub(super) const OPEN_TREE_NAMESPACE: usize = 2;

/// `open_tree(2)` with `OPEN_TREE_NAMESPACE` (Linux 7.0) on a directory: a new mount namespace that holds a copy of what
/// is mounted there and below, and nothing else. Mount namespaces that are mounted somewhere in the tree stay behind, as
/// they do when a namespace is copied whole. An empty path means the descriptor itself.
///
/// # Errors
/// `EINVAL`: the place belongs to another mount namespace, or is unbindable.
pub fn namespace_of_tree(dir: BorrowedFd<'_>, path: &CStr) -> Answer<OwnedFd> {
    let mut flags =
        OPEN_TREE_NAMESPACE | libc::O_CLOEXEC as usize | (libc::AT_RECURSIVE | libc::AT_NO_AUTOMOUNT) as usize;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as usize;
    }
    unsafe { call(libc::SYS_open_tree, [raw(dir), path.as_ptr() as usize, flags, 0, 0]) }.map(owned)
}

/// `open_tree(2)` with `OPEN_TREE_CLONE` (Linux 5.2): a detached copy of what is mounted there. An empty path means the
/// descriptor itself.
///
/// # Errors
/// `EINVAL`: the place belongs to another mount namespace, or is unbindable.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool, follow: bool) -> Answer<OwnedFd> {
    let flags = clone_flags(path, recursive, follow);
    unsafe { call(libc::SYS_open_tree, [raw(dir), path.as_ptr() as usize, flags, 0, 0]) }.map(owned)
}

fn clone_flags(path: &CStr, recursive: bool, follow: bool) -> usize {
    const OPEN_TREE_CLONE: usize = 1;
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as usize | libc::AT_NO_AUTOMOUNT as usize;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as usize;
    }
    if recursive {
        flags |= libc::AT_RECURSIVE as usize;
    }
    if !follow {
        flags |= libc::AT_SYMLINK_NOFOLLOW as usize;
    }
    flags
}

/// `open_tree_attr(2)` (Linux 6.15): [`clone_tree`] with everything mounted below it, and [`set_attr`] of that, in one call;
/// in two where the kernel, or a sandbox around us, does not have it.
///
/// # Errors
/// As of these two.
pub fn clone_tree_with(dir: BorrowedFd<'_>, path: &CStr, attr: &MountAttr, recursive: bool) -> Answer<OwnedFd> {
    const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
    // said once: a plan has several
    static ABSENT: AtomicBool = AtomicBool::new(false);
    if !ABSENT.load(Ordering::Relaxed) {
        let mut attr = *attr;
        attr.propagation &= !MS_REC;
        let (path, flags) = (path.as_ptr() as usize, clone_flags(path, recursive, true));
        let args = [raw(dir), path, flags, &raw const attr as usize, size_of::<MountAttr>()];
        match unsafe { call(SYS_OPEN_TREE_ATTR, args) } {
            Err(Errno::ENOSYS | Errno::EPERM) => ABSENT.store(true, Ordering::Relaxed),
            answer => return answer.map(owned),
        }
    }
    let tree = clone_tree(dir, path, recursive, true)?;
    set_attr(tree.as_fd(), attr, recursive)?;
    Ok(tree)
}

/// `move_mount(2)` (Linux 5.2) of a detached mount onto what a descriptor names.
///
/// # Errors
/// `ENOTDIR`: one is a directory and the other is not.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Answer<()> {
    attach_at(mount, target, c"")
}

/// `move_mount(2)` of a detached mount onto a path below a directory; links are followed.
///
/// # Errors
/// The kernel's answer.
pub fn attach_at(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, path: &CStr) -> Answer<()> {
    const F_EMPTY_PATH: usize = 0x04;
    const T_SYMLINKS: usize = 0x10;
    const T_EMPTY_PATH: usize = 0x40;
    let flags = F_EMPTY_PATH | if path.is_empty() { T_EMPTY_PATH } else { T_SYMLINKS };
    unsafe { call(libc::SYS_move_mount, [raw(mount), c"".as_ptr() as usize, raw(dir), path.as_ptr() as usize, flags]) }
        .map(drop)
}

/// `mount_setattr(2)` (Linux 5.12) on what a descriptor names, with everything below it if `recursive`.
///
/// # Errors
/// `EINVAL`: it is no mount, or an attribute is unknown to the kernel. `EPERM`: a locked flag would be cleared.
pub fn set_attr(mount: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> Answer<()> {
    let mut attr = *attr;
    attr.propagation &= !MS_REC;
    let flags = libc::AT_EMPTY_PATH as usize | if recursive { libc::AT_RECURSIVE as usize } else { 0 };
    unsafe {
        call(
            libc::SYS_mount_setattr,
            [raw(mount), c"".as_ptr() as usize, flags, &raw const attr as usize, size_of::<MountAttr>()],
        )
    }
    .map(drop)
}

/// `mount_setattr(2)` with `MOUNT_ATTR_IDMAP` (Linux 5.12): maps the ids of a detached mount as a user namespace does.
///
/// # Errors
/// `EINVAL`: the file system can't, or the mount was seen by somebody already. `EPERM`: it is mapped already, or the
/// caller has no rights over the file system.
pub fn map_ids(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>, recursive: bool) -> Answer<()> {
    let attr = MountAttr { set: ATTR_IDMAP, userns_fd: raw(namespace) as u64, ..MountAttr::default() };
    set_attr(mount, &attr, recursive)
}

/// `fsopen(2)`, `fsconfig(2)`, `fsmount(2)` (Linux 5.2): a detached instance of a file system, attached nowhere, with its usual
/// options.
///
/// # Errors
/// The kernel's answer.
pub fn detached(fstype: &CStr, attr: u64) -> Answer<OwnedFd> {
    new(fstype, c"", c"", 0, attr)
}

/// The same with what `mount(2)` takes: a source, options as the file system knows them (`size=1m,mode=755`; a value may be
/// in quotes, with commas in it), and of the `MS_*` flags those that are the file system's and not the mount's.
///
/// # Errors
/// The kernel's answer. `ENAMETOOLONG`: an option is longer than 4096 bytes.
pub fn new(fstype: &CStr, source: &CStr, options: &CStr, flags: u64, attr: u64) -> Answer<OwnedFd> {
    const FSOPEN_CLOEXEC: usize = 1;
    const FSMOUNT_CLOEXEC: usize = 1;
    let config = owned(unsafe { call(libc::SYS_fsopen, [fstype.as_ptr() as usize, FSOPEN_CLOEXEC, 0, 0, 0]) }?);
    if !source.is_empty() {
        configure(&config, Some(c"source"), Some(source))?;
    }
    if !options.is_empty() {
        configure_each(&config, options)?;
    }
    for (flag, name) in
        [(MS_RDONLY, c"ro"), (MS_SYNCHRONOUS, c"sync"), (MS_DIRSYNC, c"dirsync"), (MS_LAZYTIME, c"lazytime")]
    {
        if flags & flag != 0 {
            configure(&config, Some(name), None)?;
        }
    }
    configure(&config, None, None)?;
    unsafe { call(libc::SYS_fsmount, [raw(config.as_fd()), FSMOUNT_CLOEXEC, attr as usize, 0, 0]) }.map(owned)
}

/// `fsconfig(2)`: a key with a value, a key alone, or (without a key) the order to make the file system.
fn configure(config: &OwnedFd, key: Option<&CStr>, value: Option<&CStr>) -> Answer<()> {
    const SET_FLAG: usize = 0;
    const SET_STRING: usize = 1;
    const CMD_CREATE: usize = 6;
    let command = match (key, value) {
        (None, _) => CMD_CREATE,
        (Some(_), None) => SET_FLAG,
        (Some(_), Some(_)) => SET_STRING,
    };
    let [key, value] = [key, value].map(|text| text.map_or(0, |text| text.as_ptr() as usize));
    unsafe { call(libc::SYS_fsconfig, [raw(config.as_fd()), command, key, value, 0]) }.map(drop)
}

/// Sets the options of a list. In a buffer of its own, which each option is copied to: init allocates nothing.
#[inline(never)]
fn configure_each(config: &OwnedFd, options: &CStr) -> Answer<()> {
    let mut quoted = false;
    let comma = |byte: &u8| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    };
    for option in options.to_bytes().split(comma).filter(|option| !option.is_empty()) {
        let mut buffer = [0; libc::PATH_MAX as usize];
        buffer
            .get_mut(..option.len())
            .filter(|_| option.len() < libc::PATH_MAX as usize)
            .ok_or(Errno::ENAMETOOLONG)?
            .copy_from_slice(option);
        let Some(equals) = option.iter().position(|byte| *byte == b'=') else {
            configure(config, Some(c_string(&buffer)?), None)?;
            continue;
        };
        buffer[equals] = 0;
        let mut value = equals + 1;
        if buffer[value] == b'"' && option.len() > value + 1 && buffer[option.len() - 1] == b'"' {
            value += 1;
            buffer[option.len() - 1] = 0;
        }
        configure(config, Some(c_string(&buffer)?), Some(c_string(&buffer[value..])?))?;
    }
    Ok(())
}

fn c_string(bytes: &[u8]) -> Answer<&CStr> {
    CStr::from_bytes_until_nul(bytes).map_err(|_| Errno::EINVAL)
}

/// `umount2(2)` with `MNT_DETACH` of a path whose last name is no link.
///
/// # Errors
/// `EINVAL`: nothing is mounted there.
pub fn unmount_here(path: &CStr) -> Answer<()> {
    nix::mount::umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
}

/// `umount2(2)` with `MNT_DETACH`: gone from sight at once, for good when the last user leaves.
///
/// # Errors
/// `EINVAL`: nothing is mounted there.
pub fn unmount(path: &CStr) -> Answer<()> {
    nix::mount::umount2(path, MntFlags::MNT_DETACH)
}

/// `pivot_root(2)` with both paths `"."`: the working directory becomes the root, and the old root lies on top of it
/// until it is unmounted.
///
/// # Errors
/// `EINVAL`: the directory is no mount point, or its parent mount is shared, or the root is the initramfs.
pub fn pivot_here() -> Answer<()> {
    nix::unistd::pivot_root(c".", c".")
}

/// `statx(2)`: the number of the mount that a descriptor lies on: one that no other mount will ever have where the kernel
/// knows such (Linux 6.8), else one that no other mount has now (Linux 5.8).
///
/// # Errors
/// The kernel's answer.
pub fn id_of(fd: BorrowedFd<'_>) -> Answer<u64> {
    let mut out = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let mask = STATX_MNT_ID | STATX_MNT_ID_UNIQUE;
    check(unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, out.as_mut_ptr()) })?;
    // SAFETY: all zeros is a valid one, and the call has filled it.
    Ok(unsafe { out.assume_init() }.stx_mnt_id)
}

/// `statx(2)`: whether a descriptor is the root of a mount (Linux 5.8).
///
/// # Errors
/// The kernel's answer.
pub fn is_root(fd: BorrowedFd<'_>) -> Answer<bool> {
    const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;
    let mut out = std::mem::MaybeUninit::<libc::statx>::zeroed();
    check(unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, 0, out.as_mut_ptr()) })?;
    // SAFETY: all zeros is a valid one, and the call has filled it.
    Ok(unsafe { out.assume_init() }.stx_attributes & STATX_ATTR_MOUNT_ROOT != 0)
}

/// `fstatvfs(3)`: the flags of the mount that a descriptor lies on (`ST_RDONLY`, …), for keeping locked flags.
///
/// # Errors
/// The kernel's answer.
pub fn flags_of(fd: BorrowedFd<'_>) -> Answer<u64> {
    let mut out = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    check(unsafe { libc::fstatvfs(fd.as_raw_fd(), out.as_mut_ptr()) })?;
    Ok(unsafe { out.assume_init() }.f_flag)
}
