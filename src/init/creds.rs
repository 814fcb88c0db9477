//! Becoming the user: keyring, ids, capabilities, seccomp, home and working directory.

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

/// Joins namespaces of a process. `EINVAL` with a user namespace among them means that it is our own.
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

/// Groups of the host mean nothing in the namespace; where `setgroups` is denied they can't be dropped and stay, as do
/// those of a caller who is not root, for they are what lets him reach his files.
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

/// Sets groups. In a user namespace whose maker may not drop any (`setgroups` says `deny`) nobody can, and those of the
/// caller stay: an image's groups are not worth a failure.
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

/// A kernel without keyrings has none to hide. Whatever else keeps us from joining the container's is an error: the payload
/// would have the keys of our caller's session.
pub(super) fn keyring(name: &CStr) -> StepResult {
    match task::join_keyring(name) {
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Capabilities that we do not have ourselves can't be given: they are left out, as runc does.
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

/// Installs the filter; a listener goes to the host half before the filter can stop anything else.
pub(super) fn seccomp(program: &[seccompiler::sock_filter], flags: u32, state: &mut State<'_>) -> StepResult {
    match task::install_filter(program, flags)? {
        Some(listener) => Ok(sync_socket::send_fd(state.socket, Slot::LISTENER, listener.as_fd())?),
        None => Ok(()),
    }
}

/// Makes the working directory (0755) with its parents, each in the one that was opened before.
#[cold]
#[inline(never)]
fn make_cwd(path: &CStr) -> Answer<()> {
    let root = file::open(cwd(), c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    file::fchdir(path::directory(root.as_fd(), path)?.as_fd())
}

/// Changes directory; no link of `/proc` is followed on the way, so that no descriptor that we or our caller have open
/// leads out of the root (CVE-2024-21626).
pub(super) fn chdir(path: &CStr, attempt: Attempt, make: bool, state: &mut State<'_>) -> StepResult {
    if attempt == Attempt::Second && !state.cwd_refused {
        return Ok(());
    }
    let entered = match enter(path) {
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

/// A seccomp profile that is older than `openat2` denies it: then the place is judged when we are there.
fn enter(path: &CStr) -> Answer<()> {
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

/// Adds `HOME` from the container's own `/etc/passwd`, or `/`. What is no regular file is as good as none: an image may have a
/// device in its place, a FIFO, or an entry of a procfs.
pub(super) fn home(uid: u32, image: &mut Image) {
    match regular(c"/etc/passwd") {
        Ok(passwd) => home_in(passwd.as_fd(), uid, image),
        Err(_) => image.envp.append(&[b"HOME=", b"/"]),
    }
}

/// Opens a regular file of the container's without waiting for anybody (a FIFO's writer, the holder of a lease). It is looked at
/// first: opening a device does something.
fn regular(path: &CStr) -> Answer<OwnedFd> {
    let is_regular = |fd: BorrowedFd<'_>| Ok(file::stat(fd)?.st_mode & libc::S_IFMT == libc::S_IFREG);
    let open = |flags| match file::openat2(cwd(), path, flags, 0, file::RESOLVE_NO_MAGICLINKS) {
        // a seccomp profile older than the call; nothing is open that a link of /proc could lead out by
        Err(Errno::EPERM | Errno::ENOSYS) => file::open(cwd(), path, flags, 0),
        answer => answer,
    };
    let looked_at = open(libc::O_PATH)?;
    if !is_regular(looked_at.as_fd())? || file::fs_magic(looked_at.as_fd())? == super::proc::MAGIC {
        return Err(Errno::EINVAL);
    }
    let opened = open(libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)?;
    if is_regular(opened.as_fd())? && file::same(opened.as_fd(), looked_at.as_fd())? {
        Ok(opened)
    } else {
        Err(Errno::EINVAL)
    }
}

/// Apart: its buffers are three pages of stack.
#[inline(never)]
fn home_in(passwd: BorrowedFd<'_>, uid: u32, image: &mut Image) {
    let mut buffer = [0; 8192];
    let mut found = [0; 4096];
    let length = search(passwd, uid, &mut buffer, &mut found).unwrap_or(0);
    let home = if length == 0 { b"/" } else { &found[..length] };
    image.envp.append(&[b"HOME=", home]);
}

/// Reads `/etc/passwd` line by line through a buffer, up to 1 MiB, whatever its size says; lines longer than the buffer are
/// not looked at.
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

/// The first line of some bytes: up to its end, or at the end of the file all that is left.
fn line_at(bytes: &[u8], end: bool) -> Option<&[u8]> {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => Some(&bytes[..at]),
        None => (end && !bytes.is_empty()).then_some(bytes),
    }
}

/// The home directory of a line of `passwd(5)` if it is that user's and not empty.
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
