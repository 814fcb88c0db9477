//! Writing limits and the device filter. May use sys, plan/cgroup and error.

use super::Cgroup;
use crate::error::{Context, Error, Result};
use crate::plan::cgroup::{Absent, Devices, MemoryCheck, Rootless, Write};
use crate::sys::bpf::Program;
use crate::sys::cgroupfs::{open_dir, read_at, read_file, write_at, write_file};
use crate::sys::{Errno, ns};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Writes limits into the files of one container's cgroup.
pub(super) struct LimitWriter<'a> {
    pub(super) handle: &'a Cgroup,
    /// The directory in the cgroup2 tree, if it is open.
    pub(super) dir: Option<BorrowedFd<'a>>,
}

impl LimitWriter<'_> {
    /// Makes the writes in their order, those that failed with `EINVAL` and may be retried once more at the end.
    pub(super) fn write_all(&self, writes: &[Write]) -> Result<()> {
        let mut later = Vec::new();
        for write in writes {
            match self.write(write) {
                Err(error) if write.retry_on_einval && error.errno() == Some(Errno::EINVAL) => later.push(write),
                other => other?,
            }
        }
        later.into_iter().try_for_each(|write| self.write(write))
    }

    pub(super) fn write(&self, write: &Write) -> Result<()> {
        match (self.put(&write.hierarchy, &write.file, &write.value), &write.absent) {
            (Ok(()), _) => Ok(()),
            (Err(Errno::ENOENT), Absent::Skip) => Ok(()),
            (Err(Errno::ENOENT), Absent::Fallback { file, value }) => {
                self.put(&write.hierarchy, file, value).map_err(|errno| {
                    self.explain(&Write { file: file.clone(), value: value.clone(), ..write.clone() }, errno)
                })
            }
            (Err(errno), Absent::Fail | Absent::Skip | Absent::Fallback { .. }) => Err(self.explain(write, errno)),
        }
    }

    fn put(&self, hierarchy: &str, file: &str, value: &str) -> std::result::Result<(), Errno> {
        match (self.dir, self.handle.cgroup_paths.get(hierarchy)) {
            (Some(dir), _) if hierarchy.is_empty() => write_at(dir, Path::new(file), value),
            (_, Some(path)) => write_file(&path.join(file), value),
            (_, None) => Err(Errno::ENOENT),
        }
    }

    /// The error for a write that the kernel refused.
    fn explain(&self, write: &Write, errno: Errno) -> Error {
        let Some(path) = self.handle.cgroup_paths.get(write.hierarchy.as_ref()) else {
            let controller = if write.hierarchy.is_empty() { "cgroup2" } else { write.hierarchy.as_ref() };
            return Error::msg(format!("cannot set {controller} limit: container could not join or create cgroup"));
        };
        let file = path.join(write.file.as_ref());
        let mut error = Error::from(errno).context(format!("write {write}"));
        let controller = write.file.split('.').next().unwrap_or_default();
        if matches!(errno, Errno::ENOENT | Errno::EACCES | Errno::EPERM)
            && write.hierarchy.is_empty()
            && !file.is_file()
            && !list(path).split_whitespace().any(|name| name == controller)
        {
            let field = write.field.trim_start_matches("linux.resources.");
            error = error.context(match write.field.contains(".unified[") {
                true => {
                    format!("unified resource {:?} can't be set: controller {controller:?} not available", write.file)
                }
                false => format!("{field} can't be set: controller {controller:?} not available"),
            });
        }
        if write.file == "memory.limit_in_bytes" && errno == Errno::EBUSY {
            let number = |name| read_file(&path.join(name)).unwrap_or_default().trim_end().to_owned();
            error = error.context(format!(
                "unable to set memory limit to {} (current usage: {}, peak usage: {})",
                write.value,
                number("memory.usage_in_bytes"),
                number("memory.max_usage_in_bytes")
            ));
        }
        error.context(write.field.to_string()).fact("path", file.display().to_string())
    }

    /// `memory.checkBeforeUpdate` on v2: refuses limits that are exceeded already, because the kernel would kill processes.
    pub(super) fn check_memory(&self, check: Option<MemoryCheck>) -> Result<()> {
        let (Some(check), Some(path)) = (check, self.handle.unified()) else { return Ok(()) };
        // without the memory controller there is no usage to compare with
        let Ok(usage) = read_file(&path.join("memory.current")) else { return Ok(()) };
        let Ok(usage) = usage.trim_end().parse::<u64>() else { return Ok(()) };
        if let Some(swap) = check.swap.filter(|swap| *swap <= usage) {
            return Err(Error::msg(format!("rejecting memory+swap limit {swap} <= usage {usage}")));
        }
        match check.limit.filter(|limit| *limit <= usage) {
            Some(limit) => Err(Error::msg(format!("rejecting memory limit {limit} <= usage {usage}"))),
            None => Ok(()),
        }
    }

    /// Sets the device filter. In a cgroup that existed before (`reused`) it replaces the filters that may be there.
    pub(super) fn filter_devices(&self, devices: &Devices, rootless: Rootless, reused: bool) -> Result<()> {
        let done = match devices {
            Devices::Unrestricted | Devices::Bpf(_) if reused => self.handle.set_devices(devices),
            Devices::Unrestricted => Ok(()),
            // in a user namespace nobody can create device nodes, so no filter is needed
            Devices::V1(_) if ns::in_user_namespace() => Ok(()),
            Devices::V1(writes) => self.write_all(writes),
            Devices::Bpf(code) => self.filter(code).context(|| "set the device filter of the cgroup"),
        };
        match done {
            Err(_) if super::forgiving(rootless) => Ok(()),
            Err(error) if error.errno() == Some(Errno::EPERM) && ns::in_user_namespace() => Ok(()),
            done => done,
        }
    }

    fn filter(&self, code: &[u64]) -> Result<()> {
        let program = Program::load(code).context(|| "load a BPF program")?;
        let dir = self.dir.ok_or_else(|| Error::msg("no cgroup2 tree"))?;
        program.attach(dir).context(|| "attach a BPF program")
    }
}

impl Cgroup {
    /// Replaces the device filter of a cgroup in use. On v2 the old one stays in force until the new one is attached.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_devices(&self, devices: &Devices) -> Result<()> {
        let Some(path) = self.unified().filter(|_| !self.cgroup_paths.contains_key("devices")) else {
            return LimitWriter { handle: self, dir: None }.filter_devices(devices, Rootless::No, false);
        };
        let dir = open_dir(path).context(|| format!("open cgroup {}", path.display()))?;
        exchange(dir.as_fd(), devices).context(|| "exchange the device filter of the cgroup")
    }
}

/// Replaces all attached programs by one.
fn exchange(dir: BorrowedFd<'_>, devices: &Devices) -> std::result::Result<(), Errno> {
    let old = Program::attached(dir)?;
    let mut old = old.iter();
    if let Devices::Bpf(code) = devices {
        let program = Program::load(code)?;
        match old.next() {
            Some(first) => program.replace(dir, first)?,
            None => program.attach(dir)?,
        }
    }
    old.try_for_each(|program| program.detach(dir))
}

fn list(path: &Path) -> String {
    open_dir(path).and_then(|dir| read_at(&dir, Path::new("cgroup.controllers"))).unwrap_or_default()
}
