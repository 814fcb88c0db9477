//! Network devices that are moved into the container (config-linux.md, Network Devices).

use super::namespaces::Chosen;
use super::step::Slot;
use crate::abi::ns::Namespace;
use crate::error::{Error, Result};
use oci_spec::runtime::Linux;
use std::collections::BTreeSet;

/// The devices that are moved, and the namespace they are moved to.
#[derive(Debug, Default)]
pub struct Network {
    /// The devices, sorted by name.
    pub devices: Vec<Device>,
    /// The slot of the network namespace if it is a joined one; `None`: the child's.
    pub joined: Option<Slot>,
}

/// A network device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name on the host.
    pub name: String,
    /// Its name in the container. The kernel replaces `%d` by the first number that makes it unique.
    pub inside: String,
}

/// Whether it is a valid device name (the kernel's `dev_valid_name`).
fn valid(name: &str) -> bool {
    !name.is_empty()
        && name.len() < libc::IFNAMSIZ
        && name != "."
        && name != ".."
        && !name.bytes().any(|byte| matches!(byte, b'/' | b':' | 0) || byte.is_ascii_whitespace() || byte == 0x0b)
}

/// Whether it is a valid template: exactly one `%d`, and no other `%`.
fn template(name: &str) -> bool {
    name.replacen("%d", "", 1).contains('%')
}

/// The devices of the spec.
///
/// # Errors
/// There is no network namespace to move them to, or a name is invalid.
pub(super) fn network(linux: &Linux, chosen: &Chosen, unprivileged: bool) -> Result<Network> {
    let mut devices: Vec<_> = linux.net_devices().iter().flatten().collect();
    if devices.is_empty() {
        return Ok(Network::default());
    }
    let at = "linux.netDevices";
    if unprivileged {
        return Err(Error::spec(at, "network devices are not supported for rootless containers"));
    }
    if !chosen.own.has(Namespace::Network) {
        return Err(Error::spec(at, "unable to move network devices without a private NET namespace"));
    }
    devices.sort_by_key(|(name, _)| *name);
    let mut names = BTreeSet::new();
    let mut list: Vec<Device> = Vec::with_capacity(devices.len());
    for (name, device) in devices {
        let at = format!("{at}[{name:?}]");
        let inside = device.name().as_ref().filter(|inside| !inside.is_empty()).unwrap_or(name);
        if !valid(name) || !valid(inside) || template(inside) {
            let wrong = if valid(name) { inside } else { name };
            return Err(Error::spec(at, format!("invalid network device name {wrong:?}")));
        }
        if !inside.contains('%') && !names.insert(inside.as_str()) {
            return Err(Error::spec(at, format!("a second network device with the name {inside:?}")));
        }
        list.push(Device { name: name.clone(), inside: inside.clone() });
    }
    Ok(Network { devices: list, joined: chosen.joined(Namespace::Network) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_kernel_takes() {
        for name in ["eth0", "a.b", "eth%d", "123456789012345"] {
            assert!(valid(name) && !template(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "1234567890123456"] {
            assert!(!valid(name), "{name}");
        }
        for name in ["%s", "eth%d%d", "%", "%%d"] {
            assert!(template(name), "{name}");
        }
    }
}
