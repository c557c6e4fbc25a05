/* wants.c - what jobs require of nodes beside their size: -R NAME or NAME=VALUE
 *
 * Thousands of jobs want the same: each list is there once. It is made from the
 * requirements as they are kept and shown, where the original's own words, which
 * are no node's, come last.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "services/sched/core.h"

#define BUCKETS 256

struct wants {
    struct wants *next;
    uint32_t jobs;
    char *text; /* the words in v, each ended by NUL */
    size_t len;
    const char *v[];
};

static struct wants *bucket[BUCKETS]; /* there is one sched a process */

static size_t place(const char *text, size_t len)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)text[i]) * 16777619u;
    return h % BUCKETS;
}

/* The words that are to be found at nodes, each ended by NUL; how many. */
static size_t words(const char *reqs, char *out, size_t *len)
{
    size_t n = 0;

    *len = 0;
    for (const char *p = reqs; *p;) {
        size_t k = strcspn(p, " ");
        if (strncmp(p, "output=", 7) == 0) /* a name with blanks, maybe; nothing is behind it */
            break;
        if (k && !(k == 11 && strncmp(p, "restartable", k) == 0)) {
            memcpy(out + *len, p, k);
            out[*len + k] = 0;
            *len += k + 1;
            n++;
        }
        p += k + (p[k] == ' ');
    }
    return n;
}

int wants_get(const char *reqs, const char *const **out)
{
    CLEANUP(cleanup_free) char *text = malloc((reqs ? strlen(reqs) : 0) + 1);
    size_t len, n;

    *out = NULL;
    if (!text)
        return -1;
    if (!reqs || !(n = words(reqs, text, &len)))
        return 0;
    struct wants **at = &bucket[place(text, len)], *w = *at;
    while (w && (w->len != len || memcmp(w->text, text, len) != 0))
        w = w->next;
    if (!w) {
        if (!(w = malloc(sizeof *w + (n + 1) * sizeof *w->v)))
            return -1;
        *w = (struct wants){ *at, 0, text, len };
        text = NULL;
        const char *p = w->text;
        for (size_t i = 0; i < n; i++, p += strlen(p) + 1)
            w->v[i] = p;
        w->v[n] = NULL;
        *at = w;
    }
    w->jobs++;
    *out = w->v;
    return 0;
}

void wants_put(const char *const *v)
{
    struct wants *w = v ? (struct wants *)((uintptr_t)v - offsetof(struct wants, v)) : NULL;

    if (!w || --w->jobs)
        return;
    struct wants **at = &bucket[place(w->text, w->len)];
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    free(w->text);
    free(w);
}
