/* agent_files.c (test) - content fetched, placed, replaced, refused, evicted
 *
 * A content server of our own (bus/bulk.h), a node's root on a tmpfs of our
 * own, and everything that a node may do to its file system meanwhile.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/agent/files.h"
#include "tests/unit/tap.h"

#define LIMIT_MS 10000

/* ---- the content server ---- */

struct blob {
    unsigned char hash[FETCH_HASH];
    char *data;
    size_t len;
};

static struct blob blobs[32];
static int nblobs;
static struct bulk_ticket ticket;
static int listen_fd;
static uint16_t listen_port;
static _Atomic int served; /* contents sent */
static _Atomic int spoil;  /* this many of the next ones are damaged on the way */

static struct blob *blob_make(size_t len, int seed)
{
    struct blob *b = &blobs[nblobs++];

    b->len = len;
    b->data = malloc(len + 1);
    if (!b->data)
        abort();
    for (size_t i = 0; i < len; i++)
        b->data[i] = (char)(i * 31 + (size_t)seed * 7 + (i >> 8));
    EVP_Digest(b->data, len, b->hash, NULL, EVP_sha256(), NULL);
    return b;
}

static void serve_one(bulk_t *c)
{
    unsigned char hash[FETCH_HASH], head[8];

    while (bulk_read_all(c, hash, sizeof hash, LIMIT_MS, NULL) == 0) {
        const struct blob *b = NULL;
        for (int i = 0; i < nblobs; i++)
            if (!memcmp(blobs[i].hash, hash, sizeof hash))
                b = &blobs[i];
        uint64_t n = b ? b->len : UINT64_MAX;
        for (int i = 0; i < 8; i++)
            head[i] = (unsigned char)(n >> (8 * i));
        if (bulk_write(c, head, sizeof head, LIMIT_MS, NULL) < 0)
            return;
        if (!b)
            continue;
        served++;
        bool bad = spoil > 0;
        if (bad) {
            spoil--;
            b->data[0] ^= 1;
        }
        int rc = bulk_write(c, b->data, b->len, LIMIT_MS, NULL);
        if (bad)
            b->data[0] ^= 1;
        if (rc < 0)
            return;
    }
}

static const unsigned char *lookup(void *arg, const char *token)
{
    (void)arg;
    return strcmp(token, ticket.token) ? NULL : ticket.key;
}

static void *serve_thread(void *arg)
{
    int fd = (int)(intptr_t)arg;
    bulk_t *c = bulk_server_lookup(fd, lookup, NULL, LIMIT_MS, NULL);

    if (c) {
        serve_one(c);
        bulk_close(&c);
    }
    return NULL;
}

static void *accept_thread(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        pthread_t t;
        if (fd < 0)
            return NULL;
        if (pthread_create(&t, NULL, serve_thread, (void *)(intptr_t)fd) == 0)
            pthread_detach(t);
    }
}

static void start_server(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t len = sizeof at;
    pthread_t t;

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *)&at, sizeof at) < 0 ||
        listen(listen_fd, 8) < 0 || getsockname(listen_fd, (struct sockaddr *)&at, &len) < 0)
        abort();
    listen_port = ntohs(at.sin_port);
    bulk_ticket_make(&ticket);
    if (pthread_create(&t, NULL, accept_thread, NULL))
        abort();
    pthread_detach(t);
}

/* ---- the node ---- */

static char top[] = "/tmp/agent-files-XXXXXX";
static char root_path[256];
static int root;
static loop_t *loop;
static files_t *files;

static void new_root(const char *size)
{
    char opt[64];
    static int count;

    if (root > 0)
        close(root);
    snprintf(root_path, sizeof root_path, "%s/root%d", top, ++count);
    snprintf(opt, sizeof opt, "mode=0755,size=%s", size);
    if (mkdir(root_path, 0755) < 0 || mount("node", root_path, "tmpfs", 0, opt) < 0)
        abort();
    root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || mkdirat(root, "usr", 0755) < 0 || mkdirat(root, "usr/bin", 0755) < 0 ||
        symlinkat("usr/bin", root, "bin") < 0)
        abort();
}

static void new_files(void)
{
    struct err err = { 0 };

    files_destroy(&files);
    files = files_create(loop, root, &err);
    if (!files) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
}

