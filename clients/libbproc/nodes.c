/* nodes.c - what is known of nodes: state, owner, address, attributes */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/libbproc/lib.h"

_Static_assert(sizeof(struct bproc_node_info_t) == 48, "layout of BProc 4");
_Static_assert(offsetof(struct bproc_node_info_t, mode) == 20, "layout of BProc 4");
_Static_assert(offsetof(struct bproc_node_info_t, addr) == 32, "layout of BProc 4");
_Static_assert(sizeof(struct bproc_proc_info_t) == 8, "layout of BProc 4");
_Static_assert(sizeof(struct bproc_version_t) == 32, "layout of BProc 4");
_Static_assert(offsetof(struct bproc_version_t, version_string) == 8, "layout of BProc 4");
#if __SIZEOF_LONG__ == 8
_Static_assert(sizeof(struct bproc_node_set_t) == 16, "layout of BProc 4");
_Static_assert(offsetof(struct bproc_node_set_t, node) == 8, "layout of BProc 4");
_Static_assert(sizeof(struct bproc_io_t) == 280, "layout of BProc 4");
_Static_assert(offsetof(struct bproc_io_t, d) == 8, "layout of BProc 4");
_Static_assert(offsetof(struct bproc_io_t, d.file.mode) == 12, "layout of BProc 4");
_Static_assert(offsetof(struct bproc_io_t, d.file.offset) == 16, "layout of BProc 4");
_Static_assert(offsetof(struct bproc_io_t, d.file.name) == 24, "layout of BProc 4");
_Static_assert(offsetof(struct bproc_io_t, d.mem.size) == 16, "layout of BProc 4");
#endif

/* "198.18.1.0" or "198.18.1.0:2223"; false: none. */
static bool parse_addr(const char *text, struct sockaddr *out)
{
    struct sockaddr_in in = { .sin_family = AF_INET };
    char host[64];

    if (!text)
        return false;
    snprintf(host, sizeof host, "%.*s", (int)strcspn(text, ":/"), text);
    if (inet_pton(AF_INET, host, &in.sin_addr) != 1)
        return false;
    memcpy(out, &in, sizeof *out);
    return true;
}

/* --- one node --- */

int lib_node_map(int node, msgpack_unpacked *reply, const msgpack_object **map)
{
    CLEANUP(mp_free) mp_buf m;
    char spec[16];

    mp_init(&m);
    node = lib_node(node);
    if (node < BPROC_NODE_MASTER)
        return lib_errno(ENOENT);
    snprintf(spec, sizeof spec, "%d", node);
    mp_map(&m, 1);
    mp_kstr(&m, "spec", node < 0 ? "master" : spec);
    if (lib_call(ENOENT, "nodemgr.list", &m, CALL_MS, reply) < 0)
        return errno == EINVAL ? lib_errno(ENOENT) : -1;
    if (reply->data.type != MSGPACK_OBJECT_ARRAY || reply->data.via.array.size != 1)
        return lib_errno(EPROTO);
    *map = &reply->data.via.array.ptr[0];
    return 0;
}

static int master_addr(struct sockaddr *out)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object_array *a;

    msgpack_unpacked_init(&reply);
    if (lib_call(ENOENT, "nodemgr.config", NULL, CALL_MS, &reply) < 0)
        return -1;
    if (mp_get_array(&reply.data, "master", &a, NULL) < 0)
        return lib_errno(EPROTO);
    for (uint32_t i = 0; i < a->size; i++) {
        CLEANUP(cleanup_free) char *text = mp_dup(&a->ptr[i]);
        if (parse_addr(text, out))
            return 0;
    }
    /* None is configured: the one on the nodes' network. */
    if (mp_get(&reply.data, "address")) {
        CLEANUP(cleanup_free) char *text = mp_opt_dup(&reply.data, "address");
        if (parse_addr(text, out))
            return 0;
    }
    return lib_errno(ENODATA);
}

