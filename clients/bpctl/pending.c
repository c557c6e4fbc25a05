/* pending.c - agents whose key is not accepted yet */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/bpctl/bpctl.h"
#include "clients/common/json.h"
#include "clients/common/table.h"

#define KEY_LENGTH 40 /* a CURVE key in Z85 */

static int pending_get(gate_t *g, msgpack_unpacked *reply, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;

    mp_init(&body);
    mp_map(&body, 0);
    if (gate_call(g, "nodemgr.pending", &body, BPCTL_TIMEOUT_MS, reply, err) < 0)
        return -1;
    if (reply->data.type != MSGPACK_OBJECT_ARRAY)
        return err_set(err, EPROTO, "nodemgr.pending: the reply is not a list");
    return 0;
}

static void print_text(const msgpack_object *map, const char *key, int width)
{
    CLEANUP(cleanup_free) char *s = mp_opt_dup(map, key);
    const char *text = s && s[0] ? s : "-";

    table_text(stdout, text, strlen(text), 0);
    printf("%*s", width > (int)strlen(text) ? width - (int)strlen(text) : 0, "");
}

static void print_macs(const msgpack_object *map)
{
    const msgpack_object_array *macs;
    int used = 0;

    if (mp_get_array(map, "macs", &macs, NULL) == 0) {
        for (uint32_t i = 0; i < macs->size; i++) {
            CLEANUP(cleanup_free) char *mac = mp_dup(&macs->ptr[i]);

            if (mac) {
                if (used > 0)
                    putchar(',');
                table_text(stdout, mac, strlen(mac), 0);
                used += (int)strlen(mac) + (used > 0);
            }
        }
    }
    if (used == 0)
        used = printf("-");
    printf("%*s", used < 17 ? 17 - used : 0, "");
}

int pending_print(gate_t *g, bool json, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    if (pending_get(g, &reply, err) < 0)
        return -1;
    if (json)
        return json_print(json_of(&reply.data)) < 0
                   ? err_set(err, EIO, "the list could not be written") : 0;
    printf("%-40s %-15s %-17s %-19s %s\n", "Key", "Address", "MAC", "Since", "Why");
    for (uint32_t i = 0; i < reply.data.via.array.size; i++) {
        const msgpack_object *m = &reply.data.via.array.ptr[i];
        char since[32];

        print_text(m, "key", KEY_LENGTH);
        putchar(' ');
        print_text(m, "addr", 15);
        putchar(' ');
        print_macs(m);
        table_time(since, mp_opt_int(m, "since", 0));
        printf(" %-19s ", since);
        print_text(m, "why", 0);
        putchar('\n');
    }
    return 0;
}

char *pending_key(gate_t *g, const char *text, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    char *found = NULL;

    msgpack_unpacked_init(&reply);
    if (strlen(text) == KEY_LENGTH) {
        found = strdup(text);
        if (!found)
            err_set(err, ENOMEM, "out of memory");
        return found;
    }
    if (pending_get(g, &reply, err) < 0)
        return NULL;
    for (uint32_t i = 0; i < reply.data.via.array.size; i++) {
        char *key = mp_opt_dup(&reply.data.via.array.ptr[i], "key");

        if (!key || strncmp(key, text, strlen(text)) != 0) {
            free(key);
            continue;
        }
        if (found) {
            free(key);
            free(found);
            err_set(err, EINVAL, "--accept: more than one waiting key begins with \"%s\"",
                    text);
            return NULL;
        }
        found = key;
    }
    if (!found)
        err_set(err, ENOENT, "--accept: no waiting key begins with \"%s\": see "
                             "bpctl --pending", text);
    return found;
}
