/* methods.c - what can be asked of iofwd over the bus */
#include "services/iofwd/iofwd.h"

static void pack_launch(void *arg, launch_t *l)
{
    mp_buf *m = arg;
    uint64_t bulk = 0, done = 0;

    for (uint32_t i = 0; i < l->nranks; i++) {
        bulk += l->rank[i].out[0].bulk == BULK_LIVE;
        for (int k = 0; k < 2; k++)
            done += (l->rank[i].out[k].flags & OUT_DONE) != 0;
    }
    mp_map(m, 10);
    mp_kuint(m, "launch", l->id);
    mp_kint(m, "uid", l->uid);
    mp_kint(m, "pid", l->reader ? reader_pid(l->reader) : -1);
    mp_kuint(m, "ranks", l->nranks);
    mp_kuint(m, "nodes", l->nnodes);
    mp_kuint(m, "queued", l->reader ? reader_queued(l->reader) : 0);
    mp_kuint(m, "relayed", l->relayed);
    mp_kuint(m, "stdin", l->in_acked);
    mp_kuint(m, "bulk", bulk);
    mp_kuint(m, "ended", done);
}

/* iofwd.streams: nil -> [{launch, uid, pid (-1: lost its connection), ranks,
 * nodes, queued, relayed, stdin (bytes), bulk, ended (streams)}] */
static int on_streams(void *self, struct svc_req *req, struct err *err)
{
    struct iofwd *io = self;

    (void)err;
    mp_array(req->reply, launches_count(io->launches));
    launches_each(io->launches, pack_launch, req->reply);
    return 0;
}

const struct svc_method iofwd_methods[] = {
    { "iofwd.streams", on_streams, SVC_ADMIN },
    SVC_METHODS_END
};
