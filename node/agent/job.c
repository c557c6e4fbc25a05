/* job.c - node.N.end_job: all that a job of the scheduler has started here
 *
 * A launch is of the job that its environment names, and of the user who asked
 * for it. bpinit knows those that run, whoever started them and however often
 * we were restarted since; those that wait for their files are ours.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "node/agent/agent.h"

struct asking {
    agent_t *a;
    svc_token *token;
};

uint64_t job_of(const msgpack_object *launch)
{
    const msgpack_object_array *env;

    if (mp_get_array(launch, "env", &env, NULL) < 0)
        return 0;
    for (uint32_t i = 0; i < env->size; i++) {
        const msgpack_object *o = &env->ptr[i];
        if ((o->type != MSGPACK_OBJECT_BIN && o->type != MSGPACK_OBJECT_STR) ||
            o->via.bin.size < 7 || memcmp(o->via.bin.ptr, "JOBID=", 6) != 0)
            continue;
        CLEANUP(cleanup_free) char *text = mp_dup(o);
        return text ? strtoull(text + 6, NULL, 10) : 0;
    }
    return 0;
}

static void on_ended(void *arg, const msgpack_object *map, const struct err *err)
{
    struct asking *q = arg;
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    if (map) {
        const msgpack_object *used = mp_get(map, "used");
        mp_map(&m, used ? 3 : 2);
        mp_kint(&m, "left", mp_opt_int(map, "left", 0));
        mp_kint(&m, "all", mp_opt_int(map, "all", 0) + launches_fetching(q->a->launches));
        if (used) {
            mp_key(&m, "used");
            mp_obj(&m, used);
        }
        svc_answer(q->a->svc, q->token, &m);
    } else {
        svc_fail(q->a->svc, q->token, err);
    }
    free(q);
}

/* node.N.end_job: {uid, job, sig, of?, attempt?} -> {left, all, used?} */
int on_end_job(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    int64_t uid, sig;
    uint64_t job;

    if (mp_get_int(req->body, "uid", -1, UINT32_MAX, &uid, err) < 0 ||
        mp_get_uint(req->body, "job", &job, err) < 0 ||
        mp_get_int(req->body, "sig", 0, 64, &sig, err) < 0)
        return -1;
    struct asking *q = malloc(sizeof *q);
    if (!q)
        return err_set(err, ENOMEM, "out of memory");
    *q = (struct asking){ a, req->token };
    if (sig)
        launches_cancel(a->launches, uid, job);
    space_end_job(a->space, uid, job, (int)sig, req->body, on_ended, q);
    return SVC_LATER;
}
