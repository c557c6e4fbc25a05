/* contents.c - what a program consists of, by content: manifests and hashes
 *
 * A manifest names every file that a program needs, with its SHA-256. It is
 * made by a worker thread, as the user who asked, and kept; while the files
 * have the same device, inode, size and times it is given out again at the
 * cost of a few stat calls. The master's files are the store: serve.c sends
 * them from where they are, and the agent checks what it got against the hash.
 */
#include "services/procspace/contents.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "bus/rundir.h"

#define KEEP_MANIFESTS 512
#define KEEP_HASHES 8192 /* slots, by device and inode */

struct job {
    contents_t *c;
    char *path, *library_path, *also;
    struct file_list list; /* instead of path, when it has any */
    struct identity who;
    manifest_fn *fn;
    void *arg;
    manifest_t *made;
    struct err err;
    struct job *next;
};

void sig_of(struct file_sig *s, const struct stat *st)
{
    *s = (struct file_sig){ st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim };
}

bool sig_same(const struct file_sig *s, const struct stat *st)
{
    return s->dev == st->st_dev && s->ino == st->st_ino && s->size == st->st_size &&
           s->mtime.tv_sec == st->st_mtim.tv_sec && s->mtime.tv_nsec == st->st_mtim.tv_nsec &&
           s->ctime.tv_sec == st->st_ctim.tv_sec && s->ctime.tv_nsec == st->st_ctim.tv_nsec;
}

static void manifest_free(manifest_t *m)
{
    for (size_t i = 0; i < m->nfiles; i++)
        free(m->file[i].path);
    for (size_t i = 0; i < m->ndirs; i++)
        free(m->dir[i].path);
    for (size_t i = 0; i < m->nseen; i++)
        free(m->seen[i].path);
    free(m->file);
    free(m->dir);
    free(m->seen);
    free(m->path);
    free(m->library_path);
    free(m->also);
    free(m);
}

/* With the lock held. */
static void unref_locked(manifest_t *m)
{
    if (--m->refs == 0)
        manifest_free(m);
}

void manifest_unref(contents_t *c, manifest_t **mp)
{
    if (!*mp)
        return;
    pthread_mutex_lock(&c->lock);
    unref_locked(*mp);
    pthread_mutex_unlock(&c->lock);
    *mp = NULL;
}

/* --- making one (worker thread) --- */

static int hash_file(int fd, const char *path, unsigned char out[32], struct err *err)
{
    const size_t room = 256 * 1024;
    CLEANUP(cleanup_free) char *buf = malloc(room);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int rc = 0;

    if (!buf || !md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL))
        rc = err_set(err, ENOMEM, "%s: no SHA-256", path);
    for (off_t off = 0; rc == 0;) {
        ssize_t n = pread(fd, buf, room, off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = err_set(err, errno, "read %s: %s", path, strerror(errno));
        if (n <= 0)
            break;
        EVP_DigestUpdate(md, buf, (size_t)n);
        off += n;
    }
    if (rc == 0)
        EVP_DigestFinal_ex(md, out, NULL);
    EVP_MD_CTX_free(md);
    return rc;
}

static struct hash_slot *hash_slot(contents_t *c, const struct stat *st)
{
    return &c->hashes[(st->st_ino * 31 + st->st_dev) % KEEP_HASHES];
}

/* open() as the user, then hash unless the same file was hashed before. A file
 * that changes while it is read is read again. */
static int take_file(contents_t *c, const char *path, struct content_file *f, struct err *err)
{
    struct stat st, after;

    for (int tries = 0; tries < 3; tries++) {
        CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) < 0)
            return err_set(err, errno, "%s: %s%s", path, strerror(errno),
                           errno == EACCES ? ": what is sent to nodes must be readable" : "");
        if (!S_ISREG(st.st_mode))
            return err_set(err, EACCES, "%s: not a regular file", path);
        pthread_mutex_lock(&c->lock);
        struct hash_slot *slot = hash_slot(c, &st);
        bool known = slot->used && sig_same(&slot->sig, &st);
        if (known)
            memcpy(f->hash, slot->hash, 32);
        pthread_mutex_unlock(&c->lock);
        if (!known && hash_file(fd, path, f->hash, err) < 0)
            return -1;
        if (fstat(fd, &after) < 0)
            return err_set(err, errno, "%s: %s", path, strerror(errno));
        sig_of(&f->sig, &st);
        if (!sig_same(&f->sig, &after))
            continue;
        pthread_mutex_lock(&c->lock);
        if (!known)
            slot->soname_known = false;
        slot->used = true;
        slot->sig = f->sig;
        memcpy(slot->hash, f->hash, 32);
        pthread_mutex_unlock(&c->lock);
        f->uid = st.st_uid;
        f->gid = st.st_gid;
        f->mode = st.st_mode & 01777; /* set-id bits do not travel */
        f->path = strdup(path);
        return f->path ? 0 : err_set(err, ENOMEM, "out of memory");
    }
    return err_set(err, EBUSY, "%s: keeps changing while it is read", path);
}

