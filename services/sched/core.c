/* core.c - jobs waiting and running, pools, users */
#include "services/sched/core.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *job_state_name(enum job_state s)
{
    static const char *const names[] = { "held",     "after",   "queued", "claiming",
                                         "starting", "running", "ending", "done" };
    return names[s];
}

void list_init(struct list *l) { l->prev = l->next = l; }

void list_before(struct list *at, struct list *l)
{
    l->prev = at->prev;
    l->next = at;
    at->prev->next = l;
    at->prev = l;
}

void list_out(struct list *l)
{
    if (!l->next)
        return;
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = l->next = NULL;
}

/* --- pools --------------------------------------------------------------- */

struct pool *pool_create(const char *name, struct err *err)
{
    struct pool *p = calloc(1, sizeof *p);

    if (!p) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    strncpy(p->name, name, sizeof p->name - 1);
    list_init(&p->fifo);
    p->halflife_ms = 7LL * 24 * 3600 * 1000;
    p->kill_ms = 5000;
    p->limit.defaultsecs = 0;
    return p;
}

static void user_free(struct user *u)
{
    while (u->buckets) {
        struct bucket *b = u->buckets;
        u->buckets = b->next;
        free(b);
    }
    free(u);
}

void pool_free(struct pool **pp)
{
    struct pool *p = *pp;

    if (!p)
        return;
    policy_unload(p);
    while (p->users) {
        struct user *u = p->users;
        p->users = u->next;
        user_free(u);
    }
    while (p->settings) {
        struct setting *s = p->settings;
        p->settings = s->next;
        free(s->word);
        free(s);
    }
    for (uint32_t i = 0; i < p->nodes; i++) {
        node_attrs(p->node[i], NULL);
        free(p->node[i]);
    }
    free(p->node);
    free(p->view_node);
    free(p->running);
    free(p->limit.users);
    free(p->limit.groups);
    free(p->policy_name);
    free(p);
    *pp = NULL;
}

int pool_add_node(struct pool *p, int number, struct err *err)
{
    if (pool_node(p, number))
        return 0;
    if ((p->nodes & (p->nodes - 1)) == 0) { /* full at each power of two */
        uint32_t room = p->nodes ? p->nodes * 2 : 1;
        struct pnode **v = realloc(p->node, room * sizeof(struct pnode *));
        if (v)
            p->node = v;
        struct bjs_node *w = realloc(p->view_node, room * sizeof *w);
        if (w)
            p->view_node = w;
        if (!v || !w)
            return err_set(err, ENOMEM, "out of memory");
    }
    struct pnode *n = calloc(1, sizeof *n);
    if (!n)
        return err_set(err, ENOMEM, "out of memory");
    n->pool = p;
    n->index = p->nodes;
    n->number = number;
    p->view_node[p->nodes] = (struct bjs_node){ .number = number };
    p->node[p->nodes++] = n;
    return 0;
}

struct pnode *pool_node(const struct pool *p, int number)
{
    /* mostly nodes are in order, and node i is the i-th */
    if (number >= 0 && (uint32_t)number < p->nodes && p->node[number]->number == number)
        return p->node[number];
    for (uint32_t i = 0; i < p->nodes; i++)
        if (p->node[i]->number == number)
            return p->node[i];
    return NULL;
}

uint32_t pool_size(const struct pool *p)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->nodes; i++)
        n += !p->node[i]->leaving;
    return n;
}

long pool_setting(const struct pool *p, const char *word, long dflt)
{
    for (const struct setting *s = p->settings; s; s = s->next)
        if (strcmp(s->word, word) == 0)
            return s->value;
    return dflt;
}

int pool_set(struct pool *p, const char *word, long value)
{
    struct setting *s = calloc(1, sizeof *s);

    if (!s || !(s->word = strdup(word))) {
        free(s);
        return -1;
    }
    s->value = value;
    s->next = p->settings; /* the last line wins */
    p->settings = s;
    return 0;
}

static void texts_free(char **v)
{
    for (char **p = v; p && *p; p++)
        free(*p);
    free(v);
}

static bool same_texts(char *const *a, char *const *b)
{
    while (a && b && *a && *b && strcmp(*a, *b) == 0)
        a++, b++;
    return (!a || !*a) && (!b || !*b);
}

void node_attrs(struct pnode *n, char **attrs)
{
    struct pool *p = n->pool;

    if (attrs && same_texts(n->attrs, attrs)) {
        texts_free(attrs);
        return;
    }
    texts_free(n->attrs);
    n->attrs = attrs;
    p->view_node[n->index].attrs = (const char *const *)attrs;
    p->wake = true;
}

void node_usable(struct pnode *n, bool up, uint32_t cpus, uint64_t mem_mb)
{
    struct pool *p = n->pool;
    struct bjs_node *v = &p->view_node[n->index];

    v->cpus = cpus;
    v->mem_mb = mem_mb;
    if (v->up == up)
        return;
    v->up = up;
    p->view.up = up ? p->view.up + 1 : p->view.up - 1;
    if (!v->jobs)
        p->view.idle = up ? p->view.idle + 1 : p->view.idle - 1;
    p->wake = p->wake || up;
}

/* --- users --------------------------------------------------------------- */

struct user *pool_user(struct pool *p, uint32_t uid)
{
    struct user **at = &p->users;

