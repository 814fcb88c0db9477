//! Visits a cgroup and all cgroups below it. A payload may create cgroups too: with any bytes in their names, at any depth, in
//! any number, and while we walk. So the walk uses descriptors instead of paths, has one directory open at a time, and has a
//! deadline. May use sys.

use crate::sys::file::{self, RESOLVE_NO_XDEV, entries, openat2};
use crate::sys::{Answer, Errno};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// `DT_DIR` of getdents64(2).
const DIRECTORY: u8 = 4;

/// What a walk does at each cgroup. A cgroup that is removed meanwhile is not an error.
pub(super) trait Visit {
    /// A cgroup was found. Returns whether to enter it.
    fn finds(&mut self, _above: BorrowedFd<'_>, _name: &CStr) -> Answer<bool> {
        Ok(true)
    }

    /// A cgroup was entered (the top one or one that was found); those below it have not been visited yet.
    fn enters(&mut self, _dir: BorrowedFd<'_>, _name: &CStr) -> Answer<()> {
        Ok(())
    }

    /// A cgroup was visited with all below it; the walk is back in the one above.
    fn leaves(&mut self, _above: BorrowedFd<'_>, _name: &CStr) -> Answer<()> {
        Ok(())
    }

    /// Whether to stop the walk.
    fn is_done(&self) -> bool {
        false
    }
}

/// A cgroup on the way from the top to the open one.
struct Level {
    name: CString,
    /// Device and inode, to recognise it on the way up.
    identity: (u64, u64),
    /// The cgroups in it that have not been visited yet.
    below: Vec<CString>,
}

impl Level {
    fn of(dir: BorrowedFd<'_>, name: CString) -> Answer<Self> {
        Ok(Self { name, identity: identity(dir)?, below: sub_directories(dir)? })
    }
}

/// Visits the cgroup `top` and all below it, parents first.
///
/// # Errors
/// The visitor's; the kernel's; `ETIMEDOUT` if it has not finished by `end`, because somebody keeps creating cgroups.
pub(super) fn walk(top: BorrowedFd<'_>, end: Instant, visitor: &mut impl Visit) -> Answer<()> {
    let mut here = open(top, c".")?;
    visitor.enters(here.as_fd(), c"")?;
    let mut way = vec![Level::of(here.as_fd(), CString::default())?];
    while let Some(level) = way.last_mut().filter(|_| !visitor.is_done()) {
        if Instant::now() > end {
            return Err(Errno::ETIMEDOUT);
        }
        let Some(name) = level.below.pop() else {
            let done = way.pop();
            let (Some(done), Some(above)) = (done, way.last()) else { break };
            here = up(here.as_fd(), above)?;
            visitor.leaves(here.as_fd(), &done.name)?;
            continue;
        };
        if !visitor.finds(here.as_fd(), &name)? {
            continue;
        }
        match open(here.as_fd(), &name) {
            Ok(dir) => {
                visitor.enters(dir.as_fd(), &name)?;
                way.push(Level::of(dir.as_fd(), name)?);
                here = dir;
            }
            // removed meanwhile; or something is mounted on it, which is not a cgroup of the container
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EXDEV) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Back to the directory above. A cgroup never changes its parent (v1 can rename one, but not move it); the check makes sure.
fn up(dir: BorrowedFd<'_>, above: &Level) -> Answer<OwnedFd> {
    let found = open(dir, c"..")?;
    if identity(found.as_fd())? == above.identity { Ok(found) } else { Err(Errno::ESTALE) }
}

fn open(dir: BorrowedFd<'_>, name: &CStr) -> Answer<OwnedFd> {
    openat2(dir, name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0, RESOLVE_NO_XDEV)
}

fn identity(dir: BorrowedFd<'_>) -> Answer<(u64, u64)> {
    file::stat(dir).map(|found| (found.st_dev, found.st_ino))
}

/// The names of the directories in a directory whose descriptor is at its start.
fn sub_directories(dir: BorrowedFd<'_>) -> Answer<Vec<CString>> {
    let mut names = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = match entries(dir, &mut buffer) {
            Ok(length) => length,
            // removed meanwhile
            Err(Errno::ENOENT | Errno::ENODEV) => 0,
            Err(errno) => return Err(errno),
        };
        if length == 0 {
            return Ok(names);
        }
        directories(buffer.get(..length).unwrap_or_default(), &mut names)?;
    }
}

/// Adds the names of the directories among the records of getdents64(2): inode 8 bytes, offset 8, length of the record 2,
/// kind 1, name.
fn directories(mut records: &[u8], names: &mut Vec<CString>) -> Answer<()> {
    while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, low, high, kind, ..] = records {
        let (record, rest) =
            records.split_at_checked(usize::from(u16::from_ne_bytes([*low, *high]))).ok_or(Errno::EIO)?;
        let name = record.get(19..).and_then(|name| CStr::from_bytes_until_nul(name).ok()).ok_or(Errno::EIO)?;
        if *kind == DIRECTORY && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
        records = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of getdents64(2), its length filled up to eight bytes.
    fn record(kind: u8, name: &[u8]) -> Vec<u8> {
        let length = (19 + name.len() + 1).next_multiple_of(8);
        let mut record = [&[0xff; 16], &u16::try_from(length).unwrap().to_ne_bytes()[..], &[kind], name].concat();
        record.resize(length, 0);
        record
    }

    #[test]
    fn names_of_directories_are_any_bytes() {
        let long = [0x80; 255];
        let records =
            [(4, &b"."[..]), (4, b".."), (8, b"cgroup.procs"), (4, b"\xff \n"), (4, &long), (4, b"..."), (10, b"l")]
                .map(|(kind, name)| record(kind, name))
                .concat();
        let mut names = Vec::new();
        directories(&records, &mut names).unwrap();
        assert_eq!(names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>(), [&b"\xff \n"[..], &long, b"..."]);
    }

    #[test]
    fn broken_records_are_refused() {
        let whole = record(4, b"name");
        let mut short = whole.clone();
        short[16..18].copy_from_slice(&18_u16.to_ne_bytes());
        let mut none = whole.clone();
        none[16..18].copy_from_slice(&0_u16.to_ne_bytes());
        for broken in [&whole[..20], &short, &none] {
            assert_eq!(directories(broken, &mut Vec::new()), Err(Errno::EIO));
        }
    }
}
