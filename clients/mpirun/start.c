/* start.c - the bpsh that runs the helpers, and one for each program */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "clients/common/find.h"
#include "clients/mpirun/mpirun.h"

#define ARGS 24 /* of bpsh, in front of the program's own */

struct args {
    char *v[ARGS + 1];
    size_t n;
    char report[12], first[24], to[24];
};

static void arg(struct args *a, const char *text) { a->v[a->n++] = (char *)text; }

static void arg2(struct args *a, const char *option, const char *value)
{
    arg(a, option);
    arg(a, value);
}

/* bpsh stands beside us. */
static const char *bpsh_path(void)
{
    static char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 8);

    if (n <= 0)
        return "bpsh";
    path[n] = 0;
    char *slash = strrchr(path, '/');
    if (slash && (size_t)(slash - path) + 6 < sizeof path)
        memcpy(slash + 1, "bpsh", 5);
    return access(path, X_OK) == 0 ? path : "bpsh";
}

/* --- what all processes of the job are told --- */

static char *apps_text(const struct job *j)
{
    size_t room = 12 * j->opt.apps;
    char *text = calloc(1, room);
    size_t len = 0;

    for (size_t i = 0; text && i < j->opt.apps; i++)
        len += (size_t)snprintf(text + len, room - len, "%s%u", i ? "," : "", j->opt.app[i].n);
    return text;
}

static int tell_job(struct job *j, struct err *err)
{
    char boot[64] = "";
    uint64_t id = 0;
    CLEANUP(cleanup_close) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    if (getrandom(&id, sizeof id, 0) != sizeof id)
        return err_set(err, errno, "random numbers: %s", strerror(errno));
    snprintf(j->id, sizeof j->id, "%016llx", (unsigned long long)id);
    j->map_text = nodelist_text(&j->map);
    j->apps_text = apps_text(j);
    if (!j->map_text || !j->apps_text)
        return err_set(err, ENOMEM, "out of memory");
    if (fd >= 0 && read(fd, boot, sizeof boot - 1) > 0)
        boot[strcspn(boot, "\n")] = 0;
    setenv("CM_MPI_JOB", j->id, 1);
    setenv("CM_MPI_MAP", j->map_text, 1);
    setenv("CM_MPI_APPS", j->apps_text, 1);
    setenv("CM_MPI_HOST", boot, 1);
    setenv("CM_MPI_BIND", j->opt.bind ? "core" : "none", 1);
    return 0;
}

/* --- one bpsh --- */

struct plumbing {
    int in, out;      /* become its stdin and stdout; -1: ours */
    const char *wdir;
    char *const *env;
    size_t envs;
    bool apart;       /* in a process group of its own: Ctrl-C is not for it */
};

static void __attribute__((noreturn)) become(const struct plumbing *s, const char *prog,
                                             char **argv, int report, int why)
{
    int code;

    signals_in_child();
    if (s->apart)
        setpgid(0, 0);
    if ((s->in >= 0 && dup2(s->in, 0) < 0) || (s->out >= 0 && dup2(s->out, 1) < 0) ||
        fcntl(report, F_SETFD, 0) < 0 || (s->wdir && chdir(s->wdir) < 0))
        goto failed;
    for (size_t i = 0; i < s->envs; i++)
        putenv(s->env[i]);
    execvp(prog, argv);
failed:
    code = errno;
    if (write(why, &code, sizeof code) < 0)
        _exit(126);
    _exit(127);
}

static struct child *child_new(struct job *j, bool helper, struct err *err)
{
    struct child *c = calloc(1, sizeof *c);

    if (!c) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    *c = (struct child){ .job = j, .next = j->child, .report = -1, .helper = helper };
    j->child = c;
    return c;
}

static int run(struct child *c, struct args *a, const char *nodes, char **argv,
               const struct plumbing *s, struct err *err)
{
    int report[2], why[2], code = 0;
    const char *prog = bpsh_path();
    size_t argc = 0;

    while (argv[argc])
        argc++;
    CLEANUP(cleanup_free) char **all = calloc(ARGS + argc + 4, sizeof *all);
    if (!all)
        return err_set(err, ENOMEM, "out of memory");
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    if (pipe2(why, O_CLOEXEC) < 0) {
        close(report[0]);
        close(report[1]);
        return err_set(err, errno, "pipe: %s", strerror(errno));
    }
    snprintf(a->report, sizeof a->report, "%d", report[1]);
    arg2(a, "--report-fd", a->report);
    arg(a, nodes);
    memcpy(all, a->v, a->n * sizeof *all);
    memcpy(all + a->n, argv, argc * sizeof *all);
    c->pid = fork();
    if (c->pid == 0)
        become(s, prog, all, report[1], why[1]);
    if (c->pid < 0)
        code = errno;
    close(report[1]);
    close(why[1]);
    c->report = report[0];
    if (c->pid > 0 && read(why[0], &code, sizeof code) > 0) {
        waitpid(c->pid, NULL, 0);
        c->pid = 0;
    }
    close(why[0]);
    if (c->pid <= 0)
        return err_set(err, code, "%s: %s", s->wdir && code ? s->wdir : prog, strerror(code));
    return ranks_watch(c, err);
}

