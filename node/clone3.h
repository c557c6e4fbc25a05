/* clone3.h - a vfork that can choose the child's pid
 *
 * glibc has no clone3(), and a child that shares our memory must not run on
 * our stack: so a few lines for each processor.
 */
#ifndef NODE_CLONE3_H
#define NODE_CLONE3_H
#include <errno.h>
#include <linux/sched.h>
#include <sys/syscall.h>

/* Clone as *args says (its stack is set); the child calls fn(arg), which must
 * not return. Returns the child's pid, or -errno. */
static inline long clone3_call(struct clone_args *args, void (*fn)(void *), void *arg)
{
#if defined(__x86_64__)
    long r;
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
                     : "a"((long)SYS_clone3), "D"(args), "S"(sizeof *args), "r"(r12),
                       "r"(r13)
                     : "rcx", "r11", "memory");
    return r;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = sizeof *args;
    register void (*x9)(void *) __asm__("x9") = fn;
    register void *x10 __asm__("x10") = arg;

    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, #0\n\t"
                     "mov x0, x10\n\t"
                     "blr x9\n\t"
                     "brk #1\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x9), "r"(x10)
                     : "memory");
    return x0;
#else
#error "clone3 with a stack of the child's own: add the lines for this processor"
#endif
}

#endif
