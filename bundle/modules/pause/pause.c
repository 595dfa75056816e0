// SPDX-License-Identifier: Apache-2.0

// pause is the first process of every pod: it holds the pod's namespaces,
// collects the children that other containers leave to it when they share its
// PID namespace, and ends on SIGINT or SIGTERM.
//
// There is one per pod on every host, so its memory counts. A Go program costs
// about a megabyte of it, this one two pages: no libc, no heap, and the signals
// wait in the kernel instead of in handlers.

#include <linux/signal.h>
#include <linux/wait.h>
#include <sys/syscall.h>

#define BIT(signal) (1ul << ((signal)-1))

#if defined(__x86_64__)

static long call(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}

// The kernel enters with the stack aligned to 16 bytes and no return address.
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tcall run\n\thlt\n");

#elif defined(__aarch64__)

static long call(long number, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}

__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x0, sp\n\tbl run\n");

#else
#error "pause: add call and _start for this architecture"
#endif

__attribute__((noreturn)) static void leave(int status)
{
	for (;;)
		call(SYS_exit_group, status, 0, 0, 0);
}

// version is for the person who starts it by hand with -v, as the pause of
// Kubernetes understands it. stack is argc, argv[0], argv[1], ...
static void version(const long *stack)
{
	static const char text[] = "pause 3.10 (muster)\n";
	const char *arg = stack[0] > 1 ? (const char *)stack[2] : 0;

	if (arg && arg[0] == '-' && arg[1] == 'v' && arg[2] == 0) {
		call(SYS_write, 1, (long)text, sizeof(text) - 1, 0);
		leave(0);
	}
}

__attribute__((noreturn, used)) void run(const long *stack)
{
	unsigned long wanted = BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGCHLD);
	long signal;

	version(stack);
	// A process with PID 1 gets no signal it has not asked for, and a blocked
	// one stays pending until it is waited for: none can be lost.
	call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&wanted, 0, sizeof(wanted));
	for (;;) {
		signal = call(SYS_rt_sigtimedwait, (long)&wanted, 0, 0, sizeof(wanted));
		if (signal == SIGINT || signal == SIGTERM)
			leave(0);
		// Several children may have ended on one SIGCHLD.
		while (call(SYS_wait4, -1, 0, WNOHANG, 0) > 0)
			;
	}
}
