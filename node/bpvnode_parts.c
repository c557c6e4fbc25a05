/* bpvnode_parts.c - what a virtual machine is made of */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/sched.h>
#include "bus/pkt.h"
#include "bus/rundir.h"
#include "node/bpvnode.h"
#include "node/vnet.h"

/* Pids of what bodies make: a window for each node, above what the master uses
 * itself, so that the same number is free there. */
#define LEASE_FIRST 1000000
#define LEASE_PIDS 3000

static int make_path(char *buf, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int make_path(char *buf, struct err *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(buf, PATH_MAX, fmt, ap);
    va_end(ap);
    if (n >= PATH_MAX)
        return err_set(err, ENAMETOOLONG, "%.100s...: path is too long", buf);
    return 0;
}

static int make_folder(const char *path, struct err *err)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_set(err, errno, "make folder %s: %s", path, strerror(errno));
    return 0;
}

int machine_places(struct machine *m, struct err *err)
{
    char dir[PATH_MAX];
    unsigned char raw[16];
    struct in_addr in = { htonl(VNET_NODES + (uint32_t)m->node) };

    if (getrandom(raw, sizeof raw, 0) != sizeof raw)
        return err_set(err, errno, "random numbers: %s", strerror(errno));
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(m->boot + 2 * i, 3, "%02x", raw[i]);
    snprintf(m->port, sizeof m->port, "cmv%d", m->node);
    inet_ntop(AF_INET, &in, m->address, sizeof m->address);
    if (make_path(m->master_key, err, "%s/master.pub", m->run) < 0 ||
        make_path(dir, err, "%s/space", m->run) < 0 || make_folder(dir, err) < 0 ||
        make_path(m->space, err, "%s/space/%d", m->run, m->node) < 0 ||
        make_path(dir, err, "%s/vnodes", m->state) < 0 || make_folder(dir, err) < 0 ||
        make_path(dir, err, "%s/vnodes/%d", m->state, m->node) < 0 ||
        make_folder(dir, err) < 0)
        return -1;
    return make_path(m->key, err, "%s/vnodes/%d/key", m->state, m->node);
}

int machine_root(struct machine *m, struct err *err)
{
    char size[32];
    CLEANUP(cleanup_close) int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);

    if (m->real) /* what is not the kernel's is the node's */
        snprintf(size, sizeof size, "90%%");
    else
        snprintf(size, sizeof size, "%llu", (unsigned long long)m->size);
    if (fs < 0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", "node", 0) < 0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "size", size, 0) < 0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return err_set(err, errno, "root file system of size %s: %s", size,
                       strerror(errno));
    m->root_fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV);
    if (m->root_fd < 0)
        return err_set(err, errno, "root file system: %s", strerror(errno));
    return 0;
}

/* --- the programs --- */

static void keep_over_exec(int fd)
{
    fcntl(fd, F_SETFD, 0);
}

static void __attribute__((noreturn)) exec_helper(const char *name, const char *const *argv)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", cm_libexec(), name);
    execv(path, (char *const *)(uintptr_t)argv);
    fprintf(stderr, "bpvnode: start %s: %s\n", path, strerror(errno));
    _exit(127);
}

