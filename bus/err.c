/* err.c - one error value, carried up the stack */
#include "bus/err.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        err->code = code ? code : EIO;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        for (char *p = err->text; *p; p++)
            if (*p == '\n')
                *p = ' ';
    }
    errno = code ? code : EIO;
    return -1;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
    if (err) {
        char old[sizeof err->text];
        va_list ap;
        memcpy(old, err->text, sizeof old);
        va_start(ap, fmt);
        int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        if (n >= 0 && (size_t)n < sizeof err->text)
            snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", old);
        errno = err->code;
    }
    return -1;
}

const char *err_name(int code)
{
    switch (code < 0 ? -code : code) {
    case BE_INVALIDNODE: return "Invalid node number";
    case BE_NODEDOWN: return "Node is down";
    case BE_SAMENODE: return "Move to same node";
    case BE_SLAVEDIED: return "Slave node died";
    case BE_INVALIDPROC: return "Invalid process ID";
    default: return strerror(code < 0 ? -code : code);
    }
}

void cleanup_free(void *p)
{
    int keep = errno;
    free(*(void **)p);
    errno = keep;
}

void cleanup_close(int *fd)
{
    if (*fd >= 0) {
        int keep = errno;
        close(*fd);
        errno = keep;
        *fd = -1; /* closing twice would close somebody else's */
    }
}
