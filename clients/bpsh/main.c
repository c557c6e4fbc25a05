/* main.c - bpsh: run a command of the master on nodes
 *
 * Opens the parts in order, runs the loop until every process is reaped and
 * every stream at its end, and leaves with the status that follows.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/bpsh/bpsh.h"
#include "clients/common/opt.h"

#define WINDOW_ALL (8u * 1024 * 1024) /* for all streams together */
#define WINDOW_MIN (16u * 1024)
#define WINDOW_MAX (512u * 1024)
#define READ_BYTES (128 * 1024)
#define KILL_AFTER_MS 5000            /* after the SIGTERM of --timeout */
#define DRAIN_MS 1000                 /* for the last words when we leave early */

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* --- bytes on their way out --- */

void output_broken(struct bpsh *b, int fd, int code)
{
    if (code == EPIPE && signals_pipe_default()) {
        leave(b, -SIGPIPE);
        return;
    }
    fprintf(stderr, "bpsh: %s: %s\n", fd == 1 ? "stdout" : "stderr", strerror(code));
    leave(b, EXIT_FAILURE);
}

static void on_broken(void *arg, int fd, int code) { output_broken(arg, fd, code); }

static void on_taken(void *arg, uint32_t i, int fd, uint64_t taken)
{
    struct bpsh *b = arg;
    struct proc *p = &b->proc[i];

    if (p->node < 0)
        local_taken(b, p, fd, taken);
    else if (!onward_taken(b, p, fd, taken))
        reader_taken(b->reader, p->rank, fd, taken);
}

void proc_data(struct bpsh *b, struct proc *p, int fd, const void *data, size_t n)
{
    uint32_t i = (uint32_t)(p - b->proc);
    struct err err = { 0 };
    int rc;

    if (b->fold) {
        rc = fold_add(b->fold, i, fd, data, n, &err);
        p->folded[fd - 1] += n;
        if (rc == 0)
            on_taken(b, i, fd, p->folded[fd - 1]);
    } else {
        rc = output_data(b->output, i, fd, data, n, &err);
    }
    if (rc < 0 && !b->leaving) {
        fprintf(stderr, "bpsh: %s\n", err.text);
        leave(b, EXIT_FAILURE);
    }
}

void proc_end(struct bpsh *b, struct proc *p, int fd, bool lost, bool moved)
{
    p->lost |= lost;
    if (!onward_end(b, p, fd, moved && !lost))
        output_end(b->output, (uint32_t)(p - b->proc), fd);
}

/* --- from the reader --- */

static void on_data(void *arg, uint32_t rank, int fd, const void *data, size_t n)
{
    struct bpsh *b = arg;

    proc_data(b, &b->proc[b->by_rank[rank]], fd, data, n);
}

static void on_end(void *arg, uint32_t rank, int fd, bool lost)
{
    struct bpsh *b = arg;

    proc_end(b, &b->proc[b->by_rank[rank]], fd, lost, reader_moved(b->reader, rank, fd));
}

static void on_input(void *arg, uint64_t acked, uint64_t limit, bool gone)
{
    struct bpsh *b = arg;

    if (b->input)
        input_credit(b->input, acked, limit, gone);
}

static void on_again(void *arg, uint64_t offset)
{
    struct bpsh *b = arg;

    if (b->input)
        input_again(b->input, offset);
}

static void on_bulk(void *arg, uint32_t rank, uint64_t offset, const struct bulk_ticket *t,
                    int sock)
{
    bulk_begin(arg, rank, offset, t, sock);
}

/* --- opening --- */

/* Descriptors 0-2 exist from here on; what was closed is not forwarded. */
static int settle_streams(struct bpsh *b, struct err *err)
{
    struct stat st;

    for (int fd = 0; fd < 3; fd++) {
        bool there = fcntl(fd, F_GETFD) >= 0;
        if (!there && open("/dev/null", O_RDWR) < 0)
            return err_set(err, errno, "/dev/null: %s", strerror(errno));
        b->forward[fd] = there && !b->opt.null_all && !b->opt.file[fd];
    }
    /* An empty stdin is as empty on the node, and nothing need be carried. */
    if (b->opt.stdin_to == STDIN_NONE ||
        (fstat(0, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)))
        b->forward[0] = false;
    return 0;
}

