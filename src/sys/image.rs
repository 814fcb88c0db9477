//! The layout of our program in memory: its segments, and thread-local storage.
//!
//! By default the program is static and mapped at the addresses in its headers. With other flags it is mapped elsewhere
//! (`relocation-model=pie`), or a dynamic loader also maps libraries (no `crt-static`).

use super::{Answer, Errno};
use std::ffi::{CStr, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The file that we run from.
pub(super) const EXE: &CStr = c"/proc/self/exe";

/// The segments of our program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    headers: &'static [libc::Elf64_Phdr],
    /// What must be added to an address of the headers; `None` if it is unknown.
    base: Option<usize>,
}

/// A loaded segment of our program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// `PF_R`, `PF_W`, `PF_X`.
    pub(super) flags: u32,
    /// Its address.
    pub(super) start: usize,
    /// Its length in the file.
    pub(super) filled: usize,
    /// Its length in memory.
    pub(super) length: usize,
    /// Its offset in the file.
    pub(super) offset: usize,
}

impl Segment {
    /// Page-aligned address and length of the part that comes from the file.
    pub(super) fn span(&self) -> (usize, usize) {
        let start = self.start & !(page() - 1);
        (start, (self.start + self.filled).next_multiple_of(page()) - start)
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// The size of a page: 4096 bytes on x86_64, up to 65536 on aarch64.
pub(super) fn page() -> usize {
    // SAFETY: no pointers; the answer is a number that the kernel gave when it started us.
    let asked = unsafe { libc::getauxval(libc::AT_PAGESZ) };
    usize::try_from(asked).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096)
}

impl Image {
    /// Our own. Makes no system call and takes no lock.
    pub(super) fn own() -> Self {
        // SAFETY: the kernel gave the address and count of our own program headers, which stay mapped.
        let (at, headers) = unsafe {
            let at = libc::getauxval(libc::AT_PHDR) as usize;
            let count = usize::try_from(libc::getauxval(libc::AT_PHNUM)).unwrap_or_default();
            (at, if at == 0 { &[] } else { std::slice::from_raw_parts(at as *const libc::Elf64_Phdr, count) })
        };
        Self { headers, base: base(at, headers) }
    }

    /// The segments of a type (`PT_LOAD`, `PT_GNU_RELRO`); none if the base is unknown.
    pub(super) fn segments(self, kind: u32) -> impl Iterator<Item = Segment> {
        let headers = self.headers.iter().filter(move |header| header.p_type == kind);
        headers.filter_map(move |header| {
            Some(Segment {
                flags: header.p_flags,
                start: self.base?.wrapping_add(header.p_vaddr as usize),
                filled: header.p_filesz as usize,
                length: header.p_memsz as usize,
                offset: header.p_offset as usize,
            })
        })
    }

    /// Whether our program was loaded from this file, by comparing headers. It was not if we were started through a dynamic
    /// loader or a packer.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn is_of(self, file: BorrowedFd<'_>) -> Answer<bool> {
        const MOST: usize = 2048;
        let mut bytes = [0_u8; MOST];
        let wanted = size_of::<libc::Elf64_Ehdr>() + size_of_val(self.headers);
        if wanted > MOST {
            return Ok(false);
        }
        // SAFETY: the buffer is ours and longer than that.
        let read = unsafe { libc::pread(file.as_raw_fd(), bytes.as_mut_ptr().cast(), wanted, 0) };
        let read = usize::try_from(read).map_err(|_| Errno::last())?;
        // SAFETY: headers are plain words without padding, mapped for good.
        let ours = unsafe { std::slice::from_raw_parts(self.headers.as_ptr().cast::<u8>(), size_of_val(self.headers)) };
        Ok(read == wanted && behind_elf_header(&bytes) && bytes[size_of::<libc::Elf64_Ehdr>()..wanted] == *ours)
    }

    /// Whether the program is dynamically linked.
    pub(super) fn is_dynamic(self) -> bool {
        self.headers.iter().any(|header| header.p_type == libc::PT_INTERP)
    }
}

/// The difference between the program's address and the one it was linked for; its headers are at `at`. GNU ld omits PT_PHDR in
/// static programs: there the headers follow the ELF header, with which the first segment begins.
fn base(at: usize, headers: &[libc::Elf64_Phdr]) -> Option<usize> {
    const BEFORE: usize = size_of::<libc::Elf64_Ehdr>();
    if let Some(own) = headers.iter().find(|header| header.p_type == libc::PT_PHDR) {
        return Some(at.wrapping_sub(own.p_vaddr as usize));
    }
    let first = headers.iter().find(|header| header.p_type == libc::PT_LOAD && header.p_offset == 0)?;
    if at % page() < BEFORE {
        return None;
    }
    // SAFETY: these bytes lie in the page in which the headers begin.
    let before = unsafe { std::slice::from_raw_parts((at - BEFORE) as *const u8, BEFORE) };
    behind_elf_header(before).then(|| at.wrapping_sub(BEFORE + first.p_vaddr as usize))
}

/// Whether these bytes begin with an ELF header that the program headers follow (`e_phoff`).
fn behind_elf_header(bytes: &[u8]) -> bool {
    const OFFSET: usize = std::mem::offset_of!(libc::Elf64_Ehdr, e_phoff);
    let follows = (size_of::<libc::Elf64_Ehdr>() as u64).to_ne_bytes();
    bytes.starts_with(b"\x7fELF") && bytes.get(OFFSET..OFFSET + follows.len()) == Some(&follows)
}

/// The thread-local storage of one object: the program or a library.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    /// Its initial values.
    pub(super) image: *const u8,
    /// Length of the initial values; the rest is zero.
    pub(super) filled: usize,
    /// Its size.
    pub(super) length: usize,
    /// Its alignment.
    pub(super) align: usize,
    /// Its address in the calling thread.
    pub(super) own: usize,
}

/// Calls `look` with the thread-local storage of the program and of each library. Takes the C library's lock on the list of
/// libraries.
///
/// # Errors
/// The first error of `look`.
pub(super) fn storages(look: &mut dyn FnMut(Storage) -> Answer<()>) -> Answer<()> {
    struct Seen<'a> {
        look: &'a mut dyn FnMut(Storage) -> Answer<()>,
        answer: Answer<()>,
    }
    unsafe extern "C" fn each(object: *mut libc::dl_phdr_info, size: usize, seen: *mut c_void) -> libc::c_int {
        // SAFETY: the C library passes an object that lives through the call, and what it was given itself.
        let (object, seen) = unsafe { (&*object, &mut *seen.cast::<Seen<'_>>()) };
        if size < size_of::<libc::dl_phdr_info>() || object.dlpi_phdr.is_null() {
            seen.answer = Err(Errno::ENOSYS);
            return 1;
        }
        // SAFETY: it says itself how many headers it has.
        let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
        let storage = headers.iter().find(|header| header.p_type == libc::PT_TLS && header.p_memsz != 0);
        // a library that this thread has never used has no storage yet
        if let Some(header) = storage.filter(|_| !object.dlpi_tls_data.is_null()) {
            seen.answer = (seen.look)(Storage {
                image: (object.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize) as *const u8,
                filled: header.p_filesz as usize,
                length: header.p_memsz as usize,
                align: header.p_align.max(1) as usize,
                own: object.dlpi_tls_data as usize,
            });
        }
        i32::from(seen.answer.is_err())
    }
    let mut seen = Seen { look, answer: Ok(()) };
    // SAFETY: the callback gets what it expects, and lives through the call.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut seen).cast()) };
    seen.answer
}
