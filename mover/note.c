/* note.c - what must be known to end a move, should its mover die
 *
 * On a node bpinit gives it to its next child, on the master it is RUN/held.PID.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "mover/mover.h"

#define NOTE_MAX 4096

int note_open(const char *path, bool *end, struct err *err)
{
    struct stat st;
    CLEANUP(cleanup_close) int fd =
        open(path, O_RDWR | (*end ? 0 : O_CREAT) | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return err_set(err, EBUSY, "it is being moved");
    *end |= fstat(fd, &st) == 0 && st.st_size > 0; /* that first */
    int out = fd;
    fd = -1;
    return out;
}

/* One write: all of it, or nothing. Before a launch is asked for: should the word of it be
 * lost with us, it is called off. The last one counts. */
int note_write(const struct mover_conf *c, uint64_t launch, const struct frozen *f,
               struct err *err)
{
    CLEANUP(mp_free) mp_buf b;

    mp_init(&b);
    mp_map(&b, 3);
    mp_kuint(&b, "launch", launch);
    mp_kint(&b, "to", c->to);
    mp_key(&b, "frozen");
    frozen_note(f, &b);
    if (lseek(c->note, 0, SEEK_SET) == 0 && ftruncate(c->note, 0) < 0)
        return err_set(err, errno, "what is begun cannot be noted: %s", strerror(errno));
    return write(c->note, b.b.data, b.b.size) == (ssize_t)b.b.size
               ? 0
               : err_set(err, errno, "what is begun cannot be noted: %s", strerror(errno));
}

/* One that died before it had noted anything has begun nothing. */
void note_end(struct mover_conf *c, mp_buf *result)
{
    char text[NOTE_MAX];
    struct err err = { 0 };
    msgpack_unpacked u;
    int64_t to = 0;

    msgpack_unpacked_init(&u);
    ssize_t n = pread(c->note, text, sizeof text, 0);
    if (n > 0 && mp_decode(&u, text, (size_t)n, &err) == 0 &&
        mp_get_int(&u.data, "to", 0, INT32_MAX, &to, &err) == 0) {
        c->to = (int)to;
        mover_end(c, &u.data, result);
    } else {
        err_set(&err, EIO, "what moved it has ended");
        mover_result(&err, NULL, result);
    }
    msgpack_unpacked_destroy(&u);
}
