/* spawn.c - bpinit in namespaces of its own, with this program as its agent */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/sched.h>
#include "bus/loop.h"
#include "bus/mp.h"
#include "bus/pkt.h"
#include "node/space.h"
#include "tests/unit/tap.h"

static char libexec[PATH_MAX], dir[] = "/tmp/spawn-XXXXXX", sock_path[PATH_MAX];
static uint64_t last_launch = 100;

struct agent {
    int sock, bell, own;
    char *arena;
    msgpack_unpacked msg; /* the last message waited for */
    const msgpack_object *map;
};

struct body { /* one started rank */
    int64_t npid, slot[3];
};

/* --- bpinit --- */

static pid_t start_bpinit(int root_fd)
{
    struct clone_args args = {
        .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC,
        .exit_signal = SIGCHLD,
    };
    char program[PATH_MAX + 32], space[] = "--space", root[] = "--root-fd", fd[16];
    char host[] = "--hostname", name[] = "n3", boot[] = "--boot", id[] = "boot-1";
    char *argv[] = { program, space, sock_path, host, name, boot, id,
                     root_fd >= 0 ? root : NULL, fd, NULL };

    unlink(sock_path);
    snprintf(program, sizeof program, "%s/bpinit", libexec);
    snprintf(fd, sizeof fd, "%d", root_fd);
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execv(program, argv);
        _exit(127);
    }
    return pid;
}

/* --- the agent's side --- */

static bool next_message(struct agent *a, const char *name, int ms)
{
    int64_t until = now_ms() + ms;
    struct pollfd pfd = { a->sock, POLLIN, 0 };
    struct pkt pkt;

    for (;;) {
        int64_t left = until - now_ms();
        if (left < 0 || poll(&pfd, 1, (int)left) != 1 || pkt_recv(a->sock, &pkt, NULL) != 1)
            return false;
        msgpack_unpacked_destroy(&a->msg);
        msgpack_unpacked_init(&a->msg);
        /* A copy whose texts live in the zone: decode from memory that stays. */
        static char *keep;
        free(keep);
        keep = pkt.data;
        pkt.data = NULL;
        if (mp_decode(&a->msg, keep, pkt.len, NULL) < 0)
            return false;
        a->map = &a->msg.data.via.array.ptr[1];
        bool found = mp_is(&a->msg.data.via.array.ptr[0], name);
        if (found && strcmp(name, "hello") == 0 && pkt.nfds == 3) {
            a->arena = mmap(NULL, (size_t)SPACE_SLOTS * SPACE_SLOT_BYTES,
                            PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, pkt.fds[0], 0);
            a->bell = pkt.fds[1];
            a->own = pkt.fds[2];
            pkt.fds[1] = pkt.fds[2] = -1;
        }
        pkt_clear(&pkt);
        if (found)
            return true;
    }
}

static bool agent_connect(struct agent *a)
{
    int64_t until = now_ms() + 5000;

    memset(a, 0, sizeof *a);
    msgpack_unpacked_init(&a->msg);
    while ((a->sock = pkt_connect(sock_path, NULL)) < 0 && now_ms() < until)
        poll(NULL, 0, 5);
    return a->sock >= 0 && next_message(a, "hello", 5000) && a->arena;
}

static void agent_die(struct agent *a)
{
    munmap(a->arena, (size_t)SPACE_SLOTS * SPACE_SLOT_BYTES);
    close(a->sock);
    close(a->bell);
    close(a->own);
    msgpack_unpacked_destroy(&a->msg);
}

static void begin(mp_buf *m, const char *name, uint32_t pairs)
{
    mp_init(m);
    mp_array(m, 2);
    mp_str(m, name);
    mp_map(m, pairs);
}

static void send_off(struct agent *a, mp_buf *m)
{
    pkt_send(a->sock, m->b.data, m->b.size, NULL, 0, NULL);
    mp_free(m);
}

struct job { /* what to spawn; zero means the usual */
    const char *path, *arg[4], *in, *out; /* in, out: files; "null" */
    uint32_t uid;
    int n;
    int64_t to;
    const char *cwd;
    int64_t nofile;
};

