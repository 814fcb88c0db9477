//! Spawns processes and threads that start in a function of ours. Everything about shared memory (`CLONE_VM`) is in this module.
//!
//! # Who shares the host half's memory
//!
//! | who | how | until | while it runs, the host half |
//! |---|---|---|---|
//! | init ([`ChildArgs::spawn_sharing_memory`]) | `CLONE_VM` | its execve | goes on |
//! | the intermediate process of exec, of joined namespaces and of a second try ([`ChildArgs::spawn_through`]) | `CLONE_VM`, `CLONE_VFORK`, `CLONE_FILES` | it ends | sleeps |
//! | the thread that creates the network namespace ([`thread`]) | `CLONE_THREAD` | it ends | goes on |
//! | the process that leaves a user namespace behind ([`zombie_in_new_user_namespace`]) | `CLONE_VM`, `CLONE_VFORK` | it ends | sleeps |
//!
//! Every other child runs on a copy of our memory.
//!
//! # Why this is sound: who writes what
//!
//! - **Stack and thread-local storage** (errno, what libc and Rust keep for a thread) are the child's own: a static area
//!   that is handed out once ([`Area`]), laid out by `tls`. Test: `tests::a_thread_has_storage_of_its_own`.
//! - **The heap** is the host half's. The C library does not know the child, so it does not lock against it: init and the
//!   thread must not allocate or free. Held by scripts/check/words.py for the code of init, and in debug builds, which
//!   the integration tests run, by the allocator (`alloc::forbid`), which ends an init that allocates. The intermediate
//!   process may allocate: the host half sleeps meanwhile.
//! - **The arguments of init** ([`ChildArgs`]) are leaked, and from the clone on only init touches them (test:
//!   `tests::arguments_are_one_childs`). One that is killed before its first instruction has not ([`ChildArgs::spawn_again`]).
//! - **The plan** is read by both and changed by nobody: it is a `&'static Plan` from before the clone on.
//! - **Flags and time marks** between the halves (`marks::Marks`, [`super::netns`]) are atomics.
//! - **argv and envp of the process** are overwritten by init when it waits for `start`, behind its message that it is
//!   ready; the host half (`create`) does not read them after that message ([`super::entry::wipe`]).
//! - **The mappings of the program** are replaced by the host half, each page by the same page, while init runs
//!   ([`super::exe`]). Test: `clone::init_shares_memory_only_in_a_new_pid_namespace_and_undumpable`.
//! - **The OOM score** is the kernel's, and the same for all who share memory; the host half gets its own back when init has
//!   executed the payload. Test: `clone::oom_score_adj_of_init_does_not_affect_the_runtime`.
//! - **Descriptors and signal handlers** are not shared with init: it has a descriptor table of its own, so a descriptor may
//!   have an owner in both halves ([`for_child`]).
//!
//! # Why nobody else gets at this memory
//!
//! Init shares memory only if the plan says so (`plan::namespaces`); else it gets a copy:
//!
//! - It has a pid namespace of its own, so no process of another container sees it; and it is under the host's user
//!   namespace, so that nobody may trace it. Test: `clone::init_shares_memory_only_in_a_new_pid_namespace_and_undumpable`.
//! - The host half is undumpable (`PR_SET_DUMPABLE`) before the clone. Same test.
//! - No program of the image runs in the container before the payload (hooks `createContainer`, `startContainer`): it
//!   could read and write `/proc/1/mem`. Test: `attacks::secrets::a_hook_of_the_image_finds_no_secret_in_init`.
//! - The memory limit leaves room: the OOM killer ends all who share memory, and nobody would be left to report it. Same
//!   test as above.
//! - Init joins no time namespace, which takes a process with memory of its own (`setns(2)`).

use super::entry;
use super::tls::{self, ALIGNMENT, STORAGE};
use super::{Answer, Errno, call, signal, task};
use crate::abi::ns::Namespaces;
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Stack of the thread: enough for a handful of system calls.
const THREAD_STACK: usize = 32 * 1024;