struct result {
    bool called;
    int rc;
    struct err err;
    files_hold_t *hold;
};

static struct fetch_source source;
static struct place_dirs dirs;

static void on_done(void *arg, const struct err *err)
{
    struct result *r = arg;

    r->called = true;
    r->err = err ? *err : (struct err){ 0 };
}

static struct files_want want(const char *path, const struct blob *b, uid_t uid, mode_t mode)
{
    struct files_want w = { (char *)(uintptr_t)path, { 0 }, b->len, uid, uid, mode };

    memcpy(w.hash, b->hash, sizeof w.hash);
    return w;
}

static void begin_from(struct result *r, const struct files_want *w, size_t n,
                       const char *prefix, const struct fetch_source *from)
{
    struct files_request rq = { prefix, w, n, &dirs, from, NULL };

    memset(r, 0, sizeof *r);
    r->rc = files_provide(files, &rq, on_done, r, &r->hold, &r->err);
}

static void begin(struct result *r, const struct files_want *w, size_t n, const char *prefix)
{
    begin_from(r, w, n, prefix, &source);
}

static void finish(struct result *r)
{
    int64_t end = now_ms() + LIMIT_MS;

    while (r->rc == 1 && !r->called && now_ms() < end)
        loop_once(loop, 100);
}

/* Provide one file and wait; the hold is dropped unless the caller wants it. */
static struct err provide(const char *path, const struct blob *b, uid_t uid,
                          files_hold_t **hold)
{
    struct files_want w = want(path, b, uid, 0755);
    struct result r;

    begin(&r, &w, 1, NULL);
    finish(&r);
    if (hold)
        *hold = r.hold;
    else
        files_drop(files, &r.hold);
    return r.err;
}

static bool node_has(const char *path, const struct blob *b)
{
    int fd = place_open(root, path, O_RDONLY, 0);
    char *text = malloc(b->len + 1);
    bool same = fd >= 0 && text && read(fd, text, b->len + 1) == (ssize_t)b->len &&
                !memcmp(text, b->data, b->len);

    if (fd >= 0)
        close(fd);
    free(text);
    return same;
}

/* ---- the claims ---- */

static void places(void)
{
    struct blob *a = blob_make(300000, 1), *b = blob_make(5, 2), *empty = blob_make(0, 3);
    char home[] = "/home/u", deep[] = "/home/u/bin";
    struct place_dir dir[] = { { home, 1000, 1000, 0750 }, { deep, 1000, 1000, 02755 } };
    struct files_want w[3] = { want("/bin/a", a, 0, 04755), want("/home/u/bin/b", b, 1000, 0700),
                               want("/etc/empty", empty, 0, 0644) };
    struct result r;
    struct stat st;

    dirs = (struct place_dirs){ dir, 2 };
    begin(&r, w, 3, NULL);
    ok(r.rc == 1, "content that is not there is waited for");
    finish(&r);
    if (!ok(r.called && !r.err.code, "and comes"))
        printf("# %s\n", r.err.text);
    ok(node_has("/usr/bin/a", a), "a path through usrmerge's symlink ends in usr");
    ok(node_has("/home/u/bin/b", b) && node_has("/etc/empty", empty),
       "small and empty files arrive whole");
    ok(place_stat(root, "/usr/bin/a", &st) == 0 && st.st_mode == (S_IFREG | 04755) &&
           st.st_uid == 0,
       "owner and mode are as asked for, set-user-ID too");
    ok(place_stat(root, "/home/u/bin/b", &st) == 0 && st.st_uid == 1000 && st.st_nlink == 2,
       "the file is a hard link to the cache");
    ok(place_stat(root, "/home/u", &st) == 0 && st.st_uid == 1000 &&
           st.st_mode == (S_IFDIR | 0750),
       "folders get the owner and mode that they have on the master");
    ok(place_stat(root, "/home", &st) == 0 && st.st_uid == 0 && st.st_mode == (S_IFDIR | 0755),
       "and 0755 of root where nothing was said");
    ok(place_stat(root, FILES_CACHE, &st) == 0 && st.st_mode == (S_IFDIR | 0700),
       "the cache is closed to others");
    files_drop(files, &r.hold);
    int before = served;
    begin(&r, w, 3, NULL);
    ok(r.rc == 0 && served == before, "asked for again, everything is there at once");
    files_drop(files, &r.hold);
    dirs = (struct place_dirs){ NULL, 0 };
}

