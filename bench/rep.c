/* rep.c - run commands in turn, several times each, and print how long each run took
 *
 * rep [-n RUNS] [-w WARMUPS] [-t SECONDS] [-q SECONDS] CASE [:: CASE]...
 *   CASE is [-p] [-b COMMAND] NAME PROGRAM [ARGUMENT]...
 *
 * All cases are run once in each round, in one order in even rounds and in the
 * other in odd ones, so that noise from outside and what one case leaves behind
 * hit all of them. A run that fails or lasts longer than -t is no sample; after
 * RUNS failures a case is given up. A line for each case, split by tabs: name,
 * number of failures, last words of the last failure, then the samples, ascending.
 *
 * -q: wait up to so many seconds in all for other work on the machine to end.
 * -p: the sample is the number that the program prints, not its wall time.
 * -b: run by sh before each run, outside the time taken ("until it is idle").
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BUSY 0.15      /* share of all processors that counts as other work */
#define LOOK_MS 200    /* how long the machine is watched for it */
#define WHY 200        /* most of a last line that is kept */
#define KILL_AFTER 3.0 /* seconds from SIGTERM to SIGKILL */

struct kase {
    char *name, *before;
    bool prints;
    char **argv;
    double *sample;
    int n, failed;
    char why[WHY];
};

struct plan {
    int runs, warmups;
    double limit, patience; /* seconds; patience is used up as we wait */
    struct kase *kase;
    int n;
    int rounds, busy_rounds;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "rep: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- is anybody else working here? --- */

static void cpu_times(double *busy, double *all)
{
    unsigned long long t[8] = { 0 };
    FILE *f = fopen("/proc/stat", "re");

    *busy = *all = 0;
    if (!f)
        return;
    if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3],
               &t[4], &t[5], &t[6], &t[7]) == 8)
        for (int i = 0; i < 8; i++) {
            *all += (double)t[i];
            *busy += i == 3 || i == 4 ? 0 : (double)t[i]; /* idle, iowait */
        }
    fclose(f);
}

static bool machine_busy(void)
{
    const struct timespec look = { 0, LOOK_MS * 1000000L };
    double busy[2], all[2];

    cpu_times(&busy[0], &all[0]);
    nanosleep(&look, NULL);
    cpu_times(&busy[1], &all[1]);
    return all[1] > all[0] && (busy[1] - busy[0]) / (all[1] - all[0]) > BUSY;
}

static void wait_quiet(struct plan *p)
{
    bool busy = machine_busy();

    while (busy && p->patience > 0) {
        double looked = now();
        busy = machine_busy();
        p->patience -= now() - looked;
    }
    p->busy_rounds += busy;
    p->rounds++;
}

/* --- one run --- */

static sigset_t awaited; /* blocked, and taken by wait_until() */

/* Wait for pid until end; its status, or -1 when time is up. What we are ended
 * by ends pid's whole group first: it is not ours, so a terminal does not. */
static int wait_until(pid_t pid, double end)
{
    int status, sig = 0;

    for (;;) {
        pid_t r = waitpid(pid, &status, WNOHANG);
        if (r == pid)
            return status;
        if (r < 0)
            die("waitpid");
        double left = end - now();
        if (left <= 0)
            return -1;
        struct timespec t = { (time_t)left, (long)((left - (double)(time_t)left) * 1e9) };
        sig = sigtimedwait(&awaited, NULL, &t);
        if (sig > 0 && sig != SIGCHLD) {
            kill(-pid, SIGTERM);
            exit(128 + sig);
        }
    }
}

static pid_t start(char **argv, int out, int errs)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    sigset_t none;
    pid_t pid;

    sigemptyset(&none);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    if (out >= 0)
        posix_spawn_file_actions_adddup2(&fa, out, 1);
    else
        posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, errs, 2);
    errno = posix_spawnp(&pid, argv[0], &fa, &attr, argv, environ);
    if (errno)
        die(argv[0]);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&attr);
    return pid;
}

/* The last line of what a file holds (or its end, if it is long), without tabs. */
static void last_line(int fd, char out[WHY])
{
    char buf[WHY];
    off_t size = lseek(fd, 0, SEEK_END), from = size > WHY - 1 ? size - (WHY - 1) : 0;
    ssize_t got = pread(fd, buf, sizeof buf - 1, from);

    while (got > 0 && (buf[got - 1] == '\n' || buf[got - 1] == ' '))
        got--;
    buf[got > 0 ? got : 0] = 0;
    char *line = strrchr(buf, '\n');
    snprintf(out, WHY, "%s", line ? line + 1 : buf);
    for (char *p = out; *p; p++)
        if (*p == '\t')
            *p = ' ';
}

static void before(char *command)
{
    char sh[] = "sh", option[] = "-c", *argv[] = { sh, option, command, NULL };
    if (wait_until(start(argv, 2, 2), now() + 60) != 0)
        fprintf(stderr, "rep: '%s' failed\n", command);
}

