/* svc.c - requests over a real busd: answered once, repeated safely, folded, timed
 *
 * A busd of its own in a folder of its own; in the child a service "test", in
 * the parent a gate client and a service that asks it.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/gate.h"
#include "bus/rundir.h"
#include "bus/svc.h"
#include "tests/unit/tap.h"

static char dir[] = "/tmp/cm-svc.XXXXXX";
static pid_t busd, service;
static loop_t *service_loop;
static svc_t *service_svc;
static int counted;
static svc_token *held;

/* --- the service --- */

static int on_echo(void *self, struct svc_req *req, struct err *err)
{
    (void)self;
    (void)err;
    mp_obj(req->reply, req->body);
    return 0;
}

static int on_who(void *self, struct svc_req *req, struct err *err)
{
    (void)self;
    (void)err;
    mp_array(req->reply, 3);
    mp_int(req->reply, req->w->uid);
    mp_int(req->reply, req->w->pid);
    mp_int(req->reply, req->w->node);
    return 0;
}

static int on_count(void *self, struct svc_req *req, struct err *err)
{
    (void)self;
    (void)err;
    mp_int(req->reply, ++counted);
    return 0;
}

static int on_refuse(void *self, struct svc_req *req, struct err *err)
{
    (void)self;
    (void)req;
    return err_set(err, EDOM, "the moon is in the wrong house");
}

static int on_hold(void *self, struct svc_req *req, struct err *err)
{
    (void)self;
    (void)err;
    counted++;
    held = req->token;
    return SVC_LATER;
}

static int on_release(void *self, struct svc_req *req, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;

    (void)self;
    (void)err;
    mp_init(&m);
    mp_str(&m, "released");
    if (held)
        svc_answer(service_svc, held, &m);
    held = NULL;
    mp_nil(req->reply);
    return 0;
}

static int on_tell(void *self, struct svc_req *req, struct err *err)
{
    (void)self;
    (void)err;
    CLEANUP(mp_free) mp_buf m;
    mp_init(&m);
    mp_map(&m, 1);
    mp_kstr(&m, "text", "hello");
    svc_publish(service_svc, "test.told", &m);
    mp_nil(req->reply);
    return 0;
}

static int on_root(void *self, struct svc_req *req, struct err *err)
{
    (void)self;
    (void)err;
    mp_nil(req->reply);
    return 0;
}

static const struct svc_method methods[] = {
    { "test.echo", on_echo, SVC_USER },
    { "test.who", on_who, SVC_USER },
    { "test.count", on_count, SVC_USER | SVC_CHANGES },
    { "test.refuse", on_refuse, SVC_USER },
    { "test.hold", on_hold, SVC_USER | SVC_CHANGES },
    { "test.release", on_release, SVC_USER },
    { "test.tell", on_tell, SVC_USER },
    { "test.root", on_root, SVC_ADMIN },
    SVC_METHODS_END
};

static void serve(int ready)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    service_loop = loop_create(NULL);
    service_svc = svc_create(service_loop, "test", methods, NULL, NULL);
    svc_ready(ready);
    loop_run(service_loop);
    _exit(0);
}

static pid_t start_busd(void)
{
    char path[4096], fd[16];
    int p[2];
    char c;

    if (pipe(p) < 0)
        exit(1);
    snprintf(path, sizeof path, "%s/busd", cm_libexec());
    snprintf(fd, sizeof fd, "%d", p[1]);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(path, path, "--listen", "tcp://127.0.0.1:*", "--ready-fd", fd, (char *)NULL);
        _exit(127);
    }
    close(p[1]);
    if (read(p[0], &c, 1) != 1)
        exit(1);
    close(p[0]);
    return pid;
}

static pid_t start_service(void)
{
    int p[2];
    char c;

    if (pipe(p) < 0)
        exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        close(p[0]);
        serve(p[1]);
    }
    close(p[1]);
    if (read(p[0], &c, 1) != 1)
        exit(1);
    close(p[0]);
    return pid;
}

static void stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* --- the claims --- */

static int64_t call_int(gate_t *g, const char *topic, struct err *err)
{
    msgpack_unpacked u;
    int64_t v = -1;

    if (gate_call(g, topic, NULL, 8000, &u, err) == 0) {
        if (!mp_as_int(&u.data, &v))
            v = -2;
        msgpack_unpacked_destroy(&u);
    }
    return v;
}

