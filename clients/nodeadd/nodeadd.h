/* nodeadd.h - lines for new machines in the configuration */
#ifndef CLIENTS_NODEADD_H
#define CLIENTS_NODEADD_H
#include "bus/config.h"
#include "bus/err.h"

/* Put a line behind the last of the file; everything else, comments too, stays
 * as it is. Nobody ever reads half of it: a new file takes the old one's place,
 * with its owner and mode. Other writers are waited for. 1: a node line with this
 * MAC is there already. Errors: open's, rename's; EBUSY; EINVAL the file would
 * be no configuration any more, with the line that is wrong. */
int append_line(const char *file, const char *line, const char *mac, struct err *err);

#endif
