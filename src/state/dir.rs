//! The directory of one container, and the files in it.

use super::Record;
use crate::error::{Context, Error, Result};
use crate::sys::file::open_path;
use crate::sys::{cred, lock};
use serde::Serialize;
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The file with the record and the bundle's configuration.
pub(super) const RECORD: &str = "state.json";
/// The file that init keeps locked until it becomes the payload.
const GATE: &str = "gate";

/// The lock on this byte of the record says that the call which makes the container is still at work.
const MAKER: i64 = 0;
/// The lock on this byte says that somebody deletes the container.
const DELETER: i64 = 1;
/// The bit of the record's mode (`S_ISVTX`, which means nothing for a file) that says that somebody deletes the container
/// while it is being made.
const DELETED: u32 = 0o1000;

/// A directory that was made by this call. As long as this process lives and the claim is not released, the lock on its
/// record says that the container is being made. The lock is the process's own: init does not inherit it.
#[derive(Debug)]
pub struct Claim {
    /// The directory.
    pub dir: Dir,
    file: Rc<File>,
}

/// The record of a container that is being made: what is known at first is written, the rest follows.
#[derive(Debug)]
pub struct Announced {
    path: PathBuf,
    file: Rc<File>,
}

/// The open record of a container: knows it by its inode, whatever is at its path by now, and may hold the lock of who
/// deletes it.
#[derive(Debug, Clone)]
pub struct Grip {
    path: PathBuf,
    pub(super) file: Rc<File>,
}

/// The directory of a container.
#[derive(Debug)]
pub struct Dir {
    pub(super) path: PathBuf,
}

impl Dir {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same directory.
    #[must_use]
    pub(super) fn again(&self) -> Self {
        Self { path: self.path.clone() }
    }

    /// The path of the gate.
    #[must_use]
    pub fn gate(&self) -> PathBuf {
        self.path.join(GATE)
    }

