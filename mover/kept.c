/* kept.c - children of a process that goes elsewhere
 *
 * They stay where they are, and are its children wherever it is. Which those are is
 * what the kernel says; it stands still, so there will be no others.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mover/mover.h"

/* The next of these children, in *end, that has ended; 0: none. */
static long next_ended(char **end)
{
    long child;

    while ((child = strtol(*end, end, 10)) > 0) {
        CLEANUP(cleanup_free) char *stat = proc_text((pid_t)child, "stat", NULL);
        const char *close = stat ? strrchr(stat, ')') : NULL;
        if (close && close[1] && (close[2] == 'Z' || close[2] == 'X'))
            break;
    }
    return child;
}

static char *children(pid_t pid)
{
    char name[64];

    snprintf(name, sizeof name, "task/%d/children", (int)pid);
    return proc_text(pid, name, NULL);
}

void kept_look(pid_t pid, struct hindrances *h)
{
    CLEANUP(cleanup_free) char *text = children(pid);
    char *end = text;
    long child;

    if (!text) {
        hindered(h, "children", "whether it has children cannot be seen on this kernel");
        return;
    }
    while ((child = next_ended(&end)) > 0)
        hindered(h, "children", "its child %ld has ended, and it has not waited for it yet", child);
}

bool kept_ended(pid_t pid)
{
    CLEANUP(cleanup_free) char *text = children(pid);
    char *end = text;

    return text && next_ended(&end) > 0;
}
