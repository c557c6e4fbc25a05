/* kin.c - a parent and two children, wherever they are
 *
 *   kin family A B       children on A and B (-1: the master; -2: made by fork, where
 *                        their parent is): they are waited for,
 *                        stopped, signalled, killed; exits 1 if anything was odd
 *   kin forks A B        the same with copies of it (rfork), not programs
 *   kin away A B TO...   the same two live on while their parent moves from place to
 *                        place; at the last one they end
 *   kin stray A TO B TO,TO...  a child on A, go to TO, a child on B, which moves about
 *   kin again NODE TO    as hold, with a child by rfork to NODE from TO
 *   kin halts A TO...    a child on A, stopped for a while at each place that we go to: each
 *                        stop is told once
 *   kin hurry A TO...    a child on A is asked for a signal each time just before we go: it
 *                        comes where we are then
 *   kin wander A B TO... the same, but only their ends are looked at
 *   kin more A TO B...   a child on A, go to TO, then further ones on B... from there, and
 *                        go to the first B; kin copies A TO B...: by rfork
 *   kin under WHAT ARG...  a child does that; what it says is lost, not how it ends
 *   kin twin NODE        a child on NODE makes another child of ours there (CLONE_PARENT)
 *   kin keep NODE        the same, and all of them wait for signals
 *   kin become NODE NAME a child on NODE, which executes another program in time
 *   kin roam A TO,TO...  a child on A moves from place to place, while its parent stays
 *   kin stroll A TO,TO...  the same, stopped for a while at each place
 *   kin kills A N        N children on A, one by one, are stopped and killed: nothing else
 *                        than their parent's word ends them
 *   kin echo A N         N numbered signals to a child on A, which says each to us again:
 *                        each comes once
 *   kin burden NODE MB TO   a child on NODE has that much memory, and finds none at TO
 *   kin leave NODE FILE [TO]   a child on NODE, go to TO, and end; the child notes in
 *                        FILE, there, who its parent is then, and what it was before
 *   kin says TO,TO...    a child made by fork goes from place to place, and says so
 *   kin sent TO          a child made by fork goes to TO; says both numbers, waits for it
 *   kin makes            says its pid; for a line of input it makes a child, and says its pid
 *   kin hold NODE [TO]   a child on NODE that sleeps; go to TO; say its pid; end as it does
 *
 * and, as a child:
 *   kin exit STATUS PPID    99 if PPID is not its parent
 *   kin die SIGNAL
 *   kin wait PPID           says USR2 to its parent when it is ready and for each
 *                           USR1. INT: stops by TSTP. HUP: ends, with 7 if PPID is its parent
 *   kin echoes PPID N       says N numbered signals again; 7 if each has come once
 *   kin turn NAME        executes itself as NAME after a moment
 *   kin brother PPID     makes a child of its parent's that is as "wait", and is itself so
 *   kin goer PPID TO,TO...  USR1: goes to the next, and says USR2 there to its parent; its
 *                 status is 7, 128 and the errno of a move, 98 if it is not itself there,
 *                 99 if its parent is not PPID
 *   kin heavy MB TO      has so much, cannot go to TO for want of memory, and goes on
 *   kin orphan PPID FILE
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include "tests/libbproc/kin.h"

static void ends(void)
{
    pid_t pid[2], got;
    int status;

    for (int i = 0; i < 2; i++)
        pid[i] = start_on(place[i], "exit", number(3 + i), number(getpid()));
    ok(pid[0] > 0 && pid[1] > 0, "two start");
    equals(reap(pid[1]), 4 << 8, "the second ends with its status, and has us as parent");
    equals(reap(pid[0]), 3 << 8, "the first too");
    equals(waitpid(-1, &status, WNOHANG), -1, "nothing is left of them");
    one_sigchld();
    while (!no_sigchld(0)) /* of two together there may be one or two */
        ;

    for (int i = 0; i < 2; i++)
        pid[i] = start_waiting(place[i]);
    equals(waitpid(-1, &status, WNOHANG), 0, "two run: nothing to wait for yet");
    ok(no_sigchld(0), "no SIGCHLD");
    equals(kill(pid[0], SIGTERM), 0, "the first is sent SIGTERM");
    got = wait(&status);
    ok(got == pid[0] && status == SIGTERM, "and is the first that wait() finds");
    ok(one_sigchld(), "a SIGCHLD");
    equals(kill(pid[1], SIGKILL), 0, "the other SIGKILL");
    got = wait(&status);
    ok(got == pid[1] && status == SIGKILL, "and is the next: status %d", status);
    ok(one_sigchld(), "a SIGCHLD");
    ok(wait(&status) == -1 && errno == ECHILD, "no other is left");

    for (int i = 0; i < 2; i++)
        pid[i] = start_on(place[i], "die", number(i ? SIGUSR1 : SIGSEGV), NULL);
    status = reap(pid[0]);
    equals(WIFSIGNALED(status) ? WTERMSIG(status) : -1, SIGSEGV, "the first dies of SIGSEGV");
    equals(reap(pid[1]), SIGUSR1, "the second of SIGUSR1");
    one_sigchld();
    extra = 0; /* of two together there may be one or two */
}

