/* pmix.c - bppmix: PMIx for the ranks of one node, as Open MPI speaks it
 *
 * libpmix serves the ranks by a thread of its own. What it cannot answer itself
 * it asks of us, in that thread: each question becomes a note in a pipe, taken
 * up by our loop (notes.c has none of the thread's business but that). Blobs of
 * data go over the line in hexadecimal.
 */
#include <errno.h>
#include <ftw.h>
#include <glob.h>
#include <pmix_server.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "clients/mpirun/bppmi.h"
#include "clients/mpirun/pmix.h"

#define PART (20 * 1024) /* bytes of a blob in one line */

struct blob {
    char *data;
    size_t len;
};

struct fence { /* one that this node has entered */
    struct fence *next;
    struct blob *of; /* by the node's place in h->nodes */
    pmix_modex_cbfunc_t done;
    void *arg;
    char key[];
};

struct asked { /* a question about a rank of another node */
    struct asked *next;
    unsigned id;
    struct blob got;
    pmix_modex_cbfunc_t done;
    void *arg;
};

static struct fence *fences;
static struct asked *questions;
static unsigned next_id;
static char folder[64];

/* --- blobs --- */

static bool blob_add(struct blob *b, const char *p, size_t n)
{
    char *more = realloc(b->data, b->len + n + 1);

    if (!more)
        return false;
    memcpy(more + b->len, p, n);
    b->data = more;
    b->len += n;
    return true;
}

static bool blob_add_hex(struct blob *b, const char *hex)
{
    size_t n = strlen(hex) / 2;
    CLEANUP(cleanup_free) char *bytes = malloc(n + 1);

    for (size_t i = 0; bytes && i < n; i++) {
        unsigned v;
        if (sscanf(hex + 2 * i, "%2x", &v) != 1)
            return false;
        bytes[i] = (char)v;
    }
    return bytes && blob_add(b, bytes, n);
}

/* A blob as lines of "HEAD HEX". */
static void send_blob(struct helper *h, const char *head, const char *p, size_t n)
{
    static const char digit[] = "0123456789abcdef";
    static char hex[2 * PART + 1];

    for (size_t done = 0; done < n;) {
        size_t part = n - done < PART ? n - done : PART;
        for (size_t i = 0; i < part; i++) {
            hex[2 * i] = digit[(unsigned char)p[done + i] >> 4];
            hex[2 * i + 1] = digit[p[done + i] & 15];
        }
        hex[2 * part] = 0;
        line_up(h, "%s %s\n", head, hex);
        done += part;
    }
}

/* --- fences --- */

static size_t place_of(const struct helper *h, int node)
{
    for (size_t i = 0; i < h->nodes.n; i++)
        if (h->nodes.node[i] == node)
            return i;
    return SIZE_MAX;
}

static void blob_release(void *arg) { free(arg); }

static void fence_end(struct helper *h, struct fence *f)
{
    struct fence **p = &fences;
    struct blob all = { 0 };
    bool good = true;

    while (*p != f)
        p = &(*p)->next;
    *p = f->next;
    for (size_t i = 0; i < h->nodes.n; i++) {
        good = good && blob_add(&all, f->of[i].data ? f->of[i].data : "", f->of[i].len);
        free(f->of[i].data);
    }
    f->done(good ? PMIX_SUCCESS : PMIX_ERR_NOMEM, all.data, all.len, f->arg, blob_release,
            all.data);
    free(f->of);
    free(f);
}

static struct fence *fence_of(const char *key)
{
    struct fence *f = fences;

    while (f && strcmp(f->key, key) != 0)
        f = f->next;
    return f;
}

void pmix_fence(struct helper *h, const struct note *n)
{
    size_t here = place_of(h, h->node);
    struct fence *f = calloc(1, sizeof *f + strlen(n->text) + 1);
    char head[128];

    if (f)
        f->of = calloc(h->nodes.n, sizeof *f->of);
    if (!f || !f->of) {
        free(f);
        n->modex(PMIX_ERR_NOMEM, NULL, 0, n->arg, NULL, NULL);
        return;
    }
    memcpy(f->key, n->text, strlen(n->text) + 1);
    f->done = n->modex;
    f->arg = n->arg;
    f->next = fences;
    fences = f;
    if (n->number < 2) { /* nobody elsewhere takes part */
        blob_add(&f->of[here], n->data ? n->data : "", n->len);
        fence_end(h, f);
        return;
    }
    snprintf(head, sizeof head, "data %s %d", f->key, h->node);
    send_blob(h, head, n->data, n->len);
    line_up(h, "fence %s %d\n", f->key, n->number);
}

void kind_data(struct helper *h, const char *key, char *text)
{
    struct fence *f = fence_of(key);
    char *hex;
    size_t of = place_of(h, (int)strtol(text, &hex, 10));

    if (f && of != SIZE_MAX && *hex == ' ' && !blob_add_hex(&f->of[of], hex + 1))
        helper_end(h);
}

void kind_fence(struct helper *h, const char *key)
{
    struct fence *f = fence_of(key);

    if (f)
        fence_end(h, f);
}

