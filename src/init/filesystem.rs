//! Mounts new file systems. The mount point is resolved once; later steps use descriptors.

use super::path::{self, Place, Scratch};
use super::{State, StepError, StepResult, copy, leak_until_exec, proc, tree};
use crate::abi::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, MS_SLAVE, MountAttr};
use crate::plan::step::{COVER, Detached, Slot};
use crate::sync_socket::Cause;
use crate::sys::file::{self, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS};
use crate::sys::mount as sys;
use crate::sys::{Answer, Errno};
use std::ffi::CStr;
use std::fmt::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A file system to be mounted: the arguments of `mount(2)`.
pub(super) struct Fs<'a> {
    pub(super) source: &'a CStr,
    pub(super) fstype: &'a CStr,
    pub(super) target: &'a CStr,
    pub(super) flags: u64,
    pub(super) data: &'a CStr,
    /// The target may lie in a procfs.
    pub(super) in_proc: bool,
}

/// Mounts a new file system.
pub(super) fn mount(state: &mut State<'_>, fs: &Fs<'_>, new_dir: bool, detached: Option<&Detached>) -> StepResult {
    match detached {
        Some(detached) => make_detached(state, fs, detached),
        None if new_dir => below_dev(state, fs),
        None => on_place(state, fs),
    }
}

/// Whether a link in the image may lead to the mount point. Not for procfs and sysfs, on whose masked files the host's protection
/// depends (CVE-2019-19921, CVE-2023-27561).
fn ordinary(fstype: &CStr) -> bool {
    fstype == c"proc" || fstype == c"sysfs"
}

/// Opens the mount point; creates it if it is missing.
fn mount_point(state: &State<'_>, fs: &Fs<'_>) -> Result<Place, StepError> {
    if ordinary(fs.fstype) {
        return Ok(Place { fd: plain_directory(state, fs.target)?, literal: true, made: false });
    }
    let place = path::place(state.root()?, fs.target)?;
    proc::outside(&place, fs.in_proc)?;
    Ok(place)
}

/// Whether a tmpfs takes over the permissions of the directory that it covers: unless it has options for them.
fn takes_mode(fs: &Fs<'_>, place: &Place) -> bool {
    fs.fstype == c"tmpfs" && !place.made && !says_mode(fs.data)
}

/// Mounts it with `mount(2)`.
fn on_place(state: &mut State<'_>, fs: &Fs<'_>) -> StepResult {
    let place = mount_point(state, fs)?;
    if takes_mode(fs, &place) {
        let data = with_mode(place.fd.as_fd(), fs.data)?;
        return over(state, place.fd, fs, data.as_c()?);
    }
    over(state, place.fd, fs, fs.data)
}

fn over(state: &mut State<'_>, place: OwnedFd, fs: &Fs<'_>, data: &CStr) -> StepResult {
    state.fchdir(place.as_fd())?;
    leak_until_exec(place);
    Ok(sys::filesystem(fs.source, c".", fs.fstype, fs.flags, data)?)
}

/// Creates it with `fsmount(2)`, fills it and sets attributes while nobody can reach it, then attaches it.
#[cold]
#[inline(never)]
fn make_detached(state: &mut State<'_>, fs: &Fs<'_>, detached: &Detached) -> StepResult {
    let place = mount_point(state, fs)?;
    let new = if takes_mode(fs, &place) {
        sys::new(fs.fstype, fs.source, with_mode(place.fd.as_fd(), fs.data)?.as_c()?, fs.flags, detached.attr)?
    } else {
        sys::new(fs.fstype, fs.source, fs.data, fs.flags, detached.attr)?
    };
    let place = place.fd;
    if detached.copy_up {
        let readable = |dir: BorrowedFd<'_>| file::open(dir, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0);
        copy::tree(readable(place.as_fd())?.as_fd(), readable(new.as_fd())?.as_fd())?;
    }
    attach(new.as_fd(), place.as_fd(), &detached.attrs)?;
    leak_until_exec(place);
    match detached.keep {
        Some(slot) => state.put(slot, new),
        None => leak_until_exec(new),
    }
    Ok(())
}

/// Mounts on a new directory in a `/dev` of our own that was empty: no path needs to be resolved.
fn below_dev(state: &mut State<'_>, fs: &Fs<'_>) -> StepResult {
    let dev = state.get(Slot::DEV)?;
    let name = fs.target.to_bytes_with_nul().get(c"/dev/".count_bytes()..).unwrap_or_default();
    let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::EINVAL)?;
    match file::mkdir(dev, name, 0o755) {
        Ok(()) => {
            state.fchdir_to_dev()?;
            Ok(sys::filesystem(fs.source, name, fs.fstype, fs.flags, fs.data)?)
        }
        // an earlier mount has created it
        Err(Errno::EEXIST) => on_place(state, fs),
        Err(errno) => Err(errno.into()),
    }
}

