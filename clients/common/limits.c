/* limits.c - our resource limits, for what we have started */
#include <sys/resource.h>
#include "clients/common/limits.h"

void limits_pack(mp_buf *m)
{
    mp_array(m, RLIM_NLIMITS);
    for (unsigned i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit r = { RLIM_INFINITY, RLIM_INFINITY };
        getrlimit((int)i, &r);
        mp_array(m, 3);
        mp_uint(m, i);
        mp_uint(m, r.rlim_cur);
        mp_uint(m, r.rlim_max);
    }
}
