/* starter.c - bjsrun, the process that makes runners (starter.h)
 *
 * A program of its own, small and static: forking sched, with all that it holds
 * and its two dozen libraries, would cost more than most jobs.
 */
#include "services/sched/starter.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "bus/mp.h"
#include "bus/pkt.h"
#include "bus/rundir.h"

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

static void start_one(int sock, const char *gate, const struct pkt *p)
{
    msgpack_unpacked u;

    msgpack_unpacked_init(&u);
    if (mp_decode(&u, p->data, p->len, NULL) == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            close(sock);
            runner_main(&u.data, gate);
        }
        if (pid < 0)
            tell_failure(sock, &u.data, errno);
    }
    msgpack_unpacked_destroy(&u);
}

__attribute__((noreturn))
static void serve(int sock, const char *gate)
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
            exit(0);
        start_one(sock, gate, &p);
        pkt_clear(&p);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("bjsrun " CM_VERSION);
        return 0;
    }
    if (argc != 3 || argv[1][0] < '0' || argv[1][0] > '9') {
        bool help = argc == 2 && strcmp(argv[1], "--help") == 0;
        fputs("usage: bjsrun FD GATE\nsched starts it, with its end of a socket: see sched(8)\n",
              help ? stdout : stderr);
        return help ? 0 : 2;
    }
    int sock = atoi(argv[1]);
    if (sock > 3) /* what sched has from its supervisor is nothing for jobs */
        close_range(3, (unsigned)sock - 1, 0);
    close_range((unsigned)sock + 1, ~0U, 0);
    fcntl(sock, F_SETFD, FD_CLOEXEC);
    serve(sock, argv[2]);
}