static void stops(void)
{
    for (int i = 0; i < 2; i++) {
        pid_t pid = start_waiting(place[i]);
        ok(pid > 0, "one that is stopped, on %d", place[i]);
        equals(kill(pid, SIGSTOP), 0, "by SIGSTOP");
        equals(next_status(pid), SIGSTOP << 8 | 0x7f, "we are told");
        ok(one_sigchld(), "by a SIGCHLD");
        equals(waitpid(pid, NULL, WNOHANG | WUNTRACED), 0, "once");
        equals(kill(pid, SIGCONT), 0, "goes on");
        equals(next_status(pid), 0xffff, "we are told");
        ok(one_sigchld(), "by a SIGCHLD");
        equals(kill(pid, SIGINT), 0, "it stops itself");
        equals(next_status(pid), SIGTSTP << 8 | 0x7f, "by SIGTSTP");
        ok(one_sigchld(), "a SIGCHLD");
        equals(kill(pid, SIGCONT), 0, "goes on");
        equals(next_status(pid), 0xffff, "is seen to");
        ok(one_sigchld(), "a SIGCHLD");
        equals(kill(pid, SIGUSR1), 0, "it is asked for a signal");
        ok(came(SIGUSR2), "which comes");
        equals(kill(pid, SIGSTOP), 0, "stopped again");
        equals(next_status(pid), SIGSTOP << 8 | 0x7f, "we are told");
        one_sigchld();
        equals(kill(pid, SIGKILL), 0, "and killed while it is");
        equals(next_status(pid), SIGKILL, "dies of it");
        one_sigchld();
        ok(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "nothing is left of it");
    }
}

/* What stops it has its node look at all its processes a moment later: some are killed
 * right then. */
static int kills(int node, int n)
{
    prepare(node, node);
    for (int i = 0; i < n; i++) {
        const struct timespec moment = { 0, i % 16 * 1000000l };
        pid_t pid = start_waiting(node);
        equals(kill(pid, SIGSTOP), 0, "it is stopped");
        equals(next_status(pid), SIGSTOP << 8 | 0x7f, "we are told");
        nanosleep(&moment, NULL);
        equals(kill(pid, SIGKILL), 0, "and killed");
        equals(next_status(pid), SIGKILL, "dies of it");
    }
    return done_testing();
}

static int family(int a, int b)
{
    prepare(a, b);
    ends();
    stops();
    ok(no_sigchld(100) && !extra, "no SIGCHLD came twice");
    return done_testing();
}

/* Wherever their parent is, they are to it what they were. */
static void are_ours(const pid_t *pid)
{
    for (int i = 0; i < 2; i++) {
        equals(waitpid(-1, NULL, WNOHANG), 0, "two run: nothing to wait for yet");
        equals(kill(pid[i], SIGUSR1), 0, "one is asked for a signal");
        ok(came(SIGUSR2), "which comes to its parent");
        equals(kill(pid[i], SIGSTOP), 0, "it is stopped");
        equals(next_status(pid[i]), SIGSTOP << 8 | 0x7f, "we are told");
        ok(one_sigchld(), "by a SIGCHLD");
        equals(kill(pid[i], SIGCONT), 0, "goes on");
        equals(next_status(pid[i]), 0xffff, "we are told");
        ok(one_sigchld(), "by a SIGCHLD");
    }
}

