//! Opens paths inside the container's root as descriptors, and creates them if they are missing. No link leads out.

use crate::sys::file::{self, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, open_in};
use crate::sys::{Answer, Errno};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A buffer to build a path in, without allocation.
pub(super) struct Scratch {
    bytes: [u8; libc::PATH_MAX as usize],
    length: usize,
}

impl Scratch {
    /// Copies a path.
    pub(super) fn new(path: &CStr) -> Answer<Self> {
        let mut scratch = Self { bytes: [0; libc::PATH_MAX as usize], length: 0 };
        scratch.push(path.to_bytes())?;
        Ok(scratch)
    }

    /// Appends bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Answer<()> {
        let end = self.length + bytes.len();
        if end >= self.bytes.len() {
            return Err(Errno::ENAMETOOLONG);
        }
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.bytes[end] = 0;
        self.length = end;
        Ok(())
    }

    /// Truncates it.
    pub(super) fn cut(&mut self, length: usize) {
        self.length = length.min(self.length);
        self.bytes[self.length] = 0;
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The path as a C string.
    pub(super) fn as_c(&self) -> Answer<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes[..=self.length]).map_err(|_| Errno::EINVAL)
    }
}

impl std::fmt::Write for Scratch {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes()).map_err(|_| std::fmt::Error)
    }
}

/// Splits a path into the directory and the last name.
fn split(path: &CStr) -> (&[u8], &[u8]) {
    let bytes = path.to_bytes();
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (b"", bytes),
    }
}

fn scratch(bytes: &[u8]) -> Answer<Scratch> {
    let mut scratch = Scratch::new(c"")?;
    scratch.push(bytes)?;
    Ok(scratch)
}

/// A mount point.
pub(super) struct Place {
    pub(super) fd: OwnedFd,
    /// No link was followed on the way: its real path is its name.
    pub(super) literal: bool,
    /// It was missing and has been created.
    pub(super) made: bool,
}

impl Place {
    fn made(fd: OwnedFd) -> Self {
        Self { fd, literal: false, made: true }
    }
}

