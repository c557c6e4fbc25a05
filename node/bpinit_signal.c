/* bpinit_signal.c - signals that come for bodies from the master
 *
 * Whoever sends one says it again until it is answered, and the answer may be
 * lost with an agent, a bus or procspace: each has a number of its own, and one that
 * we have heard is not acted on twice.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "node/bpinit.h"
#include "node/bpinit_kids.h"
#include "node/bpinit_kin.h"

#define KEEP 4096 /* the last ones */
#define FRESH_MS 120000 /* that may be said again by who has not heard the answer */

struct signals {
    struct {
        uint64_t id, launch; /* the body's; 0: a kid's */
        pid_t pid; /* the ghost's */
        int64_t at;
    } heard[KEEP];
    uint64_t n;
};

signals_t *signals_create(struct err *err)
{
    signals_t *s = calloc(1, sizeof *s);

    if (!s)
        err_set(err, ENOMEM, "signals: out of memory");
    return s;
}

void signals_destroy(signals_t **s)
{
    free(*s);
    *s = NULL;
}

static bool heard_before(signals_t *s, pid_t pid, uint64_t launch, const msgpack_object *map)
{
    uint64_t id = 0;

    if (!mp_get(map, "once") || mp_get_uint(map, "once", &id, NULL) < 0 || !id)
        return false;
    for (unsigned i = 0; i < KEEP; i++)
        if (s->heard[i].id == id && s->heard[i].pid == pid)
            return true;
    s->heard[s->n % KEEP].id = id;
    s->heard[s->n % KEEP].launch = launch;
    s->heard[s->n % KEEP].at = now_ms();
    s->heard[s->n++ % KEEP].pid = pid;
    return false;
}

void signals_pack(const signals_t *s, pid_t pid, uint64_t launch, mp_buf *m)
{
    CLEANUP(mp_free) mp_buf ids;
    uint32_t n = 0;

    mp_init(&ids);
    for (uint64_t i = s->n > KEEP ? s->n - KEEP : 0; i < s->n; i++) {
        uint64_t of = s->heard[i % KEEP].launch;
        if (s->heard[i % KEEP].pid != pid || (launch && of && of != launch))
            continue;
        mp_uint(&ids, s->heard[i % KEEP].id);
        n++;
    }
    mp_array(m, n);
    msgpack_sbuffer_write(&m->b, ids.b.data, ids.b.size);
}

void signals_pack_all(const signals_t *s, mp_buf *m)
{
    int64_t since = now_ms() - FRESH_MS;
    uint32_t n = 0;

    for (unsigned i = 0; i < KEEP; i++)
        n += s->heard[i].id && s->heard[i].at >= since;
    mp_array(m, 2 * n);
    for (unsigned i = 0; i < KEEP; i++)
        if (s->heard[i].id && s->heard[i].at >= since) {
            mp_int(m, s->heard[i].pid);
            mp_uint(m, s->heard[i].id);
        }
}

/* SIGCONTs and SIGSTOPs are numbered, each among their own: what our body does says
 * how many it has had. False: it has had one of the other kind that was sent after this,
 * which is as good as had then. */
static bool count(struct init *in, struct body *b, int sig, const msgpack_object *map, bool again)
{
    uint32_t *mine = sig == SIGCONT ? &b->conts : &b->halts;
    uint32_t *others = sig == SIGCONT ? &b->halts : &b->conts;
    int64_t number = mp_opt_int(map, "conts", *mine), after = mp_opt_int(map, "after", *others);

    if (after < *others)
        return false;
    *others = (uint32_t)after;
    if (number <= *mine)
        return true;
    *mine = (uint32_t)number;
    /* A master that was restarted counts it anew: how the body is holds still. */
    if (again && sig == SIGCONT && b->stopped)
        journal_stop(in, b, SIGSTOP);
    else if (again && sig == SIGSTOP && !b->stopped)
        journal_cont(in, b);
    return true;
}

/* ["signal", {pid, gen, sig, value?, from_uid?, from_pid?, npid?, conts?, after?, once?}] */
int signal_take(struct init *in, const msgpack_object *map, struct err *err)
{
    int64_t pid, gen, sig;

    if (mp_get_int(map, "pid", 1, INT32_MAX, &pid, err) < 0 ||
        mp_get_int(map, "gen", 0, UINT32_MAX, &gen, err) < 0 ||
        mp_get_int(map, "sig", 0, 64, &sig, err) < 0)
        return -1;
    int64_t kid = mp_opt_int(map, "npid", 0);
    struct body *b = kid ? NULL : bodies_by_pid(in->bodies, (pid_t)pid);
    if (!kid && (!b || b->gen != gen))
        return 0; /* it ended while the signal was on its way */
    bool again = heard_before(in->signals, (pid_t)pid, b ? b->launch : 0, map);
    bool late = b && (sig == SIGCONT || sig == SIGSTOP) && !count(in, b, (int)sig, map, again);
    if (again || late)
        return 0;
    siginfo_t si;
    memset(&si, 0, sizeof si);
    si.si_signo = (int)sig;
    si.si_code = SI_QUEUE;
    si.si_pid = (pid_t)mp_opt_int(map, "from_pid", 0);
    si.si_uid = (uid_t)mp_opt_int(map, "from_uid", 0);
    si.si_value.sival_ptr = (void *)(intptr_t)mp_opt_int(map, "value", 0);
    const siginfo_t *with = mp_get(map, "value") ? &si : NULL;
    if (b && sig == SIGCONT)
        kin_child_continues(b->parent, b->npid);
    if (b)
        kids_send(b->npid, (int)sig, with);
    else
        kids_signal(in->kids, (pid_t)kid, (uint32_t)gen, (int)sig, with);
    if (b && sig == SIGCONT)
        kin_child_continues(b->parent, b->npid);
    return 0;
}
