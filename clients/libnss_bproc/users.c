/* users.c - the user that a process runs as, where there is no /etc/passwd
 *
 * A launch brings its environment: HOME, SHELL, and USER or LOGNAME. From those
 * and our own ids comes one entry of passwd, and one of group. Nobody else is
 * known, and nobody is asked.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "clients/libnss_bproc/nss.h"

enum nss_status _nss_bproc_getpwuid_r(uid_t uid, struct passwd *pw, char *buf, size_t len,
                                      int *err);
enum nss_status _nss_bproc_getpwnam_r(const char *name, struct passwd *pw, char *buf, size_t len,
                                      int *err);
enum nss_status _nss_bproc_getgrgid_r(gid_t gid, struct group *gr, char *buf, size_t len,
                                      int *err);
enum nss_status _nss_bproc_getgrnam_r(const char *name, struct group *gr, char *buf, size_t len,
                                      int *err);

static const char *user(void)
{
    const char *name = getenv("USER");

    if (!name || !*name)
        name = getenv("LOGNAME");
    return name && *name && !strpbrk(name, ":\n") ? name : NULL;
}

static enum nss_status none(int *err)
{
    *err = ENOENT;
    return NSS_STATUS_NOTFOUND;
}

static enum nss_status too_small(int *err)
{
    *err = ERANGE;
    return NSS_STATUS_TRYAGAIN;
}

static char *copy(const char *text, char **buf, size_t *room)
{
    char *to = nss_take(buf, room, strlen(text) + 1);

    if (to)
        memcpy(to, text, strlen(text) + 1);
    return to;
}

static enum nss_status ourselves(struct passwd *pw, char *buf, size_t len, int *err)
{
    const char *name = user(), *home = getenv("HOME"), *shell = getenv("SHELL");

    if (!name || !home)
        return none(err);
    *pw = (struct passwd){ .pw_name = copy(name, &buf, &len),
                           .pw_passwd = copy("x", &buf, &len),
                           .pw_gecos = copy("", &buf, &len),
                           .pw_dir = copy(home, &buf, &len),
                           .pw_shell = copy(shell ? shell : "/bin/sh", &buf, &len),
                           .pw_uid = getuid(),
                           .pw_gid = getgid() };
    return pw->pw_name && pw->pw_passwd && pw->pw_gecos && pw->pw_dir && pw->pw_shell
               ? NSS_STATUS_SUCCESS
               : too_small(err);
}

enum nss_status _nss_bproc_getpwuid_r(uid_t uid, struct passwd *pw, char *buf, size_t len,
                                      int *err)
{
    return uid == getuid() ? ourselves(pw, buf, len, err) : none(err);
}

enum nss_status _nss_bproc_getpwnam_r(const char *name, struct passwd *pw, char *buf, size_t len,
                                      int *err)
{
    const char *us = user();

    return us && strcmp(name, us) == 0 ? ourselves(pw, buf, len, err) : none(err);
}

/* The group that is called as its user is: all that can be known of it here. */
static enum nss_status our_group(struct group *gr, char *buf, size_t len, int *err)
{
    const char *name = user();

    if (!name)
        return none(err);
    *gr = (struct group){ .gr_name = copy(name, &buf, &len),
                          .gr_passwd = copy("x", &buf, &len),
                          .gr_gid = getgid(),
                          .gr_mem = nss_take(&buf, &len, sizeof *gr->gr_mem) };
    if (!gr->gr_name || !gr->gr_passwd || !gr->gr_mem)
        return too_small(err);
    gr->gr_mem[0] = NULL;
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_bproc_getgrgid_r(gid_t gid, struct group *gr, char *buf, size_t len, int *err)
{
    return gid == getgid() ? our_group(gr, buf, len, err) : none(err);
}

enum nss_status _nss_bproc_getgrnam_r(const char *name, struct group *gr, char *buf, size_t len,
                                      int *err)
{
    const char *us = user();

    return us && strcmp(name, us) == 0 ? our_group(gr, buf, len, err) : none(err);
}
