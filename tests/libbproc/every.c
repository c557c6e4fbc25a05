/* every.c - each call that sys/bproc.h declares, and errors that are hard to come by
 *
 *   every calls       all of them, as whoever and wherever we are; node 1 is up
 *   every rare NEEDS  errors: NEEDS is a program whose library is missing
 *   every crowded     no more processes may be made; not as root
 *   every late        a service stands still; another is not there
 *   every lost        node 1 is lost while a program is started on it
 *
 * What calls do when all is well, and the common errors: nodes.c, exec.c, dump.c.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "tests/libbproc/check.h"

enum { FINE = 0, ANY = -1 }; /* beside errno's numbers */

static bool user, node;

/* Where it runs decides what a call should say. */
static void expect(const char *call, long rc, int as_root, int as_user, int on_node)
{
    int want = node ? on_node : user ? as_user : as_root, got = errno;

    if (want == ANY || (want == FINE ? rc >= 0 : rc == -1 && got == want)) {
        ok(true, "%s", call);
        return;
    }
    ok(false, "%s", call);
    printf("#   got %ld, errno %d (%s), want errno %d\n", rc, got, bproc_strerror(got), want);
}

/* CALL(what is called, as root on the master, as another user, on a node) */
#define CALL(call, as_root, as_user, on_node) \
    expect(#call, (errno = 0, (long)(call)), as_root, as_user, on_node)
#define SAME(call, what) CALL(call, what, what, what)
#define ADMIN(call, as_root) CALL(call, as_root, EPERM, ENOSYS)

static void ask(void)
{
    struct bproc_node_set_t ns = BPROC_EMPTY_NODESET, out = BPROC_EMPTY_NODESET;
    struct bproc_node_info_t info;
    struct bproc_proc_info_t *procs = NULL;
    struct bproc_version_t version;
    struct sockaddr_in in;
    struct sockaddr *sa = (struct sockaddr *)&in;
    int size = sizeof in, fd;
    char text_of[64];

    SAME(bproc_numnodes(), FINE);
    CALL(bproc_currnode(), ANY, ANY, FINE);
    SAME(bproc_nodeaddr(1, sa, &size), FINE);
    SAME(bproc_nodenumber(sa, size), FINE);
    size = sizeof in;
    SAME(bproc_masteraddr(sa, &size), FINE);
    SAME(bproc_nodestatus(1, text_of, sizeof text_of), FINE);
    SAME(bproc_nodeinfo(1, &info), FINE);
    SAME(bproc_nodelist(&ns), FINE);
    SAME(bproc_nodefilter(&out, &ns, "up"), FINE);
    SAME(bproc_nodefilteraccessible(out.node, &out.size), FINE);
    bproc_nodeset_free(&out);
    SAME(bproc_nodespec(&out, "all"), FINE);
    SAME(bproc_nodeset_append(&out, &ns), FINE);
    SAME(bproc_nodeset_add(&out, &info), FINE);
    SAME(bproc_nodeset_grow(&out, 1000), FINE);
    bproc_nodeset_free(&out);
    SAME(bproc_nodeset_init(&out, 3), FINE);
    bproc_nodeset_free(&out);
    bproc_nodeset_free(&ns);
    CALL(fd = bproc_notifier(), FINE, FINE, ENOSYS);
    CALL(bproc_nodelist_(&ns, fd), FINE, FINE, ANY);
    bproc_nodeset_free(&ns);
    if (fd >= 0)
        close(fd);
    SAME(bproc_getnodeattr(1, "state", text_of, sizeof text_of), FINE);
    SAME(bproc_access(1, BPROC_X_OK), FINE);
    SAME(bproc_proclist(BPROC_NODE_ANY, &procs), FINE);
    free(procs);
    CALL(bproc_pidnode(getpid()), ANY, ANY, FINE);
    SAME(bproc_version(&version), FINE);
    SAME(bproc_strerror(BE_NODEDOWN) ? 0 : -1, FINE);
    SAME(bproc_getsid(getpid()), FINE);
    CALL(bproc_getrusage(getpid(), NULL, NULL), ESRCH, ESRCH, ENOSYS);
}

static void start(void)
{
    char *argv[] = { text("true"), NULL };
    const char *none = "/no/such/program";
    int nodes[1] = { 1 }, pids[1] = { 0 };

    SAME(bproc_execve(none, argv, environ), ENOENT);
    SAME(bproc_rexec(99, none, argv, environ), BE_INVALIDNODE); /* on a node it would go first */
    SAME(bproc_rexec_io(99, NULL, 0, none, argv, environ), BE_INVALIDNODE);
    SAME(bproc_execmove(1, none, argv, environ), ENOENT);
    SAME(bproc_execmove_io(1, NULL, 0, none, argv, environ), ENOENT);
    SAME(bproc_vexecmove(1, nodes, pids, "/bin/true", argv, environ), FINE);
    ok(pids[0] > 0 && reap(pids[0]) == 0, "with its pid");
    SAME(bproc_vexecmove_io(1, nodes, pids, NULL, 0, "/bin/true", argv, environ), FINE);
    ok(pids[0] > 0 && reap(pids[0]) == 0, "with its pid");
}

/* These move us, or make copies of us. Their own test: here they get nowhere. */
static void go(void)
{
    char *argv[] = { text("true"), NULL };
    int nodes[1] = { 99 }, pids[1] = { 0 };
    struct bproc_io_t io[1];

    memset(io, 0, sizeof io);
    io[0].fd = -1;
    SAME(bproc_move(BPROC_NODE_SELF), FINE);
    SAME(bproc_move_io(99, io, 1), EBADF);
    SAME(_bproc_move(BPROC_NODE_SELF, BPROC_DUMP_ALL), FINE);
    SAME(_bproc_move_io(99, io, 1, 0), EBADF);
    SAME(bproc_rfork_io(99, io, 1), EBADF);
    SAME(_bproc_rfork_io(99, io, 1, 0), EBADF);
    SAME(bproc_rfork(99) < 0 ? 0 : -1, FINE);
    SAME(_bproc_rfork(99, 0) < 0 ? 0 : -1, FINE);
    SAME(bproc_vrfork(0, nodes, pids), EINVAL);
    SAME(bproc_vrfork_io(0, nodes, pids, NULL, 0), EINVAL);
    SAME(_bproc_vrfork(0, nodes, pids, 0), EINVAL);
    SAME(_bproc_vrfork_io(0, nodes, pids, NULL, 0, 0), EINVAL);
    SAME(bproc_dump(-1, BPROC_DUMP_ALL), EBADF);
    SAME(bproc_undump(-1), EBADF);
    SAME(bproc_execdump(-1, 0, "/no/such/program", argv, environ), EBADF);
    SAME(bproc_execdump(1, 0, "/no/such/program", argv, environ), ENOENT);
}

static void change(void)
{
    struct sockaddr_in6 six;
    struct sockaddr *sa = (struct sockaddr *)&six;
    char *list = NULL;

    memset(&six, 0, sizeof six);
    six.sin6_family = AF_INET6;
    ADMIN(bproc_nodesetstatus(1, "up"), FINE);
    ADMIN(bproc_setnodeattr(1, "every", "x", 1), FINE);
    ADMIN(bproc_chmod(1, 0111), FINE);
    ADMIN(bproc_chown(1, 0), FINE);
    ADMIN(bproc_chgrp(1, 0), FINE);
    ADMIN(bproc_nodereboot(99), BE_INVALIDNODE);
    ADMIN(bproc_nodereboot_async(99), BE_INVALIDNODE);
    ADMIN(bproc_nodehalt(99), BE_INVALIDNODE);
    ADMIN(bproc_nodehalt_async(99), BE_INVALIDNODE);
    ADMIN(bproc_nodepwroff(99), BE_INVALIDNODE);
    ADMIN(bproc_nodepwroff_async(99), BE_INVALIDNODE);
    ADMIN(bproc_nodechroot(1, "/"), FINE);
    CALL(bproc_nodereconnect(1, sa, sizeof six, NULL, 0), EINVAL, ANY, ANY);
    ADMIN(bproc_libclear(), FINE);
    ADMIN(bproc_libadd("/lib/libevery.so"), FINE);
    ADMIN(bproc_libdel("/lib/libevery.so"), FINE);
    SAME(bproc_liblist(&list), FINE);
    free(list);
}

/* ---- errors that take some doing ---- */

static int pipe_of_thread[2];

static void *wait_for_end(void *arg)
{
    char c;

    (void)arg;
    return read(pipe_of_thread[0], &c, 1) < 0 ? pipe_of_thread : NULL;
}

static void with_threads(void)
{
    char *argv[] = { text("true"), NULL };
    pthread_t t;

    if (!ok(pipe(pipe_of_thread) == 0 && pthread_create(&t, NULL, wait_for_end, NULL) == 0,
            "a second thread"))
        return;
    fails(bproc_execmove(1, "/bin/true", argv, environ), EBUSY, "execmove of two threads");
    fails(bproc_rexec(1, "/bin/true", argv, environ), EBUSY, "rexec of two threads");
    fails(bproc_dump(pipe_of_thread[1], 0), EBUSY, "dump of two threads");
    close(pipe_of_thread[1]);
    pthread_join(t, NULL);
    close(pipe_of_thread[0]);
}

static int one(const char *program, struct bproc_io_t *io, int iolen)
{
    char *argv[] = { text("x"), NULL };
    int nodes[1] = { 1 }, pids[1] = { 0 };

    equals(bproc_vexecmove_io(1, nodes, pids, io, iolen, program, argv, environ), 1,
           "one is asked for");
    return pids[0];
}

static void rare(const char *needs)
{
    struct bproc_node_set_t ns = BPROC_EMPTY_NODESET;
    char name[] = "/tmp/libbproc-rare.XXXXXX", attr[16], value[64];
    char *argv[] = { text("true"), NULL }, *nameless[] = { NULL };
    int nodes[1] = { 1 }, pids[1] = { 0 }, fd = mkstemp(name), i;
    struct bproc_io_t io[1];
    struct sockaddr_in6 six;

    with_threads();
    ok(write(fd, "no program\n", 11) == 11 && fchmod(fd, 0755) == 0, "a file that is no program");
    close(fd);
    equals(one(name, NULL, 0), -ENOEXEC, "ENOEXEC: neither a program nor a script");
    unlink(name);
    equals(one(needs, NULL, 0), -ELIBACC, "ELIBACC: a library is missing");
    memset(io, 0, sizeof io);
    io[0].type = BPROC_IO_SOCKET;
    memset(&six, 0, sizeof six);
    io[0].d.addr.sa_family = AF_INET6;
    fails(bproc_vexecmove_io(1, nodes, pids, io, 1, "/bin/true", argv, environ), EAFNOSUPPORT,
          "a socket of another family");
    fails(bproc_vexecmove(1, nodes, pids, "/bin/true", nameless, environ), EINVAL,
          "argv without a name");
    fails(bproc_execmove(1, "/bin/true", nameless, environ), EINVAL, "the same, ourselves");
    fails(bproc_nodeset_init(&ns, 0x7fffffff), ENOMEM, "a set of two thousand million");
    /* The 33rd attribute of a node. */
    for (i = 0; i < 40; i++) {
        snprintf(attr, sizeof attr, "many%d", i);
        if (bproc_setnodeattr(1, attr, "x", 1) < 0)
            break;
    }
    ok(i < 40 && errno == ENOSPC, "ENOSPC: a node takes 32 attributes, %d of them ours", i);
    while (i-- > 0) {
        snprintf(attr, sizeof attr, "many%d", i);
        fails(bproc_getnodeattr(1, attr, value, -1), EINVAL, "a negative size");
    }
    /* A process of another user. */
    int pid = fork();
    if (pid == 0) {
        setuid(61002);
        _exit(bproc_vexecmove_io(1, nodes, pids, NULL, 0, "/bin/true", argv, environ) == 1 &&
              pids[0] > 0 && reap(pids[0]) == 0 && bproc_getrusage(pids[0], NULL, NULL) == 0
              ? 0 : 1);
    }
    equals(reap(pid), 0, "a user's process, and its usage for him");
    bproc_vexecmove_io(1, nodes, pids, NULL, 0, "/bin/true", argv, environ);
    reap(pids[0]);
    pid = fork();
    if (pid == 0) {
        setuid(61002);
        _exit(bproc_getrusage(pids[0], NULL, NULL) == -1 ? errno : 0);
    }
    equals(reap(pid), EPERM << 8, "EPERM: root's usage is not for him");
}

static void crowded(void)
{
    struct rlimit none = { 1, 1 };
    char *argv[] = { text("true"), NULL };
    int nodes[2] = { 1, -1 }, pids[2];

    setrlimit(RLIMIT_NPROC, &none);
    fails(bproc_vexecmove_io(2, nodes, pids, NULL, 0, "/bin/true", argv, environ), EAGAIN,
          "EAGAIN: no more processes can be made");
}

static void late(void)
{
    struct bproc_proc_info_t *list = NULL;
    int pid = fork(); /* side by side: each takes as long as is waited for */

    if (pid == 0)
        _exit(bproc_proclist(BPROC_NODE_ANY, &list) == -1 ? errno : 0);
    fails(bproc_numnodes(), ETIMEDOUT, "ETIMEDOUT: nodemgr stands still");
    int code = WEXITSTATUS(reap(pid)); /* the last of many tries may be late itself */
    ok(code == ECONNREFUSED || code == ETIMEDOUT, "ECONNREFUSED: procspace is not there: %s",
       bproc_strerror(code));
}

static void lost(void)
{
    printf("# ready\n");
    fflush(stdout);
    equals(one("/bin/true", NULL, 0), -BE_SLAVEDIED, "BE_SLAVEDIED: lost in the middle");
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    alarm(120);
    user = getuid() != 0;
    node = bproc_currnode() >= 0;
    if (strcmp(what, "calls") == 0)
        ask(), start(), go(), change();
    else if (strcmp(what, "rare") == 0 && argc > 2)
        rare(argv[2]);
    else if (strcmp(what, "crowded") == 0)
        crowded();
    else if (strcmp(what, "late") == 0)
        late();
    else if (strcmp(what, "lost") == 0)
        lost();
    else
        return 2;
    return done_testing();
}
