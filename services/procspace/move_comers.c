/* move_comers.c - copies of a process of a node that come to the master
 *
 * Each has a stand-in where its maker is, and by that a ghost here, a child of the
 * maker's ghost. That one becomes bpstart, which is told a token, fetches a descriptor
 * at RUN/move for the image, keeps the connection, and executes bprestore. All of them
 * together are one stop on the image's way, the last one: what comes is written to each.
 * One that is ready is a process of the master's from the word to go on; one that fails,
 * or whose procspace ends before that word, is a ghost again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "image/image.h"
#include "image/pipe.h"
#include "services/procspace/kids.h"
#include "services/procspace/move_parts.h"

#define FETCH_MS 10000 /* for a ghost to come for its image */
#define SEEK_MS 20000  /* after a restart: for what is left of them to be seen */

struct comer {
    struct comer *next;
    struct move *m;
    uint32_t rank;
    pid_t npid;  /* its stand-in's, there */
    char token[BULK_TOKEN + 1]; /* opens once; "" then */
    int fd;      /* its image; -1: it has been fetched */
    int control; /* what its restorer says; -1 */
    enum { COMER_CALLED, COMER_BUILDING, COMER_READY, COMER_FAILED, COMER_HERE,
           COMER_SOUGHT } at;
    bool told; /* that it has failed */
    struct err err;
};

static void hang_up(struct comer *c)
{
    if (c->control >= 0)
        loop_fd_del(c->m->all->ps->loop, c->control);
    cleanup_close(&c->control);
    cleanup_close(&c->fd);
}

static void fails(struct comer *c, int code, const char *text)
{
    if (c->at != COMER_HERE && c->at != COMER_FAILED) {
        c->at = COMER_FAILED;
        err_set(&c->err, code, "%s", text);
    }
    hang_up(c);
}

static struct comer *add(struct move *m, uint32_t rank, pid_t npid)
{
    struct comer *c = calloc(1, sizeof *c), **end = &m->comers;

    if (!c)
        return NULL;
    *c = (struct comer){ .m = m, .rank = rank, .npid = npid, .fd = -1, .control = -1 };
    while (*end)
        end = &(*end)->next;
    *end = c;
    return c;
}

void comers_free(struct move *m)
{
    if (m->comers && m->known)
        comers_call_off(m);
    while (m->comers) {
        struct comer *c = m->comers;
        hang_up(c);
        m->comers = c->next;
        free(c);
    }
}

void comers_call_off(struct move *m)
{
    for (size_t i = 0; m->comers && i < m->stops; i++)
        if (m->stop[i].node < 0)
            contents_image_drop(m->all->ps->contents, m->stop[i].to.ticket.token);
    for (struct comer *c = m->comers; c; c = c->next)
        fails(c, ECANCELED, "it was called off");
}

int comers_open(struct move *m, const struct launch *l, struct err *err)
{
    CLEANUP(cleanup_free) int *fd = malloc((l->ranks + 1) * sizeof *fd);
    struct stop *stop = realloc(m->stop, (m->stops + 1) * sizeof *stop);
    struct bulk_ticket t;
    size_t n = 0;
    int s[2];

    if (stop)
        m->stop = stop;
    if (!fd || !stop)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t r = 0; r < l->ranks; r++) {
        if (!l->rank[r] || !l->rank[r]->starting)
            continue;
        struct comer *c = add(m, r, l->rank[r]->home_npid);
        if (!c || image_pipe(s) < 0) {
            err_set(err, c ? errno : ENOMEM, "a way for its image: %s",
                    strerror(c ? errno : ENOMEM));
            break;
        }
        bulk_ticket_make(&t);
        memcpy(c->token, t.token, sizeof c->token);
        c->fd = s[0];
        fd[n++] = s[1];
    }
    memset(&stop[m->stops], 0, sizeof *stop);
    stop[m->stops].node = -1;
    if (err->code || contents_image(m->all->ps->contents, fd, n, &stop[m->stops].to.ticket,
                                    &stop[m->stops].to.port, err) < 0) {
        while (n)
            close(fd[--n]);
        return -1;
    }
    m->stops++;
    return 0;
}

/* --- RUN/move --- */

