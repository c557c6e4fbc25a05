/* echo.c - the service "bench": gives back what it is asked
 *
 * A service like any other, over bus/svc.h, so that a round trip to it shows
 * what the bus costs and nothing else.
 */
#include <stdio.h>
#include <stdlib.h>
#include "bus/svc.h"

static int on_echo(void *self, struct svc_req *req, struct err *err)
{
    (void)self;
    (void)err;
    mp_obj(req->reply, req->body);
    return 0;
}

static const struct svc_method methods[] = {
    { "bench.echo", on_echo, SVC_USER },
    SVC_METHODS_END,
};

int main(void)
{
    struct err err = { 0 };

    CLEANUP(loop_destroy) loop_t *loop = loop_create(&err);
    CLEANUP(svc_destroy) svc_t *svc =
        loop ? svc_create(loop, "bench", methods, NULL, &err) : NULL;
    if (!svc || loop_stop_signals(loop, &err) < 0) {
        fprintf(stderr, "echo: %s\n", err.text);
        return 1;
    }
    return loop_run(loop) < 0;
}
