/* deliver.c - the stream to the nodes by bpsh, and what they answer */
#include "clients/node_up/node_up.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/rundir.h"

#define STATUS_LOST 99

static struct result *result_of(struct result *r, size_t n, long node)
{
    for (size_t i = 0; i < n; i++)
        if (r[i].node == node)
            return &r[i];
    return NULL;
}

/* "NAME HEX" */
static void take_attr(struct result *r, const char *text)
{
    unsigned char value[64];
    char name[64];
    int used = 0;
    size_t n = 0;

    if (sscanf(text, "%57s %n", name, &used) != 1)
        return;
    for (unsigned byte; n < sizeof value && sscanf(text + used + 2 * n, "%2x", &byte) == 1; n++)
        value[n] = (unsigned char)byte;
    mp_kbin(&r->attrs, name, value, n);
    r->nattrs++;
}

/* A line of bpsh -p: "  3: L kmod text" */
static void take_line(struct result *results, size_t n, char *line, bool many)
{
    char *rest, plugin[64];
    long node = strtol(line, &rest, 10);
    struct result *r = rest != line && rest[0] == ':' && rest[1] == ' '
                           ? result_of(results, n, node) : NULL;
    int used = 0;

    if (!r) {
        log_line("bpsh", "%s", line);
        return;
    }
    rest += 2;
    if (rest[0] == 'L' && sscanf(rest, "L %63s %n", plugin, &used) == 1 && used > 0) {
        if (many)
            log_line(plugin, "node %ld: %s", node, rest + used);
        else
            log_line(plugin, "%s", rest + used);
    } else if (rest[0] == 'A') {
        take_attr(r, rest + 1);
    } else if (rest[0] == 'Z') {
        r->status = rest[2] == '0' ? 0 : 1;
        snprintf(r->why, sizeof r->why, "%.199s", strlen(rest) > 4 ? rest + 4 : "");
    } else {
        log_line("bpsh", "%s", line); /* "3: Node is down" */
        snprintf(r->why, sizeof r->why, "%.199s", rest);
    }
}

static void in_child(char *spec, int in, int out)
{
    char bpsh[PATH_MAX], nodeset[PATH_MAX];
    char *argv[] = { (char *)"bpsh", (char *)"-p", spec, nodeset, NULL };

    snprintf(bpsh, sizeof bpsh, "%s/../../bin/bpsh", cm_libexec());
    snprintf(nodeset, sizeof nodeset, "%s/nodeset", cm_libexec());
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(126);
    lseek(0, 0, SEEK_SET);
    if (access(bpsh, X_OK) == 0)
        execv(bpsh, argv);
    execvp("bpsh", argv);
    dprintf(2, "bpsh: %s\n", strerror(errno));
    _exit(127);
}

int deliver(const nodelist_t *nodes, int fd, struct result *results, struct err *err)
{
    CLEANUP(cleanup_free) char *spec = nodelist_text(nodes);
    CLEANUP(cleanup_free) char *line = NULL;
    size_t room = 0;
    int out[2], status;

    if (!spec)
        return err_set(err, ENOMEM, "out of memory");
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    for (size_t i = 0; i < nodes->n; i++) {
        results[i].status = STATUS_LOST;
        snprintf(results[i].why, sizeof results[i].why, "it was lost in mid-set-up");
    }
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        in_child(spec, fd, out[1]);
    close(out[1]);
    FILE *f = fdopen(out[0], "r");
    while (f && getline(&line, &room, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        take_line(results, nodes->n, line, nodes->n > 1);
    }
    if (f)
        fclose(f);
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return err_set(err, errno, "run bpsh: %s", strerror(errno));
    return 0;
}
