/* state.h - everything that a process can have, made and then checked
 *
 * state_make() once; state_check() as often as the process has been moved: each
 * says what is wrong on stderr and returns how many such things there were.
 */
#ifndef TESTS_STATE_H
#define TESTS_STATE_H
#include <dlfcn.h>
#include <errno.h>
#include <fenv.h>
#include <locale.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static __thread int state_tls = 77;
static volatile sig_atomic_t state_got, state_on_alt;
static struct state {
    char *heap;
    uint64_t *big;
    size_t big_words;
    char *map; /* written, then made read-only */
    char *shared; /* may be given up: NULL */
    char *alt;
    void *zlib;
    void *zlib_crc;
    pid_t pid;
    mode_t umask;
    char cwd[4096], comm[16], exe[4096];
    int argc;
    char **argv;
    double root;
    int rounding;
} state;

#define STATE_BAD(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), 1)

static void state_handler(int sig)
{
    char here;

    (void)sig;
    state_got++;
    state_on_alt = &here >= state.alt && &here < state.alt + 65536;
}

static uint64_t state_word(size_t i) { return i * 0x9e3779b97f4a7c15u ^ 0x5bd1e995; }

static void state_make(int argc, char **argv, size_t megabytes)
{
    struct sigaction sa = { .sa_handler = state_handler, .sa_flags = SA_ONSTACK };
    sigset_t blocked;
    struct itimerval it = { { 0, 0 }, { 3000, 0 } };

    setlocale(LC_ALL, "");
    state.argc = argc;
    state.argv = argv;
    state.alt = (char *)malloc(65536);
    stack_t alt = { .ss_sp = state.alt, .ss_size = 65536 };
    sigaltstack(&alt, NULL);
    sigaction(SIGUSR1, &sa, NULL);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    setitimer(ITIMER_REAL, &it, NULL);
    state.heap = strdup("a text on the heap");
    state.big_words = megabytes << 17;
    state.big = megabytes ? (uint64_t *)malloc(megabytes << 20) : NULL;
    for (size_t i = 0; i < state.big_words; i += 8)
        state.big[i] = state_word(i);
    state.map = (char *)mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                             -1, 0);
    memset(state.map + 8192, 'm', 4096);
    mprotect(state.map, 65536, PROT_NONE);
    state.shared = (char *)mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                                -1, 0);
    strcpy(state.shared, "shared with children");
    state_tls = 78;
    state.zlib = dlopen("libz.so.1", RTLD_NOW);
    state.zlib_crc = state.zlib ? dlsym(state.zlib, "crc32") : NULL;
    state.pid = getpid();
    umask(state.umask = 027);
    setenv("STATE_ADDED", "at run time", 1);
    argv[0][0] = 'S'; /* seen in /proc/PID/cmdline */
    state.root = sqrt(2.0);
    fesetround(state.rounding = FE_UPWARD);
    if (!getcwd(state.cwd, sizeof state.cwd))
        state.cwd[0] = 0;
    ssize_t n = readlink("/proc/self/exe", state.exe, sizeof state.exe - 1);
    state.exe[n > 0 ? n : 0] = 0;
    FILE *f = fopen("/proc/self/comm", "r");
    if (f && fgets(state.comm, sizeof state.comm, f))
        state.comm[strcspn(state.comm, "\n")] = 0;
    if (f)
        fclose(f);
}

static int state_children(void)
{
    int bad = 0, status;
    pid_t child = fork();

    if (child == 0) {
        if (state.shared)
            strcpy(state.shared + 4096, "from a child");
        _exit(getppid() == state.pid ? 17 : 1);
    }
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 17)
        bad += STATE_BAD("a child went wrong: %x", status);
    if (state.shared && strcmp(state.shared + 4096, "from a child") != 0)
        bad += STATE_BAD("memory is not shared with a child");
    if (state.shared)
        state.shared[4096] = 0;
    return bad;
}

