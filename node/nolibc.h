/* nolibc.h - what a program without libc needs of the machine it runs on
 *
 * For bpghost and bprestore. Everything that differs between processors is in this
 * file; a port adds one #elif with the same names.
 */
#ifndef NODE_NOLIBC_H
#define NODE_NOLIBC_H

#if defined(__x86_64__)

enum {
    NR_read = 0,
    NR_write = 1,
    NR_open = 2,
    NR_close = 3,
    NR_fstat = 5,
    NR_lseek = 8,
    NR_mmap = 9,
    NR_mprotect = 10,
    NR_munmap = 11,
    NR_rt_sigaction = 13,
    NR_rt_sigprocmask = 14,
    NR_ioctl = 16,
    NR_pread64 = 17,
    NR_mremap = 25,
    NR_madvise = 28,
    NR_dup2 = 33,
    NR_setitimer = 38,
    NR_getpid = 39,
    NR_socket = 41,
    NR_connect = 42,
    NR_sendto = 44,
    NR_recvfrom = 45,
    NR_recvmsg = 47,
    NR_setsockopt = 54,
    NR_getsockopt = 55,
    NR_execve = 59,
    NR_wait4 = 61,
    NR_kill = 62,
    NR_fcntl = 72,
    NR_chdir = 80,
    NR_readlink = 89,
    NR_umask = 95,
    NR_getrlimit = 97,
    NR_getuid = 102,
    NR_getgid = 104,
    NR_setpgid = 109,
    NR_getppid = 110,
    NR_setsid = 112,
    NR_setgroups = 116,
    NR_setresuid = 117,
    NR_setresgid = 119,
    NR_capset = 126,
    NR_rt_sigpending = 127,
    NR_rt_sigtimedwait = 128,
    NR_sigaltstack = 131,
    NR_setpriority = 141,
    NR_prctl = 157,
    NR_arch_prctl = 158,
    NR_setrlimit = 160,
    NR_gettid = 186,
    NR_set_tid_address = 218,
    NR_timer_create = 222,
    NR_timer_settime = 223,
    NR_timer_delete = 226,
    NR_clock_gettime = 228,
    NR_exit_group = 231,
    NR_unshare = 272,
    NR_set_robust_list = 273,
    NR_dup3 = 292,
    NR_pipe2 = 293,
    NR_getrandom = 318,
    NR_userfaultfd = 323,
    NR_rseq = 334,
    NR_clone3 = 435,
    NR_close_range = 436,
};

static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
    long r;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return r;
}

/* Clone with a stack of its own; the child calls fn(arg) there and never
 * comes back here. Returns the child's pid or -errno. */
static inline long clone_onto(unsigned long flags, void *stack_top,
                              void (*fn)(void *), void *arg)
{
    long r;
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    register void (*r12)(void *) __asm__("r12") = fn;
    register void *r13 __asm__("r13") = arg;

    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(r)
                     : "a"(56L), "D"(flags), "S"(stack_top), "d"(0L), "r"(r10),
                       "r"(r8), "r"(r12), "r"(r13)
                     : "rcx", "r11", "memory");
    return r;
}

struct message { /* msghdr */
    void *name;
    unsigned namelen, pad0;
    struct {
        void *base;
        unsigned long len;
    } *iov;
    unsigned long iovlen;
    void *control;
    unsigned long controllen;
    int flags, pad1;
};

/* The kernel's struct sigaction. */
struct kernel_sigaction {
    unsigned long handler, flags, restorer, mask;
};

#define NOLIBC_START(entry)                                        \
    __asm__(".globl _start\n"                                      \
            "_start:\n\t"                                          \
            "xor %ebp, %ebp\n\t"                                   \
            "mov %rsp, %rdi\n\t"                                   \
            "and $-16, %rsp\n\t"                                   \
            "call " #entry "\n\t"                                  \
            "hlt\n")

#else
#error "bpghost: no system calls known for this processor; add them to nolibc.h"
#endif

#define sys0(n) sys6(n, 0, 0, 0, 0, 0, 0)
#define sys1(n, a) sys6(n, (long)(a), 0, 0, 0, 0, 0)
#define sys2(n, a, b) sys6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define sys3(n, a, b, c) sys6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define sys4(n, a, b, c, d) \
    sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define sys5(n, a, b, c, d, e) \
    sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

#endif
