/* notes.c - libpmix's server: what it is told of the job, what it asks of us
 *
 * Its questions come in its own thread. They are copied into notes, and the
 * notes' addresses into a pipe that our loop reads; the answers are calls of
 * libpmix, which may come from any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/mpirun/pmix.h"

static struct helper *helper; /* read only by libpmix's thread */
static int notes[2];

/* --- in libpmix's thread --- */

static pmix_status_t send_note(const struct note *n, const char *data, size_t len)
{
    struct note *copy = malloc(sizeof *copy);

    if (!copy)
        return PMIX_ERR_NOMEM;
    *copy = *n;
    copy->data = malloc(len + 1);
    copy->len = len;
    if (!copy->data) {
        free(copy);
        return PMIX_ERR_NOMEM;
    }
    if (len)
        memcpy(copy->data, data, len);
    return write(notes[1], &copy, sizeof copy) == sizeof copy ? PMIX_SUCCESS : PMIX_ERROR;
}

static pmix_status_t on_connected(const pmix_proc_t *p, void *object, pmix_info_t info[],
                                  size_t ninfo, pmix_op_cbfunc_t done, void *arg)
{
    (void)object, (void)info, (void)ninfo;
    return send_note(&(struct note){ .kind = NOTE_IN, .rank = p->rank, .op = done, .arg = arg },
                     NULL, 0);
}

static pmix_status_t on_finalized(const pmix_proc_t *p, void *object, pmix_op_cbfunc_t done,
                                  void *arg)
{
    (void)object;
    return send_note(&(struct note){ .kind = NOTE_OUT, .rank = p->rank, .op = done, .arg = arg },
                     NULL, 0);
}

static pmix_status_t on_abort(const pmix_proc_t *p, void *object, int status, const char msg[],
                              pmix_proc_t procs[], size_t n, pmix_op_cbfunc_t done, void *arg)
{
    (void)object, (void)msg, (void)procs, (void)n;
    return send_note(&(struct note){ .kind = NOTE_ABORT, .rank = p->rank, .number = status,
                                     .op = done, .arg = arg }, NULL, 0);
}

/* The same for the same ranks on every node. */
static void name_fence(const pmix_proc_t *p, size_t n, struct note *note)
{
    uint64_t hash = 1469598103934665603u;
    uint32_t nodes = 0;
    bool all = n == 0;

    for (size_t i = 0; i < n; i++) {
        all |= p[i].rank == PMIX_RANK_WILDCARD;
        hash = (hash ^ p[i].rank) * 1099511628211u;
    }
    for (size_t k = 0; k < helper->nodes.n; k++) {
        bool part = all;
        for (size_t i = 0; !part && i < n; i++)
            part = p[i].rank < helper->map.n &&
                   helper->map.node[p[i].rank] == helper->nodes.node[k];
        nodes += part;
    }
    note->number = (int)nodes;
    if (all)
        snprintf(note->text, sizeof note->text, "all");
    else
        snprintf(note->text, sizeof note->text, "%zu.%016llx", n, (unsigned long long)hash);
}

static pmix_status_t on_fence(const pmix_proc_t procs[], size_t n, const pmix_info_t info[],
                              size_t ninfo, char *data, size_t len, pmix_modex_cbfunc_t done,
                              void *arg)
{
    struct note note = { .kind = NOTE_FENCE, .modex = done, .arg = arg };

    (void)info, (void)ninfo;
    name_fence(procs, n, &note);
    pmix_status_t rc = send_note(&note, data, len);
    free(data); /* ours from here on */
    return rc;
}

static pmix_status_t on_ask(const pmix_proc_t *p, const pmix_info_t info[], size_t ninfo,
                            pmix_modex_cbfunc_t done, void *arg)
{
    (void)info, (void)ninfo;
    if (p->rank >= helper->map.n)
        return PMIX_ERR_NOT_FOUND;
    return send_note(&(struct note){ .kind = NOTE_ASK, .number = (int)p->rank, .modex = done,
                                     .arg = arg }, NULL, 0);
}

static pmix_status_t on_spawn(const pmix_proc_t *p, const pmix_info_t info[], size_t ninfo,
                              const pmix_app_t apps[], size_t napps, pmix_spawn_cbfunc_t done,
                              void *arg)
{
    (void)p, (void)info, (void)ninfo, (void)apps, (void)napps, (void)done, (void)arg;
    return PMIX_ERR_NOT_SUPPORTED;
}

static pmix_server_module_t module = {
    .client_connected2 = on_connected,
    .client_finalized = on_finalized,
    .abort = on_abort,
    .fence_nb = on_fence,
    .direct_modex = on_ask,
    .spawn = on_spawn,
};

struct request {
    int from;
    char id[32];
};

static void on_data(pmix_status_t status, char *data, size_t len, void *arg)
{
    struct request *r = arg;
    struct note n = { .kind = NOTE_FOUND, .number = r->from };

    snprintf(n.text, sizeof n.text, "%s", r->id);
    send_note(&n, data, status == PMIX_SUCCESS ? len : 0);
    free(r);
}

