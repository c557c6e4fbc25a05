/* ticket.c - what a launch's answer gives to who has an image for it */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bus/pkt.h"
#include "image/ticket.h"

void ticket_free(struct image_ticket *t)
{
    for (char **l = t->lacks; l && *l; l++)
        free(*l);
    free(t->lacks);
    t->lacks = NULL;
}

int ticket_take(struct image_ticket *t, const msgpack_object *reply, struct err *err)
{
    const msgpack_object *image = mp_get(reply, "image");
    const msgpack_object_array *lacks;
    CLEANUP(cleanup_free) char *token = NULL;

    if (mp_get_dup(image, "token", &token, err) < 0 ||
        mp_get_array(image, "lacks", &lacks, err) < 0)
        return -1;
    snprintf(t->token, sizeof t->token, "%s", token);
    ticket_free(t);
    t->lacks = calloc(lacks->size + 1, sizeof *t->lacks);
    if (!t->lacks)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < lacks->size; i++)
        if (!(t->lacks[i] = mp_dup(&lacks->ptr[i])))
            return err_set(err, EPROTO, "lacks: want paths");
    return 0;
}

int ticket_show(const struct image_ticket *t, int conn, struct err *err)
{
    struct pkt p;

    if (pkt_send(conn, t->token, strlen(t->token), NULL, 0, err) < 0)
        return -1;
    int n = pkt_recv(conn, &p, err);
    if (n < 0)
        return -1;
    if (n == 0 || p.nfds != 1) {
        if (n)
            pkt_clear(&p);
        return err_set(err, ECONNREFUSED, "there is no way for its image (any more)");
    }
    int fd = p.fds[0];
    p.fds[0] = -1;
    pkt_clear(&p);
    return fd;
}