static int away(int a, int b, char **to)
{
    pid_t pid[2], self = getpid(), parent = getppid();
    int status = 0;

    prepare(a, b);
    for (int i = 0; i < 2; i++)
        pid[i] = start_waiting(place[i]);
    for (; *to; to++) {
        int here = atoi(*to), rc = bproc_move(here), why = errno;
        if (!ok(rc == 0, "with two children to %d", here))
            printf("#   %s\n", bproc_strerror(why));
        ok(bproc_currnode() == here && getpid() == self, "it is there, by its number");
        if (parent > 1) /* bpsh's have none on their node */
            equals(getppid(), parent, "and its parent is who it was");
        are_ours(pid);
    }
    equals(kill(pid[0], SIGHUP), 0, "the first is to end");
    pid_t got = wait(&status);
    ok(got == pid[0] && status == 7 << 8, "and ends with its status: %x", (unsigned)status);
    ok(one_sigchld(), "a SIGCHLD");
    equals(kill(pid[1], SIGTERM), 0, "the other is sent SIGTERM");
    got = waitpid(pid[1], &status, 0);
    ok(got == pid[1] && status == SIGTERM, "and dies of it: %x", (unsigned)status);
    ok(one_sigchld(), "a SIGCHLD");
    ok(wait(&status) == -1 && errno == ECHILD, "no other is left");
    ok(no_sigchld(100) && !extra, "no SIGCHLD came twice");
    return done_testing();
}

static int hurry(int a, char **to)
{
    prepare(a, a);
    pid_t pid = start_waiting(a);
    for (; *to; to++) {
        equals(kill(pid, SIGUSR1), 0, "it is asked for a signal");
        goes_to(atoi(*to));
        ok(came(SIGUSR2), "which comes after us to %s", *to);
    }
    equals(kill(pid, SIGHUP), 0, "it is to end");
    equals(reap(pid), 7 << 8, "and does");
    return done_testing();
}

static void a_while(void)
{
    const struct timespec t = { 0, 400000000 }; /* till all who stand for it have heard */

    nanosleep(&t, NULL);
}

static int halts(int a, char **to)
{
    const int all = WUNTRACED | WCONTINUED;

    prepare(a, a);
    pid_t pid = start_waiting(a);
    for (; *to; to++) {
        goes_to(atoi(*to));
        equals(waitpid(pid, NULL, WNOHANG | all), 0, "nothing is told again");
        equals(kill(pid, SIGSTOP), 0, "it is stopped");
        equals(next_status(pid), SIGSTOP << 8 | 0x7f, "we are told");
        ok(one_sigchld(), "by a SIGCHLD");
        a_while();
        equals(waitpid(pid, NULL, WNOHANG | all), 0, "once");
        equals(kill(pid, SIGCONT), 0, "goes on");
        equals(next_status(pid), 0xffff, "we are told");
        ok(one_sigchld(), "by a SIGCHLD");
        equals(kill(pid, SIGUSR1), 0, "it is asked for a signal");
        ok(came(SIGUSR2), "which comes");
    }
    equals(kill(pid, SIGHUP), 0, "it is to end");
    equals(next_status(pid), 7 << 8, "and does");
    ok(one_sigchld() && no_sigchld(100) && !extra, "no SIGCHLD came twice");
    return done_testing();
}

/* Where it has left a child, or something stands for it, it gets others. */
static int more(int a, int to, char **on)
{
    pid_t pid[8], all[2];
    int n = 1, status = 0, first = atoi(*on);

    prepare(a, to);
    bool copies = forks;
    forks = false;
    pid[0] = all[0] = start_waiting(a);
    forks = copies;
    goes_to(to);
    for (; *on && n < 8; on++) {
        pid[n] = all[1] = start_waiting(atoi(*on));
        are_ours(all);
        n++;
    }
    equals(kill(pid[--n], SIGHUP), 0, "the last is to end");
    equals(reap(pid[n]), 7 << 8, "and does, with us as its parent");
    ok(one_sigchld(), "a SIGCHLD");
    goes_to(first);
    while (n--) {
        equals(kill(pid[n], SIGUSR1), 0, "one is asked for a signal");
        ok(came(SIGUSR2), "which comes to its parent");
        equals(kill(pid[n], SIGHUP), 0, "it is to end");
        equals(reap(pid[n]), 7 << 8, "and does, with us as its parent");
        ok(one_sigchld(), "a SIGCHLD");
    }
    ok(wait(&status) == -1 && errno == ECHILD, "no other is left");
    ok(no_sigchld(100) && !extra, "no SIGCHLD came twice");
    return done_testing();
}

