/* bpfwd.c - what the processes of one launch say, to the caller's stdout, and
 * where those that move go on to say it
 *
 * Started by libbproc for default forwarding, as nobody's child; lives until
 * every stream is at its end. Descriptor 3 holds two int32 for
 * each rank: its node, and why it was not started (0: it was).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "clients/bpsh/reader.h"

#define LIST_FD 3
#define WINDOW (64u * 1024)
#define LOOK_MS 1000
#define HEAR_MS 5000
#define AGAIN_MS 200  /* to a procspace that is not there */
#define REFUSED 75    /* times that it does not know our launch: it never will */
#define GONE 10 /* looks in a row at which there is no iofwd: the cluster was ended */

struct forward;

struct source { /* one launch, read by a connection of its own */
    struct forward *f;
    struct source *next;
    uint64_t launch;
    reader_t *reader;
    uint32_t n, open; /* ranks; streams not at their end */
    uint8_t *left;    /* by rank: its streams not at their end */
    bool *moved;      /* by rank: it goes on elsewhere, where is not known yet */
    uint64_t (*taken)[2];
};

struct following { /* read this when that rank has said all */
    struct following *next;
    uint64_t after, launch;
    uint32_t rank;
    int node;
};

struct forward {
    loop_t *loop;
    struct source *sources;
    struct following *following;
    const char *path;
    uint64_t launch;  /* that we were started for */
    int procspace; /* who tells us where processes go on; -1 nobody */
    bool heard;    /* what it knew when we came */
    int timer, refused;
    int gone;
};

static const char usage[] =
    "Usage: bpfwd LAUNCH SOCKET, with the ranks on descriptor 3\n"
    "Started by libbproc (bproc_vexecmove(3) and others): copies what the processes of\n"
    "a launch say to its stdout.\n";

static int write_all(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = write(STDOUT_FILENO, p, n);
        if (k < 0 && errno != EINTR)
            return -1;
        if (k > 0) {
            p += k;
            n -= (size_t)k;
        }
    }
    return 0;
}

static void on_data(void *arg, uint32_t rank, int fd, const void *p, size_t n)
{
    struct source *s = arg;

    if (write_all(p, n) < 0) { /* nobody listens: their writers are told */
        reader_close(s->reader, -1);
        loop_stop(s->f->loop, 1);
        return;
    }
    s->taken[rank][fd - 1] += n;
    reader_taken(s->reader, rank, fd, s->taken[rank][fd - 1]);
}

static void look_on(struct forward *f);

/* All that it said is said on: who wants it to say more elsewhere may know. */
static void rank_ended(struct source *s, uint32_t rank)
{
    char text[64];
    int n = snprintf(text, sizeof text, "ended %llu %u", (unsigned long long)s->launch, rank);

    if (s->f->procspace >= 0)
        pkt_send(s->f->procspace, text, (size_t)n + 1, NULL, 0, NULL);
}

static void on_end(void *arg, uint32_t rank, int fd, bool lost)
{
    struct source *s = arg;

    (void)lost;
    s->moved[rank] |= reader_moved(s->reader, rank, fd);
    if (s->left[rank] && --s->left[rank] == 0)
        rank_ended(s, rank);
    s->open--;
    look_on(s->f);
}

static void on_input(void *arg, uint64_t acked, uint64_t limit, bool gone)
{
    (void)arg;
    (void)acked;
    (void)limit;
    (void)gone;
}

static void on_again(void *arg, uint64_t offset)
{
    (void)arg;
    (void)offset;
}

static void on_turn(void *arg)
{
    struct forward *f = arg;

    for (struct source *s = f->sources; s; s = s->next)
        reader_flush(s->reader);
}

static void on_look(void *arg)
{
    struct forward *f = arg;

    f->gone = access(f->path, F_OK) < 0 && errno == ENOENT ? f->gone + 1 : 0;
    if (f->gone == GONE)
        loop_stop(f->loop, 1);
}

static int32_t *read_list(uint32_t *n)
{
    struct stat st;

    if (fstat(LIST_FD, &st) < 0 || st.st_size < 8 || st.st_size % 8)
        return NULL;
    int32_t *list = malloc((size_t)st.st_size);
    if (list && pread(LIST_FD, list, (size_t)st.st_size, 0) != st.st_size) {
        free(list);
        return NULL;
    }
    *n = (uint32_t)(st.st_size / 8);
    close(LIST_FD);
    return list;
}

