/* steps: runs a command one instruction at a time and records the addresses.
 *
 *   steps SEEN PROGRAM ARG...
 *
 * Follows every thread and process that executes PROGRAM's own file, until it executes another one or ends, and appends to
 * SEEN the address of each instruction of it that ran, in hexadecimal, one per line, in the order of their first execution.
 * Exits with the command's status when no process is left to follow. It also waits for a child that waits (init at the gate), so
 * start this in the background to use the command's output meanwhile.
 *
 * PROGRAM must not be position-independent, because the addresses are those of its file. x86-64 only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* the address range of a program that is not position-independent, unless it is enormous */
enum { FROM = 0x400000, TO = 0x4000000 };

static unsigned char seen[TO - FROM];
static struct stat program;
static FILE *out;

static void die(const char *what)
{
	fprintf(stderr, "steps: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Whether the process executes PROGRAM, on any mount. */
static int is_ours(pid_t pid)
{
	char path[64];
	struct stat now;
	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	return stat(path, &now) == 0 && now.st_dev == program.st_dev && now.st_ino == program.st_ino;
}

static void note(pid_t pid)
{
	errno = 0;
	unsigned long at = (unsigned long)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), 0);
	if (errno == 0 && at >= FROM && at < TO && !seen[at - FROM]) {
		seen[at - FROM] = 1;
		fprintf(out, "%lx\n", at);
	}
}

static pid_t start(char **argv)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
			_exit(126);
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: steps SEEN PROGRAM ARG...\n");
		return 2;
	}
	if (!(out = fopen(argv[1], "a")))
		die(argv[1]);
	if (stat(argv[2], &program) < 0)
		die(argv[2]);
	pid_t first = start(argv + 2), pid;
	int status, result = 1;
	if (first < 0 || waitpid(first, &status, 0) != first || !WIFSTOPPED(status))
		die("start");
	const long follow = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
	if (ptrace(PTRACE_SETOPTIONS, first, 0, follow) < 0)
		die("PTRACE_SETOPTIONS");
	note(first);
	ptrace(PTRACE_SINGLESTEP, first, 0, 0);

	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			if (pid == first)
				result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			continue;
		}
		int signal = WSTOPSIG(status), event = status >> 16;
		if (event == PTRACE_EVENT_EXEC && !is_ours(pid)) {
			ptrace(PTRACE_DETACH, pid, 0, 0);
			continue;
		}
		note(pid);
		/* SIGTRAP is a step or an event, SIGSTOP the start of a new process: neither is delivered to it */
		int passed = event || signal == SIGTRAP || signal == SIGSTOP ? 0 : signal;
		ptrace(PTRACE_SINGLESTEP, pid, 0, passed);
	}
	if (fclose(out) != 0)
		die(argv[1]);
	return result;
}
