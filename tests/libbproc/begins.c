/* begins.c - what a parent begins where it has left a child, from somewhere else
 *
 *   begins LEFT AT WHAT [ARG]   go to LEFT, make a child there by fork, go to AT (-1: the
 *                       master), and begin others on LEFT; all are waited for. WHAT:
 *     program           what it is given: folder, descriptors, limits, numbers
 *     fails FOLDER      starts that cannot be, with their reasons; FOLDER has such programs
 *     connects          a program that is connected to us
 *     copies            copies with descriptors of their own
 *     back              it goes back itself, with such; 7 if it has them
 *     becomes           a child of ours executes a program there
 *     names             others on two nodes, each of which knows us by another name
 *     speaks            a program with our output
 *     many N            N of them, one after another, whatever becomes of the services
 *     waits             says its number and that of the child that it left. USR1: begins one
 *                       more, says its number, and waits for it. HUP: ends as the last one
 *
 * and, as what is begun:
 *   begins is PPID WORD   says what it has been given, ends with 7 if PPID is its parent
 *   begins same FILE TEXT   ends with 7 if that is what is in FILE
 *   begins sits PPID
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "tests/libbproc/check.h"

#define LIMIT_S 60
#define HIGH 300 /* a descriptor beyond what it was allowed when it left */

static const char *me;
static int left;
static pid_t child;

static char *number(long n)
{
    static char buf[8][24];
    static int i;

    i = (i + 1) % 8;
    snprintf(buf[i], sizeof buf[i], "%ld", n);
    return buf[i];
}

static const char *file_of(const char *name)
{
    static char buf[4][96];
    static int i;

    i = (i + 1) % 4;
    snprintf(buf[i], sizeof buf[i], "/tmp/begins.%d.%s", (int)getpid(), name);
    return buf[i];
}

static struct bproc_io_t to_file(int fd, const char *path)
{
    struct bproc_io_t io = { .fd = fd, .type = BPROC_IO_FILE };

    io.d.file.flags = O_WRONLY | O_CREAT | O_TRUNC;
    io.d.file.mode = 0666;
    snprintf(io.d.file.name, sizeof io.d.file.name, "%s", path);
    return io;
}

static pid_t begin(struct bproc_io_t *io, int n, const char *a, const char *b, const char *c)
{
    char *argv[] = { text("begins"), text(a), text(b), text(c), NULL };
    int pid = 0;

    if (bproc_vexecmove_io(1, &left, &pid, io, n, me, argv, environ) != 1)
        return -errno;
    return pid;
}

/* Of a file there: another one looks. */
static void has(const char *path, const char *want, const char *name)
{
    pid_t pid = begin(NULL, 0, "same", path, want);

    equals(pid > 0 ? reap(pid) : pid, 7 << 8, name);
}

static void none_but_it(void)
{
    equals(waitpid(-1, NULL, WNOHANG), 0, "no other than the one that was left is there");
}

/* ---- what it is given ---- */

static void program(void)
{
    struct bproc_io_t io[2] = { to_file(1, file_of("out")), to_file(HIGH, file_of("high")) };
    struct rlimit had, low = { 30, 40 };
    char want[256];
    mode_t mask = umask(027);

    setenv("BEGINS", "a word", 1);
    setenv("BPROC_RANK", "XXXXXXX", 1);
    equals(chdir("/tmp"), 0, "we are in a folder");
    getrlimit(RLIMIT_NOFILE, &had);
    low.rlim_max = had.rlim_max;
    equals(setrlimit(RLIMIT_NOFILE, &low), 0, "and have few descriptors");
    pid_t pid = begin(io, 2, "is", number(getpid()), "it");
    ok(pid > 0, "a program begins: %d", (int)pid);
    equals(reap(pid), 7 << 8, "we are its parent");
    snprintf(want, sizeof want, "it %d /tmp 27 30 %d 0000000 a word 1111 0\n", (int)pid, left);
    has(file_of("out"), want, "it has number, folder, umask, limit, node, rank, environment, "
                              "descriptors, nice value");
    has(file_of("high"), "high\n", "and one beyond all that it was left with");
    setrlimit(RLIMIT_NOFILE, &had);
    umask(mask);
}

