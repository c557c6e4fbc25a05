/* files.h - the files a launch needs: by content, cached, placed
 *
 * CACHE (var/cache/clustermatic in the node's root, 0700) holds one file for
 * each content with its owner and mode: HASH.uid.gid.mode. Programs and
 * libraries stand as hard links to these at the same paths as on the master.
 * Content that is there, unchanged since it was hashed, costs one look at the
 * path. When there is no room, the content least recently used goes, with its
 * places, unless a launch that lives holds it.
 *
 * CACHE/places lists path and content of each link, so that the next agent
 * knows them.
 */
#ifndef AGENT_FILES_H
#define AGENT_FILES_H
#include <stdbool.h>
#include <stdint.h>
#include "bus/err.h"
#include "bus/loop.h"
#include "node/agent/fetch.h"
#include "node/agent/place.h"

#define FILES_CACHE "/var/cache/clustermatic"

typedef struct files files_t;
typedef struct files_hold files_hold_t;

struct files_want {
    char *path; /* checked: place_check() */
    unsigned char hash[FETCH_HASH];
    uint64_t size;
    uid_t uid;
    gid_t gid;
    mode_t mode;
};

/* A file with other content stood at want[i]'s path and has been replaced:
 * ours: left there for an earlier launch; else somebody on the node put it
 * there, or changed it. */
typedef void files_replaced_fn(void *arg, const struct files_want *w, bool ours);

struct files_request {
    const char *prefix; /* a folder of the node that is the launch's root; NULL */
    const struct files_want *want;
    size_t wants;
    const struct place_dirs *dirs;
    const struct fetch_source *from;
    files_replaced_fn *replaced; /* with files_provide()'s arg; NULL: nobody wants to know */
};

files_t *files_create(loop_t *l, int root_fd, struct err *err);
void files_destroy(files_t **f);

/* Have these files in place and hold them until files_drop(). The request's
 * parts must live until cb was called or the hold dropped.
 * 0: done, *hold is yours. 1: cb comes later (err NULL: done). -1: *err.
 * Errors: ENOSPC with who needs what and what is free, EBADMSG damaged on the
 * way, ENOENT not on the master any more, ... */
typedef void files_done_fn(void *arg, const struct err *err);
int files_provide(files_t *f, const struct files_request *rq, files_done_fn *cb, void *arg,
                  files_hold_t **hold, struct err *err);
void files_drop(files_t *f, files_hold_t **hold);

/* Hold everything that is there now: for launches of an earlier agent. */
files_hold_t *files_hold_all(files_t *f);

/* Small texts of the agent itself that outlive it, in CACHE. The caller frees
 * what files_note_read() returns; NULL: none. */
char *files_note_read(files_t *f, const char *name);
int files_note_write(files_t *f, const char *name, const char *text, struct err *err);

#endif
