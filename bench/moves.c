/* moves.c - what moves of processes take
 *
 *     moves exec N PROGRAM    fork and exec of it here, N times: microseconds each
 *     moves hop N             moves of a small process between nodes 0 and 1: the same
 *     moves return N          from the master to node 0 and back: the same, both ways
 *     moves size MIB          a process of this size goes between nodes 0 and 1: MiB/s
 *     moves tcp MIB           so much memory between them over a TCP connection: the same
 *     moves spread MIB NODES  a child of this size on each node, by vrfork: seconds
 *
 * The result goes to stdout. Nodes and master have one clock: they are virtual.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "clients/libbproc/bproc.h"

#define CHUNK (1u << 20)
#define WARM 3  /* moves that are not counted */
#define LARGE 7 /* of a large process that are; odd */

static char file[64]; /* a child that comes back leaves its result there */

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void __attribute__((noreturn)) stop(const char *what)
{
    int code = errno;

    fprintf(stderr, "moves: %s: %s\n", what, bproc_strerror(code));
    _exit(code & 0xff ? code & 0xff : 1); /* on a node nobody hears the above */
}

static void to(int node)
{
    if (bproc_move_io(node, NULL, 0) < 0)
        stop("move");
}

/* Of a child, which is on the master again. */
static void __attribute__((noreturn)) tell(double value)
{
    FILE *f = fopen(file, "w");

    if (!f || fprintf(f, "%.17g", value) < 0 || fclose(f) != 0)
        stop(file);
    _exit(0);
}

static void *memory(size_t mib)
{
    unsigned char *p = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                            -1, 0);
    uint64_t word = 1;

    if (p == MAP_FAILED)
        stop("memory");
    for (size_t i = 0; i < mib << 20; i += sizeof word) {
        word = word * 6364136223846793005u + 1442695040888963407u;
        memcpy(p + i, &word, sizeof word);
    }
    return p;
}

static double exec_time(int n, char *program)
{
    char *argv[] = { program, NULL };
    double begin = now_us();

    for (int i = 0; i < n; i++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0) {
            execv(program, argv);
            _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
            stop(program);
    }
    return (now_us() - begin) / n;
}

static void hop(int n)
{
    double begin = 0;

    to(0);
    for (int i = -WARM; i < n; i++) {
        if (i == 0)
            begin = now_us();
        to((i & 1) == 0);
    }
    double took = now_us() - begin;
    to(-1);
    tell(took / n);
}

static void there_and_back(int n)
{
    double begin = 0;

    for (int i = -WARM; i < n; i++) {
        if (i == 0)
            begin = now_us();
        to(0);
        to(-1);
    }
    tell((now_us() - begin) / n);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Memory that a virtual machine has not used for a while, or that its host has taken back
 * since it was freed, may cost more than all that is measured here. So some moves are not
 * counted, and of the others the middle one is, with those over TCP too. */
static double middle(double *took)
{
    qsort(took, LARGE, sizeof *took, ascending);
    return took[LARGE / 2];
}

static void large(size_t mib)
{
    void *p = memory(mib);
    double took[LARGE];

    to(0);
    for (int i = -WARM; i < LARGE; i++) {
        double begin = now_us();
        to((i & 1) != 0);
        if (i >= 0)
            took[i] = now_us() - begin;
    }
    munmap(p, mib << 20);
    to(-1);
    tell((double)mib * 1e6 / middle(took));
}

/* --- TCP: there and back as the process goes, so that memory has the same life: what is
 * received goes into new memory, and what was sent is freed then. Memory that is reused at
 * once would be cheaper than any that a process can come to. --- */

static void *fresh(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        stop("memory");
    return p;
}

static void word(int c)
{
    if (write(c, "", 1) != 1)
        stop("write");
}

static void heed(int c)
{
    char b;

    if (read(c, &b, 1) != 1)
        stop("read");
}

static double receive(int c, char **p, size_t size)
{
    ssize_t k;

    *p = fresh(size);
    word(c);
    double begin = now_us();
    for (size_t got = 0; got < size; got += (size_t)k)
        if ((k = read(c, *p + got, size - got)) <= 0)
            stop("read");
    word(c);
    return now_us() - begin;
}

static double give(int c, char **p, size_t size)
{
    ssize_t k;

    heed(c);
    double begin = now_us();
    for (size_t sent = 0; sent < size; sent += (size_t)k)
        if ((k = write(c, *p + sent, size - sent < CHUNK ? size - sent : CHUNK)) <= 0)
            stop("write");
    heed(c);
    double took = now_us() - begin;
    munmap(*p, size);
    return took;
}

static void there_and_back_over(int c, char *p, size_t size, bool first, double *took)
{
    for (int i = -WARM; i < LARGE; i++) {
        double t = ((i & 1) != 0) == first ? give(c, &p, size) : receive(c, &p, size);
        if (i >= 0)
            took[i] = t;
    }
}

static void second(size_t mib, int port)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    double took[LARGE];

    to(1);
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (s < 0 || bind(s, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(s, 1) < 0)
        stop("listen");
    int c = accept(s, NULL, NULL);
    there_and_back_over(c, NULL, mib << 20, false, took);
    close(c);
    close(s);
    to(-1);
    tell((double)mib * 1e6 / middle(took));
}

static void first(size_t mib, const struct sockaddr *at, socklen_t len)
{
    char *p = memory(mib);
    double took[LARGE];
    int s = -1;

    to(0);
    for (int tries = 0; tries < 500; tries++, usleep(10000)) { /* it may not listen yet */
        s = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(s, at, len) == 0)
            break;
        close(s);
        s = -1;
    }
    if (s < 0)
        stop("connect");
    there_and_back_over(s, p, mib << 20, true, took);
    _exit(0);
}

