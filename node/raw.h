/* raw.h - system calls that leave errno alone
 *
 * For processes that run in another's memory beside it: errno, like all that is
 * the thread's in libc, is the other's there.
 */
#ifndef NODE_RAW_H
#define NODE_RAW_H

static inline long raw5(long n, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
    long r;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return r;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;

    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                     : "memory");
    return x0;
#else
#error "a system call without libc: add the lines for this processor"
#endif
}

static inline long raw4(long n, long a, long b, long c, long d) { return raw5(n, a, b, c, d, 0); }
static inline long raw3(long n, long a, long b, long c) { return raw5(n, a, b, c, 0, 0); }

#endif
