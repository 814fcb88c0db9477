//! Annotations that change what the runtime does: the `run.oci.*` of crun, as crun documents them (crun(1), "Extensions to
//! OCI"). Those of systemd and CRIU are read where they are used.

use super::namespaces::{NamespaceSet, TimeOffset};
use super::runc_error;
use crate::abi::ns::Namespace;
use crate::error::{Error, Result};
use oci_spec::runtime::Spec;
use std::path::{Component, Path, PathBuf};

/// What all of them begin with.
const FAMILY: &str = "run.oci.";
/// The process keeps the supplementary groups of the caller.
pub const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
/// The file that the standard output of hooks is appended to.
pub const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
/// The file that the standard error of hooks is appended to.
pub const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
/// A cgroup below the container's that the process is moved to when the cgroup namespace is made.
pub const DELEGATE: &str = "run.oci.delegate-cgroup";
/// A cgroup below the container's scope that the process begins in.
pub const SUBGROUP: &str = "run.oci.systemd.subgroup";
const CONTEXT_TYPE: &str = "run.oci.mount_context_type";
const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";
const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";
const SECCOMP_STRICT: &str = "run.oci.seccomp_fail_unknown_syscall";
const TIME_OFFSET: &str = "run.oci.timens_offset";

/// Those that have an effect.
pub const KNOWN: [&str; 10] = [
    DELEGATE,
    HOOKS_STDERR,
    HOOKS_STDOUT,
    KEEP_GROUPS,
    CONTEXT_TYPE,
    PIDFD_RECEIVER,
    SECCOMP_RECEIVER,
    SECCOMP_STRICT,
    SUBGROUP,
    TIME_OFFSET,
];

/// What the annotations ask for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Extensions {
    /// `run.oci.keep_original_groups`.
    pub keep_groups: bool,
    /// `run.oci.hooks.stdout` and `run.oci.hooks.stderr`.
    pub hook_output: [Option<PathBuf>; 2],
    /// `run.oci.seccomp_fail_unknown_syscall`.
    pub seccomp_strict: bool,
    /// `run.oci.mount_context_type`: the option that gives a new file system its SELinux label.
    pub context_type: Option<String>,
    /// `run.oci.pidfd_receiver`.
    pub pidfd_receiver: Option<PathBuf>,
    /// `run.oci.systemd.subgroup`; empty is none.
    pub subgroup: Option<PathBuf>,
    /// `run.oci.delegate-cgroup`; empty is none.
    pub delegate: Option<PathBuf>,
}

/// Reads the annotations of a configuration, and warns of those of crun that have no effect.
pub(super) fn extensions(spec: &Spec, notes: &mut Vec<String>) -> Result<Extensions> {
    let mut asked = Extensions::default();
    for (key, value) in spec.annotations().iter().flatten().filter(|(key, _)| key.starts_with(FAMILY)) {
        match key.as_str() {
            KEEP_GROUPS => asked.keep_groups = true,
            HOOKS_STDOUT => asked.hook_output[0] = Some(absolute(key, value)?),
            HOOKS_STDERR => asked.hook_output[1] = Some(absolute(key, value)?),
            SECCOMP_STRICT => asked.seccomp_strict = true,
            CONTEXT_TYPE => asked.context_type = Some(context_type(value)?.to_owned()),
            PIDFD_RECEIVER => asked.pidfd_receiver = Some(absolute(key, value)?),
            SUBGROUP => asked.subgroup = below(key, value)?,
            DELEGATE => asked.delegate = below(key, value)?,
            // read by `receiver` and `time_offsets`
            SECCOMP_RECEIVER | TIME_OFFSET => {}
            _ => notes.push(format!("annotation {key} is not supported and has no effect")),
        }
    }
    Ok(asked)
}

fn wrong(key: &str, text: impl std::fmt::Display) -> Error {
    Error::spec(format!("annotations[{key:?}]"), text)
}

fn absolute(key: &str, value: &str) -> Result<PathBuf> {
    if value.starts_with('/') && !value.contains('\0') {
        return Ok(value.into());
    }
    Err(wrong(key, format!("{value:?} must be an absolute path")))
}

fn context_type(value: &str) -> Result<&str> {
    if ["context", "fscontext", "defcontext", "rootcontext"].contains(&value) {
        return Ok(value);
    }
    Err(wrong(CONTEXT_TYPE, format!("{value:?} is not context, fscontext, defcontext or rootcontext")))
}

/// A cgroup below another.
fn below(key: &str, value: &str) -> Result<Option<PathBuf>> {
    let path = Path::new(value);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || value.contains('\0') {
        return Err(wrong(key, format!("{value:?} must be a path below the container's cgroup, without . and ..")));
    }
    Ok((!value.is_empty()).then(|| path.to_owned()))
}

/// `run.oci.seccomp.receiver` takes the place of `listenerPath`. For a container and for a process of `exec`.
pub(super) fn receiver(spec: &mut Spec) -> Result<()> {
    let Some(path) = spec.annotations().as_ref().and_then(|all| all.get(SECCOMP_RECEIVER)) else { return Ok(()) };
    let path = absolute(SECCOMP_RECEIVER, path)?;
    if let Some(linux) = spec.linux_mut()
        && let Some(seccomp) = linux.seccomp_mut()
    {
        seccomp.set_listener_path(Some(path));
    }
    Ok(())
}

