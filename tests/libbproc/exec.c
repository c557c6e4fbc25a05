/* exec.c - libbproc's calls that start processes; nodes 0 and 1 up, 2 down
 *
 *   exec many          vexecmove: good and bad nodes, waiting, killing, usage
 *   exec self NODE     a child of ours goes on there
 *   exec io            redirections
 *   exec not           what does not exist yet, and mistakes
 *   exec denied        nobody lets us on node 0
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include "tests/libbproc/check.h"

static const char *body; /* tests/body: a program without the sanitizers */

static int run(int n, int *nodes, int *pids, struct bproc_io_t *io, int iolen, const char *a,
               const char *b)
{
    char *argv[] = { text("body"), text(a), text(b), NULL };

    return bproc_vexecmove_io(n, nodes, pids, io, iolen, body, argv, environ);
}

static void many(void)
{
    int nodes[8] = { 0, 1, 2, 99, 0, -1, -4, 1 }, pids[8];
    struct rusage ru;
    int status;

    setenv("BPROC_RANK", "XXXXXXX", 1);
    equals(run(8, nodes, pids, NULL, 0, "exit", "rank"), 8, "eight were asked for");
    ok(pids[0] > 0 && pids[1] > 0 && pids[4] > 0 && pids[7] > 0, "four started on nodes");
    equals(pids[2], -BE_NODEDOWN, "not on a node that is down");
    equals(pids[3], -BE_INVALIDNODE, "nor on one that is not");
    equals(pids[6], -BE_INVALIDNODE, "nor on any node");
    ok(pids[5] > 0, "one started here");
    equals(reap(pids[0]), 0, "the first had rank 0");
    equals(reap(pids[1]), 1 << 8, "the second 1");
    equals(reap(pids[4]), 4 << 8, "the fifth 4: ranks are places in the list");
    equals(reap(pids[7]), 7 << 8, "the last 7");
    reap(pids[5]);
    equals(waitpid(-1, &status, WNOHANG), -1, "no other children are left to us");

    equals(run(2, nodes, pids, NULL, 0, "burn", "300"), 2, "two that use processor time");
    equals(bproc_pidnode(pids[1]), 1, "the node of the second");
    ok(bproc_getsid(pids[1]) > 0, "its session");
    equals(bproc_getrusage(pids[1], &status, &ru), 0, "its use of resources while it runs");
    equals(status, -1, "which it does");
    equals(reap(pids[0]), 0, "the first ends");
    equals(reap(pids[1]), 0, "the second ends");
    equals(bproc_getrusage(pids[1], &status, &ru), 0, "its use of resources at the end");
    long us = (long)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000 +
              (long)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
    ok(status == 0 && us > 100000 &&
           ru.ru_maxrss > 0,
       "is told: status %d, %ld us, %ld kB", status, us, ru.ru_maxrss);

    equals(run(2, nodes, pids, NULL, 0, "wait", NULL), 2, "two that end with their input");
    equals(WEXITSTATUS(reap(pids[0])), 0, "which is empty");
    equals(WEXITSTATUS(reap(pids[1])), 1, "for both");

    char *argv[] = { text("sleep"), text("100"), NULL };
    equals(bproc_vexecmove(2, nodes, pids, "/bin/sleep", argv, environ), 2, "two that sleep");
    struct bproc_proc_info_t *list = NULL;
    int n = bproc_proclist(1, &list);
    ok(n == 1 && list[0].pid == pids[1] && list[0].node == 1, "are in the list");
    free(list);
    equals(kill(pids[0], SIGTERM), 0, "one is sent SIGTERM");
    equals(reap(pids[0]), SIGTERM, "and dies of it");
    equals(kill(pids[1], SIGKILL), 0, "the other SIGKILL");
    equals(reap(pids[1]), SIGKILL, "and dies of that");

    equals(bproc_vexecmove(2, nodes, pids, "/no/such/program", argv, environ), 2,
           "a program that is not");
    ok(pids[0] == -ENOENT && pids[1] == -ENOENT, "is not started anywhere");
    equals(bproc_vexecmove(2, nodes, pids, "/etc/passwd", argv, environ), 2,
           "a file that is no program");
    ok(pids[0] == -EACCES && pids[1] == -EACCES, "neither");
    nodes[0] = nodes[1] = -1;
    equals(bproc_vexecmove(2, nodes, pids, "/no/such/program", argv, environ), 2,
           "the same here");
    ok(pids[0] == -ENOENT && pids[1] == -ENOENT, "fails in the same way");
    equals(waitpid(-1, &status, WNOHANG), -1, "no children are left to us");
}

