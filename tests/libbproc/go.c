/* go.c - a program that moves about, and checks itself each time
 *
 *     go MEGABYTES NODE...      to each of these in turn, each time deep in a recursion; -1
 *                               is the master
 *     go refused NODE ERRNO     is refused with that, and goes on
 *     go try MEGABYTES NODE     moves or goes on here: one word on stdout, status
 *                               40 if it moved, 41 if not, and less for faults
 *     go open KIND NODE         with threads, a child: refused; with a pipe, a
 *                               socket: they are closed
 *     go exec NODE THERE PROGRAM ARG...  goes to NODE, and becomes the program THERE by
 *                               execmove, with r before PROGRAM by rexec; goes on
 *                               only if that fails
 *     go dump FILE NODE         to NODE and back, and into FILE; from there to NODE again
 *     go load FILE
 *     go wait MEGABYTES         says "ready", goes round and round with all its
 *                               registers in use until SIGTERM, and checks itself
 *
 * Ends with the number of faults.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>
#include "clients/libbproc/bproc.h"
#include "tests/libbproc/state.h"

#define DEPTH 10000

extern char **environ;

/* last(arg) below so many frames, each of which looks at its own again on the way back. */
static int deep(unsigned n, int (*last)(int), int arg, int *bad)
{
    volatile uint64_t mine[12];
    volatile double part = n * 0.125; /* exact */
    volatile long double more = n * 0.375L;

    for (size_t i = 0; i < 12; i++)
        mine[i] = state_word(n * 12ul + i);
    int rc = n ? deep(n - 1, last, arg, bad) : last(arg), wrong = 0;
    for (size_t i = 0; i < 12; i++)
        wrong |= mine[i] != state_word(n * 12ul + i);
    wrong |= part != n * 0.125 || more != n * 0.375L;
    if (wrong && !*bad)
        *bad += STATE_BAD("frame %u of the recursion has other contents", n);
    return rc;
}

static int refused(const char *node, const char *code)
{
    int want = atoi(code), rc, bad = 0;

    state.pid = getpid();
    rc = bproc_move(atoi(node));
    if (rc != -1 || errno != want)
        bad += STATE_BAD("move to %s: %d, errno %d (%s), want %d", node, rc, errno,
                         bproc_strerror(errno), want);
    return bad + state_check();
}

static int attempt(int argc, char **argv)
{
    int node = atoi(argv[3]), from = bproc_currnode(), rc;

    state_make(argc, argv, (size_t)atoi(argv[2]));
    rc = bproc_move(node);
    int here = bproc_currnode(), bad = state_check();
    if (here != (rc < 0 ? from : node))
        bad += STATE_BAD("move said %d, and we are on %d", rc, here);
    printf("on %d\n", here);
    return bad ? bad : rc < 0 ? 41 : 40;
}

static int become(int argc, char **argv)
{
    bool found = strcmp(argv[4], "r") == 0;
    char **program = argv + 4 + found;

    state_make(argc, argv, 1);
    if (bproc_move(atoi(argv[2])) < 0)
        return STATE_BAD("it did not move: %d", errno);
    printf("%d on %d\n", getpid(), bproc_currnode());
    fflush(stdout);
    (found ? bproc_rexec : bproc_execmove)(atoi(argv[3]), program[0], program, environ);
    printf("%s on %d\n", bproc_strerror(errno), bproc_currnode());
    return state_check();
}

static int saved(int argc, char **argv)
{
    int node = atoi(argv[3]), bad;

    state_make(argc, argv, 1);
    if (bproc_move(node) < 0 || bproc_move(BPROC_NODE_MASTER) < 0)
        return STATE_BAD("it did not move: %d", errno);
    int fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int bytes = bproc_dump(fd, BPROC_DUMP_OTHER);
    if (bytes) {
        printf("saved on %d\n", bproc_currnode());
        return bytes < 0 ? STATE_BAD("dump: %d", errno) : state_check();
    }
    state.pid = getpid(); /* another one */
    bad = state_check();
    if (bproc_move(node) < 0)
        bad += STATE_BAD("it did not move again: %d", errno);
    bad += state_check();
    printf("again on %d: %d faults\n", bproc_currnode(), bad);
    return bad;
}

static int load(const char *file)
{
    int fd = open(file, O_RDONLY);

    bproc_undump(fd);
    return STATE_BAD("undump: %d", errno);
}

static void *waits(void *arg)
{
    char c;

    return read(*(int *)arg, &c, 1) < 0 ? arg : NULL;
}

