/* bpsh_input - stdin that others read too: what they take must not be waited for */
#include <fcntl.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "clients/bpsh/input.h"
#include "tests/unit/tap.h"

static int thefts;

/* Watched before bpsh's own stdin is, so it is first to hear of the same bytes. */
static void steal(void *arg, int fd, uint32_t events)
{
    char buf[64];

    (void)arg, (void)events;
    thefts += read(fd, buf, sizeof buf) > 0;
}

/* One end to write to, the other is bpsh's stdin: does it get what comes after
 * something else was taken away before it could be read? */
static void shared(const char *what, int to, int from)
{
    char got[64] = "";
    int pair[2], thief = dup(from);
    loop_t *loop = loop_create(NULL);
    input_t *in = input_create(loop, from, 4096, NULL);

    thefts = 0;
    if (!loop || !in || thief < 0 || pipe(pair) < 0 || input_to_pipe(in, pair[1], NULL) < 0 ||
        write(to, "stolen\n", 7) != 7 || loop_fd(loop, thief, EPOLLIN, steal, NULL, NULL) < 0) {
        ok(false, "%s: a place to try it", what);
        return;
    }
    input_pump(in);
    loop_once(loop, 5000); /* a read that waits is ended by the alarm */
    ok(thefts == 1, "%s: another was faster, and is not waited for", what);
    loop_fd_del(loop, thief);
    if (write(to, "ours\n", 5) == 5)
        for (int i = 0; i < 100 && !strchr(got, '\n'); i++) {
            size_t len = strlen(got);
            loop_once(loop, 100);
            input_pump(in);
            fcntl(pair[0], F_SETFL, O_NONBLOCK);
            if (read(pair[0], got + len, sizeof got - 1 - len) < 0)
                continue;
        }
    is(got, "ours\n", "what comes next is read");
    ok((fcntl(from, F_GETFL) & O_NONBLOCK) == 0, "and the others' way to read is as it was");
    input_destroy(&in);
    loop_destroy(&loop);
    close(pair[0]);
    close(thief);
    close(to);
    close(from);
}

/* Written to only: not to be read by an opening of our own. */
static void not_readable(void)
{
    int pair[2], out[2];
    char byte;
    loop_t *loop = loop_create(NULL);

    if (!loop || pipe(pair) < 0 || pipe(out) < 0 || write(pair[1], "x", 1) != 1)
        return;
    input_t *in = input_create(loop, pair[1], 4096, NULL);
    input_to_pipe(in, out[1], NULL);
    for (int i = 0; i < 3; i++) {
        input_pump(in);
        loop_once(loop, 0);
    }
    ok(read(pair[0], &byte, 1) == 1 && byte == 'x', "a stdin that is for writing is not read");
    input_destroy(&in);
    loop_destroy(&loop);
    close(pair[0]);
    close(pair[1]);
    close(out[0]);
}

int main(void)
{
    int fd[2], master, slave;

    alarm(30);
    if (pipe(fd) == 0)
        shared("pipe", fd[1], fd[0]);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0)
        shared("socket", fd[1], fd[0]);
    if (openpty(&master, &slave, NULL, NULL, NULL) == 0)
        shared("terminal", master, slave);
    else
        skip("terminal", "there is none to be had");
    not_readable();
    return done_testing();
}
