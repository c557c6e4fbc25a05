/* watch.h - events as lines of JSON */
#ifndef CLIENTS_BPEVENTS_WATCH_H
#define CLIENTS_BPEVENTS_WATCH_H
#include <stdint.h>

#include "bus/err.h"

struct watch_options {
    char **filter; /* prefixes of topics; none: everything */
    int filters;
    int64_t count;     /* stop after so many lines; 0: no limit */
    int64_t timeout_s; /* stop after so many seconds; 0: no limit */
    int ready_fd;      /* told with a newline once nothing is missed; -1: no */
};

/* Print until a limit is reached (0, or 1: time was up before count lines
 * were seen), or stdout or the bus was lost for good (-1). */
int watch(const struct watch_options *o, struct err *err);

#endif