static int state_check_signals(void)
{
    struct sigaction sa;
    struct itimerval it;
    sigset_t now;
    int bad = 0, got = state_got;

    raise(SIGUSR1);
    if (state_got != got + 1)
        bad += STATE_BAD("the handler did not run");
    if (!state_on_alt)
        bad += STATE_BAD("the handler did not run on its own stack");
    sigprocmask(SIG_BLOCK, NULL, &now);
    if (!sigismember(&now, SIGUSR2) || sigismember(&now, SIGTERM) || sigismember(&now, SIGUSR1))
        bad += STATE_BAD("other signals are blocked");
    if (sigaction(SIGHUP, NULL, &sa) < 0 || sa.sa_handler != SIG_IGN)
        bad += STATE_BAD("SIGHUP is not ignored any more");
    if (getitimer(ITIMER_REAL, &it) < 0 || it.it_value.tv_sec < 1000 ||
        it.it_value.tv_sec > 3000)
        bad += STATE_BAD("the timer is at %ld s", (long)it.it_value.tv_sec);
    return bad;
}

static int state_check_names(pid_t pid)
{
    char text[4096] = "";
    int bad = 0;
    const char *added = getenv("STATE_ADDED");

    if (getpid() != pid)
        bad += STATE_BAD("the pid is %d, was %d", (int)getpid(), (int)pid);
    if (!added || strcmp(added, "at run time") != 0)
        bad += STATE_BAD("the environment is another");
    FILE *f = fopen("/proc/self/cmdline", "r");
    if (!f || fread(text, 1, sizeof text - 1, f) < 1 || strcmp(text, state.argv[0]) != 0)
        bad += STATE_BAD("the command line is \"%s\"", text);
    if (f)
        fclose(f);
    memset(text, 0, sizeof text);
    f = fopen("/proc/self/comm", "r");
    if (!f || !fgets(text, sizeof text, f) || strncmp(text, state.comm, strlen(state.comm)) != 0)
        bad += STATE_BAD("the name is \"%s\"", text);
    if (f)
        fclose(f);
    ssize_t n = readlink("/proc/self/exe", text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    if (strcmp(text, state.exe) != 0)
        bad += STATE_BAD("the program is \"%s\"", text);
    mode_t mask = umask(0);
    umask(mask);
    if (mask != state.umask)
        bad += STATE_BAD("the umask is %o", (unsigned)mask);
    return bad;
}

static int state_check_as(pid_t pid)
{
    int bad = 0;
    time_t now = time(NULL);
    struct timespec ts;

    bad += state_check_names(pid);
    bad += state_check_signals();
    if (state_tls != 78)
        bad += STATE_BAD("a thread's variable is %d", state_tls);
    if (strcmp(state.heap, "a text on the heap") != 0)
        bad += STATE_BAD("the heap is \"%s\"", state.heap);
    for (size_t i = 0; i < state.big_words; i += 8)
        if (state.big[i] != state_word(i)) {
            bad += STATE_BAD("memory is wrong at word %zu", i);
            break;
        }
    if (mprotect(state.map, 65536, PROT_READ) < 0 || state.map[8192] != 'm' ||
        state.map[12287] != 'm' || state.map[0] || state.map[12288] ||
        mprotect(state.map, 65536, PROT_NONE) < 0)
        bad += STATE_BAD("memory that cannot be read has another content");
    if (state.shared && strcmp(state.shared, "shared with children") != 0)
        bad += STATE_BAD("shared memory is \"%s\"", state.shared);
    if (fegetround() != state.rounding)
        bad += STATE_BAD("the rounding is another");
    if (state.root < 1.41421356 || state.root > 1.41421357)
        bad += STATE_BAD("the square root of 2 is %g", state.root);
    if (state.zlib && dlsym(state.zlib, "crc32") != state.zlib_crc)
        bad += STATE_BAD("a library's function is elsewhere");
    if (clock_gettime(CLOCK_REALTIME, &ts) < 0 || ts.tv_sec < now || ts.tv_sec > now + 100)
        bad += STATE_BAD("the clock is wrong");
    char *p = (char *)malloc(3000000);
    if (!p)
        bad += STATE_BAD("no memory is given");
    free(p);
    bad += state_children();
    return bad;
}

static inline int state_check(void) { return state_check_as(state.pid); }

#endif
