/* tool.h - run another program for its answer */
#ifndef CLUSTERMATIC_TOOL_H
#define CLUSTERMATIC_TOOL_H
#include <stdbool.h>
#include <stddef.h>
#include "bus/err.h"

/* Run argv (looked up in PATH) with no input, for at most timeout_ms; what it
 * prints on both outputs goes to out, cut at size. Returns its exit status,
 * 128 + signal if killed. Errors: ENOENT not installed, ETIMEDOUT (killed). */
int tool_run(const char *const *argv, int timeout_ms, char *out, size_t size,
             struct err *err);
bool tool_there(const char *name); /* an executable in PATH */

#endif