/* Size and nodes are in each one's environment, and nobody else's. */
static void told(void)
{
    char *argv[] = { text("sh"), text("-c"),
                     text("test \"$BPROC_SIZE $BPROC_NODES\" = '5 0-1,0,master,master'"), NULL };
    int nodes[5] = { 0, 1, 0, BPROC_NODE_SELF, BPROC_NODE_ANY }, pids[5], good = 0;

    setenv("BPROC_SIZE", "99", 1);
    setenv("BPROC_NODES", "77", 1);
    equals(bproc_vexecmove_io(5, nodes, pids, NULL, 0, "/bin/sh", argv, environ), 5,
           "four and one that is no node");
    equals(pids[4], -BE_INVALIDNODE, "which is not started");
    for (int i = 0; i < 4; i++)
        good += reap(pids[i]) == 0;
    equals(good, 4, "know how many they are and where, also the one here");
    ok(strcmp(getenv("BPROC_SIZE"), "99") == 0, "our own environment is as it was");
    unsetenv("BPROC_SIZE");
    unsetenv("BPROC_NODES");
}

/* A child of ours that turns into a process on node. */
static int self(int node, bool found, const char *cmd, const char *a, const char *b, int *pid)
{
    char *argv[] = { text("body"), text(a), text(b), NULL };

    *pid = fork();
    if (*pid == 0) {
        int rc = found ? bproc_rexec_io(node, NULL, 0, cmd, argv, environ)
                       : bproc_execmove_io(node, NULL, 0, cmd, argv, environ);
        _exit(rc == -1 ? 200 : 201);
    }
    return *pid;
}

static void myself(void)
{
    int pid, status;
    struct rusage ru;
    time_t end = time(NULL) + 10;

    self(1, false, body, "exit", "7", &pid);
    equals(reap(pid), 7 << 8, "execmove: the child ended on the node");
    equals(bproc_getrusage(pid, &status, &ru), 0, "under its own pid");
    equals(status, 7 << 8, "with that status");
    self(0, false, body, "die", "11", &pid);
    equals(reap(pid) & 0x7f, SIGSEGV, "a signal's death comes back");
    self(1, true, body, "exit", "9", &pid);
    equals(reap(pid), 9 << 8, "rexec: the program was already there");
    const char *knows = "test \"$BPROC_SIZE $BPROC_NODES\" = '1 1'";
    self(1, false, "/bin/sh", "-c", knows, &pid);
    equals(reap(pid), 0, "execmove: it knows its node");
    self(1, true, "/bin/sh", "-c", knows, &pid);
    equals(reap(pid), 0, "rexec: that does, too");
    self(1, true, "/no/such/program", "x", NULL, &pid);
    equals(reap(pid), 200 << 8, "rexec of nothing returns");
    self(2, false, body, "exit", "7", &pid);
    equals(reap(pid), 200 << 8, "execmove to a node that is down returns");
    self(1, false, "/bin/sleep", "100", NULL, &pid);
    while (bproc_pidnode(pid) != 1 && time(NULL) < end)
        poll(NULL, 0, 20);
    equals(bproc_pidnode(pid), 1, "a child of ours is on node 1 now");
    kill(pid, SIGTERM);
    equals(reap(pid), SIGTERM, "and dies of SIGTERM");

    char *argv[] = { text("body"), text("exit"), text("3"), NULL };
    fails(bproc_execmove(99, body, argv, environ), BE_INVALIDNODE, "no such node");
    fails(bproc_execmove(BPROC_NODE_ANY, body, argv, environ), BE_INVALIDNODE, "any node");
    fails(bproc_execmove(2, body, argv, environ), BE_NODEDOWN, "a node that is down");
    fails(bproc_execmove(-1, body, argv, environ), BE_SAMENODE, "we are here already");
    fails(bproc_execmove(1, "/no/such/program", argv, environ), ENOENT, "no such program");
    fails(bproc_rexec(1, "/no/such/program", argv, environ), ENOENT, "nor on the node");
    fails(bproc_execmove_io(1, NULL, 17, body, argv, environ), EINVAL, "17 redirections");
    fails(bproc_rexec(-1, "/no/such/program", argv, environ), ENOENT, "rexec here");
    fails(bproc_execve("/no/such/program", argv, environ), ENOENT, "execve");
    equals(bproc_numnodes(), 3, "after all that we are who we were");
    pid = fork();
    if (pid == 0) {
        bproc_rexec(-1, body, argv, environ);
        _exit(200);
    }
    equals(reap(pid), 3 << 8, "rexec on the master is exec");
}

