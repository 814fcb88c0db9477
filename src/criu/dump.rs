//! Checkpoints a container, or only its memory while it runs on.

use super::rpc::{Features, Notification, Options, Pair, Request, kind};
use super::service::{self, Service};
use super::{CriuRequest, DESCRIPTORS, external, report};
use crate::abi::ns::Namespace;
use crate::error::{Context, Error, Result};
use crate::launch::{self, PlanInput};
use crate::state::Container;
use crate::sys::file;
use crate::sys::paths::{self, Before};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The first version of CRIU that can freeze a cgroup of v2.
const FREEZES_V2: u32 = 31_400;
/// The first version of CRIU that supports external network namespaces.
const GIVEN_NETWORK: u32 = 31_100;
/// The first version of CRIU that supports external pid namespaces, and that notifies us when it is ready to serve pages.
const GIVEN_PID: u32 = 31_500;

/// CRIU's key of an external file: mount id and inode, in hexadecimal. The path behind it is for us.
const FILE: &str = "file[";

/// CRIU's key of an external descriptor in the list of descriptors, and the path that it had; `None` for one of the
/// container's own.
pub(super) fn given(stream: &str) -> Option<(String, &str)> {
    if stream.starts_with("pipe:") {
        return Some((stream.to_owned(), ""));
    }
    let (key, path) = stream.strip_prefix(FILE)?.split_once(']')?;
    Some((format!("{FILE}{key}]"), path))
}

/// What to checkpoint.
#[derive(Debug, Clone, Default)]
pub struct DumpOptions {
    /// Only the memory (`--pre-dump`).
    pub memory_only: bool,
    /// The descriptor that gets a byte when pages can be fetched (`--status-fd`).
    pub status_fd: Option<u32>,
}

/// Checkpoints a container that has a process. `input` is what would start it again.
///
/// # Errors
/// CRIU is missing or failed.
pub fn dump(
    container: &Container<crate::cgroup::Cgroup>,
    input: &PlanInput<'_>,
    asked: &CriuRequest,
    saving: &DumpOptions,
) -> Result<()> {
    let version = service::version()?;
    let pid = container.record.init_process_pid;
    let images = super::directory(&asked.images)?;
    let work = asked.work.as_deref().map(super::directory).transpose()?;
    let mut options = asked.options.clone();
    let status = status(saving, &mut options, version)?;
    if saving.memory_only {
        let wanted = Features { mem_track: Some(true), ..Features::default() };
        service::check(wanted, "--pre-dump")?;
    } else {
        let streams = streams(pid)?;
        let named = streams.iter().filter_map(|stream| given(stream).map(|(key, _)| key));
        options.external.extend(named.filter(|key| key.starts_with(FILE)));
        let streams = serde_json::to_vec(&streams).map_err(|error| Error::msg(error.to_string()))?;
        let path = asked.images.join(DESCRIPTORS);
        let written = paths::output(&path, Before::Goes, 0o600);
        std::io::Write::write_all(&mut written.context(|| format!("open {}", path.display()))?, &streams)
            .context(|| format!("write {}", path.display()))?;
        options.ext_mnt = mounts(pid, input)?;
    }
    options.external.extend(namespaces(pid, input, version)?);
    options.pid = Some(pid);
    options.root = Some(text(&container.record.rootfs)?);
    options.images_dir_fd = images.as_raw_fd();
    options.work_dir_fd = work.as_ref().map(AsRawFd::as_raw_fd);
    options.log_file = Some("dump.log".to_owned());
    options.freeze_cgroup = freezer(container, version)?;
    options.config_file = super::configuration(&container.record);
    let request = Request {
        kind: if saving.memory_only { kind::PRE_DUMP } else { kind::DUMP },
        options: Some(options),
        ..Request::default()
    };
    let inherited: Vec<OwnedFd> = [Some(images), work].into_iter().flatten().map(OwnedFd::from).collect();
    let service = Service::start(false, inherited)?;
    let mut notified = |notification: &Notification, _| match (notification.script.as_deref(), &status) {
        (Some("status-ready"), Some(to)) => file::write(to.as_fd(), &[0]).context(|| "write to --status-fd"),
        _ => Ok(()),
    };
    service.request(&request, &mut notified).map_err(|error| report::failed(error, &asked.log("dump.log")))?;
    // after a pre-dump CRIU waits for another request, which we do not make
    if saving.memory_only { Ok(()) } else { service.finish() }
}

/// The file to write to when pages can be fetched, if CRIU notifies us of that. An older CRIU gets the descriptor itself.
fn status(saving: &DumpOptions, options: &mut Options, version: u32) -> Result<Option<File>> {
    if !options.lazy_pages.unwrap_or_default() {
        return Ok(None);
    }
    let wanted = Features { lazy_pages: Some(true), ..Features::default() };
    service::check(wanted, "--lazy-pages")?;
    let Some(number) = saving.status_fd else { return Ok(None) };
    let invalid = || format!("invalid --status-fd argument {number}");
    let raw = i32::try_from(number).map_err(|_| Error::msg(invalid()))?;
    // reopened through procfs: fails for a descriptor that is not open, or not for writing
    let file = std::fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{number}")).context(invalid)?;
    if version < GIVEN_PID {
        options.status_fd = Some(raw);
    }
    Ok(Some(file))
}

