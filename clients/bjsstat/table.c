/* table.c - bjsstat's tables, in the original's layout */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/bjsstat/bjsstat.h"
#include "clients/common/json.h"
#include "clients/common/table.h"
#include "clients/common/users.h"

char *command_of(const msgpack_object *job)
{
    if (mp_opt_bool(job, "interactive", false))
        return strdup("(interactive)");
    char *command = mp_opt_dup(job, "command");
    if (command && mp_opt_bool(job, "script", false)) {
        free(command);
        return strdup("(script)");
    }
    return command ? command : strdup("");
}

char *requirements_of(const msgpack_object *job)
{
    CLEANUP(cleanup_free) char *reqs = mp_opt_dup(job, "reqs");
    CLEANUP(cleanup_free) char *name = mp_opt_dup(job, "name");
    const msgpack_object_array *after;
    int64_t cpus = mp_opt_int(job, "cpus", 0), mem = mp_opt_int(job, "mem_mb", 0);
    int64_t priority = mp_opt_int(job, "priority", 0), index = mp_opt_int(job, "index", -1);
    char *out = NULL;
    size_t len;
    FILE *f = open_memstream(&out, &len);

    if (!f)
        return NULL;
    fprintf(f, "%snodes=%lld secs=%lld ", reqs ? reqs : "",
            (long long)mp_opt_int(job, "nodes", 0), (long long)mp_opt_int(job, "secs", 0));
    if (cpus)
        fprintf(f, "cpus=%lld ", (long long)cpus);
    if (mem)
        fprintf(f, "mem=%lldM ", (long long)mem);
    if (priority)
        fprintf(f, "priority=%lld ", (long long)priority);
    if (index >= 0)
        fprintf(f, "index=%lld ", (long long)index);
    if (mp_get_array(job, "after", &after, NULL) == 0)
        for (uint32_t i = 0; i < after->size; i++) {
            const msgpack_object *row = &after->ptr[i];
            int64_t id;
            if (row->type == MSGPACK_OBJECT_ARRAY && row->via.array.size == 2 &&
                mp_as_int(&row->via.array.ptr[0], &id))
                fprintf(f, "after=%lld ", (long long)id);
        }
    if (mp_is(mp_get(job, "state"), "held"))
        fputs("held ", f);
    if (name && *name)
        fprintf(f, "name=%s ", name);
    fclose(f);
    return out;
}

/* Padded to the width, which is cut at. */
static void cell(const char *text, int width)
{
    char *out = NULL;
    size_t len;
    FILE *f = open_memstream(&out, &len);
    int columns = 0;

    if (!f)
        return;
    table_text(f, text, strlen(text), (size_t)width);
    fclose(f);
    for (const char *p = out; *p; p++)
        columns += ((unsigned char)*p & 0xc0) != 0x80;
    printf("%s%*s", out, columns < width ? width - columns : 0, "");
    free(out);
}

static int text_width(void)
{
    return isatty(1) ? (table_width() > 60 ? (table_width() - 20) / 2 : 20) : 30;
}

static void print_job(const msgpack_object *job, int width)
{
    CLEANUP(cleanup_free) char *command = command_of(job);
    CLEANUP(cleanup_free) char *reqs = requirements_of(job);
    const msgpack_object *state = mp_get(job, "state");
    bool runs = mp_is(state, "running") || mp_is(state, "ending") || mp_is(state, "starting");

    printf("%5lld %c ", (long long)mp_opt_int(job, "id", 0), runs ? 'R' : ' ');
    cell(users_name(mp_opt_int(job, "uid", 0)), 8);
    putchar(' ');
    cell(command ? command : "", width);
    putchar(' ');
    cell(reqs ? reqs : "", width);
    putchar('\n');
}

static void print_pool(const msgpack_object *pool, const msgpack_object_array *jobs)
{
    CLEANUP(cleanup_free) char *name = mp_opt_dup(pool, "name");
    CLEANUP(cleanup_free) char *aside = mp_opt_dup(pool, "aside");
    int width = text_width();

    printf("Pool: %s   Nodes (total/up/free): %lld/%lld/%lld%s\n", name ? name : "?",
           (long long)mp_opt_int(pool, "total", 0), (long long)mp_opt_int(pool, "up", 0),
           (long long)mp_opt_int(pool, "free", 0),
           mp_opt_bool(pool, "drained", false) ? "   drained" : "");
    if (aside && *aside)
        printf("Policy %s\n", aside);
    printf("%-5s   %-8s %-*s %-*s\n", "ID", "User", width, "Command", width, "Requirements");
    for (uint32_t i = 0; i < jobs->size; i++)
        if (name && mp_is(mp_get(&jobs->ptr[i], "pool"), name))
            print_job(&jobs->ptr[i], width);
}

static void print_ended(const msgpack_object_array *jobs)
{
    printf("%-5s %-8s %-19s %6s %-24s %s\n", "ID", "User", "Ended", "Status", "Command", "Reason");
    for (uint32_t i = 0; i < jobs->size; i++) {
        const msgpack_object *job = &jobs->ptr[i];
        CLEANUP(cleanup_free) char *command = command_of(job);
        char when[32], status[24];
        int64_t v;

        table_time(when, mp_opt_int(job, "ended", 0));
        if (mp_as_int(mp_get(job, "exit"), &v))
            snprintf(status, sizeof status, "%lld", (long long)v);
        else if (mp_as_int(mp_get(job, "signal"), &v))
            snprintf(status, sizeof status, "sig%lld", (long long)v);
        else
            snprintf(status, sizeof status, "-");
        printf("%5lld ", (long long)mp_opt_int(job, "id", 0));
        cell(users_name(mp_opt_int(job, "uid", 0)), 8);
        printf(" %-19s %6s ", when, status);
        cell(command ? command : "", 24);
        putchar(' ');
        print_text(mp_get(job, "reason"), 0);
        putchar('\n');
    }
}

int table_show(gate_t *g, const struct options *o, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *pools, *jobs;

    mp_init(&m);
    msgpack_unpacked_init(&reply);
    mp_map(&m, 2u + (o->pool != NULL));
    mp_kint(&m, "uid", o->uid);
    mp_kint(&m, "done", o->done);
    if (o->pool)
        mp_kbin(&m, "pool", o->pool, strlen(o->pool));
    if (gate_call(g, "sched.list", &m, ASK_MS, &reply, err) < 0 ||
        mp_get_array(&reply.data, "pools", &pools, err) < 0 ||
        mp_get_array(&reply.data, "jobs", &jobs, err) < 0)
        return -1;
    if (o->json)
        return json_print(json_of(&reply.data)) < 0 ? err_set(err, EIO, "stdout was lost") : 0;
    CLEANUP(cleanup_free) char *disk = mp_opt_dup(&reply.data, "disk");
    if (disk && *disk)
        fprintf(stderr, "bjsstat: nothing is started now: %s\n", disk);
    if (o->done)
        print_ended(jobs);
    for (uint32_t i = 0; !o->done && i < pools->size; i++) {
        if (i)
            putchar('\n');
        print_pool(&pools->ptr[i], jobs);
    }
    return 0;
}