static void file_io(struct bproc_io_t *io, int fd, const char *name, int flags, long offset)
{
    memset(io, 0, sizeof *io);
    io->fd = fd;
    io->type = BPROC_IO_FILE;
    io->d.file.flags = flags;
    io->d.file.mode = 0640;
    io->d.file.offset = offset;
    snprintf(io->d.file.name, sizeof io->d.file.name, "%s", name);
}

static void files(void)
{
    int nodes[3] = { 0, 1, -1 }, pids[3];
    struct bproc_io_t io[3];
    char *put[] = { text("echo"), text("abc"), NULL };
    char name[64];

    snprintf(name, sizeof name, "/tmp/libbproc-io.%d", (int)getpid());
    file_io(&io[0], 1, name, O_WRONLY | O_CREAT | O_TRUNC, 0);
    equals(bproc_vexecmove_io(3, nodes, pids, io, 1, "/bin/echo", put, environ), 3,
           "stdout is a file on each node");
    for (int i = 0; i < 3; i++)
        equals(reap(pids[i]), 0, "and was written");
    file_io(&io[0], 1, name, O_WRONLY, 2);
    bproc_vexecmove_io(3, nodes, pids, io, 1, "/bin/echo", put, environ);
    for (int i = 0; i < 3; i++)
        reap(pids[i]);
    file_io(&io[0], 0, name, O_RDONLY, 0);
    char *grep[] = { text("grep"), text("-qx"), text("ababc"), NULL };
    equals(bproc_vexecmove_io(3, nodes, pids, io, 1, "/bin/grep", grep, environ), 3,
           "the same file is stdin");
    for (int i = 0; i < 3; i++)
        equals(reap(pids[i]), 0, "and holds what was written, from the offset on");
    file_io(&io[0], 0, "/no/such/file", O_RDONLY, 0);
    equals(bproc_vexecmove_io(3, nodes, pids, io, 1, "/bin/grep", grep, environ), 3,
           "a file that is not");
    for (int i = 0; i < 3; i++)
        equals(pids[i], -ENOENT, "is told of each");
    io[0].flags = BPROC_IO_DELAY;
    equals(bproc_vexecmove_io(3, nodes, pids, io, 1, "/bin/grep", grep, environ), 3,
           "with DELAY it runs without");
    for (int i = 0; i < 3; i++)
        equals(reap(pids[i]), 1 << 8, "and finds nothing to read");
    unlink(name);
}

/* Everything until the end. */
static size_t read_all(int fd, char *buf, size_t room)
{
    size_t n = 0;
    ssize_t k;

    while (n < room - 1 && (k = read(fd, buf + n, room - 1 - n)) > 0)
        n += (size_t)k;
    buf[n] = 0;
    return n;
}

