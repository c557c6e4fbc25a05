/* tell.c - what becomes of each process, for a program that has us run them
 *
 * One line each, in the order of events:
 *
 *   launch ID              before anything is started; for procspace.end_launch
 *   started RANK NODE PID  PID is the stand-in's
 *   failed RANK NODE WHY   it was never started; WHY is the rest of the line
 *   ended RANK NODE exit CODE | signal NUMBER
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/bpsh/bpsh.h"

static void say(struct bpsh *b, const char *line, int len)
{
    if (len < 0 || b->opt.report_fd < 0)
        return;
    if (write(b->opt.report_fd, line, (size_t)len) < 0) {
        close(b->opt.report_fd); /* nobody listens any more */
        b->opt.report_fd = -1;
    }
}

static long long rank_of(const struct bpsh *b, const struct proc *p)
{
    return (long long)b->opt.first_rank + p->rank;
}

void tell_launch(struct bpsh *b)
{
    char line[64];

    say(b, line, snprintf(line, sizeof line, "launch %llu\n", (unsigned long long)b->launch));
}

void tell_started(struct bpsh *b, const struct proc *p)
{
    char line[96];

    say(b, line, snprintf(line, sizeof line, "started %lld %d %d\n", rank_of(b, p), p->node,
                          (int)(p->pid ? p->pid : p->was)));
}

void tell_failed(struct bpsh *b, const struct proc *p, const char *why)
{
    char line[600];
    int n = snprintf(line, sizeof line, "failed %lld %d %.500s\n", rank_of(b, p), p->node, why);

    for (int i = 0; i < n - 1; i++)
        if (line[i] == '\n')
            line[i] = ' ';
    say(b, line, n);
}

void tell_ended(struct bpsh *b, const struct proc *p, int status)
{
    char line[96];
    bool exited = WIFEXITED(status);

    say(b, line, snprintf(line, sizeof line, "ended %lld %d %s %d\n", rank_of(b, p), p->node,
                          exited ? "exit" : "signal",
                          exited ? WEXITSTATUS(status) : WTERMSIG(status)));
}
