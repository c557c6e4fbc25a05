/* why.c - bpps --why: what has become of processes, and why */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "clients/bpps/bpps.h"
#include "clients/common/json.h"
#include "clients/common/table.h"
#include "clients/common/users.h"

#define KID (-1) /* rank of what another process on the node has made */

struct past {
    int64_t pid, node, rank, started, ended, status, utime, stime, rss, sig, uid, from;
    char *name, *cause, *who, *text;
};

static void past_free(struct past *p)
{
    free(p->name);
    free(p->cause);
    free(p->who);
    free(p->text);
}

static int past_decode(struct past *p, const msgpack_object *map, struct err *err)
{
    if (mp_get_int(map, "pid", 0, INT32_MAX, &p->pid, err) < 0 ||
        mp_get_int(map, "node", -1, INT32_MAX, &p->node, err) < 0 ||
        mp_get_int(map, "started", 0, INT64_MAX, &p->started, err) < 0)
        return err_prefix(err, "procspace.why");
    p->rank = mp_opt_int(map, "rank", KID);
    p->ended = mp_opt_int(map, "ended", 0);
    p->status = mp_opt_int(map, "status", 0);
    p->utime = mp_opt_int(map, "utime_us", 0);
    p->stime = mp_opt_int(map, "stime_us", 0);
    p->rss = mp_opt_int(map, "maxrss_kb", 0);
    p->sig = mp_opt_int(map, "sig", 0);
    p->uid = mp_opt_int(map, "from_uid", -1);
    p->from = mp_opt_int(map, "from_pid", 0);
    p->name = mp_opt_dup(map, "name");
    p->cause = mp_opt_dup(map, "cause");
    p->who = mp_opt_dup(map, "from");
    p->text = mp_opt_dup(map, "text");
    return 0;
}

static bool is(const char *a, const char *b) { return a && strcmp(a, b) == 0; }
static void put(const char *s) { table_text(stdout, s, strlen(s), 0); }

static void put_signal(int64_t sig)
{
    const char *name = sig > 0 && sig < SIGRTMIN ? sigabbrev_np((int)sig) : NULL;

    if (name)
        printf("SIG%s", name);
    else if (sig >= SIGRTMIN && sig <= SIGRTMAX)
        printf("SIGRTMIN+%d", (int)sig - SIGRTMIN);
    else
        printf("signal %" PRId64, sig);
}

/* "process 812 (bash) of alice" */
static void put_sender(const struct past *p)
{
    if (p->from <= 0) {
        fputs("the kernel: a terminal, say", stdout);
        return;
    }
    printf("process %" PRId64, p->from);
    if (p->who && *p->who) {
        fputs(" (", stdout);
        put(p->who);
        putchar(')');
    }
    if (p->uid >= 0)
        printf(" of %s", users_name(p->uid));
    fputs(" on the master", stdout);
}

/* What the kernel sends for a fault of the program's own. */
static bool is_fault(int sig)
{
    return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL ||
           sig == SIGTRAP || sig == SIGSYS || sig == SIGABRT || sig == SIGPIPE ||
           sig == SIGXCPU || sig == SIGXFSZ || sig == SIGALRM;
}

static void put_death(const struct past *p, int sig, bool core)
{
    if (is(p->cause, "node")) {
        fputs("killed: its node was lost", stdout);
        if (p->text && *p->text) {
            fputs(" (", stdout);
            put(p->text);
            putchar(')');
        }
        return;
    }
    if (is(p->cause, "memory")) {
        fputs("killed by the kernel: out of memory", stdout);
        return;
    }
    fputs("killed by ", stdout);
    put_signal(sig);
    if (core)
        fputs(", core dumped", stdout);
    bool sent = p->sig == sig;
    if (sent && is(p->cause, "ghost")) {
        fputs(", sent to its ghost on the master", stdout);
    } else if (sent && is(p->cause, "launch")) {
        fputs(", sent to all of its launch by ", stdout);
        put_sender(p);
    } else if (sent && is(p->cause, "signal")) {
        fputs(", sent by ", stdout);
        put_sender(p);
    } else if (is_fault(sig)) {
        fputs(", of its own doing", stdout);
    } else {
        printf(", sent on node %" PRId64, p->node);
    }
}

