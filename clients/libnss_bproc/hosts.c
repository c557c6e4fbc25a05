/* hosts.c - host names and addresses: n3, .3, master, self
 *
 * IPv4 only, one address a name. The canonical name is n and the number; the
 * master's is n-1, and n-2 is self.
 */
#include <errno.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "bus/nodespec.h"
#include "clients/libnss_bproc/nss.h"

enum nss_status _nss_bproc_gethostbyname4_r(const char *name, struct gaih_addrtuple **pat,
                                            char *buf, size_t len, int *err, int *h_err,
                                            int32_t *ttl);
enum nss_status _nss_bproc_gethostbyname3_r(const char *name, int af, struct hostent *h, char *buf,
                                            size_t len, int *err, int *h_err, int32_t *ttl,
                                            char **canon);
enum nss_status _nss_bproc_gethostbyname2_r(const char *name, int af, struct hostent *h, char *buf,
                                            size_t len, int *err, int *h_err);
enum nss_status _nss_bproc_gethostbyname_r(const char *name, struct hostent *h, char *buf,
                                           size_t len, int *err, int *h_err);
enum nss_status _nss_bproc_gethostbyaddr_r(const void *addr, socklen_t alen, int af,
                                           struct hostent *h, char *buf, size_t len, int *err,
                                           int *h_err);

static int node_of(const char *name)
{
    char *end;

    if (strcmp(name, "master") == 0 || strcmp(name, "n-1") == 0)
        return NODE_MASTER;
    if (strcmp(name, "self") == 0 || strcmp(name, "n-2") == 0)
        return NODE_SELF;
    if ((*name != 'n' && *name != '.') || name[1] < '0' || name[1] > '9')
        return NODE_NONE;
    long n = strtol(name + 1, &end, 10);
    return *end || n > NODE_MAX ? NODE_NONE : (int)n;
}

static enum nss_status done(enum nss_status rc, int *err, int *h_err)
{
    switch (rc) {
    case NSS_STATUS_SUCCESS: return rc;
    case NSS_STATUS_NOTFOUND:
        *err = ENOENT;
        *h_err = HOST_NOT_FOUND;
        return rc;
    case NSS_STATUS_TRYAGAIN:
        *err = EAGAIN;
        *h_err = TRY_AGAIN;
        return rc;
    default:
        *err = ECONNREFUSED;
        *h_err = NO_RECOVERY;
        return rc;
    }
}

static enum nss_status too_small(int *err, int *h_err)
{
    *err = ERANGE;
    *h_err = NETDB_INTERNAL;
    return NSS_STATUS_TRYAGAIN;
}

static enum nss_status fill(int node, struct in_addr addr, struct hostent *h, char *buf,
                            size_t len, int *err, int *h_err)
{
    struct in_addr *a = nss_take(&buf, &len, sizeof *a);
    char **list = nss_take(&buf, &len, 3 * sizeof *list), *name = nss_take(&buf, &len, 16);

    if (!a || !list || !name)
        return too_small(err, h_err);
    *a = addr;
    list[0] = (char *)a;
    list[1] = list[2] = NULL;
    snprintf(name, 16, "n%d", node);
    *h = (struct hostent){ .h_name = name, .h_aliases = &list[2], .h_addrtype = AF_INET,
                           .h_length = sizeof *a, .h_addr_list = list };
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_bproc_gethostbyname4_r(const char *name, struct gaih_addrtuple **pat,
                                            char *buf, size_t len, int *err, int *h_err,
                                            int32_t *ttl)
{
    struct in_addr addr = { 0 };
    int node = node_of(name);
    enum nss_status rc = node == NODE_NONE ? NSS_STATUS_NOTFOUND : nss_address(node, &addr);

    if (rc != NSS_STATUS_SUCCESS)
        return done(rc, err, h_err);
    struct gaih_addrtuple *t = *pat ? *pat : nss_take(&buf, &len, sizeof *t);
    char *canon = nss_take(&buf, &len, 16);
    if (!t || !canon)
        return too_small(err, h_err);
    snprintf(canon, 16, "n%d", node);
    *t = (struct gaih_addrtuple){ .name = canon, .family = AF_INET };
    t->addr[0] = addr.s_addr;
    *pat = t;
    if (ttl)
        *ttl = 0;
    return rc;
}

enum nss_status _nss_bproc_gethostbyname3_r(const char *name, int af, struct hostent *h, char *buf,
                                            size_t len, int *err, int *h_err, int32_t *ttl,
                                            char **canon)
{
    struct in_addr addr = { 0 };
    int node = af == AF_INET ? node_of(name) : NODE_NONE;
    enum nss_status rc = node == NODE_NONE ? NSS_STATUS_NOTFOUND : nss_address(node, &addr);

    if (rc != NSS_STATUS_SUCCESS)
        return done(rc, err, h_err);
    rc = fill(node, addr, h, buf, len, err, h_err);
    if (rc == NSS_STATUS_SUCCESS && ttl)
        *ttl = 0;
    if (rc == NSS_STATUS_SUCCESS && canon)
        *canon = h->h_name;
    return rc;
}

enum nss_status _nss_bproc_gethostbyname2_r(const char *name, int af, struct hostent *h, char *buf,
                                            size_t len, int *err, int *h_err)
{
    return _nss_bproc_gethostbyname3_r(name, af, h, buf, len, err, h_err, NULL, NULL);
}

enum nss_status _nss_bproc_gethostbyname_r(const char *name, struct hostent *h, char *buf,
                                           size_t len, int *err, int *h_err)
{
    return _nss_bproc_gethostbyname3_r(name, AF_INET, h, buf, len, err, h_err, NULL, NULL);
}

enum nss_status _nss_bproc_gethostbyaddr_r(const void *addr, socklen_t alen, int af,
                                           struct hostent *h, char *buf, size_t len, int *err,
                                           int *h_err)
{
    struct in_addr a;
    int node;

    if (af != AF_INET || alen != sizeof a)
        return done(NSS_STATUS_NOTFOUND, err, h_err);
    memcpy(&a, addr, sizeof a);
    enum nss_status rc = nss_node(a, &node);
    return rc == NSS_STATUS_SUCCESS ? fill(node, a, h, buf, len, err, h_err)
                                    : done(rc, err, h_err);
}
