//! Paths inside the container's root: opened as descriptors, made if they are missing. No link leads out.

use crate::sys::file::{self, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, open_in};
use crate::sys::{Answer, Errno};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A path that is cut and put together without allocating.
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

    /// Cuts it to a length.
    pub(super) fn cut(&mut self, length: usize) {
        self.length = length.min(self.length);
        self.bytes[self.length] = 0;
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The path, up to the first zero byte.
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

/// What a mount goes on.
pub(super) struct Place {
    pub(super) fd: OwnedFd,
    /// It is where its name says: no link was followed on the way.
    pub(super) literal: bool,
    /// It was missing and is new.
    pub(super) made: bool,
}

impl Place {
    fn made(fd: OwnedFd) -> Self {
        Self { fd, literal: false, made: true }
    }
}

/// Opens what a mount goes on (`O_PATH`), and says whether a link of the image led there.
fn open_place(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> Answer<Place> {
    let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
    match file::openat2(root, path, libc::O_PATH | flags, 0, resolve) {
        Err(Errno::ELOOP) => {
            Ok(Place { fd: open_in(root, path, libc::O_PATH | flags, 0)?, literal: false, made: false })
        }
        answer => Ok(Place { fd: answer?, literal: true, made: false }),
    }
}

/// Opens the directory that a mount goes on; makes it and its parents (0755) if they are missing.
pub(super) fn place(root: BorrowedFd<'_>, path: &CStr) -> Answer<Place> {
    match open_place(root, path, libc::O_DIRECTORY) {
        Err(Errno::ENOENT) => make_directory(root, path).map(Place::made),
        answer => answer,
    }
}

/// Opens a directory inside the root (`O_PATH`); makes it and its parents (0755) if they are missing.
pub(super) fn directory(root: BorrowedFd<'_>, path: &CStr) -> Answer<OwnedFd> {
    match open_in(root, path, libc::O_PATH | libc::O_DIRECTORY, 0) {
        Err(Errno::ENOENT) => make_directory(root, path),
        answer => answer,
    }
}

/// Apart from the usual way, whose stack it would make five pages deep.
#[cold]
#[inline(never)]
fn make_directory(root: BorrowedFd<'_>, path: &CStr) -> Answer<OwnedFd> {
    // most often only the last name is missing
    let (up, name) = split(path);
    if !up.is_empty()
        && !name.is_empty()
        && let Ok(up) = open_in(root, scratch(up)?.as_c()?, libc::O_PATH | libc::O_DIRECTORY, 0)
    {
        let name = scratch(name)?;
        if file::mkdir(up.as_fd(), name.as_c()?, 0o755).is_ok() {
            // what has just been made is no link; one that took its place is refused
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

/// Links that may be followed one after another, as in the kernel.
const LINKS: usize = 40;

/// Makes the directories of a path, from the root on. A link that leads nowhere ends the walk: then what it means is made,
/// and the answer is the path without it.
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
                // the parent is known by its descriptor
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

/// The first name of a path, and what is behind it.
fn next(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.iter().position(|byte| *byte != b'/')?;
    let path = &path[start..];
    Some(path.split_at(path.iter().position(|byte| *byte == b'/').unwrap_or(path.len())))
}

/// A path in which a link, which lies in a directory of this path, is replaced by what it says.
fn followed(directory: BorrowedFd<'_>, path: &Scratch, link: &Scratch, rest: &[u8]) -> Answer<Scratch> {
    let mut buffer = [0; libc::PATH_MAX as usize];
    let says = file::readlink(directory, link.as_c()?, &mut buffer)?;
    let mut path = if says.starts_with(b"/") { Scratch::new(c"")? } else { Scratch::new(path.as_c()?)? };
    path.push(b"/")?;
    path.push(says)?;
    path.push(rest)?;
    Ok(path)
}

/// Opens what a mount will cover (`O_PATH`); if it is missing it is made, as a directory or as an empty file.
pub(super) fn target(root: BorrowedFd<'_>, path: &CStr, as_directory: bool) -> Answer<Place> {
    if as_directory {
        return place(root, path);
    }
    match open_place(root, path, 0) {
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
            // a link that leads nowhere: what it means is made
            Err(Errno::ENOENT) => {
                let directory = scratch(split(path.as_c()?).0)?;
                path = followed(parent.as_fd(), &directory, &name, b"")?;
            }
            answer => return answer,
        }
    }
    Err(Errno::ELOOP)
}

/// The directory that a path lies in, made if missing, and the last name.
pub(super) fn parent(root: BorrowedFd<'_>, path: &CStr) -> Answer<(OwnedFd, Scratch)> {
    let (dir, name) = split(path);
    let dir = if dir.is_empty() { scratch(b".")? } else { scratch(dir)? };
    Ok((directory(root, dir.as_c()?)?, scratch(name)?))
}
