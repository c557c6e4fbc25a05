/* peer.c - whom a bpcopy serves, packed and taken apart */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "copy/copy.h"

#define GROUPS_MAX 65536

int copy_peer_user(struct copy_peer *p, const msgpack_object *map, struct err *err)
{
    const msgpack_object_array *groups;
    int64_t uid, gid, g;

    memset(p, 0, sizeof *p);
    if (mp_get_int(map, "uid", 0, UINT32_MAX - 1, &uid, err) < 0 ||
        mp_get_int(map, "gid", 0, UINT32_MAX - 1, &gid, err) < 0 ||
        mp_get_array(map, "groups", &groups, err) < 0)
        return -1;
    if (groups->size > GROUPS_MAX)
        return err_set(err, EPROTO, "groups: at most %d", GROUPS_MAX);
    p->uid = (uid_t)uid;
    p->gid = (gid_t)gid;
    p->groups = calloc(groups->size + 1, sizeof *p->groups);
    if (!p->groups)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < groups->size; i++) {
        if (!mp_as_int(&groups->ptr[i], &g) || g < 0 || g >= UINT32_MAX) {
            copy_peer_free(p);
            return err_set(err, EPROTO, "groups: want numbers");
        }
        p->groups[p->ngroups++] = (gid_t)g;
    }
    return 0;
}

int copy_peer_parse(struct copy_peer *p, const msgpack_object *map, struct err *err)
{
    CLEANUP(cleanup_free) char *addr = NULL, *token = NULL;
    int64_t node, port;
    const char *key;
    size_t len;

    if (copy_peer_user(p, map, err) < 0)
        return -1;
    if (mp_get_int(map, "node", -1, INT32_MAX, &node, err) < 0 ||
        mp_get_int(map, "port", 0, 65535, &port, err) < 0 ||
        mp_get_dup(map, "addr", &addr, err) < 0 || mp_get_dup(map, "token", &token, err) < 0 ||
        mp_get_bytes(map, "key", &key, &len, err) < 0 || len != BULK_KEY ||
        strlen(token) != BULK_TOKEN || strlen(addr) >= sizeof p->addr) {
        copy_peer_free(p);
        return err_set(err, EPROTO, "want {uid, gid, groups, node, addr, port, token, key}");
    }
    p->node = (int)node;
    p->port = (uint16_t)port;
    snprintf(p->addr, sizeof p->addr, "%s", addr);
    memcpy(p->ticket.token, token, BULK_TOKEN + 1);
    memcpy(p->ticket.key, key, BULK_KEY);
    return 0;
}

void copy_peer_pack(const struct copy_peer *p, mp_buf *m)
{
    mp_map(m, 8);
    mp_kint(m, "uid", p->uid);
    mp_kint(m, "gid", p->gid);
    mp_key(m, "groups");
    mp_array(m, (uint32_t)p->ngroups);
    for (int i = 0; i < p->ngroups; i++)
        mp_uint(m, p->groups[i]);
    mp_kint(m, "node", p->node);
    mp_kstr(m, "addr", p->addr);
    mp_kint(m, "port", p->port);
    mp_kstr(m, "token", p->ticket.token);
    mp_kbin(m, "key", p->ticket.key, BULK_KEY);
}

void copy_peer_free(struct copy_peer *p)
{
    free(p->groups);
    explicit_bzero(p, sizeof *p);
}
