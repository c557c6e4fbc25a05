/* tool.c - running other programs, and saying how far we are */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/beoboot/beoboot.h"

extern char **environ;

bool tool_there(const char *name)
{
    const char *path = getenv("PATH");
    char file[4096];

    if (*name == '/')
        return access(name, X_OK) == 0;
    for (const char *p = path ? path : "/usr/bin:/bin:/usr/sbin:/sbin"; *p;) {
        size_t n = strcspn(p, ":");
        snprintf(file, sizeof file, "%.*s/%s", (int)n, p, name);
        if (access(file, X_OK) == 0)
            return true;
        p += n + (p[n] == ':');
    }
    return false;
}

/* The last line that is one. */
static void last_words(int fd, char *out, size_t room)
{
    char buf[4096];
    size_t have = 0;
    ssize_t n;

    *out = 0;
    while ((n = read(fd, buf + have, sizeof buf - 1 - have)) > 0 ||
           (n < 0 && errno == EINTR)) {
        have += n > 0 ? (size_t)n : 0;
        if (have > sizeof buf / 2) {
            memmove(buf, buf + have - sizeof buf / 4, sizeof buf / 4);
            have = sizeof buf / 4;
        }
    }
    while (have && (buf[have - 1] == '\n' || buf[have - 1] == ' '))
        have--;
    buf[have] = 0;
    const char *line = strrchr(buf, '\n');
    snprintf(out, room, "%.*s", (int)room - 1, line ? line + 1 : buf);
}

int tool_run(const char *const *argv, struct err *err)
{
    posix_spawn_file_actions_t actions;
    char said[200];
    int p[2], status;
    pid_t pid;

    if (pipe2(p, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, p[1], 1);
    posix_spawn_file_actions_adddup2(&actions, p[1], 2);
    int code = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv,
                            environ);
    posix_spawn_file_actions_destroy(&actions);
    close(p[1]);
    if (code == 0)
        last_words(p[0], said, sizeof said);
    close(p[0]);
    if (code)
        return err_set(err, code, "%s: %s", argv[0], strerror(code));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return err_set(err, EIO, "%s failed: %s", argv[0], *said ? said : "it did not say why");
}

void progress(const char *fmt, ...)
{
    va_list ap;

    if (!isatty(2))
        return;
    fputs("\r\033[K", stderr);
    if (!fmt)
        return;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fflush(stderr);
}
