//! Keeps containers from overwriting our executable (CVE-2019-5736 and similar).
//!
//! A container that sees our process can keep `/proc/PID/exe` open and, when we have exited, open it again for writing, through the
//! mount from which we were executed. So before a container can see init, our process is moved onto a detached, read-only clone of
//! that mount: the program's segments are mapped again from it at the same addresses (the same page cache; only writable data is
//! copied), and `PR_SET_MM_MAP` (Linux 3.18; with `CAP_SYS_ADMIN` since 5.9) makes it `/proc/PID/exe`. That takes about ten system
//! calls and no second execve.
//!
//! Where the kernel refuses, or where the program in memory is not what its file says (a packed executable), we execute
//! ourselves again from a sealed memory file. Not for an unprivileged caller whose runtime belongs to root: nobody in the
//! caller's containers is root of the host.
//!
//! A dynamically linked build (no `crt-static`) also has the host's libraries mapped. They stay: they can only be reached through
//! `/proc/PID/map_files`, for which a process needs `CAP_SYS_ADMIN` or `CAP_CHECKPOINT_RESTORE`, and `CAP_SYS_PTRACE`, in the
//! host's user namespace (our processes have more capabilities than any container, or are undumpable). Such a process may trace
//! us anyway.

use super::file::{self, cwd};
use super::image::{EXE, Image, Segment, page};
use super::{Answer, Errno, check, cred, mount, sealed};
use crate::abi::mount::{ATTR_RDONLY, MountAttr};
use std::ffi::{CStr, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Our process before the protection; it may be possible to move it onto another mount of its executable.
#[derive(Debug)]
#[must_use = "nothing is protected before it is finished"]
pub struct Movable {
    movable: bool,
}

/// How far the protection of our executable has come.
#[derive(Debug)]
#[must_use = "nothing is protected before `apply`"]
pub enum ExeProtection {
    /// Our process can be moved onto the read-only mount.
    Prepared {
        /// The detached mount.
        tree: OwnedFd,
        /// Our executable on it.
        binary: OwnedFd,
    },
    /// The executable can't be written through our process: we run from the read-only mount or from a sealed copy, or no process
    /// of a container has the permission anyway.
    Applied {
        /// Closing the last descriptor of a detached mount waits for an RCU grace period: to be dropped when there is time.
        _tree: Option<OwnedFd>,
    },
}

impl Movable {
    /// Finds out whether our process can be moved, and replaces its writable data by an anonymous copy. Must be called while
    /// there is one thread.
    pub fn prepare() -> Self {
        let mut size = 0_u32;
        // SAFETY: the kernel stores the size of its structure there; a kernel without `PR_SET_MM_MAP` answers EINVAL.
        let asked =
            unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP_SIZE as usize, &raw mut size as usize, 0, 0) };
        Self { movable: check(asked).is_ok() && fits() && detach_data().is_ok() }
    }

    /// Opens the executable on a read-only mount. If our process can't be moved, executes ourselves again from a sealed copy;
    /// so this must come before anything that can't be done twice.
    ///
    /// # Errors
    /// The kernel's answer if both ways fail. `ENOEXEC`: we were started by calling the dynamic loader, so a second execution would
    /// execute the loader.
    pub fn open_protection(self) -> Answer<ExeProtection> {
        match if self.movable { view() } else { Err(Errno::EINVAL) } {
            Ok(view) => Ok(view),
            Err(_) if out_of_reach() => Ok(ExeProtection::NONE),
            Err(Errno::ENOEXEC) if Image::own().is_dynamic() => Err(Errno::ENOEXEC),
            Err(_) => sealed::execute_copy().map(|()| ExeProtection::NONE),
        }
    }
}

impl ExeProtection {
    /// Nothing (more) to do.
    const NONE: Self = Self::Applied { _tree: None };

    /// Moves our process onto the read-only mount, if that has not been done. Other threads, and a child that shares our
    /// memory, may run meanwhile: each page is replaced by the same page. To be called before a process of a container can see
    /// us.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn apply(self) -> Answer<Self> {
        let Self::Prepared { tree, binary } = self else { return Ok(self) };
        constant().try_for_each(|segment| remap(&segment, binary.as_fd()))?;
        become_exe(binary.as_fd())?;
        Ok(Self::Applied { _tree: Some(tree) })
    }
}

/// Whether no process of our containers can write to our executable: only root may, and we are not root, so our containers have no
/// process of the host's root.
fn out_of_reach() -> bool {
    let writable = libc::S_IWGRP | libc::S_IWOTH;
    !cred::is_privileged()
        && file::stat_at(cwd(), EXE, 0).is_ok_and(|exe| exe.st_uid == 0 && exe.st_mode & writable == 0)
}

fn view() -> Answer<ExeProtection> {
    let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
    let tree = mount::clone_tree_with(cwd(), EXE, &attr, false)?;
    let binary = reopen(tree.as_fd())?;
    if !Image::own().is_of(binary.as_fd())? {
        return Err(Errno::ENOEXEC);
    }
    Ok(ExeProtection::Prepared { tree, binary })
}

/// Our read-only segments.
fn constant() -> impl Iterator<Item = Segment> {
    Image::own().segments(libc::PT_LOAD).filter(|segment| !segment.has(libc::PF_W))
}

/// Our writable segments.
fn writable() -> impl Iterator<Item = Segment> {
    Image::own().segments(libc::PT_LOAD).filter(|segment| segment.has(libc::PF_W))
}

/// Whether we know where our program is mapped, and its code is not in a writable segment: it runs while that is copied.
fn fits() -> bool {
    constant().any(|segment| segment.has(libc::PF_X)) && !writable().any(|segment| segment.has(libc::PF_X))
}

