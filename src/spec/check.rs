//! Validation: the spec's rules beyond the types of values, and between values. Pure: what depends on the machine (a missing
//! path, a missing feature) is found by the plan, or by the step that needs it.
//!
//! Every rule that only depends on the document is checked in this directory, once. The results are in [`Config`], and a plan
//! can be made from nothing else.

use super::annotation::{self, Extensions};
use super::mount::{self, MountEntry};
use super::namespaces::{self, Maps, NamespaceSet, TimeOffset};
use super::sysctl::{self, Sysctl};
use super::{Loaded, runc_error};
use crate::abi::ns::Namespace;
use crate::error::{Error, Result};
use oci_spec::runtime::{Hook, Hooks, Linux, LinuxSchedulerPolicy, Process, Spec, User};
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// Something that has passed its check. Only this module can construct one, and it is immutable.
///
/// ```
/// use onggi::plan::{self, Checked, Config};
/// let text = r#"{"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["sh"]}}"#;
/// let loaded = plan::parse(text.into(), "config.json".as_ref()).unwrap();
/// let config: Checked<Config> = plan::check(loaded, "/bundle".as_ref(), true).unwrap();
/// assert_eq!(config.rootfs, std::path::Path::new("/bundle/rootfs"));
/// ```
///
/// ```compile_fail,E0423
/// use onggi::plan::{Checked, Config};
/// fn unchecked(config: Config) -> Checked<Config> {
///     Checked(config)
/// }
/// ```
///
/// ```compile_fail,E0594
/// use onggi::plan::{Checked, Config};
/// fn changed(mut config: Checked<Config>) -> Checked<Config> {
///     config.rootfs = "/".into();
///     config
/// }
/// ```
#[derive(Debug)]
pub struct Checked<T>(T);

impl<T> Deref for Checked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A bundle's configuration, with the results of its check.
#[derive(Debug)]
pub struct Config {
    /// The document.
    pub spec: Box<Spec>,
    /// Its original bytes.
    pub bytes: Vec<u8>,
    /// Warnings of the check, for the log.
    pub notes: Vec<String>,
    /// The bundle; absolute.
    pub bundle: PathBuf,
    /// The root file system: `root.path`, made absolute.
    pub rootfs: PathBuf,
    /// `mounts`.
    pub mounts: Vec<MountEntry>,
    /// `linux.namespaces`.
    pub namespaces: NamespaceSet,
    /// `linux.uidMappings` and `linux.gidMappings`.
    pub maps: Maps,
    /// `linux.timeOffsets`.
    pub time_offsets: Vec<TimeOffset>,
    /// `linux.sysctl`.
    pub sysctls: Vec<Sysctl>,
    /// `linux.rootfsPropagation`.
    pub propagation: Option<u64>,
    /// What annotations ask for.
    pub extensions: Extensions,
}

