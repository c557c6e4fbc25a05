/* bulk.c - stdout of a process by the bulk channel: a helper copies it
 *
 * bulkcat speaks TLS, which bpsh itself should not have to load. It writes
 * straight to our stdout and says at the end how far it came.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/bpsh/bpsh.h"

struct bulk_run {
    struct bulk_run *next;
    struct bpsh *b;
    uint32_t rank;
    uint64_t offset;
    struct bulk_ticket ticket;
    int sock;   /* until the helper has it */
    int status; /* our end of the pipe for its last word; -1: not started */
    pid_t pid;  /* 0: not started, or reaped */
    char word[64];
    size_t len;
};

static struct bulk_run **place_of(struct bpsh *b, const struct bulk_run *r)
{
    struct bulk_run **p = &b->bulk;

    while (*p != r)
        p = &(*p)->next;
    return p;
}

static void run_free(struct bulk_run *r)
{
    *place_of(r->b, r) = r->next;
    if (r->sock >= 0)
        close(r->sock);
    if (r->status >= 0) {
        loop_fd_del(r->b->loop, r->status);
        close(r->status);
    }
    explicit_bzero(&r->ticket, sizeof r->ticket);
    free(r);
}

/* The helper is done, up to offset; or it never was. */
static void go_on(struct bulk_run *r, uint64_t offset, bool eof)
{
    struct bpsh *b = r->b;
    uint32_t rank = r->rank;

    output_passed(b->output, b->by_rank[rank], 1, offset - r->offset);
    run_free(r);
    reader_bulk_done(b->reader, rank, offset, eof);
}

static void take_word(struct bulk_run *r)
{
    struct bpsh *b = r->b;
    char how[8];
    unsigned long long offset;

    r->word[r->len] = '\0';
    if (sscanf(r->word, "%llu %7s", &offset, how) != 2 || offset < r->offset) {
        /* How much it wrote is not known: to go on could repeat or lose some. */
        fprintf(stderr, "bpsh: the bulk channel of node %d broke off; "
                        "its output is incomplete\n",
                b->proc[b->by_rank[r->rank]].node);
        run_free(r);
        leave(b, EXIT_REFUSED);
    } else if (strcmp(how, "closed") == 0) {
        run_free(r);
        output_broken(b, 1, EPIPE);
    } else {
        go_on(r, offset, strcmp(how, "eof") == 0);
    }
}

static void on_status(void *arg, int fd, uint32_t events)
{
    struct bulk_run *r = arg;

    (void)events;
    ssize_t n = read(fd, r->word + r->len, sizeof r->word - 1 - r->len);
    if (n < 0 && errno == EINTR)
        return;
    if (n > 0)
        r->len += (size_t)n;
    if (n <= 0 || memchr(r->word, '\n', r->len) || r->len == sizeof r->word - 1)
        take_word(r);
}

/* In the child of vfork(): nothing but system calls. */
static void __attribute__((noreturn)) become_bulkcat(const char *prog, char **argv,
                                                     const int keep[3], volatile int *why)
{
    extern char **environ;

    signals_in_child();
    signal(SIGINT, SIG_IGN); /* what the user interrupts is the program, and it */
    signal(SIGQUIT, SIG_IGN); /* may have last words */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    for (int i = 0; i < 3; i++)
        fcntl(keep[i], F_SETFD, 0);
    execve(prog, argv, environ);
    *why = errno;
    _exit(127);
}

static int start(struct bulk_run *r, struct err *err)
{
    char prog[PATH_MAX], fd_text[12], key_text[12], status_text[12], offset_text[24];
    int key[2], status[2];
    volatile int why = 0;

    if (pipe2(key, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    if (pipe2(status, O_CLOEXEC) < 0) {
        close(key[0]);
        close(key[1]);
        return err_set(err, errno, "pipe: %s", strerror(errno));
    }
    ssize_t wrote = write(key[1], r->ticket.key, BULK_KEY); /* a pipe holds this much */
    close(key[1]);
    snprintf(prog, sizeof prog, "%.4000s/bulkcat", cm_libexec());
    snprintf(fd_text, sizeof fd_text, "%d", r->sock);
    snprintf(key_text, sizeof key_text, "%d", key[0]);
    snprintf(status_text, sizeof status_text, "%d", status[1]);
    snprintf(offset_text, sizeof offset_text, "%llu", (unsigned long long)r->offset);
    char *argv[] = { (char *)"bulkcat", (char *)"--fd", fd_text, (char *)"--key-fd", key_text,
                     (char *)"--token", r->ticket.token, (char *)"--offset", offset_text,
                     (char *)"--out", (char *)"1", (char *)"--status-fd", status_text, NULL };
    int keep[3] = { r->sock, key[0], status[1] };
    pid_t pid = wrote == BULK_KEY ? vfork() : -1;
    if (pid == 0)
        become_bulkcat(prog, argv, keep, &why);
    int code = pid < 0 ? errno : why;
    close(key[0]);
    close(status[1]);
    if (pid < 0 || code) {
        close(status[0]);
        if (pid > 0)
            waitpid(pid, NULL, 0);
        return err_set(err, code ? code : EIO, "%s: %s", prog, strerror(code));
    }
    r->pid = pid;
    r->status = status[0];
    close(r->sock);
    r->sock = -1;
    return loop_fd(r->b->loop, r->status, EPOLLIN, on_status, r, err);
}

void bulk_begin(struct bpsh *b, uint32_t rank, uint64_t offset, const struct bulk_ticket *t,
                int sock)
{
    struct bulk_run *r = calloc(1, sizeof *r);

    if (!r) {
        close(sock);
        reader_bulk_done(b->reader, rank, offset, false);
        return;
    }
    *r = (struct bulk_run){ .b = b, .rank = rank, .offset = offset, .ticket = *t, .sock = sock,
                            .status = -1, .next = b->bulk };
    b->bulk = r;
}

/* Start those whose earlier bytes are all written. */
void bulk_pump(struct bpsh *b)
{
    for (struct bulk_run *r = b->bulk, *next; r; r = next) {
        struct err err = { 0 };
        next = r->next;
        if (r->status >= 0 || !output_idle(b->output, b->by_rank[r->rank], 1))
            continue;
        if (start(r, &err) < 0)
            go_on(r, r->offset, false); /* slower, and just as right */
    }
}

bool bulk_reaped(struct bpsh *b, pid_t pid, int status)
{
    (void)status; /* its word counts, which is read when its pipe ends */
    for (struct bulk_run *r = b->bulk; r; r = r->next)
        if (r->pid == pid) {
            r->pid = 0;
            return true;
        }
    return false;
}

void bulk_end(struct bpsh *b)
{
    while (b->bulk) {
        if (b->bulk->pid > 0)
            kill(b->bulk->pid, SIGTERM);
        run_free(b->bulk);
    }
}
