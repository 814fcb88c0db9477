//! Helpers for processes: the members of a cgroup, signals through a pidfd, and callers that start the runtime with
//! unusual descriptors, signals, limits, affinity, cgroups or mounts.
#![allow(unsafe_code, reason = "dup2, sched_setaffinity and pidfd_send_signal have no safe form")]

use super::world::{World, cgroup_dir, world};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The processes of a container's cgroup, without those of its sub-cgroups.
#[track_caller]
pub(crate) fn members(cgroup: &str) -> Vec<i32> {
    let file = cgroup_dir(if world() == World::V2 { "" } else { "pids" }, cgroup).join("cgroup.procs");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Sends a signal to the process that a pidfd refers to.
#[track_caller]
pub(crate) fn signal_through(pidfd: &OwnedFd, signal: i32) {
    // SAFETY: plain numbers and a null pointer.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) };
    assert_eq!(sent, 0, "pidfd_send_signal: {}", std::io::Error::last_os_error());
}

/// Gives a program duplicates of a descriptor under these numbers.
pub(crate) fn give(command: &mut Command, fd: RawFd, numbers: &'static [RawFd]) {
    // SAFETY: dup2 and fcntl are async-signal-safe and touch nothing of ours.
    unsafe {
        command.pre_exec(move || {
            for number in numbers {
                // dup2 of a number onto itself does not clear close-on-exec
                if fd == *number {
                    libc::fcntl(fd, libc::F_SETFD, 0);
                } else {
                    libc::dup2(fd, *number);
                }
            }
            Ok(())
        });
    }
}

/// Binds a program to one processor.
pub(crate) fn bind(command: &mut Command, processor: usize) {
    // SAFETY: sched_setaffinity is a plain system call on a set that lives through it.
    unsafe {
        command.pre_exec(move || {
            let mut set = std::mem::zeroed::<libc::cpu_set_t>();
            libc::CPU_SET(processor, &mut set);
            match libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

/// Starts a program with a signal ignored, as `nohup` and old daemons do.
pub(crate) fn ignoring(command: &mut Command, signal: i32) {
    // SAFETY: signal(2) is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            libc::signal(signal, libc::SIG_IGN);
            Ok(())
        });
    }
}

/// Starts a program with the default action for the signals of a terminal. Tests that run in the background of a shell
/// ignore some of them and would pass that on.
pub(crate) fn with_default_signals(command: &mut Command) {
    // SAFETY: signal(2) is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

/// Starts a program with every signal blocked.
pub(crate) fn blocking(command: &mut Command) {
    // SAFETY: both calls are async-signal-safe, and the set is a live local.
    unsafe {
        command.pre_exec(|| {
            let mut set = std::mem::zeroed();
            libc::sigfillset(&raw mut set);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            Ok(())
        });
    }
}

/// Starts a program, as root, without a capability.
pub(crate) fn without_capability(command: &mut Command, capability: u64) {
    // SAFETY: prctl(2) of plain numbers.
    unsafe {
        command.pre_exec(move || match libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// Starts a program in a session of its own, which no terminal controls.
pub(crate) fn apart(command: &mut Command) {
    // SAFETY: setsid(2) takes nothing.
    unsafe {
        command.pre_exec(|| match libc::setsid() {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}

/// Starts a program with a nice value.
pub(crate) fn with_nice(command: &mut Command, value: libc::c_int) {
    // SAFETY: setpriority(2) is a plain system call.
    unsafe {
        command.pre_exec(move || match libc::setpriority(libc::PRIO_PROCESS, 0, value) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// Starts a program with a timer slack of 70 us, a core dump filter, a personality, no transparent huge pages, and a nice
/// value of 5.
pub(crate) fn with_inherited(command: &mut Command) {
    with_nice(command, 5);
    // SAFETY: prctl(2), personality(2) and writing a file by plain system calls are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            let file = libc::open(c"/proc/self/coredump_filter".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            let done = libc::prctl(libc::PR_SET_TIMERSLACK, 70_000) == 0
                && libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0
                && libc::personality(0x0004_0000) != -1
                && libc::write(file, c"0x11".as_ptr().cast(), 4) == 4;
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
}

/// Starts a program with a file mode creation mask.
pub(crate) fn with_umask(command: &mut Command, mask: libc::mode_t) {
    // SAFETY: umask(2) is async-signal-safe and always succeeds.
    unsafe {
        command.pre_exec(move || {
            libc::umask(mask);
            Ok(())
        });
    }
}

/// Starts a program with `RLIMIT_NOFILE` set to `count`.
pub(crate) fn with_descriptors(command: &mut Command, count: libc::rlim_t) {
    // SAFETY: setrlimit(2) is async-signal-safe and reads a live local.
    unsafe {
        command.pre_exec(move || {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            limit.rlim_cur = count;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
            Ok(())
        });
    }
}

/// Starts a program for which a system call fails with `errno`, as on a kernel without it.
pub(crate) fn without_call(command: &mut Command, number: i64, errno: i32) {
    without(command, (number, vec![]), errno);
}

/// Starts a program for which a system call with this first argument fails with `errno`.
#[track_caller]
pub(crate) fn without_argument(command: &mut Command, number: i64, first: u64, errno: i32) {
    without_value(command, number, (0, first), errno);
}

/// Starts a program for which a system call with this second argument fails with `errno`.
pub(crate) fn without_second_argument(command: &mut Command, number: i64, second: u64, errno: i32) {
    without_value(command, number, (1, second), errno);
}

/// Starts a program for which a system call with this third argument fails with `errno`.
pub(crate) fn without_third_argument(command: &mut Command, number: i64, third: u64, errno: i32) {
    without_value(command, number, (2, third), errno);
}

fn without_value(command: &mut Command, number: i64, (place, value): (u8, u64), errno: i32) {
    use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
    let condition = SeccompCondition::new(place, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).unwrap();
    without(command, (number, vec![SeccompRule::new(vec![condition]).unwrap()]), errno);
}

fn without(command: &mut Command, rule: (i64, Vec<seccompiler::SeccompRule>), errno: i32) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = [rule].into_iter().collect();
    let action = SeccompAction::Errno(errno.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let program: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, action, arch).unwrap().try_into().unwrap();
    // SAFETY: prctl(2) and seccomp(2) are async-signal-safe, and the filter was compiled before.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&program).map_err(|_| std::io::Error::last_os_error()));
    }
}

/// Starts a program in a mount namespace of its own with a file system mounted at `place`.
pub(crate) fn with_extra_mount(command: &mut Command, place: &Path) {
    use nix::mount::{MsFlags, mount};
    let place = place.to_owned();
    // SAFETY: unshare(2) and mount(2) are plain system calls, and the strings were made before.
    unsafe {
        command.pre_exec(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            Ok(mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), none)?)
        });
    }
}

/// Starts a program in the cgroups with these `cgroup.procs` files.
pub(crate) fn in_cgroups(command: &mut Command, files: Vec<PathBuf>) {
    // SAFETY: each write is a plain open(2), write(2) and close(2).
    unsafe {
        command.pre_exec(move || files.iter().try_for_each(|file| std::fs::write(file, "0")));
    }
}

/// Starts a program with `RLIMIT_AS` set to `bytes`.
pub(crate) fn with_memory(command: &mut Command, bytes: libc::rlim_t) {
    // SAFETY: setrlimit(2) is async-signal-safe and reads a live local.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            libc::setrlimit(libc::RLIMIT_AS, &raw const limit);
            Ok(())
        });
    }
}

/// Starts a program whose files may not grow beyond so many bytes.
pub(crate) fn with_file_size(command: &mut Command, bytes: libc::rlim_t) {
    // SAFETY: setrlimit(2) is async-signal-safe and reads a live local.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
            Ok(())
        });
    }
}

/// Starts a program with some signals ignored and others blocked, as some callers do.
pub(crate) fn with_odd_signals(command: &mut Command) {
    // SAFETY: signal(2) and sigprocmask(2) are async-signal-safe, and change the child alone.
    unsafe {
        command.pre_exec(|| {
            for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGPIPE, libc::SIGUSR1, libc::SIGWINCH] {
                libc::signal(number, libc::SIG_IGN);
            }
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for number in [libc::SIGUSR2, libc::SIGALRM, libc::SIGCONT] {
                libc::sigaddset(&raw mut set, number);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            Ok(())
        });
    }
}

/// Gives a program these supplementary groups.
pub(crate) fn groups(command: &mut Command, groups: &'static [libc::gid_t]) {
    // SAFETY: setgroups(2) reads a list that lives as long as the program, and is async-signal-safe.
    unsafe {
        command.pre_exec(|| match libc::setgroups(groups.len(), groups.as_ptr()) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}
