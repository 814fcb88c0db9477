//! Unix sockets: pairs, connections, and descriptors sent over them (`unix(7)`).

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use super::{Answer, Errno, check, file, owned};
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, setsockopt, socketpair};
use nix::sys::time::{TimeVal, TimeValLike};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `socketpair(2)` of `SOCK_SEQPACKET`: message boundaries are kept, and a closed end reads as an empty message.
///
/// # Errors
/// The kernel's answer.
pub fn pair() -> Answer<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// `getsockopt(SO_PEERPIDFD)` (Linux 6.5): a pidfd of the process that created this pair, or that is connected.
///
/// # Errors
/// `ESRCH`: it has been reaped.
pub fn peer(socket: BorrowedFd<'_>) -> Answer<OwnedFd> {
    const SO_PEERPIDFD: i32 = 77;
    let (mut pidfd, mut size) = (-1, size_of::<RawFd>() as libc::socklen_t);
    let (to, length) = ((&raw mut pidfd).cast(), &raw mut size);
    // SAFETY: there is room for the answer, and its size is right.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, to, length) })?;
    Ok(owned(pidfd))
}

fn socket(kind: SockType) -> Answer<OwnedFd> {
    nix::sys::socket::socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)
}

/// The address for a path. A path that is too long for an address (107 bytes) is addressed through a descriptor in
/// `/proc/self/fd`, which must stay open until the address has been used: of the socket itself if it `exists`, otherwise of its
/// directory.
fn address(path: &Path, exists: bool) -> Answer<(UnixAddr, Option<OwnedFd>)> {
    let (opened, name) = match (UnixAddr::new(path), path.parent(), path.file_name()) {
        (Err(Errno::ENAMETOOLONG), _, _) if exists => (path, None),
        (Err(Errno::ENAMETOOLONG), Some(directory), Some(name)) => (directory, Some(name)),
        (address, _, _) => return Ok((address?, None)),
    };
    let opened = CString::new(opened.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let held = file::open(file::cwd(), &opened, libc::O_PATH, 0)?;
    let mut through = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    through.extend(name);
    Ok((UnixAddr::new(&through)?, Some(held)))
}

fn connect(path: &Path, kind: SockType) -> Answer<OwnedFd> {
    let (address, _held) = match path.as_os_str().as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => (UnixAddr::new_abstract(name)?, None),
        None => address(path, true)?,
    };
    let socket = socket(kind)?;
    // a listener that accepts no connections would block us for ever (SO_SNDTIMEO, socket(7)); this limits later sends, too
    setsockopt(&socket, SendTimeout, &TimeVal::seconds(10))?;
    loop {
        match nix::sys::socket::connect(socket.as_raw_fd(), &address) {
            Ok(()) => return Ok(socket),
            // an interrupted connect of a Unix socket has not connected: try again
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
            Err(errno) => return Err(errno),
        }
    }
}

/// Connects to a listening socket of `SOCK_STREAM`.
///
/// # Errors
/// `ECONNREFUSED`: nobody listens. `ETIMEDOUT`: the listener accepts no connections.
pub fn connect_stream(path: &Path) -> Answer<OwnedFd> {
    connect(path, SockType::Stream)
}

/// A socket of `SOCK_DGRAM` that sends to a bound one; a name that begins with `@` is an abstract one.
///
/// # Errors
/// As [`connect_stream`].
pub fn connect_datagrams(path: &Path) -> Answer<OwnedFd> {
    connect(path, SockType::Datagram)
}

/// Binds a new `SOCK_DGRAM` socket to a path.
///
/// # Errors
/// `EADDRINUSE`: the path exists.
pub fn bind_datagrams(path: &Path) -> Answer<OwnedFd> {
    let (address, _directory) = address(path, false)?;
    let socket = socket(SockType::Datagram)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// Space for a control message with one descriptor, aligned like `cmsghdr`.
#[repr(C, align(8))]
struct Control([u8; 24]);

const RIGHTS: usize = 20; // CMSG_LEN(sizeof(int)) on 64-bit Linux

/// `shutdown(2)` in both directions: whoever reads at either end meets the end of the stream.
pub fn shut(socket: BorrowedFd<'_>) {
    // SAFETY: no pointers. It fails only if there is no other end any more.
    let _no_other_end = unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// `sendmsg(2)` of bytes, with a descriptor if one is given (`SCM_RIGHTS`); never raises `SIGPIPE`.
///
/// # Errors
/// `EPIPE`: the other end is closed.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], rights: Option<BorrowedFd<'_>>) -> Answer<()> {
    let mut control = Control([0; 24]);
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    if let Some(fd) = rights {
        control.0[..8].copy_from_slice(&RIGHTS.to_ne_bytes());
        control.0[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        control.0[12..16].copy_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
        control.0[16..20].copy_from_slice(&fd.as_raw_fd().to_ne_bytes());
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
    }
    loop {
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(length) if length == bytes.len() => return Ok(()),
            Ok(_) => return Err(Errno::EMSGSIZE),
            Err(_) if Errno::last() == Errno::EINTR => {}
            Err(_) => return Err(Errno::last()),
        }
    }
}

/// `recvmsg(2)`: bytes and at most one descriptor, close-on-exec. No bytes: the other end is closed.
///
/// # Errors
/// The kernel's answer.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Answer<(usize, Option<OwnedFd>)> {
    let mut control = Control([0; 24]);
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    let length = loop {
        let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(got) {
            Ok(length) => break length,
            Err(_) if Errno::last() == Errno::EINTR => {}
            Err(_) => return Err(Errno::last()),
        }
    };
    #[allow(clippy::unnecessary_cast)]
    let carried = message.msg_controllen as usize >= RIGHTS
        && control.0[8..12] == libc::SOL_SOCKET.to_ne_bytes()
        && control.0[12..16] == libc::SCM_RIGHTS.to_ne_bytes();
    let fd = carried.then(|| owned(RawFd::from_ne_bytes([control.0[16], control.0[17], control.0[18], control.0[19]])));
    Ok((length, fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    #[test]
    fn paths_may_be_longer_than_an_address() {
        let top = std::env::temp_dir().join(format!("onggi-long-{}", std::process::id()));
        let directory = top.join("d".repeat(150));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("datagrams");
        let bound = bind_datagrams(&path).unwrap();
        send(connect_datagrams(&path).unwrap().as_fd(), b"word", None).unwrap();
        let mut word = [0; 8];
        assert_eq!(file::read(bound.as_fd(), &mut word), Ok(4));

        let held = std::fs::File::open(&directory).unwrap();
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/stream", held.as_raw_fd())).unwrap();
        send(connect_stream(&directory.join("stream")).unwrap().as_fd(), b"hello", None).unwrap();
        assert_eq!(receive(listener.accept().unwrap().0.as_fd(), &mut word).map(|(length, _)| length), Ok(5));

        assert_eq!(connect_stream(&directory.join("nobody")).err(), Some(Errno::ENOENT));
        // the name itself must fit behind /proc/self/fd/N/
        assert_eq!(bind_datagrams(&directory.join("n".repeat(120))).err(), Some(Errno::ENAMETOOLONG));
        std::fs::remove_dir_all(top).unwrap();
    }
}
