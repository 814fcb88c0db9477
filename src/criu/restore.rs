//! Restores a container.
//!
//! CRIU creates the processes; the first one becomes a child of ours (`rst_sibling`), as if we had cloned it. The state
//! directory, the cgroup, the record and the pid file are those of `run` (`launch::prepare`).

use super::mount_ns::RestoreMountNs;
use super::rpc::{CgroupRoot, InheritFd, Notification, Options, Pair, Request, kind};
use super::service::{self, Service};
use super::{CriuRequest, DESCRIPTORS, dump, external, report};
use crate::error::{Context, Error, Result};
use crate::launch::patience::Told;
use crate::launch::prepare::{self, Prepared};
use crate::launch::{self, Child, Job, Launched, PlanInput, Undo, hooks, notify};
use crate::log::Log;
use crate::plan::Plan;
use crate::state;
use crate::sys::file::{self, RESOLVE_IN_ROOT};
use crate::sys::{Errno, paths, proc, socket};
use external::Mounted;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxNamespaceType;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The first version of CRIU that can set another security profile than the saved one.
const SETS_PROFILE: u32 = 31_600;

/// Restores a container: returns when it runs.
///
/// # Errors
/// CRIU is missing or failed, or a hook failed; then nothing is left of the container.
pub fn restore(job: &Job<'_>, asked: &CriuRequest, log: &Log) -> Result<Launched> {
    let version = service::version()?;
    let options = &asked.options;
    for (flag, value) in [("lsm-profile", &options.lsm_profile), ("lsm-mount-context", &options.lsm_mount_context)] {
        if value.is_some() && version < SETS_PROFILE {
            return Err(Error::msg(format!("--{flag} requires at least CRIU 3.16")));
        }
    }
    // the saved container may have had a notify socket, whose directory is among its mounts
    let socket = notify::directory(&job.root.path().join(job.input.id));
    let notified = PlanInput { notify: Some(socket), ..job.input.clone() };
    let (plan, cgroups) = prepare::planned(&notified, log)?;
    external::refuse(&plan)?;
    // declared before `undo`, which borrows it
    let child;
    let mut undo = Undo::new(log);
    let prepared = prepare::prepare(job, cgroups, None, &mut undo, log)?;
    let socket = notify::directory(prepared.claim.dir.path());
    let mountpoint = prepared.claim.dir.path().join("criu-root");
    for directory in [&socket, &mountpoint] {
        std::fs::create_dir(directory).context(|| format!("mkdir {}", directory.display()))?;
    }
    let mounts = external::mounts(&plan);
    make_mountpoints(&mounts, &prepared.record.rootfs)?;
    let mut notifications = Notifications { job, plan: &plan, prepared, terminal: None, log };
    let (service, mut options) = start(&notifications, asked, &mounts, &mountpoint, version)?;
    let (cgroup, cgroups) = (&notifications.prepared.cgroup, &notifications.prepared.cgroups);
    cgroup.adopt(service.pid(), cgroups)?;
    cgroup.limit(cgroups)?;
    options.cg_root = cgroup_roots(service.pid())?;
    let request = Request { kind: kind::RESTORE, options: Some(options), ..Request::default() };
    let response = service
        .request(&request, &mut |notification, fd| notifications.answer(notification, fd))
        .map_err(|error| report::failed(error, &asked.log("restore.log")))?;
    let restored = response.restore.ok_or_else(|| Error::msg("criu does not say what it restored"))?;
    let pid = Pid::from_raw(restored.pid);
    let pidfd = proc::pidfd_open(pid).context(|| format!("pidfd_open {pid}"))?;
    child = Child { pid: restored.pid, pidfd, start: None, restored: true, progress: None };
    undo.push("end the restored process", || launch::end(&child));
    service.finish()?;
    prepare::write_pid_file(job.input.options.pid_file.as_deref(), child.pid)?;
    undo.disarm();
    let Notifications { prepared, terminal, .. } = notifications;
    let container = state::Container::new(prepared.claim, prepared.record);
    Ok(Launched { child, container, terminal, relay: None })
}

