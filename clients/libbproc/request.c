/* request.c - what is to be started, packed for procspace */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/limits.h"
#include "clients/libbproc/lib.h"

static int check_entry(const struct bproc_io_t *io)
{
    if (io->fd < 0)
        return lib_errno(EBADF);
    if (io->type == BPROC_IO_MEMFILE)
        return lib_errno(EPERM);
    if ((io->type != BPROC_IO_FILE && io->type != BPROC_IO_SOCKET) ||
        (io->flags & ~(BPROC_IO_SEND_INFO | BPROC_IO_DELAY)))
        return lib_errno(EINVAL);
    if (io->type == BPROC_IO_FILE && !memchr(io->d.file.name, 0, sizeof io->d.file.name))
        return lib_errno(ENAMETOOLONG);
    if (io->type == BPROC_IO_FILE && (io->d.file.offset < 0 || io->d.file.mode & ~07777))
        return lib_errno(EINVAL);
    if (io->type == BPROC_IO_SOCKET && io->d.addr.sa_family != AF_INET &&
        io->d.addr.sa_family != AF_UNIX)
        return lib_errno(EAFNOSUPPORT);
    return 0;
}

int start_check(const struct start *s)
{
    if (s->iolen < -1 || s->iolen > BPROC_IO_MAX_LEN)
        return lib_errno(EINVAL);
    if (s->iolen > 0 && !s->io)
        return lib_errno(EFAULT);
    for (int i = 0; i < s->iolen; i++)
        if (check_entry(&s->io[i]) < 0)
            return -1;
    return 0;
}

char *start_path(const char *cmd)
{
    CLEANUP(cleanup_free) char *cwd = NULL;
    char *path = NULL;

    if (!*cmd) {
        errno = ENOENT;
        return NULL;
    }
    if (*cmd == '/')
        return strdup(cmd);
    if (!(cwd = getcwd(NULL, 0)) || asprintf(&path, "%s/%s", cwd, cmd) < 0)
        return NULL;
    return path;
}

/* umask(2) cannot be read without being set, which another thread would see. */
static unsigned current_umask(void)
{
    char line[128];
    unsigned mask = 022;
    FILE *f = fopen("/proc/self/status", "re");

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Umask: %o", &mask) == 1)
            break;
    if (f)
        fclose(f);
    return mask & 0777;
}

static void pack_texts(mp_buf *m, const char *key, char *const *v)
{
    uint32_t n = 0;

    while (v[n])
        n++;
    mp_key(m, key);
    mp_array(m, n);
    for (uint32_t i = 0; i < n; i++)
        mp_bin(m, v[i], strlen(v[i]));
}

/* Default forwarding: stdin is empty, stdout and stderr come back. */
static void pack_streams(const struct start *s, bool self, mp_buf *m)
{
    /* From a node only what moves itself: it has a reader already, which follows. */
    bool forward = s->iolen < 0 && ((s->maps && self) || !lib_on_node());

    mp_key(m, "streams");
    mp_array(m, 3);
    for (int fd = 0; fd < 3; fd++) {
        mp_map(m, 1);
        mp_kstr(m, "mode", forward && fd > 0 ? "forward" : "null");
    }
}

static void pack_io(const struct start *s, mp_buf *m)
{
    mp_key(m, "io");
    mp_array(m, (uint32_t)s->iolen);
    for (int i = 0; i < s->iolen; i++) {
        const struct bproc_io_t *io = &s->io[i];
        bool file = io->type == BPROC_IO_FILE;
        mp_map(m, file ? 7 : 4);
        mp_kint(m, "fd", io->fd);
        mp_kbool(m, "info", io->flags & BPROC_IO_SEND_INFO);
        mp_kbool(m, "delay", io->flags & BPROC_IO_DELAY);
        if (file) {
            mp_kbin(m, "path", io->d.file.name, strlen(io->d.file.name));
            mp_kint(m, "flags", io->d.file.flags);
            mp_kint(m, "mode", io->d.file.mode);
            mp_kint(m, "offset", io->d.file.offset);
        } else {
            mp_kbin(m, "addr", &io->d.addr, sizeof io->d.addr);
        }
    }
}

static void pack_ints(mp_buf *m, const char *key, const int *v, uint32_t n)
{
    mp_key(m, key);
    mp_array(m, n);
    for (uint32_t i = 0; i < n; i++)
        mp_int(m, v[i]);
}

static const char *env_value(char *const *envp, const char *name)
{
    size_t n = strlen(name);

    for (; *envp; envp++)
        if (strncmp(*envp, name, n) == 0 && (*envp)[n] == '=')
            return *envp + n + 1;
    return NULL;
}

int start_pack(const struct start *s, uint64_t launch, const int *node, const int32_t *pid,
               const int *index, uint32_t n, bool self, mp_buf *m, struct err *err)
{
    /* An image's program may be gone from its path: that is for the node to see. */
    CLEANUP(cleanup_free) char *path = s->maps ? strdup(s->cmd) : start_path(s->cmd);
    CLEANUP(cleanup_free) char *cwd = getcwd(NULL, 0);
    const char *libs = env_value(s->envp, "LD_LIBRARY_PATH");

    if (!path)
        return err_set(err, errno, "%s: %s", s->cmd, strerror(errno));
    mp_map(m, 12u + (libs != NULL) + (s->iolen > 0) + (index != NULL) + self + s->found +
                  (s->maps != NULL) + (s->nkept > 0));
    mp_kuint(m, "launch", launch);
    mp_kbool(m, "kin", true);
    pack_ints(m, "nodes", node, n);
    pack_ints(m, "pids", pid, n);
    pack_texts(m, "argv", s->argv);
    pack_texts(m, "env", s->envp);
    mp_kbin(m, "cwd", cwd ? cwd : "/", cwd ? strlen(cwd) : 1);
    mp_kuint(m, "umask", current_umask());
    mp_key(m, "limits");
    limits_pack(0, m);
    mp_kbin(m, "path", path, strlen(path));
    pack_streams(s, self, m);
    mp_kbool(m, "reader", false); /* bpfwd is, and outlives the caller */
    if (libs)
        mp_kbin(m, "library_path", libs, strlen(libs));
    if (s->iolen > 0)
        pack_io(s, m);
    if (index)
        pack_ints(m, "index", index, n);
    if (self)
        mp_kbool(m, "self", true);
    if (s->found)
        mp_kbool(m, "found", true);
    if (s->nkept) {
        mp_key(m, "children");
        mp_array(m, s->nkept);
        msgpack_sbuffer_write(&m->b, s->kept->b.data, s->kept->b.size);
    }
    if (s->maps) {
        mp_key(m, "image");
        mp_map(m, 2);
        mp_kuint(m, "bytes", s->bytes);
        mp_key(m, "maps");
        msgpack_sbuffer_write(&m->b, s->maps->b.data, s->maps->b.size);
    }
    return 0;
}
