/* methods.h - procspace's table of requests, for main.c */
#ifndef PROCSPACE_METHODS_H
#define PROCSPACE_METHODS_H
#include "services/procspace/procspace.h"

extern const struct svc_method procspace_methods[];
void on_node_event(void *arg, const struct wire *w, const msgpack_object *body);

#endif