/// Stack of init: enough for its deepest step, copying up a tree below a tmpfs.
const INIT_STACK: usize = 1024 * 1024;

/// A child process.
#[derive(Debug)]
pub struct Process {
    /// Its pid on the host.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

/// What clone3(2) is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Namespaces to create.
    pub new: Namespaces,
    /// The cgroup v2 directory in which the child begins (Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
}

impl Request<'_> {
    /// `pidfd` is where the kernel stores the number of the pidfd.
    fn args(self, pidfd: *mut i32) -> CloneArgs {
        let mut args = CloneArgs {
            flags: CLONE_PIDFD | self.new.0,
            pidfd: pidfd as u64,
            exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
            ..CloneArgs::default()
        };
        if let Some(cgroup) = self.cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
        }
        args
    }
}

/// A function and the value that it begins with, for one child.
///
/// The value is never freed: the child may share our memory and outlive us in it. Once there is a child, nobody but the
/// child touches it. The function runs as described at the top of this file: it allocates nothing, takes no lock of the
/// C library or of Rust, and ends by execve or `_exit`.
#[derive(Debug)]
pub struct ChildArgs<T: 'static> {
    start: NonNull<Start<T>>,
    stack: Option<Stack>,
    spawned: bool,
}

#[derive(Debug)]
struct Start<T: 'static> {
    run: fn(&'static mut T) -> !,
    /// Whether a child that shares our memory has come to its first instruction.
    ran: AtomicBool,
    value: T,
}

impl<T> ChildArgs<T> {
    /// A child that will begin in `run` with `value`.
    pub fn new(value: T, run: fn(&'static mut T) -> !) -> Self {
        let start = Start { run, ran: AtomicBool::new(false), value };
        Self { start: NonNull::from(Box::leak(Box::new(start))), stack: None, spawned: false }
    }

    /// Spawns the child on our memory. It begins with the signals that we block, and with a descriptor table of its own.
    /// If the kernel refuses, another try is possible.
    ///
    /// # Errors
    /// The kernel's answer. `EBUSY`: a process spawns one such child at most. `ENOMEM`: the thread-local storage of the
    /// program, or of a library, has outgrown its area.
    pub fn spawn_sharing_memory(&mut self, request: Request<'_>) -> Answer<Process> {
        self.unspawned()?;
        let stack = match self.stack {
            Some(stack) => stack,
            None => *self.stack.insert(FOR_INIT.take()?),
        };
        let child = clone3_sharing(self.start, stack, request, 0)?;
        self.spawned = true;
        Ok(child)
    }

    /// Spawns the child on a copy of our memory.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn spawn(&mut self, request: Request<'_>) -> Answer<Process> {
        self.unspawned()?;
        let child = clone3_copy(self.start, request, 0)?;
        self.spawned = true;
        Ok(child)
    }

    /// Whether a child that was killed before its first instruction, and reaped, can be spawned again: `false` if it has run,
    /// and may have changed what it began with.
    #[must_use]
    pub fn spawn_again(&mut self) -> bool {
        // SAFETY: leaked; the child has ended, so nobody writes to it.
        let ran = unsafe { self.start.as_ref() }.ran.load(Ordering::Acquire);
        self.spawned = ran;
        !ran
    }

