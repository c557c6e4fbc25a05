/* files.c - miscfiles, vmadlib: files of the master, as they are */
#include "clients/node_up/node_up.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/elf.h"

#define LIBS_S 60 /* an agent brings the list at the same time */
#define ASK_MS 10000

struct how {
    bool ignore, no_follow;
};

/* ---- one thing of the master, under this name ---- */

static void begin(mp_buf *m, uint32_t items, const char *kind, const char *to,
                  const struct stat *st)
{
    mp_array(m, items);
    mp_str(m, kind);
    mp_str(m, to);
    mp_int(m, st->st_mode);
    mp_int(m, st->st_uid);
    mp_int(m, st->st_gid);
}

static int send_file(struct build *b, const char *from, const char *to, struct err *err)
{
    CLEANUP(cleanup_close) int fd = open(from, O_RDONLY | O_CLOEXEC);
    CLEANUP(mp_free) mp_buf m;
    struct stat st;

    mp_init(&m);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, errno, "%s: %s", from, strerror(errno));
    begin(&m, 7, "file", to, &st);
    mp_int(&m, st.st_mtime);
    mp_int(&m, st.st_size);
    return stream_put(b->out, &m, err) < 0 ? -1
               : stream_bytes(b->out, fd, (uint64_t)st.st_size, from, err);
}

static int send_link(struct build *b, const char *from, const char *to, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    char target[PATH_MAX];
    ssize_t n = readlink(from, target, sizeof target - 1);

    mp_init(&m);
    if (n < 0)
        return err_set(err, errno, "%s: %s", from, strerror(errno));
    target[n] = '\0';
    mp_array(&m, 3);
    mp_str(&m, "link");
    mp_str(&m, to);
    mp_str(&m, target);
    return stream_put(b->out, &m, err);
}

static int send_other(struct build *b, const char *from, const char *to, const struct stat *st,
                      struct err *err)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    if (S_ISDIR(st->st_mode)) {
        begin(&m, 5, "dir", to, st);
    } else if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) || S_ISFIFO(st->st_mode)) {
        begin(&m, 6, "dev", to, st);
        mp_int(&m, (int64_t)st->st_rdev);
    } else {
        return err_set(err, EINVAL, "%s: a socket cannot be sent", from);
    }
    return stream_put(b->out, &m, err);
}

/* The folders above a path, as they are on the master. */
static int send_parents(struct build *b, const char *to, struct err *err)
{
    char part[PATH_MAX];
    struct stat st;

    for (const char *p = strchr(to + 1, '/'); p; p = strchr(p + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(p - to), to);
        if (stat(part, &st) == 0 && S_ISDIR(st.st_mode) && send_other(b, part, part, &st, err) < 0)
            return -1;
    }
    return 0;
}

static int send_path(struct build *b, const char *from, const char *to, const struct how *how,
                     struct err *err)
{
    struct stat st;
    int rc = how->no_follow ? lstat(from, &st) : stat(from, &st);

    if (to[0] != '/' || strlen(to) >= PATH_MAX - 16)
        return err_set(err, EINVAL, "%s: want an absolute path", to);
    if (rc < 0)
        return err_set(err, errno, "%s: %s", from, strerror(errno));
    if (send_parents(b, to, err) < 0)
        return -1;
    log_line(b->plugin, strcmp(from, to) ? "%s as %s" : "%s", from, to);
    if (S_ISREG(st.st_mode))
        return send_file(b, from, to, err);
    if (S_ISLNK(st.st_mode))
        return send_link(b, from, to, err);
    return send_other(b, from, to, &st, err);
}

/* ---- miscfiles [-i] [-f] FILE[>NAME]... ---- */

static int send_pattern(struct build *b, const char *pattern, const struct how *how,
                        struct err *err)
{
    glob_t g;
    int rc = glob(pattern, GLOB_NOSORT, NULL, &g);

