/* history.c - each node's last boot, kept over a restart of ours
 *
 * STATEDIR/bootsrv.db: one row a node, its stages as bootsrv.why tells them. What
 * has changed is written a moment later, all of it at once: no boot waits for it.
 */
#include "services/bootsrv/history.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "bus/store.h"
#include "services/bootsrv/machines.h"

#define SOON_MS 500

struct history {
    bootsrv_t *b;
    sqlite3_stmt *put;
    int timer;
    bool failed; /* which was said */
};

static int put(history_t *h, const struct machine *m, struct err *err)
{
    CLEANUP(mp_free) mp_buf text;

    mp_init(&text);
    machine_pack(m, &text);
    sqlite3_bind_int(h->put, 1, m->node);
    sqlite3_bind_blob(h->put, 2, text.b.data, (int)text.b.size, SQLITE_TRANSIENT);
    return store_step(h->b->store, h->put, err);
}

static void write_all(void *arg)
{
    history_t *h = arg;
    struct err err = { 0 };
    int rc = store_begin(h->b->store, &err);

    h->timer = 0;
    for (struct machine *m = machines_first(h->b->machines); m && rc == 0; m = m->next)
        if (m->node >= 0 && m->news)
            rc = put(h, m, &err);
    if (rc == 0)
        rc = store_commit(h->b->store, &err);
    else
        store_rollback(h->b->store);
    if (rc < 0) {
        if (!h->failed)
            svc_log("warning", "how nodes boot is not kept: %s", err.text);
        h->failed = true;
        return; /* with the next news */
    }
    h->failed = false;
    for (struct machine *m = machines_first(h->b->machines); m; m = m->next)
        m->news = false;
}

void history_note(history_t *h)
{
    if (h && !h->timer)
        h->timer = loop_timer(h->b->loop, SOON_MS, false, write_all, h);
}

static void take_stage(struct machine *m, const msgpack_object *o)
{
    const msgpack_object *v = o->via.array.ptr;
    CLEANUP(cleanup_free) char *word = NULL, *text = NULL;
    int64_t at, ms;

    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < 5 || !mp_as_int(&v[1], &at) ||
        !mp_as_int(&v[2], &ms) || v[3].type != MSGPACK_OBJECT_BOOLEAN || !(word = mp_dup(&v[0])) ||
        !(text = mp_dup(&v[4])))
        return;
    machine_had_stage(m, word, at, ms, v[3].via.boolean, text);
}

static void take(bootsrv_t *b, int node, const void *p, size_t len)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
    const msgpack_object_array *stages;
    struct err ignored = { 0 };

    msgpack_unpacked_init(&u);
    if (mp_decode(&u, p, len, &ignored) < 0 ||
        mp_get_array(&u.data, "stages", &stages, &ignored) < 0)
        return;
    CLEANUP(cleanup_free) char *mac = mp_opt_dup(&u.data, "mac"), *addr = mp_opt_dup(&u.data, "addr");
    CLEANUP(cleanup_free) char *image = mp_opt_dup(&u.data, "image");
    struct machine *m = machines_node(b->machines, node, true);
    if (!m)
        return;
    snprintf(m->mac, sizeof m->mac, "%s", mac ? mac : "");
    snprintf(m->addr, sizeof m->addr, "%s", addr ? addr : "");
    snprintf(m->image, sizeof m->image, "%s", image ? image : "");
    for (uint32_t i = 0; i < stages->size; i++)
        take_stage(m, &stages->ptr[i]);
}

history_t *history_open(bootsrv_t *b, struct err *err)
{
    sqlite3_stmt *all = store_prepare(b->store, "SELECT node, boot FROM boots", err);
    history_t *h = calloc(1, sizeof *h);
    int rc = all ? 1 : -1;

    if (!h) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    h->b = b;
    h->put = all ? store_prepare(b->store, "INSERT OR REPLACE INTO boots VALUES (?1, ?2)", err)
                 : NULL;
    while (h->put && rc > 0 && (rc = store_step(b->store, all, err)) > 0)
        take(b, sqlite3_column_int(all, 0), sqlite3_column_blob(all, 1),
             (size_t)sqlite3_column_bytes(all, 1));
    if (rc < 0 || !h->put) {
        free(h);
        return NULL;
    }
    return h;
}

void history_close(history_t **hp)
{
    history_t *h = *hp;

    if (!h)
        return;
    if (h->timer) {
        loop_timer_del(h->b->loop, h->timer);
        write_all(h);
    }
    free(h);
    *hp = NULL;
}
