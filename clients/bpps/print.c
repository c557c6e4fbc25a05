/* print.c - the table of processes, and the same as JSON */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clients/bpps/bpps.h"
#include "clients/common/json.h"
#include "clients/common/table.h"
#include "clients/common/users.h"

/* Processor time as top has it: 0:03.25, 12:00.01, 100:00:00. */
static void time_text(char out[32], int64_t us)
{
    int64_t cs = us / 10000, s = cs / 100;

    if (s < 6000 * 60)
        snprintf(out, 32, "%" PRId64 ":%02d.%02d", s / 60, (int)(s % 60), (int)(cs % 100));
    else
        snprintf(out, 32, "%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60),
                 (int)(s % 60));
}

void print_table(const struct procs *p, const struct options *o)
{
    bool cut = !o->wide && isatty(STDOUT_FILENO);
    int width = table_width();

    printf("%4s %7s %-8s %-5s %11s %9s %s\n", "NODE", "PID", "USER", "STATE", "TIME", "RSS",
           "COMMAND");
    for (size_t i = 0; i < p->n; i++) {
        const struct proc *at = &p->v[i];
        int indent = o->tree ? 2 * at->depth : 0;
        char time[32];

        time_text(time, at->cpu_us);
        int used = printf("%4" PRId64 " %7" PRId64 " %-8s %-5c %11s %9" PRId64 " ", at->node,
                          at->pid, users_name(at->uid), at->state, time, at->rss_kb);
        if (cut && indent > width - used)
            indent = width > used ? width - used : 0;
        printf("%*s", indent, "");
        used += indent;
        if (!cut)
            table_text(stdout, at->command, strlen(at->command), 0);
        else if (used < width)
            table_text(stdout, at->command, strlen(at->command), (size_t)(width - used));
        putchar('\n');
    }
}

/* Arguments as a list: a blank in one of them stays what it is. */
static json_t *json_args(const msgpack_object *map)
{
    json_t *out = json_array();
    const char *args;
    size_t len;

    if (mp_get_bytes(map, "args", &args, &len, NULL) < 0)
        return out;
    for (size_t at = 0; at < len;) {
        const char *end = memchr(args + at, '\0', len - at);
        size_t n = end ? (size_t)(end - (args + at)) : len - at;

        json_array_append_new(out, json_text(args + at, n));
        at += n + 1;
    }
    return out;
}

static json_t *json_proc(const struct proc *p)
{
    json_t *o = json_of(p->map);

    json_object_set_new(o, "args", json_args(p->map));
    json_object_set_new(o, "user",
                        json_text(users_name(p->uid), strlen(users_name(p->uid))));
    return o;
}

int print_json(const struct procs *p, struct err *err)
{
    json_t *list = json_array(), *missing = json_array();

    for (size_t i = 0; i < p->n; i++)
        json_array_append_new(list, json_proc(&p->v[i]));
    for (size_t i = 0; i < p->missings; i++)
        json_array_append_new(missing,
                              json_pack("{s:I,s:o}", "node",
                                        (json_int_t)p->missing[i].node, "why",
                                        json_text(p->missing[i].why,
                                                  strlen(p->missing[i].why))));
    if (json_print(json_pack("{s:o,s:o}", "procs", list, "missing", missing)) < 0)
        return err_set(err, EIO, "the list could not be written");
    return 0;
}
