/* doctor.c - clustermatic doctor: what this machine lacks, and what mends it
 *
 * Each check tries the thing itself where that is harmless, rather than
 * asking for a kernel version. Kernel features are tried in a child, so that
 * nothing of it stays.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "clients/clustermatic/commands.h"
#include "clients/clustermatic/tool.h"

struct check {
    const char *name;
    bool needed; /* else: something works less well without it */
    /* 0, or an errno; may say more in detail (240 bytes) */
    int (*test)(char *detail);
    const char *what, *fix;
};

/* Run test in a child, for what changes the process. */
static int in_child(int (*test)(void))
{
    int status;
    pid_t pid = fork();

    if (pid < 0)
        return errno;
    if (pid == 0)
        _exit(test());
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

static int need_root(char *detail)
{
    (void)detail;
    return geteuid() == 0 ? 0 : EPERM;
}

static int need_s6(char *detail)
{
    static const char *const tools[] = { "s6-svscan", "s6-supervise", "s6-svc", "s6-svstat",
                                         "s6-svwait", "s6-svdt", "s6-log", NULL };

    for (const char *const *t = tools; *t; t++) {
        if (!tool_there(*t)) {
            snprintf(detail, 240, "no %s", *t);
            return ENOENT;
        }
    }
    return 0;
}

static int new_namespaces(void)
{
    return unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET) < 0
               ? errno : 0;
}

static int need_namespaces(char *detail)
{
    (void)detail;
    return in_child(new_namespaces);
}

static int chosen_pid(void)
{
    pid_t want = 300; /* in a new pid namespace every pid but 1 is free */
    struct clone_args a = { .exit_signal = SIGCHLD };
    int status;

    if (unshare(CLONE_NEWPID) < 0)
        return errno;
    /* pid 1 first: nobody can have another pid before it. */
    pid_t one = fork();
    if (one < 0)
        return errno;
    if (one > 0) {
        waitpid(one, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
    }
    a.set_tid = (uintptr_t)&want;
    a.set_tid_size = 1;
    long pid = syscall(SYS_clone3, &a, sizeof a);
    if (pid < 0)
        _exit(errno);
    if (pid == 0)
        _exit(0);
    waitpid((pid_t)pid, &status, 0);
    _exit(pid == want ? 0 : EIO);
}

static int need_set_tid(char *detail)
{
    (void)detail;
    return in_child(chosen_pid);
}

static int need_pidfd(char *detail)
{
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    (void)detail;
    if (fd < 0)
        return errno;
    int r = syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) < 0 ? errno : 0;
    close(fd);
    return r;
}

static int need_memfd(char *detail)
{
    int fd = memfd_create("doctor", MFD_CLOEXEC);

    (void)detail;
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int need_fsmount(char *detail)
{
    int fd = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);

    (void)detail;
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int virtual_links(void)
{
    static const char *const bridge[] = { "ip", "link", "add", "cm0", "type", "bridge", NULL };
    static const char *const veth[] = { "ip", "link", "add", "cmv0", "type", "veth",
                                        "peer", "name", "eth0", NULL };
    char out[100];

    if (unshare(CLONE_NEWNET) < 0)
        return errno;
    if (tool_run(bridge, 5000, out, sizeof out, NULL) != 0)
        return ENOTSUP;
    return tool_run(veth, 5000, out, sizeof out, NULL) != 0 ? ENOTSUP : 0;
}

static int need_links(char *detail)
{
    if (!tool_there("ip")) {
        snprintf(detail, 240, "no ip to try it with: apt-get install iproute2");
        return ENOENT;
    }
    return in_child(virtual_links);
}

static int need_tracefs(char *detail)
{
    static const char *const places[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };

    for (size_t i = 0; i < 2; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/events/signal/signal_generate/id", places[i]);
        if (access(path, R_OK) == 0)
            return 0;
    }
    snprintf(detail, 240, "not mounted, or not allowed");
    return ENOENT;
}

static int need_cn_proc(char *detail)
{
    struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = CN_IDX_PROC };
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_CONNECTOR);

    (void)detail;
    if (fd < 0)
        return errno;
    int r = bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ? errno : 0;
    close(fd);
    return r;
}

static int need_pid_max(char *detail)
{
    long max = 0;
    FILE *f = fopen("/proc/sys/kernel/pid_max", "re");

    if (f) {
        if (fscanf(f, "%ld", &max) != 1)
            max = 0;
        fclose(f);
    }
    snprintf(detail, 240, "it is %ld", max);
    return max >= 262144 ? 0 : ERANGE;
}

static int need_files(char *detail)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return errno;
    snprintf(detail, 240, "it is %llu", (unsigned long long)r.rlim_max);
    return r.rlim_max >= 16384 ? 0 : ERANGE;
}

static int need_fuse(char *detail)
{
    (void)detail;
    return access("/dev/fuse", F_OK) < 0 ? errno : 0;
}