    /// Spawns the child through an intermediate process, which runs `before` (it joins namespaces) and then makes the clone
    /// with `CLONE_PARENT`: the child is ours all the same. It runs on a copy of our memory, unless a first try of
    /// [`ChildArgs::spawn_sharing_memory`] was killed ([`ChildArgs::spawn_again`]).
    ///
    /// The intermediate process shares our descriptors, and we sleep until it has ended. It shares our memory as well,
    /// unless `own_memory`: joining a time namespace takes that (`setns(2)`).
    ///
    /// # Errors
    /// What `before` says; the kernel's answer.
    pub fn spawn_through(
        &mut self,
        request: Request<'_>,
        own_memory: bool,
        before: &mut dyn FnMut(&T) -> Answer<()>,
    ) -> Answer<Process> {
        self.unspawned()?;
        let stack = new_stack()?;
        let memory = if own_memory { 0 } else { libc::CLONE_VM };
        let flags = memory | libc::CLONE_FILES | libc::CLONE_VFORK | libc::SIGCHLD;
        let shared =
            shared(Intermediate { start: self.start, stack: self.stack, request, before, answer: Err(Errno::ECHILD) })?;
        // SAFETY: the stack is ours, aligned by its type, and stays; we sleep until the intermediate process has ended
        // (CLONE_VFORK), which `intermediate` does and never executes a program; `shared` stays, and we do not touch it
        // meanwhile.
        let pid = unsafe {
            libc::clone(intermediate::<T>, stack.as_mut_ptr_range().end.cast(), flags, shared.as_ptr().cast())
        };
        if pid < 0 {
            return Err(Errno::last());
        }
        signal::reap(pid, true)?;
        // SAFETY: the intermediate process has ended, and the answer is read once.
        let child = unsafe { shared.read() }.answer?;
        self.spawned = true;
        Ok(child)
    }

    fn unspawned(&self) -> Answer<()> {
        if self.spawned { Err(Errno::EBUSY) } else { Ok(()) }
    }
}

/// Where a child begins.
extern "C" fn begin<T: 'static>(start: *mut c_void) -> ! {
    // SAFETY: all who name this function pass the leaked `Start<T>` of a `ChildArgs`, once.
    let start: &'static mut Start<T> = unsafe { &mut *start.cast() };
    start.ran.store(true, Ordering::Release);
    (start.run)(&mut start.value)
}

/// `clone3(2)` with `CLONE_VM`, on a stack that was taken.
fn clone3_sharing<T: 'static>(
    start: NonNull<Start<T>>,
    stack: Stack,
    request: Request<'_>,
    flags: u64,
) -> Answer<Process> {
    let mut pidfd: i32 = -1;
    let mut args = request.args(&raw mut pidfd);
    args.add(flags);
    stack.give(&mut args);
    // SAFETY: stack and storage are the child's alone (`Area::take`), and so is what `start` points to, which is leaked and
    // by `spawned` handed to one child that runs. What `run` promises is said at `ChildArgs`.
    let pid = unsafe { clone3_into(&args, begin::<T>, start.as_ptr().cast()) }?;
    Ok(process(pid, pidfd))
}

/// `clone3(2)` without `CLONE_VM`.
fn clone3_copy<T: 'static>(start: NonNull<Start<T>>, request: Request<'_>, flags: u64) -> Answer<Process> {
    let mut pidfd: i32 = -1;
    let mut args = request.args(&raw mut pidfd);
    args.add(flags);
    // the child can be seen from its first instant: its copy of argv and envp is empty
    let hidden = entry::hide();
    // SAFETY: no CLONE_VM: the child goes on here, on a copy of our memory and our stack, and never returns from `begin`;
    // `args` lives through the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid == 0 {
        hidden.wipe();
        begin::<T>(start.as_ptr().cast());
    }
    let refused = Errno::last();
    hidden.show();
    match i32::try_from(pid) {
        Ok(pid) if pid > 0 => Ok(process(pid, pidfd)),
        Ok(_) => Err(refused),
        Err(_) => Err(Errno::ESRCH),
    }
}

fn process(pid: i32, pidfd: i32) -> Process {
    // SAFETY: the clone has succeeded, so CLONE_PIDFD has stored the number of a new descriptor there.
    Process { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }
}

/// A second owner of a descriptor, for a value that is only the child's ([`ChildArgs`]): the child has a descriptor table of
/// its own, in which the first owner does not exist. Must never be dropped in the host half.
#[must_use]
pub fn for_child(fd: BorrowedFd<'_>) -> OwnedFd {
    // SAFETY: see above: in each table the descriptor has one owner.
    unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) }
}

