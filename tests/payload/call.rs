//! System calls that `std` does not provide.
#![allow(unsafe_code, reason = "raw system calls are what the tests want to see answered")]

use std::ffi::CString;
use std::io::{Error, Result};

/// A system call by number.
pub(crate) fn raw(nr: i64, args: [i64; 6]) -> Result<i64> {
    // SAFETY: the kernel checks whatever a test passes; tests pass numbers, null and addresses of their own strings only.
    let ret = unsafe { libc::syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if ret == -1 { Err(Error::last_os_error()) } else { Ok(ret) }
}

/// `raw` with arguments left out.
pub(crate) fn call(nr: i64, args: &[i64]) -> Result<i64> {
    let mut six = [0; 6];
    six[..args.len()].copy_from_slice(args);
    raw(nr, six)
}

/// `keyctl(KEYCTL_DESCRIBE)` of the session keyring: `type;uid;gid;perm;description`.
pub(crate) fn session_keyring() -> Result<(i64, String)> {
    const SESSION: i64 = -3;
    let id = call(libc::SYS_keyctl, &[0, SESSION, 0])?;
    let mut text = [0u8; 256];
    let len = call(libc::SYS_keyctl, &[6, SESSION, text.as_mut_ptr() as i64, 256])?;
    let len = usize::try_from(len).unwrap_or(0).saturating_sub(1);
    Ok((id, String::from_utf8_lossy(&text[..len]).into_owned()))
}

/// The name, soft and hard value of each rlimit.
pub(crate) fn rlimits() -> Vec<(&'static str, u64, u64)> {
    // the kernel's numbers, because C libraries disagree on their type
    #[allow(clippy::unnecessary_cast)]
    const ALL: [(&str, u32); 16] = [
        ("RLIMIT_CPU", libc::RLIMIT_CPU as u32),
        ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE as u32),
        ("RLIMIT_DATA", libc::RLIMIT_DATA as u32),
        ("RLIMIT_STACK", libc::RLIMIT_STACK as u32),
        ("RLIMIT_CORE", libc::RLIMIT_CORE as u32),
        ("RLIMIT_RSS", libc::RLIMIT_RSS as u32),
        ("RLIMIT_NPROC", libc::RLIMIT_NPROC as u32),
        ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE as u32),
        ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK as u32),
        ("RLIMIT_AS", libc::RLIMIT_AS as u32),
        ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS as u32),
        ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING as u32),
        ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE as u32),
        ("RLIMIT_NICE", libc::RLIMIT_NICE as u32),
        ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO as u32),
        ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME as u32),
    ];
    let read = |&(name, resource)| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a live rlimit that the kernel fills.
        unsafe { libc::getrlimit(resource as _, &raw mut limit) };
        (name, limit.rlim_cur, limit.rlim_max)
    };
    ALL.iter().map(read).collect()
}

/// `sched_getattr`'s record, kernel 3.14; the fields that tests look at.
#[repr(C)]
#[derive(Default, Debug)]
pub(crate) struct SchedAttr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// The caller's scheduling.
pub(crate) fn scheduling() -> SchedAttr {
    let mut attr = SchedAttr::default();
    let size = i64::try_from(size_of::<SchedAttr>()).unwrap();
    call(libc::SYS_sched_getattr, &[0, (&raw mut attr) as i64, size, 0]).unwrap();
    attr
}

/// The file mode creation mask.
pub(crate) fn umask() -> u32 {
    // SAFETY: always succeeds; the payload has one thread.
    unsafe {
        let mask = libc::umask(0);
        libc::umask(mask);
        mask
    }
}

