/* layout.c - the tables of nodes */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/bpstat/bpstat.h"
#include "clients/common/json.h"
#include "clients/common/table.h"
#include "clients/common/users.h"

#define COMPACT_REST 46 /* columns of the compact table beside the numbers */
#define COMPACT_LEAST 57

/* What the old tables show of a node: one that is down has no owner, no mode
 * and no address, whatever is remembered about it. */
struct shown {
    const char *user, *group, *addr;
    char mode[11];
};

static void shown_of(const struct node_row *r, struct shown *s)
{
    bool down = strcmp(r->state, "down") == 0;

    s->user = users_name(down ? 0 : r->uid);
    s->group = users_group(down ? 0 : r->gid);
    s->addr = down || !r->addr[0] ? "0.0.0.0" : r->addr;
    table_mode(s->mode, down ? 0 : r->mode);
}

static bool same_row(const struct node_row *a, const struct node_row *b)
{
    if (strcmp(a->state, b->state) != 0)
        return false;
    if (strcmp(a->state, "down") == 0)
        return true;
    return a->uid == b->uid && a->gid == b->gid && a->mode == b->mode;
}

static void compact_row(int width, const char *numbers, const struct node_row *r)
{
    struct shown s;

    shown_of(r, &s);
    printf("%-*s %-15.15s %-10.10s %-8.8s %-8.8s\n", width, numbers, r->state, s.mode,
           s.user, s.group);
}

/* The rows of t->row[from .. to), which differ in nothing but the number. */
static void compact_group(const struct nodes *t, size_t from, size_t to, int width,
                          char *line, size_t room)
{
    size_t used = 0;

    for (size_t i = from, next; i < to; i = next) {
        char item[48];
        int64_t first = t->row[i].node, last = first;

        for (next = i + 1; next < to && t->row[next].node == last + 1; next++)
            last++;
        int n = last > first ? snprintf(item, sizeof(item), "%" PRId64 "-%" PRId64,
                                        first, last)
                             : snprintf(item, sizeof(item), "%" PRId64, first);
        if (used > 0 && used + 1 + (size_t)n > (size_t)width) {
            compact_row(width, line, &t->row[from]);
            used = 0;
        }
        used += (size_t)snprintf(line + used, room - used, "%s%s", used ? "," : "", item);
    }
    compact_row(width, line, &t->row[from]);
}

static int print_compact(const struct nodes *t, struct err *err)
{
    int columns = table_width(), width = columns - COMPACT_REST;
    size_t room = (size_t)columns + 64;

    if (columns < COMPACT_LEAST)
        return err_set(err, EINVAL, "Window to small.");
    CLEANUP(cleanup_free) char *line = malloc(room);
    if (!line)
        return err_set(err, ENOMEM, "out of memory");
    printf("%-*s %-15s %-10s %-8s %-8s\n", width, "Node(s)", "Status", "Mode", "User",
           "Group");
    for (size_t i = 0, next; i < t->n; i = next) {
        for (next = i + 1; next < t->n && same_row(&t->row[i], &t->row[next]); next++)
            continue;
        compact_group(t, i, next, width, line, room);
    }
    return 0;
}

static void print_long(const struct nodes *t)
{
    puts("Node Address         Status       Mode          User       Group");
    for (size_t i = 0; i < t->n; i++) {
        const struct node_row *r = &t->row[i];
        struct shown s;

        shown_of(r, &s);
        printf("%4" PRId64 " %-15s %-12s %s\t%-10.10s %-10.10s\n", r->node, s.addr,
               r->state, s.mode, s.user, s.group);
    }
}

static void print_explain(const struct nodes *t, const struct work *work)
{
    puts("Node State           Reach Work Since               By           Why");
    for (size_t i = 0; i < t->n; i++) {
        const struct node_row *r = &t->row[i];
        char since[32];

        table_time(since, r->since);
        printf("%4" PRId64 " %-15s %-5s %-4s %-19s %-12s ", r->node, r->state, r->reach,
               work[i].yes ? "yes" : "no", since, r->who[0] ? r->who : "-");
        table_text(stdout, r->why, strlen(r->why), 0);
        /* often the state's own reason is why there is no work */
        if (work[i].why && work[i].why[0] && (!r->why[0] || !strstr(work[i].why, r->why))) {
            fputs(r->why[0] ? "; no work: " : "no work: ", stdout);
            table_text(stdout, work[i].why, strlen(work[i].why), 0);
        }
        putchar('\n');
    }
}

static json_t *json_node(const struct node_row *r, const struct work *w)
{
    char mode[11];
    json_t *o = json_of(r->map);

    if (!o)
        return NULL;
    table_mode(mode, r->mode);
    json_object_set_new(o, "mode_text", json_string(mode));
    json_object_set_new(o, "user", json_text(users_name(r->uid), strlen(users_name(r->uid))));
    json_object_set_new(o, "group",
                        json_text(users_group(r->gid), strlen(users_group(r->gid))));
    if (w) {
        json_object_set_new(o, "work", json_boolean(w->yes));
        json_object_set_new(o, "work_why",
                            w->why ? json_text(w->why, strlen(w->why)) : json_null());
    }
    return o;
}

static int print_json(const struct nodes *t, const struct work *work,
                      const struct options *o, struct err *err)
{
    json_t *out = json_array();

    if (o->layout == LAYOUT_TOTAL) {
        json_decref(out);
        out = json_pack("{s:I}", "total", (json_int_t)t->n);
    } else {
        for (size_t i = 0; out && i < t->n; i++)
            json_array_append_new(out, json_node(&t->row[i], work ? &work[i] : NULL));
    }
    return json_print(out) < 0 ? err_set(err, EIO, "the table could not be written") : 0;
}

int layout_print(const struct nodes *t, const struct work *work,
                 const struct options *o, struct err *err)
{
    if (o->json)
        return print_json(t, work, o, err);
    switch (o->layout) {
    case LAYOUT_LONG:
        print_long(t);
        break;
    case LAYOUT_EXPLAIN:
        print_explain(t, work);
        break;
    case LAYOUT_TOTAL:
        printf("%zu\n", t->n);
        break;
    case LAYOUT_ADDRESS:
    case LAYOUT_STATUS:
    case LAYOUT_NUMBER:
        for (size_t i = 0; i < t->n; i++) {
            struct shown s;

            shown_of(&t->row[i], &s);
            if (o->layout == LAYOUT_NUMBER)
                printf("%" PRId64 "\n", t->row[i].node);
            else
                puts(o->layout == LAYOUT_STATUS ? t->row[i].state : s.addr);
        }
        break;
    default:
        return print_compact(t, err);
    }
    return 0;
}
