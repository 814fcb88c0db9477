/* floor: what the kernel charges for a container, and nothing else.
 *
 * The same work as `onggi run` of a bundle as `runc spec` writes it, as one straight line of system calls with every
 * decision already taken: no argument parser, no config.json, no state, no undo. The bench gives every runtime's time
 * as a multiple of this program's.
 *
 *   floor [--filter FILE] ROOTFS CGROUP PROGRAM [ARG...]
 *
 * ROOTFS   directory with /proc, /sys, /dev and PROGRAM in it
 * CGROUP   absolute path of the cgroup v2 directory to make, live in and remove
 * FILE     a seccomp program (struct sock_filter records, as they lie in memory), installed last before the exec
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf_common.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(call)                                                                                                     \
	do {                                                                                                           \
		if ((call) < 0) {                                                                                      \
			dprintf(2, "floor: line %d: %s: %s\n", __LINE__, #call, strerror(errno));                      \
			_exit(99);                                                                                     \
		}                                                                                                      \
	} while (0)

static void mask(const char *path)
{
	if (mount("/dev/null", path, NULL, MS_BIND, NULL) == 0 || errno == ENOENT)
		return;
	MUST(mount("tmpfs", path, "tmpfs", MS_RDONLY, NULL)); /* ENOTDIR: it is a directory */
}

static void read_only(const char *path)
{
	if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0 && errno == ENOENT)
		return;
	MUST(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
}

static void device(const char *path, unsigned major, unsigned minor)
{
	MUST(mknod(path, S_IFCHR | 0666, makedev(major, minor)));
}

static struct sock_filter filter[BPF_MAXINSNS];

static void child(const char *root, unsigned short filter_len, char **program)
{
	static char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL};
	const unsigned long inert = MS_NOSUID | MS_NOEXEC | MS_NODEV;

	umask(0);
	MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	MUST(mount(root, root, NULL, MS_BIND | MS_REC, NULL));
	MUST(chdir(root));

	MUST(mount("proc", "proc", "proc", 0, NULL));
	MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
	MUST(mkdir("dev/pts", 0755));
	MUST(mkdir("dev/shm", 0755));
	MUST(mkdir("dev/mqueue", 0755));
	MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
		   "newinstance,ptmxmode=0666,mode=0620,gid=5"));
	MUST(mount("shm", "dev/shm", "tmpfs", inert, "mode=1777,size=65536k"));
	MUST(mount("mqueue", "dev/mqueue", "mqueue", inert, NULL));
	MUST(mount("sysfs", "sys", "sysfs", inert | MS_RDONLY, NULL));
	MUST(mount("cgroup", "sys/fs/cgroup", "cgroup2", inert | MS_RELATIME | MS_RDONLY, NULL));

	device("dev/null", 1, 3);
	device("dev/zero", 1, 5);
	device("dev/full", 1, 7);
	device("dev/random", 1, 8);
	device("dev/urandom", 1, 9);
	device("dev/tty", 5, 0);
	MUST(symlink("/proc/self/fd", "dev/fd"));
	MUST(symlink("/proc/self/fd/0", "dev/stdin"));
	MUST(symlink("/proc/self/fd/1", "dev/stdout"));
	MUST(symlink("/proc/self/fd/2", "dev/stderr"));
	MUST(symlink("pts/ptmx", "dev/ptmx"));

	MUST(syscall(SYS_pivot_root, ".", "."));
	MUST(umount2(".", MNT_DETACH));
	MUST(chdir("/"));

	mask("/proc/acpi");
	mask("/proc/asound");
	mask("/proc/kcore");
	mask("/proc/keys");
	mask("/proc/latency_stats");
	mask("/proc/timer_list");
	mask("/proc/timer_stats");
	mask("/proc/sched_debug");
	mask("/sys/firmware");
	mask("/proc/scsi");
	read_only("/proc/bus");
	read_only("/proc/fs");
	read_only("/proc/irq");
	read_only("/proc/sys");
	read_only("/proc/sysrq-trigger");

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (filter_len) {
		struct sock_fprog program_ = {.len = filter_len, .filter = filter};
		MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program_));
	}
	MUST(execve(program[0], program, env));
}

int main(int argc, char **argv)
{
	unsigned short filter_len = 0;
	if (argc > 2 && strcmp(argv[1], "--filter") == 0) {
		int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
		ssize_t size = fd < 0 ? -1 : read(fd, filter, sizeof filter);
		MUST(size);
		close(fd);
		filter_len = size / sizeof *filter;
		argc -= 2;
		argv += 2;
	}
	if (argc < 4)
		return dprintf(2, "usage: floor [--filter FILE] ROOTFS CGROUP PROGRAM [ARG...]\n"), 2;

	const char *cgroup = argv[2];
	MUST(mkdir(cgroup, 0755));
	int cgroup_fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(cgroup_fd);
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
			 CLONE_NEWCGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = cgroup_fd,
	};
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	MUST(pid);
	if (pid == 0)
		child(argv[1], filter_len, argv + 3);

	int status;
	MUST(waitpid(pid, &status, 0));
	/* newer kernels take a dead task out of its cgroup a moment after it can be waited for */
	while (rmdir(cgroup) < 0)
		if (errno != EBUSY)
			MUST(-1);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
