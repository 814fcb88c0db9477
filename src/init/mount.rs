//! Mounts, devices and what is hidden: each step by descriptors, never by a path twice.

use super::path::{self, Scratch};
use super::{Done, Scene, Trouble, copy, leave, tree};
use crate::abi::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, ATTR_STRICTATIME,
    MS_BIND, MS_REMOUNT, MS_SLAVE, MountAttr,
};
use crate::plan::Mapped;
use crate::plan::step::{COVER, Slot, Step, Str, Sync};
use crate::sys::file::{self, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, cwd, open_in};
use crate::sys::{Answer, Errno, mount};
use crate::wire::{self, Cause};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `PROC_SUPER_MAGIC` (`statfs(2)`).
const PROC_MAGIC: i64 = 0x9fa0;

const ENOTDIR: i32 = Errno::ENOTDIR as i32;
const EINVAL: i32 = Errno::EINVAL as i32;
const ENOENT: i32 = Errno::ENOENT as i32;

/// A mount in which nothing can be done; the flags of `mount(2)` have the same numbers.
const SEALED: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;

// check: table: one arm a step: what it is made of
pub(super) fn perform(step: &'static Step, scene: &mut Scene<'_>) -> Done {
    match step {
        Step::Mount { source, fstype, target, flags, data, copy_up, fresh } => {
            let fs = Fs { source, fstype, target, flags: *flags, data };
            if *fresh { below_dev(scene, &fs) } else { filesystem(scene, &fs, *copy_up) }
        }
        Step::MountCgroup { target, flags, data, bind } => cgroup2(scene, target, *flags, data, bind.as_deref()),
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
        Step::Attr { attr, recursive } => Ok(mount::set_attr(scene.get(Slot::TREE)?, attr, *recursive)?),
        Step::AttrKeepLocked { attr, explicit, host } => {
            keep_locked(scene.get(Slot::TREE)?, attr, false, *explicit, *host)
        }
        Step::Attach { target } => attach(scene, target),
        Step::AttrAt { target, attr, recursive, explicit } => {
            let place = open_in(scene.root()?, target, libc::O_PATH, 0)?;
            keep_locked(place.as_fd(), attr, *recursive, *explicit, false)
        }
        Step::Link { at, path, target } => link(scene, *at, path, target),
        Step::LinkTo { name, target } => match open_in(scene.root()?, target, libc::O_PATH, 0) {
            Ok(found) => {
                leave(found);
                link(scene, Slot::DEV, name, target)
            }
            Err(_) => Ok(()),
        },
        Step::OpenDev { fresh } => {
            let dev = path::directory(scene.root()?, c"/dev")?;
            scene.put(Slot::DEV, dev);
            scene.own_dev = *fresh;
            Ok(())
        }
        Step::Node { at, path, mode, device, owner } => node(scene, *at, path, *mode, *device, *owner),
        Step::Unlink { at, path } => match file::unlink(scene.get(*at)?, path, false) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        },
        Step::OpenProc => open_proc(scene),
        Step::WriteProc { file, value, .. } => write_proc(scene, file, value),
        Step::ReadonlyPath { path, kernels } => readonly_path(path, *kernels),
        Step::Mask { path, cover, file, kernels } => {
            let mask = Hidden { path, cover: cover.as_deref().unwrap_or(COVER), kernels: *kernels };
            hide(scene, &mask, *file)
        }
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

struct Fs<'a> {
    source: &'a CStr,
    fstype: &'a CStr,
    target: &'a CStr,
    flags: u64,
    data: &'a CStr,
}

/// procfs and sysfs hold what the host protects itself with: they go on plain directories of the root, not through
/// links that an image brings (CVE-2019-19921, CVE-2023-27561).
fn ordinary(fstype: &CStr) -> bool {
    fstype == c"proc" || fstype == c"sysfs"
}

fn filesystem(scene: &mut Scene<'_>, fs: &Fs<'_>, copy_up: bool) -> Done {
    if ordinary(fs.fstype) {
        return over(plain_directory(scene, fs.target)?, fs, fs.data);
    }
    if fs.fstype != c"tmpfs" || (!copy_up && says_mode(fs.data)) {
        return over(path::directory(scene.root()?, fs.target)?, fs, fs.data);
    }
    match open_in(scene.root()?, fs.target, libc::O_PATH | libc::O_DIRECTORY, 0) {
        Ok(place) => tmpfs(scene, place, fs, copy_up),
        Err(Errno::ENOENT) => over(path::directory(scene.root()?, fs.target)?, fs, fs.data),
        Err(errno) => Err(errno.into()),
    }
}