/* Services may be away meanwhile: then it stays where it is, or is asked again. */
static int wander(int a, int b, char **to)
{
    pid_t pid[2], got;
    int status = 0, failed = 0;

    prepare(a, b);
    for (int i = 0; i < 2; i++)
        pid[i] = start_waiting(place[i]);
    for (; *to; to++) {
        failed += bproc_move_io(atoi(*to), NULL, 0) < 0;
        equals(waitpid(-1, NULL, WNOHANG), 0, "two run");
    }
    for (int tries = 0; bproc_move_io(BPROC_NODE_MASTER, NULL, 0) < 0 && tries < 200; tries++)
        usleep(100000);
    const char *log = getenv("WANDER_LOG"); /* it has no streams by now */
    ok(!log || freopen(log, "w", stdout), "its log is open");
    equals(bproc_currnode(), BPROC_NODE_MASTER, "it is on the master");
    for (int i = 0; i < 2; i++) {
        equals(kill(pid[i], SIGUSR1), 0, "one is asked for a signal");
        ok(came(SIGUSR2), "which comes to its parent");
    }
    equals(kill(pid[0], SIGHUP), 0, "the first is to end");
    ok(next_status(pid[0]) == 7 << 8, "and ends with its status");
    equals(kill(pid[1], SIGTERM), 0, "the other is sent SIGTERM");
    got = waitpid(pid[1], &status, 0);
    ok(got == pid[1] && status == SIGTERM, "and dies of it: %x", (unsigned)status);
    ok(wait(&status) == -1 && errno == ECHILD, "no other is left");
    printf("# %d moves failed\n", failed);
    return done_testing();
}

static bool slowly;

static int roam_beside(int a, const char *to, pid_t other)
{
    pid_t pid;
    int status;

    prepare(a, a);
    pid = start_on(a, "goer", number(getpid()), to);
    ok(pid > 0 && came(SIGUSR2), "one is ready, on %d", a);
    for (; to && *to; to = strchr(to, ',') ? strchr(to, ',') + 1 : NULL) {
        equals(kill(pid, SIGUSR1), 0, "it is to go");
        ok(came(SIGUSR2), "and does, to %d", atoi(to));
        equals(kill(pid, SIGSTOP), 0, "there it is stopped");
        equals(next_status(pid), SIGSTOP << 8 | 0x7f, "we are told");
        ok(one_sigchld(), "by a SIGCHLD");
        if (slowly)
            a_while();
        equals(kill(pid, SIGCONT), 0, "goes on");
        equals(next_status(pid), 0xffff, "we are told");
        ok(one_sigchld(), "by a SIGCHLD");
    }
    equals(kill(pid, SIGHUP), 0, "it is to end");
    status = reap(pid);
    ok(status == 7 << 8, "and does: %x", (unsigned)status);
    ok(one_sigchld(), "a SIGCHLD");
    if (other) {
        equals(kill(other, SIGHUP), 0, "the other is to end");
        equals(reap(other), 7 << 8, "and does");
        ok(one_sigchld(), "a SIGCHLD");
    }
    ok(wait(&status) == -1 && errno == ECHILD, "no other is left");
    ok(no_sigchld(100) && !extra, "no SIGCHLD came twice");
    return done_testing();
}

static int roam(int a, const char *to) { return roam_beside(a, to, 0); }

/* It comes to where its parent has left another one, and leaves again. */
static int stray(int a, int to, int b, const char *where)
{
    prepare(a, to);
    pid_t first = start_waiting(a);
    goes_to(to);
    return roam_beside(b, where, first);
}

/* Numbered signals that have come, each to come once. */
static char heard[10000];
static int twice;

static int hears(int n, bool say_again)
{
    const struct timespec limit = { LIMIT_MS / 1000, 0 };
    sigset_t set;
    siginfo_t si;
    int i = 0;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    for (; i < n && sigtimedwait(&set, &si, &limit) == SIGRTMIN; i++) {
        int v = si.si_value.sival_int;
        if (v < 0 || v >= (int)sizeof heard || heard[v]++) {
            twice++;
            i--;
        } else if (say_again) {
            while (sigqueue(getppid(), SIGRTMIN, si.si_value) < 0 && errno == EAGAIN)
                usleep(1000);
        }
    }
    return i;
}

