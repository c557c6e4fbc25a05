/* look.c - what of a process cannot go along
 *
 * By /proc alone: nothing is touched. Everything that is found is told, not only
 * the first.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "image/timers.h"
#include "mover/mover.h"

#define TEXT_MAX (64u * 1024 * 1024)
#define ADDR_NO_RANDOMIZE 0x0040000u

void hindered(struct hindrances *h, const char *what, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    mp_array(&h->rows, 2);
    mp_str(&h->rows, what);
    mp_str(&h->rows, text);
    h->n++;
}

char *proc_text(pid_t pid, const char *name, size_t *len)
{
    char path[64], *text = NULL;
    size_t room = 0, got = 0;

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    for (;;) {
        if (room - got < 2048) {
            char *more = room < TEXT_MAX ? realloc(text, room = room ? room * 2 : 8192) : NULL;
            if (!more) {
                free(text);
                errno = ENOMEM;
                return NULL;
            }
            text = more;
        }
        ssize_t n = read(fd, text + got, room - got - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int code = errno;
            free(text);
            errno = code;
            return NULL;
        }
        if (n == 0)
            break;
        got += (size_t)n;
    }
    text[got] = 0;
    if (len)
        *len = got;
    return text;
}

static const char *status_line(const char *status, const char *key)
{
    size_t n = strlen(key);

    for (const char *p = status; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, key, n) == 0 && p[n] == ':')
            return p + n + 1;
    }
    return NULL;
}

uint64_t status_number(const char *status, const char *key, int base, uint64_t dflt)
{
    const char *p = status_line(status, key);

    return p ? strtoull(p, NULL, base) : dflt;
}

/* Real, effective, saved and the file system's: one and the same? */
static bool one_id(const char *status, const char *key)
{
    const char *p = status_line(status, key);
    unsigned a = 0, b = 0, c = 0, d = 0;

    return !p || sscanf(p, "%u %u %u %u", &a, &b, &c, &d) != 4 || (a == b && b == c && c == d);
}

static int look_status(pid_t pid, const char *s, struct hindrances *h, struct err *err)
{
    const char *state = status_line(s, "State");
    uint64_t threads = status_number(s, "Threads", 10, 1);
    uint64_t tracer = status_number(s, "TracerPid", 10, 0);

    state = state ? state + strspn(state, " \t") : "?";
    if (*state == 'Z' || *state == 'X')
        return err_set(err, ESRCH, "process %d has ended", (int)pid);
    if (!status_line(s, "VmSize"))
        hindered(h, "kernel", "it is a thread of the kernel's");
    if (threads > 1)
        hindered(h, "threads", "it has %" PRIu64 " threads", threads);
    if (status_number(s, "Seccomp", 10, 0))
        hindered(h, "seccomp", "its system calls are filtered (seccomp)");
    if (!one_id(s, "Uid") || !one_id(s, "Gid"))
        hindered(h, "ids", "it has the rights of another user or group (set-user-id)");
    else if (status_line(s, "Uid") && strtoul(status_line(s, "Uid"), NULL, 10) != 0 &&
             status_number(s, "CapPrm", 16, 0))
        hindered(h, "capabilities", "it holds capabilities");
    if (status_number(s, "VmLck", 10, 0))
        hindered(h, "locked-memory", "it has locked memory (mlock)");
    if (status_number(s, "HugetlbPages", 10, 0))
        hindered(h, "huge-pages", "it has huge pages");
    if (tracer == (uint64_t)getpid()) /* that is us: it stands still */
        return 0;
    if (tracer)
        hindered(h, "traced", "it is traced by process %" PRIu64, tracer);
    else if (*state == 'T' || *state == 't')
        hindered(h, "stopped", "it is stopped: continue it first (kill -CONT %d)", (int)pid);
    return 0;
}

static void look_program(pid_t pid, struct hindrances *h)
{
    unsigned char head[20] = { 0 };
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, head, sizeof head) != sizeof head || memcmp(head, "\177ELF", 4) != 0)
        hindered(h, "program", "its program cannot be read");
    else if (head[4] != 2 || head[18] != IMAGE_X86_64)
        hindered(h, "program", "its program is not one of this machine's own kind (x86-64)");
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);

    return n >= k && strcmp(s + n - k, end) == 0;
}

