/* sink.h - between sink.c (names, folders, frames) and sink_file.c (one file) */
#ifndef COPY_SINK_H
#define COPY_SINK_H
#include <openssl/evp.h>
#include <sys/stat.h>
#include <time.h>
#include "copy/copy.h"

struct sink_entry {
    char kind; /* d f l */
    char *path, *link;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    struct timespec mtime, atime;
    uint64_t size;
    char tag[COPY_TAG + 1];
};

struct sink {
    struct sink_options o;
    struct faults *faults;
    bool root;
    char *dest;
    char *name; /* the destination is no folder: the first part of each path */
    int base;   /* the folder that everything is below */
    int parent; /* of the entry; < 0: cannot be had */
    char *parent_path;
    char *shown; /* the entry, for messages */
    bool *made;  /* of each folder we are in: it was not there before */
    size_t depth, skip; /* skip: the depth of a folder that cannot be had */
    bool in_file;

    /* sink_file.c: the file that has begun; fd -1: its data are dropped */
    int fd;
    struct sink_entry e; /* without path and link */
    char *target;        /* its name in parent */
    char tmp[64];        /* what it grows as; "": in place */
    bool keeps;          /* tmp stays when the copy breaks */
    struct stat old;     /* what was there; st_nlink 0: nothing */
    uint64_t at, have;   /* hashed so far; there from an earlier try */
    EVP_MD_CTX *md;
};

void sink_fault(sink_t *s, const char *text); /* of the entry */
void sink_temp_name(char out[64]);
/* Mode and owner. was: what stood there, or NULL. -1 with errno. */
int sink_dress(sink_t *s, int fd, const struct sink_entry *e, const struct stat *was);
void sink_file_begin(sink_t *s, const char *name, const struct sink_entry *e);
int sink_file_data(sink_t *s, uint64_t off, const char *p, size_t len, struct err *err);
void sink_file_end(sink_t *s, const unsigned char hash[COPY_HASH]);
void sink_file_drop(sink_t *s, bool broken);

#endif
