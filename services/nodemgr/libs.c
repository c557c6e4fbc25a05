/* libs.c - the library list: what nodes are to have before anybody needs it
 *
 * Filled from the configuration (libraries, librariesfrombinary) when the
 * cluster starts and when the file is read again; changed by root (bplib).
 * What was added by hand stays over a reload, until the cluster ends. The list
 * is paths only; whether a file is there is looked at when it is sent.
 */
#include "services/nodemgr/nodemgr.h"
#include <errno.h>
#include <fnmatch.h>
#include <fts.h>
#include <glob.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/elf.h"

#define LIBS_MAX 65536 /* what an agent takes at once */

/* ---- a list, oldest first, with each path once ---- */

struct build { /* one that is being made */
    struct libs l;
    void *seen; /* tree of paths: l's own texts */
};

void libs_free(struct libs *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].path);
    free(l->v);
    *l = (struct libs){ 0 };
}

static int by_path(const void *a, const void *b) { return strcmp(a, b); }
static void keep_text(void *p) { (void)p; }

static void build_free(struct build *b)
{
    tdestroy(b->seen, keep_text);
    b->seen = NULL;
    libs_free(&b->l);
}

static int build_add(struct build *b, const char *path, bool hand, struct err *err)
{
    if (tfind(path, &b->seen, by_path)) {
        for (size_t i = 0; hand && i < b->l.n; i++)
            if (strcmp(b->l.v[i].path, path) == 0)
                b->l.v[i].hand = true;
        return 0;
    }
    if (b->l.n == LIBS_MAX)
        return err_set(err, E2BIG, "the library list holds at most %d paths", LIBS_MAX);
    struct lib *v = realloc(b->l.v, (b->l.n + 1) * sizeof *v);
    char *copy = strdup(path);
    if (v)
        b->l.v = v;
    if (!v || !copy || !tsearch(copy, &b->seen, by_path)) {
        free(copy);
        return err_set(err, ENOMEM, "no memory for the library list");
    }
    v[b->l.n++] = (struct lib){ copy, hand };
    return 0;
}

static int build_del(struct build *b, const char *path, struct err *err)
{
    for (size_t i = 0; i < b->l.n; i++) {
        if (strcmp(b->l.v[i].path, path) != 0)
            continue;
        tdelete(path, &b->seen, by_path);
        free(b->l.v[i].path);
        memmove(&b->l.v[i], &b->l.v[i + 1], (b->l.n - i - 1) * sizeof *b->l.v);
        b->l.n--;
        return 0;
    }
    return err_set(err, ENOENT, "%s: %s (it is not on the list)", path, err_name(ENOENT));
}

/* Those of old that were added by hand, or all. */
static int build_from(struct build *b, const struct libs *old, bool hand_only, struct err *err)
{
    for (size_t i = 0; i < old->n; i++)
        if ((old->v[i].hand || !hand_only) &&
            build_add(b, old->v[i].path, old->v[i].hand, err) < 0)
            return -1;
    return 0;
}

static bool same(const struct libs *a, const struct libs *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->v[i].path, b->v[i].path) != 0 || a->v[i].hand != b->v[i].hand)
            return false;
    return true;
}

/* The new list becomes the list, on the disk first. */
static int adopt(nodemgr_t *m, struct build *b, struct err *err)
{
    if (same(&m->libs, &b->l))
        return 0;
    if (db_save_libs(m->db, &b->l, err) < 0)
        return -1;
    struct libs old = m->libs;
    m->libs = b->l;
    b->l = old;
    if (m->svc)
        say_libs(m);
    return 0;
}

/* ---- from the configuration ---- */

static bool is_library_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return fnmatch("*.so*", slash ? slash + 1 : path, 0) == 0 &&
           strcmp(path, "/etc/ld.so.cache") != 0;
}

/* Regular files below a folder, or the file itself; links are not followed. */
static int add_below(struct build *b, char *path, struct err *err)
{
    char *const roots[] = { path, NULL };
    struct stat st;
    int rc = 0;
    FTSENT *e;

    if (stat(path, &st) < 0 || path[0] != '/')
        return 0;
    FTS *f = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | (S_ISDIR(st.st_mode) ? FTS_COMFOLLOW : 0),
                      NULL);
    if (!f)
        return err_set(err, errno, "libraries %s: %s", path, strerror(errno));
    while (rc == 0 && (e = fts_read(f)))
        if (e->fts_info == FTS_F && is_library_name(e->fts_path))
            rc = build_add(b, e->fts_path, false, err);
    fts_close(f);
    return rc;
}