static void replaces(void)
{
    struct blob *old = blob_make(70000, 4), *new = blob_make(80000, 5);
    struct stat was, now;
    files_hold_t *hold = NULL;

    provide("/usr/bin/tool", old, 0, &hold);
    place_stat(root, "/usr/bin/tool", &was);
    int fd = place_open(root, "/usr/bin/tool", O_RDONLY, 0);
    struct err e = provide("/usr/bin/tool", new, 0, NULL);
    ok(!e.code && node_has("/usr/bin/tool", new), "changed content takes the old one's place");
    place_stat(root, "/usr/bin/tool", &now);
    ok(was.st_ino != now.st_ino, "by a new inode, not by writing into the old one");
    char c;
    ok(read(fd, &c, 1) == 1 && c == old->data[0], "who has the old file open keeps it");
    close(fd);
    int before = served;
    e = provide("/usr/bin/tool", old, 0, NULL);
    ok(!e.code && node_has("/usr/bin/tool", old) && served == before,
       "and back again without asking the master");
    files_drop(files, &hold);
    e = provide("/usr/bin/tool2", old, 1000, NULL);
    ok(!e.code && served == before, "the same content for another owner is copied on the node");
}

static void refuses_escapes(void)
{
    struct blob *a = blob_make(1000, 6);
    char outside[512], link[1024];
    struct stat st;

    snprintf(outside, sizeof outside, "%s/outside", top);
    mkdir(outside, 0755);
    symlinkat(outside, root, "abs");
    snprintf(link, sizeof link, "../../../../..%s/outside", top);
    symlinkat(link, root, "dots");
    symlinkat("/nowhere", root, "dangling");
    symlinkat("loop2", root, "loop1");
    symlinkat("loop1", root, "loop2");
    struct err e = provide("/abs/evil", a, 0, NULL);
    ok(e.code == ENOTDIR, "a symlink to a folder outside is refused");
    says(e.text, "something else is there on the node", "and the reason says so");
    e = provide("/dots/evil", a, 0, NULL);
    ok(e.code == ENOTDIR, "a symlink with many dots is refused");
    e = provide("/dangling/evil", a, 0, NULL);
    ok(e.code == ENOTDIR, "so is one to nowhere");
    e = provide("/loop1/evil", a, 0, NULL);
    ok(e.code == ELOOP, "and one that goes round in circles");
    mkdirat(root, "proc", 0755);
    snprintf(link, sizeof link, "%s/proc", root_path);
    if (mount("proc", link, "proc", 0, NULL) == 0) {
        symlinkat("/proc/self/root", root, "magic");
        snprintf(link, sizeof link, "/magic%s/evil", outside);
        e = provide(link, a, 0, NULL);
        ok(e.code != 0, "a magic link of /proc leads nowhere: %s", e.text);
    }
    snprintf(link, sizeof link, "%s/evil", outside);
    ok(stat(link, &st) < 0 && errno == ENOENT, "nothing was written outside");
    symlinkat(link, root, "usr/bin/evil");
    e = provide("/usr/bin/evil", a, 0, NULL);
    ok(!e.code && stat(link, &st) < 0 && node_has("/usr/bin/evil", a),
       "a symlink in the file's own place is replaced, not followed");
    mkdirat(root, "usr/bin/folder", 0755);
    e = provide("/usr/bin/folder", a, 0, NULL);
    ok(e.code == EISDIR, "a folder in the way is left alone");
    ok(place_check("/a/../b", NULL) < 0 && place_check("a", NULL) < 0 &&
           place_check("/a//b", NULL) < 0 && place_check("/a/", NULL) < 0 &&
           place_check("/a/.b", NULL) == 0,
       "dotted, relative and empty parts are no paths");
}