    /// The path of the file with the record.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.path.join(RECORD)
    }

    /// Whether the call that makes the container is still at work. Not to be asked by that call itself.
    ///
    /// # Errors
    /// When the record is there and cannot be looked at.
    pub fn claimed(&self) -> Result<bool> {
        let path = self.record();
        match open_path(&path, libc::O_RDONLY, 0) {
            Ok(file) => lock::is_held(&file, MAKER).context(|| format!("look at the lock of {}", path.display())),
            Err(error) if gone(&error) => Ok(false),
            Err(error) => Err(Error::from(error).context(format!("open {}", path.display()))),
        }
    }

    /// Makes the gate and locks it. The open file is for init alone: whoever keeps a copy keeps the container in
    /// status created.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_gate(&self) -> Result<File> {
        let path = self.gate();
        let open = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let gate = open.context(|| format!("open {}", path.display()))?;
        gate.lock().context(|| format!("lock {}", path.display()))?;
        Ok(gate)
    }

    /// Removes the directory. The record goes first: with it the container is gone for everybody who asks. Whoever
    /// removes holds the lock of the record ([`Grip::lock`]), or there is no record.
    ///
    /// # Errors
    /// When it cannot be removed; that it is gone already is none.
    pub fn remove(&self) -> Result<()> {
        let what = || format!("remove {}", self.path.display());
        let record = self.record();
        match std::fs::remove_file(&record) {
            Err(error) if !gone(&error) => {
                return Err(Error::from(error).context(format!("remove {}", record.display())));
            }
            Ok(()) | Err(_) => {}
        }
        match std::fs::remove_dir(&self.path) {
            // the gate of a container that was created, a notify socket, or what a killed call has left
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => self.remove_rest(),
            Err(error) if !gone(&error) => Err(error).context(what),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes a directory without a record: the rest of a container.
    ///
    /// # Errors
    /// When it cannot be removed; that it is gone already, or that it has a record by now, is none.
    pub fn remove_rest(&self) -> Result<()> {
        self.clear().context(|| format!("remove {}", self.path.display()))
    }

    /// Removes what is left in a directory without a record, and the directory. Without a record nobody holds a lock:
    /// somebody else may remove it too, and make it anew. So it is done in the directory that was opened, and not if a
    /// record has come into it.
    fn clear(&self) -> std::io::Result<()> {
        let opened = match open_path(&self.path, libc::O_RDONLY | libc::O_DIRECTORY, 0) {
            Err(error) if gone(&error) => return Ok(()),
            opened => opened?,
        };
        let inside = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        for entry in std::fs::read_dir(&inside)? {
            let entry = entry?;
            if entry.file_name() == RECORD {
                return Ok(());
            }
            let removed = if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())
            } else {
                std::fs::remove_file(entry.path())
            };
            match removed {
                Err(error) if !gone(&error) => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        match std::fs::remove_dir(&self.path) {
            Err(error) if gone(&error) || self.record().exists() => Ok(()),
            removed => removed,
        }
    }

    /// The name of the user who made the container, or `#` and his id. `users` is the text of `/etc/passwd`: a static program
    /// has no name service.
    #[must_use]
    pub fn owner(&self, users: &[u8]) -> String {
        let Ok(meta) = std::fs::metadata(&self.path) else { return String::new() };
        let uid = meta.uid();
        let name = user_name(users, uid).map(|name| String::from_utf8_lossy(name).into_owned());
        name.unwrap_or_else(|| format!("#{uid}"))
    }
}

impl Claim {
    /// Makes the record, empty, in a directory that was just made, and locks it.
    pub(super) fn new(dir: Dir) -> std::io::Result<Self> {
        let file = open_path(&dir.record(), libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW, 0o600)?;
        if let Err(errno) = lock::hold(&file, MAKER) {
            let _keeps_its_error = std::fs::remove_file(dir.record());
            return Err(errno.into());
        }
        Ok(Self { dir, file: Rc::new(file) })
    }

    /// A claim on a directory that has a record already.
    #[cfg(test)]
    pub(super) fn again(dir: &Dir) -> Self {
        let file = open_path(&dir.record(), libc::O_RDWR, 0).unwrap();
        Self { dir: dir.again(), file: Rc::new(file) }
    }

    /// Writes the first record: what `delete --force` needs if we are killed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn announce<C: Serialize>(&self, record: &Record<C>) -> Result<Announced> {
        let mut announced = Announced { path: self.dir.record(), file: Rc::clone(&self.file) };
        announced.append(record, b"")?;
        Ok(announced)
    }

    /// The open record, by which the container is known.
    #[must_use]
    pub fn grip(&self) -> Grip {
        Grip { path: self.dir.record(), file: Rc::clone(&self.file) }
    }

    /// Takes the directory away again, unless somebody who deletes the container does so.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn undo(&self) -> impl FnOnce() -> Result<()> + use<> {
        let (grip, dir) = (self.grip(), self.dir.again());
        move || if grip.lock()? { dir.remove() } else { Ok(()) }
    }

    /// The container is made: it is not being created any more.
    pub(super) fn release(self) -> (Dir, Grip) {
        let grip = self.grip();
        // it cannot fail, and the lock goes with us at the latest
        let _released = lock::release(&self.file, MAKER);
        (self.dir, grip)
    }
}

impl Grip {
    pub(super) fn new(path: PathBuf, file: File) -> Self {
        Self { path, file: Rc::new(file) }
    }

    /// Takes the lock of who deletes the container, and waits for it. `false`: somebody else deletes it, or has done so.
    ///
    /// # Errors
    /// The kernel's answer; somebody holds the lock for longer than any deletion takes.
    pub fn lock(&self) -> Result<bool> {
        self.lock_unless(DELETED)
    }

    /// The same, for who waits until all others who delete the container have come to their end. `false`: it is gone.
    ///
    /// # Errors
    /// As [`Grip::lock`].
    pub fn lock_to_delete(&self) -> Result<bool> {
        self.lock_unless(0)
    }

