/* rules.c - what may be set on a node, and who may start work there; no I/O
 * but the asker's groups, which are read from /proc when they decide. */
#include "services/nodemgr/nodes.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int state_check(const char *state, struct err *err)
{
    if (strlen(state) > STATE_LEN)
        return err_set(err, ENOSPC, "%s (a state has at most %d characters)",
                       err_name(ENOSPC), STATE_LEN);
    if (!isalpha((unsigned char)*state))
        return err_set(err, EINVAL, "%s (a state begins with a letter)", err_name(EINVAL));
    for (const char *p = state; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '_')
            return err_set(err, EINVAL, "%s (a state is letters, digits and \"_\")",
                           err_name(EINVAL));
    /* What a node list could not name must not be a state. */
    if (strcmp(state, "all") == 0 || strcmp(state, "master") == 0 ||
        strncmp(state, "not", 3) == 0 || (*state == 'n' && isdigit((unsigned char)state[1])))
        return err_set(err, EINVAL, "%s (\"%s\" means something else in a node list)",
                       err_name(EINVAL), state);
    return 0;
}

/* ---- standing ---- */

int standing_copy(struct standing *to, const struct standing *from)
{
    *to = *from;
    to->attr = NULL;
    if (from->nattr == 0)
        return 0;
    to->attr = malloc(from->nattr * sizeof *to->attr);
    if (!to->attr)
        return -1;
    memcpy(to->attr, from->attr, from->nattr * sizeof *to->attr);
    return 0;
}

void standing_clear(struct standing *s)
{
    free(s->attr);
    *s = (struct standing){ .state = "down" };
}

const struct attr *standing_attr_get(const struct standing *s, const char *name)
{
    for (size_t i = 0; i < s->nattr; i++)
        if (strcmp(s->attr[i].name, name) == 0)
            return &s->attr[i];
    return NULL;
}

static int attr_delete(struct standing *s, struct attr *a, const char *name, struct err *err)
{
    if (!a)
        return err_set(err, ENODATA, "%s (no attribute %.*s)", err_name(ENODATA),
                       ATTR_NAME_LEN, name);
    size_t behind = s->nattr - (size_t)(a - s->attr) - 1;
    memmove(a, a + 1, behind * sizeof *a);
    s->nattr--;
    return 0;
}

int standing_attr(struct standing *s, const char *name, const void *value, size_t len,
                  struct err *err)
{
    struct attr *a = (struct attr *)standing_attr_get(s, name);

    if (strlen(name) > ATTR_NAME_LEN)
        return err_set(err, ENOSPC, "%s (an attribute's name has at most %d characters)",
                       err_name(ENOSPC), ATTR_NAME_LEN);
    if (!*name || strcmp(name, "state") == 0 || strcmp(name, "addr") == 0)
        return err_set(err, EINVAL, "%s (\"%s\" is not for setting)", err_name(EINVAL), name);
    for (const char *p = name; *p; p++)
        if (!isgraph((unsigned char)*p) || *p == '/')
            return err_set(err, EINVAL, "%s (an attribute's name is plain characters)",
                           err_name(EINVAL));
    if (!value)
        return attr_delete(s, a, name, err);
    if (len > ATTR_VALUE_LEN)
        return err_set(err, ENOSPC, "%s (an attribute's value has at most %d bytes)",
                       err_name(ENOSPC), ATTR_VALUE_LEN);
    if (!a) {
        if (s->nattr == ATTR_MAX)
            return err_set(err, ENOSPC, "%s (a node has at most %d attributes)",
                           err_name(ENOSPC), ATTR_MAX);
        struct attr *more = realloc(s->attr, (s->nattr + 1) * sizeof *more);
        if (!more)
            return err_set(err, ENOMEM, "no memory for an attribute");
        s->attr = more;
        a = &more[s->nattr++];
        *a = (struct attr){ 0 };
        snprintf(a->name, sizeof a->name, "%s", name);
    }
    memcpy(a->value, value, len);
    a->len = len;
    return 0;
}

/* ---- who may ---- */

void mode_text(unsigned mode, char out[MODE_TEXT])
{
    memcpy(out, "----------", MODE_TEXT);
    if (mode & 0100)
        out[3] = 'x';
    if (mode & 0010)
        out[6] = 'x';
    if (mode & 0001)
        out[9] = 'x';
}

void person_free(struct person *p)
{
    free(p->groups);
    p->groups = NULL;
}

/* The supplementary groups of a process that asks us: it waits, so it lives. */
static void read_groups(struct person *p)
{
    char path[64], *line = NULL;
    size_t room = 0;

    p->groups_known = true;
    if (p->pid <= 0)
        return;
    snprintf(path, sizeof path, "/proc/%lld/status", (long long)p->pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    while (getline(&line, &room, f) > 0) {
        if (strncmp(line, "Groups:", 7) != 0)
            continue;
        char *s = line + 7, *end;
        for (;;) {
            unsigned long g = strtoul(s, &end, 10);
            gid_t *more = end == s ? NULL : realloc(p->groups, (p->ngroups + 1) * sizeof *more);
            if (!more)
                break;
            p->groups = more;
            p->groups[p->ngroups++] = (gid_t)g;
            s = end;
        }
        break;
    }
    free(line);
    fclose(f);
}

bool person_in_group(struct person *p, gid_t gid)
{
    if (p->gid == (int64_t)gid)
        return true;
    if (!p->groups_known)
        read_groups(p);
    for (size_t i = 0; i < p->ngroups; i++)
        if (p->groups[i] == gid)
            return true;
    return false;
}

static bool may_execute(const struct standing *s, struct person *p)
{
    if (p->uid == 0)
        return s->mode & 0111;
    if (p->uid == (int64_t)s->uid)
        return s->mode & 0100;
    if ((s->mode & 0010) == ((s->mode & 0001) ? 0010u : 0u))
        return s->mode & 0001; /* group and others alike: no need to know */
    return person_in_group(p, s->gid) ? s->mode & 0010 : s->mode & 0001;
}

int node_may_start(const struct node *n, struct person *p, int64_t now, struct err *err)
{
    const struct standing *s = n->standing;
    char mode[MODE_TEXT], who[32], owner[32];

    if (node_down(n))
        return err_set(err, BE_NODEDOWN, "%s (%s)", err_name(BE_NODEDOWN), n->down.why);
    if (n->machine->late)
        return err_set(err, BE_NODEDOWN, "Node is late: no word for %lld s",
                       (long long)(now - n->machine->heard_at + 500) / 1000);
    if (p->uid < 0)
        return err_set(err, EACCES, "only people on the master start work on nodes");
    if (may_execute(s, p))
        return 0;
    mode_text(s->mode, mode);
    snprintf(who, sizeof who, p->uid ? "user %lld" : "root", (long long)p->uid);
    snprintf(owner, sizeof owner, s->uid ? "%u" : "root", s->uid);
    return err_set(err, EACCES, "no execute permission for %s: mode %s owner %s; ask its owner "
                   "or root: bpctl -S %d -m 111", who, mode, owner, n->number);
}
