/* copy.h - a stream's bytes from the bulk channel to a descriptor */
#ifndef BULKCAT_COPY_H
#define BULKCAT_COPY_H
#include <stdint.h>
#include "bus/bulk.h"

enum copy_end {
    COPY_EOF,    /* the stream has ended, and out has all of it */
    COPY_CUT,    /* the connection broke: go on from *offset another way */
    COPY_CLOSED, /* out takes no more */
};

/* Copy until one of these; *offset moves with every byte that out has taken.
 * What was wrong, when something was, is in *err. */
enum copy_end copy_stream(bulk_t *b, int out, uint64_t *offset, struct err *err);

#endif