    fn lock_unless(&self, marked: u32) -> Result<bool> {
        const LONGEST: Duration = Duration::from_secs(130);
        let what = || format!("lock {}", self.path.display());
        let (end, mut pause) = (Instant::now() + LONGEST, Duration::from_micros(100));
        loop {
            let locked = lock::try_hold_open(&self.file, DELETER).context(what)?;
            let meta = self.file.metadata().context(what)?;
            if meta.nlink() == 0 {
                return Ok(false);
            }
            if locked {
                return Ok(true);
            }
            if meta.mode() & marked != 0 {
                return Ok(false);
            }
            if Instant::now() > end {
                return Err(
                    Error::msg("another call deletes the container and does not come to its end").context(what())
                );
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Tells the call that makes the container, if it is at work, that the container is being deleted: it takes back what
    /// it makes. What it has recorded before it learns of that can be read from now on.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn mark(&self) -> Result<()> {
        let mode = PermissionsExt::from_mode(0o600 | DELETED);
        self.file.set_permissions(mode).context(|| format!("chmod {}", self.path.display()))
    }

    /// Whether the call that makes the container is still at work.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn claimed(&self) -> Result<bool> {
        lock::is_held(&self.file, MAKER).context(|| format!("look at the lock of {}", self.path.display()))
    }

    /// Whether somebody has removed the record: what is at the container's paths by now may be another container's.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn is_gone(&self) -> Result<bool> {
        let meta = self.file.metadata().context(|| format!("stat {}", self.path.display()))?;
        Ok(meta.nlink() == 0)
    }

    /// What the record says now.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut file: &File = &self.file;
        let read = file.rewind().and_then(|()| file.read_to_end(&mut text));
        read.context(|| format!("read {}", self.path.display()))?;
        Ok(text)
    }
}

impl Announced {
    /// Writes the record of a container that is there, and its configuration as it was read: later changes of the bundle
    /// must not change the container. A reader takes a record that is not yet written whole for none. Behind the write it
    /// is asked whether somebody deletes the container: whoever does so marks it first and reads the record then, so one
    /// of the two knows of the other.
    ///
    /// # Errors
    /// When it cannot be written; when somebody deletes the container.
    pub fn complete<C: Serialize>(mut self, record: &Record<C>, config: &[u8]) -> Result<()> {
        self.append(record, config)?;
        let meta = self.file.metadata().context(|| format!("stat {}", self.path.display()))?;
        if meta.nlink() == 0 || meta.mode() & DELETED != 0 {
            return Err(Error::msg("the container was deleted while it was being created"));
        }
        Ok(())
    }

    /// A record is one line: JSON has no raw line ends but between its tokens, and there we put none.
    fn append<C: Serialize>(&mut self, record: &Record<C>, config: &[u8]) -> Result<()> {
        let what = || format!("write {}", self.path.display());
        let mut text = serde_json::to_vec(record).map_err(|error| Error::msg(error.to_string()).context(what()))?;
        text.reserve_exact(config.len() + 1);
        text.push(b'\n');
        text.extend_from_slice(config);
        let mut file: &File = &self.file;
        file.write_all(&text).context(what)
    }
}

/// The latest record of a file that has come whole, and the configuration behind the second.
pub(super) fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = |text: &[u8]| text.iter().position(|byte| *byte == b'\n');
    let first = line(text)?;
    let rest = &text[first + 1..];
    Some(line(rest).map_or((&text[..first], &[][..]), |second| (&rest[..second], &rest[second + 1..])))
}

/// The name of a user in the text of `/etc/passwd`, where the full names of others may be written in any encoding.
pub(super) fn user_name(users: &[u8], uid: u32) -> Option<&[u8]> {
    users.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        (str::from_utf8(fields.nth(1)?).ok()?.parse() == Ok(uid)).then_some(name)
    })
}

/// Whether somebody holds a lock on the file. Asking takes a shared lock for a moment, which no other asker minds.
///
/// # Errors
/// When the file is there and cannot be looked at.
pub(super) fn held(path: &Path) -> Result<bool> {
    let what = || format!("look at the lock of {}", path.display());
    match open_path(path, libc::O_RDONLY, 0) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error).context(what),
        },
        Err(error) if gone(&error) => Ok(false),
        Err(error) => Err(error).context(what),
    }
}

/// Whether the error says that the file is not there.
pub(super) fn gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Writes a file beside its place and moves it there, so that nobody ever reads half of it (also the pid file, whose
/// readers take the whole content for a number). `mode` is cut by the umask.
///
/// # Errors
/// When it cannot be written or moved.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let name = path.file_name().ok_or_else(|| Error::msg(format!("{} is no file", path.display())))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{:x}", cred::auxv_random()));
    let beside = path.with_file_name(hidden);
    // a new file, never one or a link that somebody else laid there
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let open = || open_path(&beside, flags, mode);
    let written = open().and_then(|mut file| file.write_all(bytes)).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        let _was_never_there = std::fs::remove_file(&beside);
        Error::from(error).context(format!("write {}", path.display())).fact("path", path.to_string_lossy())
    })
}