/// Opens a mount point (`O_PATH`).
fn open_place(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> Answer<Place> {
    let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
    match file::openat2(root, path, libc::O_PATH | flags, 0, resolve) {
        Err(Errno::ELOOP) => {
            Ok(Place { fd: open_in(root, path, libc::O_PATH | flags, 0)?, literal: false, made: false })
        }
        answer => Ok(Place { fd: answer?, literal: true, made: false }),
    }
}

/// Opens a mount point that is a directory; creates it and its parents (0755) if they are missing.
pub(super) fn place(root: BorrowedFd<'_>, path: &CStr) -> Answer<Place> {
    match open_place(root, path, libc::O_DIRECTORY) {
        Err(Errno::ENOENT) => make_directory(root, path).map(Place::made),
        answer => answer,
    }
}

/// Opens a directory inside the root (`O_PATH`); creates it and its parents (0755) if they are missing.
pub(super) fn directory(root: BorrowedFd<'_>, path: &CStr) -> Answer<OwnedFd> {
    match open_in(root, path, libc::O_PATH | libc::O_DIRECTORY, 0) {
        Err(Errno::ENOENT) => make_directory(root, path),
        answer => answer,
    }
}

/// A function of its own, because it needs five pages of stack.
#[cold]
#[inline(never)]
fn make_directory(root: BorrowedFd<'_>, path: &CStr) -> Answer<OwnedFd> {
    // usually only the last name is missing
    let (up, name) = split(path);
    if !up.is_empty()
        && !name.is_empty()
        && let Ok(up) = open_in(root, scratch(up)?.as_c()?, libc::O_PATH | libc::O_DIRECTORY, 0)
    {
        let name = scratch(name)?;
        if file::mkdir(up.as_fd(), name.as_c()?, 0o755).is_ok() {
            // we have just created a directory: if it is a link now, somebody replaced it
            let made = file::open(up.as_fd(), name.as_c()?, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0);
            super::leak_until_exec(up);
            return made;
        }
    }
    let mut path = Scratch::new(path)?;
    for _ in 0..LINKS {
        match walk(root, &path)? {
            Ok(made) => return Ok(made),
            Err(longer) => path = longer,
        }
    }
    Err(Errno::ELOOP)
}

/// How many links are followed at most, as in the kernel.
const LINKS: usize = 40;

/// Creates the directories of a path, beginning at the root. At a dangling link the walk ends: the result is then the path with the
/// link replaced by its target, to be walked next.
fn walk(root: BorrowedFd<'_>, path: &Scratch) -> Answer<Result<OwnedFd, Scratch>> {
    let mut at = open_in(root, c".", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let mut walked = Scratch::new(c"")?;
    let mut rest = path.as_c()?.to_bytes();
    while let Some((name, behind)) = next(rest) {
        rest = behind;
        let parent = walked.len();
        walked.push(b"/")?;
        walked.push(name)?;
        at = match open_in(root, walked.as_c()?, libc::O_PATH | libc::O_DIRECTORY, 0) {
            Err(Errno::ENOENT) => {
                let name = scratch(name)?;
                // relative to the descriptor of the parent
                let made = match file::mkdir(at.as_fd(), name.as_c()?, 0o755) {
                    Ok(()) | Err(Errno::EEXIST) => open_in(root, walked.as_c()?, libc::O_PATH | libc::O_DIRECTORY, 0),
                    Err(errno) => Err(errno),
                };
                match made {
                    Err(Errno::ENOENT) => {
                        walked.cut(parent);
                        return followed(at.as_fd(), &walked, &name, rest).map(Err);
                    }
                    answer => answer?,
                }
            }
            answer => answer?,
        };
    }
    Ok(Ok(at))
}

/// The first name of a path, and the rest.
fn next(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.iter().position(|byte| *byte != b'/')?;
    let path = &path[start..];
    Some(path.split_at(path.iter().position(|byte| *byte == b'/').unwrap_or(path.len())))
}

/// A path in which a link in `directory` is replaced by its target.
fn followed(directory: BorrowedFd<'_>, path: &Scratch, link: &Scratch, rest: &[u8]) -> Answer<Scratch> {
    let mut buffer = [0; libc::PATH_MAX as usize];
    let says = file::readlink(directory, link.as_c()?, &mut buffer)?;
    let mut path = if says.starts_with(b"/") { Scratch::new(c"")? } else { Scratch::new(path.as_c()?)? };
    path.push(b"/")?;
    path.push(says)?;
    path.push(rest)?;
    Ok(path)
}

/// Opens a mount point (`O_PATH`); creates it as a directory or as an empty file if it is missing. With
/// `nofollow` the last name is not followed, so that a link itself is covered.
pub(super) fn target(root: BorrowedFd<'_>, path: &CStr, as_directory: bool, nofollow: bool) -> Answer<Place> {
    if as_directory && !nofollow {
        return place(root, path);
    }
    match open_place(root, path, if nofollow { libc::O_NOFOLLOW } else { 0 }) {
        Err(Errno::ENOENT) if as_directory => make_directory(root, path).map(Place::made),
        Err(Errno::ENOENT) => make_file(root, path).map(Place::made),
        answer => answer,
    }
}

#[cold]
#[inline(never)]
fn make_file(root: BorrowedFd<'_>, path: &CStr) -> Answer<OwnedFd> {
    let mut path = Scratch::new(path)?;
    for _ in 0..LINKS {
        let (parent, name) = parent(root, path.as_c()?)?;
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_RDONLY;
        match file::open(parent.as_fd(), name.as_c()?, flags, 0o755) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        match open_in(root, path.as_c()?, libc::O_PATH, 0) {
            // a dangling link: its target is created
            Err(Errno::ENOENT) => {
                let directory = scratch(split(path.as_c()?).0)?;
                path = followed(parent.as_fd(), &directory, &name, b"")?;
            }
            answer => return answer,
        }
    }
    Err(Errno::ELOOP)
}

/// The parent directory of a path, created if missing, and the last name.
pub(super) fn parent(root: BorrowedFd<'_>, path: &CStr) -> Answer<(OwnedFd, Scratch)> {
    let (dir, name) = split(path);
    let dir = if dir.is_empty() { scratch(b".")? } else { scratch(dir)? };
    Ok((directory(root, dir.as_c()?)?, scratch(name)?))
}
