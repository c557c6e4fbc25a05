/* dhcp.c - DHCP, proxy-DHCP and TFTP: dnsmasq, configured, started, looked after
 *
 * dnsmasq serves only the interfaces that the configuration names, and nothing
 * but DHCP and TFTP. Which machines have which addresses stands in a folder of
 * its own, where it looks for new files: a node that is added disturbs nobody.
 * (SIGHUP, which would do for other changes too, makes dnsmasq 2.90 crash once a
 * named machine has an address; for those it is started anew.) One that outlives
 * us is ended by the next of us. What it logs tells how far machines have come.
 */
#include "services/bootsrv/dhcp.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "services/bootsrv/machines.h"

#define IPXE_DIR "/usr/lib/ipxe"
#define POOL 64         /* addresses for unknown machines, of the network's top */
#define PAUSE_MIN_MS 200
#define PAUSE_MAX_MS 10000
#define STEADY_MS 10000 /* one that ran so long was well */
#define LINE 512
#define HOSTS "dhcp-hosts" /* a folder in RUN */
#define PIDFILE "dnsmasq.pid"

struct dhcp {
    bootsrv_t *b;
    char *conf, *hosts; /* as written last; NULL: nothing is wanted */
    unsigned files;     /* in the folder of hosts */
    pid_t pid;
    int pidfd, out;     /* -1: none */
    int64_t begun;
    int pause_ms, timer;
    char line[LINE], last[LINE];
    size_t len;
};

static void start(void *arg);

/* ---- addresses ---- */

static uint32_t ip_of(const char *text)
{
    struct in_addr a;

    return inet_pton(AF_INET, text, &a) == 1 ? ntohl(a.s_addr) : 0;
}

static const char *ip_text(uint32_t ip, char out[INET_ADDRSTRLEN])
{
    struct in_addr a = { htonl(ip) };

    return inet_ntop(AF_INET, &a, out, INET_ADDRSTRLEN);
}

static bool taken(const bootsrv_t *b, uint32_t ip)
{
    for (size_t i = 0; i < b->nnets; i++)
        if (ip_of(b->net[i].addr) == ip)
            return true;
    for (size_t i = 0; i < b->config->nnodes; i++)
        for (size_t k = 0; k < b->config->nodes[i].addrs.n; k++)
            if (ip_of(b->config->nodes[i].addrs.v[k]) == ip)
                return true;
    return false;
}

/* The highest run of free addresses of this network, at most POOL. */
static bool pool_of(const bootsrv_t *b, const struct net *n, uint32_t *first, uint32_t *last)
{
    uint32_t mask = ip_of(n->mask), base = ip_of(n->addr) & mask, top = base | ~mask;

    if (b->config->dhcp.first && (ip_of(b->config->dhcp.first) & mask) == base) {
        *first = ip_of(b->config->dhcp.first);
        *last = ip_of(b->config->dhcp.last);
        return (*last & mask) == base;
    }
    for (uint32_t ip = top - 1; ip > base && ip > top - 4096; ip--) {
        if (taken(b, ip))
            continue;
        *last = *first = ip;
        while (*last - *first + 1 < POOL && *first - 1 > base && !taken(b, *first - 1))
            --*first;
        return true;
    }
    return false;
}

/* ---- what it is told ---- */

static void full_net(const bootsrv_t *b, const struct net *n, FILE *f)
{
    char first[INET_ADDRSTRLEN], last[INET_ADDRSTRLEN];
    uint32_t a, z;

    fprintf(f, "dhcp-range=set:%s,%s,static,%s,1h\n", n->name, n->addr, n->mask);
    if (pool_of(b, n, &a, &z))
        fprintf(f, "dhcp-range=set:%s,%s,%s,%s,10m\n", n->name, ip_text(a, first), ip_text(z, last),
                n->mask);
}

static void boot_of(const bootsrv_t *b, const struct net *n, bool proxy, FILE *f)
{
    unsigned port = b->config->send.port;

    /* what iPXE is to go on with; the file by TFTP for all others */
    fprintf(f, "dhcp-boot=tag:%s,tag:ipxe,http://%s:%u/boot.ipxe,,%s\n", n->name, n->addr, port,
            n->addr);
    fprintf(f, "dhcp-boot=tag:%s,tag:!ipxe,tag:!linux,tag:efi64,ipxe.efi,,%s\n", n->name, n->addr);
    fprintf(f, "dhcp-boot=tag:%s,tag:!ipxe,tag:!linux,tag:!efi64,undionly.kpxe,,%s\n", n->name,
            n->addr);
    fprintf(f, "dhcp-boot=tag:%s,tag:linux,,,%s\n", n->name, n->addr);
    fprintf(f, "dhcp-option=tag:%s,tag:linux,224,\"%s:%u\"\n", n->name, n->addr, port);
    if (!proxy)
        return;
    fprintf(f, "pxe-service=tag:!ipxe,x86PC,\"Clustermatic\",undionly.kpxe,%s\n", n->addr);
    fprintf(f, "pxe-service=tag:!ipxe,X86-64_EFI,\"Clustermatic\",ipxe.efi,%s\n", n->addr);
    fprintf(f, "pxe-service=tag:!ipxe,BC_EFI,\"Clustermatic\",ipxe.efi,%s\n", n->addr);
    fprintf(f, "pxe-service=tag:ipxe,x86PC,\"Clustermatic\",http://%s:%u/boot.ipxe\n", n->addr, port);
}

