/* admin.c - changing nodes: state, owner, attributes, reboot; the library list */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/libbproc/lib.h"

/* errno of the first row of "failed": [[node, code, why]...]; -1 if there is one. */
static int first_failed(const msgpack_object *reply)
{
    const msgpack_object_array *a;
    int64_t code;

    if (mp_get_array(reply, "failed", &a, NULL) < 0)
        return lib_errno(EPROTO);
    if (a->size == 0)
        return 0;
    if (a->ptr[0].type != MSGPACK_OBJECT_ARRAY || a->ptr[0].via.array.size < 2 ||
        !mp_as_int(&a->ptr[0].via.array.ptr[1], &code) || code <= 0)
        return lib_errno(EPROTO);
    return lib_errno((int)code);
}

static void begin(mp_buf *m, int node, uint32_t more)
{
    mp_map(m, 1 + more);
    mp_key(m, "nodes");
    mp_array(m, 1);
    mp_int(m, node);
}

static int change(const char *topic, int absent, const mp_buf *m)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    if (lib_call(absent, topic, m, CALL_MS, &reply) < 0)
        return -1;
    return first_failed(&reply.data);
}

static int set_number(int node, const char *key, int64_t value)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    begin(&m, lib_node(node), 1);
    mp_kint(&m, key, value);
    return change("nodemgr.set", ENOENT, &m);
}

int bproc_chmod(int node, int mode)
{
    return mode & ~07777 ? lib_errno(EINVAL) : set_number(node, "mode", mode);
}

int bproc_chown(int node, int user)
{
    return user < 0 ? lib_errno(EINVAL) : set_number(node, "uid", user);
}

int bproc_chgrp(int node, int group)
{
    return group < 0 ? lib_errno(EINVAL) : set_number(node, "gid", group);
}

int bproc_nodesetstatus(int node, const char *status)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    begin(&m, lib_node(node), 1);
    mp_kstr(&m, "state", status);
    return change("nodemgr.set", ENOENT, &m);
}

int bproc_setnodeattr(int node, const char *name, const void *value, int size)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    if (size < 0)
        return lib_errno(EINVAL);
    if (strlen(name) + strlen(BPROC_XATTR_PREFIX) > BPROC_XATTR_MAX_NAME_SIZE)
        return lib_errno(ENOSPC);
    begin(&m, lib_node(node), 1);
    mp_key(&m, "attrs");
    mp_map(&m, 1);
    mp_key(&m, name);
    mp_bin(&m, value, (size_t)size);
    return change("nodemgr.set", ENOENT, &m);
}

/* --- what ends or changes a node's machine --- */

/* What an answer would say of the node and of us, if one were waited for. */
static int may_control(int node)
{
    struct bproc_node_info_t info;

    if (lib_on_node())
        return lib_errno(ENOSYS);
    if (geteuid() != 0)
        return lib_errno(EPERM);
    if (node < 0)
        return lib_errno(BE_INVALIDNODE);
    if (bproc_nodeinfo(node, &info) < 0)
        return errno == ENOENT ? lib_errno(ENOSYS) : -1;
    return strcmp(info.status, "down") == 0 ? lib_errno(BE_NODEDOWN) : 0;
}

static void pack_control(mp_buf *m, int node, const char *action, const char *arg)
{
    begin(m, node, arg ? 2 : 1);
    mp_kstr(m, "action", action);
    if (arg)
        mp_kstr(m, "arg", arg);
}

static int control(int node, const char *action, const char *arg)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    pack_control(&m, node, action, arg);
    return may_control(node) < 0 ? -1 : change("nodemgr.control", ENOSYS, &m);
}

/* Asked, and not waited for. */
static int control_async(int node, const char *action)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(gate_close) gate_t *g = NULL;
    struct err err = { 0 };
    uint64_t id = 0;

    mp_init(&m);
    pack_control(&m, node, action, NULL);
    if (may_control(node) < 0 || !(g = lib_open(ENOSYS)))
        return -1;
    if (gate_send(g, "nodemgr.control", &m, CALL_MS, &id, &err) < 0)
        return lib_fail(&err);
    return 0;
}

int bproc_nodereboot(int node) { return control(node, "reboot", NULL); }
int bproc_nodehalt(int node) { return control(node, "halt", NULL); }
int bproc_nodepwroff(int node) { return control(node, "pwroff", NULL); }
int bproc_nodereboot_async(int node) { return control_async(node, "reboot"); }
int bproc_nodehalt_async(int node) { return control_async(node, "halt"); }
int bproc_nodepwroff_async(int node) { return control_async(node, "pwroff"); }
int bproc_nodechroot(int node, const char *path) { return control(node, "chroot", path); }

/* "ADDRESS:PORT" for what is given, "-" for what stays. */
static int address(const struct sockaddr *a, int size, char *out, size_t room)
{
    const struct sockaddr_in *in = (const void *)a;
    char host[INET_ADDRSTRLEN];

    snprintf(out, room, "-");
    if (!a)
        return 0;
    if (size < (int)sizeof *in || a->sa_family != AF_INET)
        return lib_errno(EINVAL);
    if (in->sin_addr.s_addr == INADDR_ANY || in->sin_addr.s_addr == INADDR_NONE)
        snprintf(host, sizeof host, "-");
    else
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
    if (in->sin_port || host[0] != '-')
        snprintf(out, room, "%s:%u", host, ntohs(in->sin_port));
    return 0;
}

int bproc_nodereconnect(int node, struct sockaddr *remote, int remotesize,
                        struct sockaddr *local, int localsize)
{
    char to[32], from[32], arg[72];

    if (address(remote, remotesize, to, sizeof to) < 0 ||
        address(local, localsize, from, sizeof from) < 0)
        return -1;
    snprintf(arg, sizeof arg, "%s,%s", to, from);
    return control(node, "reconnect", arg);
}

/* --- the library list, which nodemgr keeps --- */

static int set_libs(const char *key, const char *name)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(mp_free) mp_buf m;

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 1);
    mp_key(&m, key);
    if (name) {
        mp_array(&m, 1);
        mp_str(&m, name);
    } else {
        mp_bool(&m, true);
    }
    return lib_call(ENOSYS, "nodemgr.setlibs", &m, CALL_MS, &reply);
}

int bproc_libclear(void) { return set_libs("clear", NULL); }
int bproc_libadd(const char *name) { return set_libs("add", name); }
int bproc_libdel(const char *name) { return set_libs("del", name); }

int bproc_liblist(char **list)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    char *text = NULL;
    size_t len;

    msgpack_unpacked_init(&reply);
    *list = NULL;
    if (lib_call(ENOSYS, "nodemgr.libs", NULL, CALL_MS, &reply) < 0)
        return -1;
    if (reply.data.type != MSGPACK_OBJECT_ARRAY)
        return lib_errno(EPROTO);
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return lib_errno(ENOMEM);
    for (uint32_t i = 0; i < reply.data.via.array.size; i++) {
        CLEANUP(cleanup_free) char *path = mp_dup(&reply.data.via.array.ptr[i]);
        if (path && *path)
            fwrite(path, 1, strlen(path) + 1, f);
    }
    fwrite("\0", 1, 2, f); /* an empty list is two as well */
    if (fclose(f) != 0) {
        free(text);
        return lib_errno(ENOMEM);
    }
    *list = text;
    return 0;
}