fn detach_data() -> Answer<()> {
    // adjacent writable segments are copied together
    let mut joined: Option<(usize, usize)> = None;
    for (start, length) in writable().map(|segment| segment.span()) {
        joined = match joined {
            Some((first, so_far)) if first + so_far == start => Some((first, so_far + length)),
            Some((first, so_far)) => {
                copy_writable(first, so_far)?;
                Some((start, length))
            }
            None => Some((start, length)),
        };
    }
    if let Some((start, length)) = joined {
        copy_writable(start, length)?;
    }
    // musl leaves a static program's relocated constants writable
    if cfg!(all(target_env = "musl", target_feature = "crt-static")) {
        return Ok(());
    }
    Image::own().segments(libc::PT_GNU_RELRO).try_for_each(|constants| protect_relro(&constants))
}

/// Opens an `O_PATH` descriptor for reading.
fn reopen(fd: BorrowedFd<'_>) -> Answer<OwnedFd> {
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0";
    let mut number = fd.as_raw_fd();
    let mut digits = [0u8; 10];
    let mut count = 0;
    loop {
        digits[count] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    for (at, digit) in digits[..count].iter().rev().enumerate() {
        path[14 + at] = *digit;
    }
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::EINVAL)?;
    file::open(cwd(), path, libc::O_RDONLY, 0)
}

/// Unmaps the read-only pages of our program (`MADV_DONTNEED`), for a process that will wait for long. What is needed again is
/// mapped from the page cache.
pub fn drop_clean_text() {
    for (start, length) in constant().map(|segment| segment.span()) {
        // SAFETY: the mapping is read-only and of a file: its pages are read again, and are the same.
        unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED) };
    }
}

fn remap(segment: &Segment, binary: BorrowedFd<'_>) -> Answer<()> {
    let (start, length) = segment.span();
    let bit = |flag, protection| if segment.has(flag) { protection } else { 0 };
    let protection = bit(libc::PF_R, libc::PROT_READ) | bit(libc::PF_X, libc::PROT_EXEC);
    let offset = libc::off_t::try_from(segment.offset & !(page() - 1)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the same bytes of the same inode are mapped at the same address with the same protection. The code that runs
    // this is among them, and sees no difference.
    let at = unsafe {
        libc::mmap(
            start as *mut c_void,
            length,
            protection,
            libc::MAP_PRIVATE | libc::MAP_FIXED,
            binary.as_raw_fd(),
            offset,
        )
    };
    if at == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
}

/// Replaces a writable segment by an anonymous copy of itself.
fn copy_writable(start: usize, length: usize) -> Answer<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a fresh mapping of that length is filled from the segment and then moved over it in one call. One thread
    // runs, and nothing between the copy and the move writes to static data.
    unsafe {
        let copy = libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0);
        if copy == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        std::ptr::copy_nonoverlapping(start as *const u8, copy.cast(), length);
        let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        if libc::mremap(copy, length, length, how, start as *mut c_void) == libc::MAP_FAILED {
            return Err(Errno::last());
        }
    }
    Ok(())
}

/// Makes relocated constants read-only again: the copy above is writable.
fn protect_relro(segment: &Segment) -> Answer<()> {
    let start = segment.start & !(page() - 1);
    let end = (segment.start + segment.length) & !(page() - 1);
    if end <= start {
        return Ok(());
    }
    // SAFETY: these pages are ours, and were read-only before they were copied.
    check(unsafe { libc::mprotect(start as *mut c_void, end - start, libc::PROT_READ) }).map(drop)
}

/// `struct prctl_mm_map` (`PR_SET_MM_MAP`).
#[repr(C)]
struct MmMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

fn become_exe(binary: BorrowedFd<'_>) -> Answer<()> {
    let (Some(code), Some(data)) = (constant().find(|segment| segment.has(libc::PF_X)), writable().next()) else {
        return Err(Errno::ENOEXEC);
    };
    // SAFETY: environ is set by libc before main and holds at least its terminator; sbrk(0) only asks.
    let (first, brk) = unsafe { (*sealed::environ, if cfg!(target_env = "gnu") { libc::sbrk(0) as usize } else { 0 }) };
    // musl's sbrk would make a system call; musl works without a brk heap. A program at a random address may have its heap below
    // itself, which kernels before 5.16 refuse; both C libraries work without one
    let end = Image::own().segments(libc::PT_LOAD).map(|segment| segment.start + segment.length).max();
    let brk = brk.max(end.unwrap_or_default().next_multiple_of(page())) as u64;
    // argv and envp stay where they are on the stack, for /proc/PID/cmdline
    let (arg_start, arg_end, env_end) = arguments(first);
    let map = MmMap {
        start_code: code.start as u64,
        end_code: (code.start + code.length) as u64,
        start_data: data.start as u64,
        end_data: (data.start + data.filled) as u64,
        start_brk: brk,
        brk,
        start_stack: arg_start,
        arg_start,
        arg_end,
        env_start: arg_end,
        env_end,
        auxv: 0,
        auxv_size: 0,
        exe_fd: binary.as_raw_fd().cast_unsigned(),
    };
    // SAFETY: map lives through the call and describes our own memory; the kernel checks order and bounds.
    check(unsafe {
        libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP as usize, &raw const map as usize, size_of::<MmMap>(), 0)
    })
    .map(drop)
}

/// Start and end of argv and end of envp, on the stack as the kernel laid it out: argv, envp, the name of the executed
/// file.
fn arguments(first_variable: *const libc::c_char) -> (u64, u64, u64) {
    // SAFETY: no pointers go in; the answer is the address of a string on our stack.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let end = if first_variable.is_null() { name } else { first_variable as u64 };
    let length: usize = super::entry::arguments().iter().map(|argument| argument.len() + 1).sum();
    (end.saturating_sub(length as u64), end, name.max(end))
}
