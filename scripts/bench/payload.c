/* payload: the smallest program that a container can run, without a C library.
 *
 *   true          exits at once: fork and exec of it is the cheapest thing that the bench can time
 *   true stamp    first writes the time of its first instruction (CLOCK_MONOTONIC, ns) as "T<decimal>\n" to stdout
 *   true wait     the same, then sleeps until it is killed: the container of the life axis
 */
#include <asm/unistd.h>
#include <linux/time.h>
#include <linux/time_types.h>

static long call(long number, long a, long b, long c, long d)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
#else
#error "payload.c: this architecture's system call instruction is missing"
#endif
}

static void stamp(void)
{
	struct __kernel_timespec now;
	char text[32], *at = text + sizeof text;
	call(__NR_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0);
	unsigned long long ns = now.tv_sec * 1000000000ull + now.tv_nsec;
	*--at = '\n';
	for (; ns; ns /= 10)
		*--at = '0' + ns % 10;
	*--at = 'T';
	call(__NR_write, 1, (long)at, text + sizeof text - at, 0);
}

__attribute__((used)) void payload(long *stack)
{
	char *mode = stack[0] > 1 ? ((char **)(stack + 1))[1] : "";
	if (mode[0] == 's' || mode[0] == 'w')
		stamp();
	while (mode[0] == 'w')
		call(__NR_ppoll, 0, 0, 0, 0);
	call(__NR_exit_group, 0, 0, 0, 0);
	__builtin_unreachable();
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call payload\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start: mov x0, sp\n bl payload\n");
#endif