static int add_pattern(struct build *b, const char *pattern, struct err *err)
{
    glob_t g;
    int rc = glob(pattern, 0, NULL, &g);

    if (rc == GLOB_NOMATCH)
        return 0; /* missing ones are ignored */
    if (rc != 0)
        return err_set(err, rc == GLOB_NOSPACE ? ENOMEM : EIO, "libraries %s: cannot be searched",
                       pattern);
    for (size_t i = 0; rc == 0 && i < g.gl_pathc; i++)
        rc = add_below(b, g.gl_pathv[i], err);
    globfree(&g);
    return rc;
}

static int add_needs(struct build *b, const char *program, struct err *err)
{
    struct file_list l;
    struct err why = { 0 };
    int rc = 0;

    if (program[0] != '/' || access(program, X_OK) < 0)
        return 0;
    if (elf_needs(program, NULL, &l, &why) < 0) {
        svc_log("warning", "librariesfrombinary: %s", why.text);
        return 0;
    }
    for (size_t i = 1; rc == 0 && i < l.n; i++)
        if (is_library_name(l.path[i]))
            rc = build_add(b, l.path[i], false, err);
    file_list_free(&l);
    return rc;
}

/* fresh: a new life of the cluster, what was added by hand before is past. */
static int fill(nodemgr_t *m, bool fresh, struct err *err)
{
    const struct cm_config *c = m->config;
    CLEANUP(build_free) struct build b = { 0 };

    if (!fresh && build_from(&b, &m->libs, true, err) < 0)
        return -1;
    for (size_t i = 0; i < c->libraries_from_binary.n; i++)
        if (add_needs(&b, c->libraries_from_binary.v[i], err) < 0)
            return -1;
    for (size_t i = 0; i < c->libraries.n; i++)
        if (add_pattern(&b, c->libraries.v[i], err) < 0)
            return -1;
    return adopt(m, &b, err);
}

int libs_start(nodemgr_t *m, bool fresh, struct err *err)
{
    return fresh ? fill(m, true, err) : db_load_libs(m->db, &m->libs, err);
}

void libs_reload(nodemgr_t *m)
{
    struct err err = { 0 };

    if (fill(m, false, &err) < 0)
        svc_log("error", "library list: %s; it stays as it was", err.text);
}

/* ---- requests ---- */

int on_libs(void *self, struct svc_req *req, struct err *err)
{
    const nodemgr_t *m = self;

    (void)err;
    mp_array(req->reply, (uint32_t)m->libs.n);
    for (size_t i = m->libs.n; i-- > 0;) /* the newest first */
        mp_str(req->reply, m->libs.v[i].path);
    return 0;
}

static bool good_path(const char *path)
{
    size_t n = strlen(path);

    if (path[0] != '/' || n >= PATH_MAX || path[n - 1] == '/')
        return false;
    for (const char *p = path; p; p = strchr(p + 1, '/')) {
        size_t part = strcspn(p + 1, "/");
        if (part == 0 || (part <= 2 && strncmp(p + 1, "..", part) == 0))
            return false;
    }
    return true;
}

/* Each path under a key, through add or del; no such key is fine. */
static int each_path(struct build *b, const msgpack_object *body, const char *key, bool add,
                     struct err *err)
{
    const msgpack_object_array *a;

    if (!mp_get(body, key))
        return 0;
    if (mp_get_array(body, key, &a, err) < 0)
        return -1;
    for (uint32_t i = 0; i < a->size; i++) {
        CLEANUP(cleanup_free) char *path = mp_dup(&a->ptr[i]);
        if (!path)
            return err_set(err, EPROTO, "%s: item %u is no text", key, i + 1);
        if (!good_path(path))
            return err_set(err, EINVAL, "%.80s: want an absolute path without \".\", \"..\" and "
                           "double slashes", path);
        if ((add ? build_add(b, path, true, err) : build_del(b, path, err)) < 0)
            return -1;
    }
    return 0;
}

/* nodemgr.setlibs: all of it or nothing; clear, then del, then add. */
int on_setlibs(void *self, struct svc_req *req, struct err *err)
{
    nodemgr_t *m = self;
    CLEANUP(build_free) struct build b = { 0 };

    if (!mp_opt_bool(req->body, "clear", false) && build_from(&b, &m->libs, false, err) < 0)
        return -1;
    if (each_path(&b, req->body, "del", false, err) < 0 ||
        each_path(&b, req->body, "add", true, err) < 0 || adopt(m, &b, err) < 0)
        return -1;
    mp_nil(req->reply);
    return 0;
}
