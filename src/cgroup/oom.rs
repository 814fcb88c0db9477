//! Out of memory: how often the kernel killed in a cgroup, and being told when it does. May use sys and error.

use super::Cgroup;
use crate::error::{Context, Result};
use crate::sys::Errno;
use crate::sys::cgroupfs::{Counter, Watched, read_file, wait};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What [`OomWatch::wait`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oom {
    /// The kernel killed for lack of memory.
    Killed,
    /// The time is over.
    Nothing,
    /// No process is left, or the cgroup is gone: nothing will happen any more.
    Gone,
}

/// Tells of processes that are killed for lack of memory.
#[derive(Debug)]
pub struct OomWatch {
    dir: PathBuf,
    source: Source,
    /// `cgroup.events`, where there is a cgroup2 tree.
    life: Option<Watched>,
}

#[derive(Debug)]
enum Source {
    V1(Counter),
    V2 { events: Watched, seen: u64 },
}

impl Cgroup {
    /// How many processes in it the kernel killed for lack of memory, so far. Zero where nothing counts them.
    ///
    /// # Errors
    /// If the count can't be read.
    pub fn oom_kills(&self) -> Result<u64> {
        let (path, file) = match (self.cgroup_paths.get("memory"), self.unified()) {
            (Some(path), _) => (path.as_path(), "memory.oom_control"),
            (None, Some(path)) => (path, "memory.events"),
            (None, None) => return Ok(0),
        };
        match read_file(&path.join(file)) {
            Ok(text) => Ok(kills(&text)),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(0),
            Err(errno) => Err(errno).context(|| format!("read {}", path.join(file).display())),
        }
    }

    /// Begins to watch. Kills before this are told at once on v2, as runc does, and not at all on v1.
    ///
    /// # Errors
    /// If there is no memory controller to watch.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        let what = || "watch for memory shortage".to_owned();
        let life = self.unified().map(|path| Watched::open(&path.join("cgroup.events"))).transpose().context(what)?;
        let (dir, source) = match (self.cgroup_paths.get("memory"), self.unified()) {
            (Some(path), _) => {
                let counter = Counter::new().context(what)?;
                counter.count(path, "memory.oom_control").context(what)?;
                (path.as_path(), Source::V1(counter))
            }
            (None, Some(path)) => {
                let events = Watched::open(&path.join("memory.events")).context(what)?;
                (path, Source::V2 { events, seen: 0 })
            }
            (None, None) => return Err(Errno::ENOENT).context(what),
        };
        Ok(OomWatch { dir: dir.to_owned(), source, life })
    }
}

fn kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or_default()
}

impl OomWatch {
    /// Waits until something happens or the time is over.
    ///
    /// # Errors
    /// If the kernel fails us; a cgroup that goes away is [`Oom::Gone`].
    pub fn wait(&mut self, most: Duration) -> Result<Oom> {
        let end = Instant::now() + most;
        loop {
            if let Some(seen) = self.look().context(|| "watch for memory shortage")? {
                return Ok(seen);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Oom::Nothing);
            }
            let life = self.life.as_slice().iter();
            let waited = match &self.source {
                Source::V1(counter) => wait(&life.collect::<Vec<_>>(), &[counter], left),
                Source::V2 { events, .. } => wait(&life.chain([events]).collect::<Vec<_>>(), &[], left),
            };
            waited.context(|| "watch for memory shortage")?;
        }
    }

    /// What has happened since the last look.
    fn look(&mut self) -> std::result::Result<Option<Oom>, Errno> {
        match &mut self.source {
            // an event also comes when the cgroup is removed
            Source::V1(counter) if counter.take()? > 0 => {
                return Ok(Some(if exists(&self.dir) { Oom::Killed } else { Oom::Gone }));
            }
            Source::V1(_) => {}
            Source::V2 { events, seen } => match events.read() {
                Ok(text) => {
                    let count = kills(&text);
                    if count > std::mem::replace(seen, count) {
                        return Ok(Some(Oom::Killed));
                    }
                }
                Err(Errno::ENODEV) => return Ok(Some(Oom::Gone)),
                Err(errno) => return Err(errno),
            },
        }
        match self.life.as_ref().map(Watched::read) {
            Some(Ok(text)) if text.lines().any(|line| line == "populated 0") => Ok(Some(Oom::Gone)),
            Some(Err(Errno::ENODEV)) => Ok(Some(Oom::Gone)),
            Some(Err(errno)) => Err(errno),
            Some(Ok(_)) | None => Ok(None),
        }
    }
}

fn exists(dir: &Path) -> bool {
    dir.join("memory.oom_control").exists()
}
