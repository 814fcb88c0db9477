//! The calls for cgroup file systems: directories, small files, and the cgroup version of a mount.
//!
//! May use nix only. Everything opened here is close-on-exec.

use super::{check, owned, wait};
use nix::errno::Errno;
pub use nix::fcntl::AT_FDCWD;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{Uid, UnlinkatFlags, Whence, chown, lseek, mkdir, read, unlinkat, write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// What is mounted at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounted {
    /// cgroup2 (`statfs` says `CGROUP2_SUPER_MAGIC`).
    V2,
    /// A v1 hierarchy.
    V1,
    /// Something else, or nothing.
    Other,
}

/// Which cgroup file system a path is on.
#[must_use]
pub fn mounted(path: &Path) -> Mounted {
    match statfs(path).map(|s| s.filesystem_type()) {
        Ok(magic) if magic == CGROUP2_SUPER_MAGIC => Mounted::V2,
        Ok(magic) if magic == CGROUP_SUPER_MAGIC => Mounted::V1,
        Ok(_) | Err(_) => Mounted::Other,
    }
}

/// Makes one directory, mode 0755 less the umask.
///
/// # Errors
/// mkdir(2)'s.
pub fn make_dir(path: &Path) -> Result<(), Errno> {
    mkdir(path, Mode::from_bits_truncate(0o755))
}

/// Removes one directory. A cgroup's files need not be removed first.
///
/// # Errors
/// rmdir(2)'s; `EBUSY` while the cgroup has processes or children.
pub fn remove_dir(path: &Path) -> Result<(), Errno> {
    unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir)
}

/// Gives a file to a user; its group stays.
///
/// # Errors
/// chown(2)'s.
pub fn give(path: &Path, uid: u32) -> Result<(), Errno> {
    chown(path, Some(Uid::from_raw(uid)), None)
}

/// Opens a directory (`O_PATH`), for `*at` calls and for `CLONE_INTO_CGROUP`.
///
/// # Errors
/// open(2)'s.
pub fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// `EISDIR` becomes `ENOENT`: where the kernel has no such file, a payload may have created a cgroup of that name.
fn no_directory(errno: Errno) -> Errno {
    if errno == Errno::EISDIR { Errno::ENOENT } else { errno }
}

/// Writes a value into a file with one write(2), because the kernel takes each write as one change.
///
/// # Errors
/// openat(2)'s and write(2)'s; the latter are the controller's own answer.
pub fn write_at(dir: impl AsFd, file: &Path, value: &str) -> Result<(), Errno> {
    // no O_CREAT: a file that does not exist must be ENOENT, not EPERM
    let fd = openat(dir, file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(no_directory)?;
    loop {
        match write(&fd, value.as_bytes()) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(()),
        }
    }
}

/// Writes a value into a file by its path.
///
/// # Errors
/// As [`write_at`].
pub fn write_file(path: &Path, value: &str) -> Result<(), Errno> {
    write_at(AT_FDCWD, path, value)
}

/// Reads a file of one line, at most 4096 bytes, with one read(2).
///
/// # Errors
/// openat(2)'s and read(2)'s.
pub fn read_line_at(dir: impl AsFd, file: &Path) -> Result<String, Errno> {
    let fd = openat(dir, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut buffer = [0_u8; 4096];
    let n = loop {
        match read(&fd, &mut buffer) {
            Err(Errno::EINTR) => {}
            answer => break answer.map_err(no_directory)?,
        }
    };
    String::from_utf8(buffer.get(..n).unwrap_or_default().to_vec()).map_err(|_| Errno::EILSEQ)
}

/// Reads a whole file.
///
/// # Errors
/// openat(2)'s and read(2)'s.
pub fn read_at(dir: impl AsFd, file: &Path) -> Result<String, Errno> {
    read_all(&openat(dir, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Reads a whole file by its path.
///
/// # Errors
/// open(2)'s and read(2)'s.
pub fn read_file(path: &Path) -> Result<String, Errno> {
    read_at(AT_FDCWD, path)
}

fn read_all(fd: &OwnedFd) -> Result<String, Errno> {
    let mut text = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        match read(fd, &mut buffer) {
            Ok(0) => return String::from_utf8(text).map_err(|_| Errno::EILSEQ),
            Ok(n) => text.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(no_directory(errno)),
        }
    }
}

/// A file that notifies of changes (`cgroup.events`, `memory.events`: `POLLPRI` of poll(2)).
#[derive(Debug)]
pub struct Watched(OwnedFd);

impl Watched {
    /// Opens the file.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map(Self)
    }

    /// Reads it again; later changes wake [`Watched::wait`].
    ///
    /// # Errors
    /// lseek(2)'s and read(2)'s; `ENODEV` once the cgroup is gone.
    pub fn read(&self) -> Result<String, Errno> {
        lseek(&self.0, 0, Whence::SeekSet)?;
        read_all(&self.0)
    }

    /// Sleeps until the file has changed or the time is over. `true` if it may have changed.
    ///
    /// # Errors
    /// As [`wait()`].
    pub fn wait(&self, most: Duration) -> Result<bool, Errno> {
        wait(&[self], &[], most)
    }
}

/// An eventfd(2) to which the kernel adds events of v1's `cgroup.event_control`.
#[derive(Debug)]
pub struct Counter(OwnedFd);

impl Counter {
    /// Creates one. Reading it never blocks.
    ///
    /// # Errors
    /// eventfd(2)'s.
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: eventfd(2) takes two numbers.
        check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }).map(|fd| Self(owned(fd)))
    }

    /// The number of events since the last call.
    ///
    /// # Errors
    /// read(2)'s, `EAGAIN` excepted.
    pub fn take(&self) -> Result<u64, Errno> {
        let mut count = [0; 8];
        match read(&self.0, &mut count) {
            Ok(_) => Ok(u64::from_ne_bytes(count)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    /// Has it count the events of a v1 file (`memory.oom_control`) of the cgroup at `dir`.
    ///
    /// # Errors
    /// open(2)'s and write(2)'s.
    pub fn count(&self, dir: &Path, file: &str) -> Result<(), Errno> {
        let watched = open(&dir.join(file), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let numbers = format!("{} {}", self.0.as_raw_fd(), watched.as_raw_fd());
        // the kernel keeps its own reference to the file
        write_file(&dir.join("cgroup.event_control"), &numbers)
    }
}

/// Sleeps until one of the files has changed, one of the counters is not zero, or the time is over. `true` if something
/// may have happened.
///
/// # Errors
/// poll(2)'s, `EINTR` excepted: a signal counts as a possible change.
pub fn wait(files: &[&Watched], counters: &[&Counter], most: Duration) -> Result<bool, Errno> {
    let files = files.iter().map(|file| wait::entry(file.0.as_raw_fd(), libc::POLLPRI));
    let counters = counters.iter().map(|counter| wait::entry(counter.0.as_raw_fd(), libc::POLLIN));
    let mut set: Vec<libc::pollfd> = files.chain(counters).collect();
    match wait::poll(&mut set, wait::milliseconds(most)) {
        Ok(n) => Ok(n > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// Sends a signal, given by its number (real-time signals have no name in nix).
///
/// # Errors
/// kill(2)'s.
pub fn send_signal(pid: i32, signal: i32) -> Result<(), Errno> {
    // 0 and negative numbers would reach whole process groups
    if pid <= 0 {
        return Err(Errno::ESRCH);
    }
    // SAFETY: kill(2) takes two numbers and touches no memory of ours.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}