static int need_dnsmasq(char *detail)
{
    if (tool_there("dnsmasq"))
        return 0;
    snprintf(detail, 240, "no dnsmasq");
    return ENOENT;
}

static int need_ipxe(char *detail)
{
    (void)detail;
    return access("/usr/lib/ipxe/undionly.kpxe", R_OK) < 0 ||
                   access("/usr/lib/ipxe/ipxe.efi", R_OK) < 0 ? errno : 0;
}

/* Kernels can seal these pages of theirs in each process (CONFIG_MSEAL_SYSTEM_MAPPINGS). */
static int try_vdso(void)
{
    char line[512];
    unsigned long start, end;
    FILE *f = fopen("/proc/self/maps", "re");
    int code = ENOENT;

    while (f && code == ENOENT && fgets(line, sizeof line, f)) {
        if (!strstr(line, "[vdso]") || sscanf(line, "%lx-%lx", &start, &end) != 2)
            continue;
        void *to = mmap(NULL, end - start, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        code = to == MAP_FAILED || mremap((void *)start, end - start, end - start,
                                          MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED
                   ? errno : 0;
    }
    _exit(code); /* at once: libc's clock is gone */
}

static int need_vdso(char *detail)
{
    int code = in_child(try_vdso);

    if (code == EPERM)
        snprintf(detail, 240, "this kernel has sealed its pages in processes");
    return code;
}

static const struct check checks[] = {
    { "root", true, need_root, "a cluster is started by root", "run it with sudo" },
    { "s6", true, need_s6, "supervision of the services", "apt-get install s6" },
    { "namespaces", true, need_namespaces, "pid, mount, uts, ipc and network namespaces",
      "run as root, outside a container that forbids them (docker run --privileged)" },
    { "set_tid", true, need_set_tid, "clone3 with a chosen pid",
      "a kernel of 5.5 or later, and CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN" },
    { "pidfd", true, need_pidfd, "process descriptors", "a kernel of 5.3 or later" },
    { "memfd", true, need_memfd, "memory files", "a kernel with CONFIG_MEMFD_CREATE" },
    { "fsmount", true, need_fsmount, "mounts by descriptor", "a kernel of 5.2 or later" },
    { "links", true, need_links, "bridge and veth, for virtual nodes", "modprobe bridge veth" },
    { "vdso", false, need_vdso, "processes that move (bproc_move, bproc_rfork, bproc_undump)",
      "a kernel without CONFIG_MSEAL_SYSTEM_MAPPINGS" },
    { "tracefs", false, need_tracefs, "SIGSTOP of a ghost is seen at once (else within a second)",
      "mount -t tracefs tracefs /sys/kernel/tracing" },
    { "cn_proc", false, need_cn_proc, "forks on nodes are noticed at once",
      "a kernel with CONFIG_PROC_EVENTS" },
    { "pid_max", false, need_pid_max, "room for the pids of every node",
      "sysctl -w kernel.pid_max=4194304" },
    { "nofile", false, need_files, "open files: enough for hundreds of nodes",
      "ulimit -Hn 65536, or LimitNOFILE= in the unit" },
    { "fuse", false, need_fuse, "the /bpfs view of the nodes", "modprobe fuse" },
    { "dnsmasq", false, need_dnsmasq, "DHCP and TFTP for nodes that boot from the network",
      "apt-get install dnsmasq-base" },
    { "ipxe", false, need_ipxe, "what their firmware is given", "apt-get install ipxe" },
};

static json_t *as_json(const struct check *k, int code, const char *detail)
{
    json_t *o = json_object();

    json_object_set_new(o, "name", json_string(k->name));
    json_object_set_new(o, "ok", json_boolean(code == 0));
    json_object_set_new(o, "needed", json_boolean(k->needed));
    json_object_set_new(o, "for", json_string(k->what));
    json_object_set_new(o, "detail", json_string(detail));
    json_object_set_new(o, "fix", code ? json_string(k->fix) : json_null());
    return o;
}

static void as_text(const struct check *k, int code, const char *detail)
{
    const char *word = code == 0 ? "ok" : k->needed ? "MISSING" : "weak";

    printf("%-8s %-11s %s", word, k->name, k->what);
    if (code)
        printf(": %s\n%20s mend: %s", *detail ? detail : strerror(code), "", k->fix);
    putchar('\n');
}

int cmd_doctor(const struct options *o)
{
    json_t *list = json_array();
    bool good = true;

    fflush(stdout);
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        char detail[240] = "";
        int code = checks[i].test(detail);
        good = good && (code == 0 || !checks[i].needed);
        if (o->json)
            json_array_append_new(list, as_json(&checks[i], code, detail));
        else
            as_text(&checks[i], code, detail);
        fflush(stdout);
    }
    if (o->json) {
        json_dumpf(list, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(list);
    return good ? 0 : 1;
}