    if (rc == GLOB_NOMATCH && how->ignore) {
        log_line(b->plugin, "%s is not here: left out", pattern);
        return 0;
    }
    if (rc != 0)
        return err_set(err, ENOENT, "%s: %s", pattern,
                       rc == GLOB_NOMATCH ? "no such file (-i leaves out what is missing)"
                                          : "cannot be searched");
    for (size_t i = 0; rc == 0 && i < g.gl_pathc; i++)
        rc = send_path(b, g.gl_pathv[i], g.gl_pathv[i], how, err);
    globfree(&g);
    return rc;
}

static int send_renamed(struct build *b, const char *from, const char *to, const struct how *how,
                        struct err *err)
{
    if (!*from || !*to)
        return err_set(err, EINVAL, "a name is missing beside \">\": want FILE > NAME");
    if (how->ignore && access(from, F_OK) < 0) {
        log_line(b->plugin, "%s is not here: left out", from);
        return 0;
    }
    return send_path(b, from, to, how, err);
}

/* "A>B", "A > B", "A >B", "A> B" are all the same: the words around the arrow. */
static void next_item(int argc, char **argv, int *i, char **from, char **to)
{
    char *word = argv[*i], *arrow = strchr(word, '>');

    *from = word;
    *to = NULL;
    if (arrow) {
        *arrow = '\0';
        *to = arrow[1] ? arrow + 1 : *i + 1 < argc ? argv[++*i] : (char *)"";
    } else if (*i + 1 < argc && argv[*i + 1][0] == '>') {
        word = argv[++*i];
        *to = word[1] ? word + 1 : *i + 1 < argc ? argv[++*i] : (char *)"";
    }
    ++*i;
}

int plugin_miscfiles(struct build *b, int argc, char **argv, struct err *err)
{
    struct how how = { 0 };
    char *from, *to;
    int i = 1;

    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "-i") == 0)
            how.ignore = true;
        else if (strcmp(argv[i], "-f") == 0)
            how.no_follow = true;
        else
            return err_set(err, EINVAL, "no option %s: want [-i] [-f] FILE[>NAME]...", argv[i]);
    }
    while (i < argc) {
        next_item(argc, argv, &i, &from, &to);
        if ((to ? send_renamed(b, from, to, &how, err) : send_pattern(b, from, &how, err)) < 0)
            return -1;
    }
    return 0;
}

/* ---- vmadlib: the library list, which agents bring by themselves ---- */

int plugin_vmadlib(struct build *b, int argc, char **argv, struct err *err)
{
    CLEANUP(mp_free) mp_buf body;
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(mp_free) mp_buf rows;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    uint32_t n = 0;

    (void)argv;
    msgpack_unpacked_init(&reply);
    mp_init(&body);
    mp_init(&m);
    mp_init(&rows);
    if (argc > 1)
        return err_set(err, EINVAL, "no arguments are wanted");
    mp_map(&body, 0);
    if (gate_call(b->gate, "nodemgr.libs", &body, ASK_MS, &reply, err) < 0)
        return -1;
    const msgpack_object *list = &reply.data;
    for (uint32_t i = 0; list->type == MSGPACK_OBJECT_ARRAY && i < list->via.array.size; i++) {
        CLEANUP(cleanup_free) char *path = mp_dup(&list->via.array.ptr[i]);
        char soname[256];
        struct stat st;
        if (!path || stat(path, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (elf_soname(path, soname, sizeof soname, NULL) < 0)
            soname[0] = '\0';
        mp_array(&rows, 3);
        mp_str(&rows, path);
        mp_int(&rows, st.st_size);
        mp_str(&rows, soname);
        n++;
    }
    mp_array(&m, 3);
    mp_str(&m, "libs");
    mp_int(&m, LIBS_S);
    mp_array(&m, n);
    msgpack_sbuffer_write(&m.b, rows.b.data, rows.b.size);
    return stream_put(b->out, &m, err);
}
