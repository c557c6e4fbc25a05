/* move_home.c - a process that comes from a node to the master
 *
 * It takes the place of its ghost, whose parent is its own: the ghost is rung,
 * fetches the descriptor of the image from RUN/move, and executes bprestore,
 * which speaks with us on that connection. When it is ready, the process has
 * left its node, and what it has said there is read, it is let go; from then on
 * it is an ordinary process of the master's. A restorer that fails is a ghost
 * again, and the process goes on where it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "image/image.h"
#include "image/pipe.h"
#include "services/procspace/family.h"
#include "services/procspace/move_kin.h"

#define GHOST_MS 10000 /* for a ghost to come for its process */
#define COME_MS 5000   /* for an image that was sent to begin to come */
#define SEEK_AGAIN_MS 50
#define SEEK_MS 1000
#define SEEK_LONG_MS 20000
#define DRAIN_LOOK_MS 250 /* whether what it has said is read, before it says more here */

static void on_home_word(void *arg, int fd, uint32_t events)
{
    struct move *m = arg;
    struct image_word w;
    ssize_t n = recv(fd, &w, sizeof w, MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == sizeof w && w.code == 0) {
        m->home = HOME_READY;
    } else {
        w.text[sizeof w.text - 1] = 0;
        err_set(&m->home_err, n == sizeof w ? (int)w.code : EIO, "%s",
                n == sizeof w ? w.text : "its stand-in has ended");
        if (m->home == HOME_BUILDING || m->home == HOME_READY)
            m->home = HOME_FAILED;
        loop_fd_del(m->all->ps->loop, fd);
    }
    home_settled(m);
}

static void on_no_ghost(void *arg)
{
    struct move *m = arg;

    m->timer = 0;
    if (m->home != HOME_CALLED)
        return;
    m->home = HOME_FAILED;
    err_set(&m->home_err, ETIMEDOUT, "its stand-in does not answer");
    home_settled(m);
}

/* Its mover says that all of it is sent, and who was to bring it never came: the
 * restorer would wait for ever. */
static void on_awaited(void *arg)
{
    struct move *m = arg;

    m->awaited = 0;
    if (contents_image_drop(m->all->ps->contents, m->stop[0].to.ticket.token))
        svc_log("warning", "process %d: its image does not come", (int)m->ghost);
}

void home_free(struct move *m)
{
    loop_timer_del(m->all->ps->loop, m->awaited);
    if (m->home != HOME_NO && m->stops)
        contents_image_drop(m->all->ps->contents, m->stop[0].to.ticket.token);
    if (m->control >= 0)
        loop_fd_del(m->all->ps->loop, m->control);
    cleanup_close(&m->control);
    cleanup_close(&m->home_fd);
}

void home_call_off(struct move *m)
{
    if (m->home == HOME_DEPARTING || m->home == HOME_HERE)
        return; /* it was told that it is decided */
    loop_timer_del(m->all->ps->loop, m->timer); /* nobody is waited for any more */
    m->timer = 0;
    contents_image_drop(m->all->ps->contents, m->stop[0].to.ticket.token);
    if (m->control >= 0) /* its restorer sees the end, and is a ghost again */
        loop_fd_del(m->all->ps->loop, m->control);
    cleanup_close(&m->control);
    m->home = HOME_FAILED;
}

/* It is sent anew, so what was begun before has failed where it came from: the agent
 * there has died before it brought the image, or the word that it was called off. */
static void call_off_earlier(const struct move *m)
{
    for (struct move *o = m->all->first; o; o = o->next) {
        if (o == m || o->over || o->ghost != m->ghost ||
            (o->home != HOME_CALLED && o->home != HOME_BUILDING && o->home != HOME_READY))
            continue;
        home_call_off(o);
        err_set(&o->home_err, ECANCELED, "it was sent anew");
        home_settled(o);
    }
}

