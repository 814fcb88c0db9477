//! The directory with all containers: where it is, who is in it, and how an id is taken.

use super::Container;
use super::dir::{Claim, Dir, split};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::{cred, file, ns};
use serde::de::DeserializeOwned;
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Most records and configurations are smaller.
const USUAL: usize = 16 * 1024;

/// The directory with all containers.
#[derive(Debug)]
pub struct Root {
    pub(super) path: PathBuf,
    /// Whether somebody named it; a default one need not be there.
    pub(super) named: bool,
    /// Whether it lies below the user's runtime directory, where it must be kept from being tidied up.
    pub(super) sticky: bool,
}

impl Root {
    /// The root that was named, or the default: `/run/onggi`, and below `$XDG_RUNTIME_DIR` for everybody but the
    /// machine's own root.
    ///
    /// # Errors
    /// When a relative path was named and there is no current directory.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        match named {
            Some(path) => {
                let path = std::path::absolute(path).context(|| format!("--root {}", path.display()))?;
                Ok(Self { path, named: true, sticky: false })
            }
            None => {
                let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
                let below = runtime_dir.filter(|_| {
                    let user = std::env::var_os("USER");
                    is_user(cred::is_privileged(), ns::in_user_namespace, user.as_deref())
                });
                Ok(Self::default_below(below))
            }
        }
    }

    pub(super) fn default_below(runtime_dir: Option<OsString>) -> Self {
        let sticky = runtime_dir.is_some();
        let path = runtime_dir.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("onggi");
        Self { path, named: false, sticky }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory of a new container. Of two that ask at once, one gets it.
    ///
    /// # Errors
    /// `Kind::Exists` when the id is taken; when the id is none; when the directory cannot be made.
    pub fn claim(&self, id: &str) -> Result<Claim> {
        check_id(id)?;
        let path = self.path.join(id);
        let make = || DirBuilder::new().mode(0o711).create(&path);
        let made = match make() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.make()?;
                make()
            }
            other => other,
        };
        match made {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::new(Kind::Exists, "container with given ID already exists")
                    .fact("path", path.to_string_lossy())
                    .with_hint(format!("onggi delete --force {id}")));
            }
            Err(error) => return Err(Error::from(error).context(format!("mkdir {}", path.display()))),
        }
        let dir = Dir { path };
        match dir.lock() {
            Ok(lock) => Ok(Claim { dir, _lock: lock }),
            Err(error) => {
                let _keeps_its_error = dir.remove();
                Err(error)
            }
        }
    }

    /// Makes the root itself, 0700, and what lies above it.
    fn make(&self) -> Result<()> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.context(|| format!("mkdir {}", self.path.display()))?;
        if self.sticky {
            // systemd-tmpfiles leaves sticky files of a runtime directory alone
            let mode = PermissionsExt::from_mode(0o1700);
            std::fs::set_permissions(&self.path, mode).context(|| format!("chmod {}", self.path.display()))?;
        }
        Ok(())
    }

    /// The directory of a container, whatever is in it.
    ///
    /// # Errors
    /// `Kind::NotFound` when there is none; when the id is none.
    pub fn dir(&self, id: &str) -> Result<Dir> {
        check_id(id)?;
        let path = self.path.join(id);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => Ok(Dir { path }),
            Ok(_) => Err(absent()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(absent()),
            Err(error) => Err(Error::from(error).context(format!("stat {}", path.display()))),
        }
    }

    /// A container and its record.
    ///
    /// # Errors
    /// `Kind::NotFound` when there is none or it has no record yet; when the id is none; when the record is broken.
    pub fn open<C: DeserializeOwned>(&self, id: &str) -> Result<Container<C>> {
        check_id(id)?;
        let dir = Dir { path: self.path.join(id) };
        let path = dir.record();
        let mut text = match file::contents(&path, USUAL) {
            Ok(text) => text,
            Err(error) => {
                if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) {
                    return Err(absent());
                }
                return Err(Error::from(error).context(format!("open {}", path.display())));
            }
        };
        // the first record is being written this moment
        let (record, config) = split(&text).ok_or_else(absent)?;
        let broken =
            |error: serde_json::Error| Error::msg(error.to_string()).context(format!("read {}", path.display()));
        let record = serde_json::from_slice(record).map_err(broken)?;
        let config = text.split_off(text.len() - config.len());
        Ok(Container { dir, record, config })
    }

    /// The ids below the root, in order; some may be gone by the time they are opened.
    ///
    /// # Errors
    /// When the root cannot be read, and when it is not there though somebody named it.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !self.named => return Ok(Vec::new()),
            Err(error) => return Err(Error::from(error).context(format!("open {}", self.path.display()))),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.context(|| format!("read {}", self.path.display()))?;
            let id = entry.file_name().into_string().ok().filter(|id| check_id(id).is_ok());
            ids.extend(id.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())));
        }
        ids.sort();
        Ok(ids)
    }
}

/// The error for an id that is not there.
fn absent() -> Error {
    Error::new(Kind::NotFound, "container does not exist")
}

/// Checks an id: it becomes the name of a directory and of a cgroup.
///
/// # Errors
/// When it is empty or holds anything but letters, digits and `_+-.`.
pub fn check_id(id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::msg("container id cannot be empty"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id == "." || id == ".." || !id.bytes().all(allowed) {
        return Err(Error::msg("invalid container ID format").with_hint("letters, digits and _ + - ."));
    }
    Ok(())
}

/// Whether the caller's containers belong below his runtime directory. The machine's root keeps `/run`; root of a user
/// namespace does too when he came there as root (`USER`), for he may then have the host's `/run`.
pub(super) fn is_user(root: bool, in_user_namespace: impl FnOnce() -> bool, user: Option<&OsStr>) -> bool {
    !root || (in_user_namespace() && user != Some(OsStr::new("root")))
}
