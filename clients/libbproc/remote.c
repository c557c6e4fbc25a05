/* remote.c - ghosts of processes on nodes, the launch, what they say */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/loop.h"
#include "bus/rundir.h"
#include "clients/libbproc/lib.h"

#ifndef LIBEXECDIR
#define LIBEXECDIR "/usr/libexec/clustermatic"
#endif

uint64_t launch_id(void)
{
    uint64_t id = 0;

    while (!(id >> 1))
        if (getrandom(&id, sizeof id, 0) != sizeof id)
            id = (uint64_t)now_ms() << 22 ^ (uint64_t)getpid();
    return id >> 1;
}

/* --- our programs: beside the library, wherever that is --- */

static bool helper(const char *name, char *path)
{
    const char *v = secure_getenv("CM_LIBEXEC");
    char dir[PATH_MAX];
    Dl_info me;

    if (v && *v) {
        snprintf(path, PATH_MAX, "%.4000s/%s", v, name);
        return access(path, X_OK) == 0;
    }
    /* PREFIX/lib/libbproc.so.4, or a folder deeper; a program linked with the
     * archive lives in PREFIX/bin, or anywhere. */
    if (dladdr((void *)(uintptr_t)bproc_version, &me) && me.dli_fname &&
        realpath(me.dli_fname, dir))
        for (int up = 0; up < 3; up++) {
            char *slash = strrchr(dir, '/');
            if (!slash)
                break;
            *slash = 0;
            snprintf(path, PATH_MAX, "%.3900s/libexec/clustermatic/%s", dir, name);
            if (access(path, X_OK) == 0)
                return true;
        }
    snprintf(path, PATH_MAX, "%s/%s", LIBEXECDIR, name);
    return access(path, X_OK) == 0;
}

/* A node's agent has put one beside its gate. */
bool ghost_program(char *path)
{
    if (!lib_on_node())
        return helper("bpghost", path);
    snprintf(path, PATH_MAX, "%s", NODE_RUN "/bpghost");
    return access(path, X_OK) == 0;
}
bool restore_program(char *path) { return helper("bprestore", path); }

void lib_number(char *to, int v)
{
    char digits[12];
    int n = 0;

    do
        digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n)
        *to++ = digits[--n];
    *to = 0;
}

/* --- ghosts --- */

struct ghost_env {
    char gate[PATH_MAX], param[PATH_MAX + 64], launch[64];
    char *env[4];
};

static void ghost_env(struct ghost_env *e, uint64_t launch, uint32_t n, int fd)
{
    snprintf(e->param, sizeof e->param, "CM_GHOST=%u:%d:%s", n, fd,
             lib_on_node() ? KIN_GATE : cm_path(e->gate, "gate"));
    snprintf(e->launch, sizeof e->launch, "CM_LAUNCH=%llu", (unsigned long long)launch);
    e->env[0] = e->param;
    e->env[1] = e->launch;
    e->env[2] = NULL;
}

static int read_pids(int fd, uint32_t n, int32_t *pid, struct err *err)
{
    size_t want = n * sizeof *pid, got = 0;

    while (got < want) {
        ssize_t k = read(fd, (char *)pid + got, want - got);
        if (k == 0)
            return err_set(err, ECHILD, "the stand-ins could not be made");
        if (k < 0 && errno != EINTR)
            return err_set(err, errno, "read pids: %s", strerror(errno));
        if (k > 0)
            got += (size_t)k;
    }
    return 0;
}

/* With all signals blocked, here and in the ghost: no handler of the caller's
 * may run in the child, which uses our memory until its exec. */
static pid_t start_first(const char *prog, char *const *argv, char **env, int fd, int *why)
{
    sigset_t all, old;
    volatile int code = 0;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    pid_t pid = vfork();
    if (pid == 0) {
        fcntl(fd, F_SETFD, 0);
        execve(prog, argv, env);
        code = errno;
        _exit(127);
    }
    *why = pid < 0 ? errno : code;
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (pid > 0 && code) {
        waitpid(pid, NULL, 0);
        return -1;
    }
    return pid;
}

int ghosts_make(uint64_t launch, char *const *argv, uint32_t n, int32_t *pid, struct err *err)
{
    char prog[PATH_MAX];
    struct ghost_env e;
    int p[2], why;

    memset(pid, 0, n * sizeof *pid);
    if (!ghost_program(prog))
        return err_set(err, ENOSYS, "%s: %s", prog, strerror(errno));
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    ghost_env(&e, launch, n, p[1]);
    pid_t first = start_first(prog, argv, e.env, p[1], &why);
    close(p[1]);
    int rc = first < 0 ? err_set(err, why, "a stand-in: %s", strerror(why))
                       : read_pids(p[0], n, pid, err);
    close(p[0]);
    if (rc < 0)
        return -1;
    for (uint32_t i = 0; i < n; i++)
        if (pid[i] < 0)
            return err_set(err, -pid[i], "%u stand-ins: %s", n, strerror(-pid[i]));
    return 0;
}

