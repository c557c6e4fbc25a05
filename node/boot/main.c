/* main.c - bpboot: /init of every boot image
 *
 * The order of things. What fails is said on the console and to the boot
 * server; then the machine waits a little, so that it can be read, and starts
 * again from its firmware.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "node/boot/boot.h"

#define FACTS "/etc/clustermatic/image"
#define CONFIG "/etc/clustermatic/config.boot"
#define TEXT_MAX (256 * 1024)
#define FATAL_WAIT_S 30
#define SERVER_PORT 4711
#define PANIC_S "10" /* after a panic of the kernel, ours included: start again */

int64_t boot_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void boot_say(const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fprintf(stderr, "boot: %s\n", text);
}

char *boot_text(const char *path, size_t max)
{
    CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CLEANUP(cleanup_free) char *text = malloc(max + 1);
    size_t have = 0;
    ssize_t n;

    if (!text)
        return NULL;
    while (fd >= 0 && have < max && (n = read(fd, text + have, max - have)) > 0)
        have += (size_t)n;
    text[have] = 0;
    char *out = realloc(text, have + 1);
    if (out)
        text = NULL;
    return out;
}

/* ---- the surroundings ---- */

static void mount_on(const char *type, const char *path, const char *options)
{
    mkdir(path, 0755);
    if (mount(type, path, type, MS_NOSUID, options) < 0 && errno != EBUSY)
        boot_say("mount %s on %s: %s", type, path, strerror(errno));
}

static void open_console(void)
{
    int fd = open("/dev/console", O_RDWR);

    if (fd < 0)
        fd = open("/dev/null", O_RDWR);
    if (fd < 0)
        return;
    for (int i = 0; i < 3; i++)
        dup2(fd, i);
    if (fd > 2)
        close(fd);
}

static void surroundings(void)
{
    umask(022);
    mount_on("devtmpfs", "/dev", "mode=0755");
    open_console();
    mount_on("proc", "/proc", NULL);
    mount_on("sysfs", "/sys", NULL);
    mkdir("/run", 0755);
    int fd = open("/proc/sys/kernel/panic", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, PANIC_S, sizeof PANIC_S - 1) < 0)
        boot_say("/proc/sys/kernel/panic: %s", strerror(errno));
    cleanup_close(&fd);
    setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("CM_LIBEXEC", "/usr/libexec/clustermatic", 1);
}

static int read_params(struct params *p, struct err *err)
{
    CLEANUP(cleanup_free) char *cmdline = boot_text("/proc/cmdline", TEXT_MAX);
    CLEANUP(cleanup_free) char *facts = boot_text(FACTS, TEXT_MAX);
    CLEANUP(cleanup_free) char *config = boot_text(CONFIG, TEXT_MAX);

    if (!cmdline || !facts || !config)
        return err_set(err, ENOMEM, "out of memory");
    return params_read(p, cmdline, err) < 0 ? -1 : params_image(p, facts, config, err);
}

/* ---- the end ---- */

static void __attribute__((noreturn)) leave(int how)
{
    sync();
    reboot(how == LIFE_PWROFF ? RB_POWER_OFF : how == LIFE_HALT ? RB_HALT_SYSTEM : RB_AUTOBOOT);
    reboot(RB_AUTOBOOT); /* a machine that cannot be switched off is not left half on */
    for (;;)
        pause();
}

static void __attribute__((noreturn)) fatal(const struct err *err)
{
    boot_say("%s", err->text);
    tell_failure(err->text);
    boot_say("starting again in %d seconds", FATAL_WAIT_S);
    poll(NULL, 0, FATAL_WAIT_S * 1000);
    leave(LIFE_REBOOT);
}

/* ---- the order ---- */

static void rescan(void *arg)
{
    modules_devices(arg);
}

/* In phase 2 there may be none. */
static void find_server(const struct params *p, const struct net *net, char out[32])
{
    const char *master = *p->master ? p->master : net->master;

    if (*p->server)
        snprintf(out, 32, "%s", p->server);
    else if (*net->dhcp.boot)
        snprintf(out, 32, "%.31s", net->dhcp.boot);
    else
        snprintf(out, 32, "%s:%d", master, SERVER_PORT);
    if (p->phase == 1 || *p->server || *net->dhcp.boot)
        tell_where(out, net->mac_text);
}

static int boot(struct params *p, struct err *err)
{
    char server[32];
    struct net net;
    int64_t start = boot_ms();

    if (read_params(p, err) < 0)
        return -1;
    boot_say("Clustermatic " CM_VERSION ", phase %d, kernel %s", p->phase, p->release);
    CLEANUP(modules_close) modules_t *m = modules_open(p, err);
    if (!m)
        return -1;
    int asked = modules_config(m, p), found = modules_devices(m);
    if (p->phase == 2 && access(WATCHDOG, F_OK) < 0)
        modules_named(m, "softdog");
    boot_say("%d modules loaded, %lld ms", asked + found, (long long)(boot_ms() - start));
    if (net_find(&net, p, rescan, m, err) < 0)
        return -1;
    boot_say("%s (%s) is %s/%d, %lld ms, %d waits for a timer", net.card, net.mac_text, net.addr,
             net.prefix, (long long)(boot_ms() - start), net.timers);
    find_server(p, &net, server);
    tell(p->phase == 1 ? "net" : "net2");
    if (p->phase == 1)
        return phase1_run(server, &net, err);
    tell("agent");
    tell_end();
    return life_run(p, &net, err);
}

/* Somebody has started us on a machine that runs. */
static int not_here(const char *option)
{
    if (strcmp(option, "--version") == 0)
        return puts("bpboot (Clustermatic) " CM_VERSION) < 0;
    if (strcmp(option, "--help") == 0)
        return puts("Usage: /init of a boot image. See bpboot(8), beoboot(8).") < 0;
    fputs("bpboot: is the first program of a boot image, see beoboot(8); it does nothing on a "
          "machine that runs\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct params p = { 0 };
    struct err err = { 0 };

    if (getpid() != 1)
        return not_here(argc > 1 ? argv[1] : "");
    surroundings();
    int how = boot(&p, &err);
    if (how < 0)
        fatal(&err);
    leave(how);
}
