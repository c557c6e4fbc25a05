/* ghost.c - bpghost against a gate of ours: pids, names, signals, deaths */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/loop.h"
#include "bus/pkt.h"
#include "bus/wire.h"
#include "tests/unit/tap.h"

#define DOORBELL 64
enum { OP_EXIT = 1, OP_DIE = 2, OP_STOP = 3 };

static char program[PATH_MAX], gate_path[PATH_MAX];
static int gate = -1;

struct asked { /* one request that a ghost made */
    int sock;
    struct wire w;
    struct ucred who;
    int64_t sig, value, from_pid, from_uid;
};

static pid_t start_ghosts(int n, int32_t *pids)
{
    char env[PATH_MAX + 64];
    char name[] = "/opt/bin/solver", arg[] = "--steps=9";
    char *argv[] = { name, arg, NULL }, *envp[] = { env, NULL };
    int p[2];

    if (pipe(p) < 0)
        return -1;
    snprintf(env, sizeof env, "CM_GHOST=%d:%d:%s", n, p[1], gate_path);
    pid_t pid = vfork();
    if (pid == 0) {
        execve(program, argv, envp);
        _exit(127);
    }
    close(p[1]);
    size_t got = 0;
    while (got < (size_t)n * 4) {
        ssize_t r = read(p[0], (char *)pids + got, (size_t)n * 4 - got);
        if (r <= 0)
            break;
        got += (size_t)r;
    }
    close(p[0]);
    return got == (size_t)n * 4 ? pid : -1;
}

static void ring(pid_t pid, int op, unsigned arg)
{
    union sigval v = { .sival_ptr = (void *)((uint64_t)op << 32 | arg) };
    sigqueue(pid, DOORBELL, v);
}

/* Wait for a ghost's next request; false if none within ms. */
static bool next_request(int ms, struct asked *a)
{
    struct pollfd pfd = { gate, POLLIN, 0 };
    struct pkt pkt;
    socklen_t len = sizeof a->who;
    size_t used = 0;

    memset(a, 0, sizeof *a);
    if (poll(&pfd, 1, ms) != 1 || (a->sock = accept(gate, NULL, NULL)) < 0)
        return false;
    getsockopt(a->sock, SOL_SOCKET, SO_PEERCRED, &a->who, &len);
    if (pkt_recv(a->sock, &pkt, NULL) != 1)
        return false;
    msgpack_unpacked u;
    msgpack_unpacked_init(&u);
    bool good = wire_unpack(&a->w, pkt.data, pkt.len, &used, NULL) == 0 &&
                mp_decode(&u, pkt.data + used, pkt.len - used, NULL) == 0 &&
                mp_get_int(&u.data, "sig", 1, 64, &a->sig, NULL) == 0;
    if (good)
        a->value = mp_opt_int(&u.data, "value", -1);
    a->from_pid = mp_opt_int(&u.data, "from_pid", -1);
    a->from_uid = mp_opt_int(&u.data, "from_uid", -1);
    msgpack_unpacked_destroy(&u);
    pkt_clear(&pkt);
    return good;
}

static void answer(struct asked *a, int code)
{
    CLEANUP(mp_free) mp_buf m;
    struct wire w = a->w;

    mp_init(&m);
    w.kind = code ? WIRE_ERROR : WIRE_REPLY;
    wire_pack(&m, &w);
    if (code) {
        mp_array(&m, 2);
        mp_int(&m, code);
        mp_str(&m, "procspace is not running");
    } else {
        mp_nil(&m);
    }
    pkt_send(a->sock, m.b.data, m.b.size, NULL, 0, NULL);
    close(a->sock);
}

static void read_proc(pid_t pid, const char *what, char *buf, size_t size)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(buf, 1, size - 1, f) : 0;
    buf[n] = 0;
    if (f)
        fclose(f);
}

