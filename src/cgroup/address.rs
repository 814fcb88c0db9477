//! Where buses are: the addresses of the D-Bus specification, as far as they are Unix sockets. May use error.

use crate::error::{Error, Result};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

/// Where the machine's bus is; last, what systemd offers to root where there is no bus.
pub(super) fn system() -> Vec<String> {
    let named = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
    let buses = named.unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".to_owned());
    unix_addresses(&buses).into_iter().chain(["/run/systemd/private".to_owned()]).collect()
}

/// Where the user's own bus is.
pub(super) fn user() -> Result<Vec<String>> {
    let variable = |name: &str| std::env::var(name).ok();
    users(variable("DBUS_SESSION_BUS_ADDRESS").as_deref(), variable("XDG_RUNTIME_DIR").as_deref())
}

/// The user's bus out of the two variables that tell of it; empty ones say nothing.
fn users(named: Option<&str>, runtime_dir: Option<&str>) -> Result<Vec<String>> {
    let said = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
    match (said(named), said(runtime_dir)) {
        (Some(named), _) => Ok(unix_addresses(&named)),
        (None, Some(dir)) => Ok(vec![format!("{dir}/bus"), format!("{dir}/systemd/private")]),
        (None, None) => Err(Error::msg(
            "the user bus can't be found: neither $DBUS_SESSION_BUS_ADDRESS nor $XDG_RUNTIME_DIR is set",
        )
        .hint("log in with a session (machinectl shell, ssh), or set XDG_RUNTIME_DIR=/run/user/UID")),
    }
}

/// The socket paths in a D-Bus address list; abstract ones begin with `@`.
fn unix_addresses(list: &str) -> Vec<String> {
    let one = |address: &str| {
        let mut keys = address.strip_prefix("unix:")?.split(',').filter_map(|pair| pair.split_once('='));
        keys.find_map(|(key, value)| match key {
            "path" => Some(unescape(value)),
            "abstract" => Some(format!("@{}", unescape(value))),
            _ => None,
        })
    };
    list.split(';').filter_map(one).collect()
}

/// Undoes `%2f`.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = match (first, tail) {
            (b'%', [high, low, ..]) => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            }
            (_, _) => None,
        };
        out.push(code.unwrap_or(*first));
        rest = tail.get(if code.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Connects to one of them.
pub(super) fn open(address: &str) -> std::io::Result<UnixStream> {
    match address.strip_prefix('@') {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(Path::new(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let table: [(&str, &[&str]); 4] = [
            ("unix:path=/run/bus", &["/run/bus"]),
            ("unix:guid=1,path=/run/a%20b;tcp:host=x;unix:abstract=/tmp/y", &["/run/a b", "@/tmp/y"]),
            ("unix:path=/a%2", &["/a%2"]),
            ("tcp:host=x", &[]),
        ];
        for (list, want) in table {
            assert_eq!(unix_addresses(list), want, "{list}");
        }
    }

    #[test]
    fn a_user_s_bus_is_named_or_in_his_runtime_directory() {
        let in_dir: &[&str] = &["/run/user/7/bus", "/run/user/7/systemd/private"];
        let table: [(Option<&str>, Option<&str>, &[&str]); 4] = [
            (Some("unix:path=/run/b"), Some("/run/user/7"), &["/run/b"]),
            (Some("unix:abstract=/tmp/dbus-x,guid=00"), None, &["@/tmp/dbus-x"]),
            (Some(""), Some("/run/user/7"), in_dir),
            (None, Some("/run/user/7"), in_dir),
        ];
        for (named, dir, want) in table {
            assert_eq!(users(named, dir).unwrap(), want, "{named:?} {dir:?}");
        }
        for (named, dir) in [(None, None), (Some(""), Some(""))] {
            let error = users(named, dir).unwrap_err().to_string();
            assert!(error.contains("DBUS_SESSION_BUS_ADDRESS") && error.contains("XDG_RUNTIME_DIR"), "{error}");
        }
    }
}
