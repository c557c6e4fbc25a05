/* starter.c - the process that makes runners (starter.h) */
#include "services/sched/starter.h"
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/mp.h"
#include "bus/pkt.h"
#include "bus/rundir.h"

char *sched_path(char *buf, const char *name)
{
    snprintf(buf, PATH_MAX, "%.3000s/sched/%.1000s", cm_rundir(), name);
    return buf;
}

char *sched_lock_path(char *buf, uint64_t job, uint32_t attempt)
{
    char name[64];

    snprintf(name, sizeof name, "%llu.%u", (unsigned long long)job, attempt);
    return sched_path(buf, name);
}

/* {job, attempt, error}: no runner could be made. */
static void tell_failure(int sock, const msgpack_object *job, int code)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 3);
    mp_kint(&m, "job", mp_opt_int(job, "job", 0));
    mp_kint(&m, "attempt", mp_opt_int(job, "attempt", 0));
    mp_kint(&m, "error", code);
    pkt_send(sock, m.b.data, m.b.size, NULL, 0, NULL);
}

static void start_one(int sock, const struct pkt *p)
{
    msgpack_unpacked u;

    msgpack_unpacked_init(&u);
    if (mp_decode(&u, p->data, p->len, NULL) == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            close(sock);
            runner_main(&u.data);
        }
        if (pid < 0)
            tell_failure(sock, &u.data, errno);
    }
    msgpack_unpacked_destroy(&u);
}

static void serve(int sock)
{
    struct err err = { 0 };

    prctl(PR_SET_NAME, "bjs-starter");
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    signal(SIGCHLD, SIG_IGN); /* runners report to sched, not to us */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* we end when sched does */
    for (;;) {
        struct pkt p;
        int rc = pkt_recv(sock, &p, &err);
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc <= 0)
            _exit(0);
        start_one(sock, &p);
        pkt_clear(&p);
    }
}

int starter_begin(struct err *err)
{
    char dir[PATH_MAX];
    int ends[2];

    sched_path(dir, "");
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_set(err, errno, "make %s: %s", dir, strerror(errno));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return err_set(err, errno, "socketpair: %s", strerror(errno));
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return err_set(err, errno, "start the starter: %s", strerror(errno));
    if (pid == 0) {
        close(ends[0]);
        serve(ends[1]);
    }
    close(ends[1]);
    return ends[0];
}
