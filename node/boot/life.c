/* life.c - phase 2: the machine around bpinit and bpnode
 *
 * The same machine as a virtual node's (node/bpvnode.h), but that it has no
 * other around it: network and devices are its own, its control groups are
 * mounted here, and its end is a reboot. A space that was ended because the
 * master is gone or has given it up ends in a reboot too: the node goes back
 * to where it came from and asks the master again.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/loop.h"
#include "node/boot/boot.h"
#include "node/bpvnode.h"
#include "node/space.h"

#define CGROUPS "/sys/fs/cgroup"
#define PIDS_MAX "4194304" /* pids of the master's processes must fit */
#define WATCHDOG_S 60      /* a machine that is silent for so long is reset by it */
#define WATCHDOG_PET_MS 10000
#define RENEW_AGAIN_S 60

struct life {
    struct machine m;
    struct net *net;
    loop_t *loop;
    int watchdog; /* -1: the machine has none */
};

/* ---- the machine's own business, beside its space ---- */

/* Orphans of bpnode are ours. Bpnode and bpinit are waited for elsewhere. */
static void on_child(void *arg, int signo)
{
    struct life *l = arg;
    siginfo_t info;

    (void)signo;
    for (;;) {
        info.si_pid = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || !info.si_pid ||
            info.si_pid == l->m.init || info.si_pid == l->m.agent)
            return;
        waitpid(info.si_pid, NULL, WNOHANG);
    }
}

static void pet(void *arg)
{
    struct life *l = arg;

    ioctl(l->watchdog, WDIOC_KEEPALIVE, 0);
}

static void open_watchdog(struct life *l)
{
    struct watchdog_info info = { 0 };
    int seconds = WATCHDOG_S;

    l->watchdog = open(WATCHDOG, O_WRONLY | O_CLOEXEC);
    if (l->watchdog < 0)
        return;
    if (ioctl(l->watchdog, WDIOC_SETTIMEOUT, &seconds) < 0)
        boot_say("watchdog: %s", strerror(errno));
    ioctl(l->watchdog, WDIOC_GETTIMEOUT, &seconds);
    ioctl(l->watchdog, WDIOC_GETSUPPORT, &info);
    boot_say("watchdog: %.32s, %d s", (const char *)info.identity, seconds);
    loop_timer(l->loop, WATCHDOG_PET_MS, true, pet, l);
}

/* A machine that is to stay off must not be reset. */
static void close_watchdog(struct life *l)
{
    if (l->watchdog >= 0 && write(l->watchdog, "V", 1) < 0)
        boot_say("watchdog: %s", strerror(errno));
    cleanup_close(&l->watchdog);
}

static void renew(void *arg);

static void renew_in(struct life *l, uint32_t seconds)
{
    loop_timer(l->loop, (int64_t)seconds * 1000, false, renew, l);
}

/* An address that is not renewed is kept: the node's work is worth more. */
static void renew(void *arg)
{
    struct life *l = arg;

    if (net_renew(l->net)) {
        renew_in(l, l->net->dhcp.lease / 2);
        return;
    }
    boot_say("%s: the lease of %s is not renewed; asking again", l->net->card, l->net->addr);
    renew_in(l, RENEW_AGAIN_S);
}

static void on_loop(loop_t *loop, void *arg)
{
    struct life *l = arg;
    struct err err = { 0 };

    l->loop = loop;
    if (loop_signal(loop, SIGCHLD, on_child, l, &err) < 0)
        boot_say("%s", err.text);
    open_watchdog(l);
    if (l->net->dhcp.type && l->net->dhcp.lease > 2 && l->net->dhcp.lease != UINT32_MAX)
        renew_in(l, l->net->dhcp.lease / 2);
}

/* ---- what it is made of ---- */

static void mount_cgroups(void)
{
    if (mount("cgroup2", CGROUPS, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        boot_say("control groups: %s", strerror(errno));
}

static void more_pids(void)
{
    CLEANUP(cleanup_close) int fd = open("/proc/sys/kernel/pid_max", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, PIDS_MAX, sizeof PIDS_MAX - 1) < 0)
        boot_say("pid_max: %s", strerror(errno));
}

static int read_boot_id(struct machine *m, struct err *err)
{
    CLEANUP(cleanup_free) char *id = boot_text("/proc/sys/kernel/random/boot_id", 64);
    size_t n = 0;

    if (!id)
        return err_set(err, ENOMEM, "out of memory");
    for (const char *c = id; *c && n < sizeof m->boot - 1; c++)
        if (*c != '-' && *c != '\n')
            m->boot[n++] = *c;
    m->boot[n] = 0;
    return n ? 0 : err_set(err, ENOENT, "/proc/sys/kernel/random/boot_id: cannot be read");
}

static int places(struct machine *m, struct net *net, struct err *err)
{
    snprintf(m->address, sizeof m->address, "%s", net->addr);
    snprintf(m->space, sizeof m->space, "/run/space");
    snprintf(m->key, sizeof m->key, "/run/key");
    snprintf(m->master_key, sizeof m->master_key, "/etc/clustermatic/master.pub");
    if (access(m->master_key, R_OK) < 0)
        return err_set(err, errno, "%s: %s in this image: make it again with beoboot",
                       m->master_key, strerror(errno));
    return read_boot_id(m, err);
}

/* The number that bpnode will hear from the master; DHCP knows it as "nN". */
static int guess_node(const struct params *p, const struct net *net)
{
    int node;
    char rest;

    if (p->node >= 0)
        return p->node;
    if (sscanf(net->dhcp.host, "n%d%c", &node, &rest) == 1 && node >= 0 && node <= 1000000)
        return node;
    return -1;
}

int life_run(const struct params *p, struct net *net, struct err *err)
{
    const char *master = *p->master ? p->master : net->master;
    char bus[32];
    struct life l = {
        .m = { .node = guess_node(p, net), .real = true, .run = "/run/clustermatic", .bus = bus,
               .image = *p->image ? p->image : NULL, .ready_fd = -1, .root_fd = -1,
               .netns = -1, .utsns = -1, .init_fd = -1, .agent_fd = -1,
               .cgroup = { -1, -1, -1 }, .on_loop = on_loop },
        .net = net, .watchdog = -1,
    };

    if (!*master)
        return err_set(err, EINVAL, "nobody has told where the master is: cm.master=ADDRESS is "
                       "missing on the kernel's command line");
    snprintf(bus, sizeof bus, "%s:%d", master, p->port);
    l.m.on_loop_arg = &l;
    mount_cgroups();
    more_pids();
    if (places(&l.m, net, err) < 0)
        return -1;
    boot_say("node %d of the master at %s", l.m.node, bus);
    if (machine_run(&l.m, err) < 0)
        return -1;
    if (l.m.init_status == SPACE_EXIT_HALT || l.m.init_status == SPACE_EXIT_PWROFF)
        close_watchdog(&l);
    net_down(net);
    switch (l.m.init_status) {
    case SPACE_EXIT_HALT: return LIFE_HALT;
    case SPACE_EXIT_PWROFF: return LIFE_PWROFF;
    default: return LIFE_REBOOT;
    }
}
