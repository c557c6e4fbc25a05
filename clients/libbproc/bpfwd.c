/* bpfwd.c - what the processes of one launch say, to the caller's stdout
 *
 * Started by libbproc for default forwarding, as nobody's child; lives until
 * every stream is at its end. Descriptor 3 holds two int32 for
 * each rank: its node, and why it was not started (0: it was).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/bpsh/reader.h"

#define LIST_FD 3
#define WINDOW (64u * 1024)
#define LOOK_MS 1000
#define GONE 10 /* looks in a row at which there is no iofwd: the cluster was ended */

struct forward {
    loop_t *loop;
    reader_t *reader;
    uint32_t open; /* streams not at their end */
    uint64_t (*taken)[2];
    const char *path;
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
    struct forward *f = arg;

    if (write_all(p, n) < 0) { /* nobody listens: their writers are told */
        reader_close(f->reader, -1);
        loop_stop(f->loop, 1);
        return;
    }
    f->taken[rank][fd - 1] += n;
    reader_taken(f->reader, rank, fd, f->taken[rank][fd - 1]);
}

static void on_end(void *arg, uint32_t rank, int fd, bool lost)
{
    struct forward *f = arg;

    (void)rank;
    (void)fd;
    (void)lost;
    if (--f->open == 0)
        loop_stop(f->loop, 0);
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

    reader_flush(f->reader);
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

static int forward(const char *path, uint64_t launch, const int32_t *list, uint32_t n,
                   struct err *err)
{
    static const struct reader_ops ops = { on_data, on_end, on_input, on_again, NULL };
    struct forward f = { .open = 2 * n, .path = path, .taken = calloc(n, sizeof *f.taken) };
    int *node = malloc(n * sizeof *node);
    struct reader_conf conf = { .path = path, .launch = launch, .node = node, .n = n,
                                .window = WINDOW, .use = { true, true },
                                .started = true };
    int rc;

    for (uint32_t i = 0; node && i < n; i++)
        node[i] = list[2 * i];
    f.loop = node && f.taken ? loop_create(err) : NULL;
    f.reader = f.loop ? reader_create(f.loop, &conf, &ops, &f, err) : NULL;
    if (!f.reader)
        return -1;
    for (uint32_t i = 0; i < n; i++)
        if (list[2 * i + 1]) {
            reader_forget(f.reader, i);
            f.open -= 2;
        }
    loop_turn(f.loop, on_turn, &f);
    loop_timer(f.loop, LOOK_MS, true, on_look, &f);
    reader_flush(f.reader);
    rc = f.open ? loop_run(f.loop) : 0;
    reader_drain(f.reader, 1000);
    reader_destroy(&f.reader);
    loop_destroy(&f.loop);
    free(f.taken);
    free(node);
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
