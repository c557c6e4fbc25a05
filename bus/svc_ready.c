/* svc_ready.c - what the supervisor sees of a service: that it is ready, and its log */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/svc.h"

void svc_log(const char *level, const char *fmt, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    fprintf(stderr, "%s %s\n", level, line);
}

void svc_ready(int fd)
{
    if (fd < 0)
        return;
    if (write(fd, "\n", 1) != 1)
        svc_log("warning", "cannot tell the supervisor that we are ready: %s",
                strerror(errno));
    close(fd);
}

bool svc_ready_fd(const char *program, const char *text, int *fd)
{
    char *end;
    long v = strtol(text, &end, 10);

    if (end == text || *end || v < 0 || v > INT_MAX) {
        fprintf(stderr, "%s: --ready-fd %s: want a descriptor's number\n", program, text);
        return false;
    }
    *fd = (int)v;
    return true;
}