static char *make_conf(const bootsrv_t *b)
{
    bool proxy = b->config->dhcp.mode == DHCP_PROXY;
    char *text = NULL, hosts[PATH_MAX];
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return NULL;
    fprintf(f, "# Written by bootsrv: what is changed here is lost.\n"
               "port=0\n"
               "bind-dynamic\n"
               "leasefile-ro\n"
               "no-ping\n"
               "log-dhcp\n"
               "log-facility=-\n"
               "user=nobody\n"
               "group=nogroup\n"
               "enable-tftp\n"
               "tftp-root=" IPXE_DIR "\n"
               "tftp-no-fail\n"
               "tftp-max=500\n"
               "dhcp-lease-max=100000\n"
               "dhcp-match=set:ipxe,175\n"
               "dhcp-vendorclass=set:linux,clustermatic\n"
               "dhcp-match=set:efi64,option:client-arch,7\n"
               "dhcp-match=set:efi64,option:client-arch,9\n"
               "dhcp-option=encap:175,176,1b\n" /* iPXE: do not wait for other answers */
               "dhcp-option=3\n"                /* no router: we are none */
               "dhcp-option=6\n");
    if (!proxy)
        fprintf(f, "dhcp-authoritative\ndhcp-hostsdir=%s\n", cm_path(hosts, HOSTS));
    for (size_t i = 0; i < b->nnets; i++) {
        const struct net *n = &b->net[i];
        fprintf(f, "interface=%s\n", n->name);
        if (proxy)
            fprintf(f, "dhcp-range=set:%s,%s,proxy,%s\n", n->name, n->addr, n->mask);
        else
            full_net(b, n, f);
        boot_of(b, n, proxy, f);
    }
    fclose(f);
    return text;
}

/* MAC, the node's address on that network, its name. */
static char *make_hosts(const bootsrv_t *b)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return NULL;
    for (size_t i = 0; i < b->config->nnodes; i++) {
        const struct cm_node *n = &b->config->nodes[i];
        for (size_t k = 0; k < n->macs.n; k++) {
            fputs(n->macs.v[k], f);
            for (size_t j = 0; j < n->addrs.n; j++)
                if (ip_of(n->addrs.v[j]))
                    fprintf(f, ",%s", n->addrs.v[j]);
            fprintf(f, ",n%d,set:known\n", n->number);
        }
    }
    fclose(f);
    return text;
}

