/* bpinit_kids.h - what is known of a process that a body made, or of a body */
#ifndef NODE_BPINIT_KIDS_H
#define NODE_BPINIT_KIDS_H
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>
#include <sys/syscall.h>
#include "node/bpinit.h"

#define LAUNCH_MARK "CM_LAUNCH=" /* in the environment, where there are no groups */
#define KID_ARGS 4096 /* bytes of a command line that are told */

struct seen {
    struct seen *next;
    pid_t npid, ppid, pgid, sid;
    uint64_t start; /* clock ticks since the machine's start */
    uint64_t launch;
    uint64_t args_at; /* where its arguments lie: an exec moves them */
    char comm[16];
    char *args; /* each ends with NUL */
    size_t args_len;
    int64_t uid, gid;
    int status;
    uint32_t round; /* of the look that saw it last */
    bool body, stopped;
    struct kin_parent *brother; /* whose child it was made as (CLONE_PARENT); or NULL */
    bool executing; /* a body whose arguments are not to be seen yet */
};

/* With npid, the name of a kid: no other process has both. */
static inline uint32_t kid_gen(const struct seen *s)
{
    return (uint32_t)(s->start & 0x7fffffff);
}

static inline uint64_t kids_name_hash(const char *args, size_t len)
{
    uint64_t h = 14695981039346656037u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)args[i]) * 1099511628211u;
    return h;
}

static inline void kids_send(pid_t npid, int sig, const siginfo_t *si)
{
    if (si)
        syscall(SYS_rt_sigqueueinfo, npid, sig, si);
    else
        kill(npid, sig);
}

enum kid_event { KID_BORN, KID_NAME, KID_GROUP, KID_STOP, KID_GONE };
void journal_kid(struct init *in, enum kid_event what, const struct seen *s);
void journal_pack_kid(const struct init *in, mp_buf *m, enum kid_event what,
                      const struct seen *s);
/* The ghost's pid of the body npid; 0: it is none. */
pid_t kids_ghost_of(const struct init *in, pid_t npid);

#endif