/// Checks the configuration of the bundle in the directory `bundle`.
///
/// `for_start`: a process is required. (The spec lets `create` do without one.)
///
/// # Errors
/// The first mistake: in runc's words where callers may know them, otherwise with its JSON path.
pub fn check(loaded: Loaded<Spec>, bundle: &Path, for_start: bool) -> Result<Checked<Config>> {
    let Loaded { spec, bytes, .. } = loaded;
    let rootfs = rootfs(&spec, bundle)?;
    match spec.process() {
        Some(process) => self::process(process)?,
        None if for_start => return Err(runc_error("process", "process property must not be empty")),
        None => {}
    }
    if spec.annotations().iter().flatten().any(|(key, _)| key.is_empty()) {
        return Err(Error::spec("annotations", "a key must not be empty"));
    }
    spec.hooks().as_ref().map_or(Ok(()), hooks)?;
    let namespaces = namespaces::namespaces(spec.linux().as_ref())?;
    names(&spec, &namespaces)?;
    let mut config = Config {
        bytes,
        notes: Vec::new(),
        bundle: bundle.to_owned(),
        rootfs,
        mounts: Vec::new(),
        maps: Maps::default(),
        time_offsets: Vec::new(),
        sysctls: Vec::new(),
        propagation: None,
        extensions: Extensions::default(),
        namespaces,
        spec,
    };
    if let Some(linux) = config.spec.linux() {
        let namespaces = &config.namespaces;
        supported(linux)?;
        deadline(&config.spec, linux)?;
        restricted_paths(linux, namespaces)?;
        config.maps = namespaces::container_mappings(linux, namespaces)?;
        config.time_offsets = namespaces::time_offsets(linux, namespaces)?;
        annotation::time_offsets(&config.spec, namespaces, &mut config.time_offsets)?;
        config.sysctls = sysctl::sysctls(linux, namespaces.all)?;
        config.propagation = mount::propagation(linux.rootfs_propagation().as_deref())?;
    }
    config.extensions = annotation::extensions(&config.spec, &mut config.notes)?;
    config.notes.extend(foreign(&config.spec));
    let mounts = config.spec.mounts().as_deref().unwrap_or_default();
    config.mounts = mount::entries(mounts, &config.rootfs, &mut config.notes)?;
    Ok(Checked(config))
}

/// The warning about sections of the configuration that are for other platforms.
fn foreign(spec: &Spec) -> Option<String> {
    let sections = [
        ("solaris", spec.solaris().is_some()),
        ("vm", spec.vm().is_some()),
        ("windows", spec.windows().is_some()),
        ("zos", spec.zos().is_some()),
    ];
    let there: Vec<&str> = sections.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    (!there.is_empty()).then(|| format!("ignored, since they are for other platforms: {}", there.join(", ")))
}

/// Checks the process of `exec`.
///
/// # Errors
/// The first mistake, in runc's words.
pub fn check_process(process: Process) -> Result<Checked<Process>> {
    self::process(&process)?;
    Ok(Checked(process))
}

fn rootfs(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let root = spec.root().as_ref().ok_or_else(|| Error::spec("root", "must be specified"))?;
    if root.path().as_os_str().is_empty() {
        return Err(Error::spec("root.path", "must not be empty"));
    }
    Ok(bundle.join(root.path()))
}