static int dir_add(manifest_t *m, const char *path, struct err *err)
{
    struct stat st;

    for (size_t i = 0; i < m->ndirs; i++)
        if (strcmp(m->dir[i].path, path) == 0)
            return 0;
    if (stat(path, &st) < 0)
        return 0; /* no right to look: the node makes it with its default */
    struct content_dir *d = realloc(m->dir, (m->ndirs + 1) * sizeof *d);
    if (!d)
        return err_set(err, ENOMEM, "out of memory");
    m->dir = d;
    m->dir[m->ndirs] = (struct content_dir){ strdup(path), st.st_uid, st.st_gid,
                                             st.st_mode & 01777 };
    if (!m->dir[m->ndirs].path)
        return err_set(err, ENOMEM, "out of memory");
    m->ndirs++;
    return 0;
}

static int folders_of(manifest_t *m, const char *path, struct err *err)
{
    char dir[PATH_MAX];

    for (const char *p = path + 1; (p = strchr(p, '/')); p++) {
        snprintf(dir, sizeof dir, "%.*s", (int)(p - path), path);
        if (dir_add(m, dir, err) < 0)
            return -1;
    }
    return 0;
}

int manifest_add(contents_t *c, manifest_t *m, const char *path, struct err *err)
{
    for (size_t i = 0; i < m->nfiles; i++)
        if (strcmp(m->file[i].path, path) == 0)
            return 0;
    if (m->nfiles == m->files_room) {
        size_t room = m->files_room ? 2 * m->files_room : 32;
        struct content_file *f = realloc(m->file, room * sizeof *f);
        if (!f)
            return err_set(err, ENOMEM, "out of memory");
        m->file = f;
        m->files_room = room;
    }
    memset(&m->file[m->nfiles], 0, sizeof *m->file);
    if (take_file(c, path, &m->file[m->nfiles], err) < 0)
        return -1;
    m->nfiles++;
    return folders_of(m, path, err);
}

static int fill(contents_t *c, manifest_t *m, struct err *err)
{
    struct file_list l;
    int rc = 0;

    if (access(m->path, F_OK) < 0)
        return err_set(err, errno, "%s: %s", m->path, strerror(errno));
    if (faccessat(AT_FDCWD, m->path, X_OK, AT_EACCESS) < 0)
        return err_set(err, errno, "%s: %s", m->path, strerror(errno));
    if (elf_needs(m->path, m->library_path, &l, err) < 0)
        return -1;
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        rc = manifest_add(c, m, l.path[i], err);
    file_list_free(&l);
    if (rc == 0 && m->also)
        rc = also_fill(c, m, err);
    return rc < 0 ? rc : also_plugins(c, m, err);
}

/* --- a list of files (worker thread) --- */

static void list_one(contents_t *c, manifest_t *m, const char *path)
{
    struct err err = { 0 };

    if (manifest_add(c, m, path, &err) < 0)
        svc_log("warning", "library list: %s", err.text);
}

/* Read once, and kept with the file's hash. "": none. */
static void soname_of(contents_t *c, const char *path, const struct stat *st,
                      char name[NAME_MAX + 1])
{
    pthread_mutex_lock(&c->lock);
    struct hash_slot *slot = hash_slot(c, st);
    bool known = slot->used && sig_same(&slot->sig, st) && slot->soname_known;
    snprintf(name, NAME_MAX + 1, "%s", known ? slot->soname : "");
    pthread_mutex_unlock(&c->lock);
    if (known)
        return;
    if (elf_soname(path, name, NAME_MAX + 1, NULL) < 0)
        *name = 0;
    pthread_mutex_lock(&c->lock);
    if (slot->used && sig_same(&slot->sig, st) && strlen(name) < sizeof slot->soname) {
        snprintf(slot->soname, sizeof slot->soname, "%.*s", (int)sizeof slot->soname - 1, name);
        slot->soname_known = true;
    }
    pthread_mutex_unlock(&c->lock);
}

/* Programs ask for a library by its soname, a link beside it on the master. */
static void list_soname(contents_t *c, manifest_t *m, const char *path)
{
    const char *slash = strrchr(path, '/');
    char name[NAME_MAX + 1], link[PATH_MAX];
    struct stat a, b;

    if (!slash || stat(path, &a) < 0)
        return;
    soname_of(c, path, &a, name);
    if (!*name)
        return;
    int len = snprintf(link, sizeof link, "%.*s/%s", (int)(slash - path), path, name);
    if (len > 0 && (size_t)len < sizeof link && stat(link, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino)
        list_one(c, m, link);
}

static void fill_list(contents_t *c, manifest_t *m, const struct file_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        list_one(c, m, l->path[i]);
        list_soname(c, m, l->path[i]);
    }
}

