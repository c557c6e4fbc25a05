/* methods.c - the requests that bootsrv answers (doc/wire.md) */
#include "services/bootsrv/bootsrv.h"

/* bootsrv.status: {} -> {generation, setups: [[node, script, pid, begun]...]} */
static int on_status(void *self, struct svc_req *req, struct err *err)
{
    const bootsrv_t *b = self;

    (void)err;
    mp_map(req->reply, 2);
    mp_kint(req->reply, "generation", b->generation);
    mp_key(req->reply, "setups");
    setup_pack(b->setup, req->reply);
    return 0;
}

const struct svc_method bootsrv_methods[] = {
    { "bootsrv.status", on_status, SVC_USER },
    SVC_METHODS_END
};
