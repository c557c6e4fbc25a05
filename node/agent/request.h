/* request.h - node.N.launch taken apart and checked
 *
 * What bpinit needs is packed at once as the body of its "spawn"; what the
 * files need is kept beside it.
 */
#ifndef AGENT_REQUEST_H
#define AGENT_REQUEST_H
#include "node/agent/agent.h"
#include "node/agent/files.h"

struct request {
    uint64_t launch;
    uint32_t uid;
    struct request_rank {
        uint32_t rank;
        int32_t pid;
    } *rank; /* those of this node */
    size_t ranks;
    struct files_want *want;
    size_t wants;
    struct place_dirs dirs;
    struct fetch_source from;
    bool image;  /* restored from one, not started */
    mp_buf maps; /* with image: the files it names, [path, size, crc] rows */
    mp_buf spawn;
};

/* Of any request that brings files: want, dirs and from. */
int request_files(struct request *rq, const agent_t *a, const msgpack_object *body,
                  struct err *err);

/* request_free() also after a failure. Errors: EPROTO with the key's name,
 * EINVAL no rank is for this node, ENOMEM. */
int request_parse(struct request *rq, const agent_t *a, const msgpack_object *body,
                  struct err *err);
void request_free(struct request *rq);

#endif