static manifest_t *make(contents_t *c, struct job *j)
{
    manifest_t *m = calloc(1, sizeof *m);

    if (m) {
        m->refs = 1;
        m->path = strdup(j->path);
        m->library_path = j->library_path ? strdup(j->library_path) : NULL;
        m->also = j->also ? strdup(j->also) : NULL;
    }
    if (!m || !m->path || (j->library_path && !m->library_path) || (j->also && !m->also)) {
        err_set(&j->err, ENOMEM, "out of memory");
        if (m)
            manifest_free(m);
        return NULL;
    }
    int rc = as_user(&j->who, &j->err);
    if (rc == 0 && j->list.n)
        fill_list(c, m, &j->list);
    else if (rc == 0)
        rc = fill(c, m, &j->err);
    as_self();
    if (rc < 0) {
        manifest_free(m);
        return NULL;
    }
    return m;
}

static void *worker(void *arg)
{
    contents_t *c = arg;
    uint64_t one = 1;

    pthread_mutex_lock(&c->lock);
    while (!c->stopping) {
        struct job *j = c->todo;
        if (!j) {
            pthread_cond_wait(&c->work, &c->lock);
            continue;
        }
        c->todo = j->next;
        if (!c->todo)
            c->todo_last = &c->todo;
        pthread_mutex_unlock(&c->lock);
        j->made = make(c, j);
        pthread_mutex_lock(&c->lock);
        j->next = c->done;
        c->done = j;
        if (write(c->bell, &one, sizeof one) < 0)
            svc_log("error", "eventfd: %s", strerror(errno));
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* --- asking for one (the loop's thread) --- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* Still true, and may this user have it? */
static bool still_good(const manifest_t *m, const struct identity *who)
{
    struct stat st;
    bool good = as_user(who, NULL) == 0 &&
                faccessat(AT_FDCWD, m->path, R_OK | X_OK, AT_EACCESS) == 0 &&
                also_unchanged(m);

    for (size_t i = 0; good && i < m->nfiles; i++)
        good = stat(m->file[i].path, &st) == 0 && sig_same(&m->file[i].sig, &st) &&
               (m->file[i].mode & S_IROTH || who->uid == 0 ||
                faccessat(AT_FDCWD, m->file[i].path, R_OK, AT_EACCESS) == 0);
    as_self();
    return good;
}

static bool same_program(const manifest_t *m, const char *path, const char *library_path,
                         const char *also)
{
    return same_text(m->path, path) && same_text(m->library_path, library_path) &&
           same_text(m->also, also);
}

static void kept_add(contents_t *c, manifest_t *m)
{
    pthread_mutex_lock(&c->lock);
    for (manifest_t **p = &c->kept; *p; p = &(*p)->next)
        if (same_program(*p, m->path, m->library_path, m->also)) {
            manifest_t *old = *p;
            *p = old->next;
            c->nkept--;
            unref_locked(old);
            break;
        }
    m->refs++;
    m->next = c->kept;
    c->kept = m;
    if (++c->nkept > KEEP_MANIFESTS) {
        manifest_t **p = &c->kept;
        while ((*p)->next)
            p = &(*p)->next;
        unref_locked(*p);
        *p = NULL;
        c->nkept--;
    }
    pthread_mutex_unlock(&c->lock);
}

static void job_free(struct job *j)
{
    free(j->path);
    free(j->library_path);
    free(j->also);
    file_list_free(&j->list);
    identity_free(&j->who);
    free(j);
}

static void on_bell(void *arg, int fd, uint32_t events)
{
    contents_t *c = arg;
    uint64_t n;

    (void)events;
    if (read(fd, &n, sizeof n) < 0)
        return;
    pthread_mutex_lock(&c->lock);
    struct job *j = c->done;
    c->done = NULL;
    pthread_mutex_unlock(&c->lock);
    while (j) {
        struct job *next = j->next;
        if (j->made && !j->list.n)
            kept_add(c, j->made);
        j->fn(j->arg, j->made, &j->err);
        job_free(j);
        j = next;
    }
}

static void enqueue(contents_t *c, struct job *j)
{
    pthread_mutex_lock(&c->lock);
    *c->todo_last = j;
    c->todo_last = &j->next;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
}

void manifest_get(contents_t *c, const char *path, const char *library_path,
                  const char *also, const struct identity *who, manifest_fn *fn, void *arg)
{
    struct err err = { 0 };
    manifest_t *m;

    for (m = c->kept; m; m = m->next) /* only this thread changes the list */
        if (same_program(m, path, library_path, also))
            break;
    if (m && still_good(m, who)) {
        pthread_mutex_lock(&c->lock);
        m->refs++;
        pthread_mutex_unlock(&c->lock);
        fn(arg, m, NULL);
        return;
    }
    struct job *j = calloc(1, sizeof *j);
    if (j) {
        *j = (struct job){ .c = c, .fn = fn, .arg = arg };
        j->path = strdup(path);
        j->library_path = library_path ? strdup(library_path) : NULL;
        j->also = also ? strdup(also) : NULL;
        j->who = *who;
        j->who.groups = malloc(((size_t)who->ngroups + 1) * sizeof *j->who.groups);
        if (j->who.groups && who->ngroups)
            memcpy(j->who.groups, who->groups, (size_t)who->ngroups * sizeof *who->groups);
    }
    if (!j || !j->path || !j->who.groups || (library_path && !j->library_path) ||
        (also && !j->also)) {
        if (j)
            job_free(j);
        err_set(&err, ENOMEM, "out of memory");
        fn(arg, NULL, &err);
        return;
    }
    enqueue(c, j);
}

void manifest_of_list(contents_t *c, const struct file_list *list, manifest_fn *fn, void *arg)
{
    const struct err no = { ENOMEM, "out of memory" };
    struct job *j = calloc(1, sizeof *j);

    if (j) {
        *j = (struct job){ .c = c, .fn = fn, .arg = arg, .who = { .gid = getegid() } };
        j->path = strdup("the library list");
        j->list.path = calloc(list->n + 1, sizeof *j->list.path);
    }
    bool good = j && j->path && j->list.path;
    for (size_t i = 0; good && i < list->n; i++) {
        j->list.path[i] = strdup(list->path[i]);
        good = j->list.path[i] != NULL;
        j->list.n += good;
    }
    if (good) {
        enqueue(c, j);
        return;
    }
    if (j)
        job_free(j);
    fn(arg, NULL, &no);
}

void manifest_pack(contents_t *c, manifest_t *m, mp_buf *out)
{
    struct bulk_ticket t;

    mp_key(out, "files");
    mp_array(out, (uint32_t)m->nfiles);
    for (size_t i = 0; i < m->nfiles; i++) {
        const struct content_file *f = &m->file[i];
        mp_array(out, 6);
        mp_bin(out, f->path, strlen(f->path));
        mp_bin(out, f->hash, 32);
        mp_int(out, f->sig.size);
        mp_int(out, f->uid);
        mp_int(out, f->gid);
        mp_int(out, f->mode);
    }
    mp_key(out, "dirs");
    mp_array(out, (uint32_t)m->ndirs);
    for (size_t i = 0; i < m->ndirs; i++) {
        mp_array(out, 4);
        mp_bin(out, m->dir[i].path, strlen(m->dir[i].path));
        mp_int(out, m->dir[i].uid);
        mp_int(out, m->dir[i].gid);
        mp_int(out, m->dir[i].mode);
    }
    ticket_for(c, m, &t);
    mp_key(out, "fetch");
    mp_map(out, 4);
    mp_kstr(out, "addr", "");
    mp_kint(out, "port", c->port);
    mp_kstr(out, "token", t.token);
    mp_kbin(out, "psk", t.key, sizeof t.key);
}

/* --- life --- */

contents_t *contents_create(procspace_t *ps, struct err *err)
{
    contents_t *c = calloc(1, sizeof *c);

    if (!c || !(c->hashes = calloc(KEEP_HASHES, sizeof *c->hashes))) {
        free(c);
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    c->ps = ps;
    c->listener = -1;
    c->todo_last = &c->todo;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, NULL);
    pthread_cond_init(&c->idle, NULL);
    c->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->bell < 0 || loop_fd(ps->loop, c->bell, EPOLLIN, on_bell, c, err) < 0 ||
        (errno = pthread_create(&c->worker, NULL, worker, c))) {
        err_set(err, errno, "hashing thread: %s", strerror(errno));
        if (c->bell >= 0)
            close(c->bell);
        free(c->hashes);
        free(c);
        return NULL;
    }
    return c;
}

void contents_destroy(contents_t **cp)
{
    contents_t *c = *cp;

    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->worker, NULL);
    serve_stop(c);
    loop_fd_del(c->ps->loop, c->bell);
    close(c->bell);
    while (c->todo) {
        struct job *j = c->todo;
        c->todo = j->next;
        job_free(j);
    }
    while (c->kept) {
        manifest_t *m = c->kept;
        c->kept = m->next;
        unref_locked(m);
    }
    free(c->hashes);
    free(c);
    *cp = NULL;
}