/// What the host half and the intermediate process both see.
struct Intermediate<'a, T: 'static> {
    start: NonNull<Start<T>>,
    stack: Option<Stack>,
    request: Request<'a>,
    before: &'a mut dyn FnMut(&T) -> Answer<()>,
    answer: Answer<Process>,
}

extern "C" fn intermediate<T: 'static>(shared: *mut c_void) -> libc::c_int {
    // SAFETY: `spawn_through` passes its own value, and sleeps until we have ended.
    let shared = unsafe { &mut *shared.cast::<Intermediate<'_, T>>() };
    // SAFETY: the value is the child's, and there is no child yet.
    let value = unsafe { &shared.start.as_ref().value };
    shared.answer = (shared.before)(value).and_then(|()| match shared.stack {
        Some(stack) => clone3_sharing(shared.start, stack, shared.request, CLONE_PARENT),
        None => clone3_copy(shared.start, shared.request, CLONE_PARENT),
    });
    task::exit_now(0)
}

/// A value in memory that a child shares even if it gets a copy of everything else. Never freed.
fn shared<T>(value: T) -> Answer<NonNull<T>> {
    let at = map(size_of::<T>(), libc::MAP_SHARED | libc::MAP_ANONYMOUS)?.cast::<T>();
    // SAFETY: new memory, as long as the value and aligned to a page.
    unsafe { at.write(value) };
    Ok(at)
}

/// A stack for a child that is a copy of the process that runs on it. Never freed; its pages come as they are touched.
fn new_stack() -> Answer<&'static mut [u128]> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
    let at = map(INIT_STACK, flags)?;
    // SAFETY: new memory of that length, full of zeros, aligned to a page.
    Ok(unsafe { std::slice::from_raw_parts_mut(at.cast().as_ptr(), INIT_STACK / size_of::<u128>()) })
}

/// `mmap(2)` of new memory at a place of the kernel's choice.
fn map(length: usize, flags: i32) -> Answer<NonNull<c_void>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping replaces none.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED { Err(Errno::last()) } else { NonNull::new(at).ok_or(Errno::ENOMEM) }
}

/// Creates a process in a new user namespace that ends at once, and returns when it has. Its zombie keeps the namespace
/// reachable as `/proc/PID/ns/user` until somebody reaps it, so no living process that could outlive us is in the
/// namespace.
///
/// # Errors
/// `ENOSPC`: a limit of `/proc/sys/user` is reached. `EPERM`: user namespaces are forbidden on this machine.
pub fn zombie_in_new_user_namespace() -> Answer<i32> {
    extern "C" fn end(_: *mut c_void) -> ! {
        task::exit_now(0)
    }
    let mut stack = [0u128; 256];
    let args = CloneArgs {
        flags: u64::from((libc::CLONE_NEWUSER | libc::CLONE_VM | libc::CLONE_VFORK).cast_unsigned()),
        stack: stack.as_mut_ptr() as u64,
        stack_size: size_of_val(&stack) as u64,
        ..CloneArgs::default()
    };
    // SAFETY: the stack is the child's alone and lives until it has ended, for which the call waits; it uses nothing else.
    unsafe { clone3_into(&args, end, std::ptr::null_mut()) }
}

/// A second thread of our process that runs `run`, which must end by [`end_thread`]. The C library does not know it, so it
/// must not allocate. Once a process.
///
/// # Errors
/// `EAGAIN`: there can be no more threads. `EBUSY`: there was one already.
pub fn thread(run: extern "C" fn(*mut c_void) -> !, with: &'static impl Sync) -> Answer<()> {
    const FLAGS: i32 =
        libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_SYSVSEM;
    let mut args = CloneArgs { flags: FLAGS as u64, ..CloneArgs::default() };
    FOR_THREAD.take()?.give(&mut args);
    // SAFETY: stack and storage are the thread's alone; the argument lives for ever and may be shared between threads.
    unsafe { clone3_into(&args, run, std::ptr::from_ref(with).cast_mut().cast()) }.map(drop)
}