static void put_stream(mp_buf *m, const char *file, int64_t to)
{
    bool null = file && strcmp(file, "null") == 0;

    mp_map(m, 3);
    mp_kstr(m, "mode", !file ? "forward" : null ? "null" : "file");
    mp_kstr(m, "path", file ? file : "");
    mp_kint(m, "to", to);
}

static void put_texts(mp_buf *m, const char *key, const char *const *v)
{
    uint32_t n = 0;

    while (n < 4 && v[n])
        n++;
    mp_key(m, key);
    mp_array(m, n);
    for (uint32_t i = 0; i < n; i++)
        mp_bin(m, v[i], strlen(v[i]));
}

static void spawn(struct agent *a, const struct job *j, uint64_t launch, int32_t pid)
{
    static const char *const env[] = { "PATH=/bin:/usr/bin", "BPROC_RANK=XXXXXXX", NULL };
    int n = j->n ? j->n : 1;
    mp_buf m;

    begin(&m, "spawn", 14);
    mp_kuint(&m, "launch", launch);
    mp_kstr(&m, "path", j->path);
    put_texts(&m, "argv", j->arg);
    put_texts(&m, "env", env);
    mp_kstr(&m, "cwd", j->cwd ? j->cwd : "/");
    mp_kint(&m, "umask", 027);
    mp_kint(&m, "uid", j->uid);
    mp_kint(&m, "gid", j->uid);
    mp_key(&m, "groups");
    mp_array(&m, 0);
    mp_key(&m, "limits");
    mp_array(&m, j->nofile ? 1 : 0);
    if (j->nofile) {
        mp_array(&m, 3);
        mp_int(&m, RLIMIT_NOFILE);
        mp_int(&m, j->nofile);
        mp_int(&m, -1);
    }
    mp_key(&m, "streams");
    mp_array(&m, 3);
    put_stream(&m, j->in, j->to);
    put_stream(&m, j->out, -1);
    put_stream(&m, NULL, -1);
    mp_kint(&m, "total", n);
    mp_kint(&m, "owner", 4711);
    mp_key(&m, "procs");
    mp_array(&m, (uint32_t)n);
    for (int i = 0; i < n; i++) {
        mp_array(&m, 2);
        mp_int(&m, i);
        mp_int(&m, pid + i);
    }
    send_off(a, &m);
}

/* Body number i of the last "spawned". */
static struct body started(struct agent *a, uint32_t i)
{
    const msgpack_object_array *s;
    struct body b = { -1, { -1, -1, -1 } };

    if (mp_get_array(a->map, "started", &s, NULL) < 0 || i >= s->size)
        return b;
    const msgpack_object *f = s->ptr[i].via.array.ptr;
    mp_as_int(&f[1], &b.npid);
    for (int fd = 0; fd < 3; fd++)
        mp_as_int(&f[2 + fd], &b.slot[fd]);
    return b;
}

static struct body run(struct agent *a, const struct job *j, int32_t pid)
{
    spawn(a, j, ++last_launch, pid);
    next_message(a, "spawned", 5000);
    return started(a, 0);
}

static const char *failure(struct agent *a)
{
    static char text[400];
    const msgpack_object_array *f;

    text[0] = 0;
    if (mp_get_array(a->map, "failed", &f, NULL) == 0 && f->size > 0) {
        char *s = mp_dup(&f->ptr[0].via.array.ptr[2]);
        snprintf(text, sizeof text, "%s", s ? s : "");
        free(s);
    }
    return text;
}

static void ring_own(struct agent *a, struct ring *r)
{
    uint64_t one = 1;

    atomic_store(&r->dirty_for_init, 1);
    if (write(a->own, &one, sizeof one) < 0)
        perror("bell");
}

