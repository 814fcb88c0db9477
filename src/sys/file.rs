//! Files, directories and descriptors.

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use super::{Answer, Errno, call, check, owned, wait};
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag};
use nix::unistd::{Gid, Uid, UnlinkatFlags, Whence};
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// `AT_FDCWD` as a directory descriptor.
///
/// # Panics
/// Never: the value is not -1.
#[must_use]
pub fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is not -1, is never closed, and every *at call accepts it.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

/// A descriptor by number: 0, 1, 2, or one that the caller was given.
#[must_use]
pub fn given(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is not negative (asserted); a descriptor that isn't open answers EBADF in every call.
    unsafe { BorrowedFd::borrow_raw(number.max(0)) }
}

/// Makes sure that 0, 1 and 2 are open, so that no file of ours gets one of these numbers: a closed one becomes `/dev/null`. One
/// system call if all are open.
pub fn ensure_standard() {
    let mut set = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    if !matches!(wait::poll(&mut set, 0), Ok(1..)) {
        return;
    }
    for entry in set.iter().filter(|entry| entry.revents & libc::POLLNVAL != 0) {
        // the lowest free number is taken: the closed ones in turn
        let null = open(cwd(), c"/dev/null", libc::O_RDWR, 0);
        if let Ok(null) = null.and_then(|null| dup_to(null.as_fd(), entry.fd).map(|()| null)) {
            std::mem::forget(null);
        }
    }
}

/// `struct open_how` of `openat2(2)`.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// `RESOLVE_NO_XDEV`: no mount point is crossed.
pub const RESOLVE_NO_XDEV: u64 = 0x01;
/// `RESOLVE_NO_MAGICLINKS`: links of `/proc` are not followed.
pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
/// `RESOLVE_NO_SYMLINKS`: no link is followed.
pub const RESOLVE_NO_SYMLINKS: u64 = 0x04;
/// `RESOLVE_BENEATH`: leaving the directory is an error (`EXDEV`).
pub const RESOLVE_BENEATH: u64 = 0x08;
/// `RESOLVE_IN_ROOT`: the directory is `/`, also for absolute links and `..`.
pub const RESOLVE_IN_ROOT: u64 = 0x10;