static int with_open(int argc, char **argv)
{
    int p[2], bad = 0, status;
    pthread_t t;

    state_make(argc, argv, 1);
    if (pipe(p) < 0)
        return 2;
    if (strcmp(argv[2], "threads") == 0) {
        if (pthread_create(&t, NULL, waits, &p[0]))
            return 2;
        if (bproc_move(atoi(argv[3])) != -1 || errno != EBUSY)
            bad += STATE_BAD("with threads it moved, or errno is %d", errno);
        close(p[1]);
        pthread_join(t, NULL);
    } else if (strcmp(argv[2], "child") == 0) {
        pid_t child = fork();
        if (child == 0) {
            close(p[1]);
            waits(&p[0]);
            _exit(3);
        }
        if (bproc_move(atoi(argv[3])) < 0) /* which closes p[1] */
            bad += STATE_BAD("with a child it did not move: %d", errno);
        if (waitpid(child, &status, 0) != child || status != 3 << 8)
            bad += STATE_BAD("the child is lost");
    } else {
        if (strcmp(argv[2], "socket") == 0 && (close(p[0]), close(p[1]),
                                               socketpair(AF_UNIX, SOCK_STREAM, 0, p)) < 0)
            return 2;
        if (bproc_move(atoi(argv[3])) < 0)
            bad += STATE_BAD("it did not move: %d", errno);
        if (write(p[1], "", 1) != -1 || errno != EBADF)
            bad += STATE_BAD("descriptor %d is open", p[1]);
    }
    bad += state_check();
    printf("on %d\n", bproc_currnode());
    return bad;
}

static volatile int told; /* to end */

static void on_term(int sig)
{
    (void)sig;
    told = 1;
}

/* What is in registers, and nowhere else, from before SIGTERM until after. */
static int hold_registers(int unused)
{
    (void)unused;
    static unsigned char in[64], out[64];
    long double pi = 0, from = 3.14159265358979323846L;
    int bad = 0;

    for (int i = 0; i < 64; i++)
        in[i] = (unsigned char)(i * 37 + 1);
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("fldt %3\n\tvmovdqu (%1), %%ymm7\n\tvmovdqu 32(%1), %%ymm15\n"
                         "1:\tpause\n\tcmpl $0, %4\n\tje 1b\n\t"
                         "vmovdqu %%ymm7, (%2)\n\tvmovdqu %%ymm15, 32(%2)\n\tvzeroupper\n\t"
                         "fstpt %0"
                         : "=m"(pi) : "r"(in), "r"(out), "m"(from), "m"(told)
                         : "memory", "xmm7", "xmm15");
    else
        __asm__ volatile("fldt %3\n\tmovdqu (%1), %%xmm7\n"
                         "1:\tpause\n\tcmpl $0, %4\n\tje 1b\n\t"
                         "movdqu %%xmm7, (%2)\n\tfstpt %0"
                         : "=m"(pi) : "r"(in), "r"(out), "m"(from), "m"(told)
                         : "memory", "xmm7");
    if (memcmp(in, out, __builtin_cpu_supports("avx") ? 64 : 16) != 0)
        bad += STATE_BAD("the vector registers have other contents");
    if (pi != from)
        bad += STATE_BAD("the x87 register has another content");
    return bad;
}

static int wait_here(int argc, char **argv)
{
    char text[100], more[100];

    state_make(argc, argv, (size_t)atoi(argv[2]));
    munmap(state.shared, 8192); /* what others may see is refused */
    state.shared = NULL;
    signal(SIGTERM, on_term);
    FILE *f = fopen(state.exe, "r"), *again;
    if (!f || fread(text, 1, sizeof text, f) != sizeof text)
        return STATE_BAD("%s cannot be read", state.exe);
    puts("ready");
    fflush(stdout);
    int bad = 0, held = deep(DEPTH, hold_registers, 0, &bad);
    bad += held + state_check();
    if (ftell(f) != sizeof text || fread(text, 1, sizeof text, f) != sizeof text)
        bad += STATE_BAD("the file is at %ld", ftell(f));
    again = fopen(state.exe, "r");
    if (!again || fseek(again, sizeof text, SEEK_SET) < 0 ||
        fread(more, 1, sizeof more, again) != sizeof more || memcmp(text, more, sizeof text) != 0)
        bad += STATE_BAD("the file goes on with something else");
    printf("%d faults on %d\n", bad, bproc_currnode());
    return bad;
}

int main(int argc, char **argv)
{
    int bad = 0;

    if (argc < 3)
        return 2;
    if (argc == 4 && strcmp(argv[1], "try") == 0)
        return attempt(argc, argv);
    if (argc == 4 && strcmp(argv[1], "dump") == 0)
        return saved(argc, argv);
    if (argc == 3 && strcmp(argv[1], "load") == 0)
        return load(argv[2]);
    if (argc == 4 && strcmp(argv[1], "open") == 0)
        return with_open(argc, argv);
    if (argc > 4 && strcmp(argv[1], "exec") == 0)
        return become(argc, argv);
    if (strcmp(argv[1], "wait") == 0)
        return wait_here(argc, argv);
    if (strcmp(argv[1], "refused") == 0) {
        state_make(argc, argv, 1);
        return refused(argv[2], argv[3]);
    }
    state_make(argc, argv, (size_t)atoi(argv[1]));
    bad += state_check();
    printf("from %d", bproc_currnode());
    for (int i = 2; i < argc; i++) {
        int node = atoi(argv[i]), torn = 0, rc = deep(DEPTH, bproc_move, node, &torn);
        bad += torn;
        if (rc < 0) {
            bad += STATE_BAD("move to %d: %s", node, bproc_strerror(errno));
            break;
        }
        if (bproc_currnode() != node)
            bad += STATE_BAD("on %d, not %d", bproc_currnode(), node);
        bad += state_check();
        printf(" to %d", bproc_currnode());
    }
    printf(": %d faults\n", bad);
    return bad;
}
