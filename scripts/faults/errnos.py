"""Which error each system call is made to answer: the likely one that the kernel would give, and how it reads."""

import re
import subprocess

ERRNOS = {}
for names, number in (
    ("open openat openat2 socket socketpair pipe2 dup dup2 dup3 memfd_create pidfd_open fcntl eventfd2 signalfd4 epoll_create1 accept4 inotify_init1", "EMFILE"),
    ("mkdir mkdirat mknod mknodat symlink symlinkat link linkat write pwrite64 writev rename renameat renameat2 ftruncate fallocate", "ENOSPC"),
    ("read pread64 readv stat lstat fstat newfstatat statx statfs fstatfs readlink readlinkat getcwd getdents64 fchdir chdir ioctl fsync lseek sendfile copy_file_range getxattr fgetxattr close access faccessat faccessat2", "EIO"),
    ("mmap mremap madvise mprotect brk munmap open_tree close_range seccomp execve execveat poll ppoll sendmsg recvmsg sendto recvfrom connect bind listen name_to_handle_at getsockopt setsockopt bpf", "ENOMEM"),
    ("clone clone3 fork vfork", "EAGAIN"), ("getrandom", "ENOSYS"),
    ("mount move_mount mount_setattr fsopen fsconfig fsmount pivot_root setns unshare prctl capset capget setgroups setresuid setresgid setuid setgid sethostname setdomainname keyctl prlimit64 setrlimit kill tgkill tkill pidfd_send_signal chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown chroot sched_setaffinity sched_setscheduler sched_setattr ioprio_set personality set_mempolicy syslog rt_sigprocmask rt_sigaction sigaltstack setsid", "EPERM"),
    ("umount2 unlink unlinkat rmdir", "EBUSY"),
    ("rt_sigtimedwait futex epoll_wait epoll_pwait pselect6 select nanosleep clock_nanosleep", "EINTR"),
    ("wait4 waitid", "ECHILD"), ("flock", "ENOLCK"),
):
    for name in names.split():
        ERRNOS[name] = number
# other C libraries' and languages' words
MUSL = {"EIO": ["i/o error"], "ENOMEM": ["out of memory"], "EAGAIN": ["try again"], "ENOLCK": ["no record locks available", "no locks available"], "ENOSYS": ["not implemented"],
        "ENOSPC": ["no space"], "EMFILE": ["too many open files"], "ECHILD": ["no child"], "EBUSY": ["busy"], "EPERM": ["not permitted", "permission denied"], "EINTR": ["interrupted"]}
INTERRUPTIBLE = set("open openat read write readv writev recvmsg sendmsg recvfrom sendto connect accept4 poll ppoll wait4 waitid futex fcntl flock epoll_wait epoll_pwait getrandom".split())
# calls for which the kernel has no error (umask(2), getpid(2), ...): only the kill before them means something
UNFAILING = set("umask getpid gettid getppid getuid geteuid getgid getegid alarm sched_yield".split())
NEVER = set("execve_first exit exit_group rt_sigreturn arch_prctl set_tid_address set_robust_list rseq restart_syscall".split())


def numbers():
    text = subprocess.run(["gcc", "-E", "-dM", "-include", "asm/unistd.h", "-x", "c", "/dev/null"], capture_output=True, text=True, check=True).stdout
    table = {int(n): name for name, n in re.findall(r"#define __NR_(\w+) (\d+)$", text, re.M)}
    table.setdefault(467, "open_tree_attr")
    ERRNOS.setdefault("open_tree_attr", "ENOMEM")
    return table
