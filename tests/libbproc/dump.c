/* dump.c - a process dumps itself deep in a recursion, and is gone on with
 *
 *     dump save FILE FLAGS MEGABYTES     its last word is the number of faults
 *     dump load FILE
 *     dump rights FILE                   what the copy may
 *     dump exec FILE FLAGS PROGRAM ARG...  execdump; goes on only if that fails
 */
#include <fcntl.h>
#include <stdbool.h>
#include "clients/libbproc/bproc.h"
#include "tests/libbproc/state.h"

static int fd = -1, flags;

/* Registers that a call keeps, x87 and AVX values that live across it. */
static int deep(int n)
{
    volatile unsigned char pad[1000];
    double x = n * 0.1;
    long double y = n * 0.01L;

    memset((void *)pad, n & 0xff, sizeof pad);
    int r = n ? deep(n - 1) : bproc_dump(fd, flags);
    for (size_t i = 0; i < sizeof pad; i++)
        if (pad[i] != (unsigned char)n)
            return -1000;
    if (x < n * 0.1 - 1e-9 || x > n * 0.1 + 1e-9 || y < n * 0.01L - 1e-9L ||
        y > n * 0.01L + 1e-9L)
        return -1001;
    return r;
}

static int save(int argc, char **argv)
{
    fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    flags = atoi(argv[3]);
    state_make(argc, argv, (size_t)atoi(argv[4]));
    int before = state_check();
    printf("left in the buffer; ");
    int bytes = deep(1000);
    if (bytes < 0) {
        fprintf(stderr, "dump: %d %s\n", bytes, strerror(errno));
        return 100;
    }
    bool copy = bytes == 0;
    if (copy)
        state.pid = getpid(); /* it is another one: that is all that is */
    int after = state_check();
    printf("%s\n", copy ? "the copy" : "the original");
    return before + after;
}

static int rights(const char *file)
{
    char line[256];
    int out = open(file, O_RDWR | O_CREAT | O_TRUNC, 0600);
    int rc = bproc_dump(out, 0);

    if (rc > 0) {
        lseek(out, 0, SEEK_SET);
        bproc_undump(out);
    }
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "CapEff", 6) == 0)
            fputs(line, stdout);
    return rc;
}

extern char **environ;

/* With SIGUSR1 ignored, SIGUSR2 blocked and a timer, which exec leaves so; with a handler,
 * which it does not. */
static int exec_dump(char **argv)
{
    struct itimerval t = { { 0, 0 }, { 1000, 0 } };
    sigset_t set, now;
    int out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600), status;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGCHLD, state_handler);
    setitimer(ITIMER_REAL, &t, NULL);
    bproc_execdump(out, atoi(argv[3]), argv[4], argv + 4, environ);
    fprintf(stderr, "execdump: %s\n", strerror(errno));
    sigprocmask(SIG_SETMASK, NULL, &now);
    bool as_before = sigismember(&now, SIGUSR2) && !sigismember(&now, SIGUSR1) &&
                     waitpid(-1, &status, __WALL) < 0 && errno == ECHILD && state_got == 0;
    printf("%s\n", as_before ? "as before" : "something has changed");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 5 && strcmp(argv[1], "exec") == 0)
        return exec_dump(argv);
    if (argc == 3 && strcmp(argv[1], "rights") == 0)
        return rights(argv[2]);
    if (argc == 5 && strcmp(argv[1], "save") == 0)
        return save(argc, argv);
    if (argc == 3 && strcmp(argv[1], "load") == 0) {
        int in = open(argv[2], O_RDONLY);
        if (in < 0 || bproc_undump(in) < 0)
            fprintf(stderr, "undump: %s\n", strerror(errno));
        return 101;
    }
    return 2;
}