static int listen_here(struct sockaddr_in *in)
{
    socklen_t len = sizeof *in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    memset(in, 0, sizeof *in);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_ANY);
    if (fd < 0 || bind(fd, (struct sockaddr *)in, sizeof *in) < 0 || listen(fd, 16) < 0 ||
        getsockname(fd, (struct sockaddr *)in, &len) < 0)
        return -1;
    in->sin_addr.s_addr = htonl(INADDR_ANY); /* "who started us" */
    return fd;
}

static bool arrives(int fd)
{
    struct pollfd p = { fd, POLLIN, 0 };

    return poll(&p, 1, 10000) == 1;
}

static void sockets(void)
{
    int nodes[3] = { 0, 1, -1 }, pids[3];
    struct bproc_io_t io[3];
    struct sockaddr_in in;
    int l = listen_here(&in), seen = 0, right = 0;
    char *cat[] = { text("sh"), text("-c"), text("read x; echo got $x; echo err >&2; exit 5"),
                    NULL };

    memset(io, 0, sizeof io);
    for (int i = 0; i < 3; i++) {
        io[i].fd = i;
        io[i].type = BPROC_IO_SOCKET;
        io[i].flags = BPROC_IO_SEND_INFO;
        memcpy(&io[i].d.addr, &in, sizeof io[i].d.addr);
    }
    equals(bproc_vexecmove_io(3, nodes, pids, io, 3, "/bin/sh", cat, environ), 3,
           "three streams of three processes are connections to us");
    int out[9], nout = 0;
    for (int i = 0; i < 9 && arrives(l); i++) {
        int32_t info[2] = { 0, -1 };
        int fd = accept(l, NULL, NULL);
        if (read(fd, info, sizeof info) != (ssize_t)sizeof info)
            continue;
        seen += info[0] == pids[0] || info[0] == pids[1] || info[0] == pids[2];
        if (info[1] == 0) {
            ok(write(fd, "hello\n", 6) == 6, "one gets its input");
            close(fd);
        } else {
            out[nout++] = fd;
        }
    }
    equals(seen, 9, "nine connections say whose they are");
    for (int i = 0; i < nout; i++) {
        char buf[64];
        read_all(out[i], buf, sizeof buf);
        right += strcmp(buf, "got hello\n") == 0 || strcmp(buf, "err\n") == 0;
        close(out[i]);
    }
    equals(right, 6, "and six say the right thing");
    for (int i = 0; i < 3; i++)
        equals(reap(pids[i]), 5 << 8, "each has ended");
    close(l);
    struct sockaddr_in none;
    memset(&none, 0, sizeof none);
    none.sin_family = AF_INET;
    none.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    none.sin_port = htons(9);
    memcpy(&io[0].d.addr, &none, sizeof io[0].d.addr);
    equals(bproc_vexecmove_io(3, nodes, pids, io, 1, "/bin/sh", cat, environ), 3,
           "a port where nobody listens");
    for (int i = 0; i < 3; i++)
        equals(pids[i], -ECONNREFUSED, "is told of each");
}

/* Default forwarding: stdout and stderr come to our stdout, stdin is empty. */
static void forwarded(void)
{
    int nodes[3] = { 0, 1, -1 }, pids[3], p[2], old = dup(1);
    char *sh[] = { text("sh"), text("-c"), text("read x; echo out$x; echo err >&2"), NULL };
    char buf[256];
    int lines = 0;

    fflush(stdout);
    if (pipe(p) < 0)
        return;
    dup2(p[1], 1);
    close(p[1]);
    int rc = bproc_vexecmove(3, nodes, pids, "/bin/sh", sh, environ);
    dup2(old, 1);
    close(old);
    equals(rc, 3, "three processes with default forwarding");
    for (int i = 0; i < 3; i++)
        equals(reap(pids[i]), 0, "one has ended");
    read_all(p[0], buf, sizeof buf); /* its end: the forwarder has gone */
    close(p[0]);
    for (char *s = buf; (s = strchr(s, '\n')); s++)
        lines++;
    if (!equals(lines, 6, "six lines have come, and then the end"))
        printf("# %s\n", buf);
}

