/* run.c - the flow: look, stop, send, the word, the end of the old self
 *
 * Until the cluster has said that it runs there, nothing of it is given up here:
 * on any failure it goes on where it was.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/loop.h"
#include "mover/mover.h"

#define ARRIVE_MS 10000
#define AGAIN_MS 5000
#define NAP_MS 5
#define NAP_MAX_MS 200 /* each look stops it: it must get to run in between */
#define LOOKS 12 /* at what is another each time */
#define SAME 5   /* times in a row that it is seen, and it will stay */

struct moving {
    const struct mover_conf *c;
    struct held_list held;
    struct hindrances h;
    struct frozen f;
    struct image_writer w;
    struct request r;
    struct xstate x;
    int looks, same; /* same: as they were found by the last so many */
    uint32_t seen;
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

/* A shell has always just started something, has a pipe to it, or has not yet waited for
 * it: that goes, and what comes next is in the way for a moment only, too. */
static bool it_stays(struct moving *m)
{
    uint32_t seen = image_crc(0, m->h.rows.b.data, m->h.rows.b.size);

    m->same = m->looks && seen == m->seen ? m->same + 1 : 1;
    m->seen = seen;
    return ++m->looks >= LOOKS || m->same >= SAME;
}

static int next_nap(int nap) { return nap * 2 > NAP_MAX_MS ? NAP_MAX_MS : nap * 2; }

static bool by_value(void *arg, const char *path)
{
    const struct request *r = arg;

    for (char **l = r->ticket.lacks; l && *l; l++)
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

/* Unless it has only just come here, and is not itself yet: EAGAIN. */
static int stand_still(struct moving *m, struct err *err)
{
    int rc = freeze(&m->f, m->c->pid, err);

    if (rc == 0 && !frozen_arrives(&m->f))
        return 0;
    thaw(&m->f);
    return rc < 0 ? -1
                  : err_set(err, EAGAIN, "process %d has not arrived yet", (int)m->c->pid);
}

/* --check stops nothing. */
static int look_only(struct moving *m, struct err *err)
{
    for (int nap = NAP_MS;; poll(NULL, 0, nap), nap = next_nap(nap)) {
        *err = (struct err){ 0 };
        if (look_anew(m, err) == 0)
            return 0;
        if (!m->h.n || it_stays(m))
            return -1;
    }
}

/* It stands still from then on, and nothing stands in the way. What does is told
 * before anything of it has been touched; nobody is stopped to see it come and go. */
static int ready(struct moving *m, struct err *err)
{
    int64_t end = now_ms() + ARRIVE_MS;
    bool stays = false;

    for (int nap = NAP_MS;; poll(NULL, 0, nap), nap = next_nap(nap)) {
        struct err why = { 0 };
        *err = (struct err){ 0 };
        if (look_anew(m, err) < 0) {
            if (!m->h.n)
                return -1;
            if (!stays && !(stays = it_stays(m)))
                continue;
        }
        if (stand_still(m, &why) == 0) {
            *err = (struct err){ 0 };
            if (look_anew(m, err) == 0)
                return 0;
            if (!m->h.n || stays || it_stays(m))
                return -1;
            thaw(&m->f);
            continue;
        }
        if (why.code == EAGAIN && now_ms() < end)
            continue;
        return err->code ? -1 : err_set(err, why.code, "%s", why.text);
    }
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
    if (frozen_park(&m->f, err) < 0)
        return -1;
    /* Asked even so: the other end may know better why it was cut. */
    if (request_moved(&m->r, !opened, rc < 0, err) == 0)
        return 0;
    if (rc < 0 && why.code && (err->code == EBADMSG || err->code == ECANCELED || err->code == EIO))
        err_set(err, why.code, "%s", why.text);
    return -1;
}

/* It runs there. */
static void leave(struct moving *m)
{
    if (m->c->node && !m->r.stands) {
        request_pass(&m->r);
        frozen_end(&m->f);
    } else {
        become_ghost(&m->f, &m->r, &m->held);
    }
}

static int go(struct moving *m, struct err *err)
{
    if (m->c->check)
        return look_only(m, err);
    if (ready(m, err) < 0 || collect(&m->f, &m->w, &m->x, err) < 0 ||
        request_open(&m->r, &m->w, err) < 0 || send_it(m, err) < 0)
        return -1;
    leave(m);
    return 0;
}

static bool is_ghost(pid_t pid)
{
    char link[64], exe[PATH_MAX];

    snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
    ssize_t n = readlink(link, exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    const char *base = strrchr(exe, '/');
    return base && strcmp(base, "/bpghost") == 0;
}

/* Whatever the other has asked for: it has gone, or is called off by this. */
static int end(struct moving *m, const msgpack_object *note, struct err *err)
{
    if (mp_get_uint(note, "launch", &m->r.launch, err) < 0)
        return -1;
    if (is_ghost(m->c->pid)) /* that far it was */
        return 0;
    if (frozen_again(&m->f, m->c->pid, mp_get(note, "frozen"), err) < 0 ||
        request_again(&m->r, err) < 0 || request_moved(&m->r, true, false, err) < 0)
        return -1;
    look_anew(m, err);
    *err = (struct err){ 0 };
    leave(m);
    return 0;
}

static struct moving *begin(const struct mover_conf *c)
{
    struct moving *m = calloc(1, sizeof *m);

    if (!m)
        abort();
    m->c = m->r.c = c;
    m->r.f = &m->f;
    m->f.pidfd = m->f.mem = -1;
    m->w.mem = m->w.pagemap = m->w.proc = -1;
    mp_init(&m->h.rows);
    mp_init(&m->r.maps);
    return m;
}

void mover_result(const struct err *err, const struct hindrances *h, mp_buf *result)
{
    mp_map(result, 3);
    mp_kint(result, "code", err->code);
    mp_kstr(result, "text", err->text);
    mp_key(result, "hindrances");
    mp_array(result, h ? h->n : 0);
    if (h)
        msgpack_sbuffer_write(&result->b, h->rows.b.data, h->rows.b.size);
}

static void finish(struct moving *m, int rc, const struct err *why, mp_buf *result)
{
    struct err err = rc < 0 ? *why : (struct err){ 0 };

    thaw(&m->f);
    if (rc < 0 && !err.code)
        err.code = EIO;
    if (result)
        mover_result(&err, &m->h, result);
    image_close(&m->w);
    request_close(&m->r);
    held_free(&m->held);
    mp_free(&m->h.rows);
    free(m);
}

void mover_run(const struct mover_conf *c, mp_buf *result)
{
    int64_t end = now_ms() + AGAIN_MS;
    bool again;

    do { /* what was only just so is another in a moment, if it runs on until then */
        struct moving *m = begin(c);
        struct err err = { 0 };
        int rc = go(m, &err);
        again = rc < 0 && err.code == EAGAIN && now_ms() < end;
        finish(m, rc, &err, again ? NULL : result);
        if (again)
            poll(NULL, 0, NAP_MS);
    } while (again);
}

void mover_end(const struct mover_conf *c, const msgpack_object *note, mp_buf *result)
{
    struct moving *m = begin(c);
    struct err err = { 0 };
    int rc = end(m, note, &err);

    finish(m, rc, &err, result);
}
