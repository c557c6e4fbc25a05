/* grand.c - a process, its child and its grandchild, each of which goes where it is told
 *
 *   grand STEP... END
 *
 *   f, rNODE      the child makes the grandchild: by fork, by rfork to NODE
 *   pNODE, cNODE, gNODE   the first, its child, its grandchild go there (-1: the master)
 *   s, S          the child is stopped and goes on; the grandchild is
 *   bNODE         its own move there is refused: EBUSY
 *   h             says its number and its child's, and waits for SIGHUP: it may be elsewhere
 *
 * After each step all three are to each other what they were. In the end:
 *
 *   G             the grandchild ends, then the child: each is heard of
 *   C FILE        the child ends, and the grandchild notes in FILE, there, who is its parent then
 *   P FILE        the first ends; so does the child, which still hears of the grandchild
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include "tests/libbproc/check.h"

#define LIMIT_S 30

enum { GO, FORK, COPY, GO_CHILD, CHECK, STOP, ALONE, END }; /* what is asked by SIGRTMIN + this */

static const char *file;

static int next_signal(const sigset_t *set, int *value)
{
    const struct timespec limit = { LIMIT_S, 0 };
    siginfo_t si;
    int sig;

    while ((sig = sigtimedwait(set, &si, &limit)) < 0 && errno == EINTR)
        continue;
    if (sig > 0 && value)
        *value = si.si_value.sival_int;
    return sig;
}

static bool answers(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return next_signal(&set, NULL) == SIGUSR2;
}

static bool ask(pid_t pid, int what, int value)
{
    return pid > 1 && sigqueue(pid, SIGRTMIN + what, (union sigval){ .sival_int = value }) == 0 &&
           answers();
}

static bool goes(int node)
{
    pid_t self = getpid();

    return bproc_move_io(node, NULL, 0) == 0 && bproc_currnode() == node && getpid() == self;
}

static void note(const char *what)
{
    int fd = file ? open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;

    if (fd < 0 || write(fd, what, strlen(what)) < 0)
        _exit(89);
    close(fd);
}

/* It waits until its parent is another. */
static void orphaned(pid_t parent)
{
    for (int i = 0; getppid() == parent && i < LIMIT_S * 50; i++)
        usleep(20000);
}

static bool changes_to(pid_t pid, int sig, int want)
{
    int status = -1;

    return kill(pid, sig) == 0 && waitpid(pid, &status, WUNTRACED | WCONTINUED) == pid &&
           status == want;
}

/* ---- the grandchild ---- */

static void __attribute__((noreturn)) grandchild(pid_t parent)
{
    sigset_t set;
    int value = 0;

    sigfillset(&set);
    for (;;) {
        int sig = next_signal(&set, &value);
        if (sig == SIGHUP)
            _exit(getppid() == parent ? 6 : 88);
        if (sig < SIGRTMIN || sig > SIGRTMIN + END)
            continue;
        if (sig == SIGRTMIN + GO && !goes(value))
            _exit(90);
        if (getppid() != parent)
            _exit(91);
        kill(parent, SIGUSR2);
        if (sig != SIGRTMIN + ALONE)
            continue;
        orphaned(parent);
        note(getppid() == parent ? "still\n" : "right\n");
        _exit(0);
    }
}

/* ---- the child ---- */

static pid_t make(int what, int node)
{
    pid_t self = getpid(), pid = what == FORK ? fork() : bproc_rfork_io(node, NULL, 0);

    if (pid == 0)
        grandchild(self);
    return pid;
}

static bool obeys(int what, int value, pid_t *child)
{
    switch (what) {
    case GO: return goes(value);
    case FORK:
    case COPY: return (*child = make(what, value)) > 1;
    case GO_CHILD: return ask(*child, GO, value);
    case STOP:
        return changes_to(*child, SIGSTOP, SIGSTOP << 8 | 0x7f) &&
               changes_to(*child, SIGCONT, 0xffff);
    case ALONE: return ask(*child, ALONE, 0);
    case END: return changes_to(*child, SIGHUP, 6 << 8);
    default: return true;
    }
}

