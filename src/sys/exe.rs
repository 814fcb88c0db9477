//! Keeping containers from rewriting our own binary (the CVE-2019-5736 family).
//!
//! A container that sees our process can keep `/proc/PID/exe` open and, once we are gone, open it again for writing.
//! Whoever opens that link gets the mount through which we were executed; so before init comes into a container's
//! sight, our process is moved onto a detached, read-only copy of that mount: the program's segments are mapped anew
//! from it, at the same addresses (the same page cache: nothing is copied but the writable data), and
//! `PR_SET_MM_MAP` (Linux 3.18; with `CAP_SYS_ADMIN` since 5.9) makes it `/proc/PID/exe`. That costs about ten calls and
//! no second execve. Where the kernel refuses, we execute ourselves once more from a sealed memory file; not for a caller
//! without rights whose runtime belongs to root, since nobody in his containers is root.

use super::file::{self, cwd};
use super::{Answer, Errno, call, check, cred, mount};
use crate::abi::mount::{ATTR_RDONLY, MountAttr};
use std::ffi::{CStr, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const EXE: &CStr = c"/proc/self/exe";
const PAGE: usize = 4096;

/// Our process, ready to be moved onto another view of its binary.
#[derive(Debug)]
#[must_use = "nothing is protected before it is finished"]
pub struct Seal {
    movable: bool,
}

/// A read-only view of our binary, ready to be moved onto. `None` inside: there is nothing to do, since we
/// run from a sealed copy already, or nobody in the container could write to the binary.
#[derive(Debug)]
#[must_use = "nothing is protected before it is finished"]
pub struct View(Option<Moved>);

/// The detached mount, and our binary on it.
#[derive(Debug)]
struct Moved {
    tree: OwnedFd,
    binary: OwnedFd,
}

/// What is left of a view, to be closed at leisure: whoever closes the last descriptor of a detached mount waits for a
/// grace period of the kernel.
#[derive(Debug)]
pub struct Rest {
    _tree: OwnedFd,
}

impl Seal {
    /// What has to be done while there is one thread: finds out whether our program can be moved, and replaces its writable
    /// part by an anonymous copy.
    pub fn prepare() -> Self {
        let mut size = 0_u32;
        // SAFETY: the kernel stores the size of its structure there; a kernel without `PR_SET_MM_MAP` answers EINVAL.
        let asked =
            unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP_SIZE as usize, &raw mut size as usize, 0, 0) };
        Self { movable: check(asked).is_ok() && detach_data().is_ok() }
    }

    /// Gets the view. Where we can't be moved, we execute ourselves once more from a sealed copy, so this comes before
    /// anything that a second start could not do again.
    ///
    /// # Errors
    /// The kernel's answer when neither way is open.
    pub fn view(self) -> Answer<View> {
        match if self.movable { view() } else { Err(Errno::EINVAL) } {
            Ok(view) => Ok(View(Some(view))),
            Err(_) if out_of_reach() => Ok(View(None)),
            Err(_) => execute_sealed_copy().map(|()| View(None)),
        }
    }
}

impl View {
    /// Makes our own binary unwritable through our process. Other threads, and a child that shares our memory, may run
    /// meanwhile: each page is replaced by the same one. To be called before a process of a container can see us.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn finish(self) -> Answer<Option<Rest>> {
        let Some(Moved { tree, binary }) = self.0 else { return Ok(None) };
        let loaded = |segment: &&libc::Elf64_Phdr| segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_W == 0;
        program_headers().iter().filter(loaded).try_for_each(|segment| remap(segment, binary.as_fd()))?;
        become_exe(binary.as_fd())?;
        Ok(Some(Rest { _tree: tree }))
    }
}

/// Whether nobody in a container of ours can be the one who may write to our binary: it is root's alone, and we, who are
/// not root, have no way to give root's id to anybody.
fn out_of_reach() -> bool {
    let writable = libc::S_IWGRP | libc::S_IWOTH;
    !cred::is_privileged()
        && file::stat_at(cwd(), EXE, 0).is_ok_and(|exe| exe.st_uid == 0 && exe.st_mode & writable == 0)
}

fn view() -> Answer<Moved> {
    let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
    let tree = mount::clone_tree_with(cwd(), EXE, &attr, false)?;
    Ok(Moved { binary: reopen(tree.as_fd())?, tree })
}

fn detach_data() -> Answer<()> {
    // writable segments lie side by side: one copy serves them all
    let mut writable: Option<(usize, usize)> = None;
    for segment in program_headers().iter().filter(|s| s.p_type == libc::PT_LOAD && s.p_flags & libc::PF_W != 0) {
        let (start, length) = span(segment);
        writable = match writable {
            Some((first, so_far)) if first + so_far == start => Some((first, so_far + length)),
            Some((first, so_far)) => {
                copy_writable(first, so_far)?;
                Some((start, length))
            }
            None => Some((start, length)),
        };
    }
    if let Some((start, length)) = writable {
        copy_writable(start, length)?;
    }
    // musl leaves a static program's relocated constants writable
    let protected = !cfg!(target_env = "musl");
    let constants = |segment: &&libc::Elf64_Phdr| protected && segment.p_type == libc::PT_GNU_RELRO;
    program_headers().iter().filter(constants).try_for_each(protect_relro)
}

/// Opens for reading what an `O_PATH` descriptor names.
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

pub(super) fn program_headers() -> &'static [libc::Elf64_Phdr] {
    // SAFETY: the kernel gave the address and count of our own program headers, which stay mapped.
    unsafe {
        let start = libc::getauxval(libc::AT_PHDR) as *const libc::Elf64_Phdr;
        let count = usize::try_from(libc::getauxval(libc::AT_PHNUM)).unwrap_or_default();
        if start.is_null() { &[] } else { std::slice::from_raw_parts(start, count) }
    }
}