static int map_addr(const msgpack_object *map, struct sockaddr *out)
{
    CLEANUP(cleanup_free) char *text = mp_opt_dup(map, "addr");

    if (mp_opt_int(map, "node", 0) == BPROC_NODE_MASTER)
        return master_addr(out);
    if (mp_is(mp_get(map, "state"), "down"))
        return lib_errno(ENODATA);
    return parse_addr(text, out) ? 0 : lib_errno(ENODATA);
}

int lib_info(const msgpack_object *map, struct bproc_node_info_t *info)
{
    int64_t node, mode, uid, gid;
    CLEANUP(cleanup_free) char *state = mp_opt_dup(map, "state");
    CLEANUP(cleanup_free) char *addr = mp_opt_dup(map, "addr");

    memset(info, 0, sizeof *info);
    if (!state || mp_get_int(map, "node", -1, INT_MAX, &node, NULL) < 0 ||
        mp_get_int(map, "mode", 0, 07777, &mode, NULL) < 0 ||
        mp_get_int(map, "uid", 0, UINT32_MAX, &uid, NULL) < 0 ||
        mp_get_int(map, "gid", 0, UINT32_MAX, &gid, NULL) < 0)
        return lib_errno(EPROTO);
    info->node = (int)node;
    snprintf(info->status, sizeof info->status, "%s", state);
    info->mode = (unsigned)mode;
    info->user = (unsigned)uid;
    info->group = (unsigned)gid;
    if (strcmp(state, "down") != 0)
        parse_addr(addr, &info->addr);
    return 0;
}

int bproc_nodeinfo(int node, struct bproc_node_info_t *info)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object *map;

    msgpack_unpacked_init(&reply);
    if (lib_node_map(node, &reply, &map) < 0)
        return errno == ENOENT ? lib_errno(BE_INVALIDNODE) : -1;
    if (lib_info(map, info) < 0)
        return -1;
    if (info->node == BPROC_NODE_MASTER)
        master_addr(&info->addr); /* where none is known it stays empty */
    return 0;
}

/* As getxattr(2): size 0 asks for the length. */
static int give(const void *value, size_t len, void *out, int size)
{
    if (size < 0)
        return lib_errno(EINVAL);
    if (size > 0 && len > (size_t)size)
        return lib_errno(ERANGE);
    if (size > 0)
        memcpy(out, value, len);
    return (int)len;
}

static int give_state(const msgpack_object *map, void *out, int size)
{
    CLEANUP(cleanup_free) char *state = mp_opt_dup(map, "state");

    if (!state || mp_opt_int(map, "node", 0) == BPROC_NODE_MASTER)
        return lib_errno(ENODATA);
    return give(state, strlen(state) + 1, out, size);
}

int bproc_nodestatus(int node, char *status, int len)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object *map;

    msgpack_unpacked_init(&reply);
    if (lib_node_map(node, &reply, &map) < 0)
        return -1;
    return give_state(map, status, len);
}

int bproc_nodeaddr(int node, struct sockaddr *addr, int *size)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object *map;
    struct sockaddr a;

    msgpack_unpacked_init(&reply);
    memset(&a, 0, sizeof a);
    if (*size < 0)
        return lib_errno(EINVAL);
    if (lib_node_map(node, &reply, &map) < 0 || map_addr(map, &a) < 0)
        return -1;
    if (*size < (int)sizeof a)
        return lib_errno(ERANGE);
    memcpy(addr, &a, sizeof a);
    *size = (int)sizeof a;
    return 0;
}

int bproc_masteraddr(struct sockaddr *addr, int *size)
{
    return bproc_nodeaddr(BPROC_NODE_MASTER, addr, size);
}

/* Facts of the machine that need not be set by anybody. */
static int give_fact(const msgpack_object *map, const char *name, void *out, int size)
{
    int64_t mem = mp_opt_int(map, "mem", 0);
    int32_t cpus = (int32_t)mp_opt_int(map, "cpus", 0);

    if (strcmp(name, "cpus") == 0 && cpus > 0)
        return give(&cpus, sizeof cpus, out, size);
    if (strcmp(name, "mem") == 0 && mem > 0)
        return give(&mem, sizeof mem, out, size);
    return lib_errno(ENODATA);
}

