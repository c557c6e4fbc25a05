/* bpstart.c - on the master: the first steps of a process that a program on a
 * node has started here
 *
 * The ghost of that program has forked it, so that it is its child. It asks
 * procspace.start what it is to be, and becomes that: a program, or a copy of the one
 * that has made it, whose image it fetches for bprestore. Whose it is, and who its
 * parent is, is settled by then; so are its pid and group.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "bus/gate.h"
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "image/image.h"
#include "image/ticket.h"
#include "node/bpinit_spawn.h"

#define ASK_MS 10000
#define EXIT_USAGE 2
#define EXIT_NOT_STARTED 127

static const char usage[] = "Usage: procspace has it started; see bpstart(8)\n";

static char **texts(const msgpack_object *map, const char *key)
{
    const msgpack_object_array *a;

    if (mp_get_array(map, key, &a, NULL) < 0)
        return NULL;
    char **v = calloc((size_t)a->size + 1, sizeof *v);
    for (uint32_t i = 0; v && i < a->size; i++)
        if (!(v[i] = mp_dup(&a->ptr[i])))
            return NULL;
    return v;
}

static rlim_t limit(const msgpack_object *o)
{
    return o->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? o->via.u64 : RLIM_INFINITY;
}

/* As far as this user may. */
static void set_limits(const msgpack_object *map)
{
    const msgpack_object_array *a;
    int64_t what;

    if (!mp_get(map, "limits") || mp_get_array(map, "limits", &a, NULL) < 0)
        return;
    for (uint32_t i = 0; i < a->size; i++) {
        const msgpack_object_array *row = &a->ptr[i].via.array;
        if (a->ptr[i].type != MSGPACK_OBJECT_ARRAY || row->size < 3 ||
            !mp_as_int(&row->ptr[0], &what) || what < 0 || what >= RLIM_NLIMITS)
            continue;
        struct rlimit r = { limit(&row->ptr[1]), limit(&row->ptr[2]) }, have;
        __rlimit_resource_t resource = (__rlimit_resource_t)what;
        if (setrlimit(resource, &r) == 0 || getrlimit(resource, &have) < 0)
            continue;
        have.rlim_cur = r.rlim_cur < have.rlim_max ? r.rlim_cur : have.rlim_max;
        setrlimit(resource, &have);
    }
}

/* Descriptors 0-2, and no others but what "io" makes. */
static int open_streams(const msgpack_object *map)
{
    const msgpack_object_array *a;

    for (int fd = 0; fd < 3; fd++)
        close(fd);
    if (open("/dev/null", O_RDWR) != 0 || dup(0) != 1 || dup(0) != 2)
        return -1;
    if (mp_get_array(map, "streams", &a, NULL) < 0)
        return 0;
    for (uint32_t fd = 0; fd < 3 && fd < a->size; fd++) {
        const msgpack_object *mode = mp_get(&a->ptr[fd], "mode");
        CLEANUP(cleanup_free) char *path = mp_opt_dup(&a->ptr[fd], "path");
        if (!mode || !mp_is(mode, "file") || !path)
            continue;
        int flags = fd == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC;
        CLEANUP(cleanup_close) int f = open(path, flags | O_NOCTTY | O_CLOEXEC, 0666);
        if (f < 0 || dup2(f, (int)fd) < 0)
            return -1;
    }
    return 0;
}

static void write_rank(char **env, uint32_t rank)
{
    static const char name[] = "BPROC_RANK=XXXXXXX";

    for (; *env; env++)
        for (int i = 6; strcmp(*env, name) == 0 && i >= 0;) {
            char *digits = *env + strlen(name) - 7;
            for (; i >= 0; i--, rank /= 10)
                digits[i] = (char)('0' + rank % 10);
        }
}

/* ---- a copy ---- */

struct arrival { /* -1: it is a program */
    int image, control;
};

/* Out of the way of what the process is to have open. */
static int lift(int fd, const struct plan *io)
{
    int other = fcntl(fd, F_DUPFD_CLOEXEC, plan_io_beyond(io));
    close(fd);
    return other;
}

static int fetch_image(const char *run, const char *token, const struct plan *io,
                       struct arrival *a)
{
    char path[PATH_MAX];
    struct image_ticket t = { 0 };
    struct err err = { 0 };