static void __attribute__((noreturn)) init_child(const struct machine *m, int wait_fd)
{
    static const char *const tree[] = { "--cgroup-fd", "--memory-fd", "--cpu-fd" };
    char root[16], host[32], group[3][16], pids[32], door[16], go = 0;
    const char *argv[24] = { "bpinit",     "--space", m->space,    "--root-fd", root,
                             "--hostname", host,      "--address", m->address,  "--boot",
                             m->boot,      "--listen-fd", door };
    int at = 13;

    /* Before the wait: from then on our parent's end is ours. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(wait_fd, &go, 1) < 0 && errno == EINTR)
        continue;
    if (go != 'g')
        _exit(1);
    snprintf(root, sizeof root, "%d", m->root_fd);
    snprintf(door, sizeof door, "%d", m->space_fd);
    keep_over_exec(m->space_fd);
    snprintf(host, sizeof host, m->node < 0 ? "node" : "n%d", m->node);
    if (m->node >= 0) {
        snprintf(pids, sizeof pids, "%d:%d", LEASE_FIRST + m->node * LEASE_PIDS, LEASE_PIDS);
        argv[at++] = "--pids";
        argv[at++] = pids;
    }
    if (m->real)
        argv[at++] = "--machine";
    keep_over_exec(m->root_fd);
    machine_enter_cgroup(m);
    for (int i = 0; i < 3; i++) {
        if (m->cgroup[i] < 0)
            continue;
        snprintf(group[i], sizeof group[i], "%d", m->cgroup[i]);
        keep_over_exec(m->cgroup[i]);
        argv[at++] = tree[i];
        argv[at++] = group[i];
    }
    exec_helper("bpinit", argv);
}

static int open_ns(pid_t pid, const char *kind, struct err *err)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, kind);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, errno, "open %s: %s", path, strerror(errno));
    return fd;
}

int machine_start_init(struct machine *m, int *go, struct err *err)
{
    int p[2], pidfd = -1;

    /* Made here: the agent need not ask again and again until bpinit listens. */
    m->space_fd = pkt_listen(m->space, 0600, err);
    if (m->space_fd < 0)
        return -1;
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    struct clone_args args = {
        .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_PIDFD |
                 (m->real ? 0 : CLONE_NEWUTS | CLONE_NEWNET),
        .pidfd = (uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        close(p[1]);
        init_child(m, p[0]);
    }
    int code = errno;
    close(p[0]);
    cleanup_close(&m->space_fd); /* it is bpinit's: gone with it */
    *go = p[1];
    if (pid < 0)
        return err_set(err, code, "make namespaces: %s", strerror(code));
    m->init = pid;
    m->init_fd = pidfd;
    if (m->real)
        return 0;
    m->netns = open_ns(pid, "net", err);
    m->utsns = m->netns < 0 ? -1 : open_ns(pid, "uts", err);
    return m->utsns < 0 ? -1 : 0;
}

int machine_network(struct machine *m, struct err *err)
{
    uint32_t n = (uint32_t)m->node;
    const uint8_t mac[6] = { 0x02, 0xc6, 0x12, (uint8_t)(n >> 16), (uint8_t)(n >> 8),
                             (uint8_t)n };
    CLEANUP(cleanup_close) int here = vnet_open(-1, err);
    if (here < 0)
        return -1;
    CLEANUP(cleanup_close) int there = vnet_open(m->netns, err);
    if (there < 0)
        return -1;
    /* The cable of a machine that was killed may still hang there. */
    if (vnet_delete(here, m->port, err) < 0 ||
        vnet_pair(here, m->port, VNET_BRIDGE, m->netns, mac, err) < 0 ||
        vnet_up(here, m->port, err) < 0 || vnet_up(there, "lo", err) < 0 ||
        vnet_address(there, "eth0", VNET_NODES + n, VNET_PREFIX, err) < 0 ||
        vnet_up(there, "eth0", err) < 0)
        return -1;
    return 0;
}

static void __attribute__((noreturn)) agent_child(const struct machine *m, pid_t parent)
{
    char hint[16], root[16], ready[16];
    int at = 0;
    const char *argv[24] = { "bpnode", "--root-fd", root,   "--space",      m->space,
                             "--key",  m->key,      "--master-key", m->master_key,
                             "--bus",  m->bus,      "--boot",       m->boot };
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    snprintf(root, sizeof root, "%d", m->root_fd);
    keep_over_exec(m->root_fd);
    while (argv[at])
        at++;
    if (m->node >= 0) {
        snprintf(hint, sizeof hint, "%d", m->node);
        argv[at++] = "--node-hint";
        argv[at++] = hint;
    }
    if (m->real)
        argv[at++] = "--boot-key";
    if (m->image) {
        argv[at++] = "--image";
        argv[at++] = m->image;
    }
    if (m->ready_fd >= 0) {
        snprintf(ready, sizeof ready, "%d", m->ready_fd);
        argv[at] = "--ready-fd";
        argv[at + 1] = ready;
        keep_over_exec(m->ready_fd);
    }
    if (!m->real &&
        (setns(m->netns, CLONE_NEWNET) < 0 || setns(m->utsns, CLONE_NEWUTS) < 0)) {
        fprintf(stderr, "bpvnode: enter the node's namespaces: %s\n", strerror(errno));
        _exit(1);
    }
    exec_helper("bpnode", argv);
}

int machine_start_agent(struct machine *m, struct err *err)
{
    int pidfd = -1;
    pid_t self = getpid();
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);

    if (pid == 0)
        agent_child(m, self);
    if (pid < 0)
        return err_set(err, errno, "start bpnode: %s", strerror(errno));
    m->agent = pid;
    m->agent_fd = pidfd;
    /* The first one has it now. */
    cleanup_close(&m->ready_fd);
    return 0;
}
