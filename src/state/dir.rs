//! The directory of one container, and the files in it.

use super::Record;
use crate::error::{Context, Error, Result};
use crate::sys::file::open_path;
use crate::sys::{cred, lock};
use serde::Serialize;
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file with the record and the bundle's configuration.
pub(super) const RECORD: &str = "state.json";
/// The file that init keeps locked until it becomes the payload.
const GATE: &str = "gate";

/// A directory that is ours: made by this call, and locked as long as this value lives. The lock is the process's own:
/// init does not inherit it.
#[derive(Debug)]
pub struct Claim {
    /// The directory.
    pub dir: Dir,
    pub(super) _lock: File,
}

/// The file of a container that is being made: what is known at first stands in it, the rest follows.
#[derive(Debug)]
pub struct Announced {
    path: PathBuf,
    file: File,
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

    pub(super) fn lock(&self) -> Result<File> {
        let dir = open_path(&self.path, libc::O_RDONLY, 0).context(|| format!("open {}", self.path.display()))?;
        lock::hold(&dir).context(|| format!("lock {}", self.path.display()))?;
        Ok(dir)
    }

    /// Whether the call that made the directory is still at work. Not to be asked by that call itself.
    #[must_use]
    pub fn claimed(&self) -> bool {
        File::open(&self.path).is_ok_and(|dir| lock::is_held(&dir).unwrap_or(false))
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

    /// Writes the first record of a directory that was just claimed: what `delete --force` needs if its maker is killed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn announce<C: Serialize>(&self, record: &Record<C>) -> Result<Announced> {
        let path = self.record();
        let open = open_path(&path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600);
        let mut announced = Announced { file: open.context(|| format!("write {}", path.display()))?, path };
        announced.append(record, b"")?;
        Ok(announced)
    }

    /// Removes the directory. The record goes first: with it the container is gone for everybody who asks.
    ///
    /// # Errors
    /// When it cannot be removed; that it is gone already is none.
    pub fn remove(&self) -> Result<()> {
        self.remove_file(RECORD)?;
        // a container that was run never had one
        let removed = match std::fs::remove_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                self.remove_file(GATE)?;
                std::fs::remove_dir(&self.path)
            }
            answer => answer,
        };
        match removed {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            // a notify socket, or what a killed call left behind
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                std::fs::remove_dir_all(&self.path).context(|| format!("remove {}", self.path.display()))
            }
            Err(error) => Err(Error::from(error).context(format!("remove {}", self.path.display()))),
        }
    }

    fn remove_file(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::from(error).context(format!("remove {}", path.display())))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The name of the user who made the container, or `#` and his id.
    #[must_use]
    pub fn owner(&self) -> String {
        let Ok(meta) = std::fs::metadata(&self.path) else { return String::new() };
        let uid = meta.uid();
        // the file is read as it is: a static program has no name service
        let users = std::fs::read("/etc/passwd").unwrap_or_default();
        let name = user_name(&users, uid).map(|name| String::from_utf8_lossy(name).into_owned());
        name.unwrap_or_else(|| format!("#{uid}"))
    }
}

impl Announced {
    /// Writes the record of a container that is there, and its configuration as it was read: later changes of the bundle
    /// must not change the container. Whoever reads the file meanwhile takes a record that has not come whole for none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn complete<C: Serialize>(mut self, record: &Record<C>, config: &[u8]) -> Result<()> {
        self.append(record, config)
    }

    /// A record is one line: JSON has no raw line ends but between its tokens, and there we put none.
    fn append<C: Serialize>(&mut self, record: &Record<C>, config: &[u8]) -> Result<()> {
        let what = || format!("write {}", self.path.display());
        let mut text = serde_json::to_vec(record).map_err(|error| Error::msg(error.to_string()).context(what()))?;
        text.reserve_exact(config.len() + 1);
        text.push(b'\n');
        text.extend_from_slice(config);
        self.file.write_all(&text).context(what)
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
pub(super) fn held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
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
    hidden.push(format!(".{:x}", cred::nonce()));
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