static void give(struct agent *a, const struct body *b, const char *text, bool end)
{
    struct ring *r = space_ring(a->arena, (uint32_t)b->slot[0]);
    size_t n = strlen(text);

    for (size_t i = 0; i < n; i++)
        ring_data(r)[(r->head + i) & (SPACE_RING_BYTES - 1)] = text[i];
    r->head += n;
    if (end)
        atomic_fetch_or(&r->flags, RING_EOF);
    ring_own(a, r);
}

static bool wait_bell(struct agent *a, int ms)
{
    struct pollfd pfd = { a->bell, POLLIN, 0 };
    uint64_t n;

    return poll(&pfd, 1, ms) == 1 && read(a->bell, &n, sizeof n) == sizeof n;
}

/* Read a stream to its end, as an agent does. Returns how many bytes; the first
 * ones are left in buf. sum adds them up. */
static size_t take_all(struct agent *a, int64_t slot, char *buf, size_t size, uint64_t *sum)
{
    struct ring *r = space_ring(a->arena, (uint32_t)slot);
    size_t n = 0;

    for (;;) {
        atomic_store(&r->dirty_for_agent, 0);
        uint32_t flags = atomic_load(&r->flags);
        uint64_t head = atomic_load(&r->head), tail = r->tail;
        for (; tail < head; tail++) {
            unsigned char c = (unsigned char)ring_data(r)[tail & (SPACE_RING_BYTES - 1)];
            if (n < size - 1)
                buf[n] = (char)c;
            n++;
            if (sum)
                *sum += c;
        }
        atomic_store(&r->tail, tail);
        if (atomic_load(&r->flags) & RING_FULL)
            ring_own(a, r);
        if ((flags & RING_EOF) || !wait_bell(a, 5000))
            break;
    }
    buf[n < size ? n : size - 1] = 0;
    return n;
}

static int64_t exit_status(struct agent *a)
{
    int64_t status = -1;

    while (next_message(a, "event", 5000)) {
        const msgpack_object *kind = mp_get(a->map, "kind");
        if (kind && mp_is(kind, "exit")) {
            mp_get_int(a->map, "status", 0, 0xffff, &status, NULL);
            return status;
        }
    }
    return -1;
}

static void send_seq(struct agent *a, const char *name, const char *key, uint64_t v)
{
    mp_buf m;

    begin(&m, name, 1);
    mp_kuint(&m, key, v);
    send_off(a, &m);
}

static void ack(struct agent *a)
{
    uint64_t seq = 0;

    mp_get_uint(a->map, "seq", &seq, NULL);
    send_seq(a, "ack", "seq", seq);
}

static void send_signal(struct agent *a, int32_t pid, int sig, int64_t value)
{
    mp_buf m;

    begin(&m, "signal", value >= 0 ? 4 : 3);
    mp_kint(&m, "pid", pid);
    mp_kint(&m, "gen", 1);
    mp_kint(&m, "sig", sig);
    if (value >= 0)
        mp_kint(&m, "value", value);
    send_off(a, &m);
}

/* --- the claims --- */

static struct job sh(const char *script)
{
    return (struct job){ .path = "/bin/sh", .arg = { "sh", "-c", script }, .to = -1 };
}

static void output_and_status(struct agent *a)
{
    char buf[256];
    struct job j = sh("echo out $$ $BPROC_RANK; echo err >&2; exit 7");
    struct body b = run(a, &j, 31000);

    ok(b.npid == 31000, "the pid is the imposed one");
    ok(exit_status(a) == 7 << 8, "exit status 7 arrives");
    ack(a);
    take_all(a, b.slot[1], buf, sizeof buf, NULL);
    is(buf, "out 31000 0000000\n", "stdout through its ring: own pid and rank");
    take_all(a, b.slot[2], buf, sizeof buf, NULL);
    is(buf, "err\n", "stderr through its own");
    for (int fd = 0; fd < 3; fd++)
        send_seq(a, "release", "slot", (uint64_t)b.slot[fd]);
}

