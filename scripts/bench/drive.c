/* drive: runs commands by turns and times each from before its exec to its reaping.
 *
 *   drive SCENARIO > RECORDS
 *
 * SCENARIO, one item a line, fields separated by tabs:
 *
 *   rounds N       how many recorded rounds (default 30); `warmup N` are run before them and not recorded
 *   quiet MS       sleep so long before each turn: nobody starts containers back to back (default 0)
 *   parallel N     keep N turns in flight at once (default 1; above 1 a turn must be a single step)
 *   group NAME     opens a turn; a round runs one turn of every group, in an order that is drawn anew: what a runtime leaves to
 *                  the kernel (namespaces to take down) overlaps with the next turn, which must not always be the same
 *   step NAME ARGV...   one command; NAME "-" is run but not recorded; "%n" in ARGV becomes a number unique to the turn
 *   reap           waits until every orphan that came to us (an init whose runtime has returned) is gone
 *
 * RECORDS, one JSON object a line, times in ns of CLOCK_MONOTONIC, cpu in us:
 *   {"group","step","round","start","end","status","cpu","minflt","maxrss","nvcsw","nivcsw"}   one
 *                  command; cpu: user and system time of it and all that it waited for
 *   {"group","round","stamps":[...]}   what the payload wrote to stdout (see payload.c)
 *
 * This program is static and small on purpose: until its exec a vfork child is counted with its parent's peak RSS.
 * On stdout only stamps are used; stderr is inherited. A command that does not end in time is killed and has status -1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_GROUPS = 64, MAX_STEPS = 32, MAX_ARGS = 64, MAX_FLIGHT = 256, LIMIT_S = 20 };

struct step {
	const char *name; /* NULL: reap */
	char *argv[MAX_ARGS];
};
struct group {
	const char *name;
	int steps;
	struct step step[MAX_STEPS];
};
struct turn {
	const struct group *group;
	long round, number;
	int out[2]; /* the pipe that is every command's stdout */
	pid_t pid;
	long long start;
};

static struct group groups[MAX_GROUPS];
static int group_count, failures;
static long rounds = 30, warmup = 3, parallel = 1, quiet = 0;
static volatile sig_atomic_t late;

