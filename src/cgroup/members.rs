//! Lists the processes in a container's cgroup and below it. May use sys and error.

use super::Cgroup;
use super::walk::{Visit, walk};
use crate::error::{Context, Error, Result};
use crate::sys::cgroupfs::{open_dir, read_at};
use crate::sys::file::{self, RESOLVE_NO_XDEV, openat2};
use crate::sys::{Answer, Errno};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// How long listing may take. A hundred thousand cgroups take a second or two.
const MOST: Duration = Duration::from_secs(30);

/// The longest path that the kernel writes into `/proc/PID/cgroup`. It truncates a longer one, or before Linux 6.9 fails with
/// `ENAMETOOLONG`.
const LONGEST: usize = libc::PATH_MAX as usize - 1;

impl Cgroup {
    /// The processes in it and in the cgroups below it. Empty if it no longer exists.
    ///
    /// # Errors
    /// They can't be listed.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.counted().map_or_else(|| Ok(Vec::new()), pids)
    }

    /// Opens the cgroup2 directory in which a process of the container is now: the container's own or, if the payload creates
    /// cgroups, one below it. `None` if the container is not on cgroup2.
    ///
    /// # Errors
    /// The cgroup can't be found, or is not below the container's.
    pub fn dir_fd_of(&self, pid: i32) -> Result<Option<OwnedFd>> {
        let Some(own) = self.unified() else { return Ok(None) };
        let what = || format!("open the cgroup of process {pid}");
        let top = open_dir(own).context(|| format!("open cgroup {}", own.display()))?;
        let file = format!("/proc/{pid}/cgroup");
        let text = match file::contents(Path::new(&file), LONGEST) {
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => Vec::new(),
            text => text.context(|| format!("read {file}"))?,
        };
        let now = unified(&text).unwrap_or(Path::new(""));
        let outside =
            |now: &Path| Error::msg(format!("cgroup {now:?} of process {pid} is outside of {}", own.display()));
        if !text.is_empty() && now.as_os_str().len() < LONGEST {
            let rest = below(own, now).ok_or_else(|| outside(now))?;
            return inside(top.as_fd(), rest).map(Some).context(what);
        }
        let mut search = Search { pid, found: None };
        walk(top.as_fd(), Instant::now() + MOST, &mut search).context(what)?;
        search.found.map(Some).ok_or_else(|| outside(now))
    }
}

/// The processes in the cgroup at `path` and below it. Empty if it no longer exists.
pub(super) fn pids(path: &Path) -> Result<Vec<i32>> {
    list(path).map(|list| list.pids)
}

/// The processes in the cgroup at `path` and below it, and the cgroup of the first one.
pub(super) fn list(path: &Path) -> Result<List> {
    let what = || format!("list the processes of cgroup {}", path.display());
    let mut list = List::default();
    let walked = open_dir(path).and_then(|top| walk(top.as_fd(), Instant::now() + MOST, &mut list));
    match walked {
        Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(list),
        Err(Errno::ETIMEDOUT) => Err(Error::from(Errno::ETIMEDOUT)
            .context(what())
            .with_hint("cgroups are made in it faster than they can be looked at: pause the container first")),
        Err(errno) => Err(errno).context(what),
    }
}

/// The processes found by a walk.
#[derive(Default)]
pub(super) struct List {
    /// Their numbers.
    pub(super) pids: Vec<i32>,
    /// The cgroup of the first one, relative to the top.
    pub(super) first: Option<PathBuf>,
    here: PathBuf,
}