static void input(struct agent *a)
{
    char buf[256];
    struct job j = sh("cat; echo end");
    struct body b = run(a, &j, 31010);

    give(a, &b, "one ", false);
    give(a, &b, "two\n", true);
    take_all(a, b.slot[1], buf, sizeof buf, NULL);
    is(buf, "one two\nend\n", "stdin reaches the body, its end too");
    exit_status(a);
    ack(a);
    j = sh("exec <&-; echo closed; exec >&-; sleep 5");
    b = run(a, &j, 31011);
    take_all(a, b.slot[1], buf, sizeof buf, NULL);
    struct ring *r = space_ring(a->arena, (uint32_t)b.slot[0]);
    for (int i = 0; i < 100 && !(atomic_load(&r->flags) & RING_GONE); i++)
        wait_bell(a, 50);
    ok(atomic_load(&r->flags) & RING_GONE, "a body that closes its stdin is seen to");
    send_signal(a, 31011, SIGKILL, -1);
    ok(exit_status(a) == SIGKILL, "death by SIGKILL is reported as such");
    ack(a);
}

static void much_output(struct agent *a)
{
    char buf[64];
    uint64_t sum = 0;
    struct job j = sh("head -c 20000000 /dev/zero | tr '\\0' 'a'");
    struct body b = run(a, &j, 31020);
    struct ring *r = space_ring(a->arena, (uint32_t)b.slot[1]);

    for (int i = 0; i < 100 && !(atomic_load(&r->flags) & RING_FULL); i++)
        wait_bell(a, 50);
    ok(atomic_load(&r->head) == SPACE_RING_BYTES, "a slow agent stops the writer");
    size_t n = take_all(a, b.slot[1], buf, sizeof buf, &sum);
    ok(n == 20000000 && sum == 20000000ull * 'a', "20 MB go through a ring of 1 MiB");
    exit_status(a);
    ack(a);
}

static void signals(struct agent *a)
{
    char buf[64];
    struct job j = sh("trap 'echo got; exit 3' USR1; echo up; while :; do sleep 0.05; done");
    struct body b = run(a, &j, 31030);
    struct ring *r = space_ring(a->arena, (uint32_t)b.slot[1]);

    while (atomic_load(&r->head) == 0 && wait_bell(a, 5000))
        atomic_store(&r->dirty_for_agent, 0);
    send_signal(a, 31030, SIGSTOP, -1);
    ok(next_message(a, "event", 5000) && mp_is(mp_get(a->map, "kind"), "stop") &&
           mp_opt_int(a->map, "sig", 0) == SIGSTOP,
       "a stop is an event");
    send_signal(a, 31030, SIGCONT, -1);
    ok(next_message(a, "event", 5000) && mp_is(mp_get(a->map, "kind"), "cont"),
       "going on is one too");
    send_signal(a, 31030, SIGUSR1, 5);
    ok(exit_status(a) == 3 << 8, "a queued signal reaches its handler");
    ack(a);
    take_all(a, b.slot[1], buf, sizeof buf, NULL);
    j = sh("kill -TSTP $$; exit 4");
    run(a, &j, 31031);
    ok(next_message(a, "event", 5000) && mp_opt_int(a->map, "sig", 0) == SIGTSTP,
       "SIGTSTP stops a body: its group is not orphaned");
    send_signal(a, 31031, SIGCONT, -1);
    ok(exit_status(a) == 4 << 8, "and SIGCONT lets it go on");
    ack(a);
}

/* As the master numbers them: number among their own kind, after so many of the other. */
static void send_numbered(struct agent *a, int32_t pid, int sig, int number, int after,
                          uint64_t once)
{
    mp_buf m;

    begin(&m, "signal", 6);
    mp_kint(&m, "pid", pid);
    mp_kint(&m, "gen", 1);
    mp_kint(&m, "sig", sig);
    mp_kint(&m, "conts", number);
    mp_kint(&m, "after", after);
    mp_kuint(&m, "once", once);
    send_off(a, &m);
}

/* The next event is of this kind, and says that so many of the other kind came before. */
static bool event_is(struct agent *a, const char *kind, const char *count, int n)
{
    bool it = next_message(a, "event", 5000) && mp_is(mp_get(a->map, "kind"), kind) &&
              mp_opt_int(a->map, count, -1) == n;

    ack(a);
    return it;
}

