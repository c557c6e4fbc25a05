/* timers.c - a process's POSIX timers, as the kernel tells of them
 *
 *     ID: 0
 *     signal: 14/00007fff00000001     the number, and what comes with it
 *     notify: signal/pid.4711         signal or none; pid or tid
 *     ClockID: 1
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "image/timers.h"

static bool may_go(int clock)
{
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME:
    case CLOCK_TAI: return true;
    default: /* its own processor times; not another's, nor clocks that wake the machine */
        return clock < 0 && clock >= -8 && (clock & 3) != 3;
    }
}

int image_timers(const char *text, struct image_timer t[IMAGE_TIMERS], const char **why)
{
    unsigned long long value;
    char how[8], to[4];
    int n = 0;

    for (const char *p = strstr(text, "ID: "); p; p = strstr(p, "\nID: "), n++) {
        struct image_timer one = { 0 };
        p += *p == '\n';
        if (sscanf(p, "ID: %d signal: %d/%llx notify: %7[a-z]/%3[a-z].%*d ClockID: %d", &one.id,
                   &one.sig, &value, how, to, &one.clock) != 6 ||
            (strcmp(how, "signal") != 0 && strcmp(how, "none") != 0)) {
            *why = "it has a POSIX timer of an unknown kind (timer_create)";
            return -1;
        }
        if (!may_go(one.clock)) {
            *why = "it has a POSIX timer of another process's clock, or one that wakes the machine";
            return -1;
        }
        one.notify = strcmp(how, "none") == 0 ? SIGEV_NONE
                     : strcmp(to, "tid") == 0 ? SIGEV_THREAD_ID
                                              : SIGEV_SIGNAL;
        one.value = value;
        if (n >= (int)IMAGE_TIMERS)
            continue;
        int at = n; /* by their ids: older kernels give these out one after another */
        for (; at > 0 && t[at - 1].id > one.id; at--)
            t[at] = t[at - 1];
        t[at] = one;
    }
    return n;
}
