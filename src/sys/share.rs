//! Who shares our memory: a thread that makes some calls beside us, and init until its execve (`CLONE_VM`).
//!
//! The C library knows of neither. Each gets a stack of the program's own zeroed memory, which costs no call, and a
//! blank thread-local storage at its upper end: errno lives there, and what the library and Rust keep for a thread. So
//! both run beside us and not instead of us, as a child of vfork(2) would. What the library does not know it does not
//! lock against: neither may touch the heap, and neither may end but by the kernel's own call.

use super::exec::{CloneArgs, clone_apart};
use super::image::{self, Storage};
use super::{Answer, Errno, call};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

/// Enough for a handful of calls.
const BESIDE: usize = 32 * 1024;

/// Enough for init's deepest step: copying up a tree below a tmpfs.
const INIT: usize = 1024 * 1024;

/// The upper end of a stack is the thread's storage: half of it lies below the thread pointer, half above.
const STORAGE: usize = 16 * 1024;

/// Of the thread pointer, and the most that thread-local storage may ask for.
const ALIGNMENT: usize = 64;

#[repr(C, align(4096))]
struct Room<const SIZE: usize> {
    taken: AtomicBool,
    memory: UnsafeCell<[u8; SIZE]>,
}

// SAFETY: the memory is handed out by `take` alone, once.
unsafe impl<const SIZE: usize> Sync for Room<SIZE> {}

impl<const SIZE: usize> Room<SIZE> {
    const fn new() -> Self {
        Self { taken: AtomicBool::new(false), memory: UnsafeCell::new([0; SIZE]) }
    }

    fn take(&'static self) -> Answer<Stack> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return Err(Errno::EBUSY);
        }
        let lowest = self.memory.get() as usize;
        let end = (lowest + SIZE) & !(ALIGNMENT - 1);
        Ok(Stack { lowest: lowest.next_multiple_of(16), end: end - STORAGE, pointer: blank(end - STORAGE / 2)? })
    }
}

static FOR_THREAD: Room<{ BESIDE + STORAGE }> = Room::new();
static FOR_INIT: Room<{ INIT + STORAGE }> = Room::new();

/// A stack with a thread's storage above it, nobody's yet.
#[derive(Debug, Clone, Copy)]
struct Stack {
    lowest: usize,
    end: usize,
    /// What becomes the thread pointer.
    pointer: usize,
}

impl Stack {
    fn give(self, args: &mut CloneArgs) {
        args.flags |= (libc::CLONE_VM | libc::CLONE_SETTLS) as u64;
        args.stack = self.lowest as u64;
        args.stack_size = (self.end - self.lowest) as u64;
        args.tls = self.pointer as u64;
    }
}

/// Lays out thread-local storage around a thread pointer, in zeroed memory: the initial values of the program's and each
/// library's where the calling thread has its own, and around the pointer room for what the C library keeps of a thread,
/// blank but for the pointer to itself.
fn blank(pointer: usize) -> Answer<usize> {
    let own = thread_pointer();
    image::storages(&mut |storage| {
        let Storage { image, filled, length, align, own: there } = storage;
        let place = pointer.wrapping_add(there.wrapping_sub(own));
        let near = |address: usize| address.abs_diff(pointer) <= STORAGE / 4;
        if !near(place) || !near(place.wrapping_add(length)) || align > ALIGNMENT || filled > length {
            return Err(Errno::ENOMEM);
        }
        // SAFETY: the place lies in the room that the pointer was chosen in, a quarter of it away at most, and nobody uses
        // it yet; the image is mapped for good.
        unsafe { std::ptr::copy_nonoverlapping(image, place as *mut u8, filled) };
        Ok(())
    })?;
    #[cfg(target_arch = "x86_64")]
    for word in [0, 0x10] {
        // SAFETY: as above. These are musl's and glibc's, and glibc's own copy.
        unsafe { *((pointer + word) as *mut usize) = pointer };
    }
    Ok(pointer)
}

/// The calling thread's.
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

