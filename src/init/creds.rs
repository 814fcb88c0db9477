//! Credentials of the payload: keyring, ids, capabilities, seccomp, home and working directory.

use super::{State, StepResult, path};
use crate::abi::ns::{Namespace, Namespaces};
use crate::plan::image::Image;
use crate::plan::step::{Attempt, Slot};
use crate::sync_socket::{self, Cause};
use crate::sys::cred::CapSets;
use crate::sys::file::{self, cwd};
use crate::sys::{Answer, Errno, cred, ns, task};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Joins namespaces of a process. With a user namespace among them, `EINVAL` means that we are in it already.
pub(super) fn join(process: BorrowedFd<'_>, kinds: Namespaces) -> StepResult {
    match ns::join(process, kinds) {
        Err(Errno::EINVAL) if kinds.has(Namespace::User) => {
            let mut others = kinds;
            others.remove(Namespace::User);
            if others.is_empty() { Ok(()) } else { Ok(ns::join(process, others)?) }
        }
        answer => Ok(answer?),
    }
}

/// Becomes id 0 of the new user namespace. With `alone` also drops the groups of the host, unless `setgroups` is denied. A caller
/// who is not root keeps them, because they give it access to its files.
pub(super) fn become_root(alone: bool) -> StepResult {
    if alone {
        match cred::set_groups(&[]) {
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    cred::set_gid(0)?;
    Ok(cred::set_uid(0)?)
}

/// Sets groups. In a user namespace in which `/proc/PID/setgroups` says `deny` nobody can, and the caller's groups stay; that is
/// not an error.
pub(super) fn set_groups(groups: &[u32]) -> StepResult {
    match cred::set_groups(groups) {
        Err(Errno::EPERM) if setgroups_denied() => Ok(()),
        answer => Ok(answer?),
    }
}

fn setgroups_denied() -> bool {
    let mut word = [0; 4];
    let mut read = || {
        let proc = super::proc::mounted().ok()?;
        let file = file::open(proc.as_fd(), c"self/setgroups", libc::O_RDONLY, 0).ok()?;
        file::read(file.as_fd(), &mut word).ok()
    };
    read().is_some() && word == *b"deny"
}

/// Joins a session keyring. A kernel without keyrings is not an error. Anything else is, because the payload would have the keys
/// of our caller's session.
pub(super) fn keyring(name: &CStr) -> StepResult {
    match task::join_keyring(name) {
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Sets capabilities. Those that we do not have ourselves are left out, as in runc.
pub(super) fn set_caps(sets: &CapSets) -> StepResult {
    match cred::set_caps(sets) {
        Err(Errno::EPERM) => {}
        answer => return Ok(answer?),
    }
    let have = cred::caps()?.permitted;
    let permitted = sets.permitted & have;
    let inheritable = sets.inheritable & have;
    Ok(cred::set_caps(&CapSets { permitted, effective: sets.effective & permitted, inheritable })?)
}

/// Installs the filter, and sends a listener to the host half at once: the next system call may wait for the agent.
pub(super) fn seccomp(program: &[seccompiler::sock_filter], flags: u32, state: &mut State<'_>) -> StepResult {
    match task::install_filter(program, flags)? {
        Some(listener) => Ok(sync_socket::send_fd(state.socket, Slot::LISTENER, listener.as_fd())?),
        None => Ok(()),
    }
}

/// Creates the working directory (0755) and its parents, each relative to the one that was opened before.
#[cold]
#[inline(never)]
fn make_cwd(path: &CStr) -> Answer<()> {
    let root = file::open(cwd(), c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    file::fchdir(path::directory(root.as_fd(), path)?.as_fd())
}

/// Changes directory without following magic links of procfs, so that an open descriptor can't lead out of the root
/// (CVE-2024-21626).
pub(super) fn chdir(path: &CStr, attempt: Attempt, make: bool, state: &mut State<'_>) -> StepResult {
    if attempt == Attempt::Second && !state.cwd_refused {
        return Ok(());
    }
    let entered = match chdir_in_root(path) {
        Err(Errno::ENOENT) if make => make_cwd(path),
        answer => answer,
    };
    match entered {
        Ok(()) => Ok(()),
        Err(Errno::EACCES | Errno::EPERM) if attempt == Attempt::First => {
            state.cwd_refused = true;
            Ok(())
        }
        Err(Errno::ELOOP) => Err(Cause::CwdOutside.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// chdir without magic links. Where a seccomp profile denies `openat2`, checks afterwards that the directory is below the root.
fn chdir_in_root(path: &CStr) -> Answer<()> {
    if path == c"/" {
        return file::chdir(path);
    }
    match file::openat2(cwd(), path, libc::O_PATH | libc::O_DIRECTORY, 0, file::RESOLVE_NO_MAGICLINKS) {
        Ok(dir) => file::fchdir(dir.as_fd()),
        Err(Errno::EPERM | Errno::ENOSYS) => {
            file::chdir(path)?;
            if file::is_inside_root()? { Ok(()) } else { Err(Errno::ELOOP) }
        }
        Err(errno) => Err(errno),
    }
}

/// Adds `HOME` from the container's `/etc/passwd`, or `/`. Anything but a regular file counts as missing: an image may have a
/// device there, a FIFO, or a link into procfs.
pub(super) fn home(uid: u32, image: &mut Image) {
    match regular(c"/etc/passwd") {
        Ok(passwd) => home_in(passwd.as_fd(), uid, image),
        Err(_) => image.envp.append(&[b"HOME=", b"/"]),
    }
}

/// Opens a regular file of the container without blocking (on a FIFO's writer, or the holder of a lease). Its type is checked
/// first, because opening a device has effects.
fn regular(path: &CStr) -> Answer<OwnedFd> {
    let is_regular = |stat: &libc::stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    let open = |flags| match file::openat2(cwd(), path, flags, 0, file::RESOLVE_NO_MAGICLINKS) {
        // a seccomp profile older than openat2; no descriptor is open by which a magic link could lead out
        Err(Errno::EPERM | Errno::ENOSYS) => file::open(cwd(), path, flags, 0),
        answer => answer,
    };
    let looked_at = open(libc::O_PATH)?;
    let expected = file::stat(looked_at.as_fd())?;
    if !is_regular(&expected) || file::fs_magic(looked_at.as_fd())? == super::proc::MAGIC {
        return Err(Errno::EINVAL);
    }
    let opened = open(libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)?;
    let found = file::stat(opened.as_fd())?;
    if is_regular(&found) && (found.st_dev, found.st_ino) == (expected.st_dev, expected.st_ino) {
        Ok(opened)
    } else {
        Err(Errno::EINVAL)
    }
}

/// A function of its own, because its buffers need three pages of stack.
#[inline(never)]
fn home_in(passwd: BorrowedFd<'_>, uid: u32, image: &mut Image) {
    let mut buffer = [0; 8192];
    let mut found = [0; 4096];
    let length = search(passwd, uid, &mut buffer, &mut found).unwrap_or(0);
    let home = if length == 0 { b"/" } else { &found[..length] };
    image.envp.append(&[b"HOME=", home]);
}

/// Reads `/etc/passwd` line by line through a buffer, up to 1 MiB; skips lines that are longer than the buffer.
fn search(passwd: BorrowedFd<'_>, uid: u32, buffer: &mut [u8], found: &mut [u8]) -> Answer<usize> {
    const MOST: usize = 1 << 20;
    let (mut filled, mut read) = (0, 0);
    loop {
        let length = read_more(passwd, buffer, filled)?;
        read += length - filled;
        let end = length == filled;
        filled = length;
        let mut start = 0;
        while let Some(line) = line_at(&buffer[start..filled], end) {
            if let Some(home) = home_of(line, uid) {
                let length = home.len().min(found.len());
                found[..length].copy_from_slice(&home[..length]);
                return Ok(length);
            }
            start += line.len() + 1;
            if start >= filled {
                break;
            }
        }
        if end || read >= MOST {
            return Ok(0);
        }
        let start = if start == 0 && filled == buffer.len() { filled } else { start.min(filled) };
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

fn read_more(file: BorrowedFd<'_>, buffer: &mut [u8], filled: usize) -> Answer<usize> {
    Ok(filled + file::read(file, &mut buffer[filled..])?)
}

/// The first line of the bytes: up to the newline, or all of them at the end of the file.
fn line_at(bytes: &[u8], end: bool) -> Option<&[u8]> {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => Some(&bytes[..at]),
        None => (end && !bytes.is_empty()).then_some(bytes),
    }
}

/// The home directory in a line of `passwd(5)`, if the line is that user's and has one.
fn home_of(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.split(|byte| *byte == b':');
    let id = std::str::from_utf8(fields.nth(2)?).ok()?;
    if id.parse() != Ok(uid) {
        return None;
    }
    fields.nth(2).filter(|home| !home.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_home() {
        let line = b"web:x:33:33:www:/var/www:/bin/sh";
        assert_eq!(home_of(line, 33), Some(&b"/var/www"[..]));
        assert_eq!(home_of(line, 3), None);
        assert_eq!(home_of(b"web:x:33:33:www::/bin/sh", 33), None);
        assert_eq!(home_of(b"garbage", 33), None);
        assert_eq!(line_at(b"a\nb", false), Some(&b"a"[..]));
        assert_eq!(line_at(b"b", false), None);
        assert_eq!(line_at(b"b", true), Some(&b"b"[..]));
    }
}