static int echo(int a, int n)
{
    const struct timespec step = { 0, 2000000 }, now = { 0, 0 };
    sigset_t set;
    int sent = 0;

    prepare(a, a);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t pid = start_on(a, "echoes", number(getpid()), number(n));
    ok(pid > 0 && came(SIGUSR2), "one is ready, on %d", a);
    for (; pid > 0 && sent < n; sent++) {
        union sigval v = { .sival_int = sent };
        while (sigqueue(pid, SIGRTMIN, v) < 0 && errno == EAGAIN)
            usleep(1000);
        nanosleep(&step, NULL);
    }
    equals(hears(n, false), n, "each comes back");
    equals(next_status(pid), 7 << 8, "it has heard each once");
    usleep(100000);
    while (sigtimedwait(&set, NULL, &now) == SIGRTMIN)
        twice++;
    equals(twice, 0, "and so have we");
    return done_testing();
}

static int under(char **argv)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        execv(me, argv + 1);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 98;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

/* A child of ours that is not pid; 0: there is none yet. */
static pid_t another(pid_t pid)
{
    char path[64];
    int p, found = 0;

    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "re");
    while (f && fscanf(f, "%d", &p) == 1)
        found = p != pid ? p : found;
    if (f)
        fclose(f);
    return found;
}

static int twin(int node)
{
    int status, limit = LIMIT_MS / 20;
    pid_t second;

    prepare(node, node);
    pid_t first = start_on(node, "brother", number(getpid()), NULL);
    ok(first > 0 && came(SIGUSR2), "one is ready, and has made another");
    while (!(second = another(first)) && limit--)
        usleep(20000);
    ok(second > 0, "that is our child");
    equals(kill(first, SIGHUP), 0, "the first is to end");
    ok(reap(first) == 7 << 8, "and does");
    equals(kill(second, SIGUSR1), 0, "the other is asked for a signal");
    ok(came(SIGUSR2), "which comes to us, its parent");
    equals(kill(second, SIGHUP), 0, "it is to end");
    status = reap(second);
    ok(status == 7 << 8, "and does, with its status: %x", (unsigned)status);
    ok(wait(&status) == -1 && errno == ECHILD, "no other is left");
    return done_testing();
}

/* That it tries to go, and cannot, is nothing that we see. */
static int burden(int node, const char *mb, const char *to)
{
    int status;

    prepare(node, node);
    pid_t pid = start_on(node, "heavy", mb, to);
    ok(pid > 0 && came(SIGUSR2), "it could not go, and goes on");
    equals(waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED), 0, "we have heard nothing of it");
    ok(no_sigchld(0), "no SIGCHLD");
    equals(kill(pid, SIGUSR1), 0, "it is asked for a signal");
    ok(came(SIGUSR2), "which comes");
    equals(kill(pid, SIGHUP), 0, "it is to end");
    status = reap(pid);
    ok(status == 7 << 8, "and does, with all that it had: %x", (unsigned)status);
    ok(one_sigchld(), "a SIGCHLD");
    return done_testing();
}

static int keep(int node)
{
    prepare(node, node);
    return start_on(node, "brother", number(getpid()), NULL) <= 0 || !came(SIGUSR2) ||
           wait(NULL) < 0;
}

/* ---- children ---- */

static pid_t parent;

static int goer(char *to)
{
    sigset_t set;
    int sig, bad = 0, node = bproc_currnode();
    pid_t self = getpid();

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getppid(), SIGUSR2);
    while (sigwait(&set, &sig) == 0 && sig == SIGUSR1) {
        node = (int)strtol(to, &to, 10);
        to += *to == ',';
        int why = bproc_move_io(node, NULL, 0) < 0               ? 128 | errno
                  : bproc_currnode() != node || getpid() != self ? 98
                  : getppid() != parent                          ? 99
                                                                 : 0;
        if (bad == 0)
            bad = why;
        kill(getppid(), SIGUSR2);
    }
    return bad ? bad : 7;
}

static void on_signal(int sig)
{
    if (sig == SIGHUP)
        _exit(getppid() == parent ? 7 : 99);
    if (sig == SIGUSR1)
        kill(getppid(), SIGUSR2);
    else
        kill(getpid(), SIGTSTP);
}

