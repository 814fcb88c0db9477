/* What a filter costs the payload: installs a program and times system calls under it. Used by scripts/bench/seccomp.sh.
 *
 * seccomp-payload ROUNDS [FILE]   FILE holds a program, one instruction a line: "code jt jf k" in hex; without it there is no
 *                                 filter. Prints the nanoseconds of seccomp(2) itself, and of each call.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sock_filter program[4096];
static unsigned length;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void load(const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned code, jt, jf, k;

	if (!file) {
		perror(path);
		exit(1);
	}
	while (length < 4096 && fscanf(file, "%x %x %x %x", &code, &jt, &jf, &k) == 4)
		program[length++] = (struct sock_filter){ code, jt, jf, k };
	fclose(file);
}

/* Installs the filter as a runtime does; answers how long the kernel took. */
static double install(void)
{
	struct sock_fprog filter = { length, program };
	double start;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	start = now();
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter)) {
		perror("seccomp");
		exit(1);
	}
	return now() - start;
}

/* The fastest of some children's answers: each installs the filter in a process of its own. */
static double fastest_install(int times)
{
	double best = -1;

	while (times-- > 0) {
		int ends[2];
		double took = 0;
		pid_t child;

		if (pipe(ends))
			exit(1);
		child = fork();
		if (!child) {
			took = install();
			_exit(write(ends[1], &took, sizeof(took)) != sizeof(took));
		}
		if (read(ends[0], &took, sizeof(took)) != sizeof(took))
			exit(1);
		waitpid(child, NULL, 0);
		close(ends[0]);
		close(ends[1]);
		if (best < 0 || took < best)
			best = took;
	}
	return best;
}

static void call(int which)
{
	switch (which) {
	case 0:
		syscall(SYS_getppid);
		break;
	case 1:
		/* fails at once, but passes the filter like any other */
		syscall(SYS_openat, -1, "x", O_RDONLY);
		break;
	case 2:
		/* asks only; its argument has to be looked at */
		syscall(SYS_personality, 0xffffffff);
		break;
	case 3:
		/* refused with ENOSYS by a filter of Docker's, by the kernel for its size without */
		syscall(SYS_clone3, NULL, 0);
		break;
	}
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 0;

	if (rounds < 1)
		return 2;
	if (argc > 2) {
		load(argv[2]);
		printf("%9.0f", fastest_install(50));
		install();
	} else {
		printf("%9s", "-");
	}
	for (int which = 0; which < 4; which++) {
		double best = -1;

		for (int try = 0; try < 20; try++) {
			double start = now(), took;

			for (long i = 0; i < rounds; i++)
				call(which);
			took = (now() - start) / rounds;
			if (best < 0 || took < best)
				best = took;
		}
		printf("%11.1f", best);
	}
	printf("\n");
	return 0;
}
