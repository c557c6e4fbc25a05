/* config_parse.h - between config.c (lines and words) and config_tags.c (meaning) */
#ifndef BUS_CONFIG_PARSE_H
#define BUS_CONFIG_PARSE_H
#include "bus/config.h"

struct bootfile_line {
    char *spec, *file; /* spec NULL: nodes that have no other */
    bool phase1;
    int line;
};

struct parser {
    const char *path;
    int line;
    struct cm_config *c;
    struct strlist *warnings;
    struct err *err;
    int next_addr, next_mac; /* the node that a line without NODE means */
    struct bootfile_line *boot;
    size_t nboot;
    config_line_fn *each; /* instead of all this: config_each_line() */
    void *each_arg;
};

/* "FILE:LINE: ..." as the error (EINVAL, returns -1) or as a warning. */
int config_bad(struct parser *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
int config_warn(struct parser *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
int config_nomem(struct parser *p);

int config_defaults(struct cm_config *c);                     /* -1: no memory */
int config_line(struct parser *p, int argc, char **argv);     /* argc > 0 */
int config_finish(struct parser *p); /* what only the whole file can tell */

#endif
