//! `linux.sysctl`.

use super::runc_error;
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Error, Result};
use oci_spec::runtime::Linux;
use std::collections::HashSet;

/// A sysctl that only the container's own namespaces see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// Its JSON path, for messages.
    pub at: String,
    /// Its file, below `/proc/sys`.
    pub file: String,
    /// What is written there.
    pub value: String,
}

/// Sysctls that each IPC namespace has for itself, beside `fs.mqueue.*`: `ipc_namespaces(7)`, and the three `*_next_id`
/// of `ipc/ipc_sysctl.c` in the kernel (with `CONFIG_CHECKPOINT_RESTORE`), which the manual leaves out.
const IPC: [&str; 11] = [
    "kernel.msg_next_id",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.sem_next_id",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Checks the sysctls. Only those that a namespace of the container has for itself may be written: any other would change
/// the host.
pub(super) fn sysctls(linux: &Linux, own: Namespaces) -> Result<Vec<Sysctl>> {
    let mut given: Vec<_> = linux.sysctl().iter().flatten().collect();
    given.sort();
    let (mut list, mut seen) = (Vec::with_capacity(given.len()), HashSet::new());
    for (key, value) in given {
        let at = format!("linux.sysctl.{key}");
        let name = dotted(key);
        allowed(&name, own).map_err(|words| runc_error(at.clone(), format!("sysctl {name:?} {words}")))?;
        // an empty component would come from "..", which leaves /proc/sys
        if key.split(['/', '.']).any(str::is_empty) || key.contains('\0') || !seen.insert(name.clone()) {
            return Err(Error::spec(at, "invalid or duplicate sysctl key"));
        }
        list.push(Sysctl { at, file: swapped(&name), value: value.clone() });
    }
    Ok(list)
}

/// Whether a sysctl belongs to one of the container's own namespaces; if not, why it is refused, in runc's words.
fn allowed(name: &str, own: Namespaces) -> std::result::Result<(), &'static str> {
    const NOT_SEPARATE: &str = "is not in a separate kernel namespace";
    let (namespace, words) = if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        (Namespace::Ipc, "is not allowed in the hosts ipc namespace")
    } else if name.starts_with("net.") {
        (Namespace::Network, "not allowed in host network namespace")
    } else if name.starts_with("user.") {
        (Namespace::User, NOT_SEPARATE)
    } else if name == "kernel.domainname" {
        (Namespace::Uts, NOT_SEPARATE)
    } else if name == "kernel.hostname" {
        return Err("is not allowed as it conflicts with the OCI \"hostname\" field");
    } else {
        return Err(NOT_SEPARATE);
    };
    if own.has(namespace) { Ok(()) } else { Err(words) }
}

/// The key with dots as separators: `net/ipv4/conf/eth0.1/x` is `net.ipv4.conf.eth0/1.x`. The separator is whichever of
/// the two comes first; the other one is part of a name, which may be that of an interface (sysctl(8)).
fn dotted(key: &str) -> String {
    match key.find(['.', '/']).map(|at| key.as_bytes()[at]) {
        Some(b'/') => swapped(key),
        Some(_) | None => key.to_owned(),
    }
}

fn swapped(key: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    key.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn file(key: &str, own: &[Namespace]) -> std::result::Result<String, String> {
        let mut linux = Linux::default();
        linux.set_sysctl(Some(HashMap::from([(key.to_owned(), "1".to_owned())])));
        let list = sysctls(&linux, own.iter().copied().collect()).map_err(|error| error.to_string())?;
        Ok(list[0].file.clone())
    }

    #[test]
    fn either_separator_leads_to_the_same_file() {
        let net = [Namespace::Network];
        for (key, expected) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
            ("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
        ] {
            assert_eq!(file(key, &net).as_deref(), Ok(expected), "{key}");
        }
        for outside in ["net/../kernel/core_pattern", "net..x", "net.", "net/a/.", "net.a\0b"] {
            assert!(file(outside, &net).unwrap_err().contains("invalid or duplicate sysctl key"), "{outside:?}");
        }
    }

    #[test]
    fn a_key_needs_the_namespace_that_has_it_for_itself() {
        for name in IPC.into_iter().chain(["fs.mqueue.msg_max"]) {
            assert_eq!(file(name, &[Namespace::Ipc]), Ok(name.replace('.', "/")));
            let refused = file(name, &[Namespace::Network, Namespace::Uts]).unwrap_err();
            assert!(refused.contains("is not allowed in the hosts ipc namespace"), "{refused}");
        }
        assert!(IPC.is_sorted());
        assert_eq!(file("kernel.domainname", &[Namespace::Uts]).as_deref(), Ok("kernel/domainname"));
        assert!(file("kernel.hostname", &[Namespace::Uts]).is_err());
        assert!(file("kernel.shm_next", &[Namespace::Ipc]).unwrap_err().contains("not in a separate kernel namespace"));
    }
}