static int open_output(struct bpsh *b, struct err *err)
{
    struct output_form form = { .lines = b->opt.lines, .prefix = b->opt.prefix,
                                .sequential = b->opt.sequential, .divider = b->opt.divider,
                                .line_max = b->opt.buffer, .fd = { 1, 2 } };
    uint64_t streams = (uint64_t)b->procs * (unsigned)(b->forward[1] + b->forward[2]);
    CLEANUP(cleanup_free) int *node = malloc(b->procs * sizeof *node);

    b->window = streams ? WINDOW_ALL / streams : WINDOW_MAX;
    if (b->window < WINDOW_MIN)
        b->window = WINDOW_MIN;
    if (b->window > WINDOW_MAX)
        b->window = WINDOW_MAX;
    if (b->opt.lines && b->window < 2 * form.line_max)
        b->window = 2 * form.line_max;
    if (!node)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < b->procs; i++)
        node[i] = b->opt.by_rank ? (int)(b->opt.first_rank + b->proc[i].rank) : b->proc[i].node;
    if (b->opt.fold && !(b->fold = fold_create(node, b->procs, err)))
        return -1;
    b->output = output_create(b->loop, &form, node, b->procs, on_taken, on_broken, b, err);
    if (!b->output)
        return -1;
    for (uint32_t i = 0; i < b->procs; i++)
        for (int fd = 1; fd <= 2; fd++)
            if (!b->forward[fd]) {
                b->proc[i].over |= 1u << (fd - 1);
                output_end(b->output, i, fd);
            }
    return 0;
}

static int open_reader(struct bpsh *b, struct err *err)
{
    static const struct reader_ops ops = { on_data, on_end, on_input, on_again, on_bulk };
    char path[4096];
    CLEANUP(cleanup_free) int *node = malloc(b->remote * sizeof *node);
    struct reader_conf conf = { .path = cm_path(path, "iofwd"), .launch = b->launch,
                                .node = node, .n = b->remote, .window = b->window,
                                .raw = options_raw(&b->opt) && b->forward[1],
                                .use = { b->forward[1], b->forward[2] } };

    if (!node)
        return err_set(err, ENOMEM, "out of memory");
    if (!b->forward[0] && !b->forward[1] && !b->forward[2])
        return 0;
    for (uint32_t r = 0; r < b->remote; r++)
        node[r] = b->proc[b->by_rank[r]].node;
    b->reader = reader_create(b->loop, &conf, &ops, b, err);
    return b->reader ? 0 : -1;
}

static int open_input(struct bpsh *b, struct err *err)
{
    if (!b->forward[0])
        return 0;
    b->input = input_create(b->loop, 0, b->opt.buffer_given ? b->opt.buffer : READ_BYTES, err);
    if (!b->input)
        return -1;
    if (b->reader && (b->opt.stdin_to < 0 || b->proc[b->opt.stdin_to].node >= 0))
        input_to_nodes(b->input, b->reader);
    return 0;
}

/* Nowhere may anything be started: say so, and spare the rest the trouble. */
static bool all_refused(struct bpsh *b)
{
    for (uint32_t r = 0; r < b->remote; r++)
        if (!b->proc[b->by_rank[r]].code)
            return false;
    for (uint32_t r = 0; r < b->remote; r++) {
        struct proc *p = &b->proc[b->by_rank[r]];
        launch_failure(b, p, p->code, p->why ? p->why : err_name(p->code));
    }
    return true;
}

static int start_remote(struct bpsh *b, struct err *err)
{
    int pids;

    if (all_refused(b)) {
        b->answered = true;
        return 0;
    }
    b->launch = launch_id();
    tell_launch(b);
    if (ghosts_start(b, &pids, err) < 0)
        return -1;
    /* While the ghosts get ready. */
    if (open_reader(b, err) < 0) {
        close(pids);
        return -1;
    }
    if (b->reader)
        reader_flush(b->reader);
    return ghosts_finish(b, pids, err) < 0 ? -1 : launch_send(b, err);
}

static void on_kill(void *arg)
{
    struct bpsh *b = arg;

    procs_kill(b, SIGKILL);
    leave(b, EXIT_TIMEOUT);
}

static void on_timeout(void *arg)
{
    struct bpsh *b = arg;

    b->timed_out = true;
    procs_kill(b, SIGTERM);
    loop_timer(b->loop, KILL_AFTER_MS, false, on_kill, b);
}