static void __attribute__((noreturn)) wait_for_signals(bool say_so)
{
    signal(SIGUSR1, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGHUP, on_signal);
    if (say_so)
        kill(getppid(), SIGUSR2);
    for (;;)
        pause();
}

static int heavy(size_t mb, int to)
{
    size_t n = mb * 1024 * 1024 / sizeof(uint64_t);
    uint64_t *all = (uint64_t *)malloc(n * sizeof *all);
    int here = bproc_currnode();

    parent = getppid();
    for (size_t i = 0; all && i < n; i++)
        all[i] = i * 0x9e3779b97f4a7c15u;
    if (!all || bproc_move_io(to, NULL, 0) != -1 || errno != ENOMEM || bproc_currnode() != here)
        return errno == ENOMEM ? 98 : errno;
    for (size_t i = 0; i < n; i++)
        if (all[i] != i * 0x9e3779b97f4a7c15u)
            return 97;
    free(all);
    wait_for_signals(true);
}

/* As fork(), but the child is our parent's. */
static void __attribute__((noreturn)) brother(void)
{
    long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);

    if (pid < 0)
        _exit(98);
    wait_for_signals(pid > 0);
}

static int echoes(int n)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getppid(), SIGUSR2);
    return hears(n, true) == n && !twice ? 7 : 99;
}

static int orphan(const char *file)
{
    const struct timespec step = { 0, 20000000 };
    char line[64];
    pid_t first = getppid();
    int limit = LIMIT_MS / 20;

    kill(first, SIGUSR2); /* seen: it may go */
    while (getppid() == first && limit--)
        nanosleep(&step, NULL);
    int n = snprintf(line, sizeof line, "%s %s\n", first == parent ? "right" : "wrong",
                     getppid() == first ? "still" : getppid() == 1 ? "1" : "another");
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return fd < 0 || write(fd, line, (size_t)n) != n;
}

static int leave(int node, const char *file, const char *to)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return start_on(node, "orphan", number(getpid()), file) <= 0 || !came(SIGUSR2) ||
           (to && bproc_move(atoi(to)) < 0);
}

