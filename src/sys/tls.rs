//! Thread-local storage for a thread or process that the C library does not know.

use super::image::{self, Storage};
use super::{Answer, Errno};

/// Size of an area for thread-local storage: half of it lies below the thread pointer, half above.
pub(super) const STORAGE: usize = 16 * 1024;

/// Alignment of the thread pointer, and the most that thread-local storage may ask for.
pub(super) const ALIGNMENT: usize = 64;

/// Lays out thread-local storage around a thread pointer, in zeroed memory: the initial values of the program's and each
/// library's variables, at the distances that they have in the calling thread; and around the pointer room for what the C
/// library keeps of a thread, zero except for the pointer to itself.
pub(super) fn lay_out(pointer: usize) -> Answer<usize> {
    let own = thread_pointer();
    image::storages(&mut |storage| {
        let Storage { image, filled, length, align, own: there } = storage;
        let place = pointer.wrapping_add(there.wrapping_sub(own));
        let near = |address: usize| address.abs_diff(pointer) <= STORAGE / 4;
        if !near(place) || !near(place.wrapping_add(length)) || align > ALIGNMENT || filled > length {
            return Err(Errno::ENOMEM);
        }
        // SAFETY: the place lies in the area around the pointer, at most a quarter of it away, and nobody uses it yet; the
        // image is mapped for good.
        unsafe { std::ptr::copy_nonoverlapping(image, place as *mut u8, filled) };
        Ok(())
    })?;
    #[cfg(target_arch = "x86_64")]
    for word in [0, 0x10] {
        // SAFETY: as above. The first is the pointer to itself of musl and glibc, the second glibc's copy of it.
        unsafe { *((pointer + word) as *mut usize) = pointer };
    }
    Ok(pointer)
}

/// The calling thread's thread pointer.
fn thread_pointer() -> usize {
    let pointer;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the ABI keeps the pointer in the first word of what it points to.
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, preserves_flags, readonly, pure));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads a register of the thread's.
    unsafe {
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, preserves_flags, nomem, pure));
    }
    pointer
}
