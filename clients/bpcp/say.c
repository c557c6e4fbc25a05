/* say.c - failures, one line each; progress, on a terminal only */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "bus/loop.h"
#include "clients/bpcp/bpcp.h"
#include "clients/common/table.h"

#define EVERY_MS 250
#define NAME_MAX_SHOWN 40

void say_end(struct bpcp *b)
{
    if (b->line)
        fputs("\r\033[K", stderr);
    b->line = false;
}

void say(struct bpcp *b, int node, const char *path, const char *text)
{
    say_end(b);
    b->failed = true;
    if (node == BPCP_MASTER)
        fputs("bpcp: ", stderr);
    else
        fprintf(stderr, "%d: ", node);
    if (path) { /* the name may be anything, and may come from a node */
        table_text(stderr, path, strlen(path), 0);
        fputs(": ", stderr);
    }
    table_text(stderr, text, strlen(text), 0);
    fputc('\n', stderr);
}

void say_progress(struct bpcp *b, const char *what, uint64_t bytes)
{
    static int64_t began, last;
    static int terminal = -1;
    int64_t now;

    if (terminal < 0)
        terminal = isatty(STDERR_FILENO) && tcgetpgrp(STDERR_FILENO) == getpgrp();
    if (!terminal || (now = now_ms()) - last < EVERY_MS)
        return;
    if (!began)
        began = now;
    last = now;
    const char *slash = strrchr(what, '/');
    if (slash && slash[1])
        what = slash + 1;
    double mib = (double)bytes / (1 << 20), s = (double)(now - began) / 1000;
    fputs("\r\033[K", stderr);
    table_text(stderr, what, strlen(what), NAME_MAX_SHOWN);
    fprintf(stderr, "  %.1f MiB  %.1f MiB/s", mib, s > 0 ? mib / s : mib);
    fflush(stderr);
    b->line = true;
}
