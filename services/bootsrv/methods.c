/* methods.c - the requests that bootsrv answers (doc/wire.md) */
#include "services/bootsrv/bootsrv.h"
#include "services/bootsrv/dhcp.h"
#include "services/bootsrv/http.h"
#include "services/bootsrv/images.h"
#include "services/bootsrv/machines.h"

/* bootsrv.status: {} -> {generation, listening, dnsmasq, setups, images} */
static int on_status(void *self, struct svc_req *req, struct err *err)
{
    const bootsrv_t *b = self;

    (void)err;
    mp_map(req->reply, 5);
    mp_kint(req->reply, "generation", b->generation);
    mp_kint(req->reply, "dnsmasq", dhcp_pid(b->dhcp));
    mp_key(req->reply, "listening");
    mp_array(req->reply, (uint32_t)b->nnets);
    for (size_t i = 0; i < b->nnets; i++)
        mp_str(req->reply, b->net[i].addr);
    mp_key(req->reply, "setups");
    setup_pack(b->setup, req->reply);
    mp_key(req->reply, "images");
    images_pack(b->images, req->reply);
    return 0;
}

/* bootsrv.unknown: {} -> [{mac, addr, interface, since, seen}], by arrival */
static int on_unknown(void *self, struct svc_req *req, struct err *err)
{
    const bootsrv_t *b = self;

    (void)err;
    machines_pack_unknown(b->machines, req->reply);
    return 0;
}

const struct svc_method bootsrv_methods[] = {
    { "bootsrv.status", on_status, SVC_USER },
    { "bootsrv.unknown", on_unknown, SVC_USER },
    SVC_METHODS_END
};