/* bad: by rank, those that never ran; NULL none. */
static int source_add(struct forward *f, uint64_t launch, const int *node, const bool *bad,
                      uint32_t n, struct err *err)
{
    static const struct reader_ops ops = { on_data, on_end, on_input, on_again, NULL };
    struct source *s = calloc(1, sizeof *s);
    struct reader_conf conf = { .path = f->path, .launch = launch, .node = node, .n = n,
                                .window = WINDOW, .use = { true, true },
                                .started = true };

    if (s) {
        *s = (struct source){ .f = f, .launch = launch, .n = n, .open = 2 * n,
                              .left = malloc(n), .moved = calloc(n, sizeof *s->moved),
                              .taken = calloc(n, sizeof *s->taken) };
        if (s->left && s->moved && s->taken)
            s->reader = reader_create(f->loop, &conf, &ops, s, err);
    }
    if (!s || !s->reader)
        return -1;
    memset(s->left, 2, n);
    s->next = f->sources;
    f->sources = s;
    for (uint32_t i = 0; bad && i < n; i++)
        if (bad[i]) {
            reader_forget(s->reader, i);
            s->left[i] = 0;
            s->open -= 2;
        }
    reader_flush(s->reader);
    return 0;
}

/* Has it said all? Of a launch that is not ours any more: yes; not yet: no. */
static bool has_ended(const struct forward *f, uint64_t launch, uint32_t rank)
{
    for (const struct source *s = f->sources; s; s = s->next)
        if (s->launch == launch)
            return rank >= s->n || s->left[rank] == 0;
    for (const struct following *w = f->following; w; w = w->next)
        if (w->launch == launch)
            return false;
    return true;
}

static void call_again(void *arg);

/* It is being restarted, or does not know our launch, or the cluster is ending. */
static void hang_up(struct forward *f)
{
    loop_fd_del(f->loop, f->procspace);
    cleanup_close(&f->procspace);
    f->refused = f->heard ? 0 : f->refused + 1;
    f->heard = false;
    if (!f->timer && f->refused < REFUSED)
        f->timer = loop_timer(f->loop, AGAIN_MS, false, call_again, f);
}

static void take_next(struct forward *f, uint64_t after, unsigned rank, uint64_t launch, int node)
{
    struct following *w = calloc(1, sizeof *w);

    for (const struct following *o = f->following; o; o = o->next)
        if (o->launch == launch) { /* told again */
            free(w);
            return;
        }
    for (struct source *s = f->sources; s; s = s->next) {
        if (s->launch == launch) {
            free(w);
            return;
        }
        if (s->launch == after && rank < s->n)
            s->moved[rank] = false;
    }
    if (w) {
        *w = (struct following){ f->following, after, launch, rank, node };
        f->following = w;
    }
}

/* procspace's words: who goes on where. */
static void hear(struct forward *f)
{
    unsigned long long after, launch;
    struct err err = { 0 };
    struct pkt p;
    unsigned rank;
    int node, n;

    while (f->procspace >= 0) {
        if ((n = pkt_recv(f->procspace, &p, &err)) < 0 && err.code == EAGAIN)
            return;
        if (n <= 0) {
            hang_up(f);
            return;
        }
        if (sscanf(p.data, "next %llu %u %llu %d", &after, &rank, &launch, &node) == 4)
            take_next(f, after, rank, launch, node);
        f->heard |= strcmp(p.data, "ok") == 0;
        pkt_clear(&p);
    }
}

static void on_procspace(void *arg, int fd, uint32_t events)
{
    (void)fd;
    (void)events;
    hear(arg);
    look_on(arg);
}

/* Some process goes on, and procspace has still to say where. */
static bool awaits_word(const struct forward *f)
{
    bool any = false;

    for (const struct source *s = f->sources; s; s = s->next)
        for (uint32_t i = 0; i < s->n; i++)
            any |= s->moved[i] && s->left[i] == 0;
    return any && !f->heard && f->refused < REFUSED;
}

