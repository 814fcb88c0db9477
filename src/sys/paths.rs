//! Files that a caller names: documents to read, and files to write. Both may be anything: a device, a FIFO, a link that somebody
//! else has created.

use super::{Errno, cred, file};
use std::ffi::CString;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The maximum size of a document.
pub const MOST: usize = 64 << 20;
/// How many links the kernel follows at most (`path_resolution(7)`).
const LINKS: usize = 40;
/// `PROC_SUPER_MAGIC` of `statfs(2)`.
const PROC: i64 = 0x9fa0;

/// Reads a document to its end: a file or a FIFO. `usual` is a size that most documents fit in.
///
/// # Errors
/// It cannot be read, is a device or a socket, or is larger than [`MOST`].
pub fn document(path: &Path, usual: usize) -> Result<Vec<u8>> {
    match file::open_path(path, libc::O_RDONLY | libc::O_NOCTTY, 0) {
        // a socket in the file system cannot be opened
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Err(Error::other("is a socket, not a document")),
        opened => rest(opened?, usual),
    }
}

/// Reads a log that another program writes, as far as it exists; never blocks.
///
/// # Errors
/// As [`document`].
pub fn written(path: &Path) -> Result<Vec<u8>> {
    rest(file::open_path(path, libc::O_RDONLY | libc::O_NOCTTY | libc::O_NONBLOCK, 0)?, 4096)
}

/// Reads the rest of an open document.
///
/// # Errors
/// As [`document`].
pub fn rest(mut from: impl Read + AsFd, usual: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usual.max(1)];
    let mut length = 0;
    loop {
        match from.read(&mut bytes[length..]) {
            Ok(0) => {
                bytes.truncate(length);
                bytes.shrink_to_fit();
                return Ok(bytes);
            }
            Ok(got) => length += got,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if length > MOST {
            return Err(Error::new(
                ErrorKind::FileTooLarge,
                format!("holds more than {} MiB, the most that is read", MOST >> 20),
            ));
        }
        if length == bytes.len() {
            // so long a document may be a device, which has no end
            let kind = file::stat(from.as_fd())?.st_mode & libc::S_IFMT;
            if matches!(kind, libc::S_IFCHR | libc::S_IFBLK) {
                return Err(Error::other("is a device, not a document"));
            }
            bytes.resize((2 * bytes.len()).min(MOST + 1), 0);
        }
    }
}

/// What happens to the previous contents of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// They stay; new output is appended.
    Stays,
    /// They are removed.
    Goes,
}

/// Opens a file to write for the caller; creates it if it is missing.
///
/// In a directory where everybody may create files (sticky and world-writable, as `/tmp`) it refuses a link or a file that
/// belongs to somebody else than the directory's owner or us, and a file of ours with a second hard link, which somebody else
/// could have created. The kernel does the same with `fs.protected_symlinks`, `protected_regular`, `protected_fifos` and
/// `protected_hardlinks` (`proc_sys_fs(5)`). Elsewhere links are followed. Does not wait for the reader of a FIFO.
///
/// # Errors
/// The kernel's answer, or the reason for the refusal.
pub fn output(path: &Path, before: Before, mode: u32) -> Result<File> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_NONBLOCK | libc::O_NOCTTY;
    let flags = if before == Before::Stays { flags | libc::O_APPEND } else { flags };
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match file::open_path(&path, flags | libc::O_NOFOLLOW, mode) {
            Ok(file) => {
                judge(&path, &file)?;
                return ready(file, before);
            }
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {}
            Err(error) => return Err(unread(error)),
        }
        match follow(&path)? {
            Some(target) => path = target,
            // a magic link of procfs leads to an open file, not to a path
            None => return ready(file::open_path(&path, flags, mode).map_err(unread)?, before),
        }
    }
    Err(Errno::ELOOP.into())
}

/// `ENXIO` means a FIFO without a reader, or a socket.
fn unread(error: Error) -> Error {
    if error.raw_os_error() == Some(libc::ENXIO) {
        Error::other("is a FIFO that nobody reads, or a socket")
    } else {
        error
    }
}

/// The target of the link at a path, if it may be followed; `None` for a magic link of procfs.
fn follow(path: &Path) -> Result<Option<PathBuf>> {
    let (above, name) = (above(path), path.file_name().ok_or(Errno::ELOOP)?);
    let dir = file::open_path(above, libc::O_PATH | libc::O_DIRECTORY, 0)?;
    if file::fs_magic(dir.as_fd())? == PROC {
        return Ok(None);
    }
    let name = CString::new(name.as_bytes())?;
    // opened, so that the link that is checked is the one that is read
    let link = file::open(dir.as_fd(), &name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
    let (link_is, dir_is) = (file::stat(link.as_fd())?, file::stat(dir.as_fd())?);
    foreign(&link_is, &dir_is, "link")?;
    let mut room = [0; libc::PATH_MAX as usize];
    let target = file::readlink(link.as_fd(), c"", &mut room)?;
    Ok(Some(above.join(PathBuf::from(std::ffi::OsString::from_vec(target.to_vec())))))
}

/// The parent directory of a path.
fn above(path: &Path) -> &Path {
    path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Checks whether an open file may be written to. A file of ours with one name, which is the usual case, may be anywhere.
fn judge(path: &Path, opened: &File) -> Result<()> {
    let found = file::stat(opened.as_fd())?;
    if found.st_uid == cred::euid() && found.st_nlink <= 1 {
        return Ok(());
    }
    let dir = file::open_path(above(path), libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let dir = file::stat(dir.as_fd())?;
    foreign(&found, &dir, "file")?;
    if is_shared(&dir) && found.st_mode & libc::S_IFMT == libc::S_IFREG && found.st_nlink > 1 {
        return Err(Error::other("has a second name, in a directory where everybody may give it one"));
    }
    Ok(())
}

fn foreign(found: &libc::stat, dir: &libc::stat, what: &str) -> Result<()> {
    if is_shared(dir) && found.st_uid != cred::euid() && found.st_uid != dir.st_uid {
        let uid = found.st_uid;
        return Err(Error::other(format!("is a {what} of user {uid} in a directory where everybody may make one")));
    }
    Ok(())
}

/// Whether everybody may create files in a directory, and only their owners may remove them.
fn is_shared(dir: &libc::stat) -> bool {
    let both = libc::S_ISVTX | libc::S_IWOTH;
    dir.st_mode & both == both
}

/// Truncates the file, now that it has been checked, and makes writes blocking.
fn ready(opened: File, before: Before) -> Result<File> {
    let regular = file::stat(opened.as_fd())?.st_mode & libc::S_IFMT == libc::S_IFREG;
    if regular && before == Before::Goes {
        opened.set_len(0)?;
    }
    if !regular {
        file::set_blocking(opened.as_fd())?;
    }
    Ok(opened)
}