/// `exit(2)` of a thread that [`thread`] made.
pub fn end_thread() -> ! {
    loop {
        // SAFETY: no pointers; the call does not come back.
        let _never = unsafe { call(libc::SYS_exit, [0; 5]) };
    }
}

/// A stack and thread-local storage in the program's own zeroed memory, which costs no system call. Handed out once.
#[repr(C, align(4096))]
struct Area<const SIZE: usize> {
    taken: AtomicBool,
    memory: UnsafeCell<[u8; SIZE]>,
}

// SAFETY: the memory is handed out by `take` alone, once.
unsafe impl<const SIZE: usize> Sync for Area<SIZE> {}

impl<const SIZE: usize> Area<SIZE> {
    const fn new() -> Self {
        Self { taken: AtomicBool::new(false), memory: UnsafeCell::new([0; SIZE]) }
    }

    fn take(&'static self) -> Answer<Stack> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return Err(Errno::EBUSY);
        }
        let lowest = self.memory.get() as usize;
        let end = (lowest + SIZE) & !(ALIGNMENT - 1);
        let pointer = tls::lay_out(end - STORAGE / 2)?;
        Ok(Stack { lowest: lowest.next_multiple_of(16), end: end - STORAGE, pointer })
    }
}

static FOR_THREAD: Area<{ THREAD_STACK + STORAGE }> = Area::new();
static FOR_INIT: Area<{ INIT_STACK + STORAGE }> = Area::new();

/// A stack with a thread's storage above it.
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

/// `struct clone_args` of `clone3(2)`, as of Linux 5.7.
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArgs {
    /// `CLONE_*`.
    flags: u64,
    /// Where the pidfd's number goes (`CLONE_PIDFD`): the address of an `i32`.
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    /// The signal that the parent gets when the child ends.
    exit_signal: u64,
    /// The lowest byte of the child's stack; zero: a copy of the caller's stack.
    stack: u64,
    /// Its size.
    stack_size: u64,
    /// The thread pointer (`CLONE_SETTLS`).
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    /// A cgroup v2 directory (`CLONE_INTO_CGROUP`).
    cgroup: u64,
}

impl CloneArgs {
    /// Adds flags. With `CLONE_PARENT` the signal is that of the caller's own parent.
    const fn add(&mut self, flags: u64) {
        self.flags |= flags;
        if flags & CLONE_PARENT != 0 {
            self.exit_signal = 0;
        }
    }
}

/// `clone3(2)` with `CLONE_VM`: the child, or thread, begins in `run` on the stack that `args` names, which must be aligned
/// to 16 bytes.
///
/// # Errors
/// The kernel's answer.
///
/// # Safety
/// `args` must be right for the kernel, with a stack and storage that nobody else uses; `argument` must be what `run`
/// expects, and all that `run` uses must live until the child has executed a program or ended.
unsafe fn clone3_into(args: &CloneArgs, run: extern "C" fn(*mut c_void) -> !, argument: *mut c_void) -> Answer<i32> {
    let answer: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the child, whose answer is 0, never returns from this function and touches nothing of our stack; the parent
    // goes on behind the label with all registers but the named ones as they were.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => answer,
            in("rdi") &raw const *args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") argument,
            in("r13") run,
            out("rcx") _,
            out("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") &raw const *args as isize => answer,
            in("x1") size_of::<CloneArgs>(),
            in("x20") argument,
            in("x21") run,
        );
    }
    match i32::try_from(answer) {
        Ok(pid) if pid > 0 => Ok(pid),
        Ok(errno) => Err(Errno::from_raw(-errno)),
        Err(_) => Err(Errno::EIO),
    }
}

#[cfg(test)]
mod tests;
