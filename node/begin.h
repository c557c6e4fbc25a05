/* begin.h - between bpinit and bpbegin: what a process begins with
 *
 * One packet on the socket that bpbegin is started with, and with it the descriptors
 * that the process is to have, in the order of `at`; behind them one more: the image
 * of a copy, or a file of what is to be executed.
 */
#ifndef NODE_BEGIN_H
#define NODE_BEGIN_H
#include <stdint.h>

#define BEGIN_FDS 19 /* 0-2, and REDIRECT_MAX */

#define BEGIN_LIMITS 16

struct begin_limit {
    uint64_t soft, hard, resource;
};

struct begin_head {
    uint32_t copy; /* 1: of a process, by its image */
    uint32_t fds;
    int32_t at[BEGIN_FDS];
    uint32_t limits;
    struct begin_limit limit[BEGIN_LIMITS];
    /* of a program: its file has the groups, then texts, each with its NUL: the folder,
     * the path, argv, environment */
    uint32_t umask, groups, argc, envc;
    uint64_t bytes;
};

#endif
