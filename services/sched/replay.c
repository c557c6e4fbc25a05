/* replay.c - sched --replay and --generate */
#include "services/sched/replay.h"
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "services/sched/life.h"

static int read_trace(const struct replay_options *o, struct swf *t, struct err *err)
{
    bool in = strcmp(o->trace, "-") == 0;
    FILE *f = in ? stdin : fopen(o->trace, "re");

    if (!f)
        return err_set(err, errno, "%s: %s", o->trace, strerror(errno));
    int rc = swf_read(f, in ? "standard input" : o->trace, t, err);
    if (!in)
        fclose(f);
    return rc;
}

static int one_policy(const struct replay_options *o, const struct swf *t, const char *name,
                      struct replay_figures *f, struct err *err)
{
    struct pool *p = pool_create("replay", err);
    uint32_t nodes = o->nodes ? (uint32_t)o->nodes : t->nodes;
    int rc = p ? policy_load(p, name, o->path, err) : -1;

    for (uint32_t i = 0; rc == 0 && i < nodes; i++)
        if ((rc = pool_add_node(p, (int)i, err)) == 0)
            node_usable(p->node[i], true, 1, 1024);
    if (rc == 0 && replay_run(p, t, f, NULL, NULL) < 0)
        rc = err_set(err, ENOMEM, "out of memory");
    pool_free(&p);
    return rc;
}

static json_t *as_json(const char *name, const struct replay_figures *f)
{
    return json_pack("{s:s, s:I, s:f, s:f, s:f, s:f, s:I, s:I}", "policy", name, "jobs",
                     (json_int_t)f->jobs, "wait_s", f->wait_s, "wait_max_s", f->wait_max_s,
                     "slowdown", f->slowdown, "utilisation", f->utilisation, "makespan_s",
                     (json_int_t)f->makespan_s, "never", (json_int_t)f->never);
}

static void print_row(const char *name, const struct replay_figures *f)
{
    printf("%-12s %8zu %12.1f %12.0f %10.2f %12.1f%% %12lld\n", name, f->jobs, f->wait_s,
           f->wait_max_s, f->slowdown, f->utilisation * 100, (long long)f->makespan_s);
}

int replay(const struct replay_options *o)
{
    CLEANUP(swf_free) struct swf t = { 0 };
    struct err err = { 0 };
    json_t *rows = o->json ? json_array() : NULL;
    char *list = strdup(o->policies), *save = NULL;
    int rc = read_trace(o, &t, &err);

    if (rc == 0 && t.odd)
        fprintf(stderr, "sched: %zu jobs of the trace are left out: they never ran\n", t.odd);
    if (rc == 0 && !o->json)
        printf("%-12s %8s %12s %12s %10s %13s %12s\n", "POLICY", "JOBS", "WAIT(s)", "MAX WAIT",
               "SLOWDOWN", "UTILISATION", "MAKESPAN");
    for (char *name = list ? strtok_r(list, ",", &save) : NULL; rc == 0 && name;
         name = strtok_r(NULL, ",", &save)) {
        struct replay_figures f;
        rc = one_policy(o, &t, name, &f, &err);
        if (rc == 0 && rows)
            json_array_append_new(rows, as_json(name, &f));
        else if (rc == 0)
            print_row(name, &f);
        if (rc == 0 && f.never && !rows)
            fprintf(stderr, "sched: %zu jobs are larger than the machine\n", f.never);
    }
    if (rc == 0 && rows) {
        json_dumpf(rows, stdout, isatty(1) ? JSON_INDENT(2) : JSON_COMPACT);
        putchar('\n');
    }
    json_decref(rows);
    free(list);
    if (rc < 0)
        fprintf(stderr, "sched: %s\n", err.text);
    return rc < 0 || fflush(stdout) != 0;
}

int replay_generate(int jobs, int nodes, unsigned seed)
{
    CLEANUP(swf_free) struct swf t = { 0 };

    if (swf_make(&t, (size_t)jobs, (uint32_t)nodes, seed) < 0) {
        fputs("sched: out of memory\n", stderr);
        return 1;
    }
    swf_write(stdout, &t);
    return fflush(stdout) != 0;
}