static int start_all(struct bpsh *b, struct err *err)
{
    gate_t *gate = NULL;

    if (settle_streams(b, err) < 0 || !(b->loop = loop_create(err)) ||
        !(b->path = command_find(b->opt.argv[0], err)) ||
        (b->opt.via && !(b->via = command_find(b->opt.via, err))))
        return -1;
    int rc = launch_resolve(b, &gate, err);
    if (gate && !(b->calls = calls_create(b->loop, gate, rc < 0 ? NULL : err))) {
        gate_close(&gate);
        return -1;
    }
    if (rc < 0 || open_output(b, err) < 0 || signals_open(b, err) < 0)
        return -1;
    b->began_ns = now_ns();
    if ((b->remote ? start_remote(b, err) : 0) < 0 || open_input(b, err) < 0 ||
        local_start(b, err) < 0 || procs_index(b, err) < 0 || signals_watch(b, err) < 0)
        return -1;
    if (b->opt.timeout_ms)
        loop_timer(b->loop, b->opt.timeout_ms, false, on_timeout, b);
    return 0;
}

/* --- running and ending --- */

static bool finished(const struct bpsh *b)
{
    return b->leaving || (!b->alive && (b->answered || !b->remote) && !b->bulk &&
                          output_done(b->output));
}

static void run(struct bpsh *b)
{
    for (;;) {
        output_pump(b->output);
        if (b->input)
            input_pump(b->input);
        bulk_pump(b);
        onward_turn(b);
        if (b->reader)
            reader_flush(b->reader);
        if (finished(b))
            return;
        loop_once(b->loop, -1);
    }
}

static void report(struct bpsh *b)
{
    struct err err = { 0 };

    for (uint32_t i = 0; i < b->procs; i++)
        if (b->proc[i].lost && !b->proc[i].failed) {
            fprintf(stderr, "bpsh: node %d was lost; some of its output may be missing\n",
                    b->proc[i].node);
            status_raise(b, EXIT_SIGNALLED);
        }
    if (b->fold && (fold_print(b->fold, 1, &err) < 0 || fold_print(b->fold, 2, &err) < 0)) {
        if (err.code == EPIPE && signals_pipe_default())
            leave(b, -SIGPIPE);
        else
            fprintf(stderr, "bpsh: %s\n", err.text);
        status_raise(b, EXIT_FAILURE);
    }
    if (b->opt.time) {
        printf("%.6f\n", (double)(now_ns() - b->began_ns) / 1e9);
        status_raise(b, opt_finish("bpsh"));
    }
}

/* Processes that we started must not outlive a start that failed. */
static void abandon(struct bpsh *b)
{
    for (uint32_t i = 0; i < b->procs; i++)
        if (b->proc[i].pid > 0) {
            kill(b->proc[i].pid, SIGKILL);
            waitpid(b->proc[i].pid, NULL, 0);
        }
}

static void close_all(struct bpsh *b)
{
    if (!b->loop)
        return;
    bulk_end(b);
    input_destroy(&b->input);
    onward_close(b);
    reader_destroy(&b->reader);
    output_destroy(&b->output);
    fold_destroy(&b->fold);
    calls_destroy(&b->calls);
    procs_free(b);
    loop_destroy(&b->loop);
    free(b->path);
    free(b->via);
}

int main(int argc, char **argv)
{
    struct bpsh b = { .sigfd = -1 };
    struct err err = { 0 };
    int status;

    if (options_parse(&b.opt, argc, argv, &status))
        return status;
    if (start_all(&b, &err) < 0) {
        fprintf(stderr, "bpsh: %s\n", err.text);
        abandon(&b);
        close_all(&b);
        return EXIT_FAILURE;
    }
    run(&b);
    if (!b.leaving)
        report(&b);
    if (b.leaving && b.reader) {
        reader_close(b.reader, -1);
        reader_drain(b.reader, DRAIN_MS);
    }
    int end = b.leaving ? b.leave_status : b.timed_out ? EXIT_TIMEOUT : b.status;
    if (!b.leaving && b.died_of_it)
        end = -b.interrupted;
    close_all(&b);
    if (end < 0)
        signals_die(-end);
    return end < 0 ? EXIT_SIGNALLED : end;
}
