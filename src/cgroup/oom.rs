//! Out of memory: how often the kernel killed in a cgroup. May use sys and error.

use super::Handle;
use crate::error::{Context, Result};
use crate::sys::cgroupfs::read_file;

impl Handle {
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
        let text = match read_file(&path.join(file)) {
            Err(crate::sys::Errno::ENOENT | crate::sys::Errno::ENODEV) => return Ok(0),
            other => other.context(|| format!("read {}", path.join(file).display()))?,
        };
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
        Ok(count.unwrap_or_default())
    }
}
