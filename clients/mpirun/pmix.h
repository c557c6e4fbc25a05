/* pmix.h - between notes.c (libpmix's thread) and pmix.c (our loop) */
#ifndef MPIRUN_PMIX_H
#define MPIRUN_PMIX_H
#include <pmix.h>
#include <pmix_server.h>
#include "clients/mpirun/bppmi.h"

enum note_kind { NOTE_IN, NOTE_OUT, NOTE_ABORT, NOTE_FENCE, NOTE_ASK, NOTE_FOUND };

struct note { /* what libpmix's thread tells or asks */
    enum note_kind kind;
    uint32_t rank;
    int number;  /* abort: status; fence: nodes that take part; ask: of which rank;
                  * found: for which node */
    char text[64]; /* fence: its key; found: the asker's id */
    char *data;  /* owned */
    size_t len;
    pmix_op_cbfunc_t op;
    pmix_modex_cbfunc_t modex;
    void *arg;
};

/* notes.c: starts libpmix's server; its files are in folder. */
int notes_open(struct helper *h, const char *folder, struct err *err);
/* A node asks for the data of a rank of ours: pmix_found() when it is there. */
void notes_request(struct helper *h, int from, const char *id, uint32_t rank);

/* pmix.c, in our loop */
void pmix_fence(struct helper *h, const struct note *n);
void pmix_ask(struct helper *h, const struct note *n);
void pmix_found(struct helper *h, const struct note *n);

#endif