/* The same for a child of ours that goes on on a node. */
static void forwarded_self(void)
{
    char *sh[] = { text("sh"), text("-c"), text("echo out; echo err >&2; exit 4"), NULL };
    char buf[64];
    int p[2];

    fflush(stdout);
    if (pipe(p) < 0)
        return;
    int pid = fork();
    if (pid == 0) {
        dup2(p[1], 1);
        close(p[0]);
        close(p[1]);
        bproc_execmove(1, "/bin/sh", sh, environ);
        _exit(200);
    }
    close(p[1]);
    equals(reap(pid), 4 << 8, "execmove with default forwarding");
    read_all(p[0], buf, sizeof buf);
    close(p[0]);
    ok(strstr(buf, "out\n") && strstr(buf, "err\n") && strlen(buf) == 8, "says out and err");
}

/* A caller that has ended by the time its processes speak. */
static void forwarded_late(void)
{
    char script[100], file[50];
    char *sh[] = { text("sh"), text("-c"), script, NULL };
    char *touch[] = { text("touch"), file, NULL };
    int node = 1, started, p[2];
    char buf[64];

    snprintf(file, sizeof file, "/tmp/speak.%d", (int)getpid());
    snprintf(script, sizeof script, "until [ -e %s ]; do :; done; echo late", file);

    fflush(stdout);
    if (pipe(p) < 0)
        return;
    int pid = fork();
    if (pid == 0) {
        dup2(p[1], 1);
        close(p[0]);
        close(p[1]);
        _exit(bproc_vexecmove(1, &node, &started, "/bin/sh", sh, environ) == 1 && started > 0 ? 0
                                                                                             : 1);
    }
    close(p[1]);
    equals(reap(pid), 0, "a caller starts a process and ends");
    equals(bproc_vexecmove(1, &node, &started, "/bin/touch", touch, environ), 1,
           "then the process is let go on");
    equals(reap(started), 0, "as it waits for");
    read_all(p[0], buf, sizeof buf);
    close(p[0]);
    ok(strcmp(buf, "late\n") == 0, "what it says still comes, and then the end");
}

