//! The directory of all containers: its path, its entries, and how an id is claimed.

use super::Container;
use super::dir::{Claim, Dir, Grip, MODE, gone, split};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::{cred, file, ns};
use serde::de::DeserializeOwned;
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Most records and configurations are smaller.
const USUAL: usize = 16 * 1024;

/// The directory of all containers.
#[derive(Debug)]
pub struct Root {
    pub(super) path: PathBuf,
    /// Whether it was given with `--root`; the default one need not exist.
    pub(super) named: bool,
    /// Whether it is in the user's runtime directory, where it must be protected from clean-up.
    pub(super) sticky: bool,
}

impl Root {
    /// The given root, or the default: `/run/onggi` for root of the machine, otherwise in `$XDG_RUNTIME_DIR`.
    ///
    /// # Errors
    /// The given path is relative and there is no current directory.
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

    /// Creates the directory of a new container and its record. Of two concurrent calls one succeeds.
    ///
    /// # Errors
    /// `Kind::Exists`: the id is in use. The id is invalid; the directory cannot be created.
    pub fn claim(&self, id: &str) -> Result<Claim> {
        /// How often other calls may remove the directory before it has a record.
        const TRIES: u32 = 100;
        check_id(id)?;
        let path = self.path.join(id);
        for _ in 0..TRIES {
            self.make_one(id, &path)?;
            match Claim::new(Dir { path: path.clone() }) {
                Ok(claim) => return Ok(claim),
                // another call took it for what a killed call has left, and deleted it
                Err(error) if gone(&error) => {}
                // and yet another call has created it again
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(self.taken(id)),
                Err(error) => {
                    // fails if it is not empty: then it is not ours
                    let _keeps_its_error = std::fs::remove_dir(&path);
                    return Err(Error::from(error).context(format!("make {}/state.json", path.display())));
                }
            }
        }
        Err(Error::msg("somebody deletes the container again and again").context(format!("mkdir {}", path.display())))
    }

