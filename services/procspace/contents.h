/* contents.h - between contents.c (manifests) and serve.c (sending files by hash) */
#ifndef PROCSPACE_CONTENTS_H
#define PROCSPACE_CONTENTS_H
#include <pthread.h>
#include <sys/stat.h>
#include "bus/bulk.h"
#include "services/procspace/procspace.h"

struct file_sig { /* the same file, unchanged */
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime, ctime;
};

struct content_file {
    char *path;
    unsigned char hash[32];
    struct file_sig sig;
    uid_t uid;
    gid_t gid;
    mode_t mode;
};

struct content_dir {
    char *path;
    uid_t uid;
    gid_t gid;
    mode_t mode;
};

struct also_dir {
    char *path;
    struct file_sig sig;
};

struct manifest {
    int refs; /* under the lock */
    char *path, *library_path, *also;
    struct content_file *file;
    size_t nfiles, files_room;
    struct content_dir *dir;
    size_t ndirs;
    struct also_dir *seen; /* folders whose files were all taken */
    size_t nseen;
    struct manifest *next; /* among the kept */
    struct ticket *ticket; /* the newest for it; under the lock */
};

struct hash_slot {
    bool used, soname_known;
    struct file_sig sig;
    unsigned char hash[32];
    char soname[64]; /* a longer one is looked up each time */
};

struct ticket { /* lets its holder fetch the files of one manifest */
    struct bulk_ticket t;
    manifest_t *m;
    int64_t made;
    struct ticket *next;
};

struct image_ticket { /* an image goes to each of these */
    struct bulk_ticket t;
    int *fd;
    size_t fds;
    int64_t made;
    struct image_ticket *next;
};

struct contents {
    procspace_t *ps;
    pthread_mutex_t lock; /* over all that follows, but for kept (the loop's own) */
    pthread_cond_t work;
    pthread_t worker, server;
    bool stopping, serving;
    int bell;
    struct job *todo, **todo_last, *done;
    manifest_t *kept;
    size_t nkept;
    struct hash_slot *hashes;
    struct ticket *tickets; /* newest first */
    int64_t expired; /* when those of before were last looked for */
    struct image_ticket *images;
    int listener, port;
    int connections; /* threads that serve one */
    struct connection *serving_now;
    pthread_cond_t idle; /* connections is 0 */
};

bool sig_same(const struct file_sig *s, const struct stat *st);
void sig_of(struct file_sig *s, const struct stat *st);

/* One more file, hashed, with the folders that it is in; once is enough. */
int manifest_add(contents_t *c, manifest_t *m, const char *path, struct err *err);

/* --- also.c, by the worker thread as the user: m->also, a path a line; plugins
 * of libraries that are in the manifest --- */
int also_fill(contents_t *c, manifest_t *m, struct err *err);
int also_plugins(contents_t *c, manifest_t *m, struct err *err);
bool also_unchanged(const manifest_t *m);

/* --- serve.c --- */
void ticket_for(contents_t *c, manifest_t *m, struct bulk_ticket *out);
void serve_stop(contents_t *c);

#endif
