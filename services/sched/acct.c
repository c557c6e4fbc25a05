/* acct.c - accounting lines, and forgetting ended jobs
 *
 * A job is marked as told in the database once its line is in the file. What
 * the disk does not take is told later; each line is there at least once.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "clients/common/json.h"
#include "services/sched/db.h"

#define RETRY_MS 5000
#define FORGET_MS 5000

struct telling {
    sched_t *s;
    char *lines, *json;
    size_t lines_len, json_len;
    FILE *f, *g;
    uint64_t upto;
    uint32_t n;
};

/* YYYY MM DD HH MM SS, TAB, pool, uid, gid, nodes, seconds: of jobs that ran. */
static void add_line(struct telling *t, const struct acct *a)
{
    time_t end = (time_t)(a->ended_ms / 1000);
    struct tm tm;
    char when[32];

    if (!a->started_ms || !localtime_r(&end, &tm) ||
        !strftime(when, sizeof when, "%Y %m %d %H %M %S", &tm))
        return;
    fprintf(t->f, "%s\t%s\t%u\t%u\t%u\t%lld\n", when, a->pool, a->uid, a->gid, a->nodes,
            (long long)(a->ended_ms - a->started_ms + 500) / 1000);
}

static void add_json(struct telling *t, uint64_t id)
{
    struct db_query q = { .id = id, .uid = -1, .limit = 1 };
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked u;
    uint32_t n;

    mp_init(&m);
    msgpack_unpacked_init(&u);
    if (db_pack(t->s->db, &q, t->s, &m, &n, NULL) < 0 || n != 1 ||
        mp_decode(&u, m.b.data, m.b.size, NULL) < 0)
        return;
    json_t *v = json_of(&u.data);
    if (v && json_dumpf(v, t->g, JSON_COMPACT) == 0)
        fputc('\n', t->g);
    json_decref(v);
}

static int on_untold(void *arg, const struct acct *a, struct err *err)
{
    struct telling *t = arg;

    (void)err;
    add_line(t, a);
    if (t->s->conf.acct_json)
        add_json(t, a->id);
    t->upto = a->id;
    t->n++;
    return 0;
}

/* All of it or nothing: what was written of a half is cut off again. */
static int append(const char *path, const char *text, size_t len, struct err *err)
{
    size_t done = 0;
    struct stat st;

    if (!path || !len)
        return 0;
    CLEANUP(cleanup_close) int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    while (done < len) {
        ssize_t n = write(fd, text + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int code = errno;
            if (done && ftruncate(fd, st.st_size) < 0)
                svc_log("warning", "%s: half a line is there", path);
            return err_set(err, code, "%s: %s", path, strerror(code));
        }
        done += (size_t)n;
    }
    return 0;
}

static int tell(sched_t *s, uint32_t *n, struct err *err)
{
    struct telling t = { .s = s };
    int rc = -1;

    t.f = open_memstream(&t.lines, &t.lines_len);
    t.g = open_memstream(&t.json, &t.json_len);
    if (t.f && t.g)
        rc = db_untold(s->db, on_untold, &t, err);
    else
        err_set(err, ENOMEM, "out of memory");
    if (t.f)
        fclose(t.f);
    if (t.g)
        fclose(t.g);
    if (rc == 0 && t.n)
        rc = append(s->conf.acct_log, t.lines, t.lines_len, err) < 0 ||
             append(s->conf.acct_json, t.json, t.json_len, err) < 0 ||
             db_begin(s->db, err) < 0 || db_told(s->db, t.upto, err) < 0 ||
             db_commit(s->db, err) < 0 ? -1 : 0;
    free(t.lines);
    free(t.json);
    *n = t.n;
    return rc;
}

static void forget(void *arg)
{
    sched_t *s = arg;
    struct err err = { 0 };
    int n = -1;

    s->keep_timer = 0;
    if (db_begin(s->db, &err) == 0 &&
        (n = db_forget(s->db, wall_ms() - s->conf.keep_ms, s->conf.keep_jobs, &err)) >= 0 &&
        db_commit(s->db, &err) < 0)
        n = -1;
    if (n < 0) {
        db_rollback(s->db);
        svc_log("warning", "forget ended jobs: %s", err.text);
    }
    if (n > 0) /* a few at a time, so that nobody waits for it */
        s->keep_timer = loop_timer(s->loop, 100, false, forget, s);
}

void acct_turn(void *arg)
{
    sched_t *s = arg;
    struct err err = { 0 };
    uint32_t n = 0;

    s->acct_timer = 0;
    if (!s->configured || tell(s, &n, &err) < 0) {
        if (s->configured) {
            db_rollback(s->db);
            svc_log("warning", "accounting is late: %s", err.text);
        }
        s->acct_timer = loop_timer(s->loop, RETRY_MS, false, acct_turn, s);
        return;
    }
    if (n >= 1000)
        s->acct_timer = loop_timer(s->loop, 1, false, acct_turn, s);
    if (!s->keep_timer)
        s->keep_timer = loop_timer(s->loop, FORGET_MS, false, forget, s);
}
