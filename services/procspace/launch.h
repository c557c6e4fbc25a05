/* launch.h - between launch.c and launch_image.c */
#ifndef PROCSPACE_LAUNCH_H
#define PROCSPACE_LAUNCH_H
#include "services/procspace/starting.h"

/* --- launch.c --- */
void launch_node_failed(struct starting *s, int node, const struct err *err);
void launch_proceed(struct starting *s); /* one question less */
void launch_manifest(void *arg, manifest_t *m, const struct err *err);

/* --- launch_image.c: what is another thing for images --- */
int image_mover(struct starting *s, struct svc_req *req, struct err *err);
int image_take_mover(struct starting *s, struct launch *l, struct err *err);
bool image_forwarded(const msgpack_object *body);
void image_take_addresses(struct starting *s, const msgpack_object *value);
void image_ask_maps(struct starting *s);
void image_take(struct starting *s, int node, const msgpack_object *value);
void image_pack(const struct starting *s, mp_buf *m);
void image_go_home(struct starting *s);

/* --- launch_kin.c: parents that nodes know by several names --- */
void launch_know(struct starting *s, const int *nodes, int n); /* in their order */
struct parent *launch_parent(const struct starting *s, int node);
/* How many of nodes know the parent as the first of them does: these come first now. */
int launch_alike(const struct starting *s, int *nodes, int n);
void launch_kin_free(struct starting *s);

#endif
