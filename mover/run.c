/* run.c - the flow: look, stop, send, the word, the end of the old self
 *
 * Until the cluster has said that it runs there, nothing of it is given up here:
 * on any failure it goes on where it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "mover/mover.h"

struct moving {
    const struct mover_conf *c;
    struct held_list held;
    struct hindrances h;
    struct frozen f;
    struct image_writer w;
    struct request r;
    struct xstate x;
};

/* When it is looked at again all that was found before is found again. */
static int look_anew(struct moving *m, struct err *err)
{
    held_free(&m->held);
    mp_free(&m->h.rows);
    mp_init(&m->h.rows);
    m->h.n = 0;
    if (look(m->c, &m->held, &m->h, err) < 0)
        return -1;
    return m->h.n ? err_set(err, EBUSY, "something stands in the way") : 0;
}

static bool by_value(void *arg, const char *path)
{
    const struct request *r = arg;

    for (char **l = r->lacks; l && *l; l++)
        if (strcmp(*l, path) == 0)
            return true;
    return false;
}

static int image_err(const struct image_writer *w, struct err *err)
{
    return err_set(err, w->code, "%s%s%s", w->what, *w->what ? ": " : "", w->why);
}

static int send_image(struct moving *m, int fd, struct err *err)
{
    struct image_writer *w = &m->w;

    w->out = fd;
    w->bytes = 0;
    w->by_value = by_value;
    w->arg = &m->r;
    if (image_survey(w) < 0 || image_begin(w) < 0 || image_memory(w) < 0 ||
        image_put(w, IMAGE_XSTATE, m->x.data, m->x.len, NULL, 0) < 0 ||
        held_write(m->c, &m->held, w) < 0 || image_end(w) < 0)
        return image_err(w, err);
    return 0;
}

/* Stands still from here on. */
static int ready(struct moving *m, struct err *err)
{
    if (freeze(&m->f, m->c->pid, err) < 0 || look_anew(m, err) < 0)
        return -1;
    return collect(&m->f, &m->w, &m->x, err) < 0 || request_open(&m->r, &m->w, err) < 0 ? -1 : 0;
}

static int send_it(struct moving *m, struct err *err)
{
    struct err why = { 0 };

    if (request_launch(&m->r, &m->held, &m->w, err) < 0)
        return -1;
    int fd = request_way(&m->r, &why), rc = -1;
    bool opened = fd >= 0;
    if (opened) {
        rc = send_image(m, fd, &why);
        close(fd);
    }
    /* Asked even so: the other end may know better why it was cut. */
    if (request_moved(&m->r, !opened, err) == 0)
        return 0;
    if (rc < 0 && why.code && (err->code == EBADMSG || err->code == ECANCELED || err->code == EIO))
        err_set(err, why.code, "%s", why.text);
    return -1;
}

/* Something that came between the two looks is told too: nothing has been touched. */
static int go(struct moving *m, struct err *err)
{
    if (look_anew(m, err) < 0)
        return -1;
    if (m->c->check)
        return 0;
    if (ready(m, err) < 0 || send_it(m, err) < 0)
        return -1;
    if (m->c->node) {
        request_pass(&m->r);
        frozen_end(&m->f);
    } else {
        become_ghost(&m->f, &m->r, &m->held);
    }
    return 0;
}

void mover_run(const struct mover_conf *c, mp_buf *result)
{
    struct moving *m = calloc(1, sizeof *m);
    struct err err = { 0 };

    if (!m)
        abort();
    m->c = m->r.c = c;
    m->r.f = &m->f;
    m->f.pidfd = m->f.mem = -1;
    m->w.mem = m->w.pagemap = m->w.proc = -1;
    mp_init(&m->h.rows);
    mp_init(&m->r.maps);
    int rc = go(m, &err);
    thaw(&m->f);
    mp_map(result, 3);
    mp_kint(result, "code", rc < 0 ? err.code ? err.code : EIO : 0);
    mp_kstr(result, "text", rc < 0 ? err.text : "");
    mp_key(result, "hindrances");
    mp_array(result, m->h.n);
    msgpack_sbuffer_write(&result->b, m->h.rows.b.data, m->h.rows.b.size);
    image_close(&m->w);
    request_close(&m->r);
    held_free(&m->held);
    mp_free(&m->h.rows);
    free(m);
}
