/* act.c - modules, addresses, mounts, sysctl, programs, what the node is */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/loop.h"
#include "node/nodeset/nodeset.h"

/* ---- ["module", name, arguments, size] + bytes ---- */

int step_module(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    CLEANUP(cleanup_free) char *name = NULL, *args = NULL;
    char buf[65536], path[PATH_MAX];
    ssize_t n;

    if (arg_text(a, 1, &name, err) < 0 || arg_text(a, 2, &args, err) < 0)
        return -1;
    snprintf(path, sizeof path, "/sys/module/%s", name);
    for (char *p = path + strlen("/sys/module/"); *p; p++)
        *p = *p == '-' ? '_' : *p;
    if (access(path, F_OK) == 0) {
        note("%s is loaded already", name);
        return 0;
    }
    CLEANUP(cleanup_close) int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        return err_set(err, errno, "memory for module %s: %s", name, strerror(errno));
    while ((n = bytes_read(b, buf, sizeof buf, err)) > 0)
        if (write(fd, buf, (size_t)n) != n)
            return err_set(err, errno, "memory for module %s: %s", name, strerror(errno));
    if (n < 0)
        return -1;
    if (syscall(SYS_finit_module, fd, args, 0) < 0 && errno != EEXIST)
        return err_set(err, errno, "load module %s: %s", name,
                       errno == ENOEXEC ? "it is not for this kernel" : strerror(errno));
    note("%s loaded", name);
    return 0;
}

/* ---- ["ifconfig", interface, address, mask] ---- */

static int set_addr(int sock, struct ifreq *r, unsigned long what, struct in_addr addr,
                    const char *text, struct err *err)
{
    struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr = addr };

    memcpy(&r->ifr_addr, &sin, sizeof sin);
    if (ioctl(sock, what, r) < 0)
        return err_set(err, errno, "%s of %s: %s", text, r->ifr_name, strerror(errno));
    return 0;
}

int step_ifconfig(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    CLEANUP(cleanup_free) char *name = NULL, *addr = NULL, *mask = NULL;
    struct in_addr ip, net, cast;
    struct ifreq r = { 0 };

    (void)b;
    if (arg_text(a, 1, &name, err) < 0 || arg_text(a, 2, &addr, err) < 0 ||
        arg_text(a, 3, &mask, err) < 0)
        return -1;
    if (inet_pton(AF_INET, addr, &ip) != 1 || inet_pton(AF_INET, mask, &net) != 1)
        return err_set(err, EINVAL, "%s: %s and %s: want an address and a mask", name, addr, mask);
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    CLEANUP(cleanup_close) int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return err_set(err, errno, "socket: %s", strerror(errno));
    cast.s_addr = ip.s_addr | ~net.s_addr;
    if (set_addr(sock, &r, SIOCSIFADDR, ip, "address", err) < 0 ||
        set_addr(sock, &r, SIOCSIFNETMASK, net, "mask", err) < 0)
        return -1;
    if (ioctl(sock, SIOCGIFFLAGS, &r) < 0)
        return err_set(err, errno, "flags of %s: %s", name, strerror(errno));
    short flags = r.ifr_flags;
    if ((flags & IFF_BROADCAST) && set_addr(sock, &r, SIOCSIFBRDADDR, cast, "broadcast", err) < 0)
        return -1;
    r.ifr_flags = (short)(flags | IFF_UP);
    if (ioctl(sock, SIOCSIFFLAGS, &r) < 0)
        return err_set(err, errno, "%s up: %s", name, strerror(errno));
    note("%s is %s", name, addr);
    return 0;
}

/* ---- ["mount", device, point, type, flags, data, seconds, rdev] ---- */

static bool mounted(const char *dev, const char *point, const char *type)
{
    char have[PATH_MAX], at[PATH_MAX], kind[80];
    FILE *f = fopen("/proc/mounts", "re");
    bool found = false;

    while (f && !found && fscanf(f, "%4095s %4095s %79s%*[^\n]", have, at, kind) == 3)
        found = strcmp(at, point) == 0 && strncmp(kind, type, strlen(type)) == 0 &&
                (strcmp(have, dev) == 0 || !strchr(dev, '/'));
    if (f)
        fclose(f);
    return found;
}

/* A server that is not there yet is asked again, for as long as was said. */
static int mount_patiently(const char *dev, const char *point, const char *type,
                           unsigned long flags, const char *data, int64_t seconds)
{
    int64_t end = now_ms() + seconds * 1000, pause = 100;

    while (mount(dev, point, type, flags, data) < 0) {
        bool later = errno == ETIMEDOUT || errno == ECONNREFUSED || errno == EHOSTUNREACH ||
                     errno == ENETUNREACH || errno == EAGAIN || errno == EPIPE;
        if (!later || now_ms() >= end)
            return -1;
        poll(NULL, 0, (int)pause);
        pause = pause < 5000 ? pause * 2 : pause;
    }
    return 0;
}

