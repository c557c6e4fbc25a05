/* xattr.c - a node's attributes, read as extended attributes
 *
 * bproc.state (text with its NUL), bproc.addr (a struct sockaddr), and what
 * is set on the node. Anybody may read. A node that is down has a state only.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "services/bpfs/bpfs.h"

#define PREFIX_LEN (sizeof ATTR_PREFIX - 1)

/* false: no such attribute. */
static bool value_of(const struct fsnode *n, const char *name, const void **value, size_t *len)
{
    if (strcmp(name, "state") == 0) {
        *value = n->state;
        *len = strlen(n->state) + 1;
        return true;
    }
    if (strcmp(name, "addr") == 0 && n->addr.sin_family) {
        *value = &n->addr;
        *len = sizeof(struct sockaddr);
        return true;
    }
    const struct fsattr *a = fsnode_attr(n, name);
    if (!a)
        return false;
    *value = a->value;
    *len = a->len;
    return true;
}

bool xattr_is_there(const struct fsnode *n, const char *name)
{
    const void *value;
    size_t len;

    return value_of(n, name, &value, &len);
}

static void reply(fuse_req_t req, const void *value, size_t len, size_t size)
{
    if (size == 0)
        fuse_reply_xattr(req, len);
    else if (len > size)
        fuse_reply_err(req, ERANGE);
    else
        fuse_reply_buf(req, value, len);
}

void xattr_get(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    const struct fsnode *n = look_node(fuse_req_userdata(req), ino);
    const void *value;
    size_t len;

    if (!n || strncmp(name, ATTR_PREFIX, PREFIX_LEN) != 0 ||
        !value_of(n, name + PREFIX_LEN, &value, &len))
        fuse_reply_err(req, ENODATA);
    else
        reply(req, value, len, size);
}

void xattr_list(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    const struct fsnode *n = look_node(fuse_req_userdata(req), ino);
    CLEANUP(cleanup_free) char *names = NULL;
    size_t len = 0, room = 2 * (PREFIX_LEN + 8);

    if (!n) {
        reply(req, "", 0, size);
        return;
    }
    for (size_t i = 0; i < n->nattr; i++)
        room += PREFIX_LEN + strlen(n->attr[i].name) + 1;
    names = malloc(room);
    if (!names) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    for (size_t i = 0; i < n->nattr + 2; i++) {
        const char *name = i == 0 ? "state" : i == 1 ? "addr" : n->attr[i - 2].name;
        if (i == 1 && !n->addr.sin_family)
            continue;
        memcpy(names + len, ATTR_PREFIX, PREFIX_LEN);
        memcpy(names + len + PREFIX_LEN, name, strlen(name) + 1);
        len += PREFIX_LEN + strlen(name) + 1;
    }
    reply(req, names, len, size);
}