int move_home(struct move *m, struct proc *p, struct err *err)
{
    procspace_t *ps = m->all->ps;
    int s[2];

    m->stop = calloc(1, sizeof *m->stop);
    if (!m->stop || !p || !p->was)
        return err_set(err, ENOMEM, "out of memory");
    m->stops = 1;
    m->stop[0].node = -1;
    if (image_pipe(s) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    m->home_fd = s[0];
    if (contents_image(ps->contents, &s[1], 1, &m->stop[0].to.ticket, &m->stop[0].to.port, err) <
        0) {
        close(s[1]);
        return -1;
    }
    m->home = HOME_CALLED;
    m->ghost = p->pid;
    call_off_earlier(m);
    m->timer = loop_timer(ps->loop, GHOST_MS, false, on_no_ghost, m);
    return kin_call_home(m, p, err);
}

bool move_order(procspace_t *ps, const struct proc *p, mp_buf *out)
{
    char text[PATH_MAX + 64];

    for (struct move *m = ps->moves->first; m; m = m->next) {
        if (m->home != HOME_CALLED || m->ghost != p->pid)
            continue;
        int n = snprintf(text, sizeof text, "%s%c%.4000s/bprestore", m->token, 0, cm_libexec());
        mp_array(out, 10);
        mp_int(out, 3);
        for (int i = 0; i < 7; i++)
            mp_int(out, 0);
        mp_bin(out, "", 0);
        mp_bin(out, text, (size_t)n + 1);
        return true;
    }
    return false;
}

bool home_give(struct caller *k, struct move *m)
{
    int fd = k->fd;
    struct err err = { 0 };

    if (m->home != HOME_CALLED || k->pid != m->ghost ||
        pkt_send(fd, "", 1, &m->home_fd, 1, &err) < 0)
        return false;
    m->token[0] = 0;
    loop_timer_del(m->all->ps->loop, m->timer);
    m->timer = 0;
    cleanup_close(&m->home_fd);
    m->home = HOME_BUILDING;
    m->control = fd;
    k->fd = -1;
    return loop_fd(m->all->ps->loop, fd, EPOLLIN, on_home_word, m, NULL) == 0;
}


/* Its restorer is told that it is decided, with what its output goes to: whatever
 * becomes of us, the process is here from now on. */
static void home_decide(struct move *m, uint64_t launch)
{
    struct image_go g = { .go = IMAGE_GO_ALONE, .rank = 0, .fds = 3 };
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(3 * sizeof(int))];
    } ctl;
    struct iovec iov = { &g, sizeof g };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl,
                         .msg_controllen = sizeof ctl.room };
    CLEANUP(cleanup_close) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CLEANUP(cleanup_close) int out = readers_out(m->all->ps, launch, 1);
    CLEANUP(cleanup_close) int err = readers_out(m->all->ps, launch, 2);
    int fds[3] = { null, out >= 0 ? out : null, err >= 0 ? err : null };

    memset(&ctl, 0, sizeof ctl);
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(c), fds, sizeof fds);
    m->home = HOME_DEPARTING;
    if (sendmsg(m->control, &mh, MSG_NOSIGNAL) != sizeof g)
        svc_log("warning", "process %d: %s", (int)m->ghost, strerror(errno));
}

static void home_go(struct move *m)
{
    procspace_t *ps = m->all->ps;
    struct launch *l = launch_find(ps, m->launch);
    struct proc *p = l ? l->rank[0] : NULL;
    struct image_go g = { .go = IMAGE_GO };

    m->home = HOME_HERE;
    if (send(m->control, &g, sizeof g, MSG_NOSIGNAL) != sizeof g)
        svc_log("warning", "process %d: %s", (int)m->ghost, strerror(errno));
    loop_fd_del(ps->loop, m->control);
    cleanup_close(&m->control);
    if (p) {
        p->state = PROC_RUNNING;
        if (!kin_is_home(m, p))
            proc_leave(ps, p);
        family_gone(ps, m->launch);
    }
    move_tell(m);
}

static void on_drain_look(void *arg);

static void wait_for_reader(struct move *m)
{
    m->timer = loop_timer(m->all->ps->loop, DRAIN_LOOK_MS, false, on_drain_look, m);
}

static void on_drain_look(void *arg)
{
    struct move *m = arg;
    procspace_t *ps = m->all->ps;
    const struct launch *l = launch_find(ps, m->launch);
    const struct proc *p = l && l->ranks ? l->rank[0] : NULL;

    m->timer = 0;
    if (p && p->was && (said_speaks_yet(ps, p->was->launch->id) ||
                        !readers_late(ps, p->was->launch->id, &m->patience))) {
        wait_for_reader(m);
        return;
    }
    m->late = true;
    if (m->home == HOME_DEPARTING)
        home_go(m);
    else
        home_settled(m);
}

