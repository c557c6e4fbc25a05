/* bpvnode_machine.c - a virtual machine's life: switch on, watch, switch off
 *
 * The machine is on while its bpinit lives; the agent is started again
 * whenever it ends. Nothing outlives us: both have a parent-death signal, and
 * everything in the node's pid namespace ends with bpinit.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/loop.h"
#include "node/bpvnode.h"
#include "node/space.h"
#include "node/vnet.h"

/* An agent that lived shorter than this is not started again at once. */
#define SOUND_LIFE_MS 1000
#define RETRY_FIRST_MS 100
#define RETRY_LAST_MS 5000

struct watch {
    struct machine *m;
    loop_t *loop;
    int64_t agent_since;
    int retry_ms; /* 0: at once */
    int status;   /* what to exit with */
};

void machine_log(const struct machine *m, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (m->real)
        fprintf(stderr, "boot: %s\n", text);
    else
        fprintf(stderr, "bpvnode: n%d: %s\n", m->node, text);
}

static void kill_and_wait(pid_t *pid)
{
    if (*pid <= 0)
        return;
    kill(*pid, SIGKILL);
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    *pid = 0;
}

static const char *end_text(int status, char *buf, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(buf, size, "was killed by signal %d", WTERMSIG(status));
    else
        snprintf(buf, size, "ended with status %d", WEXITSTATUS(status));
    return buf;
}

/* bpinit's last word is what happens to the machine. */
static int after_init(struct machine *m, int status)
{
    char buf[64];

    m->init_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    switch (m->init_status) {
    case SPACE_EXIT_END:
        machine_log(m, "its space has ended; starting afresh");
        return 0;
    case SPACE_EXIT_REBOOT:
        machine_log(m, "reboot");
        return 0;
    case SPACE_EXIT_HALT:
    case SPACE_EXIT_PWROFF:
        machine_log(m, "halted");
        return MACHINE_EXIT_OFF;
    default:
        machine_log(m, "bpinit %s; starting afresh", end_text(status, buf, sizeof buf));
        return 1;
    }
}

static void on_init_end(void *arg, int fd, uint32_t events)
{
    struct watch *w = arg;
    int status = 0;

    (void)fd;
    (void)events;
    if (waitpid(w->m->init, &status, WNOHANG) != w->m->init)
        return;
    w->m->init = 0;
    loop_stop(w->loop, after_init(w->m, status));
}

static void start_agent(void *arg);

static void on_agent_end(void *arg, int fd, uint32_t events)
{
    struct watch *w = arg;
    int status = 0;
    char buf[64];

    (void)fd;
    (void)events;
    if (waitpid(w->m->agent, &status, WNOHANG) != w->m->agent)
        return;
    w->m->agent = 0;
    loop_fd_del(w->loop, w->m->agent_fd);
    cleanup_close(&w->m->agent_fd);
    if (now_ms() - w->agent_since >= SOUND_LIFE_MS)
        w->retry_ms = 0;
    else if (w->retry_ms == 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
        w->retry_ms = RETRY_FIRST_MS; /* 0: it was told to end, to start otherwise */
    else if ((w->retry_ms *= 2) > RETRY_LAST_MS)
        w->retry_ms = RETRY_LAST_MS;
    machine_log(w->m, "bpnode %s; starting it again", end_text(status, buf, sizeof buf));
    loop_timer(w->loop, w->retry_ms, false, start_agent, w);
}

static void start_agent(void *arg)
{
    struct watch *w = arg;
    struct err err = { 0 };

    w->agent_since = now_ms();
    if (machine_start_agent(w->m, &err) < 0 ||
        loop_fd(w->loop, w->m->agent_fd, EPOLLIN, on_agent_end, w, &err) < 0) {
        machine_log(w->m, "%s", err.text);
        loop_stop(w->loop, 1);
    }
}

static void on_term(void *arg, int signo)
{
    struct watch *w = arg;

    (void)signo;
    loop_stop(w->loop, 0);
}

/* Watch first: a bpinit that ends at once is seen. */
static int switch_on(struct watch *w, struct err *err)
{
    struct machine *m = w->m;
    CLEANUP(cleanup_close) int go = -1;

    machine_cgroups(m);
    if ((!m->real && machine_places(m, err) < 0) || machine_root(m, err) < 0 ||
        machine_start_init(m, &go, err) < 0 ||
        loop_fd(w->loop, m->init_fd, EPOLLIN, on_init_end, w, err) < 0 ||
        (!m->real && machine_network(m, err) < 0))
        return -1;
    if (write(go, "g", 1) != 1)
        return err_set(err, errno, "start bpinit: %s", strerror(errno));
    loop_timer(w->loop, 0, false, start_agent, w);
    return 0;
}

static void switch_off(struct machine *m)
{
    struct err err = { 0 };

    kill_and_wait(&m->agent);
    kill_and_wait(&m->init);
    if (m->real)
        return;
    unlink(m->space);
    machine_remove_cgroups(m);
    /* The kernel removes the cable with the namespace, but in its own time. */
    CLEANUP(cleanup_close) int nl = vnet_open(-1, &err);
    if (nl < 0 || vnet_delete(nl, m->port, &err) < 0)
        machine_log(m, "%s", err.text);
}

int machine_run(struct machine *m, struct err *err)
{
    CLEANUP(loop_destroy) loop_t *loop = loop_create(err);
    struct watch w = { .m = m, .loop = loop };
    int status = -1;

    if (!loop || loop_signal(loop, SIGTERM, on_term, &w, err) < 0 ||
        loop_signal(loop, SIGINT, on_term, &w, err) < 0)
        return -1;
    m->init_status = -1;
    if (m->on_loop)
        m->on_loop(loop, m->on_loop_arg);
    if (switch_on(&w, err) == 0)
        status = loop_run(loop);
    switch_off(m);
    return status;
}
