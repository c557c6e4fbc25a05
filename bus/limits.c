/* limits.c - the resource limits of a process, for what is started like it */
#include <sys/resource.h>
#include "bus/limits.h"

void limits_pack(pid_t pid, mp_buf *m)
{
    mp_array(m, RLIM_NLIMITS);
    for (unsigned i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit r = { RLIM_INFINITY, RLIM_INFINITY };
        prlimit(pid, (__rlimit_resource_t)i, NULL, &r);
        mp_array(m, 3);
        mp_uint(m, i);
        mp_uint(m, r.rlim_cur);
        mp_uint(m, r.rlim_max);
    }
}