static void look_map(const char *line, struct hindrances *h)
{
    char rights[8] = "", *path;
    unsigned long start, end;
    int at = 0;

    if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %n", &start, &end, rights, &at) < 3)
        return;
    path = (char *)(uintptr_t)line + (at ? (size_t)at : strlen(line));
    bool gone = ends_with(path, " (deleted)");
    if (strncmp(path, "anon_inode:", 11) == 0)
        hindered(h, "kernel-memory", "memory at %lx is shared with the kernel (%s)", start, path);
    else if (strncmp(path, "/dev/", 5) == 0 && strncmp(path, "/dev/shm/", 9) != 0 && !gone)
        hindered(h, "device-memory", "memory at %lx is a device's (%s)", start, path);
    else if (strncmp(path, "/anon_hugepage", 14) == 0)
        hindered(h, "huge-pages", "memory at %lx is of huge pages", start);
    else if (rights[3] == 's' && strncmp(path, "/SYSV", 5) == 0)
        hindered(h, "shared-memory", "memory at %lx is shared (System V, %s)", start, path);
    else if (rights[3] == 's' && (*path != '/' || gone || strncmp(path, "/dev/shm/", 9) == 0))
        hindered(h, "shared-memory", "memory at %lx is shared with other processes (%s)", start,
                 *path ? path : "no name");
    else if (rights[3] == 's' && rights[1] == 'w')
        hindered(h, "shared-memory", "memory at %lx is shared with the file %s", start, path);
}

static int look_maps(pid_t pid, struct hindrances *h, struct err *err)
{
    CLEANUP(cleanup_free) char *text = proc_text(pid, "maps", NULL);
    char *rest;

    if (!text)
        return err_set(err, errno, "process %d: its memory cannot be seen: %s", (int)pid,
                       strerror(errno));
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        look_map(line, h);
    return 0;
}

static void look_timers(pid_t pid, struct hindrances *h)
{
    CLEANUP(cleanup_free) char *text = proc_text(pid, "timers", NULL);
    struct image_timer t[IMAGE_TIMERS];
    const char *why;
    int n = text ? image_timers(text, t, &why) : 0;

    if (n < 0)
        hindered(h, "timers", "%s", why);
    else if (n > (int)IMAGE_TIMERS)
        hindered(h, "timers", "it has %d POSIX timers (timer_create), more than %u", n,
                 IMAGE_TIMERS);
}

static void look_places(const struct mover_conf *c, struct hindrances *h)
{
    static const char *const kinds[] = { "mnt", "pid", "net", "ipc", "uts", "user", "cgroup",
                                         "time" };
    char path[64], one[64], two[64], text[4096];
    ssize_t a, b;

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)c->pid, kinds[i]);
        a = readlink(path, one, sizeof one);
        snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)c->like, kinds[i]);
        b = readlink(path, two, sizeof two);
        if (a > 0 && b > 0 && (a != b || memcmp(one, two, (size_t)a) != 0))
            hindered(h, "namespace", "it is in a namespace of its own (%s)", kinds[i]);
    }
    snprintf(path, sizeof path, "/proc/%d/root", (int)c->pid);
    a = readlink(path, text, sizeof text - 1);
    if (a > 0 && (a != 1 || *text != '/'))
        hindered(h, "root", "it has another root directory (%.*s)", (int)a, text);
    snprintf(path, sizeof path, "/proc/%d/cwd", (int)c->pid);
    a = readlink(path, text, sizeof text - 1);
    text[a > 0 ? a : 0] = 0;
    if (ends_with(text, " (deleted)"))
        hindered(h, "directory", "its working directory has been removed (%s)", text);
}

static void look_scheduling(pid_t pid, struct hindrances *h)
{
    CLEANUP(cleanup_free) char *stat = proc_text(pid, "stat", NULL);
    CLEANUP(cleanup_free) char *pers = proc_text(pid, "personality", NULL);
    char *p = stat ? strrchr(stat, ')') : NULL;
    unsigned long policy = 0;

    for (int field = 2; p && field < 41; field++) /* proc(5) */
        p = strchr(p + 1, ' ');
    policy = p ? strtoul(p, NULL, 10) : 0;
    if (policy)
        hindered(h, "scheduling", "it is scheduled in a class of its own (%s)",
                 policy == 1 || policy == 2 ? "real time" : policy == 6 ? "deadline" : "batch");
    if (pers && (strtoul(pers, NULL, 16) & ~(unsigned long)ADDR_NO_RANDOMIZE))
        hindered(h, "personality", "it runs with another personality (personality(2))");
}

int look(const struct mover_conf *c, struct held_list *l, struct hindrances *h,
         struct err *err)
{
    CLEANUP(cleanup_free) char *status = proc_text(c->pid, "status", NULL);

    if (!status)
        return err_set(err, ESRCH, "process %d has ended", (int)c->pid);
    if (look_status(c->pid, status, h, err) < 0)
        return -1;
    if (!status_line(status, "VmSize"))
        return 0;
    kept_look(c->pid, h);
    look_program(c->pid, h);
    if (look_maps(c->pid, h, err) < 0)
        return -1;
    look_timers(c->pid, h);
    look_places(c, h);
    look_scheduling(c->pid, h);
    return held_look(c, l, h, err);
}
