/* ticket.h - what a launch's answer gives to who has an image for it */
#ifndef IMAGE_TICKET_H
#define IMAGE_TICKET_H
#include "bus/mp.h"

struct image_ticket { /* zeroed at first */
    char token[64];
    char **lacks; /* files that have to go by value; ends with NULL */
};

int ticket_take(struct image_ticket *t, const msgpack_object *reply, struct err *err);
void ticket_free(struct image_ticket *t);
/* Shown at a connection to RUN/move: the descriptor that the image goes to; -1. */
int ticket_show(const struct image_ticket *t, int conn, struct err *err);

#endif