/// What descriptors 0 to 2 of the first process are, as CRIU names them. Those from outside of the container are replaced at
/// the restore: pipes, and files on mounts that are not the container's (the host's `/dev/null`, a log).
fn streams(pid: i32) -> Result<[String; 3]> {
    let own = std::fs::read(format!("/proc/{pid}/mountinfo"));
    let own = own.context(|| format!("read /proc/{pid}/mountinfo"))?;
    let own = mount_ids(&own);
    let one = |number: i32| {
        let path = format!("/proc/{pid}/fd/{number}");
        let target = match std::fs::read_link(&path) {
            Ok(target) => target.to_string_lossy().into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
            Err(error) => return Err(Error::from(error).context(format!("readlink {path}"))),
        };
        let info = std::fs::read(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let mount = String::from_utf8_lossy(&info)
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u32>().ok());
        let foreign = |id: &u32| !own.contains(id);
        match mount.filter(|_| target.starts_with('/')).filter(foreign) {
            Some(id) => {
                let ino = std::fs::metadata(&path).context(|| format!("stat {path}"))?.ino();
                Ok(format!("{FILE}{id:x}:{ino:x}]{target}"))
            }
            None => Ok(target),
        }
    };
    Ok([one(0)?, one(1)?, one(2)?])
}

/// The mount ids in a `mountinfo` (proc(5)). The payload chooses the names of mount points: they need not be UTF-8.
fn mount_ids(mountinfo: &[u8]) -> Vec<u32> {
    let id = |line: &[u8]| str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?.parse().ok();
    mountinfo.split(|byte| *byte == b'\n').filter_map(id).collect()
}

/// External mounts: the mount point that CRIU will find, and the key.
fn mounts(pid: i32, input: &PlanInput<'_>) -> Result<Vec<Pair>> {
    let (plan, _) = launch::plan(input)?;
    external::refuse(&plan)?;
    let root = File::open(format!("/proc/{pid}/root")).context(|| format!("open /proc/{pid}/root"))?;
    let mut pairs = Vec::new();
    for mount in external::mounts(&plan).iter().filter(|mount| mount.source.is_some()) {
        let found = found(&root, &mount.target).unwrap_or_else(|| mount.target.clone());
        pairs.push(Pair { key: text(&found)?, val: text(&mount.target)? });
    }
    for path in external::masked(&plan) {
        let Some(found) = found(&root, &path) else { continue };
        let path = PathBuf::from(format!("/proc/{pid}/root")).join(found.strip_prefix("/").unwrap_or(&found));
        // a masked directory is covered by a file system of the container's own, which is not external
        if std::fs::metadata(path).is_ok_and(|meta| !meta.is_dir()) {
            pairs.push(Pair { key: text(&found)?, val: external::NULL.to_owned() });
        }
    }
    Ok(pairs)
}

/// The path in the container after resolving links.
fn found(root: &File, path: &Path) -> Option<PathBuf> {
    let name = CString::new(path.as_os_str().as_bytes()).ok()?;
    let place = file::open_in(root.as_fd(), &name, libc::O_PATH, 0).ok()?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file::raw_fd(&place))).ok()?;
    path.is_absolute().then_some(path)
}

/// External namespaces: those that the container has joined.
fn namespaces(pid: i32, input: &PlanInput<'_>, version: u32) -> Result<Vec<String>> {
    let mut external = Vec::new();
    for (kind, since, name) in GIVEN {
        if version < since || external::namespace(&input.config.spec, kind).is_none() {
            continue;
        }
        let path = format!("/proc/{pid}/ns/{}", kind.file());
        let meta = std::fs::metadata(&path).context(|| format!("stat {path}"))?;
        external.push(format!("{}[{}]:{name}", kind.file(), meta.ino()));
    }
    Ok(external)
}

/// Kinds of namespaces that can be external, the first version of CRIU that supports that, and runc's keys for them.
pub(super) const GIVEN: [(Namespace, u32, &str); 2] =
    [(Namespace::Network, GIVEN_NETWORK, "extRootNetNS"), (Namespace::Pid, GIVEN_PID, "extRootPidNS")];

fn freezer(container: &Container<crate::cgroup::Cgroup>, version: u32) -> Result<Option<String>> {
    let Some((path, v2)) = container.record.cgroup.freezes() else { return Ok(None) };
    if v2 && version < FREEZES_V2 {
        return Ok(None);
    }
    text(path).map(Some)
}

/// A path as a string of CRIU's protocol.
pub(super) fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| Error::msg(format!("{} is not UTF-8", path.display())))
}
