/* streams.h - what the rest of the agent tells the stream end (streams.c)
 *
 * streams.c owns the connection to iofwd (CURVE, a->keys and a->master_key,
 * tcp://master_addr:master_port + CM_PORT_STREAMS) and is told about every
 * ring through these calls. It calls space_bell(), space_release() and
 * space_hangup() of agent.h.
 */
#ifndef AGENT_STREAMS_H
#define AGENT_STREAMS_H
#include "node/agent/agent.h"

/* Made when the first list of bodies is in; rings are added right after. */
streams_t *streams_create(agent_t *a, struct err *err);
void streams_destroy(streams_t **s);

/* A stream of a launch has this ring in space_arena(); fd 0, 1, 2. Head and
 * tail of a ring taken over after a restart are as they were left. A slot that
 * is known already (bpinit was listed again) is fine. */
void streams_add(streams_t *s, uint64_t launch, uint32_t uid, uint32_t rank, int fd,
                 uint32_t slot);
/* Every ring of a launch that will ever be here has been added: an OPEN for a
 * rank without a ring is answered NONE from now on. */
void streams_added(streams_t *s, uint64_t launch);
/* bpinit rang the bell: some rings have dirty_for_agent set. */
void streams_changed(streams_t *s);
/* Its reader has done with all before offset, or there is no such stream (any more). Else
 * it is asked whether it has: ask again. */
bool streams_taken(streams_t *s, uint64_t launch, uint32_t rank, int fd, uint64_t offset);
/* The reader of a launch is dead: its pipes are closed as if it had said CLOSE. */
void streams_hangup(streams_t *s, uint64_t launch);
/* Those of a rank that nobody will ever read: given back. */
void streams_drop(streams_t *s, uint64_t launch, uint32_t rank);
/* bpinit is gone: the arena of all rings is unmapped when this returns; forget
 * them, having stopped every thread that touches them. */
void streams_lost(streams_t *s);

#endif
