//! Executes a sealed copy of our binary in memory, where our process can't be moved onto a read-only mount of it (`sys::exe`).

use super::exec::Strings;
use super::file::{self, cwd};
use super::image::EXE;
use super::{Answer, Errno, call, check, entry, owned};
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

unsafe extern "C" {
    /// The environment, as libc keeps it.
    pub(super) static environ: *const *const libc::c_char;
}

/// Executes the copy with the same arguments. Returns if we are such a copy already.
///
/// # Errors
/// The kernel's answer. `EACCES`: memory files may not be executed (`vm.memfd_noexec` is 2).
#[cold]
#[inline(never)]
pub(super) fn execute_copy() -> Answer<()> {
    const SEALS: libc::c_int = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    let binary = file::open(cwd(), EXE, libc::O_RDONLY, 0)?;
    // SAFETY: plain numbers. For other files than memory files the answer is an error.
    let seals = check(unsafe { libc::fcntl(binary.as_raw_fd(), libc::F_GET_SEALS) });
    if seals.is_ok_and(|seals| seals & SEALS == SEALS) {
        return Ok(());
    }
    let mut to = std::fs::File::from(memory()?);
    let failed = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    io::copy(&mut std::fs::File::from(binary), &mut to).map_err(failed)?;
    // SAFETY: plain numbers.
    check(unsafe { libc::fcntl(to.as_raw_fd(), libc::F_ADD_SEALS, SEALS) })?;
    let arguments: Vec<_> =
        entry::arguments().into_iter().filter_map(|a| std::ffi::CString::new(a.into_encoded_bytes()).ok()).collect();
    let arguments = Strings::new(arguments);
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

/// A memory file that may be sealed and executed. Since Linux 6.3 `MFD_EXEC` is needed where `vm.memfd_noexec` is set; older
/// kernels do not know that flag.
fn memory() -> Answer<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is static.
    let made = |more| check(unsafe { libc::memfd_create(c"onggi".as_ptr(), flags | more) });
    match made(libc::MFD_EXEC) {
        Err(Errno::EINVAL) => made(0),
        answer => answer,
    }
    .map(owned)
}
