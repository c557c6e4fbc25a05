/* machines.h - machines that boot: known ones by their node, others by MAC */
#ifndef BOOTSRV_MACHINES_H
#define BOOTSRV_MACHINES_H
#include "bus/image.h"
#include "services/bootsrv/bootsrv.h"

#define STAGES_MAX 40

struct stage {
    int rank; /* in the order of stages */
    int64_t at; /* wall clock, ms */
    int64_t ms; /* since its kernel started, as the machine says; -1: not told */
    bool error;
    char *text; /* NULL: none */
};

struct machine {
    int node; /* -1: no line of the configuration names its MAC */
    char mac[MAC_TEXT], addr[64], interface[16];
    char image[IMAGE_HASH]; /* that it was given last */
    int64_t first, seen;    /* wall clock, ms */
    struct stage stage[STAGES_MAX];
    size_t nstages;
    bool news; /* not written yet: history.c */
    struct machine *next;
};

machines_t *machines_create(bootsrv_t *b, struct err *err);
void machines_destroy(machines_t **s);

/* By its MAC (normalised), made if it is new; an unknown one is announced.
 * addr, interface may be NULL. NULL: no memory. */
struct machine *machines_mac(machines_t *s, const char *mac, const char *addr,
                             const char *interface);
/* Who was seen at this address last; NULL: nobody. */
struct machine *machines_addr(machines_t *s, const char *addr);
struct machine *machines_node(machines_t *s, int node, bool make);
/* A node that lives, as nodemgr.list tells it: when it joined, and left state boot.
 * What we have not heard, because we did not run then, is noted now. */
void machines_there(machines_t *s, int node, const msgpack_object *told);
void machines_renumber(machines_t *s); /* the configuration is another */
struct machine *machines_first(const machines_t *s); /* then ->next */
/* A stage that was noted by one before us. */
void machine_had_stage(struct machine *m, const char *word, int64_t at, int64_t ms, bool error,
                       const char *text);
/* Note a stage, and publish it. -1: no such stage. */
int machine_stage(machines_t *s, struct machine *m, const char *word, int64_t ms, bool error,
                  const char *text);
const char *machine_stage_word(const struct machine *m); /* the last; "" */
void machines_pack_unknown(const machines_t *s, mp_buf *out); /* [{mac, addr, interface, since, seen}] */
/* {node, mac, addr, image, stages: [[word, at, ms, error, text]...]} */
void machine_pack(const struct machine *m, mp_buf *out);

#endif
