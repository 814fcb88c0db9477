//! Addresses of D-Bus buses (D-Bus specification, "Server Addresses"); only Unix sockets are supported. May use error.

use crate::error::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

/// The addresses of the system bus. The last one is systemd's private socket, which root can use where no bus runs.
pub(super) fn system() -> Vec<OsString> {
    let named = std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS");
    let buses = named.unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".into());
    unix_addresses(&buses).into_iter().chain(["/run/systemd/private".into()]).collect()
}

/// The addresses of the user's own bus.
pub(super) fn user() -> Result<Vec<OsString>> {
    let variable = |name: &str| std::env::var_os(name);
    users(variable("DBUS_SESSION_BUS_ADDRESS").as_deref(), variable("XDG_RUNTIME_DIR").as_deref())
}

/// Whether the user's systemd runs: it has a private socket, whether or not a bus runs.
pub(super) fn has_user_manager() -> bool {
    std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| Path::new(&dir).join("systemd/private").exists())
}

/// The addresses of the user's bus from the two environment variables that may give it; an empty one counts as unset.
fn users(named: Option<&OsStr>, runtime_dir: Option<&OsStr>) -> Result<Vec<OsString>> {
    let said = |value: Option<&'_ OsStr>| value.filter(|value| !value.is_empty()).map(OsStr::to_owned);
    match (said(named), said(runtime_dir).map(PathBuf::from)) {
        (Some(named), _) => Ok(unix_addresses(&named)),
        (None, Some(dir)) => Ok(vec![dir.join("bus").into(), dir.join("systemd/private").into()]),
        (None, None) => Err(Error::msg(
            "the user bus can't be found: neither $DBUS_SESSION_BUS_ADDRESS nor $XDG_RUNTIME_DIR is set",
        )
        .with_hint("log in with a session (machinectl shell, ssh), or set XDG_RUNTIME_DIR=/run/user/UID")),
    }
}

/// The socket paths in a D-Bus address list; abstract sockets begin with `@`.
fn unix_addresses(list: &OsStr) -> Vec<OsString> {
    let key = |pair: &[u8]| {
        let value = |key: &[u8]| pair.strip_prefix(key).map(unescape);
        value(b"path=").or_else(|| Some([vec![b'@'], value(b"abstract=")?].concat())).map(OsString::from_vec)
    };
    let one = |address: &[u8]| address.strip_prefix(b"unix:")?.split(|byte| *byte == b',').find_map(key);
    list.as_bytes().split(|byte| *byte == b';').filter_map(one).collect()
}

/// Decodes `%2f` and the like.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
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
    out
}

/// Connects to one of these addresses.
pub(super) fn connect(address: &OsStr) -> std::io::Result<UnixStream> {
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(Path::new(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let table: [(&[u8], &[&[u8]]); 5] = [
            (b"unix:path=/run/bus", &[b"/run/bus"]),
            (b"unix:guid=1,path=/run/a%20b;tcp:host=x;unix:abstract=/tmp/y", &[b"/run/a b", b"@/tmp/y"]),
            (b"unix:path=/a%2", &[b"/a%2"]),
            (b"unix:path=/\xfe%ff=", &[b"/\xfe\xff="]),
            (b"tcp:host=x", &[]),
        ];
        for (list, want) in table {
            let found = unix_addresses(OsStr::from_bytes(list));
            assert_eq!(found.iter().map(|one| one.as_bytes()).collect::<Vec<_>>(), want, "{}", list.escape_ascii());
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
            assert_eq!(users(named.map(OsStr::new), dir.map(OsStr::new)).unwrap(), want, "{named:?} {dir:?}");
        }
        for (named, dir) in [(None, None), (Some(""), Some(""))] {
            let error = users(named.map(OsStr::new), dir.map(OsStr::new)).unwrap_err().to_string();
            assert!(error.contains("DBUS_SESSION_BUS_ADDRESS") && error.contains("XDG_RUNTIME_DIR"), "{error}");
        }
    }
}