int bproc_getnodeattr(int node, const char *name, void *value, int size)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const msgpack_object *map;
    struct sockaddr a;
    const char *p;
    size_t len;

    msgpack_unpacked_init(&reply);
    if (lib_node_map(node, &reply, &map) < 0)
        return -1;
    if (strcmp(name, "state") == 0)
        return give_state(map, value, size);
    if (strcmp(name, "addr") == 0)
        return map_addr(map, &a) < 0 ? -1 : give(&a, sizeof a, value, size);
    if (mp_get_bytes(mp_get(map, "attrs"), name, &p, &len, NULL) == 0)
        return give(p, len, value, size);
    return mp_is(mp_get(map, "state"), "down") ? lib_errno(ENODATA)
                                               : give_fact(map, name, value, size);
}

static bool in_group(gid_t gid)
{
    int n = getgroups(0, NULL);
    CLEANUP(cleanup_free) gid_t *g = malloc(((size_t)(n > 0 ? n : 0) + 1) * sizeof *g);

    if (gid == getgid())
        return true;
    n = g && n > 0 ? getgroups(n, g) : 0;
    while (n-- > 0)
        if (g[n] == gid)
            return true;
    return false;
}

int bproc_access(int node, int mode)
{
    struct bproc_node_info_t info;

    if (mode & ~7)
        return lib_errno(EINVAL);
    if (bproc_nodeinfo(node, &info) < 0)
        return errno == BE_INVALIDNODE ? lib_errno(ENOENT) : -1;
    unsigned bits = info.user == getuid() ? info.mode >> 6
                    : in_group(info.group) ? info.mode >> 3 : info.mode;
    if (getuid() == 0) /* passes by all but a mode without any x */
        bits = 6 | ((info.mode & 0111) != 0);
    return (bits & (unsigned)mode) == (unsigned)mode ? 0 : lib_errno(EACCES);
}

/* --- all nodes --- */

static int fill(struct bproc_node_set_t *ns, const msgpack_object *list)
{
    if (list->type != MSGPACK_OBJECT_ARRAY || list->via.array.size > INT_MAX)
        return lib_errno(EPROTO);
    if (bproc_nodeset_init(ns, (int)list->via.array.size) < 0)
        return -1;
    for (uint32_t i = 0; i < list->via.array.size; i++)
        if (lib_info(&list->via.array.ptr[i], &ns->node[i]) < 0) {
            int code = errno;
            bproc_nodeset_free(ns);
            return lib_errno(code);
        }
    return ns->size;
}

int bproc_nodelist(struct bproc_node_set_t *ns)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    bproc_nodeset_init(ns, 0);
    if (lib_call(ENOENT, "nodemgr.list", NULL, CALL_MS, &reply) < 0)
        return -1;
    return fill(ns, &reply.data);
}

int bproc_numnodes(void)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    if (lib_call(ENOENT, "nodemgr.list", NULL, CALL_MS, &reply) < 0)
        return -1;
    return reply.data.type == MSGPACK_OBJECT_ARRAY ? (int)reply.data.via.array.size
                                                   : lib_errno(EPROTO);
}

int bproc_nodenumber(const struct sockaddr *addr, int size)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    const struct sockaddr_in *want = (const void *)addr;
    struct sockaddr have;

    msgpack_unpacked_init(&reply);
    if (size < (int)sizeof *want || addr->sa_family != AF_INET)
        return lib_errno(EINVAL);
    if (lib_call(ENOENT, "nodemgr.list", NULL, CALL_MS, &reply) < 0)
        return -1;
    for (uint32_t i = 0; reply.data.type == MSGPACK_OBJECT_ARRAY &&
                         i < reply.data.via.array.size; i++) {
        const msgpack_object *map = &reply.data.via.array.ptr[i];
        if (map_addr(map, &have) == 0 &&
            memcmp(&((struct sockaddr_in *)(void *)&have)->sin_addr, &want->sin_addr,
                   sizeof want->sin_addr) == 0)
            return (int)mp_opt_int(map, "node", -1);
    }
    return lib_errno(ENOENT);
}
