//! The container's terminal: from its own devpts, by descriptor all the way (CVE-2025-52565).

use super::path::Scratch;
use super::{State, StepResult};
use crate::plan::step::Slot;
use crate::sync_socket::{self, Cause};
use crate::sys::file::{
    self, RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, cwd, given,
};
use crate::sys::tty::{self, Size};
use crate::sys::{Answer, Errno, mount, socket};
use std::fmt::Write;
use std::os::fd::AsFd;

/// `DEVPTS_SUPER_MAGIC` (linux/magic.h).
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Opens a new terminal. A running container may have replaced `/dev/ptmx`: by a link through `/proc` to the host's, a FIFO, a file
/// with a lease. So the directory is opened first, without magic links, and is checked to be a devpts, whose `ptmx` is the kernel's
/// and never blocks.
pub(super) fn open(size: Option<Size>, state: &mut State<'_>) -> StepResult {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let devpts = file::openat2(cwd(), c"/dev/pts", flags, 0, RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS)?;
    if file::fs_magic(devpts.as_fd())? != DEVPTS_MAGIC {
        return Err(Cause::NotDevpts.into());
    }
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let master = file::openat2(devpts.as_fd(), c"ptmx", flags, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV)?;
    let found = file::stat(master.as_fd())?;
    if found.st_mode & libc::S_IFMT != libc::S_IFCHR || found.st_rdev != file::device(5, 2) {
        return Err(Cause::NotDevpts.into());
    }
    file::block(master.as_fd())?;
    tty::unlock(master.as_fd())?;
    let terminal = tty::peer(master.as_fd())?;
    if let Some(size) = size {
        tty::set_size(master.as_fd(), size)?;
    }
    state.put(Slot::PTY, master);
    state.put(Slot::TTY, terminal);
    Ok(())
}

/// Bind mounts the terminal on `/dev/console`, which is created as a file.
pub(super) fn bind_console(state: &State<'_>) -> StepResult {
    let flags = libc::O_CREAT | libc::O_NOFOLLOW | libc::O_RDONLY | libc::O_NOCTTY | libc::O_NONBLOCK;
    let dev = state.get(Slot::DEV)?;
    let place = match file::open(dev, c"console", libc::O_PATH | libc::O_NOFOLLOW, 0) {
        Err(Errno::ENOENT) => {
            drop(file::open(dev, c"console", flags | libc::O_EXCL, 0o666)?);
            file::open(dev, c"console", libc::O_PATH | libc::O_NOFOLLOW, 0)
        }
        answer => answer,
    }?;
    let tree = mount::clone_tree(state.get(Slot::TTY)?, c"", false, true)?;
    Ok(mount::attach(tree.as_fd(), place.as_fd())?)
}

/// Sends the master, and closes our copy.
pub(super) fn send(to_socket: bool, state: &mut State<'_>) -> StepResult {
    let master = state.take(Slot::PTY)?;
    if to_socket {
        let mut name = Scratch::new(c"/dev/pts/")?;
        write!(name, "{}", tty::index(master.as_fd())?).map_err(|_| Errno::ENAMETOOLONG)?;
        let console = state.take(Slot::CONSOLE)?;
        socket::send(console.as_fd(), name.as_c()?.to_bytes(), Some(master.as_fd()))?;
    } else {
        // the caller's terminal does that, if it is one; a file must get exactly what the payload wrote
        let terminal = state.get(Slot::TTY)?;
        tty::set_modes(terminal, &tty::modes(terminal)?.without_onlcr())?;
        sync_socket::send_fd(state.socket, Slot::PTY, master.as_fd())?;
    }
    Ok(())
}

/// Makes the terminal the controlling one, owned by the user. Its group is not changed: it comes from devpts' `gid=`.
pub(super) fn take(uid: u32, state: &mut State<'_>) -> StepResult {
    let terminal = state.take(Slot::TTY)?;
    own(&terminal, uid)?;
    tty::control(terminal.as_fd())?;
    for number in 0..3 {
        file::dup_to(terminal.as_fd(), number)?;
    }
    Ok(())
}

fn own(fd: &impl AsFd, uid: u32) -> Answer<()> {
    match file::chown(fd.as_fd(), c"", Some(uid), None, libc::AT_EMPTY_PATH) {
        Ok(()) | Err(Errno::EPERM | Errno::EROFS | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Changes the owner of inherited pipes and files on 0, 1 and 2, so that the user can open `/dev/stdout` again; not of shared
/// devices.
pub(super) fn own_stdio(uid: u32) {
    let null = file::device(1, 3);
    for number in 0..3 {
        let fd = given(number);
        let Ok(found) = file::stat(fd) else { continue };
        let shared = found.st_mode & libc::S_IFMT == libc::S_IFCHR && found.st_rdev == null;
        if !shared && found.st_uid != uid {
            // fails for sockets and on read-only file systems
            let _ = file::chown(fd, c"", Some(uid), None, libc::AT_EMPTY_PATH);
        }
    }
}
