//! The directory of one container, and the files in it.

use super::{Awaited, Record};
use crate::error::{Context, Error, Result};
use crate::sys::file::open_path;
use crate::sys::wait::Backoff;
use crate::sys::{cred, lock};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The file with the record and the bundle's configuration.
pub(super) const RECORD: &str = "state.json";
/// The file that init keeps locked until it executes the payload.
const GATE: &str = "gate";

/// What the call that creates the container waits for.
const WAITING: &str = "waiting.json";

/// A lock on this byte of the record: the call that creates the container is still running.
const MAKER: i64 = 0;
/// A lock on this byte of the record: a call is deleting the container.
const DELETER: i64 = 1;
/// The bit of the record's mode (`S_ISVTX`, which has no effect on files) that marks a container as deleted while it is being
/// created.
const DELETED: u32 = 0o1000;

/// The mode of a container's directory. `S_ISVTX` marks it as one that onggi created.
pub(super) const MODE: u32 = 0o711 | MARK;
const MARK: u32 = 0o1000;

/// A directory that this call has created. Until the claim is released, or this process ends, the lock on its record says that the
/// container is being created. The lock belongs to this process: init does not inherit it.
#[derive(Debug)]
pub struct Claim {
    /// The directory.
    pub dir: Dir,
    file: Rc<File>,
}

/// The record of a container that is being created: the first part is written, the rest follows.
#[derive(Debug)]
pub struct Announced {
    path: PathBuf,
    file: Rc<File>,
}

