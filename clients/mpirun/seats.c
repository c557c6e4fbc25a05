/* seats.c - the ranks of this node: their seats, what each is told */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include "clients/common/opt.h"
#include "clients/mpirun/bppmi.h"

#define INPUT_MAX (64 * 1024) /* longest line of a rank */
#define KILL_AFTER_MS 1000

/* --- what we are for: from the environment that mpirun made --- */

static int compare_int(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

static int unique_nodes(struct helper *h, struct err *err)
{
    nodelist_init(&h->nodes);
    for (size_t i = 0; i < h->map.n; i++)
        if (nodelist_add(&h->nodes, h->map.node[i]) < 0)
            return err_set(err, ENOMEM, "out of memory");
    size_t k = 0;
    qsort(h->nodes.node, h->nodes.n, sizeof(int), compare_int);
    for (size_t i = 0; i < h->nodes.n; i++)
        if (k == 0 || h->nodes.node[k - 1] != h->nodes.node[i])
            h->nodes.node[k++] = h->nodes.node[i];
    h->nodes.n = k;
    h->alone = k < 2;
    return 0;
}

/* "4,2": ranks 0-3 run the first program, 4-5 the second. */
static int read_apps(struct helper *h, const char *text, struct err *err)
{
    uint32_t first = 0;

    h->app = calloc(strlen(text) + 2, sizeof *h->app);
    if (!h->app)
        return err_set(err, ENOMEM, "out of memory");
    while (*text) {
        char *end;
        first += (uint32_t)strtoul(text, &end, 10);
        if (end == text)
            return err_set(err, EINVAL, "CM_MPI_APPS: want numbers");
        h->app[++h->apps] = first;
        text = end + (*end == ',');
    }
    return first == h->map.n ? 0 : err_set(err, EINVAL, "CM_MPI_APPS does not fit CM_MPI_MAP");
}

static int which_node(struct helper *h, struct err *err)
{
    CLEANUP(nodelist_free) nodelist_t list;
    const char *nodes = getenv("BPROC_NODES"), *rank = getenv("BPROC_RANK");
    size_t mine = rank ? (size_t)strtoul(rank, NULL, 10) : 0;

    nodelist_init(&list);
    if (!nodes || !rank || nodespec_numbers(nodes, &list, err) < 0 || mine >= list.n)
        return err_set(err, EINVAL, "this is started by mpirun, not by hand");
    h->node = list.node[mine];
    return 0;
}

static bool this_kernel(const char *boot)
{
    char id[64] = "";
    CLEANUP(cleanup_close) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, id, sizeof id - 1);

    return n > 0 && boot && strncmp(id, boot, strcspn(boot, "\n")) == 0 && *boot;
}

static int make_seats(struct helper *h, struct err *err)
{
    h->seat = calloc(h->map.n + 1, sizeof *h->seat);
    if (!h->seat)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t r = 0; r < h->map.n; r++) {
        if (h->map.node[r] != h->node)
            continue;
        struct seat *s = &h->seat[h->seats];
        *s = (struct seat){ .h = h, .rank = r, .local = h->seats++, .fd = -1, .pidfd = -1 };
        while (s->app + 1 < h->apps && r >= h->app[s->app + 1])
            s->app++;
    }
    return 0;
}

uint32_t helper_locals(const struct helper *h, int node)
{
    uint32_t n = 0;

    for (size_t i = 0; i < h->map.n; i++)
        n += h->map.node[i] == node;
    return n;
}

/* --- seats --- */

static void seat_close(struct seat *s)
{
    if (s->fd < 0)
        return;
    loop_fd_del(s->h->loop, s->fd);
    close(s->fd);
    s->fd = -1;
    s->waits = false;
}

void seat_say(struct seat *s, const char *text)
{
    size_t n = strlen(text);

    while (n && s->fd >= 0) {
        ssize_t w = send(s->fd, text, n, MSG_NOSIGNAL);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0) {
            seat_close(s);
            return;
        }
        text += w;
        n -= (size_t)w;
    }
}

static void set(struct seat *s, const char *text)
{
    seat_say(s, text);
    seat_say(s, "\n");
}