static void asks(gate_t *g)
{
    struct err err = { 0 };
    msgpack_unpacked u;
    int64_t v[3] = { 0 };
    CLEANUP(mp_free) mp_buf m;
    char *big = malloc(3000000);

    mp_init(&m);
    memset(big, 'x', 3000000);
    mp_bin(&m, big, 3000000);
    ok(gate_call(g, "test.echo", &m, 8000, &u, &err) == 0 &&
           u.data.type == MSGPACK_OBJECT_BIN && u.data.via.bin.size == 3000000 &&
           memcmp(u.data.via.bin.ptr, big, 3000000) == 0,
       "three megabytes go there and back");
    msgpack_unpacked_destroy(&u);
    free(big);
    ok(gate_call(g, "test.who", NULL, 8000, &u, &err) == 0 &&
           u.data.type == MSGPACK_OBJECT_ARRAY && mp_as_int(&u.data.via.array.ptr[0], &v[0]) &&
           mp_as_int(&u.data.via.array.ptr[1], &v[1]) &&
           mp_as_int(&u.data.via.array.ptr[2], &v[2]),
       "a service hears who asks");
    msgpack_unpacked_destroy(&u);
    ok(v[0] == getuid() && v[1] == getpid() && v[2] == -1, "and it is the kernel's word");
    ok(call_int(g, "test.refuse", &err) < 0 && err.code == EDOM, "a refusal keeps its code");
    is(err.text, "the moon is in the wrong house", "and its words");
    ok(call_int(g, "test.nothing", &err) < 0 && err.code == ENOSYS,
       "an unknown request is ENOSYS");
    says(err.text, "test.nothing", "and named");
}

static void repeats_are_safe(gate_t *g)
{
    struct err err = { 0 };
    uint64_t id = 0;
    int64_t v[3] = { -1, -1, -1 };
    int64_t before = call_int(g, "test.count", &err);

    for (int i = 0; i < 3; i++)
        gate_send(g, "test.count", NULL, 8000, &id, &err);
    for (int i = 0; i < 3; i++) {
        struct gate_msg m;
        if (gate_recv(g, 8000, &m, &err) != 1)
            break;
        if (m.w.id == id)
            mp_as_int(&m.u.data, &v[i]);
        gate_msg_clear(&m);
    }
    ok(v[0] == before + 1 && v[1] == v[0] && v[2] == v[0],
       "a request sent three times under one id acts once and is answered alike");
    ok(call_int(g, "test.count", &err) == before + 2, "a new id acts again");

    before = call_int(g, "test.count", &err);
    id = 0;
    int answers = 0;
    gate_send(g, "test.hold", NULL, 8000, &id, &err);
    gate_send(g, "test.hold", NULL, 8000, &id, &err);
    uint64_t other = 0;
    gate_send(g, "test.release", NULL, 8000, &other, &err);
    for (int i = 0; i < 3; i++) {
        struct gate_msg m;
        if (gate_recv(g, 8000, &m, &err) != 1)
            break;
        answers += m.w.id == id && mp_is(&m.u.data, "released");
        gate_msg_clear(&m);
    }
    ok(answers == 2, "a repeated request is joined to the one being worked on");
    ok(call_int(g, "test.count", &err) == before + 2, "which was begun once");
}

static void events(gate_t *g)
{
    struct err err = { 0 };
    bool told = false;
    uint64_t id = 0;

    ok(gate_subscribe(g, "test.", &err) == 0, "a gate client subscribes");
    gate_send(g, "test.tell", NULL, 8000, &id, &err);
    for (int i = 0; i < 3 && !told; i++) {
        struct gate_msg m;
        if (gate_recv(g, 8000, &m, &err) != 1)
            break;
        told = m.w.kind == WIRE_EVENT && strcmp(m.w.topic, "test.told") == 0 &&
               strcmp(m.w.from, "test") == 0 && m.w.deadline > 0;
        gate_msg_clear(&m);
    }
    ok(told, "and hears the event, with its service and time");
}

static void outages(gate_t *g)
{
    struct err err = { 0 };

    stop(service);
    msgpack_unpacked u;
    int64_t t = now_ms();
    ok(gate_call(g, "test.echo", NULL, 1000, &u, &err) < 0, "without its service a call fails");
    ok(err.code == ECONNREFUSED || err.code == ETIMEDOUT, "as not running, or in time");
    says(err.text, "test", "and the service is named");
    ok(now_ms() - t >= 900, "after it had waited for a restart");
    service = start_service();
    ok(call_int(g, "test.count", &err) == 1, "a restarted service answers the same client");
    stop(busd);
    busd = start_busd();
    ok(call_int(g, "test.count", &err) == 2, "so it does after the bus was restarted");
    gate_t *fresh = gate_open("test", &err);
    ok(fresh && call_int(fresh, "test.count", &err) == 3, "and a new client");
    gate_close(&fresh);
}

