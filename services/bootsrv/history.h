/* history.h - each node's last boot, kept over a restart of ours */
#ifndef BOOTSRV_HISTORY_H
#define BOOTSRV_HISTORY_H
#include "services/bootsrv/bootsrv.h"

typedef struct history history_t;

/* Reads what was kept into b->machines. Errors are those of bus/store.h. */
history_t *history_open(bootsrv_t *b, struct err *err);
void history_close(history_t **h); /* what is not written yet is */
/* A node has come further: it is written soon. */
void history_note(history_t *h);

#endif