static void missing(void)
{
    int nodes[2] = { 0, 1 }, pids[2];
    struct bproc_io_t io;
    char *argv[] = { text("true"), NULL };
    const char *prog = "/bin/true";

    equals(bproc_move(BPROC_NODE_SELF), 0, "move to where we are");
    fails(bproc_move(99), BE_INVALIDNODE, "move to no node");
    fails(_bproc_move(1, 8), EINVAL, "move with a flag that there is not");
    fails(bproc_move_io(1, NULL, 17), EINVAL, "move with 17 redirections");
    fails(bproc_rfork(99), BE_INVALIDNODE, "rfork to no node");
    fails(_bproc_rfork(1, 8), EINVAL, "rfork with a flag that there is not");
    fails(bproc_vrfork_io(2, nodes, pids, NULL, 17), EINVAL, "vrfork with 17 redirections");
    fails(bproc_vrfork(2, NULL, pids), EFAULT, "vrfork without a list");
    fails(bproc_dump(-1, BPROC_DUMP_ALL), EBADF, "dump to nothing");
    fails(bproc_dump(1, 8), EINVAL, "dump with a flag that there is not");
    fails(bproc_undump(-1), EBADF, "undump of nothing");
    fails(bproc_execdump(-1, 0, prog, argv, environ), EBADF, "execdump to nothing");
    fails(bproc_execdump(1, 8, prog, argv, environ), EINVAL, "with a flag that there is not");
    fails(bproc_execdump(1, 0, NULL, argv, environ), EFAULT, "of no program");
    fails(bproc_execdump(1, 0, prog, argv + 1, environ), EINVAL, "of one without a name");
    fails(bproc_execdump(1, 0, "/no/such/program", argv, environ), ENOENT, "of none that there is");

    fails(bproc_vexecmove(0, nodes, pids, prog, argv, environ), EINVAL, "no nodes");
    fails(bproc_vexecmove(-1, nodes, pids, prog, argv, environ), EINVAL, "less than none");
    fails(bproc_vrfork(0, nodes, pids), EINVAL, "vrfork to none");
    fails(bproc_vexecmove(2, NULL, pids, prog, argv, environ), EFAULT, "no list");
    fails(bproc_vexecmove(2, nodes, pids, NULL, argv, environ), EFAULT, "no program");
    fails(bproc_vexecmove_io(2, nodes, pids, NULL, 17, prog, argv, environ), EINVAL, "17 of io");
    fails(bproc_vexecmove_io(2, nodes, pids, NULL, -2, prog, argv, environ), EINVAL, "-2 of io");
    fails(bproc_vexecmove_io(2, nodes, pids, NULL, 1, prog, argv, environ), EFAULT, "no io");
    file_io(&io, 1, "/tmp/x", O_WRONLY, 0);
    io.type = BPROC_IO_MEMFILE;
    fails(bproc_vexecmove_io(2, nodes, pids, &io, 1, prog, argv, environ), EPERM, "MEMFILE");
    io.type = 7;
    fails(bproc_vexecmove_io(2, nodes, pids, &io, 1, prog, argv, environ), EINVAL, "type 7");
    io.type = BPROC_IO_FILE;
    io.fd = -1;
    fails(bproc_vexecmove_io(2, nodes, pids, &io, 1, prog, argv, environ), EBADF, "fd -1");
    io.fd = 1;
    memset(io.d.file.name, 'x', sizeof io.d.file.name);
    fails(bproc_move_io(1, &io, 1), ENAMETOOLONG, "a name without an end");
}

static void denied(void)
{
    int nodes[2] = { 0, 1 }, pids[2];
    char *argv[] = { text("true"), NULL };

    fails(bproc_access(0, BPROC_X_OK), EACCES, "we may not start work on node 0");
    equals(bproc_vexecmove(2, nodes, pids, "/bin/true", argv, environ), 2, "two");
    equals(pids[0], -EACCES, "one is refused");
    equals(reap(pids[1]), 0, "and one runs");
    fails(bproc_execmove(0, "/bin/true", argv, environ), EACCES, "nor go there ourselves");

    /* Refused, fine, down, here: sixteen times over. */
    const int four[4] = { 0, 1, 2, -1 };
    int many_nodes[64], many_pids[64], right = 0, status;
    for (int i = 0; i < 64; i++)
        many_nodes[i] = four[i % 4];
    equals(bproc_vexecmove_io(64, many_nodes, many_pids, NULL, 0, "/bin/true", argv, environ),
           64, "sixty-four");
    for (int i = 0; i < 64; i++)
        right += i % 4 == 0   ? many_pids[i] == -EACCES
                 : i % 4 == 2 ? many_pids[i] == -BE_NODEDOWN
                              : many_pids[i] > 0 && reap(many_pids[i]) == 0;
    equals(right, 64, "each with its own end");
    equals(waitpid(-1, &status, WNOHANG), -1, "and no children are left to us");
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[2] : "";

    body = argc > 1 ? argv[1] : "";
    alarm(60);
    if (strcmp(what, "many") == 0)
        many(), told();
    else if (strcmp(what, "self") == 0)
        myself();
    else if (strcmp(what, "files") == 0)
        files();
    else if (strcmp(what, "sockets") == 0)
        sockets();
    else if (strcmp(what, "forwarded") == 0)
        forwarded(), forwarded_self(), forwarded_late();
    else if (strcmp(what, "not") == 0)
        missing();
    else if (strcmp(what, "denied") == 0)
        denied();
    else
        return 2;
    return done_testing();
}