void notes_request(struct helper *h, int from, const char *id, uint32_t rank)
{
    struct request *r = malloc(sizeof *r);
    pmix_proc_t proc;

    if (!r)
        return;
    r->from = from;
    snprintf(r->id, sizeof r->id, "%.31s", id);
    PMIX_LOAD_PROCID(&proc, h->job, rank);
    if (PMIx_server_dmodex_request(&proc, on_data, r) != PMIX_SUCCESS)
        on_data(PMIX_ERR_NOT_FOUND, NULL, 0, r);
}

/* --- in our loop --- */

static struct seat *seat_of(struct helper *h, uint32_t rank)
{
    for (uint32_t i = 0; i < h->seats; i++)
        if (h->seat[i].rank == rank)
            return &h->seat[i];
    return NULL;
}

static void take(struct helper *h, const struct note *n)
{
    struct seat *s = seat_of(h, n->rank);

    switch (n->kind) {
    case NOTE_IN:
    case NOTE_OUT:
        if (s)
            s->inside = n->kind == NOTE_IN;
        break;
    case NOTE_ABORT:
        if (s)
            s->inside = false;
        line_up(h, "abort %u %d\n", n->rank, n->number);
        break;
    case NOTE_FENCE: pmix_fence(h, n); break;
    case NOTE_ASK: pmix_ask(h, n); break;
    case NOTE_FOUND: pmix_found(h, n); break;
    }
    if (n->op)
        n->op(PMIX_SUCCESS, n->arg);
}

static void on_note(void *arg, int fd, uint32_t events)
{
    struct note *n;

    (void)events;
    if (read(fd, &n, sizeof n) != sizeof n)
        return;
    take(arg, n);
    free(n->data);
    free(n);
}

/* --- what libpmix is to know of the job --- */

#define JOB_FACTS 14
#define RANK_FACTS 8

/* "n0,n1" and "0,2;1,3": libpmix packs both in its own way. */
static int put_maps(const struct helper *h, pmix_info_t *nodes, pmix_info_t *procs)
{
    char *names = NULL, *ranks = NULL, *regex;
    size_t names_len, ranks_len;
    FILE *a = open_memstream(&names, &names_len), *b = open_memstream(&ranks, &ranks_len);
    int rc = a && b ? 0 : -1;

    for (size_t k = 0; rc == 0 && k < h->nodes.n; k++) {
        const char *sep = k ? ";" : "";
        fprintf(a, "%sn%d", k ? "," : "", h->nodes.node[k]);
        for (size_t r = 0; r < h->map.n; r++)
            if (h->map.node[r] == h->nodes.node[k]) {
                fprintf(b, "%s%zu", sep, r);
                sep = ",";
            }
    }
    if (a && fclose(a) != 0)
        rc = -1;
    if (b && fclose(b) != 0)
        rc = -1;
    if (rc == 0 && PMIx_generate_regex(names, &regex) == PMIX_SUCCESS) {
        PMIX_INFO_LOAD(nodes, PMIX_NODE_MAP, regex, PMIX_REGEX);
        free(regex);
    } else {
        rc = -1;
    }
    if (rc == 0 && PMIx_generate_ppn(ranks, &regex) == PMIX_SUCCESS) {
        PMIX_INFO_LOAD(procs, PMIX_PROC_MAP, regex, PMIX_REGEX);
        free(regex);
    } else {
        rc = -1;
    }
    free(names);
    free(ranks);
    return rc;
}

static char *local_peers(const struct helper *h)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    for (uint32_t i = 0; f && i < h->seats; i++)
        fprintf(f, "%s%u", i ? "," : "", h->seat[i].rank);
    return f && fclose(f) == 0 ? text : NULL;
}

static int put_rank(const struct helper *h, uint32_t rank, uint16_t local, pmix_info_t *out)
{
    pmix_data_array_t array = { .type = PMIX_INFO, .size = RANK_FACTS };
    uint32_t app = 0, node = 0;
    char host[16];

    while (app + 1 < (uint32_t)h->apps && rank >= h->app[app + 1])
        app++;
    while (h->nodes.node[node] != h->map.node[rank])
        node++;
    snprintf(host, sizeof host, "n%d", h->map.node[rank]);
    pmix_info_t *i;
    PMIX_INFO_CREATE(i, RANK_FACTS);
    if (!i)
        return -1;
    array.array = i;
    PMIX_INFO_LOAD(&i[0], PMIX_RANK, &rank, PMIX_PROC_RANK);
    PMIX_INFO_LOAD(&i[1], PMIX_GLOBAL_RANK, &rank, PMIX_PROC_RANK);
    PMIX_INFO_LOAD(&i[2], PMIX_LOCAL_RANK, &local, PMIX_UINT16);
    PMIX_INFO_LOAD(&i[3], PMIX_NODE_RANK, &local, PMIX_UINT16);
    PMIX_INFO_LOAD(&i[4], PMIX_APPNUM, &app, PMIX_UINT32);
    PMIX_INFO_LOAD(&i[5], PMIX_NODEID, &node, PMIX_UINT32);
    PMIX_INFO_LOAD(&i[6], PMIX_HOSTNAME, host, PMIX_STRING);
    uint32_t app_rank = rank - h->app[app];
    PMIX_INFO_LOAD(&i[7], PMIX_APP_RANK, &app_rank, PMIX_PROC_RANK);
    PMIX_INFO_LOAD(out, PMIX_PROC_DATA, &array, PMIX_DATA_ARRAY);
    PMIX_INFO_FREE(i, RANK_FACTS);
    return 0;
}