static void put_end(const struct past *p)
{
    int status = (int)p->status;
    /* Of what a shell has made the status is its shell's to know. */
    bool unseen = p->rank == KID && status == 0;

    if (unseen && p->sig == SIGKILL)
        status = SIGKILL;
    if (is(p->cause, "start")) {
        fputs("was never started: ", stdout);
        put(p->text ? p->text : "");
    } else if (WIFSIGNALED(status)) {
        put_death(p, WTERMSIG(status), WCOREDUMP(status));
    } else {
        if (unseen)
            fputs("has ended", stdout);
        else
            printf("has ended with status %d", WEXITSTATUS(status));
        if (p->sig > 0 && is(p->cause, "signal")) {
            fputs(", after a ", stdout);
            put_signal(p->sig);
            fputs(" from ", stdout);
            put_sender(p);
        }
    }
}

static void put_time(int64_t ms)
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    char text[64];

    if (!localtime_r(&t, &tm) || !strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm))
        text[0] = 0;
    fputs(text, stdout);
}

static void print_past(const struct past *p)
{
    printf("%" PRId64 " (", p->pid);
    put(p->name ? p->name : "");
    if (p->node < 0)
        fputs(") on the master: ", stdout);
    else
        printf(") on node %" PRId64 ": ", p->node);
    if (p->node < 0 && p->ended && p->rank != KID && p->status == 0) { /* it has moved here */
        fputs("a process of its own since ", stdout);
        put_time(p->ended);
        putchar('\n');
        return;
    }
    if (!p->ended) {
        fputs("runs since ", stdout);
        put_time(p->started);
        if (p->text && *p->text) {
            fputs("; ", stdout);
            put(p->text);
        }
        putchar('\n');
        return;
    }
    put_end(p);
    fputs(", at ", stdout);
    put_time(p->ended);
    if (!is(p->cause, "start"))
        printf("; it ran %.3f s", (double)(p->ended - p->started) / 1000);
    if (p->utime + p->stime > 0 || p->rss > 0)
        printf(", with %.3f s of processor time and %" PRId64 " KiB",
               (double)(p->utime + p->stime) / 1e6, p->rss);
    putchar('\n');
}

static int not_known(int64_t pid, const msgpack_object *reply)
{
    int64_t since = mp_opt_int(reply, "since", 0), kept = mp_opt_int(reply, "kept", 0);

    fflush(stdout);
    fprintf(stderr, "bpps: %" PRId64 ": no process of that number is known; the last %" PRId64
                    " that ended are, since ", pid, kept);
    time_t t = (time_t)(since / 1000);
    struct tm tm;
    char text[64];
    if (!localtime_r(&t, &tm) || !strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm))
        text[0] = 0;
    fprintf(stderr, "%s\n", text);
    return 1;
}

/* 0, 1: not known (said so), or -1 */
static int why_one(gate_t *g, int64_t pid, json_t *list, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *procs;

    mp_init(&body);
    msgpack_unpacked_init(&reply);
    mp_map(&body, 1);
    mp_kint(&body, "pid", pid);
    if (gate_call(g, "procspace.why", &body, BPPS_TIMEOUT_MS, &reply, err) < 0 ||
        mp_get_array(&reply.data, "procs", &procs, err) < 0)
        return -1;
    for (uint32_t i = 0; i < procs->size; i++) {
        CLEANUP(past_free) struct past p = { 0 };

        if (past_decode(&p, &procs->ptr[i], err) < 0)
            return -1;
        if (list)
            json_array_append_new(list, json_of(&procs->ptr[i]));
        else
            print_past(&p);
    }
    return procs->size ? 0 : not_known(pid, &reply.data);
}

int why(gate_t *g, const struct options *o, struct err *err)
{
    json_t *list = o->json ? json_array() : NULL;
    int status = EXIT_SUCCESS;

    for (size_t i = 0; i < o->pids; i++) {
        struct err no = { 0 };
        int rc = why_one(g, o->pid[i], list, &no);

        if (rc < 0) {
            fflush(stdout);
            fprintf(stderr, "bpps: %s\n", no.text);
        }
        if (rc != 0)
            status = EXIT_FAILURE;
    }
    if (list && json_print(list) < 0)
        return err_set(err, EIO, "the list could not be written");
    return status;
}