static void two_of_a_launch(void)
{
    struct bproc_io_t io = to_file(1, "/dev/null");
    char *argv[] = { text("begins"), text("is"), number(getpid()), text("x"), NULL };
    int nodes[] = { left, left, left }, pid[3] = { 0, 0, 0 };

    equals(bproc_vexecmove_io(3, nodes, pid, &io, 1, me, argv, environ), 3, "three of one call");
    ok(pid[0] > 0 && pid[1] > 0 && pid[2] > 0, "begin: %d %d %d", pid[0], pid[1], pid[2]);
    for (int i = 0; i < 3; i++)
        equals(reap(pid[i]), 7 << 8, "and end as they should");
}

static int given(pid_t parent, const char *word)
{
    char cwd[256] = "?", open_fds[8] = "";
    struct rlimit l = { 0, 0 };
    const char *rank = getenv("BPROC_RANK"), *env = getenv("BEGINS");
    mode_t mask = umask(0);

    getrlimit(RLIMIT_NOFILE, &l);
    if (!getcwd(cwd, sizeof cwd))
        return 98;
    strcat(open_fds, fcntl(0, F_GETFD) == 0 ? "1" : "0");
    strcat(open_fds, fcntl(1, F_GETFD) == 0 ? "1" : "0");
    strcat(open_fds, fcntl(2, F_GETFD) == 0 ? "1" : "0");
    l.rlim_max = l.rlim_cur;
    int others = 0;
    for (int fd = 3; fd < 400; fd++)
        others += fcntl(fd, F_GETFD) >= 0;
    strcat(open_fds, number(others));
    errno = 0;
    printf("%s %d %s %o %ld %d %s %s %s %d\n", word, (int)getpid(), cwd, (unsigned)mask,
           (long)l.rlim_cur, bproc_currnode(), rank ? rank : "?", env ? env : "?", open_fds,
           getpriority(PRIO_PROCESS, 0));
    fflush(stdout);
    if (others == 1 && write(HIGH, "high\n", 5) != 5)
        return 97;
    return getppid() == parent ? 7 : 99;
}

static int same(const char *path, const char *want)
{
    char got[512];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, got, sizeof got - 1);

    if (n < 0)
        return 98;
    got[n] = 0;
    return strcmp(got, want) == 0 ? 7 : 99;
}

/* ---- what cannot be ---- */

static void not_begun(struct bproc_io_t *io, int n, const char *cmd, int code, const char *name)
{
    char *argv[] = { text("begins"), NULL };
    int pid = 0;

    int rc = bproc_vexecmove_io(1, &left, &pid, io, n, cmd, argv, environ);
    ok(rc == 1 && pid == -code, "%s: %d, %d", name, rc, pid);
}

static void no_programs(const char *folder)
{
    struct bproc_io_t io = to_file(5, "/no/such/folder/file"), peer = { .fd = 4 };
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(1) };
    char path[512];

    snprintf(path, sizeof path, "%s/script", folder);
    not_begun(NULL, 0, path, ENOENT, "a script without its interpreter");
    snprintf(path, sizeof path, "%s/nothing", folder);
    not_begun(NULL, 0, path, ENOEXEC, "what is no program");
    not_begun(&io, 1, me, ENOENT, "a file that cannot be opened");
    peer.type = BPROC_IO_SOCKET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(&peer.d.addr, &in, sizeof in);
    not_begun(&peer, 1, me, ECONNREFUSED, "nobody who listens");
    none_but_it();
    int rc = bproc_rfork_io(left, &io, 1);
    if (rc == 0)
        _exit(1);
    fails(rc, ENOENT, "a copy with such a file");
    none_but_it();
}

/* ---- who is connected to us ---- */

static void connects(void)
{
    struct bproc_io_t io = { .fd = 1, .type = BPROC_IO_SOCKET, .flags = BPROC_IO_SEND_INFO };
    struct sockaddr_in in = { .sin_family = AF_INET };
    socklen_t len = sizeof in;
    int s = socket(AF_INET, SOCK_STREAM, 0), info[2] = { 0, 0 };
    char got[256], want[64];

    /* 0.0.0.0: as an address to connect to, it is our machine's. */
    ok(bind(s, (struct sockaddr *)&in, len) == 0 && listen(s, 5) == 0 &&
           getsockname(s, (struct sockaddr *)&in, &len) == 0, "we listen");
    memcpy(&io.d.addr, &in, sizeof in);
    pid_t pid = begin(&io, 1, "is", number(getpid()), "connected");
    ok(pid > 0, "a program begins: %d", (int)pid);
    int fd = pid > 0 ? accept(s, NULL, NULL) : -1;
    ok(fd >= 0 && read(fd, info, sizeof info) == sizeof info, "and is connected to us");
    ok(info[0] == pid && info[1] == 1, "it says who it is: %d, %d", info[0], info[1]);
    ssize_t n = 0, k;
    while ((k = fd < 0 ? -1 : read(fd, got + n, sizeof got - 1 - (size_t)n)) > 0)
        n += k;
    got[n] = 0;
    snprintf(want, sizeof want, "connected %d ", (int)pid);
    ok(strncmp(got, want, strlen(want)) == 0, "what it says comes: %s", got);
    equals(reap(pid), 7 << 8, "we are its parent");
    close(fd);
    close(s);
}