/// `run.oci.timens_offset` (`CLOCK SECONDS NANOSECONDS`, as the kernel takes it, one clock a line) changes the offsets of
/// `linux.timeOffsets`. Without a new time namespace it has no effect, as with crun.
pub(super) fn time_offsets(spec: &Spec, set: &NamespaceSet, offsets: &mut Vec<TimeOffset>) -> Result<()> {
    let asked = spec.annotations().as_ref().and_then(|all| all.get(TIME_OFFSET));
    for line in asked.filter(|_| set.new.has(Namespace::Time)).into_iter().flat_map(|text| text.lines()) {
        let invalid = || wrong(TIME_OFFSET, format!("{line:?} is not CLOCK SECONDS NANOSECONDS"));
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[clock, seconds, nanoseconds] = words.as_slice() else { return Err(invalid()) };
        let clock = match clock {
            "monotonic" | "1" => "monotonic",
            "boottime" | "7" => "boottime",
            _ => return Err(runc_error(TIME_OFFSET, format!("{TIME_OFFSET}: {clock} is not monotonic or boottime"))),
        };
        let (seconds, nanoseconds) =
            (seconds.parse().map_err(|_| invalid())?, nanoseconds.parse().map_err(|_| invalid())?);
        if nanoseconds >= 1_000_000_000 {
            return Err(wrong(TIME_OFFSET, "nanoseconds must be less than a second"));
        }
        offsets.retain(|known| known.clock != clock);
        offsets.push(TimeOffset { clock, seconds, nanoseconds });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(annotations: &Value) -> Spec {
        serde_json::from_value(json!({"ociVersion": "1.3.0", "annotations": annotations})).unwrap()
    }

    fn read(annotations: &Value) -> (Result<Extensions>, Vec<String>) {
        let mut notes = Vec::new();
        let asked = extensions(&spec(annotations), &mut notes);
        (asked, notes)
    }

    #[test]
    fn only_unknown_ones_of_the_family_warn() {
        let known: serde_json::Map<String, Value> =
            KNOWN.into_iter().map(|key| (key.to_owned(), json!("/x"))).collect();
        let mut known = Value::Object(known);
        for (key, value) in [(CONTEXT_TYPE, "context"), (SUBGROUP, "x"), (DELEGATE, "x")] {
            known[key] = value.into();
        }
        let (asked, notes) = read(&known);
        assert!(asked.is_ok() && notes.is_empty(), "{asked:?} {notes:?}");
        assert!(KNOWN.is_sorted());
        let (_, notes) = read(&json!({"run.oci.handler": "krun", "org.example": "x"}));
        assert_eq!(notes, ["annotation run.oci.handler is not supported and has no effect"]);
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        for (key, value) in [
            (HOOKS_STDOUT, "relative"),
            (HOOKS_STDERR, ""),
            (PIDFD_RECEIVER, "a/b"),
            (CONTEXT_TYPE, "label"),
            (SUBGROUP, "../up"),
            (SUBGROUP, "/top"),
            (DELEGATE, "a/../../b"),
            (DELEGATE, "."),
        ] {
            let error = read(&json!({key: value})).0.unwrap_err().to_string();
            assert!(error.starts_with(&format!("annotations[{key:?}]: ")), "{error}");
        }
        let (asked, _) = read(&json!({SUBGROUP: "", DELEGATE: ""}));
        assert_eq!(asked.unwrap(), Extensions::default());
    }

    #[test]
    fn the_receiver_takes_the_place_of_the_listener_s_path() {
        let mut changed = spec(&json!({SECCOMP_RECEIVER: "/agent"}));
        assert!(receiver(&mut changed).is_ok());
        let text = json!({"ociVersion": "1.3.0", "annotations": {SECCOMP_RECEIVER: "/agent"},
            "linux": {"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/other"}}});
        let mut changed: Spec = serde_json::from_value(text).unwrap();
        receiver(&mut changed).unwrap();
        let path = changed.linux().as_ref().unwrap().seccomp().as_ref().unwrap().listener_path().clone();
        assert_eq!(path, Some("/agent".into()));
        assert!(receiver(&mut spec(&json!({SECCOMP_RECEIVER: "agent"}))).is_err());
    }

    #[test]
    fn clocks_are_set_as_the_kernel_takes_them() {
        let mut set = NamespaceSet::default();
        let offset = |clock, seconds, nanoseconds| TimeOffset { clock, seconds, nanoseconds };
        let mut offsets = vec![offset("monotonic", 1, 0)];
        let asked = spec(&json!({TIME_OFFSET: "monotonic -7 5\n7 3 0\n"}));
        time_offsets(&asked, &set, &mut offsets).unwrap();
        assert_eq!(offsets, [offset("monotonic", 1, 0)], "there is no time namespace");
        set.new.insert(Namespace::Time);
        time_offsets(&asked, &set, &mut offsets).unwrap();
        assert_eq!(offsets, [offset("monotonic", -7, 5), offset("boottime", 3, 0)]);
        for text in ["monotonic 1", "realtime 1 0", "monotonic x 0", "monotonic 1 1000000000"] {
            assert!(time_offsets(&spec(&json!({TIME_OFFSET: text})), &set, &mut offsets).is_err(), "{text}");
        }
    }
}