/// A stack that stays for good, for a child that is a copy of whoever runs on it; its pages come as they are touched.
///
/// # Errors
/// `ENOMEM`: so much memory may not be had.
pub fn stack() -> Answer<&'static mut [u128]> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at a place of the kernel's choice, page-aligned, full of zeros, never taken away.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), INIT, protection, flags, -1, 0);
        if at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(std::slice::from_raw_parts_mut(at.cast(), INIT / size_of::<u128>()))
    }
}

/// A second thread of our process that runs `run`, which ends by [`end_thread`]. Once a process.
///
/// # Errors
/// `EAGAIN`: there can be no more threads.
pub fn thread(run: extern "C" fn(*mut c_void) -> !, with: &'static impl Sync) -> Answer<()> {
    const FLAGS: i32 =
        libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_SYSVSEM;
    let mut args = CloneArgs { flags: FLAGS as u64, ..CloneArgs::default() };
    FOR_THREAD.take()?.give(&mut args);
    // SAFETY: stack and storage are the thread's alone; the argument lives for ever and may be shared between threads.
    unsafe { clone_apart(&args, run, std::ptr::from_ref(with).cast_mut().cast()) }.map(drop)
}

/// `exit(2)` of a thread that [`thread`] made.
pub fn end_thread() -> ! {
    loop {
        // SAFETY: no pointers; the call does not come back.
        let _never = unsafe { call(libc::SYS_exit, [0; 5]) };
    }
}

/// A place for a child that shares our memory until its execve. Once a process.
#[derive(Debug, Clone, Copy)]
pub struct Cradle(Stack);

impl Cradle {
    /// Takes the place.
    ///
    /// # Errors
    /// `EBUSY`: it is taken. `ENOMEM`: the thread-local storage of the program, or of a library, has outgrown it.
    pub fn take() -> Answer<Self> {
        FOR_INIT.take().map(Self)
    }

    /// Makes the child, which begins in `run`. If the kernel refuses, the place may be used again.
    ///
    /// # Errors
    /// The kernel's answer.
    ///
    /// # Safety
    /// `args` must be right for the kernel; no other child was made here. `argument` must be what `run` expects, and all
    /// that `run` uses must live until the child has executed a program or ended, and be nobody else's to change.
    pub unsafe fn bear(
        self,
        args: &mut CloneArgs,
        run: extern "C" fn(*mut c_void) -> !,
        argument: *mut c_void,
    ) -> Answer<i32> {
        self.0.give(args);
        // SAFETY: the stack is the child's alone; the rest is the caller's promise.
        unsafe { clone_apart(args, run, argument) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::{cwd, open};
    use crate::sys::task::Latch;
    use std::sync::atomic::AtomicU32;

    thread_local! {
        static OWN: std::cell::Cell<u32> = const { std::cell::Cell::new(7) };
    }

    #[derive(Debug, Default)]
    struct Seen {
        errno: AtomicU32,
        own: AtomicU32,
        done: Latch,
    }

    extern "C" fn beside(seen: *mut c_void) -> ! {
        // SAFETY: the test passes a value that is leaked.
        let seen = unsafe { &*seen.cast_const().cast::<Seen>() };
        let refused = open(cwd(), c"/nonexistent", 0, 0).err();
        seen.errno.store(refused.map_or(0, |errno| errno as u32), Ordering::Relaxed);
        seen.own.store(OWN.replace(8), Ordering::Relaxed);
        seen.done.open();
        end_thread()
    }

    #[test]
    fn a_thread_has_storage_of_its_own() {
        let seen: &'static Seen = Box::leak(Box::default());
        Errno::set_raw(0);
        OWN.set(9);
        thread(beside, seen).unwrap();
        seen.done.wait();
        let all = [&seen.errno, &seen.own].map(|word| word.load(Ordering::Relaxed));
        assert_eq!(all, [Errno::ENOENT as u32, 7], "errno and initial values are the thread's own");
        assert_eq!((OWN.get(), Errno::last_raw()), (9, 0), "ours stay ours");
        assert_eq!(thread(beside, seen), Err(Errno::EBUSY), "there is one room");
    }
}