int step_mount(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    CLEANUP(cleanup_free) char *dev = NULL, *point = NULL, *type = NULL, *data = NULL;
    int64_t flags, seconds, rdev;

    (void)b;
    if (arg_text(a, 1, &dev, err) < 0 || arg_text(a, 2, &point, err) < 0 ||
        arg_text(a, 3, &type, err) < 0 || arg_int(a, 4, &flags, err) < 0 ||
        arg_text(a, 5, &data, err) < 0 || arg_int(a, 6, &seconds, err) < 0 ||
        arg_int(a, 7, &rdev, err) < 0)
        return -1;
    if (rdev && access(dev, F_OK) < 0 &&
        (make_parents(dev, err) < 0 || mknod(dev, S_IFBLK | 0600, (dev_t)rdev) < 0))
        return err_set(err, errno, "make device %s: %s", dev, strerror(errno));
    if (strcmp(type, "swap") == 0) {
        if (swapon(dev, 0) < 0 && errno != EBUSY)
            return err_set(err, errno, "swap on %s: %s", dev, strerror(errno));
        note("swap on %s", dev);
        return 0;
    }
    if (make_parents(point, err) < 0)
        return -1;
    if (mkdir(point, 0755) < 0 && errno != EEXIST)
        return err_set(err, errno, "make folder %s: %s", point, strerror(errno));
    if (mounted(dev, point, type)) {
        note("%s is mounted already", point);
        return 0;
    }
    if (mount_patiently(dev, point, type, (unsigned long)flags, data, seconds) < 0)
        return err_set(err, errno, "mount %s (%s) on %s: %s%s", dev, type, point, strerror(errno),
                       errno == ENODEV ? ": this kernel does not know the type; load its module "
                                         "before, by kmod" : "");
    note("%s (%s) is mounted on %s", dev, type, point);
    return 0;
}

/* ---- ["sysctl", key, value] ---- */

int step_sysctl(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    CLEANUP(cleanup_free) char *key = NULL, *value = NULL;
    char path[PATH_MAX];

    (void)b;
    if (arg_text(a, 1, &key, err) < 0 || arg_text(a, 2, &value, err) < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/sys/%s", key);
    for (char *p = path; *p; p++)
        *p = *p == '.' ? '/' : *p;
    CLEANUP(cleanup_close) int fd = open(path, O_WRONLY | O_CLOEXEC);
    size_t len = strlen(value);
    if (fd < 0 || write(fd, value, len) != (ssize_t)len)
        return err_set(err, errno, "sysctl %s = %s: %s", key, value, strerror(errno));
    note("%s = %s", key, value);
    return 0;
}

/* ---- ["exec", program, argument...] ---- */

static void exec_in_child(char **argv, int out)
{
    int null = open("/dev/null", O_RDONLY);

    if (null >= 0)
        dup2(null, 0);
    if (dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(126);
    execvp(argv[0], argv);
    dprintf(2, "%s: %s%s\n", argv[0], strerror(errno),
            errno == ENOENT ? " (it must be on the node: miscfiles can bring it)" : "");
    _exit(127);
}

static void note_output(FILE *f, char *last, size_t room)
{
    CLEANUP(cleanup_free) char *line = NULL;
    size_t size = 0;

    while (getline(&line, &size, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        for (char *p = line; *p; p++)
            *p = iscntrl((unsigned char)*p) ? ' ' : *p;
        note("%.900s", line);
        snprintf(last, room, "%.150s", line);
    }
}

/* Its output to the log; how it ended. */
static int run_program(char **argv, struct err *err)
{
    char last[160] = "";
    int out[2], status = -1;

    if (pipe2(out, O_CLOEXEC) < 0)
        return err_set(err, errno, "exec %s: %s", argv[0], strerror(errno));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        exec_in_child(argv, out[1]);
    close(out[1]);
    FILE *f = fdopen(out[0], "r");
    if (f) {
        note_output(f, last, sizeof last);
        fclose(f);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return err_set(err, errno, "exec %s: %s", argv[0], strerror(errno));
    if (WIFSIGNALED(status))
        return err_set(err, EIO, "%s was killed by signal %d", argv[0], WTERMSIG(status));
    if (WEXITSTATUS(status))
        return err_set(err, EIO, "%s ended with status %d%s%s", argv[0], WEXITSTATUS(status),
                       *last ? ": " : "", last);
    return 0;
}

int step_exec(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    char **argv = calloc((size_t)a->size + 1, sizeof *argv);
    int rc = 0;

    (void)b;
    if (!argv)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 1; rc == 0 && i < a->size; i++)
        rc = arg_text(a, i, &argv[i - 1], err);
    if (rc == 0)
        rc = argv[0] ? run_program(argv, err) : err_set(err, EINVAL, "exec: no program");
    for (uint32_t i = 0; i < a->size; i++)
        free(argv[i]);
    free(argv);
    return rc;
}

/* ---- ["info"]: attributes cpus (int), hz and mem (64 bits) ---- */

static void attribute(const char *name, const void *value, size_t len)
{
    const unsigned char *p = value;

    printf("A %s ", name);
    for (size_t i = 0; i < len; i++)
        printf("%02x", p[i]);
    putchar('\n');
}

static int64_t clock_of_cpu(void)
{
    CLEANUP(cleanup_free) char *line = NULL;
    size_t size = 0;
    double mhz = 0;
    FILE *f = fopen("/proc/cpuinfo", "re");

    while (f && mhz == 0 && getline(&line, &size, f) > 0)
        if (sscanf(line, "cpu MHz : %lf", &mhz) != 1)
            mhz = 0;
    if (f)
        fclose(f);
    return (int64_t)(mhz * 1e6);
}

int step_info(const msgpack_object_array *a, struct bytes *b, struct err *err)
{
    struct sysinfo si;
    int32_t cpus = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    int64_t hz = clock_of_cpu();

    (void)a;
    (void)b;
    if (sysinfo(&si) < 0)
        return err_set(err, errno, "sysinfo: %s", strerror(errno));
    int64_t mem = (int64_t)si.totalram * si.mem_unit;
    attribute("cpus", &cpus, sizeof cpus);
    attribute("hz", &hz, sizeof hz);
    attribute("mem", &mem, sizeof mem);
    note("%d processors of %" PRId64 " MHz, %" PRId64 " MB", cpus, hz / 1000000, mem >> 20);
    return 0;
}