/* What can be read on is; when there is nothing more, that was it. */
static void look_on(struct forward *f)
{
    bool open = false;
    struct err err = { 0 };

    hear(f);
    for (struct following **at = &f->following; *at;) {
        struct following *w = *at;
        if (!has_ended(f, w->after, w->rank)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        if (source_add(f, w->launch, &w->node, NULL, 1, &err) < 0)
            loop_stop(f->loop, 1);
        free(w);
        at = &f->following;
    }
    for (const struct source *s = f->sources; s; s = s->next)
        open |= s->open > 0;
    if (!open && !f->following && !awaits_word(f))
        loop_stop(f->loop, 0);
}

/* Which launches we read, for one that was restarted; then what of them has ended. */
static int hello(struct forward *f)
{
    size_t room = 64;
    int out = STDOUT_FILENO;

    for (const struct source *s = f->sources; s; s = s->next)
        room += 24;
    CLEANUP(cleanup_free) char *text = malloc(room);
    if (!text)
        return -1;
    int n = snprintf(text, room, "reader %llu", (unsigned long long)f->launch);
    for (const struct source *s = f->sources; s; s = s->next)
        n += snprintf(text + n, room - (size_t)n, " %llu", (unsigned long long)s->launch);
    if (pkt_send(f->procspace, text, (size_t)n + 1, &out, 1, NULL) < 0)
        return -1;
    for (struct source *s = f->sources; s; s = s->next)
        for (uint32_t i = 0; i < s->n; i++)
            if (s->left[i] == 0)
                rank_ended(s, i);
    return 0;
}

/* Beside iofwd's socket. Without it all works but for processes that move on. */
static void find_procspace(struct forward *f)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s", f->path);
    char *slash = strrchr(path, '/');
    if (!slash)
        return;
    snprintf(slash, sizeof path - (size_t)(slash - path), "/move");
    f->procspace = pkt_connect(path, NULL);
    if (f->procspace >= 0 &&
        (hello(f) < 0 || fcntl(f->procspace, F_SETFL, O_NONBLOCK) < 0 ||
         loop_fd(f->loop, f->procspace, EPOLLIN, on_procspace, f, NULL) < 0))
        cleanup_close(&f->procspace);
    if (f->procspace < 0 && !f->timer)
        f->timer = loop_timer(f->loop, AGAIN_MS, false, call_again, f);
}

static void call_again(void *arg)
{
    struct forward *f = arg;

    f->timer = 0;
    if (f->procspace < 0)
        find_procspace(f);
    look_on(f);
}

static int forward(const char *path, uint64_t launch, const int32_t *list, uint32_t n,
                   struct err *err)
{
    struct forward f = { .path = path, .launch = launch, .procspace = -1 };
    CLEANUP(cleanup_free) int *node = malloc(n * sizeof *node);
    CLEANUP(cleanup_free) bool *bad = malloc(n * sizeof *bad);
    int rc;

    for (uint32_t i = 0; node && bad && i < n; i++) {
        node[i] = list[2 * i];
        bad[i] = list[2 * i + 1] != 0;
    }
    f.loop = node && bad ? loop_create(err) : NULL;
    if (!f.loop)
        return -1;
    find_procspace(&f);
    /* First: a process that has gone on already must not look like one that has
     * ended. */
    for (int64_t end = now_ms() + HEAR_MS; f.procspace >= 0 && !f.heard && now_ms() < end;) {
        struct pollfd p = { .fd = f.procspace, .events = POLLIN };
        if (poll(&p, 1, HEAR_MS) > 0)
            hear(&f);
    }
    if (source_add(&f, launch, node, bad, n, err) < 0)
        return -1;
    loop_turn(f.loop, on_turn, &f);
    loop_timer(f.loop, LOOK_MS, true, on_look, &f);
    rc = f.sources->open ? loop_run(f.loop) : 0;
    while (f.sources) {
        struct source *s = f.sources;
        f.sources = s->next;
        reader_drain(s->reader, 1000);
        reader_destroy(&s->reader);
        free(s->left);
        free(s->moved);
        free(s->taken);
        free(s);
    }
    loop_timer_del(f.loop, f.timer);
    loop_destroy(&f.loop);
    cleanup_close(&f.procspace);
    return rc;
}

int main(int argc, char **argv)
{
    struct err err = { 0 };
    uint32_t n = 0;

    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
        puts("bpfwd (Clustermatic) " CM_VERSION);
        return EXIT_SUCCESS;
    }
    if (argc != 3) {
        fputs(usage, stderr);
        return 2;
    }
    int32_t *list = read_list(&n);
    if (!list) {
        fputs("bpfwd: no ranks on descriptor 3\n", stderr);
        return EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN);
    setsid(); /* what the terminal does is for the processes; we bring their last words */
    close_range(3, ~0u, 0);
    int rc = forward(argv[2], strtoull(argv[1], NULL, 10), list, n, &err);
    free(list);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
