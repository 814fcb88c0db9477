//! `tmpcopyup`: copies the directory that a tmpfs will cover into it.

use super::StepResult;
use crate::sys::file::{self, entries, readlink};
use crate::sys::{Answer, Errno};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

/// Copies everything below one directory into another: files, directories, links, nodes; with owner and permissions.
pub(super) fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> StepResult {
    Ok(directory(from, to, 0)?)
}

/// The deepest directory that is copied: deep enough for images, and the stack suffices.
const DEEPEST: usize = 128;

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Answer<()> {
    if depth > DEEPEST {
        return Err(Errno::ELOOP);
    }
    let mut buffer = [0u8; 4096];
    loop {
        let length = entries(from, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut at = 0;
        while at + 19 < length {
            // struct linux_dirent64: inode 8, offset 8, record length 2, type 1, name
            let record = usize::from(u16::from_ne_bytes([buffer[at + 16], buffer[at + 17]]));
            let name =
                CStr::from_bytes_until_nul(&buffer[at + 19..(at + record).min(length)]).map_err(|_| Errno::EIO)?;
            if name != c"." && name != c".." {
                entry(from, to, name, depth)?;
            }
            at += record;
        }
    }
}

fn entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Answer<()> {
    let nofollow = libc::AT_SYMLINK_NOFOLLOW;
    let found = file::stat_at(from, name, nofollow)?;
    let permissions = found.st_mode & 0o7777;
    match found.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            file::mkdir(to, name, 0o700)?;
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let (source, copy) = (file::open(from, name, flags, 0)?, file::open(to, name, flags, 0)?);
            directory(source.as_fd(), copy.as_fd(), depth + 1)?;
        }
        libc::S_IFLNK => {
            let mut target = [0u8; libc::PATH_MAX as usize];
            let last = target.len() - 1;
            readlink(from, name, &mut target[..last])?;
            file::symlink(CStr::from_bytes_until_nul(&target).map_err(|_| Errno::EINVAL)?, to, name)?;
        }
        libc::S_IFREG => contents(from, to, name)?,
        libc::S_IFSOCK => return Ok(()),
        _ => file::mknod(to, name, found.st_mode, found.st_rdev)?,
    }
    file::chown(to, name, Some(found.st_uid), Some(found.st_gid), nofollow)?;
    // after chown, which clears set-id bits; a symbolic link has no permissions of its own
    if found.st_mode & libc::S_IFMT == libc::S_IFLNK { Ok(()) } else { file::chmod(to, name, permissions) }
}

fn contents(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Answer<()> {
    let source = file::open(from, name, libc::O_RDONLY | libc::O_NOFOLLOW, 0)?;
    let copy = file::open(to, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW, 0o600)?;
    let mut buffer = [0u8; 16384];
    loop {
        let length = file::read(source.as_fd(), &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        file::write(copy.as_fd(), &buffer[..length])?;
    }
}