fn says_mode(data: &CStr) -> bool {
    data.to_bytes().split(|byte| *byte == b',').any(|option| option.starts_with(b"mode="))
}

/// The options of a tmpfs with the permissions of a directory.
#[inline(never)]
fn with_mode(place: BorrowedFd<'_>, data: &CStr) -> Answer<Scratch> {
    let mode = file::stat(place)?.st_mode & 0o7777;
    let mut whole = Scratch::new(c"")?;
    write!(whole, "mode={mode:05o}").map_err(|_| Errno::ENAMETOOLONG)?;
    if !data.is_empty() {
        whole.push(b",")?;
        whole.push(data.to_bytes())?;
    }
    Ok(whole)
}

fn plain_directory(state: &State<'_>, target: &CStr) -> Result<OwnedFd, StepError> {
    let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
    let open = || file::openat2(state.root()?, target, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0, resolve);
    match open() {
        Err(Errno::ENOENT) => {
            path::directory(state.root()?, target)?;
            Ok(open()?)
        }
        Err(Errno::ELOOP | Errno::ENOTDIR) => Err(Cause::NotOrdinary.into()),
        answer => Ok(answer?),
    }
}

/// The fields of [`Step::MountCgroup`](crate::plan::step::Step::MountCgroup).
pub(super) struct Cgroup<'a> {
    pub(super) target: &'a CStr,
    pub(super) flags: u64,
    pub(super) data: &'a CStr,
    pub(super) own: bool,
    pub(super) bind: Option<&'a CStr>,
    pub(super) attrs: &'a [(MountAttr, bool)],
}

/// Mounts cgroup2 if the container has a cgroup namespace. Otherwise, or if the kernel refuses because the cgroup namespace
/// does not belong to this user namespace, binds the host's mount, or the part of it that a cgroup namespace would show. If the
/// container has no cgroup, an empty file system covers the mount point, because a writable hierarchy may be mounted below it
/// (CVE-2023-25809).
pub(super) fn cgroup2(state: &mut State<'_>, cgroup: &Cgroup<'_>) -> StepResult {
    let flags = cgroup.flags;
    let place = path::place(state.root()?, cgroup.target)?;
    proc::outside(&place, false)?;
    let place = place.fd;
    let attr = flags & (ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC);
    if cgroup.own || cgroup.bind.is_none() {
        let mounted = if cgroup.attrs.is_empty() {
            state.fchdir(place.as_fd())?;
            sys::filesystem(c"cgroup", c".", c"cgroup2", flags, cgroup.data)
        } else {
            sys::new(c"cgroup2", c"cgroup", cgroup.data, flags, attr)
                .and_then(|new| attach(new.as_fd(), place.as_fd(), cgroup.attrs))
        };
        match mounted {
            Err(Errno::EPERM | Errno::EBUSY) => {}
            answer => {
                leak_until_exec(place);
                return Ok(answer?);
            }
        }
    }
    let Some(bind) = cgroup.bind else {
        // mount(2) refuses a mount point with the same file system (a bound /sys), fsmount(2) does not
        return Ok(attach(sys::detached(c"cgroup2", attr)?.as_fd(), place.as_fd(), cgroup.attrs)?);
    };
    let tree = match tree::late(state, bind, true) {
        Err(Errno::ENOENT) => {
            // the search for the hierarchy may have changed the working directory
            state.fchdir(place.as_fd())?;
            return Ok(super::masked_paths::cover(c".", COVER)?);
        }
        answer => answer?,
    };
    let set = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | flags & ATTR_RDONLY;
    // a mount in it must not propagate to the host
    let attr = MountAttr { set, propagation: MS_SLAVE, ..MountAttr::default() };
    sys::set_attr(tree.as_fd(), &attr, true)?;
    Ok(attach(tree.as_fd(), place.as_fd(), cgroup.attrs)?)
}

/// Sets the attributes of a detached mount and attaches it.
fn attach(new: BorrowedFd<'_>, place: BorrowedFd<'_>, attrs: &[(MountAttr, bool)]) -> Answer<()> {
    attrs.iter().try_for_each(|(attr, recursive)| sys::set_attr(new, attr, *recursive))?;
    sys::attach(new, place)
}