/* --- all --- */

static void wait_well(pid_t pid)
{
    int status = 0;

    if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
        fprintf(stderr, "moves: a child ended: %s\n",
                WIFEXITED(status) ? bproc_strerror(WEXITSTATUS(status)) : "by a signal");
        exit(1);
    }
}

static double told(void)
{
    double v = 0;
    FILE *f = fopen(file, "r");

    if (!f || fscanf(f, "%lf", &v) != 1)
        stop(file);
    fclose(f);
    return v;
}

static double tcp(size_t mib)
{
    struct sockaddr_in at;
    int len = sizeof at, port = 20000 + (int)(getpid() % 10000);

    if (bproc_nodeaddr(1, (struct sockaddr *)&at, &len) < 0)
        stop("the address of node 1");
    at.sin_port = htons((uint16_t)port);
    pid_t a = fork();
    if (a == 0)
        second(mib, port);
    pid_t b = fork();
    if (b == 0)
        first(mib, (struct sockaddr *)&at, sizeof at);
    wait_well(b);
    wait_well(a);
    return told();
}

static double spread(size_t mib, int n)
{
    int *nodes = calloc((size_t)n, sizeof *nodes), *pids = calloc((size_t)n, sizeof *pids);

    if (!nodes || !pids)
        stop("memory");
    memory(mib);
    for (int i = 0; i < n; i++)
        nodes[i] = i;
    double begin = now_us();
    int rc = bproc_vrfork_io(n, nodes, pids, NULL, 0);
    if (rc >= 0 && rc < n)
        _exit(0);
    double took = now_us() - begin;
    for (int i = 0; i < n; i++)
        if (rc < 0 || pids[i] < 0)
            stop("vrfork");
    for (int i = 0; i < n; i++)
        wait_well(pids[i]);
    return took / 1e6;
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    int n = argc > 2 ? atoi(argv[2]) : 0;

    if (n < 1)
        return 2;
    snprintf(file, sizeof file, "/tmp/moves.%d", (int)getpid());
    double value = -1;
    if (strcmp(what, "exec") == 0 && argc == 4) {
        value = exec_time(n, argv[3]);
    } else if (strcmp(what, "spread") == 0 && argc == 4) {
        value = spread((size_t)n, atoi(argv[3]));
    } else if (strcmp(what, "tcp") == 0) {
        value = tcp((size_t)n);
    } else {
        pid_t pid = fork();
        if (pid == 0 && strcmp(what, "hop") == 0)
            hop(n);
        if (pid == 0 && strcmp(what, "return") == 0)
            there_and_back(n);
        if (pid == 0 && strcmp(what, "size") == 0)
            large((size_t)n);
        if (pid == 0)
            _exit(2);
        wait_well(pid);
        value = told();
    }
    unlink(file);
    printf("%.6g\n", value);
    return 0;
}
