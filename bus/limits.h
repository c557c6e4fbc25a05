/* limits.h - the resource limits of a process, for what is started like it */
#ifndef BUS_LIMITS_H
#define BUS_LIMITS_H
#include <sys/types.h>
#include "bus/mp.h"

/* [[which, soft, hard]...], the numbers of <sys/resource.h>; pid 0: our own */
void limits_pack(pid_t pid, mp_buf *m);

#endif