/* --- data of one rank, asked for by another node --- */

void pmix_ask(struct helper *h, const struct note *n)
{
    struct asked *q = n->number < (int)h->map.n ? calloc(1, sizeof *q) : NULL;

    if (!q) {
        n->modex(PMIX_ERR_NOT_FOUND, NULL, 0, n->arg, NULL, NULL);
        return;
    }
    *q = (struct asked){ .next = questions, .id = ++next_id, .done = n->modex, .arg = n->arg };
    questions = q;
    line_up(h, "ask %d %u %d\n", h->map.node[n->number], q->id, n->number);
}

void kind_ask(struct helper *h, int from, const char *id, const char *text)
{
    notes_request(h, from, id, (uint32_t)strtoul(text, NULL, 10));
}

void pmix_found(struct helper *h, const struct note *n)
{
    char head[96];

    snprintf(head, sizeof head, "tell %d %s", n->number, n->text);
    send_blob(h, head, n->data, n->len);
    line_up(h, "%s .\n", head);
}

void kind_tell(struct helper *h, int from, const char *id, const char *text)
{
    struct asked **p = &questions;
    unsigned number = (unsigned)strtoul(id, NULL, 10);

    (void)from;
    while (*p && (*p)->id != number)
        p = &(*p)->next;
    struct asked *q = *p;
    if (!q)
        return;
    if (strcmp(text, ".") != 0) {
        if (!blob_add_hex(&q->got, text))
            helper_end(h);
        return;
    }
    *p = q->next;
    q->done(q->got.len ? PMIX_SUCCESS : PMIX_ERR_NOT_FOUND, q->got.data, q->got.len, q->arg,
            blob_release, q->got.data);
    free(q);
}

/* --- ranks --- */

/* PMIx's own connection tells all else. */
void kind_input(struct helper *h, struct seat *s, char *line)
{
    (void)h, (void)s, (void)line;
}

void kind_seated(struct helper *h, struct seat *s, void (*set)(struct seat *, const char *))
{
    pmix_proc_t proc;
    char **env = NULL;

    PMIX_LOAD_PROCID(&proc, h->job, s->rank);
    pmix_status_t rc = PMIx_server_register_client(&proc, getuid(), getgid(), NULL, NULL, NULL);
    if ((rc != PMIX_SUCCESS && rc != PMIX_OPERATION_SUCCEEDED) ||
        PMIx_server_setup_fork(&proc, &env) != PMIX_SUCCESS) {
        line_up(h, "say rank %u: PMIx does not take it\n", s->rank);
        return;
    }
    for (char **e = env; e && *e; e++) {
        set(s, *e);
        free(*e);
    }
    free(env);
    /* Open MPI 4 asks whether a launcher that it knows has started it, and takes
     * itself for a program alone otherwise, PMIx or not. This one means: not
     * Open MPI's own, and all else by PMIx. */
    set(s, "JSM_JSRUN_PORT?0");
    if (h->crowded)
        set(s, "OMPI_MCA_mpi_yield_when_idle?1");
    /* What virtual nodes have between them is TCP: no need to look for more, which
     * is most of the time that a rank takes to start. */
    if (h->same_kernel) {
        set(s, "OMPI_MCA_pml?ob1");
        set(s, "OMPI_MCA_btl?self,vader,tcp");
        set(s, "OMPI_MCA_mtl?^ofi");
    }
}

/* --- start and end --- */

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *ftw)
{
    (void)st, (void)what, (void)ftw;
    remove(path);
    return 0;
}

static void remove_folder(const char *path)
{
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

#define FOLDERS "/tmp/clustermatic-mpi-"

/* A helper that was killed could not tidy up. Who listens is still at work. */
static void remove_old(void)
{
    struct stat st;
    glob_t old;

    if (glob(FOLDERS "*", GLOB_NOSORT, NULL, &old) != 0)
        return;
    for (size_t i = 0; i < old.gl_pathc; i++)
        if (lstat(old.gl_pathv[i], &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
            !helper_listens(old.gl_pathv[i] + strlen(FOLDERS)))
            remove_folder(old.gl_pathv[i]);
    globfree(&old);
}

static int make_folder(const struct helper *h, struct err *err)
{
    remove_old();
    snprintf(folder, sizeof folder, FOLDERS "%.24s", h->job);
    if (mkdir(folder, 0700) < 0)
        return err_set(err, errno, "%s: %s", folder, strerror(errno));
    return 0;
}

int main(int argc, char **argv)
{
    struct helper h = { 0 };
    struct err err = { 0 };
    int status;

    if (helper_options("bppmix", argc, argv, &status))
        return status;
    /* To listen comes first: a folder is taken for forgotten where nobody does. */
    if (helper_prepare(&h, &err) < 0 || helper_listen(&h, &err) < 0 ||
        make_folder(&h, &err) < 0 || notes_open(&h, folder, &err) < 0) {
        fprintf(stderr, "bppmix: %s\n", err.text);
        remove_folder(folder);
        return EXIT_FAILURE;
    }
    status = helper_run(&h);
    PMIx_server_finalize();
    remove_folder(folder);
    return status;
}
