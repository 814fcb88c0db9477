//! `features`: what this build supports, for engines that ask. The lists come from the tables that parse the configuration, so
//! that the two cannot differ.

use crate::abi::mount::OPTIONS;
use crate::error::{Error, Result};
use crate::spec::{VERSION, annotation};
use oci_spec::runtime::{
    Apparmor, Arch, Capability, Cgroup, Features, IDMap, IntelRdt, LinuxFeature, LinuxNamespaceType,
    LinuxSeccompAction, MemoryPolicy, MountExtensions, NetDevices, Seccomp, Selinux,
};
use serde::Serialize;
use std::collections::HashMap;
use std::str::FromStr;

/// Prints it with an indent of four, as runc does.
pub(super) fn run() -> Result<u8> {
    // through a Value, which sorts its keys: the type has hash maps
    let document = serde_json::to_value(features()).map_err(|error| Error::msg(error.to_string()))?;
    let mut text = Vec::new();
    let pretty = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, pretty);
    document.serialize(&mut serializer).map_err(|error| Error::msg(error.to_string()))?;
    text.push(b'\n');
    super::print(&text)?;
    Ok(0)
}

fn features() -> Features {
    let mut features = Features::default();
    features
        .set_oci_version_min("1.0.0".to_owned())
        .set_oci_version_max(VERSION.to_owned())
        .set_hooks(Some(names(&[
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ])))
        .set_mount_options(Some(mount_options()))
        .set_linux(Some(linux()))
        .set_annotations(Some(annotations()))
        // annotations by which a bundle can affect the host: engines should not accept them from users
        .set_potentially_unsafe_config_annotations(Some(names(&[
            "bundle",
            "org.systemd.property.",
            "org.criu.config",
            // a prefix, as that of systemd
            "run.oci.",
        ])));
    features
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Every option that a mount may have.
fn mount_options() -> Vec<String> {
    OPTIONS.iter().map(|(name, _)| (*name).to_owned()).collect()
}

fn linux() -> LinuxFeature {
    let mut linux = LinuxFeature::default();
    linux
        .set_namespaces(Some(vec![
            LinuxNamespaceType::Cgroup,
            LinuxNamespaceType::Ipc,
            LinuxNamespaceType::Mount,
            LinuxNamespaceType::Network,
            LinuxNamespaceType::Pid,
            LinuxNamespaceType::Time,
            LinuxNamespaceType::User,
            LinuxNamespaceType::Uts,
        ]))
        .set_capabilities(Some(capabilities()))
        .set_cgroup(Some(cgroup()))
        .set_seccomp(Some(seccomp()))
        .set_apparmor(Some(set(|lsm: &mut Apparmor| {
            lsm.set_enabled(Some(true));
        })))
        .set_selinux(Some(set(|lsm: &mut Selinux| {
            lsm.set_enabled(Some(true));
        })))
        .set_intel_rdt(Some(set(|rdt: &mut IntelRdt| {
            rdt.set_enabled(Some(false));
        })))
        .set_memory_policy(Some(memory_policy()))
        .set_mount_extensions(Some(set(|extensions: &mut MountExtensions| {
            extensions.set_idmap(Some(set(|idmap: &mut IDMap| {
                idmap.set_enabled(Some(true));
            })));
        })))
        .set_net_devices(Some(set(|devices: &mut NetDevices| {
            devices.set_enabled(Some(true));
        })));
    linux
}

/// A value with some of its fields set.
fn set<T: Default>(fill: impl FnOnce(&mut T)) -> T {
    let mut value = T::default();
    fill(&mut value);
    value
}

/// The capabilities in the order of their numbers, as far as the configuration's type knows them.
fn capabilities() -> Vec<String> {
    let mut all: Vec<caps::Capability> = caps::all().into_iter().collect();
    all.sort_by_key(|capability| capability.index());
    let known = |name: &String| name.strip_prefix("CAP_").is_some_and(|bare| Capability::from_str(bare).is_ok());
    all.into_iter().map(|capability| capability.to_string()).filter(known).collect()
}

fn cgroup() -> Cgroup {
    set(|cgroup: &mut Cgroup| {
        cgroup
            .set_v1(Some(true))
            .set_v2(Some(true))
            .set_systemd(Some(true))
            .set_systemd_user(Some(true))
            .set_rdma(Some(true));
    })
}

fn memory_policy() -> MemoryPolicy {
    let modes = ["BIND", "DEFAULT", "INTERLEAVE", "LOCAL", "PREFERRED", "PREFERRED_MANY", "WEIGHTED_INTERLEAVE"];
    let flags = ["NUMA_BALANCING", "RELATIVE_NODES", "STATIC_NODES"];
    set(|policy: &mut MemoryPolicy| {
        policy
            .set_modes(Some(modes.map(|mode| format!("MPOL_{mode}")).to_vec()))
            .set_flags(Some(flags.map(|flag| format!("MPOL_F_{flag}")).to_vec()));
    })
}

fn seccomp() -> Seccomp {
    let actions = vec![
        LinuxSeccompAction::ScmpActAllow,
        LinuxSeccompAction::ScmpActErrno,
        LinuxSeccompAction::ScmpActKill,
        LinuxSeccompAction::ScmpActKillProcess,
        LinuxSeccompAction::ScmpActKillThread,
        LinuxSeccompAction::ScmpActLog,
        LinuxSeccompAction::ScmpActNotify,
        LinuxSeccompAction::ScmpActTrace,
        LinuxSeccompAction::ScmpActTrap,
    ];
    let operators = ["EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE"].map(|name| format!("SCMP_CMP_{name}"));
    let flags = ["TSYNC", "SPEC_ALLOW", "LOG", "WAIT_KILLABLE_RECV"].map(|name| format!("SECCOMP_FILTER_FLAG_{name}"));
    set(|seccomp: &mut Seccomp| {
        seccomp
            .set_enabled(Some(true))
            .set_actions(Some(actions))
            .set_operators(Some(operators.to_vec()))
            .set_archs(Some(ARCHS.to_vec()))
            .set_known_flags(Some(flags.to_vec()))
            .set_supported_flags(Some(flags.to_vec()));
    })
}

/// The architectures that the seccomp compiler supports.
const ARCHS: &[Arch] =
    &[Arch::ScmpArchAarch64, Arch::ScmpArchArm, Arch::ScmpArchX32, Arch::ScmpArchX86, Arch::ScmpArchX86_64];

fn annotations() -> HashMap<String, String> {
    let own = [("onggi.version", env!("CARGO_PKG_VERSION")), ("org.opencontainers.runc.checkpoint.enabled", "true")];
    let known = annotation::KNOWN.into_iter().map(|key| (key, "true"));
    own.into_iter().chain(known).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// What engines look at before they use it.
    #[test]
    fn engines_find_what_they_ask_for() {
        let document = serde_json::to_value(features()).unwrap();
        let list = |pointer: &str| -> Vec<String> {
            let values = document.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("{pointer}"));
            values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(list("/hooks").len(), 6);
        assert_eq!(list("/linux/namespaces"), ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]);
        let options = list("/mountOptions");
        assert!(options.is_sorted());
        for option in
            ["rro", "rbind", "tmpcopyup", "nosymfollow", "lazytime", "silent", "runbindable", "idmap", "copy-symlink"]
        {
            assert!(options.iter().any(|known| known == option), "{option}");
        }
        let capabilities = list("/linux/capabilities");
        assert_eq!(capabilities.len(), 41);
        assert_eq!((capabilities[0].as_str(), capabilities[40].as_str()), ("CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"));
        assert_eq!(list("/linux/seccomp/actions").len(), 9);
        // what the build can do, as runc says it, whatever this machine has
        for way in ["v1", "v2", "systemd", "systemdUser", "rdma"] {
            assert_eq!(document["linux"]["cgroup"][way], Value::Bool(true), "{way}");
        }
        assert_eq!(document["ociVersionMax"], "1.3.0");
        assert_eq!(document["linux"]["mountExtensions"]["idmap"]["enabled"], Value::Bool(true));
        assert_eq!(document["linux"]["netDevices"]["enabled"], Value::Bool(true));
        // a value that is unknown would be shown as null
        assert!(!serde_json::to_string(&document).unwrap().contains("null"));
    }

    /// The version of the spec that the document says it follows has these properties and no others.
    #[test]
    fn the_document_has_the_properties_of_its_version() {
        let document = serde_json::to_value(features()).unwrap();
        let keys = |pointer: &str| -> Vec<String> {
            document.pointer(pointer).and_then(Value::as_object).unwrap().keys().cloned().collect()
        };
        assert_eq!(
            keys(""),
            [
                "annotations",
                "hooks",
                "linux",
                "mountOptions",
                "ociVersionMax",
                "ociVersionMin",
                "potentiallyUnsafeConfigAnnotations"
            ]
        );
        assert_eq!(
            keys("/linux"),
            [
                "apparmor",
                "capabilities",
                "cgroup",
                "intelRdt",
                "memoryPolicy",
                "mountExtensions",
                "namespaces",
                "netDevices",
                "seccomp",
                "selinux"
            ]
        );
        assert_eq!(
            keys("/linux/seccomp"),
            ["actions", "archs", "enabled", "knownFlags", "operators", "supportedFlags"]
        );
        // options of file systems, which mount(2) takes as text, are none of ours
        let options = document["mountOptions"].as_array().unwrap();
        assert!(options.iter().all(|option| !option.as_str().unwrap().contains('=')));
        assert!(["size", "mode", "uid", "gid", "data"].iter().all(|option| !options.contains(&Value::from(*option))));
    }
}
