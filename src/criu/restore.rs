//! Bringing a container back.
//!
//! CRIU makes the processes; the first becomes a child of ours (`rst_sibling`), as if we had cloned it. The state
//! directory, the cgroup, hooks, record and pid file are made as for a container that is created.

use super::rpc::{CgroupRoot, InheritFd, Notification, Options, Pair, Request, kind};
use super::service::{self, Service};
use super::stage::Stage;
use super::{Asked, DESCRIPTORS, dump, external, report};
use crate::cgroup::{self, Handle};
use crate::error::{Context, Error, Result};
use crate::launch::{self, Child, Job, Launched, Record, Undo, hooks, notify};
use crate::log::Log;
use crate::plan::Plan;
use crate::state::{self, Announced};
use crate::sys::file::{self, RESOLVE_IN_ROOT};
use crate::sys::{Errno, paths, proc, signal, socket};
use external::Mounted;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxNamespaceType;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// The first CRIU that sets another security profile than the saved one.
const SETS_PROFILE: u32 = 31_600;

/// Brings a container back: comes back when it runs.
///
/// # Errors
/// There is no CRIU, or it failed, or a hook did; then nothing is left of the container.
pub fn restore(job: &Job<'_>, asked: &Asked, log: &Log) -> Result<Launched> {
    let version = service::version()?;
    let options = &asked.options;
    for (flag, value) in [("lsm-profile", &options.lsm_profile), ("lsm-mount-context", &options.lsm_mount_context)] {
        if value.is_some() && version < SETS_PROFILE {
            return Err(Error::msg(format!("--{flag} requires at least CRIU 3.16")));
        }
    }
    let mut undo = Undo::new(log);
    let claim = job.root.claim(job.id)?;
    undo.push_last("remove the state directory", claim.undo());
    // what was saved may have the directory of a notify socket among its mounts
    let socket = notify::directory(claim.dir.path());
    std::fs::create_dir(&socket).context(|| format!("mkdir {}", socket.display()))?;
    let (plan, cgroups) = launch::plan(&Job { notify: Some(socket), ..job.clone() })?;
    external::refuse(&plan)?;
    plan.notes.iter().for_each(|note| log.warn(note));
    let announced = claim.announce(&launch::record(job, Handle::planned(&cgroups))?)?;
    let made = cgroup::make(&cgroups)?;
    let (leftover, grip) = (made.handle().clone(), claim.grip());
    undo.push("remove the cgroup", move || if grip.is_gone()? { leftover.remove_unused() } else { leftover.remove() });

    let mounts = external::mounts(&plan);
    let record = launch::record(job, made.handle().clone())?;
    places(&mounts, &record.rootfs)?;
    let stand = claim.dir.path().join("criu-root");
    std::fs::create_dir(&stand).context(|| format!("mkdir {}", stand.display()))?;
    let mut moments = Moments { job, plan: &plan, announced: Some(announced), record, terminal: None, log };
    let (service, mut options) = start(&moments, asked, &mounts, &stand, version)?;
    made.adopt(service.pid(), &cgroups)?;
    made.limit(&cgroups)?;
    options.cg_root = cgroup_roots(service.pid())?;
    let request = Request { kind: kind::RESTORE, options: Some(options), ..Request::default() };
    let response = service
        .ask(&request, &mut |moment, fd| moments.meet(moment, fd))
        .map_err(|error| report::failed(error, &asked.log("restore.log")))?;
    let restored = response.restore.ok_or_else(|| Error::msg("criu does not say what it restored"))?;
    let pid = Pid::from_raw(restored.pid);
    let pidfd = proc::pidfd_open(pid).context(|| format!("pidfd_open {pid}"))?;
    let child = Child { pid: restored.pid, pidfd, restored: true };
    service.finish()?;
    if let Some(path) = job.pid_file
        && let Err(error) = state::replace(path, restored.pid.to_string().as_bytes(), 0o666)
    {
        let _ = signal::send(child.pidfd.as_fd(), libc::SIGKILL);
        launch::reap(&child)?;
        return Err(error);
    }
    let (record, terminal) = (moments.record, moments.terminal);
    undo.disarm();
    Ok(Launched { child, container: state::Container::new(claim, record), terminal, relay: None })
}