fn process(process: &Process) -> Result<()> {
    if process.cwd().as_os_str().is_empty() {
        return Err(runc_error("process.cwd", "Cwd property must not be empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(runc_error("process.cwd", "Cwd must be an absolute path"));
    }
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(runc_error("process.args", "args must not be empty"));
    }
    ids(process.user())?;
    let mut seen = Vec::new();
    for (at, limit) in process.rlimits().iter().flatten().enumerate() {
        // an error by the spec, although runc, crun and youki accept it and apply both
        if seen.contains(&limit.typ()) {
            return Err(Error::spec(format!("process.rlimits[{at}].type"), format!("duplicate {}", limit.typ())));
        }
        seen.push(limit.typ());
        if limit.soft() > limit.hard() {
            let message = format!("{} is above the hard limit {}", limit.soft(), limit.hard());
            return Err(Error::spec(format!("process.rlimits[{at}].soft"), message));
        }
    }
    // a C string can't have a zero byte, and truncation would change the meaning
    let words = process.args().iter().flatten().map(|word| ("args", word));
    for (list, word) in words.chain(process.env().iter().flatten().map(|word| ("env", word))) {
        if word.contains('\0') {
            return Err(Error::spec(format!("process.{list}"), format!("{word:?} holds a zero byte")));
        }
    }
    Ok(())
}

/// The highest number is not an id: for `setresuid(2)` it means "unchanged", and the process would stay root.
fn ids(user: &User) -> Result<()> {
    let groups = user.additional_gids().iter().flatten().map(|gid| ("additionalGids", *gid));
    match [("uid", user.uid()), ("gid", user.gid())].into_iter().chain(groups).find(|(_, id)| *id == u32::MAX) {
        Some((name, id)) => {
            Err(Error::spec(format!("process.user.{name}"), format!("{id} is not a valid id (it is the kernel's -1)")))
        }
        None => Ok(()),
    }
}

#[allow(deprecated, reason = "prestart hooks are deprecated and still in use")]
fn hooks(hooks: &Hooks) -> Result<()> {
    let kinds = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (kind, list) in kinds {
        for (at, hook) in list.iter().flatten().enumerate() {
            check_hook(hook, &format!("hooks.{kind}[{at}]"))?;
        }
    }
    Ok(())
}

/// Checks a hook, of a configuration or of a container's record. Returns its timeout in seconds.
///
/// # Errors
/// A path that is not absolute, or a timeout that is not positive.
pub fn check_hook(hook: &Hook, at: &str) -> Result<Option<u32>> {
    if !hook.path().is_absolute() {
        return Err(Error::spec(format!("{at}.path"), format!("{:?} must be an absolute path", hook.path())));
    }
    match hook.timeout() {
        Some(seconds) if seconds <= 0 => Err(Error::spec(format!("{at}.timeout"), "must be greater than zero")),
        // a timeout of more than a century counts as none
        timeout => Ok(timeout.and_then(|seconds| u32::try_from(seconds).ok())),
    }
}

/// Refuses settings that we do not support: the container would not be the one that was asked for.
fn supported(linux: &Linux) -> Result<()> {
    if linux.intel_rdt().is_some() {
        let text = "intelRdt is specified in config, but Intel RDT is not supported or enabled";
        return Err(runc_error("linux.intelRdt", text));
    }
    let io = linux.resources().as_ref().and_then(|resources| resources.block_io().as_ref());
    let devices = io.and_then(|io| io.weight_device().as_deref()).unwrap_or_default();
    match devices.iter().position(|device| device.weight().is_none() && device.leaf_weight().is_none()) {
        Some(at) => Err(Error::spec(
            format!("linux.resources.blockIO.weightDevice[{at}]"),
            "needs weight or leafWeight, or both",
        )),
        None => Ok(()),
    }
}

/// Checks a deadline policy: the kernel accepts it only without a restricted CPU affinity.
fn deadline(spec: &Spec, linux: &Linux) -> Result<()> {
    let scheduler = spec.process().as_ref().and_then(|process| process.scheduler().as_ref());
    let cpu = linux.resources().as_ref().and_then(|resources| resources.cpu().as_ref());
    let bound = cpu.and_then(|cpu| cpu.cpus().as_deref()).is_some_and(|cpus| !cpus.is_empty());
    if bound && scheduler.is_some_and(|scheduler| *scheduler.policy() == LinuxSchedulerPolicy::SchedDeadline) {
        return Err(runc_error("process.scheduler", "process scheduler can't be used together with AllowedCPUs"));
    }
    Ok(())
}

/// Checks host and domain name: without a UTS namespace they would change the host's.
fn names(spec: &Spec, namespaces: &NamespaceSet) -> Result<()> {
    for (name, what) in [(spec.hostname(), "hostname"), (spec.domainname(), "domainname")] {
        if !namespaces.all.has(Namespace::Uts) && name.as_ref().is_some_and(|name| !name.is_empty()) {
            return Err(runc_error(what, format!("unable to set {what} without a private UTS namespace")));
        }
    }
    Ok(())
}

/// Checks masked and read-only paths: without a mount namespace they would affect the host.
fn restricted_paths(linux: &Linux, namespaces: &NamespaceSet) -> Result<()> {
    for (list, at) in [(linux.masked_paths(), "linux.maskedPaths"), (linux.readonly_paths(), "linux.readonlyPaths")] {
        if !namespaces.all.has(Namespace::Mount) && list.as_ref().is_some_and(|list| !list.is_empty()) {
            return Err(runc_error(at, "unable to restrict sys entries without a private MNT namespace"));
        }
    }
    Ok(())
}