    /// Creates the directory of a container, and the root if it does not exist.
    fn make_one(&self, id: &str, path: &Path) -> Result<()> {
        let make = || DirBuilder::new().mode(MODE).create(path);
        let made = match make() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make()?;
                make()
            }
            other => other,
        };
        match made {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(self.taken(id)),
            Err(error) => Err(Error::from(error).context(format!("mkdir {}", path.display()))),
        }
    }

    /// Creates the root, 0700, and its parents.
    fn make(&self) -> Result<()> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.context(|| format!("mkdir {}", self.path.display()))?;
        if self.sticky {
            // systemd-tmpfiles does not remove sticky files from a runtime directory
            let mode = PermissionsExt::from_mode(0o1700);
            std::fs::set_permissions(&self.path, mode).context(|| format!("chmod {}", self.path.display()))?;
        }
        Ok(())
    }

    /// The directory of a container, whatever is in it.
    ///
    /// # Errors
    /// `Kind::NotFound`: there is none. `Kind::Foreign`: another runtime created it. The id is invalid.
    pub fn dir(&self, id: &str) -> Result<Dir> {
        check_id(id)?;
        let dir = Dir { path: self.path.join(id) };
        match dir.is_ours().context(|| format!("stat {}", dir.path.display()))? {
            Some(true) => Ok(dir),
            Some(false) => Err(dir.other_maker().map_or_else(|| self.absent(id), |maker| self.foreign(id, maker))),
            None => Err(self.absent(id)),
        }
    }

    /// A container with its record.
    ///
    /// # Errors
    /// `Kind::NotFound`: there is none, or it has no record yet. `Kind::Foreign`: another runtime created it. The id is invalid;
    /// the record cannot be read, or is damaged.
    pub fn open<C: DeserializeOwned>(&self, id: &str) -> Result<Container<C>> {
        self.look(id).map(|(container, _)| container)
    }

    /// A container and its open record, by which the status can be queried without opening it again.
    ///
    /// # Errors
    /// As [`Root::open`].
    pub fn look<C: DeserializeOwned>(&self, id: &str) -> Result<(Container<C>, Grip)> {
        check_id(id)?;
        let dir = Dir { path: self.path.join(id) };
        let path = dir.record();
        let read = file::open_path(&path, libc::O_RDONLY, 0).and_then(|mut file| {
            let text = file::rest(&mut file, USUAL)?;
            Ok((file, text))
        });
        let (file, text) = match read {
            Ok(read) => read,
            Err(error) if gone(&error) => return Err(self.dir(id).err().unwrap_or_else(|| self.absent(id))),
            Err(error) => return Err(Error::from(error).context(format!("open {}", path.display()))),
        };
        // the first record is just being written
        match parse(dir, text).and_then(|parsed| parsed.ok_or_else(|| self.absent(id))) {
            Ok(container) => Ok((container, Grip::new(path, file))),
            // it may be another runtime's
            Err(error) => self.dir(id).and(Err(error)),
        }
    }

    /// Locks a container for deletion: no other call deletes it meanwhile, and no newer container has its id.
    ///
    /// # Errors
    /// `Kind::NotFound`: there is none. `Kind::Foreign`: another runtime created it. The id is invalid; the record cannot be
    /// opened, locked or read.
    pub fn take(&self, id: &str) -> Result<Taken> {
        loop {
            let dir = self.dir(id)?;
            let path = dir.record();
            let file = match file::open_path(&path, libc::O_RDWR | libc::O_NOFOLLOW, 0) {
                Ok(file) => file,
                Err(error) if gone(&error) => return self.dir(id).map(Taken::Bare),
                Err(error) => return Err(Error::from(error).context(format!("open {}", path.display()))),
            };
            let grip = Grip::new(path, file);
            // otherwise it was deleted while we waited, and there may be a new one
            if grip.lock_to_delete()? {
                return Ok(Taken::Recorded(dir, grip));
            }
        }
    }

    /// The error for an id that is in use. Its hint must not make users kill a running container.
    fn taken(&self, id: &str) -> Error {
        let (root, path) = (self.path.display(), self.path.join(id));
        let fact = path.to_string_lossy().into_owned();
        let hint = match (Dir { path }).is_ours() {
            Ok(Some(false)) => "it is another runtime's: choose another id".to_owned(),
            Ok(Some(true) | None) | Err(_) => {
                format!("choose another id, or delete that container first: onggi --root {root} delete {id}")
            }
        };
        Error::new(Kind::Exists, "container with given ID already exists").fact("path", fact).with_hint(hint)
    }

    /// The error for a container of another runtime in a root that several use.
    fn foreign(&self, id: &str, maker: &str) -> Error {
        let root = self.path.display();
        Error::new(Kind::Foreign, format!("container {id} was made by {maker}, not by onggi"))
            .fact("path", self.path.join(id).to_string_lossy())
            .with_hint(format!("{root} is a root of several runtimes: call the one that made the container"))
    }

    /// The error for an unknown id. Engines parse its text; the hint is for people.
    #[must_use]
    pub fn absent(&self, id: &str) -> Error {
        let root = self.path.display();
        Error::new(Kind::NotFound, "container does not exist")
            .fact("path", self.path.join(id).to_string_lossy())
            .with_hint(format!("there is no {id} in {root}: was it made with another --root?"))
    }

    /// The ids below the root, sorted; some may be deleted before they are opened.
    ///
    /// # Errors
    /// The root cannot be read, or was given and does not exist.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound && !self.named => return Ok(Vec::new()),
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

/// A container that is locked for deletion.
#[derive(Debug)]
pub enum Taken {
    /// A directory without a record, which a killed call has left.
    Bare(Dir),
    /// A directory with a record, which may be damaged.
    Recorded(Dir, Grip),
}

/// Parses the record of a container; `None` if it is not written yet.
///
/// # Errors
/// It is damaged.
pub(super) fn parse<C: DeserializeOwned>(dir: Dir, mut text: Vec<u8>) -> Result<Option<Container<C>>> {
    let Some((record, config)) = split(&text) else { return Ok(None) };
    let broken = |error: serde_json::Error| {
        let error = Error::new(Kind::Broken, error.to_string());
        error.context(format!("read {}", dir.record().display()))
    };
    let record = serde_json::from_slice(record).map_err(broken)?;
    let config = text.split_off(text.len() - config.len());
    Ok(Some(Container { dir, record, config, grip: None }))
}

/// Checks an id: it becomes the name of a directory and of a cgroup.
///
/// # Errors
/// It is empty, or has other characters than letters, digits and `_+-.`.
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

/// Whether the caller's containers belong into the user's runtime directory. Not for root of the machine; and not for root of a
/// user namespace that was root before (`USER`), who may have the host's `/run`.
pub(super) fn is_user(root: bool, in_user_namespace: impl FnOnce() -> bool, user: Option<&OsStr>) -> bool {
    !root || (in_user_namespace() && user != Some(OsStr::new("root")))
}