static void looks_like_the_program(pid_t pid)
{
    char buf[4096];

    read_proc(pid, "cmdline", buf, sizeof buf);
    is(buf, "/opt/bin/solver", "ps shows the program's own name");
    is(buf + strlen(buf) + 1, "--steps=9", "and its arguments");
    read_proc(pid, "comm", buf, sizeof buf);
    is(buf, "solver\n", "comm is the program's base name");
}

static void passes_signals_up(pid_t pid)
{
    struct asked a;

    kill(pid, SIGTERM);
    ok(next_request(2000, &a) && strcmp(a.w.topic, "procspace.signal") == 0 &&
           a.sig == SIGTERM && a.who.pid == pid,
       "SIGTERM to a ghost becomes procspace.signal from its own pid");
    ok(a.from_pid == getpid() && a.from_uid == (int64_t)getuid(), "with who has sent it");
    answer(&a, 0);
    union sigval v = { .sival_int = 4711 };
    sigqueue(pid, SIGUSR1, v);
    ok(next_request(2000, &a) && a.sig == SIGUSR1 && a.value == 4711,
       "a queued signal keeps its value");
    answer(&a, ESRCH);
    ok(!next_request(300, &a), "a definite error is not asked again");
    kill(pid, SIGCHLD);
    ok(!next_request(200, &a), "SIGCHLD is nobody's business");
}

static void repeats_until_answered(pid_t pid)
{
    struct asked a, b;

    kill(pid, SIGHUP);
    next_request(2000, &a);
    answer(&a, ECONNREFUSED);
    kill(pid, SIGUSR2);
    bool again = next_request(3000, &b);
    ok(again && b.sig == SIGHUP && b.w.id == a.w.id,
       "with the service away it asks again under the same id");
    close(b.sock); /* the gate itself died: no answer at all */
    ok(next_request(3000, &b) && b.sig == SIGHUP && b.w.id == a.w.id,
       "and again when the gate hangs up");
    answer(&b, 0);
    ok(next_request(3000, &b) && b.sig == SIGUSR2 && b.w.id != a.w.id,
       "a signal that came meanwhile follows, under its own id");
    answer(&b, 0);
}

static void stops_and_goes_on(pid_t pid)
{
    struct asked a;
    int st = 0;

    ring(pid, OP_STOP, SIGTSTP);
    ok(waitpid(pid, &st, WUNTRACED) == pid && WIFSTOPPED(st) && WSTOPSIG(st) == SIGTSTP,
       "told to stop by SIGTSTP, the parent's wait sees just that");
    kill(pid, SIGCONT);
    ok(waitpid(pid, &st, WCONTINUED) == pid && WIFCONTINUED(st),
       "SIGCONT is seen by the parent");
    ok(next_request(2000, &a) && a.sig == SIGCONT, "and goes up");
    answer(&a, 0);
    kill(pid, SIGSTOP);
    waitpid(pid, &st, WUNTRACED);
    ring(pid, OP_STOP, SIGSTOP);
    kill(pid, SIGCONT);
    waitpid(pid, &st, WCONTINUED);
    ok(next_request(2000, &a) && a.sig == SIGCONT,
       "a stop asked for before SIGCONT does not stop it afterwards");
    answer(&a, 0);
    ok(waitpid(pid, &st, WUNTRACED | WNOHANG) == 0, "it runs");
}

static bool ends(pid_t pid, int op, unsigned arg, int want)
{
    int st = -1;

    ring(pid, op, arg);
    return waitpid(pid, &st, 0) == pid && (st & ~0x80) == want;
}

