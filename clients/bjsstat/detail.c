/* detail.c - all about one job, and why it waits */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clients/bjsstat/bjsstat.h"
#include "clients/common/json.h"
#include "clients/common/opt.h"
#include "clients/common/table.h"
#include "clients/common/users.h"

void print_text(const msgpack_object *o, int width)
{
    CLEANUP(cleanup_free) char *text = o ? mp_dup(o) : NULL;

    if (text)
        table_text(stdout, text, strlen(text), (size_t)width);
}

static void line(const char *what, const msgpack_object *job, const char *key)
{
    const msgpack_object *o = mp_get(job, key);

    if (!o || o->type == MSGPACK_OBJECT_NIL || (o->via.bin.size == 0 &&
        (o->type == MSGPACK_OBJECT_BIN || o->type == MSGPACK_OBJECT_STR)))
        return;
    printf("%-13s ", what);
    print_text(o, 0);
    putchar('\n');
}

static void when(const char *what, const msgpack_object *job, const char *key)
{
    char text[32];
    int64_t ms = mp_opt_int(job, key, 0);

    if (ms <= 0)
        return;
    table_time(text, ms);
    printf("%-13s %s\n", what, text);
}

static void used(const char *where, const msgpack_object *job, const char *utime,
                 const char *stime, const char *maxrss)
{
    printf("%-13s user %.2f s, system %.2f s, memory %lld kB\n", where,
           (double)mp_opt_int(job, utime, 0) / 1e6, (double)mp_opt_int(job, stime, 0) / 1e6,
           (long long)mp_opt_int(job, maxrss, 0));
}

static void print_job(const msgpack_object *job)
{
    CLEANUP(cleanup_free) char *reqs = requirements_of(job);
    int64_t v;

    printf("%-13s %lld\n", "Job", (long long)mp_opt_int(job, "id", 0));
    line("Name", job, "name");
    line("State", job, "state");
    line("Pool", job, "pool");
    printf("%-13s %s\n", "User", users_name(mp_opt_int(job, "uid", 0)));
    printf("%-13s %s\n", "Group", users_group(mp_opt_int(job, "gid", 0)));
    line("Command", job, "command");
    line("Directory", job, "dir");
    line("Output", job, "output");
    printf("%-13s ", "Requirements");
    table_text(stdout, reqs ? reqs : "", reqs ? strlen(reqs) : 0, 0);
    putchar('\n');
    line("Nodes", job, "node_list");
    when("Submitted", job, "submitted");
    when("Started", job, "started");
    when("Ended", job, "ended");
    if (mp_as_int(mp_get(job, "exit"), &v))
        printf("%-13s %lld\n", "Exit status", (long long)v);
    if (mp_as_int(mp_get(job, "signal"), &v))
        printf("%-13s %lld\n", "Died of signal", (long long)v);
    line("Reason", job, "reason");
    if (mp_opt_int(job, "attempt", 0) > 1)
        printf("%-13s %lld\n", "Attempts", (long long)mp_opt_int(job, "attempt", 0));
    if (!mp_is(mp_get(job, "state"), "done"))
        return;
    used("Used on master", job, "utime_us", "stime_us", "maxrss_kb");
    used("Used on nodes", job, "node_utime_us", "node_stime_us", "node_maxrss_kb");
    bool mem = mp_opt_bool(job, "mem_not_limited", false);
    bool cpus = mp_opt_bool(job, "cpus_not_limited", false);
    if (mem || cpus)
        printf("%-13s %s%s%s: a node has no control groups for that\n", "Not limited",
               mem ? "memory" : "", mem && cpus ? ", " : "", cpus ? "processors" : "");
}

static void print_why(const msgpack_object *value, int64_t id, bool many)
{
    const msgpack_object_array *lines;

    if (many)
        printf("Job %lld:\n", (long long)id);
    if (mp_get_array(value, "lines", &lines, NULL) < 0)
        return;
    for (uint32_t i = 0; i < lines->size; i++) {
        print_text(&lines->ptr[i], 0);
        putchar('\n');
    }
}

static int each(gate_t *g, const struct options *o, const char *topic, char **ids, int n)
{
    bool why = strcmp(topic, "sched.why") == 0;
    int rc = EXIT_SUCCESS;

    for (int i = 0; i < n; i++) {
        CLEANUP(mp_free) mp_buf m;
        CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
        struct err err = { 0 };
        int64_t id;

        mp_init(&m);
        msgpack_unpacked_init(&reply);
        if (!opt_number(ids[i], 10, 1, INT64_MAX, &id)) {
            fprintf(stderr, "bjsstat: %s: want a job's number\n", ids[i]);
            return OPT_EXIT_USAGE;
        }
        mp_map(&m, 1);
        mp_kint(&m, "job", id);
        if (gate_call(g, topic, &m, ASK_MS, &reply, &err) < 0) {
            fprintf(stderr, "bjsstat: %s\n", err.text);
            rc = EXIT_FAILURE;
            continue;
        }
        if (o->json) {
            if (json_print(json_of(&reply.data)) < 0)
                return EXIT_FAILURE;
            continue;
        }
        if (i)
            putchar('\n');
        if (why)
            print_why(&reply.data, id, n > 1);
        else
            print_job(&reply.data);
    }
    return rc;
}

int detail_show(gate_t *g, const struct options *o, char **ids, int n)
{
    return each(g, o, "sched.job", ids, n);
}

int why_show(gate_t *g, const struct options *o, char **ids, int n)
{
    return each(g, o, "sched.why", ids, n);
}
