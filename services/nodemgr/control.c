/* control.c - reboot, halt and the like, relayed to agents
 *
 * An agent answers before it acts. With that answer the node is down: what
 * ran there is as good as dead, and its reason is known.
 */
#include "services/nodemgr/nodemgr.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AGENT_MS 10000

struct target { /* a node that is asked, and what lived there then */
    int node;
    char space[TOKEN_LEN + 1];
};

struct control {
    nodemgr_t *m;
    svc_token *token;
    char action[16];
    char who[WHO_LEN + 1];
    bool ends; /* the space does not survive it */
    struct target *target;
    size_t ntarget;
    mp_buf rows; /* [n, code, why] of those that failed */
    uint32_t failed;
};

static const struct action {
    const char *name;
    bool ends, wants_arg;
} actions[] = {
    { "reboot", true, false },     { "halt", true, false },       { "pwroff", true, false },
    { "chroot", false, true },     { "reconnect", false, true },
};

static void control_free(struct control *c)
{
    mp_free(&c->rows);
    free(c->target);
    free(c);
}

static void fail(struct control *c, int node, int code, const char *why)
{
    mp_array(&c->rows, 3);
    mp_int(&c->rows, node);
    mp_int(&c->rows, code);
    mp_str(&c->rows, why);
    c->failed++;
}

static const struct target *target_of(const struct control *c, int node)
{
    for (size_t i = 0; i < c->ntarget; i++)
        if (c->target[i].node == node)
            return &c->target[i];
    return NULL;
}

static void on_each(void *arg, int node, const msgpack_object *value, const struct err *err)
{
    struct control *c = arg;
    struct node *n = nodes_get(&c->m->nodes, node);
    const struct target *t = target_of(c, node);

    if (!value) {
        bool away = err->code == BE_NODEDOWN && n && !node_down(n);
        fail(c, node, err->code, away ? "the node is up, but its agent is not connected just now "
                                        "(restarted, or on its way to another address): try again"
                                      : err->text);
        return;
    }
    /* A machine that was quick is back already, with another space. */
    if (c->ends && n && t && strcmp(n->machine->space, t->space) == 0)
        life_lose(c->m, n, c->who, c->action);
}

static void on_done(void *arg)
{
    struct control *c = arg;
    CLEANUP(mp_free) mp_buf reply;

    mp_init(&reply);
    mp_map(&reply, 1);
    mp_key(&reply, "failed");
    mp_array(&reply, c->failed);
    msgpack_sbuffer_write(&reply.b, c->rows.b.data, c->rows.b.size);
    svc_answer(c->m->svc, c->token, &reply);
    control_free(c);
}

static const struct action *action_of(const msgpack_object *body, char **arg, struct err *err)
{
    CLEANUP(cleanup_free) char *name = NULL;

    if (mp_get_dup(body, "action", &name, err) < 0)
        return NULL;
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (strcmp(name, actions[i].name) != 0)
            continue;
        if (actions[i].wants_arg && mp_get_dup(body, "arg", arg, err) < 0)
            return NULL;
        return &actions[i];
    }
    err_set(err, EINVAL, "control: \"%.40s\"; want reboot, halt, pwroff, chroot or reconnect",
            name);
    return NULL;
}

/* Those of the list that can be asked are the targets; the others failed. */
static void pick(struct control *c, const nodelist_t *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct node *n = nodes_get(&c->m->nodes, list->node[i]);

        if (!n)
            fail(c, list->node[i], BE_INVALIDNODE, err_name(BE_INVALIDNODE));
        else if (node_down(n))
            fail(c, n->number, BE_NODEDOWN, err_name(BE_NODEDOWN));
        else if (!target_of(c, n->number)) {
            struct target *t = &c->target[c->ntarget++];
            t->node = n->number;
            memcpy(t->space, n->machine->space, sizeof t->space);
        }
    }
}

int on_control(void *self, struct svc_req *req, struct err *err)
{
    CLEANUP(nodelist_free) nodelist_t list;
    CLEANUP(cleanup_free) char *arg = NULL;
    CLEANUP(mp_free) mp_buf body;

    nodelist_init(&list);
    mp_init(&body);
    if (read_nodes(req->body, &list, err) < 0)
        return -1;
    const struct action *action = action_of(req->body, &arg, err);
    if (!action)
        return -1;
    struct control *c = calloc(1, sizeof *c);
    struct target *targets = calloc(list.n + 1, sizeof *targets);
    int *numbers = calloc(list.n + 1, sizeof *numbers);
    if (!c || !targets || !numbers) {
        free(c);
        free(targets);
        free(numbers);
        return err_set(err, ENOMEM, "out of memory");
    }
    c->m = self;
    c->token = req->token;
    c->ends = action->ends;
    c->target = targets;
    snprintf(c->action, sizeof c->action, "%s", action->name);
    who_text(req->w, c->who, sizeof c->who);
    mp_init(&c->rows);
    pick(c, &list);
    for (size_t i = 0; i < c->ntarget; i++)
        numbers[i] = targets[i].node;
    mp_map(&body, arg ? 2 : 1);
    mp_kstr(&body, "action", action->name);
    if (arg)
        mp_kstr(&body, "arg", arg);
    /* Our answer must be there before the asker has given up. */
    int64_t wait = req->w->deadline > 1000 && req->w->deadline < AGENT_MS
                   ? req->w->deadline - 500 : AGENT_MS;
    svc_call_nodes(c->m->svc, numbers, (int)c->ntarget, "control", &body, (int)wait, on_each,
                   on_done, c);
    free(numbers);
    return SVC_LATER;
}
