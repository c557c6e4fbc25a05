/* host.c - which node has this address: -A */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "clients/bpstat/bpstat.h"
#include "clients/common/opt.h"

static void addrinfo_free(struct addrinfo **list)
{
    if (*list)
        freeaddrinfo(*list);
}

/* Does one of these addresses read like text? */
static bool has_address(const struct addrinfo *list, const char *text)
{
    for (; list; list = list->ai_next) {
        char name[INET6_ADDRSTRLEN] = "";

        if (list->ai_family == AF_INET)
            inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)list->ai_addr)->sin_addr,
                      name, sizeof(name));
        else if (list->ai_family == AF_INET6)
            inet_ntop(AF_INET6,
                      &((const struct sockaddr_in6 *)(const void *)list->ai_addr)->sin6_addr,
                      name, sizeof(name));
        if (name[0] && strcmp(name, text) == 0)
            return true;
    }
    return false;
}

int host_find(gate_t *g, const struct options *o)
{
    CLEANUP(nodes_free) struct nodes t;
    CLEANUP(addrinfo_free) struct addrinfo *list = NULL;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct err err = { 0 };
    bool known;

    nodes_init(&t);
    if (nodes_get(g, o->spec, BPSTAT_TIMEOUT_MS, &t, &err) < 0) {
        fprintf(stderr, "bpstat: %s\n", err.text);
        return EXIT_FAILURE;
    }
    known = getaddrinfo(o->host, NULL, &hints, &list) == 0;
    for (size_t i = 0; i < t.n; i++) {
        const struct node_row *r = &t.row[i];

        /* n5 is a node's name even where the name service does not know it */
        if ((r->name[0] && strcmp(r->name, o->host) == 0) ||
            (r->addr[0] && has_address(list, r->addr))) {
            printf("%" PRId64 "\n", r->node);
            return opt_finish("bpstat");
        }
    }
    if (known)
        fprintf(stderr, "No node with address %s\n", o->host);
    else
        fprintf(stderr, "Unknown host: %s\n", o->host);
    return EXIT_FAILURE;
}
