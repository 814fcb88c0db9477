/* Prints the program that libseccomp generates for a profile: the reference of the tests and of the bench. Not part of onggi.
 *
 * filter DEFAULT OPTIMIZE ARCH...   a new filter for exactly these architectures (SCMP_ARCH_* in hex), values in hex
 * rule ACTION NAME [INDEX OP A B]...  adds a rule as runc does; OP is libseccomp's number; answers "ok", "unknown",
 *                                     "error N", or "hangs" when libseccomp does not end
 * load                                answers "program N" and N lines "code jt jf k", or "hangs"
 * number ARCH NAME                    answers "number N", negative where the call is not one of the architecture's
 * time ROUNDS                         builds the filter of the rules given since "filter" anew and exports it, ROUNDS times;
 *                                     answers "time NS" for the fastest
 */
#define _GNU_SOURCE
#include <errno.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct rule {
	uint32_t action;
	char name[64];
	unsigned count;
	struct scmp_arg_cmp args[6];
};

static uint32_t default_action, archs[8];
static int optimize, arch_count;
static struct rule *rules;
static size_t rule_count, rule_room;

static scmp_filter_ctx begin(void)
{
	scmp_filter_ctx filter = seccomp_init(default_action);
	int native = 0;

	if (!filter)
		return NULL;
	for (int i = 0; i < arch_count; i++) {
		native |= archs[i] == seccomp_arch_native();
		seccomp_arch_add(filter, archs[i]);
	}
	if (!native)
		seccomp_arch_remove(filter, SCMP_ARCH_NATIVE);
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, optimize);
	return filter;
}

static int add(scmp_filter_ctx filter, const struct rule *rule, int *unknown)
{
	int number = seccomp_syscall_resolve_name(rule->name);

	if (number == __NR_SCMP_ERROR) {
		*unknown = 1;
		return 0;
	}
	return seccomp_rule_add_array(filter, rule->action, number, rule->count, rule->args);
}

/* The program, in memory that the next call overwrites. */
static const unsigned char *export(scmp_filter_ctx filter, size_t *size)
{
	static unsigned char buffer[1 << 20];
	static int file = -1;
	ssize_t got;

	if (file < 0)
		file = memfd_create("program", MFD_CLOEXEC);
	if (ftruncate(file, 0) || lseek(file, 0, SEEK_SET) || seccomp_export_bpf(filter, file))
		return NULL;
	got = pread(file, buffer, sizeof(buffer), 0);
	*size = got < 0 ? 0 : (size_t)got;
	return buffer;
}

static sigjmp_buf out;

static void give_up(int signal)
{
	(void)signal;
	siglongjmp(out, 1);
}

/* Limits the following code to this many milliseconds of processor time, or lifts the limit. */
static void limit(int milliseconds)
{
	struct itimerval time = { .it_value = { milliseconds / 1000, milliseconds % 1000 * 1000 } };

	setitimer(ITIMER_VIRTUAL, &time, NULL);
}

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;
	scmp_filter_ctx filter = NULL;

	/* do not depend on the kernel that runs the test */
	seccomp_api_set(6);
	signal(SIGVTALRM, give_up);
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	while (getline(&line, &room, stdin) > 0) {
		char *save, *word = strtok_r(line, " \n", &save);

		if (!word)
			continue;
		if (!strcmp(word, "filter")) {
			default_action = strtoul(strtok_r(NULL, " \n", &save), NULL, 16);
			optimize = atoi(strtok_r(NULL, " \n", &save));
			arch_count = 0;
			rule_count = 0;
			while ((word = strtok_r(NULL, " \n", &save)))
				archs[arch_count++] = strtoul(word, NULL, 16);
			if (filter)
				seccomp_release(filter);
			filter = begin();
			continue;
		}
		if (!strcmp(word, "rule")) {
			struct rule rule = { 0 };
			int unknown = 0, rc;

			rule.action = strtoul(strtok_r(NULL, " \n", &save), NULL, 16);
			snprintf(rule.name, sizeof(rule.name), "%s", strtok_r(NULL, " \n", &save));
			while ((word = strtok_r(NULL, " \n", &save))) {
				struct scmp_arg_cmp *arg = &rule.args[rule.count++];

				arg->arg = strtoul(word, NULL, 16);
				arg->op = strtoul(strtok_r(NULL, " \n", &save), NULL, 16);
				arg->datum_a = strtoull(strtok_r(NULL, " \n", &save), NULL, 16);
				arg->datum_b = strtoull(strtok_r(NULL, " \n", &save), NULL, 16);
			}
			if (rule_count == rule_room) {
				rule_room = rule_room ? 2 * rule_room : 256;
				rules = realloc(rules, rule_room * sizeof(*rules));
			}
			rules[rule_count++] = rule;
			if (sigsetjmp(out, 1)) {
				filter = NULL;
				puts("hangs");
				fflush(stdout);
				continue;
			}
			limit(500);
			rc = add(filter, &rule, &unknown);
			limit(0);
			if (rc)
				printf("error %d\n", -rc);
			else
				puts(unknown ? "unknown" : "ok");
		} else if (!strcmp(word, "load")) {
			size_t size = 0;
			const unsigned char *program;

			if (sigsetjmp(out, 1)) {
				/* libseccomp's state is lost */
				filter = NULL;
				puts("hangs");
				fflush(stdout);
				continue;
			}
			limit(20000);
			program = export(filter, &size);
			limit(0);
			printf("program %zu\n", program ? size / 8 : 0);
			for (size_t i = 0; program && i + 8 <= size; i += 8) {
				uint16_t code;
				uint32_t k;

				memcpy(&code, program + i, 2);
				memcpy(&k, program + i + 4, 4);
				printf("%x %x %x %x\n", code, program[i + 2], program[i + 3], k);
			}
		} else if (!strcmp(word, "number")) {
			uint32_t arch = strtoul(strtok_r(NULL, " \n", &save), NULL, 16);

			printf("number %d\n", seccomp_syscall_resolve_name_arch(arch, strtok_r(NULL, " \n", &save)));
		} else if (!strcmp(word, "time")) {
			int rounds = atoi(strtok_r(NULL, " \n", &save));
			long long best = -1;

			while (rounds-- > 0) {
				long long start = now(), took;
				int unknown;
				size_t size;
				scmp_filter_ctx again = begin();

				for (size_t i = 0; i < rule_count; i++)
					add(again, &rules[i], &unknown);
				export(again, &size);
				seccomp_release(again);
				took = now() - start;
				if (best < 0 || took < best)
					best = took;
			}
			printf("time %lld\n", best);
		}
		fflush(stdout);
	}
	return 0;
}
