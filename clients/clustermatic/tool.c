/* tool.c - run another program for its answer */
#include "clients/clustermatic/tool.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/loop.h"

extern char **environ;

static int collect(int fd, int timeout_ms, char *out, size_t size)
{
    int64_t end = now_ms() + timeout_ms;
    size_t have = 0;
    char waste[512];

    for (;;) {
        int64_t left = end - now_ms();
        struct pollfd p = { .fd = fd, .events = POLLIN };
        int r = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return -1;
        bool room = have + 1 < size;
        ssize_t n = read(fd, room ? out + have : waste, room ? size - 1 - have : sizeof waste);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return 0;
        if (room) {
            have += (size_t)n;
            out[have] = 0;
        }
    }
}

int tool_run(const char *const *argv, int timeout_ms, char *out, size_t size,
             struct err *err)
{
    int ends[2], status = 0;
    pid_t pid;
    posix_spawn_file_actions_t acts;

    if (size)
        out[0] = 0;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set(err, errno, "make a pipe for %s: %s", argv[0], strerror(errno));
    CLEANUP(cleanup_close) int from = ends[0];
    posix_spawn_file_actions_init(&acts);
    posix_spawn_file_actions_addopen(&acts, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&acts, ends[1], 1);
    posix_spawn_file_actions_adddup2(&acts, ends[1], 2);
    int code = posix_spawnp(&pid, argv[0], &acts, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&acts);
    close(ends[1]);
    if (code)
        return err_set(err, code, "run %s: %s%s", argv[0], strerror(code),
                       code == ENOENT ? " (is it installed? `clustermatic doctor` knows)" : "");

    bool late = collect(from, timeout_ms, out, size) < 0;
    if (late)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (late)
        return err_set(err, ETIMEDOUT, "%s gave no answer in %d ms", argv[0], timeout_ms);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool tool_there(const char *name)
{
    const char *path = getenv("PATH");
    char file[PATH_MAX];

    if (!path)
        path = "/usr/bin:/bin";
    while (*path) {
        size_t n = strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/%s", (int)n, path, name);
        if (access(file, X_OK) == 0)
            return true;
        path += n + (path[n] == ':');
    }
    return false;
}
