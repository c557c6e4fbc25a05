/* fetch.h - threads that bring content into the cache folder
 *
 * A job makes one file of the cache: from the master over the bulk channel,
 * from a twin in the cache (same content, other owner or mode), or it only
 * checks a file that is there. The content is always hashed on the way; what
 * does not match never gets its name.
 *
 * Threads: a job belongs to fetch between fetch_start() and done(); done() is
 * called in the loop's thread.
 */
#ifndef AGENT_FETCH_H
#define AGENT_FETCH_H
#include <stdbool.h>
#include <sys/stat.h>
#include "bus/bulk.h"
#include "bus/err.h"
#include "bus/loop.h"

#define FETCH_HASH 32

struct fetch_source {
    char addr[64];
    uint16_t port;
    struct bulk_ticket ticket;
};

struct fetch_job {
    char *name;   /* of the file in the cache folder */
    char *path;   /* on the node: for texts */
    char *twin;   /* name of a file with the same content; NULL: none */
    bool check;   /* only hash what is there */
    unsigned char hash[FETCH_HASH];
    uint64_t size;
    uid_t uid;
    gid_t gid;
    mode_t mode;
    struct fetch_source from;
    void *owner;
    /* The outcome: err.code 0, and st of the file; or err. */
    struct err err;
    struct stat st;
    struct fetch_job *next;
};

typedef struct fetch fetch_t;
typedef void fetch_done_fn(void *arg, struct fetch_job *job); /* the job is yours again */

fetch_t *fetch_create(loop_t *l, int cache_fd, fetch_done_fn *done, void *arg,
                      struct err *err);
/* Cuts connections, waits for the threads, frees the jobs they had. */
void fetch_destroy(fetch_t **f);
void fetch_start(fetch_t *f, struct fetch_job *job);
void fetch_job_free(struct fetch_job *job);

#endif
