/* inject: runs a program and lets one system call of one of its tasks fail, stand still, or be the last one.
 *
 * usage: inject -o LOG [-l] [-w] [-t MS] [-s NAME] [-p TASK:NR:N:WHAT]... [-u NR:ERRNO[:TEXT]]... -- PROGRAM ARG...
 *
 * Tasks: `0` is the program's first thread, `t1`... its other threads, `p1`... its child processes, followed until they execute
 * something else than NAME. -p: the Nth call of that number answers the errno WHAT; `k`: the process is killed as it enters the
 * call; `dMS`: the call waits until LOG.go is there, so long at most. -u: once a -p was hit, each call of that number fails whose
 * path holds TEXT. -l logs each call; -w waits for all tasks, not only for the first. After MS everything is killed.
 *
 * LOG gets lines `call TASK NR N`, `hit K`, `exit STATUS`, `signal N`, `timeout TASK:NR...`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>
#define NR 600
struct task { int pid, tgid, live, started, inside, nr, fail; char name[12]; unsigned short count[NR]; } T[4096];
struct point { char task[12]; int nr, occ, kill, err, hit; } P[8];
struct always { int nr, err; char text[64]; } A[8];
static int nt, np, na, threads, procs, out = 2, logging, any_hit;
static volatile sig_atomic_t late;
static char *self, go_on[4096];
static void say(const char *f, ...) { char b[512]; va_list v; va_start(v, f); int n = vsnprintf(b, sizeof b, f, v); va_end(v); if (write(out, b, n)) {} }
static void on_alarm(int s) { (void)s; late = 1; }
static int tgid_of(int pid) { char p[64], b[2048]; snprintf(p, 64, "/proc/%d/status", pid); int f = open(p, O_RDONLY), n, t = pid; if (f < 0) return pid;
	n = read(f, b, 2047); close(f); b[n > 0 ? n : 0] = 0; char *q = strstr(b, "Tgid:"); if (q) t = atoi(q + 5); return t; }
static struct task *get(int pid) { for (int i = 0; i < nt; i++) if (T[i].live && T[i].pid == pid) return T + i;
	struct task *t = T + nt++; memset(t, 0, sizeof *t); t->pid = pid; t->live = 1; t->tgid = tgid_of(pid);
	if (nt == 1) strcpy(t->name, "0"); else if (t->tgid != pid) snprintf(t->name, 12, "t%d", ++threads); else snprintf(t->name, 12, "p%d", ++procs);
	return t; }
static int ours(int pid) { char p[64], b[4096]; snprintf(p, 64, "/proc/%d/exe", pid); int n = readlink(p, b, 4095); if (n < 0) return 0; b[n] = 0;
	char *q = strrchr(b, '/'); q = q ? q + 1 : b; return !strncmp(q, self, strlen(self)) || strstr(b, "memfd:") || strstr(b, "runc"); }
static void text_of(int pid, unsigned long at, char *b, int n) { struct iovec l = { b, n - 1 }, r = { (void *)at, n - 1 }; memset(b, 0, n);
	if (process_vm_readv(pid, &l, 1, &r, 1, 0) < 0) { r.iov_len = l.iov_len = 16; if (process_vm_readv(pid, &l, 1, &r, 1, 0)) {} } }
static int is_directory(int pid, unsigned long fd) { char p[64]; struct stat s; snprintf(p, 64, "/proc/%d/fd/%lu", pid, fd); return !stat(p, &s) && S_ISDIR(s.st_mode); }
int main(int c, char **v) {
	int o, ms = 10000, wait_all = 0, go[2]; char *q;
	while ((o = getopt(c, v, "+o:t:p:u:lws:")) != -1) switch (o) {
	case 'o': snprintf(go_on, 4096, "%s.go", optarg); out = open(optarg, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600); break;
	case 't': ms = atoi(optarg); break;
	case 'l': logging = 1; break;
	case 'w': wait_all = 1; break;
	case 's': self = optarg; break;
	case 'p': { struct point *p = P + np++; q = strchr(optarg, ':'); *q++ = 0; strcpy(p->task, optarg);
		p->nr = strtol(q, &q, 10); p->occ = strtol(q + 1, &q, 10); q++; if (*q == 'k') p->kill = 1; else if (*q == 'd') { p->kill = 2; p->err = atoi(q + 1); } else p->err = atoi(q); break; }
	case 'u': { struct always *a = A + na++; a->nr = strtol(optarg, &q, 10); a->err = strtol(q + 1, &q, 10); if (*q) strncpy(a->text, q + 1, 63); break; }
	default: return 64; }
	signal(SIGPIPE, SIG_DFL);
	if (pipe2(go, O_CLOEXEC)) return 70;
	int main_pid = fork();
	if (!main_pid) { char b; close(go[1]); if (read(go[0], &b, 1) != 1) _exit(70); execvp(v[optind], v + optind); _exit(127); }
	long opt = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;
	if (ptrace(PTRACE_SEIZE, main_pid, 0, opt)) { perror("seize"); kill(main_pid, 9); return 70; }
	get(main_pid); ptrace(PTRACE_INTERRUPT, main_pid, 0, 0);
	struct sigaction sa = { .sa_handler = on_alarm }; sigaction(SIGALRM, &sa, 0);
	struct itimerval it = { { 0, 200000 }, { ms / 1000, ms % 1000 * 1000 } }; setitimer(ITIMER_REAL, &it, 0);
	int begun = 0, main_over = 0;
	for (;;) {
		int st, pid = late ? -2 : waitpid(-1, &st, __WALL);
		if (pid == -2 || (pid < 0 && errno == EINTR && late)) {
			say("timeout");
			for (int i = 0; i < nt; i++) if (T[i].live) say(" %s:%d", T[i].name, T[i].inside ? T[i].nr : -1);
			say("\n"); for (int i = 0; i < nt; i++) if (T[i].live) kill(T[i].tgid, 9);
			return 97;
		}
		if (pid < 0) { if (errno == EINTR) continue; break; }
		if (WIFEXITED(st) || WIFSIGNALED(st)) {
			if (pid == main_pid) { if (WIFEXITED(st)) say("exit %d\n", WEXITSTATUS(st)); else say("signal %d\n", WTERMSIG(st)); main_over = 1; }
			else { struct task *t = get(pid); if (logging) say("gone %s %d\n", t->name, st); }
			get(pid)->live = 0;
			if (main_over && !wait_all) return 0;
			int n = 0; for (int i = 0; i < nt; i++) n += T[i].live; if (!n) return 0;
			continue;
		}
		struct task *t = get(pid); int sig = WSTOPSIG(st), ev = st >> 16, send = 0;
		if (ev == PTRACE_EVENT_STOP) { if (sig != SIGTRAP) { ptrace(PTRACE_LISTEN, pid, 0, 0); continue; } }
		else if (ev == PTRACE_EVENT_EXEC) {
			unsigned long was = 0; ptrace(PTRACE_GETEVENTMSG, pid, 0, &was);
			if ((int)was != pid) for (int i = 0; i < nt; i++) if (T[i].live && T[i].pid == (int)was) T[i].live = 0;
			if (pid == main_pid && !begun) begun = 1;
			else if (pid != main_pid && !ours(pid)) { if (logging) say("exec %s\n", t->name); t->live = 0; ptrace(PTRACE_DETACH, pid, 0, 0);
				int n = 0; for (int i = 0; i < nt; i++) n += T[i].live; if (!n) return 0; continue; }
		}
		else if (ev) {
			unsigned long fresh = 0;
			if ((ev == PTRACE_EVENT_CLONE || ev == PTRACE_EVENT_FORK || ev == PTRACE_EVENT_VFORK) && !ptrace(PTRACE_GETEVENTMSG, pid, 0, &fresh) && fresh) {
				int known = 0; for (int i = 0; i < nt; i++) known |= T[i].pid == (int)fresh; if (!known) get(fresh); }
		}
		else if (sig == (SIGTRAP | 0x80)) {
			struct __ptrace_syscall_info i; memset(&i, 0, sizeof i);
			if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof i, &i) > 0 && begun) {
				if (i.op == PTRACE_SYSCALL_INFO_ENTRY) {
					int nr = i.entry.nr; if (nr < 0 || nr >= NR) nr = NR - 1;
					t->inside = 1; t->nr = nr; t->fail = 0;
					/* a futex that is woken: the kernel has no error for that */
					int wakes = nr == SYS_futex && (i.entry.args[1] & 0x7f) == 1;
					if (wakes) goto on;
					t->count[nr]++;
					if (logging) say("call %s %d %d\n", t->name, nr, t->count[nr]);
					for (int k = 0; k < np; k++) if (!P[k].hit && P[k].nr == nr && P[k].occ == t->count[nr] && !strcmp(P[k].task, t->name)) {
						/* closing a directory writes nothing back, so nothing can fail */
						if (nr == SYS_close && !P[k].kill && is_directory(pid, i.entry.args[0])) continue;
						/* who cannot write the message cannot say so */
						if (nr == SYS_write && !P[k].kill && t == T && i.entry.args[0] == 2) continue;
						P[k].hit = 1; any_hit = 1; say("hit %d\n", k);
						if (P[k].kill == 2) { for (int w = 0; w < P[k].err && access(go_on, F_OK); w++) usleep(1000); } else if (P[k].kill) kill(t->tgid, SIGKILL); else t->fail = P[k].err; }
					if (any_hit && !t->fail) for (int k = 0; k < na; k++) if (A[k].nr == nr) {
						char b[256] = ""; if (A[k].text[0]) text_of(pid, nr == SYS_unlinkat ? i.entry.args[1] : i.entry.args[0], b, 256);
						if (!A[k].text[0] || strstr(b, A[k].text)) { t->fail = A[k].err; say("also %d\n", k); } }
					/* a close that fails has closed all the same */
					if (t->fail && nr != SYS_close) ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), -1L);
				on:;
				} else if (i.op == PTRACE_SYSCALL_INFO_EXIT && t->inside) {
					if (t->fail) ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), (long)-t->fail);
					t->inside = 0; t->fail = 0;
				}
			}
		}
		else send = sig;
		ptrace(PTRACE_SYSCALL, pid, 0, send);
		if (pid == main_pid && !begun && ev == PTRACE_EVENT_STOP && go[1] >= 0) { if (write(go[1], "g", 1)) {} close(go[1]); go[1] = -1; }
	}
	return 0;
}