/* --- the launch --- */

int launch_failed(const msgpack_object *reply, uint32_t n, int *code, struct err *err)
{
    const msgpack_object_array *a;

    if (mp_get_array(reply, "failed", &a, err) < 0)
        return -1;
    for (uint32_t i = 0; i < a->size; i++) {
        const msgpack_object *row = &a->ptr[i];
        int64_t rank, why;
        if (row->type != MSGPACK_OBJECT_ARRAY || row->via.array.size < 2 ||
            !mp_as_int(&row->via.array.ptr[0], &rank) || rank < 0 || rank >= n ||
            !mp_as_int(&row->via.array.ptr[1], &why))
            return err_set(err, EPROTO, "procspace.launch: the answer was not understood");
        code[rank] = why > 0 && why < 100000 ? (int)why : EIO;
    }
    return 0;
}

int launch_ask(gate_t *g, const mp_buf *m, uint32_t n, int *code, struct err *err)
{
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    memset(code, 0, n * sizeof *code);
    if (gate_call(g, "procspace.launch", m, LAUNCH_MS, &reply, err) < 0)
        return -1;
    return launch_failed(&reply.data, n, code, err);
}

/* --- default forwarding --- */

/* The helper's first instructions, in a copy of us: system calls only. */
static void __attribute__((noreturn)) become_forwarder(const char *prog, char *const *argv,
                                                       int list)
{
    static char *env[] = { NULL };
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (list != 3 && dup2(list, 3) < 0)
        _exit(127);
    fcntl(3, F_SETFD, 0);
    execve(prog, argv, env);
    _exit(127);
}

/* By way of a child that ends at once and tells nobody of it, so that neither
 * is seen by the caller's own wait(). */
static int start_forwarder(const char *prog, char *const *argv, int list)
{
    sigset_t all, old;
    int status = 0;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    long pid = syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (pid == 0) {
        pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0)
            become_forwarder(prog, argv, list);
        _exit(pid < 0 ? errno : 0);
    }
    int code = errno;
    sigprocmask(SIG_SETMASK, &old, NULL);
    if (pid < 0)
        return lib_errno(code);
    while (waitpid((pid_t)pid, &status, __WCLONE) < 0)
        if (errno != EINTR)
            return 0; /* somebody else has waited for it */
    if (!WIFEXITED(status))
        return lib_errno(EIO);
    return WEXITSTATUS(status) ? lib_errno(WEXITSTATUS(status)) : 0;
}

int forward_start(uint64_t launch, const int *node, const int *code, uint32_t n)
{
    char prog[PATH_MAX], path[PATH_MAX], id[32];
    char *argv[] = { (char *)"bpfwd", id, path, NULL };
    CLEANUP(cleanup_close) int list = memfd_create("bpfwd", MFD_CLOEXEC);
    CLEANUP(cleanup_free) int32_t *row = malloc(2 * n * sizeof *row);

    if (!helper("bpfwd", prog))
        return lib_errno(ENOSYS);
    if (list < 0 || !row)
        return -1;
    for (uint32_t i = 0; i < n; i++) {
        row[2 * i] = node[i];
        row[2 * i + 1] = code[i];
    }
    size_t len = 2 * n * sizeof *row;
    if (write(list, row, len) != (ssize_t)len || lseek(list, 0, SEEK_SET) < 0)
        return -1;
    snprintf(id, sizeof id, "%llu", (unsigned long long)launch);
    cm_path(path, "iofwd");
    return start_forwarder(prog, argv, list);
}

/* --- this process becomes its own ghost --- */

void ghost_become(uint64_t launch, char *const *argv, bool parent)
{
    static char real[] = "CM_REAL=1";
    char prog[PATH_MAX];
    struct ghost_env e;
    int fd = open("/dev/null", O_WRONLY); /* for its pid, which nobody needs to be told */

    ghost_env(&e, launch, lib_on_node() ? 0 : 1, fd); /* there it says that it is here */
    if (parent) {
        e.env[2] = real;
        e.env[3] = NULL;
    }
    if (fd >= 0 && ghost_program(prog))
        execve(prog, argv, e.env);
}