static void distrusts(void)
{
    struct blob *a = blob_make(50000, 7), *gone = blob_make(10, 8);
    struct result r1, r2;
    struct files_want w = want("/usr/bin/twice", a, 0, 0755);

    int before = served;
    begin(&r1, &w, 1, NULL);
    w.path = (char *)(uintptr_t) "/usr/bin/twice2";
    struct files_want w2 = w;
    begin(&r2, &w2, 1, NULL);
    w.path = (char *)(uintptr_t) "/usr/bin/twice";
    finish(&r1);
    finish(&r2);
    ok(!r1.err.code && !r2.err.code && served == before + 1 && node_has("/usr/bin/twice2", a),
       "two launches that want the same content wait for one fetch");
    files_drop(files, &r1.hold);
    files_drop(files, &r2.hold);

    struct blob *b = blob_make(400000, 9);
    spoil = 1;
    struct err e = provide("/usr/bin/damaged", b, 0, NULL);
    ok(!e.code && node_has("/usr/bin/damaged", b), "content damaged on the way comes once more");
    struct blob *c = blob_make(400000, 10);
    spoil = 99;
    e = provide("/usr/bin/damaged2", c, 0, NULL);
    spoil = 0;
    ok(e.code == EBADMSG, "and is refused when it is damaged again");
    says(e.text, "SHA-256 differs", "with the reason");
    struct stat st;
    ok(place_stat(root, "/usr/bin/damaged2", &st) < 0, "and nothing is placed");

    gone->hash[0] ^= 1; /* the server has no such content */
    struct blob missing = *gone;
    gone->hash[0] ^= 1;
    e = provide("/usr/bin/gone", &missing, 0, NULL);
    if (!ok(e.code == ENOENT, "content that the master no longer has is said so"))
        printf("# %d %s\n", e.code, e.text);

    struct blob *mine = blob_make(60000, 11);
    provide("/usr/bin/mine", mine, 1000, NULL);
    int fd = place_open(root, "/usr/bin/mine", O_WRONLY, 0);
    if (pwrite(fd, "evil", 4, 0) != 4)
        abort();
    struct timespec old[2] = { { 1, 0 }, { 1, 0 } };
    futimens(fd, old);
    close(fd);
    before = served;
    e = provide("/usr/bin/mine", mine, 1000, NULL);
    if (!ok(!e.code && served == before + 1 && node_has("/usr/bin/mine", mine),
            "a file changed on the node is noticed and fetched afresh"))
        printf("# %d %s\n", e.code, e.text);
}

static void survives_restart(void)
{
    struct blob *a = blob_make(90000, 12), *u = blob_make(91000, 13);
    struct result r;
    char *note;

    provide("/usr/bin/kept", a, 0, NULL);
    provide("/usr/bin/users", u, 1000, NULL);
    files_note_write(files, "note", "hello", NULL);
    new_files();
    int before = served;
    struct files_want w = want("/usr/bin/kept", a, 0, 0755);
    begin(&r, &w, 1, NULL);
    ok(r.rc == 0 && served == before, "the next agent knows what is in place");
    files_drop(files, &r.hold);
    w = want("/usr/bin/users", u, 1000, 0755);
    begin(&r, &w, 1, NULL);
    ok(r.rc == 1, "but looks again at what a user could have changed");
    finish(&r);
    ok(!r.err.code && served == before && node_has("/usr/bin/users", u),
       "and finds it right, without the master");
    files_drop(files, &r.hold);
    note = files_note_read(files, "note");
    is(note, "hello", "a note of the earlier agent is there");
    free(note);
}

/* The service that has promised the content was killed, and the next knows nothing of it. */
static void outlives_tickets(void)
{
    struct blob *a = blob_make(4000, 18), *b = blob_make(4000, 19), *c = blob_make(4000, 20);
    struct files_want w = want("/usr/bin/promised", a, 0, 0755);
    struct fetch_source old = source, older = source;
    struct result first, second;

    bulk_ticket_make(&old.ticket);
    bulk_ticket_make(&older.ticket);
    begin_from(&first, &w, 1, NULL, &old);
    begin(&second, &w, 1, NULL);
    finish(&first);
    finish(&second);
    ok(!first.err.code && !second.err.code && node_has("/usr/bin/promised", a),
       "what one ticket does not bring, that of another launch does");
    files_drop(files, &first.hold);
    files_drop(files, &second.hold);

    w = want("/usr/bin/promised", b, 0, 0755);
    begin_from(&first, &w, 1, NULL, &old);
    old = source; /* asked again */
    finish(&first);
    ok(!first.err.code && node_has("/usr/bin/promised", b),
       "so does a newer one of the same launch");
    files_drop(files, &first.hold);

    w = want("/usr/bin/promised", c, 0, 0755);
    bulk_ticket_make(&old.ticket);
    begin_from(&first, &w, 1, NULL, &old);
    begin_from(&second, &w, 1, NULL, &older);
    finish(&first);
    finish(&second);
    ok(first.called && second.called && first.err.code == EPROTO && second.err.code == EPROTO,
       "where none does, all are told");
    says(first.err.text, "fetch from the master: ", "and why");
    files_drop(files, &first.hold);
    files_drop(files, &second.hold);
}