/// `openat2(2)` (Linux 5.6), close-on-exec. Retries `EAGAIN` (a rename elsewhere raced with `..`) a limited number of times.
///
/// # Errors
/// The kernel's answer.
pub fn openat2(dir: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Answer<OwnedFd> {
    let how = OpenHow { flags: u64::from((flags | libc::O_CLOEXEC).cast_unsigned()), mode: u64::from(mode), resolve };
    let mut tries = 0;
    loop {
        let answer = unsafe {
            call(
                libc::SYS_openat2,
                [
                    dir.as_raw_fd().cast_unsigned() as usize,
                    path.as_ptr() as usize,
                    &raw const how as usize,
                    size_of::<OpenHow>(),
                    0,
                ],
            )
        };
        match answer {
            Err(Errno::EAGAIN) if tries < 128 => tries += 1,
            Err(errno) => return Err(errno),
            Ok(fd) => return Ok(owned(fd)),
        }
    }
}

/// Opens a path with `root` as `/`: no link leads out of it, and magic links of procfs are refused.
///
/// # Errors
/// The kernel's answer.
pub fn open_in(root: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32) -> Answer<OwnedFd> {
    openat2(root, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
}

/// Flags as nix has them, with `O_CLOEXEC`.
fn flags_of(flags: i32) -> OFlag {
    OFlag::from_bits_retain(flags | libc::O_CLOEXEC)
}

/// `openat(2)`, close-on-exec.
///
/// # Errors
/// The kernel's answer.
pub fn open(dir: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32) -> Answer<OwnedFd> {
    nix::fcntl::openat(dir, path, flags_of(flags), Mode::from_bits_retain(mode))
}

/// Reads a regular file, or one that the kernel generates in one piece (`single_open` in its source): a short read is the last one,
/// so two system calls are enough, where `std::fs::read` makes four. `usual` is a size that most such files fit in.
///
/// # Errors
/// When it cannot be opened or read.
pub fn contents(path: &Path, usual: usize) -> std::io::Result<Vec<u8>> {
    rest(&mut open_path(path, libc::O_RDONLY, 0)?, usual)
}

/// The same, of an open file.
///
/// # Errors
/// When it cannot be read.
pub fn rest(file: &mut File, usual: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usual];
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]) {
            Ok(got) if got < bytes.len() - length => {
                bytes.truncate(length + got);
                bytes.shrink_to_fit();
                return Ok(bytes);
            }
            Ok(got) => {
                length += got;
                bytes.resize(bytes.len() * 2, 0);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens a path for the standard library, close-on-exec: one call, where its own open and some C libraries' make two.
///
/// # Errors
/// The kernel's answer.
pub fn open_path(path: &Path, flags: i32, mode: u32) -> std::io::Result<File> {
    Ok(File::from(nix::fcntl::openat(cwd(), path, flags_of(flags), Mode::from_bits_retain(mode))?))
}

/// `mkdirat(2)`.
///
/// # Errors
/// The kernel's answer.
pub fn mkdir(dir: BorrowedFd<'_>, path: &CStr, mode: u32) -> Answer<()> {
    nix::sys::stat::mkdirat(dir, path, Mode::from_bits_retain(mode))
}

/// `mknodat(2)`.
///
/// # Errors
/// The kernel's answer.
pub fn mknod(dir: BorrowedFd<'_>, path: &CStr, mode: u32, device: u64) -> Answer<()> {
    // type and permissions are one argument to the kernel
    nix::sys::stat::mknodat(dir, path, SFlag::empty(), Mode::from_bits_retain(mode), device)
}

/// `makedev(3)`: a device number from its halves.
#[must_use]
pub fn device(major: u32, minor: u32) -> u64 {
    libc::makedev(major, minor)
}

/// `symlinkat(2)`.
///
/// # Errors
/// The kernel's answer.
pub fn symlink(target: &CStr, dir: BorrowedFd<'_>, path: &CStr) -> Answer<()> {
    nix::unistd::symlinkat(target, dir, path)
}

/// `unlinkat(2)`; with `directory`, `rmdir`.
///
/// # Errors
/// The kernel's answer.
pub fn unlink(dir: BorrowedFd<'_>, path: &CStr, directory: bool) -> Answer<()> {
    let flags = if directory { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
    nix::unistd::unlinkat(dir, path, flags)
}

/// `readlinkat(2)` of a path into a buffer; the part of it that was filled.
///
/// # Errors
/// The kernel's answer.
pub fn readlink<'b>(dir: BorrowedFd<'_>, path: &CStr, buffer: &'b mut [u8]) -> Answer<&'b [u8]> {
    let length = unsafe { libc::readlinkat(dir.as_raw_fd(), path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let length = usize::try_from(length).map_err(|_| Errno::last())?;
    Ok(&buffer[..length])
}

/// `fstatat(2)` with `AT_EMPTY_PATH`: what the descriptor is.
///
/// # Errors
/// The kernel's answer.
pub fn stat(fd: BorrowedFd<'_>) -> Answer<libc::stat> {
    stat_at(fd, c"", libc::AT_EMPTY_PATH)
}

/// `fstatat(2)`.
///
/// # Errors
/// The kernel's answer.
pub fn stat_at(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> Answer<libc::stat> {
    nix::sys::stat::fstatat(dir, path, AtFlags::from_bits_retain(flags))
}

/// `fstatfs(2)`: the magic number of the file system (`statfs(2)`).
///
/// # Errors
/// The kernel's answer.
pub fn fs_magic(fd: BorrowedFd<'_>) -> Answer<i64> {
    let mut out = std::mem::MaybeUninit::<libc::statfs>::uninit();
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), out.as_mut_ptr()) })?;
    #[allow(clippy::unnecessary_cast)]
    Ok(unsafe { out.assume_init() }.f_type as i64)
}

/// `fchownat(2)` with flags (`AT_EMPTY_PATH`, `AT_SYMLINK_NOFOLLOW`); `None` leaves an id as it is.
///
/// # Errors
/// The kernel's answer.
pub fn chown(dir: BorrowedFd<'_>, path: &CStr, uid: Option<u32>, gid: Option<u32>, flags: i32) -> Answer<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    nix::unistd::fchownat(dir, path, uid, gid, AtFlags::from_bits_retain(flags))
}

/// `fchmodat(2)`; follows links.
///
/// # Errors
/// The kernel's answer.
pub fn chmod(dir: BorrowedFd<'_>, path: &CStr, mode: u32) -> Answer<()> {
    nix::sys::stat::fchmodat(dir, path, Mode::from_bits_retain(mode), FchmodatFlags::FollowSymlink)
}

/// `faccessat2(2)` with the effective ids (`AT_EACCESS`), to ask whether a file may be executed. Where a seccomp profile
/// older than this call denies it, `faccessat(2)` answers, whose ids are the real ones: they are the same in init.
///
/// # Errors
/// The kernel's answer.
pub fn may_execute(path: &CStr) -> Answer<()> {
    let ask = |number, flags: libc::c_int| {
        let [dir, flags] = [libc::AT_FDCWD, flags].map(|word| word.cast_unsigned() as usize);
        unsafe { call(number, [dir, path.as_ptr() as usize, libc::X_OK as usize, flags, 0]) }.map(drop)
    };
    match ask(libc::SYS_faccessat2, libc::AT_EACCESS) {
        Err(Errno::EPERM | Errno::ENOSYS) => ask(libc::SYS_faccessat, 0),
        answer => answer,
    }
}

/// `read(2)`, tried again when a signal came between.
///
/// # Errors
/// The kernel's answer.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Answer<usize> {
    loop {
        match nix::unistd::read(fd, buffer) {
            Err(Errno::EINTR) => {}
            answer => return answer,
        }
    }
}

/// `write(2)` in one call, for pseudo file systems; a short write is `EIO`.
///
/// # Errors
/// The kernel's answer.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Answer<()> {
    if nix::unistd::write(fd, bytes)? == bytes.len() { Ok(()) } else { Err(Errno::EIO) }
}

