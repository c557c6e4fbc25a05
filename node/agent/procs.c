/* procs.c - node.N.procs: bpinit's own word about what runs here */
#include <errno.h>
#include <stdlib.h>
#include "node/agent/agent.h"

struct asking {
    agent_t *a;
    svc_token *token;
};

static void on_list(void *arg, const msgpack_object *map, const struct err *err)
{
    struct asking *q = arg;
    const msgpack_object *procs = map ? mp_get(map, "procs") : NULL;
    const msgpack_object *kids = map ? mp_get(map, "kids") : NULL;
    const msgpack_object *heard = map ? mp_get(map, "heard") : NULL;
    CLEANUP(mp_free) mp_buf m;
    struct err e = { 0 };

    mp_init(&m);
    if (procs) {
        mp_map(&m, 3u + (kids != NULL) + (heard != NULL));
        mp_kstr(&m, "space", q->a->space_id);
        if (kids) {
            mp_key(&m, "kids");
            mp_obj(&m, kids);
        }
        if (heard) {
            mp_key(&m, "heard");
            mp_obj(&m, heard);
        }
        mp_key(&m, "procs");
        mp_obj(&m, procs);
        /* Same socket, same order: every event up to here is in the list. */
        mp_kuint(&m, "seq", report_seq(q->a->report));
        svc_answer(q->a->svc, q->token, &m);
    } else {
        err_set(&e, err ? err->code : EPROTO, "%s", err ? err->text : "bpinit's list is odd");
        svc_fail(q->a->svc, q->token, &e);
    }
    free(q);
}

int on_procs(void *self, struct svc_req *req, struct err *err)
{
    struct asking *q = malloc(sizeof *q);

    if (!q)
        return err_set(err, ENOMEM, "out of memory");
    *q = (struct asking){ self, req->token };
    space_list(q->a->space, on_list, q);
    return SVC_LATER;
}
