/* tour.c - a process that goes where it is told to; numbers that are taken
 *
 *   tour TO,TO...   USR1: goes to the next; HUP: ends, with 7 if all was well
 *   tour sit PID N  N children that sleep, with that number and the next ones; says how
 *                   many of these are taken then, and stays till SIGTERM:
 *                   then all have ended, and were waited for
 */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <sys/bproc.h>

static int tour(char *to)
{
    sigset_t set;
    int sig;
    bool well = true;
    pid_t self = getpid();

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    while (sigwait(&set, &sig) == 0 && sig == SIGUSR1) {
        int node = (int)strtol(to, &to, 10);
        to += *to == ',';
        well &= bproc_move_io(node, NULL, 0) == 0 && bproc_currnode() == node && getpid() == self;
    }
    return well ? 7 : 99;
}

static void __attribute__((noreturn)) sit(pid_t first, int n)
{
    int taken = 0, sig;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (pid_t pid = first; pid < first + n; pid++) {
        struct clone_args args = { .exit_signal = SIGCHLD, .set_tid_size = 1,
                                   .set_tid = (uint64_t)(uintptr_t)&pid };
        long rc = syscall(SYS_clone3, &args, sizeof args);
        if (rc == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                pause();
        }
        taken += rc > 0 || errno == EEXIST;
    }
    printf("%d\n", taken);
    fflush(stdout);
    sigwait(&set, &sig);
    signal(SIGTERM, SIG_IGN);
    for (pid_t pid = first; pid < first + n; pid++)
        if (waitpid(pid, NULL, WNOHANG) == 0) { /* a child of ours */
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return tour(argv[1]);
    if (argc == 4 && strcmp(argv[1], "sit") == 0)
        sit(atoi(argv[2]), atoi(argv[3]));
    return 2;
}
