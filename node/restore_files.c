/* restore_files.c - what the process has open, opened again
 *
 * Files are opened and compared as they come; those of 0-2 are kept aside, since
 * the streams come there with the word to go. Copies of descriptors are made
 * then, when all that they are copies of is in its place.
 */
#include "node/restore.h"

#define O_CREAT_TRUNC_EXCL (0100 | 01000 | 0200)
#define O_ACCMODE 3
#define O_NONBLOCK 04000
#define F_DUPFD 0
#define F_SETFL 4
#define F_SETPIPE_SZ 1031
#define F_GETPIPE_SZ 1032
#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFCHR 0020000
#define EMFILE 24
#define SPARE 8 /* descriptors that are needed beside the process's own */

struct entry {
    int fd, flags, of;
    uint32_t kind;
    int aside; /* where it is kept; -1 in its place */
    int other; /* of a pipe: where its other end is kept; -1 in its place */
};

static struct entry entry[FILES_MAX];
static unsigned entries;

static void out_of_the_way(int *fd, int wanted)
{
    if (*fd != wanted)
        return;
    long other = sys3(NR_fcntl, *fd, F_DUPFD, wanted + 1);
    if (other < 0)
        fail(-other, "no descriptor is free", 0);
    *fd = (int)other;
}

/* All that is kept aside or used by us has to leave this number. */
static void make_place(int wanted)
{
    out_of_the_way(&rs.image, wanted);
    if (rs.control >= 0)
        out_of_the_way(&rs.control, wanted);
    for (unsigned i = 0; i < entries; i++) {
        if (entry[i].aside >= 0)
            out_of_the_way(&entry[i].aside, wanted);
        if (entry[i].other >= 0)
            out_of_the_way(&entry[i].other, wanted);
    }
}

static void compare_content(long fd, const struct image_file *f)
{
    uint32_t crc = 0;
    int64_t at = 0;
    long n;

    while ((n = sys4(NR_pread64, fd, later.text, sizeof later.text, at)) != 0) {
        if (n == -EINTR)
            continue;
        if (n < 0)
            fail(-n, "cannot be read here", rs.path);
        crc = image_crc(crc, later.text, (size_t)n);
        at += n;
    }
    if (crc != f->crc)
        fail(ELIBBAD, "another file is here (its content differs)", rs.path);
}

static void compare(long fd, const struct image_file *f)
{
    struct { /* struct stat */
        uint64_t dev, ino, nlink;
        uint32_t mode, uid, gid, pad;
        uint64_t rdev;
        int64_t size, block, blocks;
        int64_t atime, atime_ns, mtime, mtime_ns, ctime, ctime_ns;
        int64_t unused[3];
    } st;

    long r = sys2(NR_fstat, fd, &st);
    if (r < 0)
        fail(-r, "cannot be looked at here", rs.path);
    if ((st.mode & S_IFMT) != (f->mode & S_IFMT))
        fail(ELIBBAD, "another kind of file is here", rs.path);
    if ((f->mode & S_IFMT) != S_IFREG)
        return;
    if ((uint64_t)st.size != f->size)
        fail(ELIBBAD, "another file is here (its size differs)", rs.path);
    if ((f->flags & O_ACCMODE) == 0)
        compare_content(fd, f);
    else if (st.ino != f->inode || st.mtime != f->modified || st.ctime != f->changed ||
             st.mtime_ns != f->modified_ns || st.ctime_ns != f->changed_ns)
        fail(ELIBBAD, "it is written to, and the one here is not the same file", rs.path);
}

static void open_path(struct entry *e, const struct image_file *f)
{
    /* Non-blocking so that a FIFO of that name cannot hold us up. */
    long fd = sys2(NR_open, rs.path, (f->flags & ~O_CREAT_TRUNC_EXCL) | O_NONBLOCK);

    if (fd < 0)
        fail(-fd, fd == -ENOENT ? "is not here" : "cannot be opened here", rs.path);
    compare(fd, f);
    if (!(f->flags & O_NONBLOCK))
        sys3(NR_fcntl, fd, F_SETFL, f->flags & ~O_CREAT_TRUNC_EXCL);
    if ((f->mode & S_IFMT) != S_IFCHR) {
        long at = sys3(NR_lseek, fd, f->offset, 0);
        if (at != (long)f->offset)
            fail(at < 0 ? -at : EIO, "cannot be read on from where it was", rs.path);
    }
    if (e->fd < 3) {
        if (fd < 3) {
            long other = sys3(NR_fcntl, fd, F_DUPFD, 3);
            if (other < 0)
                fail(-other, "no descriptor is free", 0);
            sys1(NR_close, fd);
            fd = other;
        }
        e->aside = (int)fd;
    } else if (fd != e->fd) {
        sys3(NR_dup3, fd, e->fd, f->flags & O_CLOEXEC);
        sys1(NR_close, fd);
    }
}