/// `mknod(2)`.
pub(crate) fn mknod(path: &str, mode: u32, major: u32, minor: u32) -> Result<()> {
    let path = CString::new(path)?;
    // SAFETY: `path` is a live C string.
    let ret = unsafe { libc::mknod(path.as_ptr(), mode, libc::makedev(major, minor)) };
    if ret == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// `mount(2)` of a fresh file system.
pub(crate) fn mount(fstype: &str, target: &str, flags: u64) -> Result<()> {
    let (fstype, target) = (CString::new(fstype)?, CString::new(target)?);
    // SAFETY: both strings are live; the type takes no further data.
    let ret = unsafe { libc::mount(fstype.as_ptr(), target.as_ptr(), fstype.as_ptr(), flags, std::ptr::null()) };
    if ret == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// `fork(2)`; `None` in the child.
pub(crate) fn fork() -> Result<Option<i32>> {
    // SAFETY: the payload has one thread, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid)),
    }
}

/// `waitpid(2)`: the raw status.
pub(crate) fn wait(pid: i32) -> Result<i32> {
    let mut status = 0;
    // SAFETY: `status` is a live int.
    if unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1 { Err(Error::last_os_error()) } else { Ok(status) }
}

/// Sends a signal.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// The set of all signals in the kernel's format: C libraries leave out those that they use themselves.
static EVERY: u64 = !0;

/// Blocks every signal and returns the next one that arrives.
pub(crate) fn next_signal() -> i32 {
    let (set, nothing) = (&raw const EVERY, std::ptr::null::<u8>());
    // SAFETY: the set is static and of the kernel's size; nothing else is passed.
    let signal = unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, set, nothing, nothing, size_of::<u64>()) };
    i32::try_from(signal).unwrap_or(-1)
}

/// Blocks every signal, so that none is lost before `next_signal`.
pub(crate) fn block_signals() {
    let (set, nothing) = (&raw const EVERY, std::ptr::null::<u8>());
    // SAFETY: the set is static and of the kernel's size; nothing else is passed.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, set, nothing, size_of::<u64>()) };
}

/// Ends the process by the default action of a signal.
pub(crate) fn die(signal: i32) -> ! {
    // SAFETY: no memory is passed.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    // the kernel does not deliver its own signals to the first process of a pid namespace, but always delivers faults
    // SAFETY: the fault is wanted: it ends the process.
    unsafe { std::ptr::null_mut::<u8>().write_volatile(0) };
    std::process::exit(98)
}

/// The terminal's rows and columns.
pub(crate) fn window(fd: i32) -> Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a live winsize that the kernel fills.
    let ret = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    if ret == 0 { Ok((size.ws_row, size.ws_col)) } else { Err(Error::last_os_error()) }
}

/// Whether a descriptor is a terminal.
pub(crate) fn isatty(fd: i32) -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::isatty(fd) == 1 }
}

/// Session, process group, and the terminal's foreground group.
pub(crate) fn session() -> (i32, i32, i32) {
    // SAFETY: no memory is passed.
    unsafe { (libc::getsid(0), libc::getpgid(0), libc::tcgetpgrp(0)) }
}

/// Node name and domain name.
pub(crate) fn uname() -> (String, String, String) {
    // SAFETY: the record is a live local of C strings that the kernel ends.
    unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        libc::uname(&raw mut name);
        let text = |field: &[libc::c_char]| std::ffi::CStr::from_ptr(field.as_ptr()).to_string_lossy().into_owned();
        (text(&name.nodename), text(&name.domainname), text(&name.machine))
    }
}

/// A clock in nanoseconds.
pub(crate) fn clock(which: i32) -> i128 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live timespec.
    unsafe { libc::clock_gettime(which, &raw mut now) };
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// An errno as its name.
pub(crate) fn errno_name(errno: i32) -> String {
    const NAMES: [(i32, &str); 29] = [
        (libc::EPERM, "EPERM"),
        (libc::EDQUOT, "EDQUOT"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EINTR, "EINTR"),
        (libc::EIO, "EIO"),
        (libc::ENXIO, "ENXIO"),
        (libc::EBADF, "EBADF"),
        (libc::ECHILD, "ECHILD"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::EBUSY, "EBUSY"),
        (libc::EEXIST, "EEXIST"),
        (libc::EXDEV, "EXDEV"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::EROFS, "EROFS"),
        (libc::EOVERFLOW, "EOVERFLOW"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::ELOOP, "ELOOP"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::ENODEV, "ENODEV"),
        (libc::EUSERS, "EUSERS"),
    ];
    NAMES.iter().find(|(n, _)| *n == errno).map_or_else(|| format!("E{errno}"), |(_, name)| (*name).to_owned())
}

/// A file system's magic number.
pub(crate) fn statfs_of(path: &std::ffi::CStr) -> Result<i64> {
    // SAFETY: the record is a live local that the kernel fills; `path` is a live C string.
    unsafe {
        let mut facts: libc::statfs = std::mem::zeroed();
        if libc::statfs(path.as_ptr(), &raw mut facts) == 0 {
            Ok(facts.f_type as i64)
        } else {
            Err(Error::last_os_error())
        }
    }
}
