//! Which kernel this is, and what it can do that not every one can.

use super::{Answer, Errno, call, cred, ns};

/// `AT_SYSINFO_EHDR`: where the kernel has mapped its shared object (`vdso(7)`).
const AT_SYSINFO_EHDR: libc::c_ulong = 33;

/// Headers of an ELF64 file (`elf(5)`), as far as a note is found by them.
#[repr(C)]
struct Header {
    identity: [u8; 16],
    kinds: [u16; 2],
    version: u32,
    entry: u64,
    segments: u64,
    sections: u64,
    flags: u32,
    own_size: u16,
    segment_size: u16,
    segment_count: u16,
}

#[repr(C)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: [u64; 2],
    size: u64,
    more: [u64; 2],
}

/// The first note of the kernel's shared object: the name `Linux`, type 0, and in four bytes the version.
#[repr(C)]
struct Note {
    name_size: u32,
    size: u32,
    kind: u32,
    name: [u8; 8],
    version: u32,
}

/// The kernel's version, which its shared object tells without a system call, and otherwise uname(2).
#[must_use]
pub fn version() -> (u32, u32) {
    noted().or_else(named).unwrap_or_default()
}

fn noted() -> Option<(u32, u32)> {
    const PT_NOTE: u32 = 4;
    // SAFETY: a plain number.
    let base = unsafe { libc::getauxval(AT_SYSINFO_EHDR) } as usize;
    if base == 0 {
        return None;
    }
    // SAFETY: the kernel mapped a well-formed ELF64 object there, aligned to a page, for as long as we live; its headers
    // and notes lie in the pages that are mapped.
    unsafe {
        let header = &*std::ptr::with_exposed_provenance::<Header>(base);
        (0..usize::from(header.segment_count)).find_map(|i| {
            let place = base + header.segments as usize + i * usize::from(header.segment_size);
            let segment = &*std::ptr::with_exposed_provenance::<Segment>(place);
            if segment.kind != PT_NOTE || (segment.size as usize) < size_of::<Note>() {
                return None;
            }
            let note = &*std::ptr::with_exposed_provenance::<Note>(base + segment.offset as usize);
            let is_version = note.kind == 0 && note.name.starts_with(b"Linux\0") && note.size == 4;
            is_version.then_some((note.version >> 16, note.version >> 8 & 0xff))
        })
    }
}

fn named() -> Option<(u32, u32)> {
    // SAFETY: an all-zero value is a valid one.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: names has room for the answer.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return None;
    }
    let mut numbers = names.release.split(|byte| !byte.cast_unsigned().is_ascii_digit()).map(|digits| {
        digits.iter().fold(0u32, |number, digit| number.wrapping_mul(10) + u32::from(digit.cast_unsigned() - b'0'))
    });
    Some((numbers.next()?, numbers.next()?))
}

/// Whether a mount namespace can be made out of one tree (`OPEN_TREE_NAMESPACE`, Linux 7.0), joined, and filled with
/// new file systems by us. A kernel that is older is not asked; one that knows the flag misses the descriptor. In a user
/// namespace procfs can't be mounted where none is visible yet, and in a new one none is.
#[must_use]
pub fn makes_namespaces_of_trees() -> bool {
    const CAP_SYS_CHROOT: u64 = 1 << 18;
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    const NEEDED: u64 = CAP_SYS_CHROOT | CAP_SYS_ADMIN;
    version() >= (7, 0)
        && matches!(of_no_tree(), Err(Errno::EBADF))
        && !ns::in_user_namespace()
        && cred::caps().is_ok_and(|sets| sets.effective & NEEDED == NEEDED)
}

fn of_no_tree() -> Answer<usize> {
    let flags = super::mount::OPEN_TREE_NAMESPACE | libc::AT_EMPTY_PATH as usize;
    // SAFETY: the string is static; the descriptor is none.
    unsafe { call(libc::SYS_open_tree, [usize::MAX, c"".as_ptr() as usize, flags, 0, 0]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_and_uname_tell_the_same_version() {
        let named = named().unwrap();
        assert!(named >= (5, 14), "{named:?}");
        assert_eq!(noted(), Some(named));
        assert_eq!(version(), named);
    }
}