/// The open record of a container. It identifies the container by inode, whatever is at its path by now, and may hold the lock for
/// deletion.
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
    pub fn again(&self) -> Self {
        Self { path: self.path.clone() }
    }

    /// The path of the gate.
    #[must_use]
    pub fn gate(&self) -> PathBuf {
        self.path.join(GATE)
    }

    /// The path of the record.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.path.join(RECORD)
    }

    /// Writes down what the creation of the container waits for.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn show_awaited(&self, awaited: &Awaited) -> Result<()> {
        let bytes = serde_json::to_vec(awaited).map_err(|error| Error::msg(error.to_string()))?;
        replace(&self.path.join(WAITING), &bytes, 0o600)
    }

    /// The wait is over.
    pub fn hide_awaited(&self) {
        let _may_be_gone = std::fs::remove_file(self.path.join(WAITING));
    }

    /// What the creation of the container waits for, if it has said so.
    #[must_use]
    pub fn awaited(&self) -> Option<Awaited> {
        serde_json::from_slice(&std::fs::read(self.path.join(WAITING)).ok()?).ok()
    }

    /// Whether onggi created the directory. `None`: it does not exist, or is no directory.
    pub(super) fn is_ours(&self) -> std::io::Result<Option<bool>> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(meta) => Ok(meta.is_dir().then(|| meta.mode() & MARK != 0)),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The runtime that created a directory which is not ours, by the files that each keeps there. `None`: it is empty.
    pub(super) fn other_maker(&self) -> Option<&'static str> {
        let has = |name: &str| self.path.join(name).symlink_metadata().is_ok();
        if has("youki_config.json") {
            return Some("youki");
        }
        if has("status") {
            return Some("crun");
        }
        let record = std::fs::read(self.record()).unwrap_or_default();
        if serde_json::from_slice(&record).is_ok_and(|Runc { .. }| true) {
            return Some("runc");
        }
        let empty = std::fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_none());
        (!empty).then_some("another runtime")
    }

    /// Whether the call that creates the container is still running. (Not for that call itself.)
    ///
    /// # Errors
    /// The record exists and its lock cannot be queried.
    pub fn claimed(&self) -> Result<bool> {
        let path = self.record();
        match open_path(&path, libc::O_RDONLY, 0) {
            Ok(file) => lock::is_held(&file, MAKER).context(|| format!("look at the lock of {}", path.display())),
            Err(error) if gone(&error) => Ok(false),
            Err(error) => Err(Error::from(error).context(format!("open {}", path.display()))),
        }
    }

    /// Creates the gate and locks it. Only init may keep the open file: as long as any process has it open, the container's
    /// status is created.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn make_status_lock(&self) -> Result<File> {
        let path = self.gate();
        let open = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let gate = open.context(|| format!("open {}", path.display()))?;
        gate.lock().context(|| format!("lock {}", path.display()))?;
        Ok(gate)
    }

    /// Removes the directory. The record is removed first: without it the container does not exist for others. The caller holds the
    /// record's lock ([`Grip::lock`]), or there is no record.
    ///
    /// # Errors
    /// It cannot be removed. (Not if it no longer exists.)
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
            // the gate of a created container, a notify socket, or what a killed call has left
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => self.remove_rest(),
            Err(error) if !gone(&error) => Err(error).context(what),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes a directory without a record, which a killed call has left.
    ///
    /// # Errors
    /// It cannot be removed. (Not if it no longer exists, or has a record by now.)
    pub fn remove_rest(&self) -> Result<()> {
        self.clear().context(|| format!("remove {}", self.path.display()))
    }

    /// Removes what is left in a directory without a record, and the directory. Without a record there is no lock: another call may
    /// remove the directory, too, and create it again. So this works on the opened directory, and stops if it has a record.
    fn clear(&self) -> std::io::Result<()> {
        let opened = match open_path(&self.path, libc::O_RDONLY | libc::O_DIRECTORY, 0) {
            Err(error) if gone(&error) => return Ok(()),
            opened => opened?,
        };
        let inside = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        // listed before the record is looked for: a new container of the same id creates its record first, so what is listed is not
        // its own if there is no record afterwards
        let entries = std::fs::read_dir(&inside)?.collect::<std::io::Result<Vec<_>>>()?;
        match std::fs::symlink_metadata(inside.join(RECORD)) {
            Err(error) if gone(&error) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
        for entry in entries {
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
}

impl Claim {
    /// Creates an empty record in a directory that was just created, and locks it.
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
    /// It cannot be written.
    pub fn announce<C: Serialize>(&self, record: &Record<C>) -> Result<Announced> {
        let mut announced = Announced { path: self.dir.record(), file: Rc::clone(&self.file) };
        announced.append(record, b"")?;
        Ok(announced)
    }

    /// The open record, which identifies the container.
    #[must_use]
    pub fn grip(&self) -> Grip {
        Grip { path: self.dir.record(), file: Rc::clone(&self.file) }
    }

    /// Returns a function that removes the directory, unless another call is deleting the container.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn undo(&self) -> impl FnOnce() -> Result<()> + use<> {
        let (grip, dir) = (self.grip(), self.dir.again());
        move || if grip.lock()? { dir.remove() } else { Ok(()) }
    }

    /// Releases the claim: the container is created.
    pub(super) fn release(self) -> (Dir, Grip) {
        let grip = self.grip();
        // it cannot fail, and the lock ends with our process anyway
        let _released = lock::release(&self.file, MAKER);
        (self.dir, grip)
    }
}

impl Grip {
    pub(super) fn new(path: PathBuf, file: File) -> Self {
        Self { path, file: Rc::new(file) }
    }

    /// Waits for the lock for deletion. Returns `false` if another call is deleting the container, or has deleted it.
    ///
    /// # Errors
    /// The kernel's answer; another call holds the lock for longer than any deletion takes.
    pub fn lock(&self) -> Result<bool> {
        self.lock_unless(DELETED)
    }

    /// The same, but also waits for other calls that are deleting the container. Returns `false` if it no longer exists.
    ///
    /// # Errors
    /// As [`Grip::lock`].
    pub fn lock_to_delete(&self) -> Result<bool> {
        self.lock_unless(0)
    }

    fn lock_unless(&self, marked: u32) -> Result<bool> {
        const LONGEST: Duration = Duration::from_secs(130);
        let what = || format!("lock {}", self.path.display());
        let mut backoff = Backoff::new(LONGEST, Duration::from_micros(100), Duration::from_millis(20));
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
            if !backoff.sleep() {
                return Err(
                    Error::msg("another call deletes the container and does not come to its end").context(what())
                );
            }
        }
    }

    /// Marks the container as deleted, for the call that creates it: that call will see the mark and undo its effects. What it
    /// recorded before can be read after this returns.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn mark(&self) -> Result<()> {
        let mode = PermissionsExt::from_mode(0o600 | DELETED);
        self.file.set_permissions(mode).context(|| format!("chmod {}", self.path.display()))
    }

    /// Whether the call that creates the container is still running.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn claimed(&self) -> Result<bool> {
        lock::is_held(&self.file, MAKER).context(|| format!("look at the lock of {}", self.path.display()))
    }

    /// The name of the user who made the container, or `#` and his id. `users` is the text of `/etc/passwd`: a static program
    /// has no name service.
    #[must_use]
    pub fn owner(&self, users: &[u8]) -> String {
        let Ok(meta) = self.file.metadata() else { return String::new() };
        let uid = meta.uid();
        let name = user_name(users, uid).map(|name| String::from_utf8_lossy(name).into_owned());
        name.unwrap_or_else(|| format!("#{uid}"))
    }

    /// Whether the record was removed: then the container's paths may belong to a newer container.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn is_gone(&self) -> Result<bool> {
        let meta = self.file.metadata().context(|| format!("stat {}", self.path.display()))?;
        Ok(meta.nlink() == 0)
    }

    /// The current contents of the record.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut file: &File = &self.file;
        let read = file.rewind().and_then(|()| file.read_to_end(&mut text));
        read.context(|| format!("read {}", self.path.display()))?;
        Ok(text)
    }
}