void home_settled(struct move *m)
{
    struct launch *l = launch_find(m->all->ps, m->launch);
    struct proc *p = l ? l->rank[0] : NULL, *was = p ? p->was : NULL;

    if (m->asker && !m->awaited && (m->home == HOME_CALLED || m->home == HOME_BUILDING))
        m->awaited = loop_timer(m->all->ps->loop, COME_MS, false, on_awaited, m);
    if (!m->asker || m->over || m->waiting || m->timer)
        return;
    /* What has ended since then may have been waited for by its ghost. */
    if (m->home == HOME_READY && !family_whole(m->all->ps, m->launch)) {
        home_call_off(m);
        err_set(&m->home_err, EBUSY, "a child has ended meanwhile");
    }
    if (m->home == HOME_FAILED || (m->home == HOME_READY && !was)) {
        move_failed(m, 0, m->home_err.code ? m->home_err.code : EIO, m->home_err.text);
        move_tell(m);
    } else if (m->home == HOME_READY && !m->late &&
               readers_awaited(m->all->ps, was->launch->id)) {
        wait_for_reader(m);
    } else if (m->home == HOME_READY && was) { /* from here on there is no way back */
        m->speaks = kin_speaks_in(m->all->ps, was);
        m->late = false;
        m->patience = (struct patience){ 0 };
        home_decide(m, m->speaks ? m->speaks : was->launch->id);
        move_depart(m, was, was->node);
    } else if (m->home == HOME_DEPARTING && !said_waits(m)) {
        if (!m->late && was && !m->speaks &&
            readers_busy(m->all->ps, was->launch->id, was->rank))
            wait_for_reader(m);
        else
            home_go(m);
    }
}

/* A restorer whose procspace has gone is a ghost again in a moment. */
static bool restoring(const struct move *m)
{
    return now_ms() - m->all->since < (restorer_stands(m->ghost) ? SEEK_LONG_MS : SEEK_MS);
}

static void seek(void *arg)
{
    struct move *m = arg;
    procspace_t *ps = m->all->ps;
    struct proc *p = proc_find(ps, m->ghost);
    struct err err = { 0 };
    uint64_t of;
    CLEANUP(cleanup_close) int fd = ghost_take(m->ghost, m->uid, &of, &err);

    /* If that stands for one that has been here, and gone on, it is another launch's. */
    bool there = fd >= 0 && p && p->node == m->was_on;
    m->timer = 0;
    if (fd >= 0 && !there && !recovered_all(ps)) {
        m->timer = loop_timer(ps->loop, SEEK_AGAIN_MS, false, seek, m);
    } else if (there) { /* its process goes on where it is */
        m->home = HOME_FAILED;
        err_set(&m->home_err, EIO, "it did not arrive");
        home_settled(m);
    } else if (fd < 0 && err.code != ESRCH && restoring(m)) {
        m->timer = loop_timer(ps->loop, SEEK_AGAIN_MS, false, seek, m);
    } else {
        m->home = HOME_HERE;
        if (fd < 0 && p && p->state == PROC_RUNNING) { /* it was taken for its own ghost */
            kin_seen(m, p);
            proc_leave(ps, p);
        }
        move_left_node(m);
    }
}

void home_seek(struct move *m)
{
    m->timer = loop_timer(m->all->ps->loop, 0, false, seek, m);
}

/* Some reader is here, or has read something to its end. */
void moves_drained(procspace_t *ps)
{
    for (struct move *m = ps->moves ? ps->moves->first : NULL; m; m = m->next) {
        struct launch *l = launch_find(ps, m->launch);
        struct proc *p = l && l->ranks ? l->rank[0] : NULL;
        if (!m->timer || m->waiting || (m->home != HOME_DEPARTING && m->home != HOME_READY) ||
            (m->home == HOME_DEPARTING && p && p->was &&
             readers_busy(ps, p->was->launch->id, p->was->rank)))
            continue;
        loop_timer_del(ps->loop, m->timer);
        m->timer = 0;
        if (m->home == HOME_DEPARTING)
            home_go(m);
        else
            home_settled(m);
    }
}
