/* bpghost_wire.h - what a ghost says over the gate, and what it understands
 *
 * For bpghost.c only, which has the types and numbers of the kernel's that are
 * used here.
 */
#ifndef NODE_BPGHOST_WIRE_H
#define NODE_BPGHOST_WIRE_H

/* --- msgpack, as much as one request and its answer need --- */

struct out {
    unsigned char buf[160];
    unsigned n;
};

static void put(struct out *o, unsigned char c)
{
    o->buf[o->n++] = c;
}

static void put_text(struct out *o, const char *s, unsigned char len)
{
    put(o, 0xa0 | len);
    while (len--)
        put(o, (unsigned char)*s++);
}

static void put_u64(struct out *o, unsigned char type, uint64_t v)
{
    put(o, type);
    for (int shift = 56; shift >= 0; shift -= 8)
        put(o, (unsigned char)(v >> shift));
}

static void put_head(struct out *o, const char *topic)
{
    uint64_t id = 0;
    unsigned char len = 0;

    sys3(NR_getrandom, &id, sizeof id, 0);
    while (topic[len])
        len++;
    o->n = 0;
    put(o, 0); /* pkt.c: the message is in the packet itself */
    put(o, 0x9b);
    put(o, 1); /* version */
    put(o, 1); /* request */
    put_text(o, topic, len);
    put_u64(o, 0xcf, id >> 1);
    put_u64(o, 0xcf, ANSWER_MS);
    for (int i = 0; i < 4; i++)
        put(o, 0xff); /* uid, gid, pid, node: -1, busd knows better */
    put(o, 0xa0);
    put(o, 0xa0);
}

static void put_request(struct out *o, const struct siginfo *si)
{
    put_head(o, "procspace.signal");
    /* From a process: by whom. Else the kernel has sent it, a terminal say. */
    int sent = si->code <= 0;
    put(o, (unsigned char)(0x83 + (si->code == SI_QUEUE)));
    put_text(o, "from_pid", 8);
    put_u64(o, 0xcf, sent ? (uint64_t)si->pid : 0);
    put_text(o, "from_uid", 8);
    put_u64(o, 0xcf, sent ? si->uid : 0);
    put_text(o, "sig", 3);
    put(o, (unsigned char)si->signo);
    if (si->code == SI_QUEUE) {
        put_text(o, "value", 5);
        put_u64(o, 0xd3, si->value);
    }
}

struct in {
    const unsigned char *p, *end;
};

static uint64_t get_be(struct in *in, int bytes)
{
    uint64_t v = 0;

    while (bytes-- && in->p < in->end)
        v = v << 8 | *in->p++;
    return v;
}

/* Step over one number or text; numbers are returned, -1 for others. */
static int64_t get(struct in *in)
{
    unsigned char c = (unsigned char)get_be(in, 1);
    uint64_t skip = 0;

    if (c < 0x80 || c >= 0xe0)
        return (signed char)c;
    if (c >= 0xcc && c <= 0xcf)
        return (int64_t)get_be(in, 1 << (c - 0xcc));
    if (c >= 0xd0 && c <= 0xd3)
        return (int64_t)get_be(in, 1 << (c - 0xd0));
    if (c >= 0xa0 && c < 0xc0)
        skip = c & 0x1f;
    else if (c == 0xd9 || c == 0xda)
        skip = get_be(in, c - 0xd8);
    if (skip > (uint64_t)(in->end - in->p))
        skip = (uint64_t)(in->end - in->p);
    in->p += skip;
    return -1;
}

/* 0 or the error's code when the answer settles the matter, else -1: try again.
 * An answer too large for its packet (in a memfd that we did not take) counts
 * as settled. */
static int judge(const unsigned char *p, long len)
{
    struct in in = { p + 1, p + len };
    unsigned c = (unsigned)get_be(&in, 1);
    unsigned fields = c == 0xdc ? (unsigned)get_be(&in, 2) : c & 0x0f;

    get(&in);
    if (get(&in) != 3) /* not an error */
        return 0;
    for (unsigned i = 2; i < fields && in.p < in.end; i++)
        get(&in);
    get_be(&in, 1); /* [code, text] */
    int64_t code = get(&in);
    switch (code) {
    case EAGAIN:
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
    case ETIMEDOUT:
    case ECONNREFUSED:
        return -1; /* nobody who could know was asked */
    default:
        return code > 0 ? (int)code : 0;
    }
}

/* One try; the length of the answer, or none. by_root: nobody else's is taken. */
static long exchange(const struct ghost *g, const struct out *o, unsigned char *answer,
                     unsigned room, int by_root)
{
    struct address a;
    int peer[3] = { 0, -1, -1 }, size = sizeof peer;
    struct timespec limit = { ANSWER_MS / 1000, 0 };
    unsigned len = 0;
    long fd, n = -1;

    memset(&a, 0, sizeof a);
    a.family = AF_UNIX;
    while (g->gate[len] && len < sizeof a.path - 1) {
        a.path[len] = g->gate[len];
        len++;
    }
    fd = sys3(NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    sys5(NR_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sys5(NR_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (sys3(NR_connect, fd, &a, sizeof a) == 0 &&
        (!by_root || (sys5(NR_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, peer, &size) == 0 &&
                      peer[1] == 0)) &&
        sys6(NR_sendto, fd, (long)o->buf, o->n, MSG_NOSIGNAL, 0, 0) == (long)o->n)
        n = sys6(NR_recvfrom, fd, (long)answer, room, 0, 0, 0);
    sys1(NR_close, fd);
    return n;
}

/* As judge(). */
static int tell(const struct ghost *g, const struct out *o)
{
    unsigned char answer[512];
    long n = exchange(g, o, answer, sizeof answer, 0);

    return n > 0 ? judge(answer, n) : -1;
}

#endif
