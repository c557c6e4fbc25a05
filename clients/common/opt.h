/* opt.h - numbers on a command line, and what every client answers alike */
#ifndef CLIENTS_OPT_H
#define CLIENTS_OPT_H
#include <stdbool.h>
#include <stdint.h>

#define OPT_EXIT_USAGE 2

/* Digits only, in this base, min..max. False: *out is not touched. */
bool opt_number(const char *text, int base, int64_t min, int64_t max,
                int64_t *out);

/* "NAME version X" on stdout; returns EXIT_SUCCESS. */
int opt_version(const char *name);

/* Flush stdout: EXIT_SUCCESS, or EXIT_FAILURE after saying that it was lost. */
int opt_finish(const char *name);

#endif