/// Starts CRIU where the root is a mount, with everything it inherits, and says so in the options.
fn start(
    moments: &Moments<'_>,
    asked: &Asked,
    mounts: &[Mounted],
    stand: &Path,
    version: u32,
) -> Result<(Service, Options)> {
    let mut options = asked.options.clone();
    let mut inherited = Vec::new();
    for (kind, since, name) in dump::GIVEN {
        if let Some(path) = external::namespace(&moments.job.loaded.spec, kind).filter(|_| version >= since) {
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
    options.root = Some(dump::text(stand)?);
    options.rst_sibling = Some(true);
    options.evasive_devices = Some(true);
    options.log_file = Some("restore.log".to_owned());
    options.config_file = super::configuration(&moments.record);

    let stage = Stage::enter(&moments.record.rootfs, stand, moments.log)?;
    let images = File::open(&asked.images).context(|| format!("open {}", asked.images.display()))?;
    options.images_dir_fd = images.as_raw_fd();
    inherited.push(images.into());
    if let Some(work) = asked.work.as_deref().map(super::directory).transpose()? {
        options.work_dir_fd = Some(work.as_raw_fd());
        inherited.push(work.into());
    }
    let terminal = moments.job.loaded.spec.process().as_ref().and_then(|p| p.terminal()).unwrap_or_default();
    let service = Service::start(!terminal, inherited)?;
    drop(stage);
    Ok((service, options))
}

/// The standard streams that were not the container's own: CRIU finds ours in their place. What was nothing stays
/// nothing: a file takes the position that it had, which a pipe of ours could not.
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

/// Where CRIU's process is now: the saved cgroups are brought back below.
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

/// Makes the places that are mounted over, where they are missing.
fn places(mounts: &[Mounted], rootfs: &Path) -> Result<()> {
    for (i, mount) in mounts.iter().enumerate() {
        let meta = mount.source.as_deref().map(|source| {
            std::fs::metadata(source).context(|| format!("mount {}: stat {}", mount.target.display(), source.display()))
        });
        let directory = meta.transpose()?.is_none_or(|meta| meta.is_dir());
        let Some((root, path)) = external::point(mounts, i, rootfs) else { continue };
        let what = || format!("make a place for the mount {}", mount.target.display());
        let root = File::open(root).context(what)?;
        place(root.as_fd(), path, directory).context(what)?;
    }
    Ok(())
}

/// Makes a directory or an empty file inside a root, and the directories above it.
fn place(root: BorrowedFd<'_>, path: &Path, directory: bool) -> std::result::Result<(), Errno> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL);
    let open = |path: &Path, flags| file::openat2(root, &name(path)?, libc::O_PATH | flags, 0, RESOLVE_IN_ROOT);
    if path.as_os_str().is_empty() || open(path, 0).is_ok() {
        return Ok(());
    }
    let parts: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let mut above = open(Path::new("."), libc::O_DIRECTORY)?;
    for count in 1..=parts.len() {
        let part = name(Path::new(parts[count - 1].as_os_str()))?;
        let whole: std::path::PathBuf = parts[..count].iter().collect();
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

/// The configuration that is kept beside the record. CRIU (3.14 or newer) puts everybody into a new time namespace, so that
/// clocks go on where they stood; who joins the container later is to have the same clocks, and a later checkpoint needs it.
fn config(job: &Job<'_>, pid: i32) -> Result<Vec<u8>> {
    let kind = LinuxNamespaceType::Time;
    let listed = job.loaded.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let clocks = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/time")).ok();
    if listed.into_iter().flatten().any(|namespace| namespace.typ() == kind)
        || clocks(&pid.to_string()) == clocks("self")
    {
        return Ok(job.loaded.bytes.clone());
    }
    let failed = |error: serde_json::Error| Error::msg(error.to_string()).context("keep the configuration");
    let mut document: serde_json::Value = serde_json::from_slice(&job.loaded.bytes).map_err(failed)?;
    let time = serde_json::json!({"type": "time"});
    match document.pointer_mut("/linux/namespaces") {
        Some(serde_json::Value::Array(list)) => list.push(time),
        Some(_) | None => document["linux"]["namespaces"] = serde_json::json!([time]),
    }
    serde_json::to_vec(&document).map_err(failed)
}

/// What is done while CRIU works.
struct Moments<'a> {
    job: &'a Job<'a>,
    plan: &'a Plan,
    announced: Option<Announced>,
    record: Record,
    terminal: Option<OwnedFd>,
    log: &'a Log,
}

impl Moments<'_> {
    fn meet(&mut self, moment: &Notification, fd: Option<OwnedFd>) -> Result<()> {
        let pid = moment.pid.unwrap_or_default();
        match moment.script.as_deref().unwrap_or_default() {
            "setup-namespaces" => {
                let document = launch::document(&self.record, "creating", pid);
                hooks::run(&self.plan.hooks.runtime, &document, self.log)
            }
            // restored, and not yet let go
            "post-restore" => {
                launch::settle(&mut self.record, pid, self.plan)?;
                let config = config(self.job, pid)?;
                self.announced.take().map_or(Ok(()), |announced| announced.complete(&self.record, &config))
            }
            "orphan-pts-master" => self.console(fd.ok_or_else(|| Error::msg("criu sends no terminal"))?),
            _ => Ok(()),
        }
    }

    fn console(&mut self, master: OwnedFd) -> Result<()> {
        let Some(path) = self.job.console_socket else {
            self.terminal = Some(master);
            return Ok(());
        };
        let what = || format!("send the terminal to console socket {}", path.display());
        let socket = socket::connect_stream(path).context(what)?;
        socket::send(socket.as_fd(), b"/dev/ptmx", Some(master.as_fd())).context(what)
    }
}