/* --- the helpers: one on each node --- */

static int start_helpers(struct job *j, struct err *err)
{
    char prog[PATH_MAX];
    char *argv[] = { prog, NULL };
    struct args a = { .n = 0 };
    struct plumbing s = { -1, -1, NULL, NULL, 0, true };
    CLEANUP(cleanup_free) char *nodes = nodelist_text(&j->nodes);
    int in[2], out[2];

    snprintf(prog, sizeof prog, "%.4000s/%s", cm_libexec(),
             j->kind == KIND_PMIX ? "bppmix" : "bppmi");
    j->helper = child_new(j, true, err);
    if (!j->helper)
        return -1;
    if (!nodes)
        return err_set(err, ENOMEM, "out of memory");
    if (access(prog, X_OK) < 0)
        return err_set(err, errno, "%s: %s%s", prog, strerror(errno),
                       j->kind == KIND_PMIX ? " (built where libpmix-dev was missing?)" : "");
    if (pipe2(in, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    if (pipe2(out, O_CLOEXEC) < 0) {
        close(in[0]);
        close(in[1]);
        return err_set(err, errno, "pipe: %s", strerror(errno));
    }
    arg(&a, "bpsh");
    arg(&a, "-p");
    arg2(&a, "-b", "65536");
    s.in = in[0];
    s.out = out[1];
    int rc = run(j->helper, &a, nodes, argv, &s, err);
    close(in[0]);
    close(out[1]);
    j->to = in[1];
    j->from = out[0];
    fcntl(j->to, F_SETFL, O_NONBLOCK);
    return rc;
}

/* --- the ranks of one program --- */

static void input_for(const struct job *j, const struct app *app, struct args *a)
{
    int64_t to = j->opt.stdin_to - app->first;

    if (j->opt.stdin_to == STDIN_ALL)
        return;
    if (j->opt.stdin_to >= 0 && to >= 0 && to < app->n) {
        snprintf(a->to, sizeof a->to, "%lld", (long long)to);
        arg2(a, "--stdin-rank", a->to);
    } else {
        arg(a, "-n");
    }
}

/* How ranks of MPICH wait: mpich_wait.c. */
static const char *preload(const struct job *j)
{
    static char path[PATH_MAX];

    if (j->kind != KIND_PMI1 || j->ranks < 2)
        return NULL;
    snprintf(path, sizeof path, "%.4000s/mpich_wait.so", cm_libexec());
    return access(path, R_OK) == 0 ? path : NULL;
}

static int start_app(struct job *j, struct app *app, struct err *err)
{
    char via[PATH_MAX];
    const char *with = preload(j);
    struct args a = { .n = 0 };
    struct plumbing s = { -1, -1, app->wdir, app->env, app->envs, false };
    CLEANUP(nodelist_free) nodelist_t mine;

    nodelist_init(&mine);
    for (uint32_t r = 0; r < app->n; r++)
        if (nodelist_add(&mine, j->map.node[app->first + r]) < 0)
            return err_set(err, ENOMEM, "out of memory");
    CLEANUP(cleanup_free) char *nodes = nodelist_text(&mine);
    struct child *c = child_new(j, false, err);
    if (!c)
        return -1;
    if (!nodes)
        return err_set(err, ENOMEM, "out of memory");
    snprintf(via, sizeof via, "%.4000s/bprank", cm_libexec());
    arg(&a, "bpsh");
    if (j->opt.prefix)
        arg(&a, "-r");
    else if (j->ranks > 1)
        arg(&a, "-L");
    if (j->opt.prefix || j->ranks > 1)
        arg2(&a, "-b", "65536");
    input_for(j, app, &a);
    snprintf(a.first, sizeof a.first, "%u", app->first);
    arg2(&a, "--first-rank", a.first);
    arg2(&a, "--via", via);
    if (with) {
        arg2(&a, "--with", with);
        setenv("CM_MPI_PRELOAD", with, 1);
    }
    return run(c, &a, nodes, app->argv, &s, err);
}

/* Where it is started is where it is looked for. */
char *find_program(const struct app *a, struct err *err)
{
    CLEANUP(cleanup_close) int here = a->wdir ? open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (a->wdir && chdir(a->wdir) < 0) {
        err_set(err, errno, "--wdir %s: %s", a->wdir, strerror(errno));
        return NULL;
    }
    char *path = command_find(a->argv[0], err);
    if (here >= 0 && fchdir(here) < 0) {
        err_set(err, errno, "back from %s: %s", a->wdir, strerror(errno));
        free(path);
        return NULL;
    }
    return path;
}

int start_all(struct job *j, struct err *err)
{
    if (tell_job(j, err) < 0 || start_helpers(j, err) < 0)
        return -1;
    for (size_t i = 0; i < j->opt.apps; i++)
        if (start_app(j, &j->opt.app[i], err) < 0)
            return -1;
    return 0;
}
