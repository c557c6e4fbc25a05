/* users.c - names of user and group ids, each asked for once */
#include "clients/common/users.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/common/opt.h"

struct name {
    int64_t id;
    char *text;
};

struct names {
    struct name *v;
    size_t n, alloc;
};

static const char *names_find(const struct names *t, int64_t id)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].id == id)
            return t->v[i].text;
    return NULL;
}

/* Remember it; without memory the answer is only "?" and not remembered. */
static const char *names_add(struct names *t, int64_t id, const char *known)
{
    char number[24];
    char *text;

    snprintf(number, sizeof(number), "#%lld", (long long)id);
    text = strdup(known ? known : number);
    if (!text)
        return "?";
    if (t->n == t->alloc) {
        size_t alloc = t->alloc ? 2 * t->alloc : 16;
        struct name *v = reallocarray(t->v, alloc, sizeof(*v));

        if (!v) {
            free(text);
            return "?";
        }
        t->v = v;
        t->alloc = alloc;
    }
    t->v[t->n].id = id;
    t->v[t->n].text = text;
    return t->v[t->n++].text;
}

const char *users_name(int64_t uid)
{
    static struct names seen;
    const char *text = names_find(&seen, uid);
    struct passwd *pw = NULL;

    if (text)
        return text;
    if (uid >= 0 && uid < (int64_t)(uid_t)-1)
        pw = getpwuid((uid_t)uid);
    return names_add(&seen, uid, pw ? pw->pw_name : NULL);
}

const char *users_group(int64_t gid)
{
    static struct names seen;
    const char *text = names_find(&seen, gid);
    struct group *gr = NULL;

    if (text)
        return text;
    if (gid >= 0 && gid < (int64_t)(gid_t)-1)
        gr = getgrgid((gid_t)gid);
    return names_add(&seen, gid, gr ? gr->gr_name : NULL);
}

bool users_parse(const char *text, int64_t *uid)
{
    struct passwd *pw = getpwnam(text);

    if (pw) {
        *uid = pw->pw_uid;
        return true;
    }
    return opt_number(text, 10, 0, (int64_t)(uid_t)-1 - 1, uid);
}

bool users_parse_group(const char *text, int64_t *gid)
{
    struct group *gr = getgrnam(text);

    if (gr) {
        *gid = gr->gr_gid;
        return true;
    }
    return opt_number(text, 10, 0, (int64_t)(gid_t)-1 - 1, gid);
}