/* Numbers and places, the same for every kind. */
static void tell_common(struct helper *h, struct seat *s)
{
    char text[96];
    CLEANUP(cleanup_free) char *nodes = nodelist_text(&h->map), *line = NULL;

    snprintf(text, sizeof text, "BPROC_SIZE=%zu", h->map.n);
    set(s, text);
    if (nodes && asprintf(&line, "BPROC_NODES=%s", nodes) > 0)
        set(s, line);
    snprintf(text, sizeof text, "MPI_LOCALRANKID=%u", s->local);
    set(s, text);
    snprintf(text, sizeof text, "MPI_LOCALNRANKS=%u", h->seats);
    set(s, text);
    /* UCX takes all that run on one kernel for one machine, and would have
     * virtual nodes talk through memory that they do not share. */
    if (h->same_kernel && !h->alone)
        set(s, "UCX_TLS?tcp,self");
    if (h->bind) {
        snprintf(text, sizeof text, "bind %u", s->local);
        set(s, text);
    }
    if (h->crowded)
        set(s, "batch");
}

/* What has come of a seat. False: nothing (more) now. */
static bool take_input(struct seat *s)
{
    if (s->room - s->len < 4096) {
        char *more = s->room < INPUT_MAX ? realloc(s->buf, s->room + 8192) : NULL;
        if (!more) {
            seat_close(s);
            return false;
        }
        s->buf = more;
        s->room += 8192;
    }
    ssize_t n = recv(s->fd, s->buf + s->len, s->room - s->len - 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return false;
    if (n <= 0) {
        seat_close(s);
        return false;
    }
    s->len += (size_t)n;
    char *p = s->buf, *nl;
    while (s->fd >= 0 && (nl = memchr(p, '\n', s->len - (size_t)(p - s->buf)))) {
        *nl = 0;
        kind_input(s->h, s, p);
        p = nl + 1;
    }
    s->len -= (size_t)(p - s->buf);
    memmove(s->buf, p, s->len);
    return true;
}

static void on_seat(void *arg, int fd, uint32_t events)
{
    (void)fd, (void)events;
    take_input(arg);
}

static void on_gone(void *arg, int fd, uint32_t events)
{
    struct seat *s = arg;

    (void)events;
    loop_fd_del(s->h->loop, fd);
    close(fd);
    s->pidfd = -1;
    s->gone = true;
    while (s->fd >= 0 && take_input(s)) /* its last words come first */
        continue;
    seat_close(s);
    line_up(s->h, "gone %u %d\n", s->rank, s->inside);
}

static struct seat *seat_of(struct helper *h, uint32_t rank)
{
    uint32_t lo = 0, hi = h->seats;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (h->seat[mid].rank < rank)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < h->seats && h->seat[lo].rank == rank ? &h->seat[lo] : NULL;
}

/* A newcomer says who it is: in one piece, and at once. */
static struct seat *who_is(struct helper *h, int fd, pid_t *pid)
{
    struct timeval patience = { 5, 0 };
    struct ucred peer;
    socklen_t n = sizeof peer;
    char hello[64];
    unsigned rank;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 || peer.uid != geteuid())
        return NULL;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ssize_t got = recv(fd, hello, sizeof hello - 1, 0);
    hello[got > 0 ? got : 0] = 0;
    if (sscanf(hello, "rank %u\n", &rank) != 1)
        return NULL;
    struct seat *s = seat_of(h, rank);
    *pid = peer.pid;
    return s && !s->seated ? s : NULL;
}

static void on_newcomer(void *arg, int fd, uint32_t events)
{
    struct helper *h = arg;
    int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    pid_t pid = 0;
    struct seat *s = c < 0 ? NULL : who_is(h, c, &pid);

    (void)events;
    if (!s) {
        if (c >= 0)
            close(c);
        return;
    }
    s->seated = true;
    s->fd = c;
    s->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (s->pidfd < 0 || loop_fd(h->loop, c, EPOLLIN, on_seat, s, NULL) < 0 ||
        loop_fd(h->loop, s->pidfd, EPOLLIN, on_gone, s, NULL) < 0) {
        seat_close(s);
        return;
    }
    tell_common(h, s);
    kind_seated(h, s, set);
    seat_say(s, "go\n");
}

static socklen_t address(const char *job, struct sockaddr_un *sa)
{
    *sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
    int len = snprintf(sa->sun_path + 1, sizeof sa->sun_path - 1, "clustermatic-mpi-%.80s", job);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
}