    snprintf(path, sizeof path, "%.4000s/move", run);
    snprintf(t.token, sizeof t.token, "%s", token);
    a->control = pkt_connect(path, &err);
    if (a->control < 0 || (a->image = ticket_show(&t, a->control, &err)) < 0)
        return -1;
    a->control = lift(a->control, io);
    a->image = lift(a->image, io);
    return a->control < 0 || a->image < 0 ? -1 : 0;
}

/* It cannot become one: whoever has made it learns why. */
static int no_copy(const struct arrival *a, const char *what)
{
    struct image_word w = { .code = errno ? (uint32_t)errno : EIO };

    snprintf(w.text, sizeof w.text, "%.100s: %.60s", what, strerror(errno));
    if (a->control >= 0 && write(a->control, &w, sizeof w) < 0)
        return -1; /* it learns that we have ended */
    return -1;
}

/* bprestore is the ghost again that we were, if it comes to nothing: so it keeps its
 * environment, and all signals blocked. */
static int arrive(const struct arrival *a, char **argv)
{
    char self[PATH_MAX - 16], prog[PATH_MAX], word[64], back[PATH_MAX + 16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (!slash)
        return no_copy(a, "bprestore");
    *slash = 0;
    snprintf(prog, sizeof prog, "%s/bprestore", self);
    snprintf(back, sizeof back, "CM_BACK=%s/bpghost", self);
    snprintf(word, sizeof word, "CM_RESTORE=%d:%d", a->image, a->control);
    if (putenv(back) || putenv(word) || fcntl(a->image, F_SETFD, 0) < 0 ||
        fcntl(a->control, F_SETFD, 0) < 0)
        return no_copy(a, "bprestore");
    execve(prog, argv, environ);
    return no_copy(a, prog);
}

static void take_signals(void)
{
    sigset_t set;

    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    /* Bells for the ghost that we were: nobody's any more. Others are ours. */
    sigemptyset(&set);
    sigaddset(&set, SIGRTMAX);
    while (sigtimedwait(&set, NULL, &(struct timespec){ 0, 0 }) == SIGRTMAX)
        ;
    sigemptyset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

static int become(const msgpack_object *map, const char *run)
{
    struct plan io = { 0 };
    struct arrival a = { -1, -1 };
    const char *what = "streams";
    char **argv = texts(map, "argv"), **env = texts(map, "env");
    CLEANUP(cleanup_free) char *path = mp_opt_dup(map, "path"), *cwd = mp_opt_dup(map, "cwd"),
        *token = mp_opt_dup(map, "token");
    uint32_t rank = (uint32_t)mp_opt_int(map, "rank", 0);

    if (!argv || !env || !path || plan_io_read(map, &io, NULL) < 0)
        return -1;
    if (token && fetch_image(run, token, &io, &a) < 0)
        return no_copy(&a, "its image");
    write_rank(env, plan_index(&io, rank));
    if (!cwd || chdir(cwd) < 0)
        if (chdir("/") < 0)
            return no_copy(&a, "/");
    umask((mode_t)mp_opt_int(map, "umask", 022) & 0777);
    if (open_streams(map) < 0 || plan_io_apply(&io, getpid(), &what) < 0)
        return no_copy(&a, what);
    set_limits(map);
    if (token)
        return arrive(&a, argv);
    take_signals();
    execve(path, argv, env);
    return -1;
}

static int run(void)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(mp_free) mp_buf m;
    struct err err = { 0 };
    const char *ghost = getenv("CM_GHOST");
    const char *path = ghost ? strchr(ghost, '/') : NULL;

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    if (!path) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    CLEANUP(cleanup_free) char *dir = strdup(path);
    char *slash = dir ? strrchr(dir, '/') : NULL;
    if (!slash)
        return EXIT_NOT_STARTED;
    *slash = 0;
    gate_t *g = gate_open_at(dir, &err);
    mp_map(&m, 0);
    int rc = g ? gate_call(g, "procspace.start", &m, ASK_MS, &reply, &err) : -1;
    gate_close(&g);
    if (rc == 0)
        become(&reply.data, dir);
    return EXIT_NOT_STARTED;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        puts("bpstart (Clustermatic) " CM_VERSION);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    return run();
}