static int put(const char *name, const char *text, struct err *err)
{
    char path[PATH_MAX], fresh[PATH_MAX];

    cm_path(path, name);
    cm_path(fresh, "dnsmasq.new"); /* never half a file */
    FILE *f = fopen(fresh, "we");
    if (!f)
        return err_set(err, errno, "%s: %s", fresh, strerror(errno));
    bool good = fputs(text, f) >= 0;
    if (fclose(f) != 0 || !good || chmod(fresh, 0644) < 0 || rename(fresh, path) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    return 0;
}

static int add_hosts(dhcp_t *d, const char *text, struct err *err)
{
    char name[48];

    snprintf(name, sizeof name, HOSTS "/%u", d->files++);
    return put(name, text, err);
}

/* All of them in one file, and no others. */
static int all_hosts(dhcp_t *d, const char *text, struct err *err)
{
    char path[PATH_MAX];
    struct dirent *e;

    if (mkdir(cm_path(path, HOSTS), 0755) < 0 && errno != EEXIST)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    DIR *dir = opendir(path);
    while (dir && (e = readdir(dir)))
        if (e->d_name[0] != '.')
            unlinkat(dirfd(dir), e->d_name, 0);
    if (dir)
        closedir(dir);
    d->files = 0;
    return add_hosts(d, text, err);
}

/* Is every line of old in new? Then extra gets the others (the caller frees). */
static bool only_more(const char *old, const char *new, char **extra)
{
    char line[512];
    size_t len;
    FILE *f = open_memstream(extra, &len);

    for (const char *p = old; *p; p += strcspn(p, "\n") + 1) {
        snprintf(line, sizeof line, "%.*s\n", (int)strcspn(p, "\n"), p);
        const char *at = strstr(new, line);
        if (!at || (at > new && at[-1] != '\n')) {
            if (f)
                fclose(f);
            return false;
        }
    }
    for (const char *p = new; f && *p; p += strcspn(p, "\n") + 1) {
        snprintf(line, sizeof line, "%.*s\n", (int)strcspn(p, "\n"), p);
        if (!strstr(old, line))
            fputs(line, f);
    }
    return f && fclose(f) == 0;
}

/* ---- what it says ---- */

/* "... DHCPACK(m0) 198.18.0.10 52:54:00:00:00:01 ..." */
static void take_ack(dhcp_t *d, const char *p)
{
    char interface[16], addr[16], text[20], mac[MAC_TEXT];

    if (sscanf(p, "DHCPACK(%15[^)]) %15[0-9.] %19[0-9a-fA-F:]", interface, addr, text) != 3 ||
        !mac_normalise(text, mac))
        return;
    struct machine *m = machines_mac(d->b->machines, mac, addr, interface);
    if (m)
        machine_stage(d->b->machines, m, "dhcp", -1, false, addr);
}

/* "... sent /usr/lib/ipxe/undionly.kpxe to 198.18.0.10" */
static void take_tftp(dhcp_t *d, const char *p)
{
    const char *to = strstr(p, " to ");
    struct machine *m = to ? machines_addr(d->b->machines, to + 4) : NULL;

    if (m)
        machine_stage(d->b->machines, m, "tftp", -1, false, NULL);
}

static void end_line(dhcp_t *d)
{
    const char *p;

    d->line[d->len] = '\0';
    d->len = 0;
    if (!d->line[0])
        return;
    memcpy(d->last, d->line, sizeof d->last);
    if ((p = strstr(d->line, "DHCPACK(")))
        take_ack(d, p);
    else if ((p = strstr(d->line, "sent /")))
        take_tftp(d, p);
    else if (strstr(d->line, "no address") || strstr(d->line, "failed") ||
             strstr(d->line, "error"))
        svc_log("warning", "%s", d->line);
}

static void on_output(void *arg, int fd, uint32_t events)
{
    dhcp_t *d = arg;
    char buf[4096];
    ssize_t n = read(fd, buf, sizeof buf);

    (void)events;
    if (n <= 0) {
        loop_fd_del(d->b->loop, fd);
        close(fd);
        d->out = -1;
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (buf[i] == '\n' || d->len == LINE - 1)
            end_line(d);
        if (buf[i] != '\n' && buf[i] != '\0')
            d->line[d->len++] = buf[i];
    }
}

/* ---- its life ---- */

static void forget(dhcp_t *d)
{
    if (d->pidfd >= 0) {
        loop_fd_del(d->b->loop, d->pidfd);
        close(d->pidfd);
    }
    if (d->out >= 0) {
        loop_fd_del(d->b->loop, d->out);
        close(d->out);
    }
    d->pid = 0;
    d->pidfd = d->out = -1;
}

static void again(dhcp_t *d)
{
    if (now_ms() - d->begun > STEADY_MS)
        d->pause_ms = PAUSE_MIN_MS;
    loop_timer_del(d->b->loop, d->timer);
    d->timer = loop_timer(d->b->loop, d->pause_ms, false, start, d);
    d->pause_ms = d->pause_ms * 2 < PAUSE_MAX_MS ? d->pause_ms * 2 : PAUSE_MAX_MS;
}

static void on_exit_of(void *arg, int fd, uint32_t events)
{
    dhcp_t *d = arg;
    siginfo_t si = { 0 };

    (void)events;
    if (waitid(P_PIDFD, (id_t)fd, &si, WEXITED | WNOHANG) < 0 || si.si_pid == 0)
        return;
    while (d->out >= 0)
        on_output(d, d->out, 0);
    svc_log("error", "dnsmasq has ended (%s %d)%s%s; starting it again",
            si.si_code == CLD_EXITED ? "status" : "signal", si.si_status, d->last[0] ? ": " : "",
            d->last);
    forget(d);
    again(d);
}

static void in_child(int out)
{
    char conf[PATH_MAX + 16], pidfile[PATH_MAX + 16], path[PATH_MAX];
    sigset_t none;
    int null = open("/dev/null", O_RDWR);

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(out, 2) < 0)
        _exit(126);
    snprintf(conf, sizeof conf, "--conf-file=%s", cm_path(path, "dnsmasq.conf"));
    snprintf(pidfile, sizeof pidfile, "--pid-file=%s", cm_path(path, PIDFILE));
    execlp("dnsmasq", "dnsmasq", "--keep-in-foreground", conf, pidfile, (char *)NULL);
    dprintf(2, "run dnsmasq: %s (apt-get install dnsmasq-base)\n", strerror(errno));
    _exit(127);
}