static void on_word(void *arg, int fd, uint32_t events)
{
    struct comer *c = arg;
    struct move *m = c->m;
    struct image_word w;
    ssize_t n = recv(fd, &w, sizeof w, MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    w.text[sizeof w.text - 1] = 0;
    if (n == sizeof w && w.code == 0)
        c->at = COMER_READY;
    else if (n == sizeof w)
        fails(c, (int)w.code, w.text);
    else
        fails(c, EIO, "its stand-in has ended");
    move_look(m);
}

static struct proc *proc_of(const struct comer *c)
{
    struct launch *l = launch_find(c->m->all->ps, c->m->launch);

    return l && c->rank < l->ranks ? l->rank[c->rank] : NULL;
}

bool comers_give(struct moves *all, struct caller *k, const struct pkt *p)
{
    struct err err = { 0 };

    for (struct move *m = all->first; m; m = m->next)
        for (struct comer *c = m->comers; c; c = c->next) {
            const struct proc *q = proc_of(c);
            if (!c->token[0] || p->len != BULK_TOKEN || c->at != COMER_CALLED ||
                memcmp(p->data, c->token, BULK_TOKEN) != 0)
                continue;
            if (!q || !q->stand || q->stand->p.pid != k->pid)
                return true;
            c->token[0] = 0;
            if (pkt_send(k->fd, "", 1, &c->fd, 1, &err) < 0)
                return true;
            cleanup_close(&c->fd);
            c->at = COMER_BUILDING;
            c->control = k->fd;
            k->fd = -1;
            if (loop_fd(all->ps->loop, c->control, EPOLLIN, on_word, c, &err) < 0)
                fails(c, err.code, err.text);
            return true;
        }
    return false;
}

const char *comer_token(procspace_t *ps, uint64_t launch, uint32_t rank)
{
    const struct move *m = move_find(ps, launch);

    for (const struct comer *c = m ? m->comers : NULL; c; c = c->next)
        if (c->rank == rank)
            return c->token;
    return NULL;
}

void comer_gone(procspace_t *ps, const struct proc *p)
{
    struct move *m = p->state == PROC_STARTING ? move_find(ps, p->launch->id) : NULL;

    for (struct comer *c = m ? m->comers : NULL; c; c = c->next)
        if (c->rank == p->rank) {
            fails(c, EIO, "its stand-in has ended"); /* the next look sees it */
            return;
        }
}

/* --- the moment --- */

static void let_go(struct comer *c)
{
    struct proc *p = proc_of(c);
    struct kid *k = p ? p->stand : NULL;
    struct image_go g = { .go = IMAGE_GO, .rank = (int32_t)c->rank };

    if (!k || p->state != PROC_STARTING || k->p.state == PROC_ENDED || k->p.pidfd < 0 ||
        send(c->control, &g, sizeof g, MSG_NOSIGNAL) != sizeof g) {
        fails(c, EIO, "its stand-in has ended");
        return;
    }
    k->p.real = true; /* from here on there is no way back */
    k->p.ghost_stopped = false;
    p->state = PROC_RUNNING;
    c->at = COMER_HERE;
    hang_up(c);
    if (p->ghost_stopped)
        body_signal(c->m->all->ps, p, SIGSTOP);
}

/* An earlier procspace has begun it: what was let go is a process, all others are ghosts
 * again, or about to be. */
static void seek(struct comer *c)
{
    procspace_t *ps = c->m->all->ps;
    const struct kid *k = kid_find(ps, c->m->asked_on, c->npid);

    if (k && k->p.real)
        c->at = COMER_HERE;
    else if ((k && ghost_stands(&k->p)) ||
             (!ps->recovery && now_ms() - c->m->made > SEEK_MS))
        fails(c, EIO, "it did not arrive");
}

static void look(struct comer *c)
{
    struct move *m = c->m;
    const struct proc *p = proc_of(c);

    if (c->at == COMER_SOUGHT)
        seek(c);
    else if (!p || p->state == PROC_ENDED) /* it did not even begin */
        fails(c, ECANCELED, "it was called off");
    else if (c->at == COMER_CALLED && now_ms() - m->comers_asked > FETCH_MS)
        fails(c, ETIMEDOUT, "its stand-in does not come for it");
    else if (c->at == COMER_BUILDING && m->cut)
        /* Who was to bring it never came: the restorer would wait for ever. */
        for (size_t i = 0; i < m->stops; i++)
            if (m->stop[i].node < 0)
                contents_image_drop(m->all->ps->contents, m->stop[i].to.ticket.token);
}

static bool comers_round(struct move *m)
{
    bool settled = true;

    if (!m->comers_asked)
        m->comers_asked = now_ms();
    for (struct comer *c = m->comers; c; c = c->next) {
        look(c);
        settled &= c->at == COMER_READY || c->at == COMER_FAILED || c->at == COMER_HERE;
    }
    for (struct comer *c = m->comers; settled && c; c = c->next) {
        if (m->go && c->at == COMER_READY)
            let_go(c);
        if (c->at == COMER_FAILED && !c->told) {
            c->told = true;
            move_failed(m, c->rank, c->err.code, c->err.text);
        }
    }
    return settled;
}

void comers_look(struct move *m)
{
    bool open = false;

    for (size_t i = 0; i < m->stops; i++)
        open |= m->stop[i].node < 0 && m->stop[i].state == STOP_OPEN;
    open = open && comers_round(m);
    for (size_t i = 0; open && i < m->stops; i++)
        if (m->stop[i].node < 0)
            m->stop[i].state = STOP_DONE;
}

void move_look(struct move *m)
{
    if (!m->asker || m->over || m->waiting || !m->timer)
        return;
    loop_timer_del(m->all->ps->loop, m->timer);
    m->timer = 0;
    move_ask(m);
}

int comers_of_before(struct move *m, const msgpack_object *body, struct err *err)
{
    const msgpack_object_array *pids;
    int64_t pid;

    if (mp_get_array(body, "pids", &pids, err) < 0)
        return -1;
    for (size_t i = 0; i < m->stops; i++) {
        if (m->stop[i].node >= 0)
            continue;
        struct comer *c = i < pids->size && mp_as_int(&pids->ptr[i], &pid) && pid > 0 &&
                                  pid <= INT32_MAX
                              ? add(m, (uint32_t)i, (pid_t)pid)
                              : NULL;
        if (!c)
            return err_set(err, EPROTO, "pids: want one for each node");
        c->at = COMER_SOUGHT;
    }
    return 0;
}
