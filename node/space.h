/* space.h - between bpnode (network side) and bpinit (pid 1 of the process space)
 *
 * A SOCK_SEQPACKET socket (bus/pkt.h) at a path both are told. bpinit listens
 * and serves one agent at a time; a newer one replaces the older. Peer uid
 * must be 0. Messages are msgpack arrays [name, map].
 *
 * bpinit alone reads and writes the bodies' pipes, into and out of rings in
 * shared memory; bpnode only moves ring bytes to and from the network. So an
 * agent that dies in any instant loses no byte: what was read from a pipe is
 * in a ring that bpinit holds, and positions move only after the bytes did.
 *
 * bpinit -> agent
 *   ["hello", {space: text, boot: text, slots, slot_bytes, seq}] on connect, with three descriptors:
 *        the arena memfd, an eventfd that bpinit rings (agent waits on it:
 *        "some ring changed"), an eventfd that the agent rings
 *   ["spawned", {launch, started: [[rank, npid, in, out, err]...], failed: [[rank, code, text]...]}]
 *        in, out, err: slot of the stream's ring, or -1
 *   ["event", {seq, kind: "exit", pid, gen, launch, rank, status, utime_us, stime_us, maxrss_kb,
 *        starved: the kernel killed it for want of memory}]
 *        kind "stop" {sig, conts: SIGCONTs had from the master by then}, "cont" {halts: SIGSTOPs}; kept and sent again to a new agent until acknowledged
 *        kind "row": row is an event of procspace.report as it is
 *   ["procs", {id, procs: [...]}]  answer to "list": see doc/wire.md node.N.procs,
 *        each also with streams: [slot or -1 x 3]; and "rings": [{launch, rank, fd, slot, uid}]
 *        for every ring not yet released, of ended processes too; and "kids": [row of "born"...].
 *        starting: a ghost here is about to begin it: "spawned" comes then
 *   ["arrivals", {id, launch, ranks: [[rank, code, text]...]}]  answer to "arrived" and "depart",
 *        which has heard: [once...], the signals that it has had here
 *   ["gone", {launch, rank}]  one that was to arrive, and never was let go, has ended: its
 *        rings are to be released
 *
 * agent -> bpinit
 *   ["spawn", {launch, path, argv, env, cwd, umask, limits, uid, gid, groups, streams,
 *        total, owner, root?: DIR to chroot() into before exec, procs: [[rank, pid]...]}]
 *        mem?: bytes, cpu_milli?: limits of all of it together;
 *        streams as in procspace.launch; a rank to whom stdin does not go gets /dev/null
 *   ["signal", {pid, gen, sig, value?, from_uid?, from_pid?, npid?, conts?, after?, once?}]  npid: of a process
 *        that a body made, gen as in its "born" event; once: its number: two with the same
 *        are one
 *   ["end_launch", {launch, sig}]  signal all of a launch, children of its bodies too
 *   ["image", {launch, rank}] with a descriptor: its image will come there. Before the "spawn",
 *        which has image (anything), gen?, as? (the launch that the ghost names) then: the
 *        process stands when its restorer does, and runs when it is let go
 *   ["arrived", {id, launch, uid?, go?, abort?}]  answered when each of them is ready, has failed, or
 *        was let go; go: let those that are ready go, in the same step; abort: end those that
 *        were not let go
 *   ["depart", {id, pid, gen, launch, npid?, name?, kids?}]  it runs elsewhere now: its end
 *        here is not told. name: as "parent" of spawn; kids: [[npid, pid, launch, as]...] that it has
 *        made here, and that are bodies from now on -> ["arrivals", {id, heard, stays: it
 *        stands for relatives here, gen: for its parent, as a kid of this name, took: [npid]}]
 *   ["move", {id, pid, npid? (of a kid), launch, to, check?, no_input?}]  this body goes to another machine
 *        (mover/), or could it? -> ["arrivals", {id, code, text, hindrances}]
 *   ["ack", {seq}]          events up to seq are known to the master
 *   ["list", {id}]
 *   ["stand", {id, asker, pids}]  children of the process asker stand for others from
 *        now on -> ["standing", {id, asker: [ghost or 0, gen], pids: [[npid, gen]...]}], or
 *        {id, error: [code, text]}
 *   ["quiet", {id, pids}]   has all that these stand-ins were sent reached those that they
 *        stand for? -> ["standing", {id}], or {id, error: [code, text]}
 *   ["ring", {npid, op, arg}]  a bell for a stand-in
 *   ["orphan", {parent: [pid, node, id]}]  the parent of bodies here is dead
 *   ["release", {slot}]     a finished ring is not needed any more
 *   ["hangup", {launch, rank, fd}]  the reader is gone: close the pipe
 *   ["end", {how: "reboot"|"halt"|"pwroff"|"end"}]  kill everything, then exit
 *        with status SPACE_EXIT_*
 */