/* ---- copies ---- */

static int write_word(int fd, const char *word, pid_t parent)
{
    size_t n = strlen(word);

    return write(fd, word, n) != (ssize_t)n ? 98 : getppid() == parent ? 7 : 99;
}

static void copies(int at)
{
    struct bproc_io_t io[3] = { to_file(1, file_of("copy")), to_file(HIGH, file_of("high")),
                                to_file(9, file_of("nine")) };
    int nodes[3] = { left, at == 2 ? 1 : 2, left }, pid[3] = { 0, 0, 0 };
    pid_t self = getpid();

    int rc = bproc_rfork_io(left, io, 3);
    if (rc == 0) {
        int bad = write_word(1, "one", self);
        bad = bad == 7 ? write_word(HIGH, "two", self) : bad;
        _exit(bad == 7 ? write_word(9, "three", self) : bad);
    }
    ok(rc > 0, "a copy with files: %d", rc);
    equals(reap(rc), 7 << 8, "it has them");
    has(file_of("copy"), "one", "the first says what it has said");
    has(file_of("high"), "two", "the second");
    has(file_of("nine"), "three", "the third");

    rc = bproc_vrfork_io(3, nodes, pid, io, 1);
    if (rc < 3)
        _exit(rc < 0 ? 96 : write_word(1, number(rc), self));
    equals(rc, 3, "three copies");
    for (int i = 0; i < 3; i++) {
        ok(pid[i] > 0, "one is there: %d", pid[i]);
        equals(reap(pid[i]), 7 << 8, "and has its file");
    }
}

/* It comes back with descriptors of its own. */
static void comes_back(void)
{
    struct bproc_io_t io[2] = { to_file(1, file_of("back")), to_file(9, file_of("nine")) };

    fflush(stdout);
    int rc = bproc_move_io(left, io, 2);
    if (rc == 0) {
        dprintf(9, "nine");
        dprintf(1, "back");
    }
    _exit(rc == 0 && same(file_of("back"), "back") == 7 && same(file_of("nine"), "nine") == 7 &&
                  kill(child, SIGHUP) == 0 && reap(child) == 7 << 8
              ? 7
              : rc < 0 ? 95 : 94);
}

/* ---- others ---- */

static void becomes(void)
{
    pid_t self = getpid(), pid = fork();
    char *argv[] = { text("begins"), text("is"), number(self), text("x"), NULL };

    if (pid == 0) {
        struct bproc_io_t io = to_file(1, file_of("became"));
        bproc_execmove_io(left, &io, 1, me, argv, environ);
        _exit(97);
    }
    equals(reap(pid), 7 << 8, "a child of ours executes one there, and is our child still");
}

/* LEFT knows us by what we were there; the other node by what we are now. */
static void names(void)
{
    char *argv[] = { text("begins"), text("is"), number(getpid()), text("x"), NULL };
    char *sits_there[] = { text("begins"), text("sits"), number(getpid()), NULL };
    int other = left == 2 ? 1 : 2, first = 0, pid[4] = { 0, 0, 0, 0 };
    int nodes[] = { left, other, left, other };
    struct bproc_io_t io = to_file(1, "/dev/null");

    equals(bproc_vexecmove_io(1, &other, &first, &io, 1, me, sits_there, environ), 1,
           "one on another node");
    ok(first > 0, "is there: %d", first);
    for (int i = 0; i < 2; i++) { /* whichever comes last */
        equals(bproc_vexecmove_io(4 - i, nodes, pid, &io, 1, me, argv, environ), 4 - i,
               "some on both");
        for (int k = 0; k < 4 - i; k++) {
            ok(pid[k] > 0, "begin: %d", pid[k]);
            equals(pid[k] > 0 ? reap(pid[k]) : -1, 7 << 8, "and we are the parent");
        }
    }
    equals(kill(first, SIGTERM), 0, "the one on the other node is to end");
    equals(reap(first), SIGTERM, "and does");
}