static void other_root(void)
{
    struct blob *a = blob_make(4000, 14);
    struct files_want w = want("/bin/inside", a, 0, 0755);
    struct result r;
    struct stat st;

    mkdirat(root, "jail", 0755);
    symlinkat("/usr/bin", root, "jail/bin"); /* means the jail's, not the node's */
    mkdirat(root, "jail/usr", 0755);
    mkdirat(root, "jail/usr/bin", 0755);
    begin(&r, &w, 1, "/jail");
    finish(&r);
    ok(!r.err.code && node_has("/jail/usr/bin/inside", a) &&
           place_stat(root, "/usr/bin/inside", &st) < 0,
       "a launch with a root of its own gets its files in there");
    files_drop(files, &r.hold);
    begin(&r, &w, 1, "/none");
    ok(r.rc == -1 && r.err.code == ENOENT, "a root that is not there is said so");
}

static void runs_out_of_room(void)
{
    struct blob *a = blob_make(600000, 15), *b = blob_make(500000, 16);
    files_hold_t *hold = NULL;
    struct stat st;

    new_root("1m");
    new_files();
    struct err e = provide("/usr/bin/a", a, 0, &hold);
    ok(!e.code, "the first file fits");
    e = provide("/usr/bin/b", b, 0, NULL);
    ok(e.code == ENOSPC, "the second does not, while the first is held");
    says(e.text, "/usr/bin/b (489 kB) does not fit: No space left on device; node root has ",
         "and the text says what, how big, and what is free");
    ok(node_has("/usr/bin/a", a), "what is held stays");
    files_drop(files, &hold);
    e = provide("/usr/bin/b", b, 0, NULL);
    ok(!e.code && node_has("/usr/bin/b", b), "it fits once the first is not held any more");
    ok(place_stat(root, "/usr/bin/a", &st) < 0, "which went with its place");
    struct blob *huge = blob_make(2000000, 17);
    e = provide("/usr/bin/huge", huge, 0, NULL);
    ok(e.code == ENOSPC && node_has("/usr/bin/b", b),
       "for what can never fit nothing is thrown out");
    new_files();
    e = provide("/usr/bin/a", a, 0, NULL);
    ok(!e.code && node_has("/usr/bin/a", a) && place_stat(root, "/usr/bin/b", &st) < 0,
       "a new agent can throw out what an earlier one placed");
}

int main(void)
{
    struct err err = { 0 };

    signal(SIGPIPE, SIG_IGN);
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        skip("files of a node", "needs root and a mount namespace");
        return done_testing();
    }
    if (!mkdtemp(top) || !(loop = loop_create(&err)))
        return 1;
    start_server();
    source.port = listen_port;
    source.ticket = ticket;
    snprintf(source.addr, sizeof source.addr, "127.0.0.1");
    new_root("64m");
    new_files();
    places();
    replaces();
    refuses_escapes();
    distrusts();
    survives_restart();
    outlives_tickets();
    other_root();
    runs_out_of_room();
    files_destroy(&files);
    loop_destroy(&loop);
    for (int i = 0; i < nblobs; i++)
        free(blobs[i].data);
    char cmd[PATH_MAX];
    for (int i = 1; i <= 2; i++) { /* proc sits on the first */
        snprintf(cmd, sizeof cmd, "%s/root%d", top, i);
        umount2(cmd, MNT_DETACH);
        rmdir(cmd);
    }
    snprintf(cmd, sizeof cmd, "%s/outside", top);
    rmdir(cmd);
    rmdir(top);
    return done_testing();
}
