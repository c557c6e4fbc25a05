/* agent_streams - the agent's end of streams, between bpinit's rings and iofwd
 *
 * Both neighbours are made by hand: rings are changed as bpinit does it, and
 * what the agent says to iofwd is kept here.
 */
#include <endian.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "node/agent/stream_parts.h"
#include "node/agent/streams.h"
#include "node/rings.h"
#include "tests/unit/tap.h"

#define LAUNCH 0x77u
#define OTHER 0x78u
#define USER 1000u

static rings_t *rings;
static struct {
    char data[256];
    size_t n;
    bool end, gone, none;
    int released;
} said;

/* --- the neighbours --- */

void *space_arena(const space_t *s) { (void)s; return rings_get(rings, 0); }
uint32_t space_slots(const space_t *s) { (void)s; return 16; }
int space_bell_fd(const space_t *s) { (void)s; return rings_own_bell_fd(rings); }
void space_bell(space_t *s) { (void)s; }
void space_release(space_t *s, uint32_t slot)
{
    (void)s;
    rings_release(rings, slot);
    said.released++;
}
void svc_log(const char *level, const char *fmt, ...) { (void)level, (void)fmt; }
link_t *link_create(streams_t *s, struct err *err) { (void)err; return (link_t *)s; }
void link_destroy(link_t **l) { *l = NULL; }
void link_say(link_t *l, const struct stream_msg *m)
{
    (void)l;
    said.gone |= m->fd == 0 && (m->flags & (STREAM_GONE | STREAM_EOF));
    said.none |= m->kind == STREAM_NONE;
}
int link_data(link_t *l, struct stream_msg *m, zmq_msg_t *body)
{
    size_t n = zmq_msg_size(body);

    (void)l;
    if (said.n + n < sizeof said.data)
        memcpy(said.data + said.n, zmq_msg_data(body), n);
    said.n += n;
    said.end |= m->flags & STREAM_EOF;
    return 0;
}

/* --- bpinit's side --- */

static void writes(uint32_t slot, const char *text)
{
    struct ring *r = rings_get(rings, slot);

    memcpy(ring_data(r) + atomic_load(&r->head), text, strlen(text));
    atomic_fetch_add(&r->head, strlen(text));
    rings_changed(rings, slot);
    rings_bell(rings);
}

static void ends(uint32_t slot, uint32_t flag)
{
    atomic_fetch_or(&rings_get(rings, slot)->flags, flag);
    rings_changed(rings, slot);
    rings_bell(rings);
}

/* The agent's loop hears the bell, if it rings. */
static bool bell(streams_t *s)
{
    struct pollfd p = { .fd = rings_agent_bell_fd(rings), .events = POLLIN };
    uint64_t n;

    if (poll(&p, 1, 0) != 1 || read(p.fd, &n, sizeof n) != sizeof n)
        return false;
    streams_changed(s);
    return true;
}

static uint32_t take(uint64_t launch, uint32_t rank, int fd)
{
    struct err err = { 0 };
    int slot = rings_take(rings, launch, rank, fd, &err);

    if (slot < 0)
        ok(false, "a ring: %s", err.text);
    return (uint32_t)(slot < 0 ? 0 : slot);
}

/* A reader is there for rank 0. */
static void reader_opens(streams_t *s, uint64_t launch)
{
    unsigned char body[8 + 32] = { 0 };
    struct stream_msg m = { .kind = STREAM_OPEN, .launch = launch, .limit = 65536,
                            .len = sizeof body };
    uint32_t uid = htole32(USER), one = htole32(1);

    memcpy(body, &uid, 4);
    memcpy(body + 4, &one, 4);
    streams_message(s, &m, body);
    out_send_all(s);
}

static void early_output(agent_t *a)
{
    streams_t *s = a->streams;
    uint32_t slot = take(LAUNCH, 0, 1);

    memset(&said, 0, sizeof said);
    reader_opens(s, LAUNCH);
    writes(slot, "early ");
    ok(bell(s), "the bell rings for a stream that is not known yet");
    streams_add(s, LAUNCH, USER, 0, 1, slot);
    streams_added(s, LAUNCH);
    out_send_all(s);
    is(said.data, "early ", "when it is, what it has goes to its reader");
    writes(slot, "late");
    ok(bell(s), "it rings for the next bytes, too");
    out_send_all(s);
    is(said.data, "early late", "which go there as well");
    ends(slot, RING_EOF);
    ok(bell(s), "and for the end");
    out_send_all(s);
    ok(said.end, "which is told");
}

static void early_end_of_stdin(agent_t *a)
{
    streams_t *s = a->streams;
    uint32_t in = take(OTHER, 0, 0), out = take(OTHER, 0, 1);

    memset(&said, 0, sizeof said);
    reader_opens(s, OTHER);
    ends(in, RING_GONE);
    bell(s);
    streams_add(s, OTHER, USER, 0, 0, in);
    streams_add(s, OTHER, USER, 0, 1, out);
    streams_added(s, OTHER);
    ok(said.released == 1, "a stdin that was closed before it was known is given back");
    ok(said.gone, "and who writes to it is told");
    ok(!said.none, "while the rest of the launch is there");
}

int main(void)
{
    agent_t a = { .loop = loop_create(NULL) };
    struct err err = { 0 };

    rings = rings_create(16, &err);
    a.streams = a.loop && rings ? streams_create(&a, &err) : NULL;
    if (!ok(a.streams != NULL, "the agent's streams can be made"))
        return done_testing();
    early_output(&a);
    early_end_of_stdin(&a);
    streams_destroy(&a.streams);
    rings_destroy(&rings);
    loop_destroy(&a.loop);
    return done_testing();
}