/// Starts CRIU with everything that it inherits, in a mount namespace where the root is a mount point. Returns the options
/// that say so.
fn start(
    notifications: &Notifications<'_>,
    asked: &CriuRequest,
    mounts: &[Mounted],
    mountpoint: &Path,
    version: u32,
) -> Result<(Service, Options)> {
    let mut options = asked.options.clone();
    let mut inherited = Vec::new();
    for (kind, since, name) in dump::GIVEN {
        if let Some(path) = external::namespace(&notifications.job.input.config.spec, kind).filter(|_| version >= since)
        {
            let fd = OwnedFd::from(File::open(path).context(|| format!("open {}", path.display()))?);
            options.inherit_fd.push(service::inherit(name, &fd));
            inherited.push(fd);
        }
    }
    options.inherit_fd.extend(streams(&asked.images, &mut inherited)?);
    let named = |mount: &Mounted| {
        let source = mount.source.as_deref().map(dump::text)?;
        Some(source.and_then(|source| Ok(Pair { key: dump::text(&mount.target)?, val: source })))
    };
    options.ext_mnt = mounts.iter().filter_map(named).collect::<Result<_>>()?;
    options.ext_mnt.push(Pair { key: external::NULL.to_owned(), val: external::NULL.to_owned() });
    options.root = Some(dump::text(mountpoint)?);
    options.rst_sibling = Some(true);
    options.evasive_devices = Some(true);
    options.log_file = Some("restore.log".to_owned());
    options.config_file = super::configuration(&notifications.prepared.record);

    let mount_ns = RestoreMountNs::enter(&notifications.prepared.record.rootfs, mountpoint, notifications.log)?;
    let images = File::open(&asked.images).context(|| format!("open {}", asked.images.display()))?;
    options.images_dir_fd = images.as_raw_fd();
    inherited.push(images.into());
    if let Some(work) = asked.work.as_deref().map(super::directory).transpose()? {
        options.work_dir_fd = Some(work.as_raw_fd());
        inherited.push(work.into());
    }
    let terminal =
        notifications.job.input.config.spec.process().as_ref().and_then(|p| p.terminal()).unwrap_or_default();
    let service = Service::start(!terminal, inherited)?;
    drop(mount_ns);
    Ok((service, options))
}

/// The standard streams that came from outside of the container: CRIU replaces them by ours. Those that were `/dev/null` are
/// `/dev/null` again: CRIU restores their file position, which would fail on a pipe of ours.
fn streams(images: &Path, inherited: &mut Vec<OwnedFd>) -> Result<Vec<InheritFd>> {
    let path = images.join(DESCRIPTORS);
    let text = paths::document(&path, 4096).context(|| format!("open {}", path.display()))?;
    let saved: Vec<String> = serde_json::from_slice(&text)
        .map_err(|error| Error::msg(error.to_string()).context(format!("read {}", path.display())))?;
    let mut list = Vec::new();
    for (fd, (key, path)) in (0..).zip(&saved).filter_map(|(fd, stream)| Some((fd, dump::given(stream)?))) {
        if path == external::NULL {
            let null = file::open(file::cwd(), c"/dev/null", libc::O_RDWR, 0).context(|| "open /dev/null")?;
            list.push(service::inherit(key, &null));
            inherited.push(null);
        } else {
            list.push(InheritFd { key, fd });
        }
    }
    Ok(list)
}

/// The cgroups of CRIU's process, below which the saved cgroups are restored.
fn cgroup_roots(pid: i32) -> Result<Vec<CgroupRoot>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).context(|| format!("read {path}"))?;
    let mut roots = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        for controller in controllers.split(',') {
            roots.push(CgroupRoot { controller: Some(controller.to_owned()), path: path.to_owned() });
        }
    }
    Ok(roots)
}

/// Makes the mount points that are missing.
fn make_mountpoints(mounts: &[Mounted], rootfs: &Path) -> Result<()> {
    for (i, mount) in mounts.iter().enumerate() {
        let meta = mount.source.as_deref().map(|source| {
            std::fs::metadata(source).context(|| format!("mount {}: stat {}", mount.target.display(), source.display()))
        });
        let directory = meta.transpose()?.is_none_or(|meta| meta.is_dir());
        let Some((root, path)) = external::point(mounts, i, rootfs) else { continue };
        let what = || format!("make the mount point {}", mount.target.display());
        let root = File::open(root).context(what)?;
        make_mountpoint(root.as_fd(), path, directory).context(what)?;
    }
    Ok(())
}