/* 0 and one sample, or -1 and the reason in k->why. */
static int run(const struct plan *p, struct kase *k, double *sample)
{
    int errs = memfd_create("stderr", MFD_CLOEXEC);
    int out = k->prints ? memfd_create("stdout", MFD_CLOEXEC) : -1;

    if (errs < 0 || (k->prints && out < 0))
        die("memfd");
    if (k->before)
        before(k->before);

    double begin = now();
    pid_t pid = start(k->argv, out, errs);
    int status = wait_until(pid, begin + p->limit);
    *sample = now() - begin;
    if (status == -1) {
        kill(-pid, SIGTERM);
        if (wait_until(pid, now() + KILL_AFTER) == -1) {
            kill(-pid, SIGKILL);
            wait_until(pid, now() + 60);
        }
        snprintf(k->why, sizeof k->why, "no end after %.0f s", p->limit);
    } else if (status) {
        last_line(errs, k->why);
        if (!k->why[0] && WIFSIGNALED(status))
            snprintf(k->why, sizeof k->why, "died by signal %d", WTERMSIG(status));
        else if (!k->why[0])
            snprintf(k->why, sizeof k->why, "exit status %d", WEXITSTATUS(status));
    } else if (k->prints) {
        char text[WHY], *end;
        last_line(out, text);
        *sample = strtod(text, &end);
        if (end == text) {
            snprintf(k->why, sizeof k->why, "it printed no number");
            status = -1;
        }
    }
    close(errs);
    if (out >= 0)
        close(out);
    return status ? -1 : 0;
}

static void run_all(struct plan *p)
{
    bool more = true;

    for (int round = -p->warmups; more; round++) {
        more = round < 0;
        wait_quiet(p);
        for (int i = 0; i < p->n; i++) {
            struct kase *k = &p->kase[round % 2 ? p->n - 1 - i : i];
            double sample;
            if (k->n == p->runs || k->failed >= p->runs)
                continue;
            if (run(p, k, &sample) < 0)
                k->failed++;
            else if (round >= 0)
                k->sample[k->n++] = sample;
            more = more || (k->n < p->runs && k->failed < p->runs);
        }
    }
}

/* --- command line and result --- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(struct plan *p)
{
    for (struct kase *k = p->kase; k < p->kase + p->n; k++) {
        qsort(k->sample, (size_t)k->n, sizeof *k->sample, ascending);
        printf("%s\t%d\t%s", k->name, k->failed, k->why);
        for (int i = 0; i < k->n; i++)
            printf("\t%.9g", k->sample[i]);
        putchar('\n');
    }
    if (p->busy_rounds)
        fprintf(stderr, "rep: %d of %d rounds began on a busy machine\n", p->busy_rounds,
                p->rounds);
}

static void usage(void)
{
    fputs("usage: rep [-n RUNS] [-w WARMUPS] [-t SECONDS] [-q SECONDS] CASE [:: CASE]...\n"
          "       CASE: [-p] [-b COMMAND] NAME PROGRAM [ARGUMENT]...\n",
          stderr);
    exit(2);
}

/* One case is argv[1..argc), argv[0] is not used; the first has the options of all. */
static void parse_case(struct plan *p, int argc, char **argv)
{
    struct kase k = { 0 };
    int c;

    opterr = 0;
    optind = 0; /* getopt begins anew */
    while ((c = getopt(argc, argv, p->n ? "+pb:" : "+n:w:t:q:pb:")) != -1)
        switch (c) {
        case 'n': p->runs = atoi(optarg); break;
        case 'w': p->warmups = atoi(optarg); break;
        case 't': p->limit = atof(optarg); break;
        case 'q': p->patience = atof(optarg); break;
        case 'p': k.prints = true; break;
        case 'b': k.before = optarg; break;
        default: usage();
        }
    if (argc - optind < 2 || p->runs < 1)
        usage();
    k.name = argv[optind];
    k.argv = &argv[optind + 1];
    k.sample = calloc((size_t)p->runs, sizeof *k.sample);
    struct kase *more = realloc(p->kase, (size_t)(p->n + 1) * sizeof *more);
    if (!more || !k.sample)
        die("cases");
    p->kase = more;
    p->kase[p->n++] = k;
}

int main(int argc, char **argv)
{
    struct plan p = { .runs = 7, .warmups = 1, .limit = 120 };

    for (int from = 0, to; from < argc; from = to) {
        for (to = from + 1; to < argc && strcmp(argv[to], "::") != 0; to++)
            ;
        if (to < argc)
            argv[to] = NULL; /* ends this case's argv, is argv[0] of the next */
        parse_case(&p, to - from, argv + from);
    }
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGHUP);
    sigaddset(&awaited, SIGINT);
    sigaddset(&awaited, SIGTERM);
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    run_all(&p);
    report(&p);
    for (int i = 0; i < p.n; i++)
        free(p.kase[i].sample);
    free(p.kase);
    return 0;
}