/// Lets go of the pages of our program that nobody has written to (`MADV_DONTNEED`): for whoever waits for long. What is
/// needed again comes back from the page cache.
pub fn forget_text() {
    let loaded = |segment: &&libc::Elf64_Phdr| segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_W == 0;
    for segment in program_headers().iter().filter(loaded) {
        let (start, length) = span(segment);
        // SAFETY: the mapping is read-only and of a file: what is let go of is read anew, and is the same.
        unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Page-aligned address and length of the part of a segment that comes from the file.
fn span(segment: &libc::Elf64_Phdr) -> (usize, usize) {
    let start = segment.p_vaddr as usize & !(PAGE - 1);
    let end = (segment.p_vaddr as usize + segment.p_filesz as usize).next_multiple_of(PAGE);
    (start, end - start)
}

fn remap(segment: &libc::Elf64_Phdr, binary: BorrowedFd<'_>) -> Answer<()> {
    let (start, length) = span(segment);
    let bit = |flag, protection| if segment.p_flags & flag == 0 { 0 } else { protection };
    let protection = bit(libc::PF_R, libc::PROT_READ) | bit(libc::PF_X, libc::PROT_EXEC);
    let offset = libc::off_t::try_from(segment.p_offset as usize & !(PAGE - 1)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the same bytes of the same inode come to the same address with the same protection; the code that runs
    // this is itself among them, and sees no difference. The binary is not position-independent, so p_vaddr is the address.
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

/// Gives relocated constants their protection back, which the copy above has lost.
fn protect_relro(segment: &libc::Elf64_Phdr) -> Answer<()> {
    let start = segment.p_vaddr as usize & !(PAGE - 1);
    let end = (segment.p_vaddr as usize + segment.p_memsz as usize) & !(PAGE - 1);
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

unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

fn become_exe(binary: BorrowedFd<'_>) -> Answer<()> {
    let loads = || program_headers().iter().filter(|segment| segment.p_type == libc::PT_LOAD);
    let find = |flag: u32| loads().find(|segment| segment.p_flags & flag != 0);
    let (Some(code), Some(data)) = (find(libc::PF_X), find(libc::PF_W)) else { return Err(Errno::ENOEXEC) };
    // SAFETY: environ is set by libc before main and holds at least its terminator; sbrk(0) only asks.
    let (first, brk) = unsafe { (*environ, if cfg!(target_env = "gnu") { libc::sbrk(0) as u64 } else { 0 }) };
    // musl would ask the kernel, and does without one (its heap is in mappings): what can't be had there it maps elsewhere
    let end = loads().map(|segment| segment.p_vaddr + segment.p_memsz).max().unwrap_or_default();
    let brk = brk.max(end.next_multiple_of(PAGE as u64));
    // the stack region that holds arguments and environment stays what it is, for /proc/PID/cmdline
    let (arg_start, arg_end, env_end) = arguments(first);
    let map = MmMap {
        start_code: code.p_vaddr,
        end_code: code.p_vaddr + code.p_memsz,
        start_data: data.p_vaddr,
        end_data: data.p_vaddr + data.p_filesz,
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

/// Where arguments begin and end and the environment ends, on the stack as the kernel laid it out: arguments,
/// environment, the name of the executed file.
fn arguments(first_variable: *const libc::c_char) -> (u64, u64, u64) {
    // SAFETY: no pointers go in; the answer is the address of a string on our stack.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let end = if first_variable.is_null() { name } else { first_variable as u64 };
    let length: usize = super::entry::arguments().iter().map(|argument| argument.len() + 1).sum();
    (end.saturating_sub(length as u64), end, name.max(end))
}

/// The other way: a sealed copy of the binary in memory, executed in our place with the same arguments.
#[cold]
#[inline(never)]
fn execute_sealed_copy() -> Answer<()> {
    const SEALS: libc::c_int = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    let binary = file::open(cwd(), EXE, libc::O_RDONLY, 0)?;
    // SAFETY: plain numbers; other files than memory files answer EINVAL, which is -1: all bits.
    let seals = check(unsafe { libc::fcntl(binary.as_raw_fd(), libc::F_GET_SEALS) });
    if seals.is_ok_and(|seals| seals & SEALS == SEALS) {
        return Ok(());
    }
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is static; the descriptor is new and ours.
    let copy = unsafe { OwnedFd::from_raw_fd(check(libc::memfd_create(c"onggi".as_ptr(), flags))?) };
    let mut to = std::fs::File::from(copy);
    let failed = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    io::copy(&mut std::fs::File::from(binary), &mut to).map_err(failed)?;
    // SAFETY: plain numbers.
    check(unsafe { libc::fcntl(to.as_raw_fd(), libc::F_ADD_SEALS, SEALS) })?;
    let arguments: Vec<_> = super::entry::arguments()
        .into_iter()
        .filter_map(|a| std::ffi::CString::new(a.into_encoded_bytes()).ok())
        .collect();
    let arguments = super::exec::Strings::new(arguments);
    // SAFETY: the arrays are null-terminated; environ is libc's own.
    unsafe {
        call(
            libc::SYS_execveat,
            [
                to.as_raw_fd().cast_unsigned() as usize,
                c"".as_ptr() as usize,
                arguments.pointers().cast::<c_void>() as usize,
                environ as usize,
                libc::AT_EMPTY_PATH as usize,
            ],
        )
    }?;
    Err(Errno::ENOEXEC)
}