/// `write(2)`; answers how much was taken.
///
/// # Errors
/// The kernel's answer.
pub fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> Answer<usize> {
    nix::unistd::write(fd, bytes)
}

/// `dup3(2)`, or `fcntl(F_SETFD)` where both numbers are one: `to` becomes a copy of `from` that outlives execve.
///
/// # Errors
/// The kernel's answer.
pub fn dup_to(from: BorrowedFd<'_>, to: RawFd) -> Answer<()> {
    let from = from.as_raw_fd();
    check(unsafe { if from == to { libc::fcntl(to, libc::F_SETFD, 0) } else { libc::dup3(from, to, 0) } }).map(drop)
}

/// `dup3(2)`: makes `to`, a number that is not open, a copy of `from` that is closed on execve.
///
/// # Errors
/// `EBADF`: the number is beyond the limit of open files.
pub fn reserve(from: BorrowedFd<'_>, to: RawFd) -> Answer<()> {
    // SAFETY: plain numbers; the caller has seen that nothing is open at `to`.
    check(unsafe { libc::dup3(from.as_raw_fd(), to, libc::O_CLOEXEC) }).map(drop)
}

/// `fcntl(F_SETFL)`: removes `O_NONBLOCK`, with which the descriptor was opened.
///
/// # Errors
/// The kernel's answer.
pub fn block(fd: BorrowedFd<'_>) -> Answer<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::empty())).map(drop)
}

/// `fcntl(F_DUPFD_CLOEXEC)`: a copy with a number of at least `lowest`.
///
/// # Errors
/// The kernel's answer.
pub fn duplicate(fd: BorrowedFd<'_>, lowest: RawFd) -> Answer<OwnedFd> {
    fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(lowest)).map(owned)
}

/// `memfd_create(2)`.
///
/// # Errors
/// The kernel's answer.
pub fn memfd(name: &CStr) -> Answer<OwnedFd> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC)
}

/// `lseek(2)` to the start.
///
/// # Errors
/// The kernel's answer.
pub fn rewind(fd: BorrowedFd<'_>) -> Answer<()> {
    nix::unistd::lseek(fd, 0, Whence::SeekSet).map(drop)
}

/// `ftruncate(2)` to 0, and `lseek(2)` to the start.
///
/// # Errors
/// The kernel's answer.
pub fn truncate(fd: BorrowedFd<'_>) -> Answer<()> {
    nix::unistd::ftruncate(fd, 0)?;
    rewind(fd)
}

/// `fcntl(F_SETFL)`: removes `O_NONBLOCK`, with which the file was opened.
///
/// # Errors
/// The kernel's answer.
pub fn set_blocking(fd: BorrowedFd<'_>) -> Answer<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).map(drop)
}

/// `fchdir(2)`. Needs search permission, not read: an `O_PATH` descriptor does.
///
/// # Errors
/// The kernel's answer.
pub fn fchdir(dir: BorrowedFd<'_>) -> Answer<()> {
    nix::unistd::fchdir(dir)
}

/// `chdir(2)`.
///
/// # Errors
/// The kernel's answer.
pub fn chdir(path: &CStr) -> Answer<()> {
    nix::unistd::chdir(path)
}

/// Whether the working directory is below the root: `getcwd(2)` prepends `(unreachable)` to others.
///
/// # Errors
/// The kernel's answer: `ENOENT` where it has been removed.
#[inline(never)]
pub fn is_inside_root() -> Answer<bool> {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most as many bytes as there are. (The library's own function hides such a path.)
    unsafe { call(libc::SYS_getcwd, [path.as_mut_ptr() as usize, path.len(), 0, 0, 0]) }?;
    Ok(path[0] == b'/')
}

/// `chroot(2)`.
///
/// # Errors
/// The kernel's answer.
pub fn chroot(path: &CStr) -> Answer<()> {
    nix::unistd::chroot(path)
}

/// `umask(2)`; answers the old one.
pub fn umask(mask: u32) -> u32 {
    nix::sys::stat::umask(Mode::from_bits_retain(mask)).bits()
}

/// `getdents64(2)`: the next records of a directory.
///
/// # Errors
/// The kernel's answer.
pub fn entries(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Answer<usize> {
    unsafe {
        call(
            libc::SYS_getdents64,
            [dir.as_raw_fd().cast_unsigned() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0],
        )
    }
}

/// The descriptor's number, for messages and for `/proc/self/fd`.
pub fn raw_fd(fd: &impl AsFd) -> RawFd {
    fd.as_fd().as_raw_fd()
}
