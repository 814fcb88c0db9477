//! Device nodes of the host.

use super::file::{self, cwd};
use super::{cred, ns};
use std::ffi::{CStr, CString};

/// Where the host has a device: at this path, or at the one that the kernel names (`/sys/dev`, its devtmpfs). `mode` holds the
/// type.
#[must_use]
pub fn find(path: &CStr, mode: u32, device: u64) -> Option<CString> {
    let kind = mode & libc::S_IFMT;
    let is_it = |path: &CStr| {
        file::stat_at(cwd(), path, 0).is_ok_and(|found| found.st_mode & libc::S_IFMT == kind && found.st_rdev == device)
    };
    if is_it(path) {
        return Some(path.to_owned());
    }
    let class = if kind == libc::S_IFBLK { "block" } else { "char" };
    let number = numbers(device);
    let event = std::fs::read_to_string(format!("/sys/dev/{class}/{number}/uevent")).unwrap_or_default();
    let named = event.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(|name| format!("/dev/{name}"));
    let candidates = named.into_iter().chain([format!("/dev/{class}/{number}")]);
    candidates.filter_map(|path| CString::new(path).ok()).find(|path| is_it(path))
}

/// `MAJOR:MINOR`.
#[must_use]
pub fn numbers(device: u64) -> String {
    format!("{}:{}", libc::major(device), libc::minor(device))
}

/// Whether we lack the right to make devices: in a user namespace, or without `CAP_MKNOD`.
#[must_use]
pub fn can_make_none() -> bool {
    const CAP_MKNOD: u32 = 27;
    ns::in_user_namespace() || cred::caps().is_ok_and(|caps| caps.effective & (1 << CAP_MKNOD) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_path_or_its_number() {
        let find = |path: &CStr, kind, minor| {
            find(path, kind, file::device(1, minor)).map(|found| found.into_string().unwrap())
        };
        assert_eq!(find(c"/dev/null", libc::S_IFCHR | 0o666, 3).as_deref(), Some("/dev/null"));
        assert_eq!(find(c"/nonexistent", libc::S_IFCHR, 5).as_deref(), Some("/dev/zero"));
        assert_eq!(find(c"/dev/null", libc::S_IFCHR, 5).as_deref(), Some("/dev/zero"), "another device is there");
        assert_eq!(find(c"/dev/null", libc::S_IFBLK, 3), None);
        assert_eq!(find(c"/dev/null", libc::S_IFCHR, 250), None);
    }
}
