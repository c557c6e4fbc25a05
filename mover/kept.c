/* kept.c - children of a process that goes elsewhere
 *
 * They stay where they are, and are its children wherever it is. Which those are is
 * what the kernel says; it stands still, so there will be no others.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "mover/mover.h"

static char *list(pid_t pid)
{
    char name[64];

    snprintf(name, sizeof name, "task/%d/children", (int)pid);
    return proc_text(pid, name, NULL);
}

void kept_look(pid_t pid, struct hindrances *h)
{
    CLEANUP(cleanup_free) char *text = list(pid);
    char *end = text;

    if (!text) {
        hindered(h, "children", "whether it has children cannot be seen on this kernel");
        return;
    }
    for (long child; (child = strtol(end, &end, 10)) > 0;) {
        CLEANUP(cleanup_free) char *stat = proc_text((pid_t)child, "stat", NULL);
        const char *close = stat ? strrchr(stat, ')') : NULL;
        if (close && close[1] && (close[2] == 'Z' || close[2] == 'X'))
            hindered(h, "children", "its child %ld has ended, and it has not waited for it yet",
                     child);
    }
}

uint32_t kept_pack(pid_t pid, mp_buf *rows)
{
    CLEANUP(cleanup_free) char *text = list(pid);
    char *end = text;
    uint32_t n = 0;

    for (long child; text && (child = strtol(end, &end, 10)) > 0; n++) {
        size_t len = 0;
        CLEANUP(cleanup_free) char *comm = proc_text((pid_t)child, "comm", &len);
        const char *name = comm && len > 1 ? comm : "child\n";
        mp_array(rows, 3);
        mp_int(rows, child);
        mp_bool(rows, getpgid((pid_t)child) == (pid_t)child);
        mp_bin(rows, name, strcspn(name, "\n"));
    }
    return n;
}
