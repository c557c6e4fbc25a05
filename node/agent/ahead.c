/* ahead.c - node.N.place: files brought before a launch needs them
 *
 * What the library list names, one file after another, so that a launch that
 * comes meanwhile waits for one at most. Nothing is thrown out for them, and a
 * quarter of the node's root stays free; afterwards nobody holds them: they go
 * like everything else that was not used for long.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include "node/agent/agent.h"
#include "node/agent/files.h"
#include "node/agent/request.h"

struct ahead {
    agent_t *a;
    svc_token *token;
    struct request rq;
    size_t next; /* of rq's files */
    char *chroot;
    files_hold_t *hold;
    mp_buf replaced, failed; /* rows of the answer */
    uint32_t nreplaced, nfailed;
    struct ahead *next_one, **link; /* of the agent's */
};

static void ahead_free(struct ahead *x)
{
    *x->link = x->next_one;
    if (x->next_one)
        x->next_one->link = x->link;
    files_drop(x->a->files, &x->hold);
    request_free(&x->rq);
    mp_free(&x->replaced);
    mp_free(&x->failed);
    free(x->chroot);
    free(x);
}

static void on_replaced(void *arg, const struct files_want *w, bool ours)
{
    struct ahead *x = arg;

    svc_log("warning", "%s: %s; the master's is there now", w->path,
            ours ? "an older one was here" : "another one was here");
    mp_array(&x->replaced, 2);
    mp_str(&x->replaced, w->path);
    mp_bool(&x->replaced, ours);
    x->nreplaced++;
}

static void file_failed(struct ahead *x, const struct files_want *w, const struct err *err)
{
    mp_array(&x->failed, 3);
    mp_str(&x->failed, w->path);
    mp_int(&x->failed, err->code);
    mp_str(&x->failed, err->text);
    x->nfailed++;
}

static void pack(const struct ahead *x, mp_buf *out)
{
    mp_map(out, 2);
    mp_key(out, "replaced");
    mp_array(out, x->nreplaced);
    msgpack_sbuffer_write(&out->b, x->replaced.b.data, x->replaced.b.size);
    mp_key(out, "failed");
    mp_array(out, x->nfailed);
    msgpack_sbuffer_write(&out->b, x->failed.b.data, x->failed.b.size);
}

/* Is there room to spare for it, or is it likely to be there already? */
static int spare_room(const struct ahead *x, const struct files_want *w, struct err *err)
{
    struct statvfs v;
    struct stat st;
    char path[PATH_MAX];
    int len = snprintf(path, sizeof path, "%s%s", x->chroot ? x->chroot : "", w->path);

    if (len < (int)sizeof path && place_stat(x->a->root_fd, path, &st) == 0 &&
        (uint64_t)st.st_size == w->size)
        return 0;
    if (fstatvfs(x->a->root_fd, &v) < 0)
        return err_set(err, errno, "the node's root: %s", strerror(errno));
    uint64_t left = (uint64_t)v.f_bavail * v.f_frsize, all = (uint64_t)v.f_blocks * v.f_frsize;
    if (left < w->size || left - w->size < all / 4)
        return err_set(err, ENOSPC, "%s (%llu kB) is not brought beforehand: the node's root has "
                       "%llu kB free, and a quarter is kept", w->path,
                       (unsigned long long)(w->size + 1023) / 1024,
                       (unsigned long long)left / 1024);
    return 0;
}

static void on_file(void *arg, const struct err *err);

/* As far as it goes now. true: all is done. */
static bool go_on(struct ahead *x)
{
    for (; x->next < x->rq.wants; x->next++) {
        const struct files_want *w = &x->rq.want[x->next];
        struct files_request fr = { x->chroot, w, 1, &x->rq.dirs, &x->rq.from, on_replaced };
        struct err err = { 0 };
        int rc = spare_room(x, w, &err);

        if (rc == 0)
            rc = files_provide(x->a->files, &fr, on_file, x, &x->hold, &err);
        if (rc > 0)
            return false;
        if (rc < 0)
            file_failed(x, w, &err);
        files_drop(x->a->files, &x->hold);
        if (rc < 0 && err.code == ENOSPC)
            break; /* the rest would hardly fit */
    }
    return true;
}

static void on_file(void *arg, const struct err *err)
{
    struct ahead *x = arg;
    CLEANUP(mp_free) mp_buf m;
    bool full = err && err->code == ENOSPC;

    mp_init(&m);
    if (err)
        file_failed(x, &x->rq.want[x->next], err);
    files_drop(x->a->files, &x->hold);
    x->next++;
    if (!full && !go_on(x))
        return;
    pack(x, &m);
    svc_answer(x->a->svc, x->token, &m);
    ahead_free(x);
}

void ahead_end(agent_t *a)
{
    while (a->ahead)
        ahead_free(a->ahead);
}

int on_place(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    struct ahead *x = calloc(1, sizeof *x);

    if (!x)
        return err_set(err, ENOMEM, "out of memory");
    x->a = a;
    x->next_one = a->ahead;
    x->link = &a->ahead;
    if (a->ahead)
        a->ahead->link = &x->next_one;
    a->ahead = x;
    x->token = req->token;
    mp_init(&x->rq.spawn);
    mp_init(&x->replaced);
    mp_init(&x->failed);
    int rc = request_files(&x->rq, a, req->body, err);
    if (rc == 0 && a->chroot && !(x->chroot = strdup(a->chroot)))
        rc = err_set(err, ENOMEM, "out of memory");
    if (rc == 0 && !go_on(x))
        return SVC_LATER;
    if (rc == 0)
        pack(x, req->reply);
    ahead_free(x);
    return rc;
}
