/* config.c - fuzz: configuration files */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bus/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = { 0 };
    struct strlist warnings = { 0 };
    char path[64];
    int fd = memfd_create("config", MFD_CLOEXEC);

    if (fd < 0 || (size && write(fd, data, size) != (ssize_t)size))
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct cm_config *c = config_load(path, &warnings, &err);
    if (!c && (!err.code || !err.text[0] || strchr(err.text, '\n')))
        abort();
    for (size_t i = 0; c && i < c->nnodes; i++) {
        if (config_node(c, c->nodes[i].number) != &c->nodes[i] ||
            (i && c->nodes[i].number <= c->nodes[i - 1].number))
            abort();
        for (size_t k = 0; k < c->nodes[i].macs.n; k++) {
            char mac[MAC_TEXT];
            if (!mac_normalise(c->nodes[i].macs.v[k], mac) ||
                strcmp(mac, c->nodes[i].macs.v[k]) != 0)
                abort();
        }
    }
    config_free(&c);
    strlist_free(&warnings);
    close(fd);
    return 0;
}