int helper_listen(struct helper *h, struct err *err)
{
    struct sockaddr_un sa;
    socklen_t size = address(h->job, &sa);

    h->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (h->listener < 0 || bind(h->listener, (struct sockaddr *)&sa, size) < 0 ||
        listen(h->listener, 4096) < 0)
        return err_set(err, errno, "a socket for the ranks: %s", strerror(errno));
    return loop_fd(h->loop, h->listener, EPOLLIN, on_newcomer, h, err);
}

/* Anything but a plain "nobody there" is a yes. */
bool helper_listens(const char *job)
{
    struct sockaddr_un sa;
    socklen_t size = address(job, &sa);
    CLEANUP(cleanup_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    return fd < 0 || connect(fd, (struct sockaddr *)&sa, size) == 0 || errno != ECONNREFUSED;
}

/* --- the whole --- */

int helper_options(const char *name, int argc, char **argv, int *status)
{
    if (argc < 2)
        return 0;
    if (strcmp(argv[1], "--version") == 0) {
        *status = opt_version(name);
    } else if (strcmp(argv[1], "--help") == 0) {
        printf("Usage: %s [--help | --version]\n"
               "Started by mpirun on each node of a job, to serve its ranks there.\n", name);
        *status = opt_finish(name);
    } else {
        fprintf(stderr, "%s: it takes no arguments; see %s --help\n", name, name);
        *status = OPT_EXIT_USAGE;
    }
    return 1;
}

/* Virtual nodes have the processors of one machine between them. */
static bool crowded(const struct helper *h)
{
    cpu_set_t may;
    size_t ranks = h->same_kernel ? h->map.n : h->seats;

    return sched_getaffinity(0, sizeof may, &may) == 0 && ranks > (size_t)CPU_COUNT(&may);
}

int helper_prepare(struct helper *h, struct err *err)
{
    const char *job = getenv("CM_MPI_JOB"), *map = getenv("CM_MPI_MAP"),
               *apps = getenv("CM_MPI_APPS"), *bind_how = getenv("CM_MPI_BIND");

    h->listener = -1;
    signal(SIGPIPE, SIG_IGN);
    if (!job || !map || !apps)
        return err_set(err, EINVAL, "this is started by mpirun, not by hand");
    h->job = strdup(job);
    h->bind = bind_how && strcmp(bind_how, "core") == 0;
    h->same_kernel = this_kernel(getenv("CM_MPI_HOST"));
    if (!h->job)
        return err_set(err, ENOMEM, "out of memory");
    nodelist_init(&h->map);
    h->loop = loop_create(err);
    if (!h->loop || nodespec_numbers(map, &h->map, err) < 0 || which_node(h, err) < 0 ||
        unique_nodes(h, err) < 0 || read_apps(h, apps, err) < 0 || make_seats(h, err) < 0)
        return -1;
    h->crowded = crowded(h);
    return line_open(h, err);
}

static void signal_all(struct helper *h, int sig)
{
    for (uint32_t i = 0; i < h->seats; i++)
        if (h->seat[i].pidfd >= 0)
            syscall(SYS_pidfd_send_signal, h->seat[i].pidfd, sig, NULL, 0);
}

static void on_kill(void *arg)
{
    struct helper *h = arg;

    signal_all(h, SIGKILL);
    loop_stop(h->loop, 1);
}

void helper_end(struct helper *h)
{
    if (h->ending)
        return;
    h->ending = true;
    loop_fd_del(h->loop, STDIN_FILENO);
    loop_fd_del(h->loop, h->listener);
    signal_all(h, SIGTERM);
    loop_timer(h->loop, KILL_AFTER_MS, false, on_kill, h);
}

int helper_run(struct helper *h)
{
    int status = loop_run(h->loop);

    for (uint32_t i = 0; i < h->seats; i++) {
        seat_close(&h->seat[i]);
        if (h->seat[i].pidfd >= 0)
            close(h->seat[i].pidfd);
        free(h->seat[i].buf);
    }
    close(h->listener);
    loop_destroy(&h->loop);
    nodelist_free(&h->map);
    nodelist_free(&h->nodes);
    free(h->seat);
    free(h->app);
    free(h->job);
    free(h->in);
    return status;
}