static int say_both(pid_t pid)
{
    int status;

    printf("%d %d\n", (int)getpid(), (int)pid);
    fflush(stdout);
    if (pid <= 0 || waitpid(pid, &status, 0) != pid)
        return 98;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static int hold(int node, const char *to)
{
    signal(SIGUSR2, SIG_IGN); /* that it is ready */
    pid_t pid = start_on(node, "wait", number(getpid()), NULL);

    return to && bproc_move(atoi(to)) < 0 ? 97 : say_both(pid);
}

static int again(int node, const char *to)
{
    signal(SIGUSR2, SIG_IGN);
    pid_t first = start_on(node, "wait", number(getpid()), NULL);

    if (bproc_move(atoi(to)) < 0)
        return 97;
    forks = true;
    int rc = say_both(start_on(node == -2 ? 0 : node, "wait", number(getpid()), NULL));
    kill(first, SIGHUP);
    return reap(first) == 7 << 8 ? rc : 96;
}

static int speaks(const char *to)
{
    int status = 0;
    pid_t pid = fork();

    for (; pid == 0 && to && *to; to = strchr(to, ',') ? strchr(to, ',') + 1 : NULL) {
        if (bproc_move(atoi(to)) < 0)
            _exit(97);
        printf("the child is on %d\n", bproc_currnode());
        fflush(stdout);
    }
    if (pid == 0)
        _exit(7);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 98;
    printf("its parent is on %d\n", bproc_currnode());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static int makes(void)
{
    int status = 0;

    printf("%d\n", (int)getpid());
    fflush(stdout);
    getchar();
    pid_t pid = fork();
    if (pid == 0)
        wait_for_signals(false);
    printf("%d\n", (int)pid);
    fflush(stdout);
    if (waitpid(pid, &status, 0) != pid)
        return 98;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static int sent(int to)
{
    int status = 0;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    pid_t pid = fork();
    if (pid == 0) {
        parent = getppid();
        if (bproc_move_io(to, NULL, 0) < 0 || bproc_currnode() != to)
            _exit(97);
        wait_for_signals(true);
    }
    if (pid < 0 || !came(SIGUSR2))
        return 96;
    printf("%d %d\n", (int)getpid(), (int)pid);
    fflush(stdout);
    if (waitpid(pid, &status, 0) != pid)
        return 98;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

    path[n > 0 ? n : 0] = 0;
    me = path;
    if (argc > 3 && strcmp(what, "under") == 0)
        return under(argv);
    if (argc == 4 && strcmp(what, "family") == 0)
        return family(atoi(argv[2]), atoi(argv[3]));
    forks = argc == 4 && strcmp(what, "forks") == 0;
    if (forks)
        return family(atoi(argv[2]), atoi(argv[3]));
    if (argc > 4 && strcmp(what, "away") == 0)
        return away(atoi(argv[2]), atoi(argv[3]), argv + 4);
    if (argc == 6 && strcmp(what, "stray") == 0)
        return stray(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), argv[5]);
    if (argc == 4 && strcmp(what, "again") == 0)
        return again(atoi(argv[2]), argv[3]);
    forks = strcmp(what, "copies") == 0;
    if (argc > 4 && (forks || strcmp(what, "more") == 0))
        return more(atoi(argv[2]), atoi(argv[3]), argv + 4);
    if (argc > 4 && strcmp(what, "wander") == 0)
        return wander(atoi(argv[2]), atoi(argv[3]), argv + 4);
    if (argc == 4 && strcmp(what, "become") == 0) {
        prepare(atoi(argv[2]), atoi(argv[2]));
        return start_on(atoi(argv[2]), "turn", argv[3], NULL) <= 0 || wait(NULL) < 0;
    }
    if (argc == 3 && strcmp(what, "keep") == 0)
        return keep(atoi(argv[2]));
    if (argc == 5 && strcmp(what, "burden") == 0)
        return burden(atoi(argv[2]), argv[3], argv[4]);
    slowly = strcmp(what, "stroll") == 0;
    if (argc == 4 && (slowly || strcmp(what, "roam") == 0))
        return roam(atoi(argv[2]), argv[3]);
    if (argc > 3 && strcmp(what, "hurry") == 0)
        return hurry(atoi(argv[2]), argv + 3);
    if (argc > 3 && strcmp(what, "halts") == 0)
        return halts(atoi(argv[2]), argv + 3);
    if (argc == 4 && strcmp(what, "kills") == 0)
        return kills(atoi(argv[2]), atoi(argv[3]));
    if (argc == 4 && strcmp(what, "echo") == 0)
        return echo(atoi(argv[2]), atoi(argv[3]));
    if (argc == 3 && strcmp(what, "twin") == 0)
        return twin(atoi(argv[2]));
    if (argc >= 4 && strcmp(what, "leave") == 0)
        return leave(atoi(argv[2]), argv[3], argv[4]);
    if (argc >= 3 && strcmp(what, "hold") == 0)
        return hold(atoi(argv[2]), argv[3]);
    if (argc == 3 && strcmp(what, "says") == 0)
        return speaks(argv[2]);
    if (argc == 2 && strcmp(what, "makes") == 0)
        return makes();
    if (argc == 3 && strcmp(what, "sent") == 0)
        return sent(atoi(argv[2]));
    return child(argc, argv);
}

static int child(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (argc == 4 && strcmp(what, "exit") == 0)
        return getppid() == atoi(argv[3]) ? atoi(argv[2]) : 99;
    if (argc == 3 && strcmp(what, "die") == 0) {
        signal(atoi(argv[2]), SIG_DFL);
        kill(getpid(), atoi(argv[2]));
        return 99;
    }
    if (argc == 3 && strcmp(what, "turn") == 0) {
        usleep(300000); /* it has been seen as what it is */
        execl(me, argv[2], "wait", number(getppid()), NULL);
        return 127;
    }
    if (argc == 4 && strcmp(what, "heavy") == 0)
        return heavy((size_t)atoi(argv[2]), atoi(argv[3]));
    parent = argc > 2 ? atoi(argv[2]) : 0;
    if (argc == 3 && strcmp(what, "wait") == 0)
        wait_for_signals(true);
    if (argc == 4 && strcmp(what, "echoes") == 0)
        return echoes(atoi(argv[3]));
    if (argc == 4 && strcmp(what, "goer") == 0)
        return goer(argv[3]);
    if (argc == 3 && strcmp(what, "brother") == 0)
        brother();
    return argc == 4 && strcmp(what, "orphan") == 0 ? orphan(argv[3]) : 2;
}
