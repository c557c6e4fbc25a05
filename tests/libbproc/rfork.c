/* rfork.c - copies of a process on other nodes
 *
 *     rfork one NODE           a child there, its status, its signals
 *     rfork many NODE...       one for each; a node may be down: reported
 *     rfork signals NODE BAD   what SIGCHLD says of children that there were none of
 *     rfork says NODE FILE     a child that writes to FILE there; one that cannot
 *     rfork large MB NODE...   with so much memory; which ones say that they ran, and why
 *                              others did not
 *     rfork again N NODE...    N times; it may fail, and then leaves no child
 *
 * Ends with the number of faults.
 */
#include <fcntl.h>
#include <stdbool.h>
#include "clients/libbproc/bproc.h"
#include "tests/libbproc/state.h"

static volatile sig_atomic_t chlds;

static void on_chld(int sig)
{
    (void)sig;
    chlds++;
}

static int wait_for(pid_t pid)
{
    int status = -1;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return status;
}

static int one(int argc, char **argv)
{
    int node = atoi(argv[2]), bad = 0, status;
    pid_t pid;

    state_make(argc, argv, 4);
    pid_t parent = getpid();
    alarm(0); /* timers are no child's */
    pid = bproc_rfork(node);
    if (pid == 0) {
        if (bproc_currnode() != node)
            bad += STATE_BAD("the child is on %d", bproc_currnode());
        state.pid = getpid();
        struct itimerval it = { { 0, 0 }, { 3000, 0 } };
        setitimer(ITIMER_REAL, &it, NULL);
        bad += state_check();
        printf("child on %d, parent %s\n", bproc_currnode(),
               getpid() == parent ? "is the same" : "is another");
        exit(bad ? bad : 42);
    }
    if (pid < 0)
        return STATE_BAD("rfork: %s", bproc_strerror(errno));
    struct itimerval it = { { 0, 0 }, { 3000, 0 } };
    setitimer(ITIMER_REAL, &it, NULL);
    if ((status = wait_for(pid)) != 42 << 8)
        bad += STATE_BAD("the child ended with %x", status);
    bad += state_check();

    pid = bproc_rfork(node);
    if (pid == 0)
        for (;;)
            pause();
    kill(pid, SIGTERM);
    if ((status = wait_for(pid)) != SIGTERM)
        bad += STATE_BAD("a child that was killed ended with %x", status);
    if (waitpid(-1, &status, WNOHANG) != -1 || errno != ECHILD)
        bad += STATE_BAD("there are children left");
    return bad;
}

static int many(int argc, char **argv)
{
    int n = argc - 2, bad = 0, status, down = 0, ran = 0;
    int *nodes = (int *)calloc((size_t)n, sizeof *nodes), *pids = (int *)calloc((size_t)n, sizeof *pids);

    setenv("BPROC_RANK", "XXXXXXX", 1);
    for (int i = 0; i < n; i++)
        nodes[i] = atoi(argv[2 + i]);
    int rc = bproc_vrfork_io(n, nodes, pids, NULL, 0);
    if (rc < 0)
        return STATE_BAD("vrfork: %s", bproc_strerror(errno));
    if (rc < n) { /* a child */
        const char *rank = getenv("BPROC_RANK");
        bool right = bproc_currnode() == nodes[rc] &&
                     (nodes[rc] < 0 || (rank && atoi(rank) == rc));
        _exit(right ? 100 + rc % 100 : 1);
    }
    for (int i = 0; i < n; i++) {
        if (pids[i] < 0) {
            down++;
            if (pids[i] != -BE_NODEDOWN)
                bad += STATE_BAD("node %d: %s", nodes[i], bproc_strerror(-pids[i]));
            continue;
        }
        ran++;
        if ((status = wait_for(pids[i])) != (100 + i % 100) << 8)
            bad += STATE_BAD("child %d (pid %d) ended with %x", i, pids[i], status);
    }
    if (waitpid(-1, &status, WNOHANG) != -1 || errno != ECHILD)
        bad += STATE_BAD("there are children left");
    printf("%d ran, %d are down\n", ran, down);
    return bad;
}

static int signals(const char *good, const char *wrong)
{
    int bad = 0, nodes[2] = { atoi(wrong), atoi(wrong) }, pids[2];
    struct sigaction sa = { .sa_handler = on_chld, .sa_flags = SA_RESTART };

    sigaction(SIGCHLD, &sa, NULL);
    if (bproc_rfork(atoi(wrong)) != -1)
        bad += STATE_BAD("rfork to a node that is not there succeeds");
    if (errno != BE_NODEDOWN && errno != BE_INVALIDNODE)
        bad += STATE_BAD("errno is %d", errno);
    if (bproc_vrfork(2, nodes, pids) != 2 || pids[0] >= 0 || pids[1] >= 0)
        bad += STATE_BAD("vrfork to nodes that are not there");
    if (chlds)
        bad += STATE_BAD("%d signals of children that there were none of", (int)chlds);
    pid_t pid = bproc_rfork(atoi(good));
    if (pid == 0)
        _exit(5);
    if (wait_for(pid) != 5 << 8 || chlds != 1)
        bad += STATE_BAD("one child, and %d signals", (int)chlds);
    printf("%d faults\n", bad);
    return bad;
}

