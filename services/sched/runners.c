/* runners.c - what runners and the starter say, and what is said to them */
#include "services/sched/db.h"
#include "services/sched/starter.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/pkt.h"

/* ---- files: who started which attempt ---- */

int runner_state(const struct job *j)
{
    char path[PATH_MAX];

    sched_lock_path(path, j->pub.id, j->attempt);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) { /* it can never be started now */
        close(fd);
        return 0;
    }
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    bool free = flock(fd, LOCK_EX | LOCK_NB) == 0;
    struct stat st;
    bool ours = fstat(fd, &st) == 0 && st.st_size == 0; /* made above, in a life before this */
    close(fd);
    return !free ? -1 : ours ? 0 : 1;
}

/* A runner of this life that was given up may still come, and must find its file. */
void runner_files_drop(const struct job *j)
{
    char path[PATH_MAX];

    if (j->flags & JOB_GIVEN_UP)
        return;
    for (uint32_t i = 1; !(j->flags & JOB_INTERACTIVE) && i <= j->attempt; i++)
        unlink(sched_lock_path(path, j->pub.id, i));
}

void runner_files_tidy(sched_t *s)
{
    char path[PATH_MAX];
    DIR *d = opendir(sched_path(path, ""));
    struct dirent *e;

    while (d && (e = readdir(d))) {
        char *end;
        uint64_t id = strtoull(e->d_name, &end, 10);
        if (id && *end == '.' && !job_find(s, id))
            unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d)
        closedir(d);
}

/* ---- to runners ---- */

int runner_send(struct run *r, const char *key, int value)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    if (r->runner < 0)
        return -1;
    mp_map(&m, 1);
    if (strcmp(key, "sig") == 0)
        mp_kint(&m, key, value);
    else
        mp_kbool(&m, key, true);
    return pkt_send(r->runner, m.b.data, m.b.size, NULL, 0, NULL);
}

static void send_ack(int fd)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_map(&m, 1);
    mp_kbool(&m, "ack", true);
    pkt_send(fd, m.b.data, m.b.size, NULL, 0, NULL);
}

void runner_ack(sched_t *s, struct run *r)
{
    if (r->runner < 0)
        return;
    loop_fd_del(s->loop, r->runner);
    if (s->nacks == s->acks_room) {
        size_t room = s->acks_room ? s->acks_room * 2 : 64;
        int *v = realloc(s->acks, room * sizeof *v);
        if (!v)
            abort();
        s->acks = v;
        s->acks_room = room;
    }
    s->acks[s->nacks++] = r->runner;
    r->runner = -1;
}

void acks_send(sched_t *s)
{
    for (size_t i = 0; i < s->nacks; i++) {
        send_ack(s->acks[i]);
        close(s->acks[i]);
    }
    s->nacks = 0;
}

/* ---- the start of a job ---- */

static void pack_blob(mp_buf *m, const char *key, const void *p, size_t n)
{
    mp_key(m, key);
    if (p && n)
        msgpack_sbuffer_write(&m->b, p, n);
    else
        mp_array(m, 0);
}

static void pack_start(const struct job *j, const struct text *t, mp_buf *m)
{
    CLEANUP(cleanup_free) char *nodes = job_nodes(j);

    mp_map(m, 17);
    mp_kuint(m, "job", j->pub.id);
    mp_kuint(m, "attempt", j->attempt);
    mp_kuint(m, "uid", j->pub.uid);
    mp_kuint(m, "gid", j->gid);
    mp_kuint(m, "cpus", j->pub.cpus);
    mp_kuint(m, "mem_mb", j->pub.mem_mb);
    pack_blob(m, "groups", t->groups, t->groups_bytes);
    pack_blob(m, "env", t->env, t->env_bytes);
    mp_kint(m, "umask", t->umask);
    mp_kbool(m, "script", j->flags & JOB_SCRIPT);
    mp_kint(m, "index", j->index);
    mp_kuint(m, "array", j->array);
    mp_kbin(m, "nodes", nodes ? nodes : "", nodes ? strlen(nodes) : 0);
    mp_kbin(m, "shell", t->shell ? t->shell : "", t->shell ? strlen(t->shell) : 0);
    mp_kbin(m, "command", t->command ? t->command : "", t->command ? strlen(t->command) : 0);
    mp_kbin(m, "dir", t->dir ? t->dir : "", t->dir ? strlen(t->dir) : 0);
    mp_kbin(m, "output", t->output ? t->output : "", t->output ? strlen(t->output) : 0);
}

int starter_send(sched_t *s, struct job *j, struct err *err)
{
    CLEANUP(text_free) struct text t = { 0 };
    CLEANUP(mp_free) mp_buf m;
    struct err why = { 0 };

    mp_init(&m);
    int rc = db_text(s->db, j->text, &t, err);
    if (rc <= 0)
        return rc < 0 ? -1 : err_set(err, ENOENT, "what it is to run is not known any more");
    pack_start(j, &t, &m);
    if (pkt_send(s->starter, m.b.data, m.b.size, NULL, 0, &why) == 0)
        return 0;
    return err_set(err, why.code, "the starter: %s", why.text);
}