    while (*at && (*at)->uid != uid)
        at = &(*at)->next;
    if (!*at && (*at = calloc(1, sizeof **at)))
        (*at)->uid = uid;
    return *at;
}

double user_usage(const struct pool *p, const struct user *u, int64_t now_ms)
{
    double past = (double)(now_ms > u->usage_ms && u->usage_ms ? now_ms - u->usage_ms : 0);

    return u->usage * exp2(-past / (double)p->halflife_ms) + u->running_nodes * past / 1000;
}

static void user_settle(struct user *u, const struct pool *p, int64_t now_ms)
{
    u->usage = user_usage(p, u, now_ms);
    u->usage_ms = now_ms;
    u->dirty = true;
}

static struct bucket *user_bucket(struct user *u, int32_t priority)
{
    struct bucket **at = &u->buckets;

    while (*at && (*at)->priority > priority)
        at = &(*at)->next;
    if (*at && (*at)->priority == priority)
        return *at;
    struct bucket *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->priority = priority;
    list_init(&b->jobs);
    b->next = *at;
    *at = b;
    return b;
}

/* --- waiting ------------------------------------------------------------- */

/* By id: mostly at the end; a job that comes back was among the first. */
static void enter_fifo(struct list *head, struct job *j)
{
    struct list *at = head->prev;

    if (at == head || of_list(struct job, fifo, at)->pub.id < j->pub.id) {
        list_before(head, &j->fifo);
        return;
    }
    for (at = head->next; of_list(struct job, fifo, at)->pub.id < j->pub.id;)
        at = at->next;
    list_before(at, &j->fifo);
}

static void enter_bucket(struct list *head, struct job *j)
{
    struct list *at = head->prev;

    if (at == head || of_list(struct job, bucket, at)->pub.id < j->pub.id) {
        list_before(head, &j->bucket);
        return;
    }
    for (at = head->next; of_list(struct job, bucket, at)->pub.id < j->pub.id;)
        at = at->next;
    list_before(at, &j->bucket);
}

int job_enqueue(struct job *j)
{
    struct pool *p = j->pool;

    if (!j->user && !(j->user = pool_user(p, j->pub.uid)))
        return -1;
    struct bucket *b = user_bucket(j->user, j->pub.priority);
    if (!b)
        return -1;
    j->state = JOB_QUEUED;
    j->planned_ms = 0;
    enter_fifo(&p->fifo, j);
    enter_bucket(&b->jobs, j);
    p->waiting++;
    j->user->waiting++;
    p->wake = true;
    return 0;
}

void job_dequeue(struct job *j)
{
    struct pool *p = j->pool;

    if (!j->fifo.next)
        return;
    /* a pass may stand on it */
    if (p->cursor == &j->fifo)
        p->cursor = j->fifo.prev;
    if (j->user->cursor == &j->bucket)
        j->user->cursor = j->bucket.prev;
    list_out(&j->fifo);
    list_out(&j->bucket);
    p->waiting--;
    j->user->waiting--;
    p->wake = true; /* it may have been what others waited behind */
}

/* --- nodes --------------------------------------------------------------- */

static int note_running(struct pool *p, struct job *j)
{
    if (p->nrunning == p->running_room) {
        uint32_t room = p->running_room ? p->running_room * 2 : 64;
        const struct bjs_job **v = realloc(p->running, room * sizeof *v);
        if (!v)
            return -1;
        p->running = v;
        p->running_room = room;
    }
    j->at = p->nrunning;
    p->running[p->nrunning++] = &j->pub;
    return 0;
}

int job_take(struct job *j, struct pnode *const *place)
{
    struct pool *p = j->pool;
    struct pnode **mine = malloc(j->pub.nodes * sizeof(struct pnode *));

    if (!mine || (!j->user && !(j->user = pool_user(p, j->pub.uid))) || note_running(p, j) < 0) {
        free(mine);
        return -1;
    }
    for (uint32_t i = 0; i < j->pub.nodes; i++) {
        struct bjs_node *v = &p->view_node[place[i]->index];
        mine[i] = place[i];
        if (!v->jobs++ && v->up)
            p->view.idle--;
        v->cpus_used += j->pub.cpus;
        v->mem_used_mb += j->pub.mem_mb;
        if (!p->policy || !p->policy->sharing)
            mine[i]->job = j;
    }
    j->place = mine;
    user_settle(j->user, p, p->view.now_ms);
    j->user->running_nodes += j->pub.nodes;
    return 0;
}

void job_leave(struct job *j, int64_t now_ms)
{
    struct pool *p = j->pool;

    if (!j->place)
        return;
    for (uint32_t i = 0; i < j->pub.nodes; i++) {
        struct bjs_node *v = &p->view_node[j->place[i]->index];
        if (!--v->jobs && v->up)
            p->view.idle++;
        v->cpus_used -= j->pub.cpus;
        v->mem_used_mb -= j->pub.mem_mb;
        if (j->place[i]->job == j)
            j->place[i]->job = NULL;
    }
    free(j->place);
    j->place = NULL;
    p->running[j->at] = p->running[--p->nrunning];
    job_of_pub(p->running[j->at])->at = j->at;
    user_settle(j->user, p, now_ms);
    j->user->running_nodes -= j->pub.nodes;
    p->wake = p->left = true;
}

void job_clear(struct job *j)
{
    free(j->reason);
    free(j->place);
    wants_put(j->pub.wants);
    j->pub.wants = NULL;
    j->reason = NULL;
    j->place = NULL;
}