/// On a new directory of a `/dev` that is ours alone and was empty a moment ago: nothing of it needs to be resolved.
fn below_dev(scene: &mut Scene<'_>, fs: &Fs<'_>) -> Done {
    let dev = scene.get(Slot::DEV)?;
    let name = fs.target.to_bytes_with_nul().get(c"/dev/".count_bytes()..).unwrap_or_default();
    let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::EINVAL)?;
    match file::mkdir(dev, name, 0o755) {
        Ok(()) => {
            if !scene.in_dev {
                file::enter(dev)?;
                scene.in_dev = true;
            }
            Ok(mount::filesystem(fs.source, name, fs.fstype, fs.flags, fs.data)?)
        }
        // a mount in between has made it
        Err(Errno::EEXIST) => filesystem(scene, fs, false),
        Err(errno) => Err(errno.into()),
    }
}

fn over(place: OwnedFd, fs: &Fs<'_>, data: &CStr) -> Done {
    file::enter(place.as_fd())?;
    leave(place);
    Ok(mount::filesystem(fs.source, c".", fs.fstype, fs.flags, data)?)
}

fn says_mode(data: &CStr) -> bool {
    data.to_bytes().split(|byte| *byte == b',').any(|option| option.starts_with(b"mode="))
}

/// A tmpfs over a directory that is there takes its permissions, unless its options say others, which come later and
/// win; and its contents, if asked.
#[inline(never)]
fn tmpfs(scene: &Scene<'_>, place: OwnedFd, fs: &Fs<'_>, copy_up: bool) -> Done {
    let mut mode = file::stat(place.as_fd())?.st_mode & 0o7777;
    let mut digits = *b"mode=00000";
    for digit in digits[5..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(mode & 7).unwrap_or_default();
        mode >>= 3;
    }
    let mut data = Scratch::new(c"")?;
    data.push(&digits)?;
    if !fs.data.is_empty() {
        data.push(b",")?;
        data.push(fs.data.to_bytes())?;
    }
    if !copy_up {
        return over(place, fs, data.as_c()?);
    }
    let below = file::open(place.as_fd(), c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    over(place, fs, data.as_c()?)?;
    let new = open_in(scene.root()?, fs.target, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    copy::tree(below.as_fd(), new.as_fd())
}

fn plain_directory(scene: &Scene<'_>, target: &CStr) -> Result<OwnedFd, Trouble> {
    let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
    let open = || file::openat2(scene.root()?, target, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0, resolve);
    match open() {
        Err(Errno::ENOENT) => {
            path::directory(scene.root()?, target)?;
            Ok(open()?)
        }
        Err(Errno::ELOOP | Errno::ENOTDIR) => Err(Cause::NotOrdinary.into()),
        answer => Ok(answer?),
    }
}

/// Mounts cgroup2. Refused where the cgroup namespace is not this user namespace's: then the host's tree is bound, or
/// that part of it that a cgroup namespace would show. Where the container has no part, nothing must be seen through the
/// place either: a writable tree may lie under it (CVE-2023-25809).
fn cgroup2(scene: &mut Scene<'_>, target: &Str, flags: u64, data: &CStr, bind: Option<&CStr>) -> Done {
    let place = path::directory(scene.root()?, target)?;
    file::enter(place.as_fd())?;
    match mount::filesystem(c"cgroup", c".", c"cgroup2", flags, data) {
        Err(Errno::EPERM | Errno::EBUSY) => {}
        answer => {
            leave(place);
            return Ok(answer?);
        }
    }
    let Some(bind) = bind else {
        // the same file system on the place already (a bound /sys) keeps mount(2) from it, but not this
        let attr = flags & (ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC);
        return Ok(mount::attach(mount::detached(c"cgroup2", attr)?.as_fd(), place.as_fd())?);
    };
    let tree = match tree::late(scene, bind, true) {
        Err(Errno::ENOENT) => {
            // looking for the tree may have led through other namespaces
            file::enter(place.as_fd())?;
            return Ok(cover(c".", COVER)?);
        }
        answer => answer?,
    };
    let set = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | flags & ATTR_RDONLY;
    // nobody mounts in it, and if, then not in the host's
    let attr = MountAttr { set, propagation: MS_SLAVE, ..MountAttr::default() };
    mount::set_attr(tree.as_fd(), &attr, true)?;
    Ok(mount::attach(tree.as_fd(), place.as_fd())?)
}

/// What a remount would do; in a user namespace some flags of the source are locked, and those stay that nobody asked
/// to be cleared. Of a clone that the host made the kernel does not know that, so we look.
fn keep_locked(tree: BorrowedFd<'_>, attr: &MountAttr, recursive: bool, explicit: u64, host: bool) -> Done {
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
    match mount::set_attr(tree, &attr, recursive) {
        Err(Errno::EPERM) if attr.clear & !explicit != 0 => {
            Ok(mount::set_attr(tree, &MountAttr { clear: attr.clear & explicit, ..attr }, recursive)?)
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

fn attach(scene: &mut Scene<'_>, target: &CStr) -> Done {
    let tree = scene.take(Slot::TREE)?;
    let is_directory = file::stat(tree.as_fd())?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    if target == c"/proc" && file::filesystem(tree.as_fd())? != PROC_MAGIC {
        return Err(Cause::NotProcfs.into());
    }
    let place = path::target(scene.root()?, target, is_directory)?;
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
    attach(scene, whole.as_c()?)
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

/// Opens a path of the finished root; none if there is nothing to hide.
fn existing(path: &CStr) -> Answer<Option<OwnedFd>> {
    unless_absent(file::open(cwd(), path, libc::O_PATH, 0))
}

fn unless_absent<T>(answer: Answer<T>) -> Answer<Option<T>> {
    match answer {
        Ok(there) => Ok(Some(there)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Two calls that look the path up where that gives the same twice, else what was found is held in between.
fn readonly_path(path: &CStr, kernels: bool) -> Done {
    let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
    if kernels {
        let Some(tree) = unless_absent(mount::clone_tree_with(cwd(), path, &attr, true))? else { return Ok(()) };
        mount::attach_at(tree.as_fd(), cwd(), path)?;
        leave(tree);
        return Ok(());
    }
    let Some(place) = existing(path)? else { return Ok(()) };
    put_on(mount::clone_tree_with(place.as_fd(), c"", &attr, true)?, place)
}

fn put_on(tree: OwnedFd, place: OwnedFd) -> Done {
    mount::attach(tree.as_fd(), place.as_fd())?;
    leave(tree);
    leave(place);
    Ok(())
}

/// What is to be hidden.
struct Hidden {
    path: &'static CStr,
    /// Options of the tmpfs that covers a directory.
    cover: &'static CStr,
    /// The path names the same each time.
    kernels: bool,
}

/// A directory refuses to be covered by a file, and the reverse (`ENOTDIR`, in some kernels `EINVAL`): what the plan
/// expects is tried first. Each try looks the path up once.
fn hide(scene: &mut Scene<'_>, hidden: &Hidden, file: bool) -> Done {
    let mismatch = |errno: i32| errno == ENOTDIR || errno == EINVAL;
    for file in [file, !file] {
        match if file { hide_file(scene, hidden.path) } else { hide_directory(scene, hidden) } {
            Err(Trouble { cause: Cause::Kernel, errno, .. }) if mismatch(errno) => {}
            Err(Trouble { cause: Cause::Kernel, errno: ENOENT, .. }) => return Ok(()),
            answer => return answer,
        }
    }
    // or a part of the way is no directory: then there is nothing to hide
    if existing(hidden.path)?.is_none() { Ok(()) } else { Err(Errno::ENOTDIR.into()) }
}

/// Covers a file with the container's `/dev/null`. What we have made there nobody has exchanged.
fn hide_file(scene: &mut Scene<'_>, path: &CStr) -> Done {
    if scene.own_null {
        return Ok(mount::filesystem(c"/dev/null", path, c"", MS_BIND, c"")?);
    }
    let Some(place) = existing(path)? else { return Ok(()) };
    let null = null(scene)?;
    put_on(null, place)
}

/// Mounts an empty, read-only file system over a directory.
pub(super) fn cover(path: &CStr, options: &CStr) -> Answer<()> {
    mount::filesystem(c"tmpfs", path, c"tmpfs", SEALED, options)
}

/// Covers a directory with an empty, read-only file system: one for all, of which each but the first gets a clone.
fn hide_directory(scene: &mut Scene<'_>, hidden: &Hidden) -> Done {
    if let Some(first) = scene.cover {
        // whoever drops a clone that was attached nowhere waits for the kernel: only where there is a place for it
        let Some(place) = existing(hidden.path)? else { return Ok(()) };
        return put_on(mount::clone_tree(cwd(), first, false, true)?, place);
    }
    cover(hidden.path, hidden.cover)?;
    scene.cover = hidden.kernels.then_some(hidden.path);
    Ok(())
}

/// The container's `/dev/null`, after a look at what it is: an image may bring something else under that name
/// (CVE-2025-31133).
fn null(scene: &mut Scene<'_>) -> Result<OwnedFd, Trouble> {
    if scene.get(Slot::NULL).is_err() {
        let null = file::open(cwd(), c"/dev/null", libc::O_PATH | libc::O_NOFOLLOW, 0)?;
        let found = file::stat(null.as_fd())?;
        if found.st_mode & libc::S_IFMT != libc::S_IFCHR || found.st_rdev != file::device(1, 3) {
            return Err(Cause::NotNull.into());
        }
        scene.put(Slot::NULL, null);
    }
    let null = scene.get(Slot::NULL)?;
    Ok(mount::clone_tree(null, c"", false, true)?)
}