static void start(void *arg)
{
    dhcp_t *d = arg;
    struct err err = { 0 };
    int out[2];

    d->timer = 0;
    d->last[0] = '\0';
    d->len = 0;
    if (!d->conf || d->pid)
        return;
    d->begun = now_ms();
    if (pipe2(out, O_CLOEXEC) < 0) {
        svc_log("error", "pipe: %s", strerror(errno));
        again(d);
        return;
    }
    d->pid = fork();
    if (d->pid == 0)
        in_child(out[1]);
    close(out[1]);
    d->out = out[0];
    if (d->pid < 0) {
        svc_log("error", "fork: %s", strerror(errno));
        forget(d);
        again(d);
        return;
    }
    d->pidfd = (int)syscall(SYS_pidfd_open, d->pid, 0);
    if (d->pidfd >= 0)
        fcntl(d->pidfd, F_SETFD, FD_CLOEXEC);
    if (d->pidfd < 0 || loop_fd(d->b->loop, d->pidfd, EPOLLIN, on_exit_of, d, &err) < 0 ||
        loop_fd(d->b->loop, d->out, EPOLLIN, on_output, d, &err) < 0) {
        svc_log("error", "watch dnsmasq: %s", err.code ? err.text : strerror(errno));
        dhcp_stop(d);
        again(d);
        return;
    }
    svc_log("info", "dnsmasq serves %s, pid %d",
            d->b->config->dhcp.mode == DHCP_PROXY ? "proxy-DHCP and TFTP" : "DHCP and TFTP",
            (int)d->pid);
}

void dhcp_stop(dhcp_t *d)
{
    loop_timer_del(d->b->loop, d->timer);
    d->timer = 0;
    if (d->pid > 0) {
        kill(d->pid, SIGKILL); /* it keeps nothing that could be lost */
        while (waitpid(d->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    forget(d);
}

/* One that one of us who was killed has left behind. */
static void end_old(void)
{
    char path[PATH_MAX], ours[PATH_MAX + 16], text[PATH_MAX * 2] = "";
    int pid = 0;

    snprintf(ours, sizeof ours, "--conf-file=%s", cm_path(path, "dnsmasq.conf"));
    FILE *f = fopen(cm_path(path, PIDFILE), "re");
    if (!f || fscanf(f, "%d", &pid) != 1)
        pid = 0;
    if (f)
        fclose(f);
    if (pid <= 1)
        return;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    f = fd < 0 ? NULL : fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (n && memmem(text, n, ours, strlen(ours) + 1) &&
        syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0)
        svc_log("info", "the dnsmasq of before (pid %d) is ended", pid);
    if (f)
        fclose(f);
    if (fd >= 0)
        close(fd);
}

static bool same(const char *a, const char *b) { return a && b && strcmp(a, b) == 0; }

void dhcp_configure(dhcp_t *d)
{
    bool off = d->b->config->dhcp.mode == DHCP_OFF || d->b->nnets == 0;
    char *conf = off ? NULL : make_conf(d->b), *hosts = off ? NULL : make_hosts(d->b);
    CLEANUP(cleanup_free) char *more = NULL;
    struct err err = { 0 };
    int rc = 0;

    if (conf && hosts && same(conf, d->conf) && same(hosts, d->hosts)) {
        free(conf);
        free(hosts);
        return;
    }
    if (conf && hosts && d->pid > 0 && same(conf, d->conf) && only_more(d->hosts, hosts, &more)) {
        rc = add_hosts(d, more, &err);
    } else {
        dhcp_stop(d);
        if (conf && hosts && ((rc = put("dnsmasq.conf", conf, &err)) < 0 ||
                              (rc = all_hosts(d, hosts, &err)) < 0))
            off = true;
    }
    if (rc < 0)
        svc_log("error", "%s", err.text);
    free(d->conf);
    free(d->hosts);
    d->conf = conf;
    d->hosts = hosts;
    if (!off && d->pid <= 0) {
        d->pause_ms = PAUSE_MIN_MS;
        start(d);
    }
}

pid_t dhcp_pid(const dhcp_t *d) { return d->pid; }

dhcp_t *dhcp_create(bootsrv_t *b, struct err *err)
{
    dhcp_t *d = calloc(1, sizeof *d);

    if (!d) {
        err_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    d->b = b;
    d->pidfd = d->out = -1;
    d->pause_ms = PAUSE_MIN_MS;
    end_old();
    return d;
}

void dhcp_destroy(dhcp_t **dp)
{
    if (!*dp)
        return;
    dhcp_stop(*dp);
    free((*dp)->conf);
    free((*dp)->hosts);
    free(*dp);
    *dp = NULL;
}
