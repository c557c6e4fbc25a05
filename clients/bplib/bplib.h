/* bplib.h - what the parts of bplib share */
#ifndef CLIENTS_BPLIB_H
#define CLIENTS_BPLIB_H
#include <stdbool.h>
#include "bus/config.h"
#include "bus/gate.h"

/* The list on stdout, the newest entry first. */
int list_print(gate_t *g, bool json, struct err *err);
/* verb: "add", "del" with paths, or "clear" with none. All or nothing. */
int list_change(gate_t *g, const char *verb, const struct strlist *paths, struct err *err);

#endif
