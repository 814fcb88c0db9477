/* filterof PID: writes the newest seccomp program of a process to stdout, as the kernel gives it back (PTRACE_SECCOMP_GET_FILTER,
 * a kernel with CONFIG_CHECKPOINT_RESTORE): struct sock_filter records, fit for `floor --filter`. */
#include <errno.h>
#include <linux/bpf_common.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sock_filter filter[BPF_MAXINSNS];

int main(int argc, char **argv)
{
	long pid = argc == 2 ? atol(argv[1]) : 0, length = -1;
	if (pid > 0 && syscall(SYS_ptrace, PTRACE_SEIZE, pid, 0, 0) == 0 &&
	    syscall(SYS_ptrace, PTRACE_INTERRUPT, pid, 0, 0) == 0 && waitpid(pid, NULL, __WALL) == pid)
		length = syscall(SYS_ptrace, PTRACE_SECCOMP_GET_FILTER, pid, 0, filter);
	if (length < 0)
		return fprintf(stderr, "filterof %s: %s\n", argc == 2 ? argv[1] : "PID", strerror(errno)), 1;
	return fwrite(filter, sizeof *filter, length, stdout) != (size_t)length;
}