/// Makes a directory or an empty file inside a root, and the directories above it. Paths are resolved in the root.
fn make_mountpoint(root: BorrowedFd<'_>, path: &Path, directory: bool) -> std::result::Result<(), Errno> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL);
    let open = |path: &Path, flags| file::openat2(root, &name(path)?, libc::O_PATH | flags, 0, RESOLVE_IN_ROOT);
    if path.as_os_str().is_empty() || open(path, 0).is_ok() {
        return Ok(());
    }
    let parts: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let mut above = open(Path::new("."), libc::O_DIRECTORY)?;
    for count in 1..=parts.len() {
        let part = name(Path::new(parts[count - 1].as_os_str()))?;
        let whole: PathBuf = parts[..count].iter().collect();
        if count == parts.len() && !directory {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_RDONLY;
            return file::open(above.as_fd(), &part, flags, 0o755).map(drop);
        }
        above = match open(&whole, libc::O_DIRECTORY) {
            Err(Errno::ENOENT) => {
                file::mkdir(above.as_fd(), &part, 0o755)?;
                open(&whole, libc::O_DIRECTORY)?
            }
            opened => opened?,
        };
    }
    Ok(())
}

/// The configuration that is kept beside the record. CRIU (3.14 or newer) puts all processes into a new time namespace, so
/// that their clocks continue from the saved values. Processes of `exec` must join it, and a later checkpoint must name it.
fn config(job: &Job<'_>, pid: i32) -> Result<Vec<u8>> {
    let kind = LinuxNamespaceType::Time;
    let listed = job.input.config.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let clocks = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/time")).ok();
    if listed.into_iter().flatten().any(|namespace| namespace.typ() == kind)
        || clocks(&pid.to_string()) == clocks("self")
    {
        return Ok(job.input.config.bytes.clone());
    }
    let failed = |error: serde_json::Error| Error::msg(error.to_string()).context("keep the configuration");
    let mut document: serde_json::Value = serde_json::from_slice(&job.input.config.bytes).map_err(failed)?;
    let time = serde_json::json!({"type": "time"});
    match document.pointer_mut("/linux/namespaces") {
        Some(serde_json::Value::Array(list)) => list.push(time),
        Some(_) | None => document["linux"]["namespaces"] = serde_json::json!([time]),
    }
    serde_json::to_vec(&document).map_err(failed)
}

/// Answers what CRIU asks while it works.
struct Notifications<'a> {
    job: &'a Job<'a>,
    plan: &'a Plan,
    prepared: Prepared,
    terminal: Option<OwnedFd>,
    log: &'a Log,
}

impl Notifications<'_> {
    fn answer(&mut self, notification: &Notification, fd: Option<OwnedFd>) -> Result<()> {
        let pid = notification.pid.unwrap_or_default();
        match notification.script.as_deref().unwrap_or_default() {
            "setup-namespaces" => {
                let document = launch::document(&self.prepared.record, "creating", pid);
                let told = Told { log: self.log, dir: Some(&self.prepared.claim.dir), record: &self.prepared.record };
                hooks::run(&self.plan.hooks.runtime, &document, told)
            }
            // the processes are restored, and do not run yet
            "post-restore" => self.prepared.complete(pid, None, self.plan, &config(self.job, pid)?),
            "orphan-pts-master" => self.console(fd.ok_or_else(|| Error::msg("criu sends no terminal"))?),
            _ => Ok(()),
        }
    }

    fn console(&mut self, master: OwnedFd) -> Result<()> {
        let Some(path) = &self.job.input.options.console_socket else {
            self.terminal = Some(master);
            return Ok(());
        };
        let what = || format!("send the terminal to console socket {}", path.display());
        let socket = socket::connect_stream(path).context(what)?;
        socket::send(socket.as_fd(), b"/dev/ptmx", Some(master.as_fd())).context(what)
    }
}