static void said_again(struct agent *a)
{
    struct job j = sh("trap 'exit 5' USR1; echo up; while :; do sleep 0.05; done");
    struct body b = run(a, &j, 31032);
    struct ring *r = space_ring(a->arena, (uint32_t)b.slot[1]);

    while (atomic_load(&r->head) == 0 && wait_bell(a, 5000))
        atomic_store(&r->dirty_for_agent, 0);
    send_numbered(a, 31032, SIGSTOP, 1, 0, 7001);
    ok(event_is(a, "stop", "conts", 0), "a numbered SIGSTOP stops");
    send_numbered(a, 31032, SIGCONT, 1, 1, 7002);
    ok(event_is(a, "cont", "halts", 1), "a numbered SIGCONT lets go on");
    send_numbered(a, 31032, SIGSTOP, 1, 0, 7001); /* its answer was lost */
    send_numbered(a, 31032, SIGSTOP, 2, 0, 7003); /* late: sent before the SIGCONT */
    send_numbered(a, 31032, SIGSTOP, 3, 1, 7004);
    ok(event_is(a, "stop", "conts", 1), "said again, or late, it does nothing; another one does");
    send_numbered(a, 31032, SIGCONT, 1, 1, 7002);
    send_numbered(a, 31032, SIGCONT, 2, 2, 7005);
    send_numbered(a, 31032, SIGCONT, 4, 3, 7006);
    ok(event_is(a, "cont", "halts", 3), "so with SIGCONT");
    send_numbered(a, 31032, SIGCONT, 5, 3, 7006);
    send_numbered(a, 31032, SIGSTOP, 4, 5, 7007);
    ok(event_is(a, "stop", "conts", 5), "one that is counted anew is counted, no more");
    send_numbered(a, 31032, SIGCONT, 6, 4, 7006);
    ok(event_is(a, "stop", "conts", 6), "and how it is is told for the new number");
    send_numbered(a, 31032, SIGCONT, 7, 4, 7008);
    ok(event_is(a, "cont", "halts", 4), "until it goes on");
    send_signal(a, 31032, SIGUSR1, 5);
    ok(exit_status(a) == 5 << 8, "and it runs");
    ack(a);
    take_all(a, b.slot[1], (char[64]){ 0 }, 64, NULL);
}