static int says(int node, const char *file)
{
    struct bproc_io_t io = { .fd = 1, .type = BPROC_IO_FILE,
                             .d.file = { .flags = O_WRONLY | O_CREAT, .mode = 0644 } };
    int bad = 0, status;

    snprintf(io.d.file.name, sizeof io.d.file.name, "%s", file);
    pid_t pid = bproc_rfork_io(node, &io, 1);
    if (pid == 0) {
        printf("%d writes to it\n", bproc_currnode());
        exit(0);
    }
    if (pid < 0 || (status = wait_for(pid)) != 0)
        bad += STATE_BAD("%d, %s", (int)pid, bproc_strerror(errno));
    strcpy(io.d.file.name, "/there/is/none");
    pid = bproc_rfork_io(node, &io, 1);
    if (pid == 0)
        _exit(0);
    if (pid != -1 || errno != ENOENT)
        bad += STATE_BAD("%d, %s", (int)pid, bproc_strerror(errno));
    if (waitpid(-1, &status, WNOHANG) != -1 || errno != ECHILD)
        bad += STATE_BAD("there are children left");
    return bad;
}

static int large(size_t megabytes, int n, char **argv)
{
    size_t words = megabytes << 17, i = 0;
    uint64_t *memory = (uint64_t *)malloc(words * sizeof *memory);
    int nodes[32], pids[32], bad = 0, status, here = bproc_currnode();

    for (; i < words; i++)
        memory[i] = state_word(i);
    for (int k = 0; k < n; k++)
        nodes[k] = atoi(argv[k]);
    int rc = bproc_vrfork(n, nodes, pids);
    if (rc < 0)
        return STATE_BAD("vrfork: %s", bproc_strerror(errno));
    if (rc < n) {
        for (i = 0; i < words && memory[i] == state_word(i); i++)
            continue;
        printf("%d ran%s\n", rc, i < words || bproc_currnode() != nodes[rc] ? ", wrongly" : "");
        exit(100 + rc);
    }
    for (int k = 0; k < n; k++) {
        if (pids[k] < 0)
            printf("%d did not: %s\n", k, bproc_strerror(-pids[k]));
        else if ((status = wait_for(pids[k])) != (100 + k) << 8)
            bad += STATE_BAD("child %d ended with %x", k, status);
        else if (here >= 0 && nodes[k] != here) /* what it says goes nowhere */
            printf("%d ran\n", k);
    }
    if (waitpid(-1, &status, WNOHANG) != -1 || errno != ECHILD)
        bad += STATE_BAD("there are children left");
    return bad;
}

/* Services may be away meanwhile. */
static int again(int times, int n, char **argv)
{
    int nodes[8], pids[8], bad = 0, ran = 0, failed = 0, status;

    for (int i = 0; i < n && i < 8; i++)
        nodes[i] = atoi(argv[i]);
    alarm(120);
    for (; times > 0; times--) {
        int rc = bproc_vrfork_io(n, nodes, pids, NULL, 0);
        if (rc >= 0 && rc < n)
            _exit(bproc_currnode() == nodes[rc] ? 100 + rc : 1);
        failed += rc < 0;
        for (int i = 0; rc == n && i < n; i++) {
            failed += pids[i] < 0;
            ran += pids[i] > 0;
            if (pids[i] > 0 && (status = wait_for(pids[i])) != (100 + i) << 8)
                bad += STATE_BAD("a child on %d ended with %x", nodes[i], status);
        }
        if (waitpid(-1, &status, WNOHANG) != -1 || errno != ECHILD)
            bad += STATE_BAD("there are children left");
    }
    printf("%d faults\n", bad);
    fprintf(stderr, "# %d ran, %d did not\n", ran, failed);
    return bad;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "says") == 0)
        return says(atoi(argv[2]), argv[3]);
    if (argc > 3 && argc <= 35 && strcmp(argv[1], "large") == 0)
        return large(strtoul(argv[2], NULL, 10), argc - 3, argv + 3);
    if (argc > 3 && argc <= 11 && strcmp(argv[1], "again") == 0)
        return again(atoi(argv[2]), argc - 3, argv + 3);
    if (argc == 3 && strcmp(argv[1], "one") == 0)
        return one(argc, argv);
    if (argc >= 3 && strcmp(argv[1], "many") == 0)
        return many(argc, argv);
    if (argc == 4 && strcmp(argv[1], "signals") == 0)
        return signals(argv[2], argv[3]);
    return 2;
}
