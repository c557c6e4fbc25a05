/* limits.h - our resource limits, for what we have started */
#ifndef COMMON_LIMITS_H
#define COMMON_LIMITS_H
#include "bus/mp.h"

/* [[which, soft, hard]...], the numbers of <sys/resource.h> */
void limits_pack(mp_buf *m);

#endif
