//! What is hidden from the container, or shown to it read-only; sysctls.

use super::image::c_string;
use super::mounts::{clean, label};
use super::namespaces::Chosen;
use super::step::{COVER, Step};
use crate::abi::ns::Namespace;
use crate::error::{Error, Result};
use oci_spec::runtime::Linux;
use std::path::Path;

/// What engines hide and the kernel has as a file; a guess that spares a look.
const FILES: [&[u8]; 9] = [
    b"/proc/interrupts",
    b"/proc/kcore",
    b"/proc/keys",
    b"/proc/latency_stats",
    b"/proc/sched_debug",
    b"/proc/sysrq-trigger",
    b"/proc/timer_list",
    b"/proc/timer_stats",
    b"/proc/config.gz",
];

/// The steps of `linux.readonlyPaths` and `linux.maskedPaths`.
///
/// # Errors
/// A zero byte in a path, or no mount namespace to hide in.
pub(super) fn paths(linux: &Linux, chosen: &Chosen, notes: &mut Vec<String>) -> Result<Vec<Step>> {
    let readonly = linux.readonly_paths().as_deref().unwrap_or_default();
    let masked = linux.masked_paths().as_deref().unwrap_or_default();
    if !(chosen.mount || readonly.is_empty() && masked.is_empty()) {
        let at = if masked.is_empty() { "linux.readonlyPaths" } else { "linux.maskedPaths" };
        return Err(Error::spec(at, "unable to restrict sys entries without a private MNT namespace"));
    }
    let labelled = linux.mount_label().as_deref().filter(|label| !label.is_empty());
    let cover = labelled.map(|labelled| {
        let mut cover = COVER.to_string_lossy().into_owned();
        label(&mut cover, Some(labelled));
        c_string("linux.mountLabel", cover)
    });
    let cover = cover.transpose()?;
    let mut steps = Vec::with_capacity(readonly.len() + masked.len());
    for (i, path) in readonly.iter().enumerate() {
        steps.push(Step::ReadonlyPath { path: of_root(&format!("linux.readonlyPaths[{i}]"), path, notes)? });
    }
    for (i, path) in masked.iter().enumerate() {
        let path = of_root(&format!("linux.maskedPaths[{i}]"), path, notes)?;
        let file = FILES.contains(&path.to_bytes());
        steps.push(Step::Mask { path, cover: cover.clone(), file });
    }
    Ok(steps)
}

/// A path of the finished root. Cleaned, since `/proc/keys/` and `/proc/keys/.` mean what `/proc/keys` means, which is a file:
/// looked up as they stand they would not be found.
fn of_root(at: &str, path: &str, notes: &mut Vec<String>) -> Result<super::step::Str> {
    if !path.starts_with('/') {
        notes.push(format!("{at}: {path:?} is not absolute: taken as a path from the root"));
    }
    c_string(at, clean(Path::new(path)))
}

/// Sysctls of the IPC namespace (`ipc_namespaces(7)`).
const IPC: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.shm_next_id",
];

/// The steps of `linux.sysctl`; `PROC` must be open.
///
/// # Errors
/// A key that would change the host, because it is not of a namespace of the container's own.
pub(super) fn sysctls(linux: &Linux, chosen: &Chosen) -> Result<Vec<Step>> {
    let mut list: Vec<_> = linux.sysctl().iter().flatten().collect();
    list.sort();
    let mut steps = Vec::with_capacity(list.len());
    for (key, value) in list {
        let at = format!("linux.sysctl[{key:?}]");
        let dotted = dotted(key);
        let refuse = |text: String| Err(Error::spec(&at, text));
        let namespace = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            Namespace::Ipc
        } else if dotted.starts_with("net.") {
            Namespace::Network
        } else if dotted == "kernel.domainname" {
            Namespace::Uts
        } else if dotted.starts_with("user.") {
            Namespace::User
        } else if dotted == "kernel.hostname" {
            return refuse(format!(
                "sysctl {key:?} is not allowed as it conflicts with the OCI {:?} field",
                "hostname"
            ));
        } else {
            return refuse(format!("sysctl {key:?} is not in a separate kernel namespace"));
        };
        if !chosen.own.has(namespace) {
            return refuse(format!("sysctl {key:?} is not allowed in the hosts {} namespace", namespace.name()));
        }
        if dotted.split('.').any(|part| part.is_empty()) || key.split('/').any(|part| part == "..") {
            return refuse(format!("sysctl {key:?} is no key"));
        }
        // the separator that comes first is the separator; the other one is part of a name (an interface's)
        let path: String = if key.find(['.', '/']).is_some_and(|i| key.as_bytes()[i] == b'/') {
            key.clone()
        } else {
            key.chars().map(swap).collect()
        };
        let file = c_string(&at, format!("sys/{path}"))?;
        steps.push(Step::WriteProc { file, value: c_string(&at, value.as_str())? });
    }
    Ok(steps)
}

fn swap(letter: char) -> char {
    match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

/// A key in its dotted form, as `sysctl.d(5)` reads it.
fn dotted(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(i) if key.as_bytes()[i] == b'/' => key.chars().map(swap).collect(),
        Some(_) | None => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::ns::Namespaces;
    use std::collections::HashMap;

    fn plan(key: &str, own: &[Namespace]) -> std::result::Result<String, String> {
        let mut linux = Linux::default();
        linux.set_sysctl(Some(HashMap::from([(key.to_owned(), "1".to_owned())])));
        let mut set = Namespaces::default();
        own.iter().for_each(|kind| set.insert(*kind));
        let chosen = Chosen { own: set, ..Chosen::default() };
        sysctls(&linux, &chosen).map(|steps| steps[0].to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn only_namespaced_keys() {
        let net = [Namespace::Network];
        let written = |path: &str| Ok(format!("write \"1\" to /proc/{path}"));
        assert_eq!(plan("net.ipv4.ip_forward", &net), written("sys/net/ipv4/ip_forward"));
        assert_eq!(plan("net/ipv4/conf/eth0.100/rp_filter", &net), written("sys/net/ipv4/conf/eth0.100/rp_filter"));
        assert_eq!(plan("net.ipv4.conf.eth0/100.rp_filter", &net), written("sys/net/ipv4/conf/eth0.100/rp_filter"));
        assert!(plan("net.ipv4.ip_forward", &[]).unwrap_err().contains("hosts network namespace"));
        let text = plan("kernel.foo", &net).unwrap_err();
        assert!(text.contains("sysctl \"kernel.foo\" is not in a separate kernel namespace"), "{text}");
        assert!(plan("net/../kernel/core_pattern", &net).is_err());
        assert!(plan("kernel.hostname", &[Namespace::Uts]).is_err());
    }
}
