/* options.h - the command line of bpsh, decoded */
#ifndef BPSH_OPTIONS_H
#define BPSH_OPTIONS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OPTIONS_WITH = 256 }; /* at most so many --with */
enum { STDIN_ALL = -1, STDIN_NONE = -2 }; /* else a rank */

struct options {
    const char *spec;     /* node specification */
    char **argv;          /* the command and its arguments */
    bool null_all;        /* -N: nothing is forwarded */
    bool lines, prefix;   /* -L -p */
    bool sequential, divider; /* -s -d */
    bool fold;            /* --fold */
    bool time;            /* -t */
    size_t buffer;        /* -b: longest line, and bytes of one read of stdin */
    bool buffer_given;
    int64_t stdin_to;     /* a rank, STDIN_ALL or STDIN_NONE */
    const char *file[3];  /* -I -O -E: files on the node */
    uint64_t mem;         /* --mem: bytes; 0 no limit */
    uint32_t cpu_milli;   /* --cpus: thousandths; 0 no limit */
    int64_t timeout_ms;   /* --timeout; 0 none */
    const char *via;      /* --via: started in the command's place; NULL the command itself */
    const char *with[OPTIONS_WITH]; /* --with: files and folders that are sent along */
    uint32_t withs;
    int report_fd;        /* --report-fd: what becomes of each process; -1 nobody asks */
    int64_t first_rank;   /* --first-rank: shown by -r and the report, and BPROC_RANK */
    bool by_rank;         /* -r: prefixes are ranks */
};

/* 0: go on. 1: nothing more to do, *status is the exit status (help, version,
 * or a mistake that has been named on stderr). */
int options_parse(struct options *o, int argc, char **argv, int *status);

/* Bytes may go to stdout as they come, in any portions. */
bool options_raw(const struct options *o);

#endif
