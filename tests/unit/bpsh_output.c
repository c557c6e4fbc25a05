/* bpsh_output - what processes write, in each form that bpsh can give it */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "clients/bpsh/fold.h"
#include "clients/bpsh/output.h"
#include "tests/unit/tap.h"

static loop_t *loop;
static uint64_t taken[8][2];
static int broken_fd, broken_code;

static void on_taken(void *arg, uint32_t proc, int fd, uint64_t n)
{
    (void)arg;
    taken[proc][fd - 1] = n;
}

static void on_broken(void *arg, int fd, int code)
{
    (void)arg;
    broken_fd = fd;
    broken_code = code;
}

static const int nodes[] = { 3, 12, 400, -1 };

struct both { /* stdout and stderr as files */
    int fd[2];
    char text[2][4096];
};

static void both_open(struct both *f)
{
    for (int i = 0; i < 2; i++)
        f->fd[i] = memfd_create("out", MFD_CLOEXEC);
}

static void both_read(struct both *f)
{
    for (int i = 0; i < 2; i++) {
        ssize_t n = pread(f->fd[i], f->text[i], sizeof f->text[i] - 1, 0);
        f->text[i][n > 0 ? n : 0] = '\0';
        close(f->fd[i]);
    }
}

static output_t *make(struct output_form form, struct both *f, uint32_t n)
{
    struct err err = { 0 };

    both_open(f);
    memset(taken, 0, sizeof taken);
    form.fd[0] = f->fd[0];
    form.fd[1] = f->fd[1];
    if (!form.line_max)
        form.line_max = 4096;
    return output_create(loop, &form, nodes, n, on_taken, on_broken, NULL, &err);
}

static void put(output_t *o, uint32_t proc, int fd, const char *text)
{
    output_data(o, proc, fd, text, strlen(text), NULL);
}

static void end_all(output_t *o, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (int fd = 1; fd <= 2; fd++)
            output_end(o, i, fd);
    output_pump(o);
}

static void raw(void)
{
    struct both f;
    output_t *o = make((struct output_form){ 0 }, &f, 2);

    put(o, 0, 1, "one ");
    put(o, 1, 1, "two");
    put(o, 1, 2, "oops\n");
    ok(taken[0][0] == 4 && taken[1][1] == 5, "raw bytes are taken as they come");
    ok(!output_done(o), "output is not done while streams are open");
    end_all(o, 2);
    ok(output_done(o), "and done when all have ended");
    output_destroy(&o);
    both_read(&f);
    is(f.text[0], "one two", "raw bytes are not touched");
    is(f.text[1], "oops\n", "and stderr is kept apart");
}

static void prefixed(void)
{
    struct both f;
    output_t *o = make((struct output_form){ .prefix = true }, &f, 4);

    put(o, 0, 1, "ab");
    put(o, 2, 1, "x\ny");
    put(o, 0, 1, "c\n\n");
    put(o, 3, 2, "here\n");
    output_pump(o);
    end_all(o, 4);
    output_destroy(&o);
    both_read(&f);
    is(f.text[0], "  3: abc\n  3: \n400: x\n400: y\n",
       "-p: whole lines, three columns, a newline after an unfinished one");
    is(f.text[1], " -1: here\n", "-p: stderr too, and the master");
}

static void lines(void)
{
    struct both f;
    output_t *o = make((struct output_form){ .lines = true, .line_max = 5 }, &f, 2);

    put(o, 0, 1, "12345");
    output_pump(o);
    ok(taken[0][0] == 0, "an unfinished line waits");
    put(o, 1, 1, "B\n");
    output_pump(o);
    put(o, 0, 1, "\nabcdefgh\nend");
    end_all(o, 2);
    output_destroy(&o);
    both_read(&f);
    is(f.text[0], "B\n12345\nabcdefgh\nend", "-L: lines stay whole, nothing is added");

    o = make((struct output_form){ .prefix = true, .line_max = 5 }, &f, 1);
    put(o, 0, 1, "12345\nabcdefgh\n1234567890");
    end_all(o, 1);
    output_destroy(&o);
    both_read(&f);
    is(f.text[0], "  3: 12345\n  3: abcde\n  3: fgh\n  3: 12345\n  3: 67890\n",
       "-p: longer lines are broken, others are not");
}

