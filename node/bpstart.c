/* bpstart.c - on the master: the first steps of a process that a program on a
 * node has started here
 *
 * The ghost of that program has forked it, so that it is its child. It asks
 * procspace.start what it is to be, and becomes that. Whose it is, and who its
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
#include "bus/rundir.h"
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

static int become(const msgpack_object *map)
{
    struct plan io = { 0 };
    sigset_t none;
    const char *what;
    char **argv = texts(map, "argv"), **env = texts(map, "env");
    CLEANUP(cleanup_free) char *path = mp_opt_dup(map, "path"), *cwd = mp_opt_dup(map, "cwd");
    uint32_t rank = (uint32_t)mp_opt_int(map, "rank", 0);

    if (!argv || !env || !path || plan_io_read(map, &io, NULL) < 0)
        return -1;
    write_rank(env, plan_index(&io, rank));
    if (!cwd || chdir(cwd) < 0)
        if (chdir("/") < 0)
            return -1;
    umask((mode_t)mp_opt_int(map, "umask", 022) & 0777);
    if (open_streams(map) < 0 || plan_io_apply(&io, getpid(), &what) < 0)
        return -1;
    set_limits(map);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    /* Bells for the ghost that we were: nobody's any more. Others are ours. */
    sigemptyset(&none);
    sigaddset(&none, SIGRTMAX);
    while (sigtimedwait(&none, NULL, &(struct timespec){ 0, 0 }) == SIGRTMAX)
        ;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
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
    CLEANUP(gate_close) gate_t *g = gate_open_at(dir, &err);
    mp_map(&m, 0);
    if (!g || gate_call(g, "procspace.start", &m, ASK_MS, &reply, &err) < 0)
        return EXIT_NOT_STARTED;
    become(&reply.data);
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
