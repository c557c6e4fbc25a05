/* procs.c - which process is on which node: -p and -P */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/nodespec.h"
#include "clients/bpstat/bpstat.h"
#include "clients/common/json.h"
#include "clients/common/opt.h"

struct proc {
    int64_t pid, node;
};

struct procs {
    struct proc *v; /* by pid */
    size_t n;
    msgpack_unpacked reply;
};

static void procs_free(struct procs *p)
{
    free(p->v);
    msgpack_unpacked_destroy(&p->reply);
}

static int by_pid(const void *a, const void *b)
{
    const struct proc *x = a, *y = b;

    return (x->pid > y->pid) - (x->pid < y->pid);
}

static int procs_get(gate_t *g, struct procs *p, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;

    mp_init(&body);
    mp_map(&body, 0);
    if (gate_call(g, "procspace.list", &body, BPSTAT_TIMEOUT_MS, &p->reply, err) < 0)
        return -1;
    if (p->reply.data.type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "procspace.list: the reply is not a list");
    const msgpack_object_array *list = &p->reply.data.via.array;
    p->v = calloc((size_t)list->size + 1, sizeof(*p->v));
    if (!p->v)
        return err_set(err, ENOMEM, "out of memory for %u processes", list->size);
    for (uint32_t i = 0; i < list->size; i++) {
        if (mp_get_int(&list->ptr[i], "pid", 1, INT32_MAX, &p->v[i].pid, err) < 0 ||
            mp_get_int(&list->ptr[i], "node", -1, NODE_MAX, &p->v[i].node, err) < 0)
            return err_prefix(err, "procspace.list");
    }
    p->n = list->size;
    qsort(p->v, p->n, sizeof(*p->v), by_pid);
    return 0;
}

static bool wanted(const struct nodes *t, int64_t node)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->row[i].node == node)
            return true;
    return false;
}

static int print_map(gate_t *g, const struct options *o, struct err *err)
{
    CLEANUP(procs_free) struct procs p = { 0 };
    CLEANUP(nodes_free) struct nodes only;

    nodes_init(&only);
    if (procs_get(g, &p, err) < 0)
        return -1;
    if (o->spec && nodes_get(g, o->spec, BPSTAT_TIMEOUT_MS, &only, err) < 0)
        return -1;
    if (!o->json) {
        puts("PID\tNode");
        for (size_t i = 0; i < p.n; i++)
            if (!o->spec || wanted(&only, p.v[i].node))
                printf("%" PRId64 "\t%" PRId64 "\n", p.v[i].pid, p.v[i].node);
        return 0;
    }
    json_t *out = json_array();
    for (uint32_t i = 0; out && i < p.reply.data.via.array.size; i++) {
        const msgpack_object *m = &p.reply.data.via.array.ptr[i];

        if (!o->spec || wanted(&only, mp_opt_int(m, "node", -1)))
            json_array_append_new(out, json_of(m));
    }
    return json_print(out) < 0 ? err_set(err, EIO, "the list could not be written") : 0;
}

int procs_map(gate_t *g, const struct options *o)
{
    struct err err = { 0 };

    if (print_map(g, o, &err) < 0) {
        fprintf(stderr, "bpstat: %s\n", err.text);
        return EXIT_FAILURE;
    }
    return opt_finish("bpstat");
}

/* Where the word PID stands in a header: its place among the words, and the
 * column of its last letter. False: there is none. */
static bool pid_column(const char *header, size_t *word, size_t *end)
{
    size_t i = 0;

    for (size_t n = 0; header[i]; n++) {
        i += strspn(header + i, " \t\n");
        size_t len = strcspn(header + i, " \t\n");

        if (len == 3 && memcmp(header + i, "PID", 3) == 0) {
            *word = n;
            *end = i + 2;
            return true;
        }
        i += len;
    }
    return false;
}

/* The process number of a line. ps puts numbers right under the last letter
 * of their heading; where a wide word has pushed them, count words. */
static int64_t line_pid(const char *line, size_t word, size_t end)
{
    size_t len = strlen(line), start = end, i = 0;
    int64_t pid = 0;

    if (end < len && isdigit((unsigned char)line[end]) &&
        !isdigit((unsigned char)line[end + 1])) {
        while (start > 0 && isdigit((unsigned char)line[start - 1]))
            start--;
        if ((start == 0 || isspace((unsigned char)line[start - 1])) &&
            sscanf(line + start, "%9" SCNd64, &pid) == 1)
            return pid;
    }
    for (size_t n = 0; line[i]; n++) {
        i += strspn(line + i, " \t\n");
        if (n == word)
            return sscanf(line + i, "%9" SCNd64, &pid) == 1 ? pid : 0;
        i += strcspn(line + i, " \t\n");
    }
    return 0;
}

int procs_filter(gate_t *g)
{
    CLEANUP(procs_free) struct procs p = { 0 };
    CLEANUP(cleanup_free) char *line = NULL;
    struct err err = { 0 };
    size_t room = 0, word, end;

    if (getline(&line, &room, stdin) < 0 || !pid_column(line, &word, &end)) {
        fprintf(stderr, "bpstat: -P: the first line of standard input has no word PID: "
                        "pipe the output of ps into it\n");
        return EXIT_FAILURE;
    }
    if (procs_get(g, &p, &err) < 0) {
        fprintf(stderr, "bpstat: %s\n", err.text);
        return EXIT_FAILURE;
    }
    printf("NODE\t%s", line);
    while (getline(&line, &room, stdin) >= 0) {
        struct proc key = { .pid = line_pid(line, word, end) };
        const struct proc *at = bsearch(&key, p.v, p.n, sizeof(*p.v), by_pid);

        if (at)
            printf("%" PRId64, at->node);
        printf("\t%s", line);
    }
    return opt_finish("bpstat");
}