static void speaks(void)
{
    char *argv[] = { text("begins"), text("is"), number(getpid()), text("spoken"), NULL };
    int pid = 0;

    fflush(stdout);
    equals(bproc_vexecmove(1, &left, &pid, me, argv, environ), 1, "a program with our output");
    equals(reap(pid), 7 << 8, "ends as it should");
}

/* Each runs and ends, or is refused and is not there. */
static void many(int n)
{
    int begun = 0, status;

    puts("# it begins"); /* from here on services may be away */
    fflush(stdout);
    for (int i = 0; i < n; i++) {
        pid_t pid = begin(NULL, 0, "is", number(getpid()), "x");
        if (pid <= 0)
            continue;
        begun++;
        status = reap(pid);
        if (status != 7 << 8)
            ok(false, "%d ends: %x", (int)pid, (unsigned)status);
    }
    for (int tries = 0; tries < 100 && begun < n; tries++, usleep(200000)) {
        pid_t pid = begin(NULL, 0, "is", number(getpid()), "x");
        if (pid > 0) {
            equals(reap(pid), 7 << 8, "in the end one runs");
            begun++;
            break;
        }
    }
    printf("# %d of %d\n", begun, n);
    ok(begun > 0, "some have run");
    none_but_it();
}

static int waits(void)
{
    int status = 0, sig;
    pid_t pid = 0;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    printf("%d %d\n", (int)getpid(), (int)child);
    fflush(stdout);
    while (sigwait(&set, &sig) == 0 && sig == SIGUSR1) {
        pid = begin(NULL, 0, "sits", number(getpid()), NULL);
        printf("%d\n", (int)pid);
        fflush(stdout);
        if (pid > 0 && waitpid(pid, &status, 0) != pid)
            return 98;
    }
    kill(child, SIGHUP);
    reap(child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static void on_hangup(int sig)
{
    (void)sig;
    _exit(7);
}

static void __attribute__((noreturn)) sits(void)
{
    signal(SIGHUP, on_hangup);
    for (;;)
        pause();
}

static int parent(int at, const char *what, char **arg)
{
    struct rlimit had, low = { 20, 20 };

    getrlimit(RLIMIT_NOFILE, &had);
    if (bproc_currnode() != left)
        ok(bproc_move(left) == 0, "we go to %d", left);
    low.rlim_max = had.rlim_max;
    setrlimit(RLIMIT_NOFILE, &low); /* as it is for what we leave */
    setpriority(PRIO_PROCESS, 0, strcmp(what, "program") == 0 ? 5 : 0);
    if ((child = fork()) == 0)
        sits();
    ok(child > 0, "one is made there");
    ok(bproc_move(at) == 0, "we go to %d", at);
    setrlimit(RLIMIT_NOFILE, &had);
    alarm(LIMIT_S);
    if (strcmp(what, "program") == 0) {
        program();
        two_of_a_launch();
    } else if (strcmp(what, "fails") == 0 && *arg) {
        no_programs(*arg);
    } else if (strcmp(what, "connects") == 0) {
        connects();
    } else if (strcmp(what, "copies") == 0) {
        copies(at);
    } else if (strcmp(what, "back") == 0) {
        comes_back();
    } else if (strcmp(what, "becomes") == 0) {
        becomes();
    } else if (strcmp(what, "names") == 0) {
        names();
    } else if (strcmp(what, "speaks") == 0) {
        speaks();
    } else if (strcmp(what, "many") == 0 && *arg) {
        many(atoi(*arg));
    } else if (strcmp(what, "waits") == 0) {
        return waits();
    } else {
        return 2;
    }
    none_but_it();
    equals(kill(child, SIGHUP), 0, "the one that was left is to end");
    equals(reap(child), 7 << 8, "and does, with us as its parent");
    ok(wait(NULL) == -1 && errno == ECHILD, "no other is left");
    return done_testing();
}

int main(int argc, char **argv)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

    path[n > 0 ? n : 0] = 0;
    me = path;
    if (argc == 4 && strcmp(argv[1], "is") == 0)
        return given(atoi(argv[2]), argv[3]);
    if (argc == 4 && strcmp(argv[1], "same") == 0)
        return same(argv[2], argv[3]);
    if (argc == 3 && strcmp(argv[1], "sits") == 0)
        sits();
    if (argc < 4)
        return 2;
    left = atoi(argv[1]);
    return parent(atoi(argv[2]), argv[3], argv + 4);
}