impl Announced {
    /// Writes the complete record, and the configuration as it was read, so that later changes of the bundle do not affect the
    /// container. Readers ignore a partly written record. After the write it checks whether the container is being deleted:
    /// `delete` sets the mark first and then reads the record, so one of the two calls always sees the other.
    ///
    /// # Errors
    /// It cannot be written; the container is being deleted.
    pub fn complete<C: Serialize>(mut self, record: &Record<C>, config: &[u8]) -> Result<()> {
        self.append(record, config)?;
        let meta = self.file.metadata().context(|| format!("stat {}", self.path.display()))?;
        if meta.nlink() == 0 || meta.mode() & DELETED != 0 {
            return Err(Error::msg("the container was deleted while it was being created"));
        }
        Ok(())
    }

    /// Appends the record as one line (compact JSON has no newlines), then the configuration.
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

/// What only runc's record has.
#[derive(Deserialize)]
struct Runc {
    #[serde(rename = "init_process_pid")]
    _pid: i32,
    #[serde(rename = "config")]
    _config: serde::de::IgnoredAny,
}

/// The latest complete record of a file, and the configuration, which follows the second one.
pub(super) fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = |text: &[u8]| text.iter().position(|byte| *byte == b'\n');
    let first = line(text)?;
    let rest = &text[first + 1..];
    Some(line(rest).map_or((&text[..first], &[][..]), |second| (&rest[..second], &rest[second + 1..])))
}

/// The name of a user in the text of `/etc/passwd`, which may contain other encodings than UTF-8.
pub(super) fn user_name(users: &[u8], uid: u32) -> Option<&[u8]> {
    users.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        (str::from_utf8(fields.nth(1)?).ok()?.parse() == Ok(uid)).then_some(name)
    })
}

/// Whether a process holds the lock of the file. Tries a shared lock, so that concurrent callers do not disturb each other.
///
/// # Errors
/// The file exists and cannot be opened or locked.
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

/// Whether the error means that the file does not exist.
pub(super) fn gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Writes a file under a temporary name and renames it, so that nobody can read a part of it. `mode` is subject to the umask.
///
/// # Errors
/// It cannot be written or renamed.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let name = path.file_name().ok_or_else(|| Error::msg(format!("{} is no file", path.display())))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{:x}", cred::auxv_random()));
    let beside = path.with_file_name(hidden);
    // a new file, never an existing one or a link that somebody else has created
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let open = || open_path(&beside, flags, mode);
    let written = open().and_then(|mut file| file.write_all(bytes)).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        let _was_never_there = std::fs::remove_file(&beside);
        Error::from(error).context(format!("write {}", path.display())).fact("path", path.to_string_lossy())
    })
}
