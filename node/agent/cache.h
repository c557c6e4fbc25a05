/* cache.h - the cache folder of a node: its files' names, small texts in it
 *
 * Threads: none of its own, no state.
 */
#ifndef AGENT_CACHE_H
#define AGENT_CACHE_H
#include <stdbool.h>
#include "node/agent/files.h"

#define CACHE_NAME (FETCH_HASH * 2 + 48) /* HASH.uid.gid.mode and its NUL */

int cache_open(int root, struct err *err); /* made if absent, 0700 */

void cache_name(char out[CACHE_NAME], const struct files_want *w);
/* Back from a name: hash, uid, gid and mode of *w. */
bool cache_parse(const char *name, struct files_want *w);

/* Has the file at path in root the same bytes? */
bool cache_same(int cache, const char *name, int root, const char *path);

/* A whole file, with a NUL behind it; the caller frees. NULL: none. */
char *cache_read(int cache, const char *name, size_t *len);
/* One line, put in place of what was there at once. */
int cache_write(int cache, const char *name, const char *text, struct err *err);

#endif
