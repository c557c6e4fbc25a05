/* asuser.c - file access as somebody else, for the calling thread only
 *
 * Raw system calls: libc's wrappers would change every thread of the process.
 * With the file system uid goes the power to pass by permissions.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "services/procspace/procspace.h"

static int parse_groups(const char *p, struct identity *id)
{
    char *end;
    int room = 0;

    for (;;) {
        unsigned long g = strtoul(p, &end, 10);
        if (end == p)
            return 0;
        if (id->ngroups == room) {
            room = room ? room * 2 : 16;
            gid_t *bigger = realloc(id->groups, (size_t)room * sizeof *bigger);
            if (!bigger)
                return -1;
            id->groups = bigger;
        }
        id->groups[id->ngroups++] = (gid_t)g;
        p = end;
    }
}

int identity_of(const struct wire *w, struct identity *id, struct err *err)
{
    if (w->node != -1 || w->uid < 0 || w->pid <= 0) {
        memset(id, 0, sizeof *id);
        return err_set(err, EPERM, "%s: only programs on the master may", w->topic);
    }
    return identity_of_pid((pid_t)w->pid, w->uid, w->gid, id, err);
}

int identity_of_pid(pid_t pid, int64_t want, int64_t gid, struct identity *id, struct err *err)
{
    char path[64], line[4096 * 4];
    unsigned long uid = (unsigned long)-1;
    int rc = 0;

    memset(id, 0, sizeof *id);
    id->uid = (uid_t)want;
    id->gid = (gid_t)gid;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set(err, ESRCH, "the asker (pid %d) has gone", (int)pid);
    while (rc == 0 && fgets(line, sizeof line, f)) {
        if (strncmp(line, "Uid:", 4) == 0 && sscanf(line + 4, "%*u %lu", &uid) != 1)
            break;
        if (strncmp(line, "Groups:", 7) == 0)
            rc = parse_groups(line + 7, id);
    }
    fclose(f);
    if (rc < 0) {
        identity_free(id);
        return err_set(err, ENOMEM, "out of memory");
    }
    if (uid != id->uid) {
        identity_free(id);
        return err_set(err, EPERM, "the asker (pid %d) has changed its user", (int)pid);
    }
    return 0;
}

void identity_free(struct identity *id)
{
    free(id->groups);
    id->groups = NULL;
    id->ngroups = 0;
}

int as_user(const struct identity *id, struct err *err)
{
    if (geteuid() != 0)
        return id->uid == geteuid()
                   ? 0
                   : err_set(err, EPERM, "procspace does not run as root: only user %u's "
                                         "programs can be started", geteuid());
    if (syscall(SYS_setgroups, (size_t)id->ngroups, id->groups) < 0)
        return err_set(err, errno, "setgroups: %s", strerror(errno));
    syscall(SYS_setfsgid, id->gid);
    syscall(SYS_setfsuid, id->uid);
    return 0;
}

void as_self(void)
{
    if (geteuid() != 0)
        return;
    syscall(SYS_setfsuid, 0);
    syscall(SYS_setfsgid, getegid());
    syscall(SYS_setgroups, (size_t)0, NULL);
}

/* What an agent says of a process of its own. */
static int who_there(const msgpack_object *o, struct who *a, struct err *err)
{
    const msgpack_object_array *groups;
    int64_t npid, pid, uid, gid, g;

    if (!o)
        return err_set(err, EPERM, "only programs on the master may");
    if (mp_get_int(o, "npid", 2, INT32_MAX, &npid, err) < 0 ||
        mp_get_int(o, "pid", 0, INT32_MAX, &pid, err) < 0 ||
        mp_get_int(o, "uid", 0, UINT32_MAX - 1, &uid, err) < 0 ||
        mp_get_int(o, "gid", 0, UINT32_MAX - 1, &gid, err) < 0 ||
        mp_get_array(o, "groups", &groups, err) < 0)
        return -1;
    a->who.groups = calloc(groups->size + 1, sizeof *a->who.groups);
    if (!a->who.groups)
        return err_set(err, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < groups->size; i++)
        if (mp_as_int(&groups->ptr[i], &g) && g >= 0 && g < UINT32_MAX)
            a->who.groups[a->who.ngroups++] = (gid_t)g;
    a->npid = (pid_t)npid;
    a->pid = (pid_t)pid;
    a->who.uid = (uid_t)uid;
    a->who.gid = (gid_t)gid;
    return 0;
}

int who_of(const struct svc_req *req, struct who *a, struct err *err)
{
    memset(a, 0, sizeof *a);
    a->node = (int)req->w->node;
    if (req->w->node >= 0)
        return who_there(mp_get(req->body, "mover"), a, err);
    a->pid = (pid_t)req->w->pid;
    return identity_of(req->w, &a->who, err);
}
