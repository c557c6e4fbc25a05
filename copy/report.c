/* report.c - how it went, of many nodes, folded on the way up
 *
 * {nodes: [[node, takes_part, [[path, text]...], more]...],
 *  lost: [[node, why, direct]...]}. Lost: not heard of; direct: by the one who
 * sends to it, else by somebody above.
 */
#include <stdlib.h>
#include <string.h>
#include "copy/copy.h"

#define FAULTS_MAX 1000 /* of one node; then they are only counted */

void report_init(struct report *r)
{
    memset(r, 0, sizeof *r);
    mp_init(&r->nodes);
    mp_init(&r->lost);
}

void report_free(struct report *r)
{
    mp_free(&r->nodes);
    mp_free(&r->lost);
}

void report_node(struct report *r, int node, bool takes_part, const mp_buf *errors,
                 uint32_t nerrors, uint32_t more)
{
    r->nnodes++;
    mp_array(&r->nodes, 4);
    mp_int(&r->nodes, node);
    mp_bool(&r->nodes, takes_part);
    mp_array(&r->nodes, nerrors);
    if (nerrors)
        msgpack_sbuffer_write(&r->nodes.b, errors->b.data, errors->b.size);
    mp_uint(&r->nodes, more);
}

void report_lost(struct report *r, int node, const char *why, bool direct)
{
    r->nlost++;
    mp_array(&r->lost, 3);
    mp_int(&r->lost, node);
    mp_str(&r->lost, why);
    mp_bool(&r->lost, direct);
}

int report_add(struct report *r, const msgpack_object *map, struct err *err)
{
    const msgpack_object_array *nodes, *lost;

    if (mp_get_array(map, "nodes", &nodes, err) < 0 || mp_get_array(map, "lost", &lost, err) < 0)
        return -1;
    for (uint32_t i = 0; i < nodes->size; i++)
        mp_obj(&r->nodes, &nodes->ptr[i]);
    for (uint32_t i = 0; i < lost->size; i++)
        mp_obj(&r->lost, &lost->ptr[i]);
    r->nnodes += nodes->size;
    r->nlost += lost->size;
    return 0;
}

void report_pack(const struct report *r, mp_buf *m)
{
    mp_map(m, 2);
    mp_key(m, "nodes");
    mp_array(m, r->nnodes);
    if (r->nnodes)
        msgpack_sbuffer_write(&m->b, r->nodes.b.data, r->nodes.b.size);
    mp_key(m, "lost");
    mp_array(m, r->nlost);
    if (r->nlost)
        msgpack_sbuffer_write(&m->b, r->lost.b.data, r->lost.b.size);
}

int report_send(const struct report *r, chan_t *c, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    report_pack(r, &m);
    if (chan_send(c, COPY_REPORT, m.b.data, m.b.size, NULL, 0, err) < 0)
        return -1;
    return chan_flush(c, err);
}

void faults_init(struct faults *f)
{
    memset(f, 0, sizeof *f);
    mp_init(&f->list);
}

void faults_free(struct faults *f)
{
    mp_free(&f->list);
}

void faults_add(struct faults *f, const char *path, const char *text)
{
    if (f->n >= FAULTS_MAX) {
        f->more++;
        return;
    }
    f->n++;
    mp_array(&f->list, 2);
    mp_bin(&f->list, path, strlen(path));
    mp_bin(&f->list, text, strlen(text));
}
