/* opt.c - numbers on a command line, and what every client answers alike */
#include "clients/common/opt.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/rundir.h"

bool opt_number(const char *text, int base, int64_t min, int64_t max,
                int64_t *out)
{
    char *end;
    long long v;

    if (!isdigit((unsigned char)text[0]))
        return false; /* strtoll would take blanks and signs */
    errno = 0;
    v = strtoll(text, &end, base);
    if (errno != 0 || *end != '\0' || v < min || v > max)
        return false;
    *out = v;
    return true;
}

int opt_version(const char *name)
{
    printf("%s version %s\n", name, CM_VERSION);
    return opt_finish(name);
}

int opt_finish(const char *name)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_SUCCESS;
    fprintf(stderr, "%s: write to standard output: %s\n", name, strerror(errno));
    return EXIT_FAILURE;
}
