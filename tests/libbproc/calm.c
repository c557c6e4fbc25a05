/* calm.c - a process that is moved from outside, and must not notice
 *
 *     calm MARK         counts until SIGUSR1, then says "right" or what is not as it was;
 *                       status 7, or 8
 *     calm kill PID N   kills what traces PID as soon as there is such a one, N times,
 *                       after up to 16 ms; says how often it did
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define WAIT_NS 3000000000ll

static volatile sig_atomic_t over;

static void on_end(int sig)
{
    (void)sig;
    over = 1;
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static double step(double x) { return x * 1.0000001 + 0.25 - (x > 1000 ? x / 2 : 0); }

static int count(void)
{
    static char stack[65536];
    stack_t alt = { .ss_sp = stack, .ss_size = sizeof stack }, alt_now;
    struct sigaction end = { .sa_handler = on_end, .sa_flags = SA_ONSTACK }, trap;
    sigset_t blocked, mask;
    double x = 1, y = 1;
    long double z = 1, w = 1;
    uint64_t n = 0, sum = 0;

    for (int fd = 3; fd < 1024; fd++) /* of who has started it */
        close(fd);
    sigaltstack(&alt, NULL);
    sigaction(SIGUSR1, &end, NULL);
    signal(SIGTRAP, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    puts("ready");
    fflush(stdout);
    for (; !over; n++) {
        struct timeval tv;
        sum += n;
        x = step(x);
        z = z * 1.0000001L + 0.25L - (z > 1000 ? z / 2 : 0);
        if (n % 64 == 0 && (gettimeofday(&tv, NULL) < 0 || getppid() <= 0))
            break;
        if (n % 2048 == 0)
            usleep(1000);
    }
    for (uint64_t i = 0; i < n; i++) {
        y = step(y);
        w = w * 1.0000001L + 0.25L - (w > 1000 ? w / 2 : 0);
    }
    sigprocmask(SIG_BLOCK, NULL, &mask);
    sigaction(SIGTRAP, NULL, &trap);
    sigaltstack(NULL, &alt_now);
    const char *bad = !over ? "a call failed"
                      : sum != n * (n - 1) / 2 ? "the sum"
                      : memcmp(&x, &y, sizeof x) != 0 || z != w ? "a number"
                      : trap.sa_handler != SIG_IGN ? "SIGTRAP"
                      : !sigismember(&mask, SIGUSR2) || sigismember(&mask, SIGUSR1) ||
                                sigismember(&mask, SIGTERM)
                          ? "the mask"
                      : alt_now.ss_sp != stack || alt_now.ss_flags ? "the other stack"
                                                                   : NULL;
    puts(bad ? bad : "right");
    return bad ? 8 : 7;
}

static pid_t tracer_of(const char *pid)
{
    char path[64], line[256];
    int tracer = 0;

    snprintf(path, sizeof path, "/proc/%s/status", pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "TracerPid: %d", &tracer) == 1)
            break;
    if (f)
        fclose(f);
    return tracer;
}

static int killer(const char *pid, int times)
{
    int done = 0;

    srand((unsigned)now_ns());
    for (int64_t end = now_ns() + WAIT_NS; done < times && now_ns() < end;) {
        pid_t tracer = tracer_of(pid);
        if (tracer <= 1)
            continue;
        for (int64_t at = now_ns() + rand() % 16000000; now_ns() < at;)
            continue;
        if (tracer_of(pid) == tracer)
            kill(tracer, SIGKILL);
        done++;
    }
    printf("%d\n", done);
    return done == times ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "kill") == 0)
        return killer(argv[2], atoi(argv[3]));
    return argc == 2 ? count() : 2;
}