struct fold {
    int each, down, done;
    loop_t *loop;
};

static void on_each(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct fold *f = arg;

    (void)node;
    f->each++;
    f->down += !value && err->code == BE_NODEDOWN;
}

static void on_done(void *arg)
{
    struct fold *f = arg;
    f->done++;
    loop_stop(f->loop, 0);
}

static void on_reply(void *arg, const msgpack_object *value, const struct err *err)
{
    struct fold *f = arg;

    f->each++;
    f->down += !value && err->code == ETIMEDOUT;
    loop_stop(f->loop, 0);
}

static void folds(void)
{
    struct err err = { 0 };
    int nodes[] = { 0, 1, 2, 70 };
    static const struct svc_method none[] = { SVC_METHODS_END };
    CLEANUP(loop_destroy) loop_t *l = loop_create(&err);
    CLEANUP(svc_destroy) svc_t *s = svc_create(l, "asker", none, NULL, &err);
    struct fold f = { .loop = l };

    svc_call_nodes(s, nodes, 4, "ps", NULL, 8000, on_each, on_done, &f);
    loop_run(l);
    ok(f.each == 4 && f.done == 1, "a call to four nodes answers for each, then is done once");
    ok(f.down == 4, "those that are not connected are down at once");
    f = (struct fold){ .loop = l };
    svc_call(s, "test.hold", NULL, 700, on_reply, &f);
    loop_run(l);
    ok(f.each == 1 && f.down == 1, "a call that is not answered ends in ETIMEDOUT, once");
}

/* --- a service that follows another's events --- */

struct following {
    loop_t *loop;
    svc_t *svc;
    int events, asked, connects;
    bool late; /* an answer came before the event that was told in front of it */
};

static void on_told(void *arg, const struct wire *w, const msgpack_object *body)
{
    struct following *f = arg;

    (void)w;
    (void)body;
    f->events++;
}

static void on_tell_answer(void *arg, const msgpack_object *value, const struct err *err)
{
    struct following *f = arg;

    (void)err;
    f->asked += value != NULL;
    f->late |= f->events < f->asked;
    loop_stop(f->loop, 0);
}

static void on_following(void *arg)
{
    struct following *f = arg;

    f->connects++;
    svc_call(f->svc, "test.tell", NULL, 8000, on_tell_answer, f);
}

/* New each time, as a service that has just been started: what it asks for as
 * soon as the bus knows it must not be told before its events are. */
static void follows_from_the_start(void)
{
    static const struct svc_method none[] = { SVC_METHODS_END };
    struct err err = { 0 };
    int answers = 0, events = 0, late = 0, connects = 0;

    for (int i = 0; i < 50; i++) {
        CLEANUP(loop_destroy) loop_t *l = loop_create(&err);
        CLEANUP(svc_destroy) svc_t *s = svc_create(l, "follower", none, NULL, &err);
        struct following f = { .loop = l, .svc = s };
        svc_follow(s, "other.", on_told, &f, &err);
        svc_follow(s, "test.", on_told, &f, &err);
        svc_on_connect(s, on_following, &f);
        loop_run(l);
        answers += f.asked;
        events += f.events;
        connects += f.connects;
        late += f.late;
    }
    ok(answers == 50 && connects == 50, "a service is told once that the bus knows it");
    ok(events == 50, "and gets every event from then on");
    ok(late == 0, "each before the answer that was given after it");
}

int main(void)
{
    struct err err = { 0 };

    if (!mkdtemp(dir))
        return 1;
    setenv("CM_RUNDIR", dir, 1);
    setenv("CM_STATEDIR", dir, 1);
    const char *build = getenv("CM_BUILD");
    char libexec[4096];
    snprintf(libexec, sizeof libexec, "%s/libexec/clustermatic", build ? build : "build");
    setenv("CM_LIBEXEC", libexec, 1);
    signal(SIGPIPE, SIG_IGN);

    busd = start_busd();
    service = start_service();
    gate_t *g = gate_open("test", &err);
    if (ok(g != NULL, "the gate opens")) {
        asks(g);
        repeats_are_safe(g);
        events(g);
        outages(g);
    }
    gate_close(&g);
    folds();
    follows_from_the_start();
    stop(service);
    stop(busd);
    static const char *const left[] = { "bus", "events", "gate", "master.key", "master.pub" };
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, left[i]);
        unlink(path);
    }
    rmdir(dir);
    return done_testing();
}
