/* asker.c - who of this node's processes asks
 *
 * The kernel says which process of the machine it is, and which user; /proc,
 * which number it has in the node's process space, and which groups.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/agent/agent.h"

#define GROUPS_MAX 65536

/* The numbers of a line; the caller frees them. */
static long *numbers(const char *text, const char *key, size_t *n)
{
    const char *p = strstr(text, key);
    long *v = NULL;
    size_t room = 0;
    char *end;

    *n = 0;
    for (p = p ? p + strlen(key) : ""; *p && *p != '\n' && *n < GROUPS_MAX; p = end) {
        long x = strtol(p, &end, 10);
        if (end == p)
            break;
        if (*n == room) {
            long *more = realloc(v, (room = room ? room * 2 : 16) * sizeof *v);
            if (!more)
                break;
            v = more;
        }
        v[(*n)++] = x;
        while (*end == ' ' || *end == '\t')
            end++;
    }
    return v;
}

int asker_pack(agent_t *a, const struct ucred *who, mp_buf *m, struct err *err)
{
    char path[64];
    size_t room = 256 * 1024, n;

    snprintf(path, sizeof path, "/proc/%d/status", (int)who->pid);
    CLEANUP(cleanup_free) char *text = malloc(room);
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t k = text && fd >= 0 ? read(fd, text, room - 1) : -1;
    if (k <= 0)
        return err_set(err, ESRCH, "the asker (pid %d) has gone", (int)who->pid);
    text[k] = 0;
    CLEANUP(cleanup_free) long *pids = numbers(text, "\nNSpid:\t", &n);
    long npid = n ? pids[n - 1] : who->pid;
    mp_map(m, 5);
    mp_kint(m, "npid", npid);
    mp_kint(m, "pid", launches_pid(a->launches, (int32_t)npid));
    mp_kint(m, "uid", who->uid);
    mp_kint(m, "gid", who->gid);
    mp_key(m, "groups");
    CLEANUP(cleanup_free) long *groups = numbers(text, "\nGroups:\t", &n);
    mp_array(m, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        mp_int(m, groups[i]);
    return 0;
}
