//! How flags and strings are printed in a plan and in an error.

use crate::abi::mount::{
    ATTR_ATIME, ATTR_IDMAP, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW,
    ATTR_RDONLY, ATTR_STRICTATIME, MS_BIND, MS_DIRSYNC, MS_I_VERSION, MS_LAZYTIME, MS_MANDLOCK, MS_NOATIME, MS_NODEV,
    MS_NODIRATIME, MS_NOEXEC, MS_NOSUID, MS_NOSYMFOLLOW, MS_PRIVATE, MS_RDONLY, MS_REC, MS_RELATIME, MS_REMOUNT,
    MS_SHARED, MS_SILENT, MS_SLAVE, MS_STRICTATIME, MS_SYNCHRONOUS, MS_UNBINDABLE, MountAttr,
};
use std::ffi::CStr;
use std::fmt;

/// A C string in quotes, escaped.
pub(super) struct Quoted<'a>(pub(super) &'a CStr);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.to_bytes().escape_ascii())
    }
}

const MS: &[(u64, &str)] = &[
    (MS_BIND, "bind"),
    (MS_REMOUNT, "remount"),
    (MS_RDONLY, "ro"),
    (MS_NOSUID, "nosuid"),
    (MS_NODEV, "nodev"),
    (MS_NOEXEC, "noexec"),
    (MS_SYNCHRONOUS, "sync"),
    (MS_DIRSYNC, "dirsync"),
    (MS_MANDLOCK, "mand"),
    (MS_NOATIME, "noatime"),
    (MS_NODIRATIME, "nodiratime"),
    (MS_RELATIME, "relatime"),
    (MS_STRICTATIME, "strictatime"),
    (MS_LAZYTIME, "lazytime"),
    (MS_I_VERSION, "iversion"),
    (MS_NOSYMFOLLOW, "nosymfollow"),
    (MS_SILENT, "silent"),
    (MS_REC, "rec"),
    (MS_UNBINDABLE, "unbindable"),
    (MS_PRIVATE, "private"),
    (MS_SLAVE, "slave"),
    (MS_SHARED, "shared"),
];

/// `mount(2)` flags by their option names.
pub(super) struct Flags(pub(super) u64);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        names(f, self.0, MS)
    }
}

fn names(f: &mut fmt::Formatter<'_>, set: u64, table: &[(u64, &str)]) -> fmt::Result {
    let mut bar = "";
    for (flag, name) in table.iter().filter(|(flag, _)| set & flag != 0) {
        write!(f, "{bar}{name}")?;
        let _ = flag;
        bar = "|";
    }
    if bar.is_empty() { f.write_str("0") } else { Ok(()) }
}

const ATTR: &[(u64, &str)] = &[
    (ATTR_RDONLY, "ro"),
    (ATTR_NOSUID, "nosuid"),
    (ATTR_NODEV, "nodev"),
    (ATTR_NOEXEC, "noexec"),
    (ATTR_NODIRATIME, "nodiratime"),
    (ATTR_NOSYMFOLLOW, "nosymfollow"),
    (ATTR_IDMAP, "idmap"),
];

fn attributes(f: &mut fmt::Formatter<'_>, set: u64) -> fmt::Result {
    names(f, set & !ATTR_ATIME, ATTR)?;
    match set & ATTR_ATIME {
        ATTR_NOATIME => f.write_str("|noatime"),
        ATTR_STRICTATIME => f.write_str("|strictatime"),
        ATTR_ATIME => f.write_str("|atime"),
        _ => Ok(()),
    }
}

impl fmt::Display for MountAttr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        if self.set != 0 {
            f.write_str("set ")?;
            attributes(f, self.set)?;
            comma = ", ";
        }
        if self.clear != 0 {
            write!(f, "{comma}clear ")?;
            attributes(f, self.clear)?;
            comma = ", ";
        }
        if self.propagation != 0 {
            write!(f, "{comma}{}", Flags(self.propagation & !MS_REC))?;
        }
        Ok(())
    }
}
