/* main.c - bjssub: submit a job */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "clients/bjssub/bjssub.h"
#include "clients/common/json.h"
#include "clients/common/opt.h"

/* What will go wrong, as far as it can be seen from here. */
static void look_at_output(const struct options *o)
{
    char path[PATH_MAX];
    struct stat st;

    if (o->interactive || !o->output || o->output[0] == '|')
        return;
    int n = o->output[0] == '/' ? snprintf(path, sizeof path, "%s", o->output)
                                : snprintf(path, sizeof path, "%s/%s", job_dir(o), o->output);
    char *slash = n < (int)sizeof path ? strrchr(path, '/') : NULL;
    if (!slash || slash == path)
        return;
    *slash = 0;
    if (stat(path, &st) < 0)
        fprintf(stderr, "bjssub: warning: %s: %s; the job fails unless it is there by then\n",
                path, strerror(errno));
}

static int print(const struct options *o, int64_t job, int64_t count)
{
    if (o->json) {
        if (json_print(json_pack("{s:I, s:I, s:s}", "job", (json_int_t)job, "count",
                                 (json_int_t)count, "pool", o->pool)) < 0)
            return EXIT_FAILURE;
    } else if (o->from >= 0) {
        printf("JOBID=%lld-%lld\n", (long long)job, (long long)(job + count - 1));
    } else {
        printf("JOBID=%lld\n", (long long)job);
    }
    return opt_finish("bjssub");
}

int main(int argc, char **argv)
{
    struct options o;
    struct err err = { 0 };
    int64_t count = 0;
    int status;

    if (options_parse(&o, argc, argv, &status) < 0) {
        options_free(&o);
        return status;
    }
    gate_t *g = gate_open("bjssub", &err);
    int64_t job = g ? submit(g, &o, &count, &err) : -1;
    if (job < 0) {
        fprintf(stderr, "%s%s\n", g ? "Error: " : "Failed to connect to scheduler: ", err.text);
        status = EXIT_FAILURE;
    } else if (o.interactive) {
        status = interactive(g, &o, job);
    } else {
        look_at_output(&o);
        status = print(&o, job, count);
    }
    gate_close(&g);
    options_free(&o);
    return status;
}