#ifndef NODE_SPACE_H
#define NODE_SPACE_H
#include <stdatomic.h>
#include <stdint.h>

#define SPACE_SLOTS 8192            /* rings in the arena */
#define SPACE_RING_BYTES (1024u * 1024) /* data bytes of a ring; a power of two */
#define SPACE_RING_HEADER 4096u
#define SPACE_SLOT_BYTES (SPACE_RING_HEADER + SPACE_RING_BYTES)

/* Exit status of bpinit: what the machine (bpvnode, or init) does next. */
enum { SPACE_EXIT_END = 0, SPACE_EXIT_REBOOT = 10, SPACE_EXIT_HALT = 11, SPACE_EXIT_PWROFF = 12 };

/* One stream's ring. Offsets count bytes from the stream's start and never
 * wrap; byte k sits at data[k & (SPACE_RING_BYTES - 1)].
 * fd 1, 2: bpinit writes head, agent writes tail (= acknowledged).
 * fd 0: agent writes head, bpinit writes tail (= written into the pipe). */
enum {
    RING_EOF = 1,  /* writer: nothing follows head */
    RING_GONE = 2, /* bpinit, fd 0: the body closed its stdin (tail will not move);
                      agent, fd 1, 2: reader is gone */
    RING_MOVED = 8, /* bpinit, with RING_EOF: its process says more elsewhere */
    RING_FULL = 4, /* bpinit, fd 1, 2: wants a ring of the bell when there is
                      room for a step (ring_step_free) */
};

struct ring {
    _Atomic uint64_t head;
    char pad0[56];
    _Atomic uint64_t tail;
    char pad1[56];
    _Atomic uint32_t flags;
    _Atomic uint32_t in_use;
    uint64_t launch;
    uint32_t rank, fd;
    /* Doorbell bookkeeping: who changed a ring sets its dirty flag for the
     * other side, then rings the eventfd if the flag was clear. */
    _Atomic uint32_t dirty_for_agent;
    _Atomic uint32_t dirty_for_init;
    _Atomic uint32_t bulk_waiter; /* futex word: a bulk thread of the agent waits for head
                                     (1 = waiting); bpinit sets 0 and FUTEX_WAKEs (not PRIVATE) */
};

static inline struct ring *space_ring(void *arena, uint32_t slot)
{
    return (struct ring *)((char *)arena + (uint64_t)slot * SPACE_SLOT_BYTES);
}
static inline char *ring_data(struct ring *r)
{
    return (char *)r + SPACE_RING_HEADER;
}
/* Blocked output goes on when a quarter is free: fewer, larger steps than at
 * the first free byte. The other side's head and tail are not believed. */
static inline int ring_step_free(struct ring *r)
{
    uint64_t held = atomic_load(&r->head) - atomic_load(&r->tail);

    return held <= SPACE_RING_BYTES - SPACE_RING_BYTES / 4;
}

#endif
