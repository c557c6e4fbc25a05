/* conn.c - requests to the cluster, one connection each, and where we are */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/libbproc/lib.h"

/* Made by a node's agent in the node's root: its number. Only there. */
#define NODE_FILE "/run/clustermatic/node"

int lib_errno(int code)
{
    errno = code;
    return -1;
}

int lib_fail(const struct err *err) { return lib_errno(err->code ? err->code : EIO); }

static bool read_node(int *node)
{
    char buf[16];
    CLEANUP(cleanup_close) int fd = open(NODE_FILE, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);

    if (n <= 0)
        return false;
    buf[n] = 0;
    return sscanf(buf, "%d", node) == 1 && *node >= 0;
}

bool lib_on_node(void)
{
    int node;

    return read_node(&node);
}

int lib_node(int node)
{
    if (node == BPROC_NODE_SELF && !read_node(&node))
        return BPROC_NODE_MASTER;
    return node;
}

int bproc_currnode(void)
{
    int node;

    if (read_node(&node))
        return node;
    errno = 0; /* the master, and no failure */
    return BPROC_NODE_MASTER;
}

gate_t *lib_open(int absent)
{
    struct err err = { 0 };
    gate_t *g = gate_open_at(lib_on_node() ? NODE_RUN : NULL, &err);

    if (!g)
        errno = err.code == ECONNREFUSED ? absent : err.code;
    return g;
}

int lib_call(int absent, const char *topic, const mp_buf *m, int timeout_ms,
             msgpack_unpacked *reply)
{
    struct err err = { 0 };
    CLEANUP(mp_free) mp_buf empty;
    CLEANUP(gate_close) gate_t *g = lib_open(absent);

    mp_init(&empty);
    mp_map(&empty, 0);
    if (!g)
        return -1;
    if (gate_call(g, topic, m ? m : &empty, timeout_ms, reply, &err) < 0)
        return lib_fail(&err);
    return 0;
}

int bproc_version(struct bproc_version_t *version)
{
    CLEANUP(gate_close) gate_t *g = lib_open(ENOSYS);

    if (!g)
        return -1;
    memset(version, 0, sizeof *version);
    memcpy(version->bproc_magic, "BPr", 3);
#if defined(__x86_64__)
    version->arch = BPROC_ARCH_X86_64;
#elif defined(__i386__)
    version->arch = BPROC_ARCH_X86;
#elif defined(__powerpc64__)
    version->arch = BPROC_ARCH_PPC64;
#elif defined(__powerpc__)
    version->arch = BPROC_ARCH_PPC;
#elif defined(__alpha__)
    version->arch = BPROC_ARCH_ALPHA;
#endif
    version->magic = 0x42500000u | WIRE_VERSION;
    snprintf(version->version_string, sizeof version->version_string, "%s", CM_VERSION);
    return 0;
}

const char *bproc_strerror(int error) { return err_name(error); }