static void __attribute__((noreturn)) child(pid_t parent)
{
    sigset_t set;
    int sig, value = 0;
    pid_t own = 0;

    sigfillset(&set);
    for (;;) {
        sig = next_signal(&set, &value);
        if (sig == SIGHUP)
            _exit(getppid() == parent ? 7 : 87);
        if (sig < SIGRTMIN || sig > SIGRTMIN + END)
            continue;
        int what = sig - SIGRTMIN;
        if (getppid() != parent)
            _exit(60);
        if (!obeys(what, value, &own))
            _exit(70 + what);
        if (own && what != END && what != ALONE && !ask(own, CHECK, 0))
            _exit(61);
        if (own && what != END && waitpid(-1, NULL, WNOHANG | WUNTRACED | WCONTINUED) != 0)
            _exit(62);
        kill(parent, SIGUSR2);
        if (what != END || !file || value == 0)
            continue;
        orphaned(parent);
        note(getppid() == parent ? "still\n" : "right\n");
        _exit(0);
    }
}

/* ---- the first ---- */

static pid_t kid;

static void odd(void)
{
    int status = 0;

    if (waitpid(kid, &status, WNOHANG | WUNTRACED | WCONTINUED) == kid)
        printf("#   its child: status %x\n", (unsigned)status);
    fflush(stdout);
}

static bool does(int what, int value, const char *step)
{
    bool good = ok(ask(kid, what, value), "%s: its child has done it, or seen it", step);

    if (!good)
        odd();
    return good;
}

static void waits(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    printf("%d %d\n", (int)getpid(), (int)kid);
    fflush(stdout);
    while (next_signal(&set, NULL) < 0)
        ;
}

static void goes_itself(int node, const char *step)
{
    pid_t self = getpid();
    bool good = ok(bproc_move(node) == 0, "%s: it goes there", step);

    if (!good)
        printf("#   %s\n", bproc_strerror(errno));
    ok(bproc_currnode() == node && getpid() == self, "%s: it is there, by its number", step);
}

static void step(const char *s)
{
    int node = atoi(s + 1), rc;

    switch (*s) {
    case 'f': does(FORK, 0, s); break;
    case 'r': does(COPY, node, s); break;
    case 'c': does(GO, node, s); break;
    case 'g': does(GO_CHILD, node, s); break;
    case 'S': does(STOP, 0, s); break;
    case 'p': goes_itself(node, s); break;
    case 's':
        ok(changes_to(kid, SIGSTOP, SIGSTOP << 8 | 0x7f), "%s: it hears that its child stops", s);
        ok(changes_to(kid, SIGCONT, 0xffff), "%s: and that it goes on", s);
        break;
    case 'b':
        rc = bproc_move(node);
        ok(rc == -1 && errno == EBUSY, "%s: it is refused: %s", s, bproc_strerror(errno));
        break;
    case 'h': waits(); break;
    default: ok(false, "%s: no such step", s);
    }
    does(CHECK, 0, s);
    equals(waitpid(-1, NULL, WNOHANG | WUNTRACED | WCONTINUED), 0, "nothing has ended or stopped");
}

static void ends(const char *how)
{
    if (*how == 'P') {
        does(END, 1, "the grandchild ends");
        return;
    }
    if (*how == 'G')
        does(END, 0, "the grandchild ends");
    else
        does(ALONE, 0, "the grandchild will be alone");
    equals(kill(kid, SIGHUP), 0, "the child is to end");
    int status = reap(kid);
    ok(status == 7 << 8, "and does: %x", (unsigned)status);
    ok(wait(NULL) == -1 && errno == ECHILD, "no other is left");
}

int main(int argc, char **argv)
{
    sigset_t all, mine;
    int n = argc;

    if (argc > 2 && (*argv[argc - 2] == 'C' || *argv[argc - 2] == 'P'))
        file = argv[--n];
    if (n < 2 || close_range(3, ~0u, 0) < 0) /* what who has started it holds stays here */
        return 2;
    sigemptyset(&mine);
    sigaddset(&mine, SIGUSR2);
    sigaddset(&mine, SIGHUP);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    pid_t self = getpid();
    if ((kid = fork()) == 0)
        child(self);
    sigprocmask(SIG_SETMASK, &mine, NULL);
    does(CHECK, 0, "it has a child");
    for (int i = 1; i < n - 1; i++)
        step(argv[i]);
    ends(argv[n - 1]);
    return done_testing();
}
