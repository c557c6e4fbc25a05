/* say.c - the events that nodemgr publishes */
#include "services/nodemgr/nodemgr.h"

void say_state(nodemgr_t *m, const struct node *n, const char *was)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 7);
    mp_kint(&b, "node", n->number);
    mp_kstr(&b, "state", node_state(n));
    mp_kstr(&b, "was", was);
    mp_kstr(&b, "reach", node_reach(n));
    mp_kstr(&b, "why", node_word(n)->why);
    mp_kstr(&b, "who", node_word(n)->who);
    mp_kint(&b, "since", node_word(n)->since);
    svc_publish(m->svc, "node.state", &b);
}

void say_owner(nodemgr_t *m, const struct node *n)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 4);
    mp_kint(&b, "node", n->number);
    mp_kuint(&b, "mode", n->standing->mode);
    mp_kuint(&b, "uid", n->standing->uid);
    mp_kuint(&b, "gid", n->standing->gid);
    svc_publish(m->svc, "node.owner", &b);
}

void say_attr(nodemgr_t *m, const struct node *n, const char *name)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 2);
    mp_kint(&b, "node", n->number);
    mp_kstr(&b, "name", name);
    svc_publish(m->svc, "node.attr", &b);
}

void say_key(nodemgr_t *m, const struct node *n)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 2);
    mp_kint(&b, "node", n->number);
    mp_kstr(&b, "key", n->machine->key);
    svc_publish(m->svc, "node.key", &b);
}

void say_pending(nodemgr_t *m, const struct pending *p)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 4);
    mp_kstr(&b, "key", p->key);
    mp_kstr(&b, "addr", p->addr);
    mp_key(&b, "macs");
    mp_array(&b, (uint32_t)p->macs.n);
    for (size_t i = 0; i < p->macs.n; i++)
        mp_str(&b, p->macs.v[i]);
    mp_kstr(&b, "why", p->why);
    svc_publish(m->svc, "node.pending", &b);
}

void say_lost(nodemgr_t *m, int node, const char *space, const char *why)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 3);
    mp_kint(&b, "node", node);
    mp_kstr(&b, "space", space);
    mp_kstr(&b, "why", why);
    svc_publish(m->svc, "node.lost", &b);
}

void say_joined(nodemgr_t *m, const struct node *n)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 2);
    mp_kint(&b, "node", n->number);
    mp_kstr(&b, "space", n->machine->space);
    svc_publish(m->svc, "node.joined", &b);
}

void say_ready(nodemgr_t *m, const struct node *n)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 2);
    mp_kint(&b, "node", n->number);
    mp_kstr(&b, "space", n->machine->space);
    svc_publish(m->svc, "node.ready", &b);
}

void say_config(nodemgr_t *m)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 2);
    mp_kint(&b, "generation", m->generation);
    mp_kbool(&b, "trusted", m->config->trusted);
    svc_publish(m->svc, "node.config", &b);
}

void say_libs(nodemgr_t *m)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 1);
    mp_kuint(&b, "count", m->libs.n);
    svc_publish(m->svc, "node.libs", &b);
}