impl Visit for List {
    fn enters(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Answer<()> {
        self.here.push(OsStr::from_bytes(name.to_bytes()));
        self.pids.extend(members(dir)?);
        if !self.pids.is_empty() && self.first.is_none() {
            self.first = Some(self.here.clone());
        }
        Ok(())
    }

    fn leaves(&mut self, _above: BorrowedFd<'_>, _name: &CStr) -> Answer<()> {
        self.here.pop();
        Ok(())
    }
}

/// Searches for the cgroup of one process.
struct Search {
    pid: i32,
    found: Option<OwnedFd>,
}

impl Visit for Search {
    fn enters(&mut self, dir: BorrowedFd<'_>, _name: &CStr) -> Answer<()> {
        if members(dir)?.contains(&self.pid) {
            self.found = Some(file::duplicate(dir, 0)?);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.found.is_some()
    }
}

/// The processes of one cgroup.
fn members(dir: BorrowedFd<'_>) -> Answer<Vec<i32>> {
    let read = match read_at(dir, Path::new("cgroup.procs")) {
        // cgroup.procs of a threaded cgroup can't be read; what its threads belong to is listed at the root of the subtree
        Err(Errno::EOPNOTSUPP) => read_at(dir, Path::new("cgroup.threads")),
        other => other,
    };
    match read {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

/// The cgroup2 path in the text of `/proc/PID/cgroup` (the line `0::`). No name can have a line end in it.
pub(super) fn unified(text: &[u8]) -> Option<&Path> {
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"));
    line.map(|path| Path::new(OsStr::from_bytes(path)))
}

/// The path from the cgroup whose directory is `own` to the one that the kernel names `now`. The kernel's name is relative to the
/// root of the hierarchy (or of our cgroup namespace) and `own` begins at `/`, so the two are matched by the longest prefix of
/// `now` that `own` ends with.
fn below<'a>(own: &Path, now: &'a Path) -> Option<&'a Path> {
    let above = now.ancestors().find(|above| above.strip_prefix("/").is_ok_and(|above| own.ends_with(above)))?;
    let rest = now.strip_prefix(above).ok()?;
    (rest.components().all(|part| matches!(part, Component::Normal(_))) && above != Path::new("/")).then_some(rest)
}

/// Opens a cgroup below another, for `CLONE_INTO_CGROUP`.
fn inside(top: BorrowedFd<'_>, rest: &Path) -> Answer<OwnedFd> {
    let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
    let rest = CString::new(rest.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    openat2(top, &rest, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0, RESOLVE_NO_XDEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_cgroup_of_a_process_below_the_container_s() {
        type Row = (&'static str, &'static [u8], Option<&'static [u8]>);
        let rows: [Row; 10] = [
            ("/sys/fs/cgroup/a/web", b"/a/web", Some(b"")),
            ("/sys/fs/cgroup/a/web", b"/a/web/init", Some(b"init")),
            ("/sys/fs/cgroup/a/web", b"/a/web/\xff/ \\x (deleted)", Some(b"\xff/ \\x (deleted)")),
            ("/sys/fs/cgroup/unified/web", b"/web/x/y", Some(b"x/y")),
            ("/sys/fs/cgroup/web", b"/web/web", Some(b"web")),
            ("/sys/fs/cgroup/a/web", b"/a/webx", None),
            ("/sys/fs/cgroup/a/web", b"/b", None),
            ("/sys/fs/cgroup/a/web", b"/", None),
            ("/sys/fs/cgroup/a/web", b"/../web", None),
            ("/sys/fs/cgroup/a/web", b"", None),
        ];
        for (own, now, expected) in rows {
            let found = below(Path::new(own), Path::new(OsStr::from_bytes(now)));
            assert_eq!(found.map(|path| path.as_os_str().as_bytes()), expected, "{own} {}", now.escape_ascii());
        }
    }

    #[test]
    fn finds_the_line_of_cgroup2() {
        let found = |text| unified(text).map(|path| path.as_os_str().as_bytes());
        assert_eq!(found(b"1:cpu:/x\n0::/user.slice/a\n"), Some(&b"/user.slice/a"[..]));
        assert_eq!(found(b"1:name=\xff:/\xff0::/\n0::/a\xff b\n"), Some(&b"/a\xff b"[..]));
        assert_eq!(found(b"1:cpu:/x\n"), None);
    }
}