static void sequential(void)
{
    struct both f;
    output_t *o = make((struct output_form){ .divider = true }, &f, 3);
    char want[4096], dashes[70];

    memset(dashes, '-', 69);
    dashes[69] = '\0';
    put(o, 1, 1, "second\n");
    output_pump(o);
    ok(taken[1][0] == 0, "-s: others wait for their turn");
    put(o, 0, 1, "first\n");
    output_pump(o);
    ok(taken[0][0] == 6, "-s: the current one does not");
    output_end(o, 0, 1);
    output_pump(o);
    ok(taken[1][0] == 0, "-s: the next begins when stderr has ended, too");
    output_end(o, 0, 2);
    output_pump(o);
    ok(taken[1][0] == 7, "-s: and then it does");
    end_all(o, 3);
    ok(output_done(o), "-s: done after the last");
    output_destroy(&o);
    both_read(&f);
    snprintf(want, sizeof want, "3\t%s\nfirst\n12\t%s\nsecond\n400\t%s\n", dashes, dashes, dashes);
    is(f.text[0], want, "-d: a divider before each, with or without output");
}

static void slow_reader(void)
{
    int p[2], err_fd = memfd_create("err", MFD_CLOEXEC);
    size_t n = 300000, got = 0;
    char *big = malloc(n), back[65536];
    struct err err = { 0 };

    if (pipe2(p, O_CLOEXEC) < 0)
        return;
    for (size_t i = 0; i < n; i++)
        big[i] = (char)(i * 7);
    memset(taken, 0, sizeof taken);
    struct output_form form = { .line_max = 4096, .fd = { p[1], err_fd } };
    output_t *o = output_create(loop, &form, nodes, 2, on_taken, on_broken, NULL, &err);
    ok(output_data(o, 0, 1, big, n, &err) == 0, "a full pipe does not stop us");
    ok(taken[0][0] > 0 && taken[0][0] < n, "what did not fit waits");
    ok(!(fcntl(p[1], F_GETFL) & O_NONBLOCK), "the shell's descriptor stays as it was");
    put(o, 1, 2, "other\n");
    ok(taken[1][1] == 6, "and the other descriptor goes on");
    output_end(o, 0, 1);
    output_end(o, 1, 1);
    output_end(o, 0, 2);
    output_end(o, 1, 2);
    bool same = true;
    while (got < n) {
        output_pump(o);
        loop_once(loop, 0);
        ssize_t r = read(p[0], back, sizeof back);
        if (r <= 0)
            break;
        same = same && memcmp(back, big + got, (size_t)r) == 0;
        got += (size_t)r;
    }
    ok(same && got == n, "the reader gets every byte once");
    ok(taken[0][0] == n && output_done(o), "and then all is taken");
    output_destroy(&o);

    o = output_create(loop, &form, nodes, 1, on_taken, on_broken, NULL, &err);
    close(p[0]);
    put(o, 0, 1, "nobody there");
    output_pump(o);
    ok(broken_fd == 1 && broken_code == EPIPE, "a closed reader is reported");
    ok(output_data(o, 0, 1, big, n, &err) == 0 && output_idle(o, 0, 1),
       "and what still comes is swallowed");
    output_destroy(&o);
    close(p[1]);
    close(err_fd);
    free(big);
}

static void folded(void)
{
    struct err err = { 0 };
    struct both f;
    fold_t *fold = fold_create(nodes, 4, &err);

    both_open(&f);
    fold_add(fold, 0, 1, "same ", 5, &err);
    fold_add(fold, 1, 1, "same\n", 5, &err);
    fold_add(fold, 2, 1, "same words", 10, &err);
    fold_add(fold, 0, 1, "words", 5, &err);
    fold_add(fold, 3, 2, "odd\n", 4, &err);
    fflush(stdout);
    int keep = dup(1);
    dup2(f.fd[0], 1); /* fold_print() names streams by their numbers */
    int rc = fold_print(fold, 1, &err);
    dup2(keep, 1);
    close(keep);
    ok(rc == 0, "--fold: nothing goes wrong");
    fold_destroy(&fold);
    both_read(&f);
    is(f.text[0], "3,400:\nsame words\n12:\nsame\n",
       "--fold: equal output once, with its nodes, and without stderr");
}

int main(void)
{
    struct err err = { 0 };

    signal(SIGPIPE, SIG_IGN);
    loop = loop_create(&err);
    raw();
    prefixed();
    lines();
    sequential();
    slow_reader();
    folded();
    loop_destroy(&loop);
    return done_testing();
}