static void dies_the_same_death(int32_t *pids)
{
    ok(ends(pids[0], OP_EXIT, 7, 7 << 8), "the first ghost exits with status 7");
    ok(kill(pids[1], 0) == 0, "the others live on");
    ok(ends(pids[1], OP_EXIT, 0, 0), "one exits with status 0");
    ok(ends(pids[2], OP_DIE, SIGTERM, SIGTERM), "one dies by SIGTERM");
    ok(ends(pids[3], OP_DIE, SIGSEGV, SIGSEGV), "one dies by SIGSEGV");
    ok(ends(pids[4], OP_DIE, SIGKILL, SIGKILL), "one dies by SIGKILL");
    ok(ends(pids[5], OP_DIE, 35, 35), "one dies by a real-time signal");
    char buf[4096];
    read_proc(pids[6], "cmdline", buf, sizeof buf);
    is(buf, "/opt/bin/solver", "the last one still shows the program's name");
    ok(ends(pids[6], OP_DIE, SIGABRT | 0x80, SIGABRT),
       "a core flag changes nothing in the signal");
}

static long kilobytes(pid_t pid, const char *file, const char *key)
{
    char buf[8192];

    read_proc(pid, file, buf, sizeof buf);
    const char *at = strstr(buf, key);
    return at ? strtol(at + strlen(key), NULL, 10) : -1;
}

static void many_are_cheap(void)
{
    enum { MANY = 200 };
    int32_t pids[MANY];
    bool good = true;
    int64_t t = now_ms();

    ok(start_ghosts(MANY, pids) > 0, "200 ghosts start by one exec");
    printf("# in %lld ms\n", (long long)(now_ms() - t));
    for (int i = 0; i < MANY; i++)
        good = good && getpgid(pids[i]) == getpgrp() && getsid(pids[i]) == getsid(0);
    ok(good, "all in the caller's group and session");
    long pss = kilobytes(pids[0], "smaps_rollup", "Pss:");
    long rss = kilobytes(pids[0], "status", "VmRSS:");
    ok(rss > 0 && rss < 4 * MANY + 200, "they share one memory of %ld kB (Pss %ld)", rss, pss);
    for (int i = 0; i < MANY; i++)
        ring(pids[i], OP_EXIT, (unsigned)i & 0xff);
    for (int i = 0; i < MANY; i++) {
        int st = -1;
        good = good && waitpid(pids[i], &st, 0) == pids[i] &&
               st == (i & 0xff) << 8;
    }
    ok(good, "all 200 exit with their own statuses");
}

static void holds_nothing(pid_t pid)
{
    char cmd[128];

    snprintf(cmd, sizeof cmd, "test -z \"$(ls /proc/%d/fd)\"", (int)pid);
    ok(system(cmd) == 0, "no descriptor is held");
}

/* Terminal stops do nothing in an orphaned group: run in a group whose leader
 * has its parent in the same session. */
static void own_group(void)
{
    pid_t child = fork();
    int st = 0;

    if (child == 0) {
        setpgid(0, 0);
        return;
    }
    waitpid(child, &st, 0);
    exit(WIFEXITED(st) ? WEXITSTATUS(st) : 1);
}

int main(void)
{
    int32_t pids[7];
    char self[PATH_MAX];
    char dir[] = "/tmp/ghost-XXXXXX";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    own_group();
    if (n < 0 || !mkdtemp(dir))
        return 1;
    self[n] = 0;
    for (int up = 0; up < 3; up++)
        *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%.4000s/libexec/clustermatic/bpghost", self);
    snprintf(gate_path, sizeof gate_path, "%s/gate", dir);
    gate = pkt_listen(gate_path, 0666, NULL);
    if (!ok(gate >= 0 && start_ghosts(7, pids) == pids[0],
            "seven ghosts tell their pids, the first one's first"))
        return 1;
    for (int i = 0; i < 7; i++)
        if (kill(pids[i], 0) < 0)
            ok(false, "ghost %d is not there", i);
    looks_like_the_program(pids[0]);
    looks_like_the_program(pids[3]);
    holds_nothing(pids[0]);
    holds_nothing(pids[6]);
    passes_signals_up(pids[0]);
    passes_signals_up(pids[2]);
    repeats_until_answered(pids[4]);
    stops_and_goes_on(pids[1]);
    dies_the_same_death(pids);
    many_are_cheap();
    unlink(gate_path);
    rmdir(dir);
    return done_testing();
}
