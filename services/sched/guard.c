/* guard.c - policies that crash
 *
 * RUN/sched/policies is mapped: a byte for each pool says whether its policy is
 * at work. Should sched die just then, its next life finds that out; after the
 * second time the pool's policy is put aside and simple does its work. A policy
 * that does not come back is ended, and sched with it, by a timer.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include "services/sched/sched.h"
#include "services/sched/starter.h"

#define POOLS 128
#define TOO_OFTEN 2

struct mark {
    char pool[32];
    unsigned char inside, deaths;
};

static struct mark *mark_of(sched_t *s, const struct pool *p)
{
    struct mark *m = (struct mark *)(void *)s->mark;

    for (int i = 0; i < POOLS; i++) {
        if (!m[i].pool[0])
            snprintf(m[i].pool, sizeof m[i].pool, "%s", p->name);
        if (strcmp(m[i].pool, p->name) == 0)
            return &m[i];
    }
    return NULL; /* more pools than anybody has: those are not guarded */
}

static void patience(int seconds)
{
    /* Of processor time: a busy or sleeping machine is not the policy's fault. */
    const struct itimerval t = { .it_value = { .tv_sec = seconds } };

    setitimer(ITIMER_VIRTUAL, &t, NULL);
}

static void enter(void *arg, struct pool *p)
{
    struct mark *m = p->handle ? mark_of(arg, p) : NULL;

    if (m)
        m->inside = 1;
    if (p->handle)
        patience(BJS_PATIENCE_S);
}

static void leave(void *arg, struct pool *p)
{
    struct mark *m = p->handle ? mark_of(arg, p) : NULL;

    if (p->handle)
        patience(0);
    if (m)
        m->inside = 0;
}

static void refused(void *arg, struct pool *p, const char *why)
{
    (void)arg;
    svc_log("error", "pool %s: policy %s: %s", p->name, p->policy->name, why);
}

void guard_pools(sched_t *s, struct pool *pools, bool forgive)
{
    for (struct pool *p = pools; p; p = p->next) {
        struct mark *m = mark_of(s, p);
        if (m && forgive)
            m->deaths = 0;
        if (!m || m->deaths < TOO_OFTEN)
            continue;
        snprintf(p->aside, sizeof p->aside, "%.60s was put aside: it crashed %d times",
                 p->policy_name, m->deaths);
        svc_log("error", "pool %s: policy %s; simple does its work until bjs.conf is read again",
                p->name, p->aside);
        policy_builtin(p);
    }
}

int guard_open(sched_t *s, struct err *err)
{
    char path[PATH_MAX];
    const size_t size = POOLS * sizeof(struct mark);
    int fd = open(sched_path(path, "policies"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    s->mark = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (s->mark == MAP_FAILED) {
        s->mark = NULL;
        return err_set(err, errno, "map %s: %s", path, strerror(errno));
    }
    struct mark *m = (struct mark *)(void *)s->mark;
    for (int i = 0; i < POOLS; i++) {
        m[i].deaths = (unsigned char)(m[i].deaths + (m[i].inside && m[i].deaths < 255));
        if (m[i].inside)
            svc_log("error", "pool %.31s: sched died in its policy", m[i].pool);
        m[i].inside = 0;
    }
    s->hooks.enter = enter;
    s->hooks.leave = leave;
    s->hooks.refused = refused;
    return 0;
}
