/* control.c - node.N.control: what the master's people do to a node
 *
 * An answer goes out before the deed: who asked should hear of it from us, not
 * from our silence.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/agent/agent.h"
#include "node/agent/files.h"
#include "node/agent/place.h"

#define LINGER_MS 100 /* for the answer to leave the machine before it ends */

struct deed {
    agent_t *a;
    char how[16];
};

static void do_end(void *arg)
{
    struct deed *d = arg;

    space_end(d->a->space, d->how);
    free(d);
}

/* A halt makes the master give the space up, so an "end" can come on its heels:
 * it must not turn the halt into a fresh start. */
static int end_soon(agent_t *a, const char *how, struct err *err)
{
    if (a->leaving && !strcmp(how, "end"))
        return 0;
    struct deed *d = malloc(sizeof *d);
    if (!d)
        return err_set(err, ENOMEM, "out of memory");
    a->leaving = true;
    d->a = a;
    snprintf(d->how, sizeof d->how, "%s", how);
    svc_log("info", "the master says: %s", how);
    loop_timer(a->loop, LINGER_MS, false, do_end, d);
    return 0;
}

/* Later launches run in DIR; "/" is the node's root again. Kept for the next
 * agent of this space. */
static int set_chroot(agent_t *a, const char *dir, struct err *err)
{
    if (!dir || *dir != '/')
        return err_set(err, EINVAL, "chroot: want an absolute path");
    char *path = strdup(dir);
    if (!path)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/';)
        path[--n] = 0;
    bool root = strcmp(path, "/") == 0;
    CLEANUP(cleanup_close) int fd = -1;
    if (!root && place_check(path, err) < 0)
        goto bad;
    fd = place_open(a->root_fd, path, O_PATH | O_DIRECTORY, 0);
    if (fd < 0) {
        err_set(err, errno, "chroot %s: %s on the node", path, strerror(errno));
        goto bad;
    }
    if (files_note_write(a->files, "chroot", path, err) < 0)
        goto bad;
    free(a->chroot);
    a->chroot = root ? NULL : path;
    if (root)
        free(path);
    return 0;
bad:
    free(path);
    return -1;
}

/* node.N.control: {action, arg?} -> nil */
int on_control(void *self, struct svc_req *req, struct err *err)
{
    agent_t *a = self;
    CLEANUP(cleanup_free) char *action = NULL, *arg = mp_opt_dup(req->body, "arg");

    if (mp_get_dup(req->body, "action", &action, err) < 0)
        return -1;
    if (!strcmp(action, "reconnect"))
        return way_change(a, arg ? arg : "", req->token, err);
    mp_nil(req->reply);
    if (!strcmp(action, "reboot") || !strcmp(action, "halt") || !strcmp(action, "pwroff") ||
        !strcmp(action, "end"))
        return end_soon(a, action, err);
    if (!strcmp(action, "chroot"))
        return set_chroot(a, arg, err);
    return err_set(err, EINVAL, "%s: no such action; there are reboot, halt, pwroff, end, "
                   "chroot, reconnect", action);
}
