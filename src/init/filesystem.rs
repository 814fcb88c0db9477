//! New file systems: each goes on a place that was opened once, and what later steps need of it they get by descriptor.

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

/// Mounts a new file system in the way that the plan says.
pub(super) fn mount(state: &mut State<'_>, fs: &Fs<'_>, new_dir: bool, detached: Option<&Detached>) -> StepResult {
    match detached {
        Some(detached) => make_detached(state, fs, detached),
        None if new_dir => below_dev(state, fs),
        None => on_place(state, fs),
    }
}

/// procfs and sysfs hold what the host protects itself with: they go on plain directories of the root, not through
/// links that an image brings (CVE-2019-19921, CVE-2023-27561).
fn ordinary(fstype: &CStr) -> bool {
    fstype == c"proc" || fstype == c"sysfs"
}

/// Opens, and makes if it is missing, the directory that the file system goes on.
fn place(state: &State<'_>, fs: &Fs<'_>) -> Result<Place, StepError> {
    if ordinary(fs.fstype) {
        return Ok(Place { fd: plain_directory(state, fs.target)?, literal: true, made: false });
    }
    let place = path::place(state.root()?, fs.target)?;
    proc::outside(&place, fs.in_proc)?;
    Ok(place)
}

/// Whether a tmpfs takes the permissions of the directory that it covers: not if its options say others.
fn takes_mode(fs: &Fs<'_>, place: &Place) -> bool {
    fs.fstype == c"tmpfs" && !place.made && !says_mode(fs.data)
}

/// Mounts it with `mount(2)`.
fn on_place(state: &mut State<'_>, fs: &Fs<'_>) -> StepResult {
    let place = place(state, fs)?;
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

/// Makes it with `fsmount(2)`, fills it and gives it its attributes before anybody can reach it, and attaches it.
#[cold]
#[inline(never)]
fn make_detached(state: &mut State<'_>, fs: &Fs<'_>, detached: &Detached) -> StepResult {
    let place = place(state, fs)?;
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

/// On a new directory of a `/dev` that is ours alone and was empty a moment ago: nothing of it needs to be resolved.
fn below_dev(state: &mut State<'_>, fs: &Fs<'_>) -> StepResult {
    let dev = state.get(Slot::DEV)?;
    let name = fs.target.to_bytes_with_nul().get(c"/dev/".count_bytes()..).unwrap_or_default();
    let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::EINVAL)?;
    match file::mkdir(dev, name, 0o755) {
        Ok(()) => {
            state.fchdir_to_dev()?;
            Ok(sys::filesystem(fs.source, name, fs.fstype, fs.flags, fs.data)?)
        }
        // a mount in between has made it
        Err(Errno::EEXIST) => on_place(state, fs),
        Err(errno) => Err(errno.into()),
    }
}

fn says_mode(data: &CStr) -> bool {
    data.to_bytes().split(|byte| *byte == b',').any(|option| option.starts_with(b"mode="))
}

/// The options of a tmpfs that takes the permissions of a directory.
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

/// What a mount of cgroup2 is made of.
pub(super) struct Cgroup<'a> {
    pub(super) target: &'a CStr,
    pub(super) flags: u64,
    pub(super) data: &'a CStr,
    pub(super) own: bool,
    pub(super) bind: Option<&'a CStr>,
    pub(super) attrs: &'a [(MountAttr, bool)],
}

/// Mounts cgroup2 in a cgroup namespace of the container's own. Without one, or where the kernel refuses because the cgroup
/// namespace is not this user namespace's, the host's tree is bound, or that part of it that a cgroup namespace would show.
/// Where the container has no part, nothing must be seen through the place either: a writable tree may lie under it
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
        // the same file system on the place already (a bound /sys) keeps mount(2) from it, but not this
        return Ok(attach(sys::detached(c"cgroup2", attr)?.as_fd(), place.as_fd(), cgroup.attrs)?);
    };
    let tree = match tree::late(state, bind, true) {
        Err(Errno::ENOENT) => {
            // looking for the tree may have led through other namespaces
            state.fchdir(place.as_fd())?;
            return Ok(super::masked_paths::cover(c".", COVER)?);
        }
        answer => answer?,
    };
    let set = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | flags & ATTR_RDONLY;
    // nobody mounts in it, and if, then not in the host's
    let attr = MountAttr { set, propagation: MS_SLAVE, ..MountAttr::default() };
    sys::set_attr(tree.as_fd(), &attr, true)?;
    Ok(attach(tree.as_fd(), place.as_fd(), cgroup.attrs)?)
}

/// Gives a detached mount its attributes and attaches it.
fn attach(new: BorrowedFd<'_>, place: BorrowedFd<'_>, attrs: &[(MountAttr, bool)]) -> Answer<()> {
    attrs.iter().try_for_each(|(attr, recursive)| sys::set_attr(new, attr, *recursive))?;
    sys::attach(new, place)
}
