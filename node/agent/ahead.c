/* ahead.c - node.N.place: files brought before a launch needs them
 *
 * What the library list names. Nobody holds these files afterwards: when room
 * is needed they go like everything else that was not used for long.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "node/agent/agent.h"
#include "node/agent/files.h"
#include "node/agent/request.h"

struct ahead {
    agent_t *a;
    svc_token *token;
    struct request rq;
    char *chroot;
    files_hold_t *hold;
    mp_buf replaced; /* rows of the answer */
    uint32_t rows;
};

static void ahead_free(struct ahead *x)
{
    files_drop(x->a->files, &x->hold);
    request_free(&x->rq);
    mp_free(&x->replaced);
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
    x->rows++;
}

static void pack(const struct ahead *x, mp_buf *out)
{
    mp_map(out, 1);
    mp_key(out, "replaced");
    mp_array(out, x->rows);
    msgpack_sbuffer_write(&out->b, x->replaced.b.data, x->replaced.b.size);
}

static void on_files(void *arg, const struct err *err)
{
    struct ahead *x = arg;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    if (err) {
        svc_fail(x->a->svc, x->token, err);
    } else {
        pack(x, &m);
        svc_answer(x->a->svc, x->token, &m);
    }
    ahead_free(x);
}

int on_place(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    struct ahead *x = calloc(1, sizeof *x);

    if (!x)
        return err_set(err, ENOMEM, "out of memory");
    x->a = a;
    x->token = req->token;
    mp_init(&x->rq.spawn);
    mp_init(&x->replaced);
    if (a->chroot && !(x->chroot = strdup(a->chroot))) {
        ahead_free(x);
        return err_set(err, ENOMEM, "out of memory");
    }
    int rc = request_files(&x->rq, a, req->body, err);
    struct files_request fr = { x->chroot, x->rq.want, x->rq.wants, &x->rq.dirs, &x->rq.from,
                                on_replaced };
    if (rc == 0)
        rc = files_provide(a->files, &fr, on_files, x, &x->hold, err);
    if (rc == 0)
        pack(x, req->reply);
    if (rc > 0)
        return SVC_LATER;
    ahead_free(x);
    return rc;
}