static struct entry *find(int fd)
{
    for (unsigned i = 0; i < entries; i++)
        if (entry[i].fd == fd)
            return &entry[i];
    return 0;
}

/* A pipe that has come with its other end, or a new one. */
static void make_pipe(struct entry *e, const struct image_file *f)
{
    struct entry *first = f->of < 0 ? 0 : find(f->of);
    int p[2], mine = (f->flags & O_ACCMODE) != 0;
    long r;

    if (f->fd < 3 || (f->of >= 0 && (!first || first->kind != IMAGE_FILE_PIPE || first->other < 0 ||
                                     !(first->flags & O_ACCMODE) == !mine)))
        fail(EBADMSG, "the image makes no sense: a pipe", 0);
    if (first) {
        p[mine] = first->other;
        first->other = -1;
    } else {
        if ((r = sys2(NR_pipe2, p, O_CLOEXEC)) < 0)
            fail(-r, "no pipe can be made", 0);
        if (sys3(NR_fcntl, p[0], F_GETPIPE_SZ, 0) != (long)f->size &&
            (r = sys3(NR_fcntl, p[0], F_SETPIPE_SZ, f->size)) < 0)
            fail(-r, "a pipe cannot be as large here", 0);
        out_of_the_way(&p[0], f->fd);
        out_of_the_way(&p[1], f->fd);
        e->other = p[!mine];
    }
    r = sys3(NR_fcntl, p[mine], F_SETFL, f->flags & ~O_CREAT_TRUNC_EXCL);
    if (r >= 0)
        r = sys3(NR_dup3, p[mine], f->fd, f->flags & O_CLOEXEC);
    sys1(NR_close, p[mine]);
    if (r < 0)
        fail(-r, "a pipe cannot be made as it was", 0);
}

void file_take(const struct image_file *f)
{
    struct entry *e = &entry[entries];

    if (f->fd < 0 || entries >= FILES_MAX || f->kind > IMAGE_FILE_PIPE ||
        (entries && f->fd <= entry[entries - 1].fd) ||
        (f->kind == IMAGE_FILE_STREAM && f->of != 1 && f->of != 2) ||
        (f->kind == IMAGE_FILE_SAME && (f->of < 0 || f->of >= f->fd)))
        fail(EBADMSG, "the image makes no sense: a descriptor", rs.path);
    file_forget();
    make_place(f->fd);
    e->fd = f->fd;
    e->flags = f->flags;
    e->of = f->of;
    e->kind = f->kind;
    e->aside = e->other = -1;
    if (f->kind == IMAGE_FILE_PATH)
        open_path(e, f);
    else if (f->kind == IMAGE_FILE_PIPE)
        make_pipe(e, f);
    entries++;
}

/* When we are to go nothing may fail any more. */
void files_settle(void)
{
    long fd[SPARE];
    unsigned n = 0;
    int first = entries ? entry[entries - 1].fd + 1 : 3;

    if (!(rs.p.flags & IMAGE_FULL) || (rs.p.flags & IMAGE_KEEPS_FILES))
        return;
    for (unsigned i = 0; i < entries; i++)
        if (entry[i].other >= 0)
            fail(EBADMSG, "the image makes no sense: a pipe without its other end", 0);
    for (; n < SPARE; n++)
        if ((fd[n] = sys3(NR_fcntl, rs.image, F_DUPFD, first)) < 0)
            fail(EMFILE, "no descriptor is free", 0);
    while (n)
        sys1(NR_close, fd[--n]);
}

void files_place(void)
{
    int first = entries ? entry[entries - 1].fd + 1 : 3;
    long stream[3];

    if (!(rs.p.flags & IMAGE_FULL) || (rs.p.flags & IMAGE_KEEPS_FILES))
        return;
    for (int i = 0; i < 3; i++)
        stream[i] = sys3(NR_fcntl, i, F_DUPFD, first < 3 ? 3 : first);
    for (unsigned i = 0; i < entries; i++) {
        const struct entry *e = &entry[i];
        long from = e->kind == IMAGE_FILE_STREAM ? stream[e->of]
                    : e->kind == IMAGE_FILE_SAME ? e->of
                                                 : e->aside;
        if (from < 0) /* it is there already */
            continue;
        sys3(NR_dup3, from, e->fd, e->flags & O_CLOEXEC);
        if (e->aside >= 0)
            sys1(NR_close, e->aside);
    }
    for (int i = 0; i < 3; i++) {
        if (stream[i] >= 0)
            sys1(NR_close, stream[i]);
        if (!find(i))
            sys1(NR_close, i);
    }
}