static int tell_job(const struct helper *h, const char *folder, struct err *err)
{
    uint32_t size = (uint32_t)h->map.n, locals = h->seats, leader = h->seat[0].rank,
             nodes = (uint32_t)h->nodes.n, apps = (uint32_t)h->apps, node = 0;
    CLEANUP(cleanup_free) char *peers = local_peers(h);
    CLEANUP(cleanup_free) uint16_t *local = calloc(nodes, sizeof *local);
    pmix_info_t *i;
    pmix_nspace_t job;

    if (!peers || !local)
        return err_set(err, ENOMEM, "out of memory");
    while (h->nodes.node[node] != h->node)
        node++;
    PMIX_LOAD_NSPACE(job, h->job);
    PMIX_INFO_CREATE(i, JOB_FACTS + size);
    if (!i)
        return err_set(err, ENOMEM, "out of memory");
    if (put_maps(h, &i[0], &i[1]) < 0) {
        PMIX_INFO_FREE(i, JOB_FACTS + size);
        return err_set(err, EIO, "PMIx does not take the map of the job");
    }
    PMIX_INFO_LOAD(&i[2], PMIX_UNIV_SIZE, &size, PMIX_UINT32);
    PMIX_INFO_LOAD(&i[3], PMIX_JOB_SIZE, &size, PMIX_UINT32);
    PMIX_INFO_LOAD(&i[4], PMIX_MAX_PROCS, &size, PMIX_UINT32);
    PMIX_INFO_LOAD(&i[5], PMIX_LOCAL_SIZE, &locals, PMIX_UINT32);
    PMIX_INFO_LOAD(&i[6], PMIX_NODE_SIZE, &locals, PMIX_UINT32);
    PMIX_INFO_LOAD(&i[7], PMIX_LOCAL_PEERS, peers, PMIX_STRING);
    PMIX_INFO_LOAD(&i[8], PMIX_LOCALLDR, &leader, PMIX_PROC_RANK);
    PMIX_INFO_LOAD(&i[9], PMIX_NUM_NODES, &nodes, PMIX_UINT32);
    PMIX_INFO_LOAD(&i[10], PMIX_NODEID, &node, PMIX_UINT32);
    PMIX_INFO_LOAD(&i[11], PMIX_JOB_NUM_APPS, &apps, PMIX_UINT32);
    PMIX_INFO_LOAD(&i[12], PMIX_TMPDIR, folder, PMIX_STRING);
    PMIX_INFO_LOAD(&i[13], PMIX_NSDIR, folder, PMIX_STRING);
    for (uint32_t r = 0; r < size; r++) {
        uint32_t k = 0;
        while (h->nodes.node[k] != h->map.node[r])
            k++;
        if (put_rank(h, r, local[k]++, &i[JOB_FACTS + r]) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    pmix_status_t rc = PMIx_server_register_nspace(job, (int)locals, i, JOB_FACTS + size, NULL,
                                                   NULL);
    PMIX_INFO_FREE(i, JOB_FACTS + size);
    if (rc != PMIX_SUCCESS && rc != PMIX_OPERATION_SUCCEEDED)
        return err_set(err, EIO, "PMIx does not take the job: %s", PMIx_Error_string(rc));
    return 0;
}

int notes_open(struct helper *h, const char *folder, struct err *err)
{
    pmix_info_t *i;
    pmix_rank_t rank = (pmix_rank_t)h->node;
    char name[64];

    helper = h;
    if (pipe2(notes, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    snprintf(name, sizeof name, "%.40s-helper", h->job);
    PMIX_INFO_CREATE(i, 4);
    if (!i)
        return err_set(err, ENOMEM, "out of memory");
    PMIX_INFO_LOAD(&i[0], PMIX_SERVER_TMPDIR, folder, PMIX_STRING);
    PMIX_INFO_LOAD(&i[1], PMIX_SYSTEM_TMPDIR, folder, PMIX_STRING);
    PMIX_INFO_LOAD(&i[2], PMIX_SERVER_NSPACE, name, PMIX_STRING);
    PMIX_INFO_LOAD(&i[3], PMIX_SERVER_RANK, &rank, PMIX_PROC_RANK);
    pmix_status_t rc = PMIx_server_init(&module, i, 4);
    PMIX_INFO_FREE(i, 4);
    if (rc != PMIX_SUCCESS)
        return err_set(err, EIO, "PMIx does not start: %s", PMIx_Error_string(rc));
    return loop_fd(h->loop, notes[0], EPOLLIN, on_note, h, err) < 0 ? -1
                                                                    : tell_job(h, folder, err);
}