static void bad_starts(struct agent *a)
{
    char script[PATH_MAX], text[PATH_MAX];
    struct job j = { .path = "/no/such", .arg = { "x" }, .to = -1 };

    run(a, &j, 31040);
    is(failure(a), "/no/such: No such file or directory", "a missing program is named");
    j.path = "/etc/passwd";
    run(a, &j, 31041);
    is(failure(a), "/etc/passwd: Permission denied", "so is one that may not be run");
    snprintf(script, sizeof script, "%s/script", dir);
    int fd = open(script, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    if (write(fd, "#! /no/interp -x\n", 17) != 17)
        perror(script);
    close(fd);
    j.path = script;
    run(a, &j, 31042);
    snprintf(text, sizeof text, "script %.100s: interpreter /no/interp not found on the node",
             script);
    is(failure(a), text, "a missing interpreter is named");
    unlink(script);
    j = sh("true");
    j.in = "/no/input";
    run(a, &j, 31043);
    is(failure(a), "/no/input: No such file or directory", "a missing stdin file is named");
    j = sh("echo $$; pwd; ulimit -n; umask");
    j.cwd = "/no/folder";
    j.nofile = 64;
    struct body b = run(a, &j, 31042);
    take_all(a, b.slot[1], text, sizeof text, NULL);
    is(text, "31042\n/\n64\n0027\n",
       "a pid of a failed start is free again; cwd falls back; limit and umask are set");
    exit_status(a);
    ack(a);
}

static void files_and_users(struct agent *a)
{
    char out[PATH_MAX];
    struct stat st = { 0 };
    struct job j = sh("id -u; id -G");

    snprintf(out, sizeof out, "%s/out", dir);
    chmod(dir, 0777);
    j.uid = 65534;
    j.out = out;
    struct body b = run(a, &j, 31050);
    exit_status(a);
    ack(a);
    ok(b.slot[1] < 0 && stat(out, &st) == 0 && st.st_uid == 65534 &&
           (st.st_mode & 0777) == 0640,
       "an output file is opened as the user, with the umask");
    char buf[64] = "";
    int fd = open(out, O_RDONLY | O_CLOEXEC);
    if (read(fd, buf, sizeof buf - 1) < 0)
        perror(out);
    close(fd);
    is(buf, "65534\n65534\n", "ids and groups are the user's");
    unlink(out);
}

static void many(struct agent *a)
{
    enum { N = 50 };
    struct job j = { .path = "/bin/true", .arg = { "true" }, .n = N, .to = 7 };
    bool good = true;
    int64_t t = now_ms();

    spawn(a, &j, ++last_launch, 31100);
    next_message(a, "spawned", 10000);
    printf("# %d bodies in %lld ms\n", N, (long long)(now_ms() - t));
    for (uint32_t i = 0; i < N; i++) {
        struct body b = started(a, i);
        good = good && b.npid == 31100 + (int)i && (b.slot[0] >= 0) == (i == 7);
    }
    ok(good, "50 bodies of one launch; stdin only to the one it goes to");
    for (int i = 0; i < N; i++)
        good = good && exit_status(a) == 0;
    ok(good, "and 50 exits");
    ack(a);
}

static uint32_t list_size(struct agent *a, const char *what)
{
    const msgpack_object_array *l;

    send_seq(a, "list", "id", 9);
    if (!next_message(a, "procs", 5000) || mp_get_array(a->map, what, &l, NULL) < 0)
        return 9999;
    return l->size;
}

static void agent_dies(struct agent *a)
{
    char buf[256];
    struct job j = sh("echo before; read x; echo got $x; exit 5");
    struct body b = run(a, &j, 31200);
    struct job k = sh("exit 6");

    run(a, &k, 31201);
    while (atomic_load(&space_ring(a->arena, (uint32_t)b.slot[1])->head) == 0)
        if (!wait_bell(a, 5000))
            break;
    exit_status(a); /* seen, not acknowledged */
    agent_die(a);
    ok(agent_connect(a), "a new agent connects");
    ok(exit_status(a) == 6 << 8, "and is told the exit that was not acknowledged");
    ack(a);
    ok(list_size(a, "procs") == 1, "the list has the body that runs");
    spawn(a, &j, last_launch - 1, 31200);
    next_message(a, "spawned", 5000);
    ok(started(a, 0).npid == 31200, "a repeated spawn starts nothing new");
    give(a, &b, "again\n", true);
    take_all(a, b.slot[1], buf, sizeof buf, NULL);
    is(buf, "before\ngot again\n", "its streams are intact");
    ok(exit_status(a) == 5 << 8, "its exit is told");
    ack(a);
    const msgpack_object_array *rings;
    list_size(a, "rings");
    mp_get_array(a->map, "rings", &rings, NULL);
    uint64_t slots[256];
    uint32_t n = rings->size;
    for (uint32_t i = 0; i < n && i < 256; i++)
        mp_get_uint(&rings->ptr[i], "slot", &slots[i], NULL);
    for (uint32_t i = 0; i < n && i < 256; i++)
        send_seq(a, "release", "slot", slots[i]);
    ok(n > 0 && list_size(a, "rings") == 0, "released rings are gone");
}

static void hang_up(struct agent *a)
{
    mp_buf m;
    struct job j = { .path = "/usr/bin/yes", .arg = { "yes" }, .to = -1 };

    run(a, &j, 31300);
    begin(&m, "hangup", 3);
    mp_kuint(&m, "launch", last_launch);
    mp_kint(&m, "rank", 0);
    mp_kint(&m, "fd", 1);
    send_off(a, &m);
    ok(exit_status(a) == SIGPIPE, "a hung-up stdout is SIGPIPE to its writer");
    ack(a);
}

static void strangers(void)
{
    pid_t pid = fork();
    int st = 0;

    chmod(sock_path, 0666);
    if (pid == 0) {
        char c;
        if (setgid(65534) < 0 || setuid(65534) < 0)
            _exit(2);
        int s = pkt_connect(sock_path, NULL);
        _exit(s < 0 || recv(s, &c, 1, 0) <= 0 ? 0 : 1);
    }
    waitpid(pid, &st, 0);
    ok(st == 0, "an agent that is not root is refused");
}

static void end(struct agent *a, pid_t bpinit, const char *how, int want)
{
    mp_buf m;
    int st = -1;
    struct job j = sh("sleep 100");

    run(a, &j, 31400);
    begin(&m, "end", 1);
    mp_kstr(&m, "how", how);
    send_off(a, &m);
    waitpid(bpinit, &st, 0);
    ok(WIFEXITED(st) && WEXITSTATUS(st) == want, "told to %s, it exits with %d", how, want);
    agent_die(a);
}

static void copy_into(int root, const char *name)
{
    char from[PATH_MAX], buf[16384];

    snprintf(from, sizeof from, "%.4000s/%s", libexec, name);
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = openat(root, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    ssize_t n = read(in, buf, sizeof buf);
    if (write(out, buf, (size_t)n) != n)
        perror(name);
    close(in);
    close(out);
}

static void own_root(void)
{
    int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    char buf[256];
    struct agent a;

    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    int root = (int)syscall(SYS_fsmount, fs, 0, 0);
    close(fs);
    if (root < 0) {
        skip("a root of its own", strerror(errno));
        return;
    }
    copy_into(root, "bpghost");
    pid_t bpinit = start_bpinit(root);
    ok(agent_connect(&a), "bpinit in a root of its own answers");
    struct job j = { .path = "/bpghost", .arg = { "bpghost", "--version" }, .to = -1 };
    struct body b = run(&a, &j, 31500);
    take_all(&a, b.slot[1], buf, sizeof buf, NULL);
    says(buf, "Clustermatic", "a program of that root runs in it");
    ok(exit_status(&a) == 0, "and ends well");
    ack(&a);
    int fd = openat(root, "etc/hostname", O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, buf, sizeof buf - 1);
    buf[n > 0 ? n : 0] = 0;
    close(fd);
    is(buf, "n3\n", "the root seen from outside has its host name");
    ok(faccessat(root, "proc/1/stat", F_OK, 0) == 0, "and the space's /proc");
    char link[64];
    n = readlinkat(root, "proc/1/root", link, sizeof link - 1);
    ok(n == 1 && faccessat(root, "dev/null", W_OK, 0) == 0 &&
           faccessat(root, "usr/bin/sh", F_OK, 0) < 0,
       "with its devices, and nothing of the host");
    close(root);
    end(&a, bpinit, "halt", SPACE_EXIT_HALT);
}

int main(void)
{
    struct agent a;
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (geteuid() != 0) {
        skip("bpinit", "namespaces need root");
        return done_testing();
    }
    if (n < 0 || !mkdtemp(dir))
        return 1;
    self[n] = 0;
    for (int up = 0; up < 3; up++)
        *strrchr(self, '/') = 0;
    snprintf(libexec, sizeof libexec, "%.4000s/libexec/clustermatic", self);
    snprintf(sock_path, sizeof sock_path, "%s/space", dir);
    pid_t bpinit = start_bpinit(-1);
    if (!ok(agent_connect(&a), "bpinit says hello, with arena and bells"))
        return done_testing();
    output_and_status(&a);
    input(&a);
    much_output(&a);
    signals(&a);
    said_again(&a);
    bad_starts(&a);
    files_and_users(&a);
    many(&a);
    agent_dies(&a);
    hang_up(&a);
    strangers();
    end(&a, bpinit, "reboot", SPACE_EXIT_REBOOT);
    own_root();
    unlink(sock_path);
    rmdir(dir);
    return done_testing();
}
