/* swf.c - reading, making and writing traces (swf.h) */
#include "services/sched/swf.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS = 18 };

void swf_free(struct swf *t)
{
    free(t->v);
    *t = (struct swf){ 0 };
}

static int add(struct swf *t, const struct swf_job *j)
{
    if ((t->n & (t->n - 1)) == 0) { /* full at each power of two */
        struct swf_job *v = realloc(t->v, (t->n ? t->n * 2 : 1) * sizeof *v);
        if (!v)
            return -1;
        t->v = v;
    }
    t->v[t->n++] = *j;
    return 0;
}

static void take_remark(struct swf *t, const char *line)
{
    unsigned n;

    while (*line == ';' || *line == ' ' || *line == '\t')
        line++;
    if ((sscanf(line, "MaxNodes: %u", &n) == 1 || sscanf(line, "MaxProcs: %u", &n) == 1) &&
        n > t->nodes && n < 10000000)
        t->nodes = n;
}

/* How many numbers the line has. */
static int numbers(const char *line, double v[FIELDS])
{
    int n = 0;

    for (char *end; n < FIELDS; n++, line = end) {
        v[n] = strtod(line, &end);
        if (end == line)
            break;
    }
    return n;
}

static bool take_job(const double v[FIELDS], struct swf_job *j)
{
    double procs = v[7] > 0 ? v[7] : v[4], limit = v[8] > 0 ? v[8] : v[3];

    if (v[3] < 0 || procs < 1 || procs > 1e7 || v[1] < 0 || v[1] > 1e12 || limit > 1e9)
        return false;
    *j = (struct swf_job){ .id = (int64_t)v[0], .submit_s = (int64_t)v[1], .run_s = (int64_t)v[3],
                           .limit_s = (int64_t)(limit < 1 ? 1 : limit), .nodes = (uint32_t)procs,
                           .uid = v[11] > 0 ? (uint32_t)v[11] : 0 };
    if (j->run_s > j->limit_s) /* it would have been ended */
        j->run_s = j->limit_s;
    return true;
}

static int compare(const void *a, const void *b)
{
    const struct swf_job *x = a, *y = b;

    if (x->submit_s != y->submit_s)
        return (x->submit_s > y->submit_s) - (x->submit_s < y->submit_s);
    return (x->id > y->id) - (x->id < y->id);
}

int swf_read(FILE *f, const char *name, struct swf *t, struct err *err)
{
    char *line = NULL;
    size_t room = 0;
    int rc = 0;
    long number = 0;
    uint32_t most = 0;

    while (rc == 0 && getline(&line, &room, f) > 0) {
        double v[FIELDS];
        struct swf_job j;
        const char *p = line + strspn(line, " \t");
        number++;
        if (*p == ';') {
            take_remark(t, p);
            continue;
        }
        if (*p == '\n' || *p == '\r' || !*p)
            continue;
        int n = numbers(p, v);
        if (n < 12)
            rc = err_set(err, EINVAL, "%s:%ld: %d numbers, want 18: this is no trace in the "
                         "Standard Workload Format", name, number, n);
        else if (!take_job(v, &j))
            t->odd++;
        else if (add(t, &j) < 0)
            rc = err_set(err, ENOMEM, "out of memory");
        else if (j.nodes > most)
            most = j.nodes;
    }
    free(line);
    if (rc == 0 && ferror(f))
        rc = err_set(err, errno, "read %s: %s", name, strerror(errno));
    if (rc == 0 && !t->n)
        rc = err_set(err, EINVAL, "%s: there is no job in it", name);
    if (!t->nodes)
        t->nodes = most;
    if (t->n)
        qsort(t->v, t->n, sizeof *t->v, compare);
    return rc;
}

/* ---- made up ---- */

static double uniform(uint64_t *x) /* xorshift: 0 to 1 */
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return (double)(*x >> 11) / 9007199254740992.0;
}

int swf_make(struct swf *t, size_t jobs, uint32_t nodes, unsigned seed)
{
    uint64_t x = 0x9e3779b97f4a7c15u ^ ((uint64_t)seed + 1) * 0xbf58476d1ce4e5b9u;
    double at = 0;

    t->nodes = nodes;
    for (int i = 0; i < 8; i++)
        uniform(&x);
    for (size_t i = 0; i < jobs; i++) {
        double size = exp2(uniform(&x) * log2((double)nodes)), run = exp(uniform(&x) * 9);
        struct swf_job j = { .id = (int64_t)i + 1, .nodes = (uint32_t)size,
                             .run_s = (int64_t)run, .uid = 1 + (uint32_t)(uniform(&x) * 8) };
        j.limit_s = (int64_t)(run * (1 + 3 * uniform(&x))) + 1;
        /* as much work as the machine can just do */
        at += -log(1 - uniform(&x)) * 900.0 * 0.3;
        j.submit_s = (int64_t)at;
        if (add(t, &j) < 0)
            return -1;
    }
    return 0;
}

void swf_write(FILE *f, const struct swf *t)
{
    fprintf(f, "; Version: 2.2\n; Note: made up by sched --generate\n; MaxNodes: %u\n"
               "; MaxProcs: %u\n", t->nodes, t->nodes);
    for (size_t i = 0; i < t->n; i++) {
        const struct swf_job *j = &t->v[i];
        fprintf(f, "%lld %lld -1 %lld %u -1 -1 %u %lld -1 1 %u -1 -1 -1 -1 -1 -1\n",
                (long long)j->id, (long long)j->submit_s, (long long)j->run_s, j->nodes, j->nodes,
                (long long)j->limit_s, j->uid);
    }
}