static void die(const char *what)
{
	fprintf(stderr, "drive: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static long long micro(const struct timeval *t)
{
	return t->tv_sec * 1000000ll + t->tv_usec;
}

static void on_alarm(int signal)
{
	(void)signal;
	late = 1;
}

static void limit(int seconds)
{
	struct itimerval t = {.it_value.tv_sec = seconds, .it_interval.tv_sec = seconds ? 1 : 0};
	late = 0;
	setitimer(ITIMER_REAL, &t, NULL);
}

static void read_scenario(const char *path)
{
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t room = 0;
	if (!file)
		die(path);
	for (; getline(&line, &room, file) > 0; line = NULL, room = 0) { /* the steps keep the line */
		line[strcspn(line, "\n")] = 0;
		char *rest = line, *word = strsep(&rest, "\t");
		struct group *group = group_count ? &groups[group_count - 1] : NULL;
		if (!*word)
			continue;
		if (!strcmp(word, "rounds") && rest)
			rounds = atol(rest);
		else if (!strcmp(word, "warmup") && rest)
			warmup = atol(rest);
		else if (!strcmp(word, "quiet") && rest)
			quiet = atol(rest);
		else if (!strcmp(word, "parallel") && rest)
			parallel = atol(rest);
		else if (!strcmp(word, "group") && rest && group_count < MAX_GROUPS)
			groups[group_count++].name = rest;
		else if (group && group->steps < MAX_STEPS && (!strcmp(word, "step") || !strcmp(word, "reap"))) {
			struct step *step = &group->step[group->steps++];
			int argc = 0;
			step->name = *word == 's' ? strsep(&rest, "\t") : NULL;
			while (rest && argc < MAX_ARGS - 1)
				step->argv[argc++] = strsep(&rest, "\t");
		} else {
			fprintf(stderr, "drive: %s: can't use \"%s\"\n", path, word);
			exit(2);
		}
	}
	fclose(file);
	if (parallel > MAX_FLIGHT)
		parallel = MAX_FLIGHT;
}

/* argv with every %n replaced; the strings are valid until the next turn reuses `arena` */
static void fill(char **argv, char *const *from, long number)
{
	static char arena[65536];
	size_t used = 0;
	int i = 0;
	for (; from[i]; i++) {
		char *mark = strstr(from[i], "%n");
		if (!mark) {
			argv[i] = from[i];
			continue;
		}
		argv[i] = arena + used;
		used += 1 + snprintf(arena + used, sizeof arena - used, "%.*s%ld%s", (int)(mark - from[i]), from[i],
				     number, mark + 2);
		if (used >= sizeof arena)
			die("arguments too long");
	}
	argv[i] = NULL;
}

static void open_turn(struct turn *turn)
{
	if (pipe2(turn->out, O_CLOEXEC) < 0)
		die("pipe2");
	fcntl(turn->out[0], F_SETFL, O_NONBLOCK);
}

static void spawn(struct turn *turn, const struct step *step)
{
	char *argv[MAX_ARGS];
	fill(argv, step->argv, turn->number);
	turn->start = now();
	turn->pid = vfork();
	if (turn->pid < 0)
		die("vfork");
	if (turn->pid == 0) {
		dup2(turn->out[1], 1);
		execv(argv[0], argv);
		_exit(127);
	}
}

static void record(const struct turn *turn, const struct step *step, long long end, int status, const struct rusage *u)
{
	int code = late ? -1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (code) {
		fprintf(stderr, "drive: round %ld: %s %s: %s %d\n", turn->round, turn->group->name, step->name,
			late ? "killed after its time limit," : "exit status", code);
		failures++;
	}
	if (turn->round < 0 || !strcmp(step->name, "-"))
		return;
	printf("{\"group\":\"%s\",\"step\":\"%s\",\"round\":%ld,\"start\":%lld,\"end\":%lld,\"status\":%d,"
	       "\"cpu\":%lld,\"minflt\":%ld,\"maxrss\":%ld,\"nvcsw\":%ld,\"nivcsw\":%ld}\n",
	       turn->group->name, step->name, turn->round, turn->start, end, code,
	       micro(&u->ru_utime) + micro(&u->ru_stime), u->ru_minflt, u->ru_maxrss,
	       u->ru_nvcsw, u->ru_nivcsw);
}

static void close_turn(struct turn *turn)
{
	char text[4096];
	const char *comma = "";
	ssize_t size = read(turn->out[0], text, sizeof text - 1);
	text[size > 0 ? size : 0] = 0;
	close(turn->out[0]);
	close(turn->out[1]);
	if (turn->round < 0)
		return;
	printf("{\"group\":\"%s\",\"round\":%ld,\"stamps\":[", turn->group->name, turn->round);
	for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (line[0] == 'T' && line[1 + strspn(line + 1, "0123456789")] == 0 && line[1]) {
			printf("%s%s", comma, line + 1);
			comma = ",";
		}
	printf("]}\n");
}

/* reap the remaining processes of a turn; with `hurry` only those that have ended already */
static void reap(const struct turn *turn, int hurry)
{
	limit(LIMIT_S);
	for (;;) {
		pid_t pid = waitpid(-1, NULL, hurry ? WNOHANG : 0);
		if (pid == 0 || (pid < 0 && errno == ECHILD))
			break;
		if (late) {
			fprintf(stderr, "drive: round %ld: %s: a container's process does not end\n", turn->round,
				turn->group->name);
			failures++;
			break;
		}
	}
	limit(0);
}

static void run_turn(struct turn *turn)
{
	open_turn(turn);
	if (quiet)
		nanosleep(&(struct timespec){quiet / 1000, quiet % 1000 * 1000000}, NULL);
	for (const struct step *step = turn->group->step; step < turn->group->step + turn->group->steps; step++) {
		struct rusage usage;
		int status = 0;
		if (!step->name) {
			reap(turn, 0);
			continue;
		}
		limit(LIMIT_S);
		spawn(turn, step);
		while (wait4(turn->pid, &status, 0, &usage) < 0)
			if (late)
				kill(turn->pid, SIGKILL);
		long long end = now();
		record(turn, step, end, status, &usage);
		limit(0);
	}
	close_turn(turn);
	reap(turn, 1);
}

static void run_parallel(const struct group *group, long total, long first_round, long *number)
{
	static struct turn flight[MAX_FLIGHT];
	long begun = 0, running = 0;
	memset(flight, 0, sizeof flight);
	limit(LIMIT_S + total / 4);
	while (begun < total || running) {
		for (int i = 0; i < parallel && begun < total; i++) {
			if (flight[i].pid)
				continue;
			flight[i] = (struct turn){.group = group, .round = first_round + begun, .number = ++*number};
			open_turn(&flight[i]);
			spawn(&flight[i], &group->step[0]);
			begun++, running++;
		}
		struct rusage usage;
		int status;
		pid_t pid = wait4(-1, &status, 0, &usage);
		long long end = now();
		if (pid < 0 && late)
			for (int i = 0; i < parallel; i++)
				if (flight[i].pid)
					kill(flight[i].pid, SIGKILL);
		for (int i = 0; i < parallel; i++)
			if (pid > 0 && flight[i].pid == pid) { /* else an orphan */
				record(&flight[i], &group->step[0], end, status, &usage);
				close_turn(&flight[i]);
				flight[i].pid = 0;
				running--;
			}
	}
	limit(0);
}

/* the random order of groups in a round: the same in every run of this program */
static void draw(int *order)
{
	static unsigned long long state = 1;
	for (int i = 0; i < group_count; i++) {
		/* Knuth's linear congruential generator */
		state = state * 6364136223846793005ULL + 1442695040888963407ULL;
		int j = (state >> 33) % (i + 1);
		order[i] = order[j];
		order[j] = i;
	}
}

int main(int argc, char **argv)
{
	long number = 0;
	if (argc != 2)
		return fprintf(stderr, "usage: drive SCENARIO\n"), 2;
	read_scenario(argv[1]);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_alarm}, NULL);
	for (long round = -warmup; round < rounds && failures < 20; round++) {
		int order[MAX_GROUPS];
		draw(order);
		for (int i = 0; i < group_count; i++) {
			const struct group *group = &groups[order[i]];
			if (parallel > 1) {
				/* a round of a parallel scenario is a burst of ten times as many starts as run at once */
				run_parallel(group, parallel * 10, round < 0 ? -parallel * 10 : round * parallel * 10, &number);
				continue;
			}
			struct turn turn = {.group = group, .round = round, .number = ++number};
			run_turn(&turn);
		}
	}
	return failures ? 1 : 0;
}