static void on_starter(void *arg, int fd, uint32_t events)
{
    sched_t *s = arg;
    msgpack_unpacked u;
    struct pkt p;

    (void)events;
    int rc = pkt_recv(fd, &p, NULL);
    if (rc <= 0) { /* a new life makes a new one */
        svc_log("error", "the starter has died: starting again");
        loop_stop(s->loop, -1);
        return;
    }
    msgpack_unpacked_init(&u);
    if (mp_decode(&u, p.data, p.len, NULL) == 0) {
        struct job *j = job_find(s, (uint64_t)mp_opt_int(&u.data, "job", 0));
        if (j && j->state == JOB_STARTING && mp_opt_int(&u.data, "attempt", 0) == j->attempt)
            run_failed_to_start(s, j, strerror((int)mp_opt_int(&u.data, "error", EAGAIN)));
    }
    msgpack_unpacked_destroy(&u);
    pkt_clear(&p);
}

/* ---- from runners ---- */

struct guest { /* a connection that has not said whose it is, or is nobody's */
    sched_t *s;
    int fd;
};

static void on_runner(void *arg, int fd, uint32_t events);

static void take_report(sched_t *s, struct job *j, const msgpack_object *o)
{
    CLEANUP(cleanup_free) char *why = mp_opt_dup(o, "why");

    j->on_master = (struct used){ mp_opt_int(o, "utime", 0), mp_opt_int(o, "stime", 0),
                                  mp_opt_int(o, "maxrss", 0) };
    if (why && *why && !j->run->why[0])
        snprintf(j->run->why, sizeof j->run->why, "it could not be started: %.150s", why);
    run_ended(s, j, (int)mp_opt_int(o, "status", SIGKILL), mp_opt_int(o, "ended", wall_ms()));
}

static void runner_gone(sched_t *s, struct job *j)
{
    loop_fd_del(s->loop, j->run->runner);
    close(j->run->runner);
    j->run->runner = -1;
    if (!j->run->has_report)
        run_sweep_soon(s, j); /* it comes back, or is dead */
}

static void on_runner(void *arg, int fd, uint32_t events)
{
    struct run *r = arg;
    struct job *j = r->job;
    sched_t *s = r->sched;
    msgpack_unpacked u;
    struct pkt p;

    (void)events;
    int rc = pkt_recv(fd, &p, NULL);
    if (rc <= 0) {
        if (rc == 0 || (errno != EAGAIN && errno != EINTR))
            runner_gone(s, j);
        return;
    }
    msgpack_unpacked_init(&u);
    if (mp_decode(&u, p.data, p.len, NULL) == 0 && mp_get(&u.data, "ended"))
        take_report(s, j, &u.data);
    msgpack_unpacked_destroy(&u);
    pkt_clear(&p);
}

/* It says whose runner it is. */
static void take_hello(struct guest *g, const msgpack_object *o)
{
    sched_t *s = g->s;
    struct job *j = job_find(s, (uint64_t)mp_opt_int(o, "job", 0));
    struct err err = { 0 };

    if (!j || j->attempt != mp_opt_int(o, "attempt", -1) || !j->run ||
        (j->state != JOB_STARTING && j->state != JOB_RUNNING) ||
        (j->run->runner >= 0 && j->run->pid != mp_opt_int(o, "pid", 0))) {
        CLEANUP(mp_free) mp_buf m;
        mp_init(&m);
        mp_map(&m, 1); /* nobody waits for it: it is to end all that it has, and go */
        mp_kbool(&m, mp_get(o, "ended") ? "ack" : "kill", true);
        pkt_send(g->fd, m.b.data, m.b.size, NULL, 0, NULL);
        return;
    }
    struct run *r = j->run;
    if (r->runner >= 0) { /* it has left that one */
        loop_fd_del(s->loop, r->runner);
        close(r->runner);
    }
    r->runner = g->fd;
    r->pid = (pid_t)mp_opt_int(o, "pid", 0);
    r->began = (unsigned long long)mp_opt_int(o, "sid", 0);
    if (loop_fd(s->loop, g->fd, EPOLLIN, on_runner, r, &err) < 0)
        svc_log("error", "job %llu: %s", (unsigned long long)j->pub.id, err.text);
    free(g);
    run_started(s, j, mp_opt_int(o, "started", wall_ms()));
}

static void on_guest(void *arg, int fd, uint32_t events)
{
    struct guest *g = arg;
    msgpack_unpacked u;
    struct pkt p;

    (void)events;
    int rc = pkt_recv(fd, &p, NULL);
    if (rc < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (rc <= 0) {
        loop_fd_del(g->s->loop, fd);
        close(fd);
        free(g);
        return;
    }
    msgpack_unpacked_init(&u);
    if (mp_decode(&u, p.data, p.len, NULL) == 0)
        take_hello(g, &u.data);
    msgpack_unpacked_destroy(&u);
    pkt_clear(&p);
}

static void on_listener(void *arg, int fd, uint32_t events)
{
    sched_t *s = arg;

    (void)events;
    for (int i = 0; i < 64; i++) {
        int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct guest *g = c < 0 ? NULL : malloc(sizeof *g);
        if (c < 0)
            return;
        if (g)
            *g = (struct guest){ s, c };
        if (!g || loop_fd(s->loop, c, EPOLLIN, on_guest, g, NULL) < 0) {
            free(g);
            close(c);
        }
    }
}

int runners_open(sched_t *s, struct err *err)
{
    char path[PATH_MAX];

    s->listener = pkt_listen(sched_path(path, "runners"), 0600, err);
    if (s->listener < 0)
        return -1;
    listen(s->listener, 4096);
    fcntl(s->listener, F_SETFL, O_NONBLOCK);
    fcntl(s->starter, F_SETFL, O_NONBLOCK);
    return loop_fd(s->loop, s->listener, EPOLLIN, on_listener, s, err) < 0 ||
           loop_fd(s->loop, s->starter, EPOLLIN, on_starter, s, err) < 0 ? -1 : 0;
}
