//! Unix sockets: pairs, connections, and descriptors sent over them (`unix(7)`).

use super::{Answer, Errno, check, file};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

fn owned(number: RawFd) -> OwnedFd {
    // SAFETY: called right behind a successful call that made this descriptor; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// `socketpair(2)` of `SOCK_SEQPACKET`: messages keep their borders, and an end that is closed reads as empty.
///
/// # Errors
/// The kernel's answer.
pub fn pair() -> Answer<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: fds has room for two.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    Ok((owned(fds[0]), owned(fds[1])))
}

/// `getsockopt(SO_PEERPIDFD)` (Linux 6.5): a descriptor that means the process which made this pair or is connected.
///
/// # Errors
/// `ESRCH`: it is gone.
pub fn peer(socket: BorrowedFd<'_>) -> Answer<OwnedFd> {
    const SO_PEERPIDFD: i32 = 77;
    let (mut pidfd, mut size) = (-1, size_of::<RawFd>() as libc::socklen_t);
    let (to, length) = ((&raw mut pidfd).cast(), &raw mut size);
    // SAFETY: there is room for the answer, and its size is right.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, to, length) })?;
    Ok(owned(pidfd))
}

fn address(path: &Path) -> Answer<libc::sockaddr_un> {
    // SAFETY: an all-zero address is a valid one.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or_default();
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    Ok(address)
}

const ADDRESS: libc::socklen_t = size_of::<libc::sockaddr_un>() as libc::socklen_t;

fn new(kind: i32) -> Answer<OwnedFd> {
    // SAFETY: plain numbers.
    check(unsafe { libc::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0) }).map(owned)
}

/// Connects to a listening socket of `SOCK_STREAM`.
///
/// # Errors
/// `ECONNREFUSED`: nobody listens. `ETIMEDOUT`: somebody does, and takes no connections. `ENAMETOOLONG`: a path of more
/// than 107 bytes.
pub fn connect_stream(path: &Path) -> Answer<OwnedFd> {
    connect(path, libc::SOCK_STREAM)
}

/// Connects to a listening socket of `SOCK_SEQPACKET`.
///
/// # Errors
/// As [`connect_stream`].
pub fn connect_packets(path: &Path) -> Answer<OwnedFd> {
    connect(path, libc::SOCK_SEQPACKET)
}

/// A socket of `SOCK_DGRAM` that sends to a bound one; a name that begins with `@` is an abstract one.
///
/// # Errors
/// As [`connect_stream`].
pub fn connect_datagrams(path: &Path) -> Answer<OwnedFd> {
    connect(path, libc::SOCK_DGRAM)
}

fn connect(path: &Path, kind: i32) -> Answer<OwnedFd> {
    let mut address = address(path)?;
    let mut length = ADDRESS;
    if address.sun_path[0] == 64 {
        address.sun_path[0] = 0;
        let name = path.as_os_str().len();
        length = (std::mem::offset_of!(libc::sockaddr_un, sun_path) + name) as libc::socklen_t;
    }
    let socket = new(kind)?;
    limit(&socket)?;
    loop {
        // SAFETY: the address lives through the call and the length is no longer than it.
        match check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) }) {
            Ok(_) => return Ok(socket),
            // a socket of this family is not connecting meanwhile
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
            Err(errno) => return Err(errno),
        }
    }
}

/// Has connecting wait for ten seconds at most: whoever listens and takes no connections any more would hold us for ever
/// (`SO_SNDTIMEO`, socket(7)). The same holds for what is sent then.
fn limit(socket: &OwnedFd) -> Answer<()> {
    let most = libc::timeval { tv_sec: 10, tv_usec: 0 };
    let (value, length) = ((&raw const most).cast(), size_of::<libc::timeval>() as libc::socklen_t);
    let (level, name) = (libc::SOL_SOCKET, libc::SO_SNDTIMEO);
    // SAFETY: the value lives through the call and the length is its own.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, length) }).map(drop)
}

/// Binds a new `SOCK_SEQPACKET` socket to a path and listens on it.
///
/// # Errors
/// `EADDRINUSE`: the path exists.
pub fn listen_packets(path: &Path) -> Answer<OwnedFd> {
    let address = address(path)?;
    let socket = new(libc::SOCK_SEQPACKET)?;
    // SAFETY: the address lives through the call and the length is its own.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS) })?;
    // SAFETY: plain numbers.
    check(unsafe { libc::listen(socket.as_raw_fd(), 8) })?;
    Ok(socket)
}

/// Binds a new `SOCK_DGRAM` socket to a path.
///
/// # Errors
/// `EADDRINUSE`: the path exists.
pub fn bind_datagrams(path: &Path) -> Answer<OwnedFd> {
    // a longer path than an address can hold is bound below its directory's descriptor
    let (address, _directory) = match (address(path), path.parent(), path.file_name()) {
        (Err(Errno::ENAMETOOLONG), Some(above), Some(name)) => {
            let above = file::open_path(above, libc::O_PATH | libc::O_DIRECTORY, 0)
                .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
            let below = Path::new("/proc/self/fd").join(above.as_raw_fd().to_string()).join(name);
            (address(&below)?, Some(above))
        }
        (address, _, _) => (address?, None),
    };
    let socket = new(libc::SOCK_DGRAM)?;
    // SAFETY: the address lives through the call and the length is its own.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS) })?;
    Ok(socket)
}

/// `accept4(2)`, tried again when a signal came between.
///
/// # Errors
/// The kernel's answer.
pub fn accept(listener: BorrowedFd<'_>) -> Answer<OwnedFd> {
    loop {
        // SAFETY: no address is asked for.
        let fd = unsafe {
            libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC)
        };
        match check(fd) {
            Ok(fd) => return Ok(owned(fd)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Room for the control message that carries one descriptor, aligned as `cmsghdr` wants it.
#[repr(C, align(8))]
struct Control([u8; 24]);

const RIGHTS: usize = 20; // CMSG_LEN(sizeof(int)) on 64-bit Linux

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
        // SAFETY: everything the message points to lives through the call.
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
        // SAFETY: everything the message points to lives through the call.
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
