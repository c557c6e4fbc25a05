/* network.c - may what is much go in clear text? The config says, nodemgr has it */
#include "bus/bulk.h"
#include "services/procspace/procspace.h"

#define ASK_MS 10000
#define AGAIN_MS 500

void network_take(const msgpack_object *said)
{
    bulk_in_clear(mp_opt_bool(said, "trusted", false));
}

static void on_config(void *arg, const msgpack_object *value, const struct err *err)
{
    procspace_t *ps = arg;

    (void)err; /* it is not there yet, no more */
    if (value)
        network_take(value);
    else
        ps->network_timer = loop_timer(ps->loop, AGAIN_MS, false, network_ask, ps);
}

/* After it, events tell of changes. */
void network_ask(void *arg)
{
    procspace_t *ps = arg;
    CLEANUP(mp_free) mp_buf m;

    loop_timer_del(ps->loop, ps->network_timer);
    ps->network_timer = 0;
    mp_init(&m);
    mp_nil(&m);
    svc_call(ps->svc, "nodemgr.config", &m, ASK_MS, on_config, ps);
}
