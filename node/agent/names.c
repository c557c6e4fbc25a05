/* names.c - names on the node: libnss_bproc is put where programs look for it
 *
 * glibc opens it by name from one of its own folders, so nothing in a program
 * says that it is needed. It comes from the agent's own files: on a virtual
 * node the master's, on a real one the boot image's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bus/rundir.h"
#include "node/agent/agent.h"
#include "node/agent/place.h"

#define FOLDER "/usr/lib"
#define NAME "libnss_bproc.so.2"

static int source_open(void)
{
    char path[PATH_MAX];

    /* PREFIX/libexec/clustermatic -> PREFIX/lib */
    snprintf(path, sizeof path, "%.4000s/../../lib/" NAME, cm_libexec());
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int copy(int from, int folder, off_t size, struct err *err)
{
    unlinkat(folder, NAME ".new", 0);
    CLEANUP(cleanup_close) int to = openat(folder, NAME ".new",
                                           O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                                           0644);
    if (to < 0)
        return err_set(err, errno, FOLDER "/" NAME ": %s", strerror(errno));
    for (off_t done = 0; done < size;) {
        ssize_t n = sendfile(to, from, NULL, (size_t)(size - done));
        if (n <= 0)
            return err_set(err, n < 0 ? errno : EIO, FOLDER "/" NAME ": %s",
                           n < 0 ? strerror(errno) : "it is shorter than it was");
        done += n;
    }
    if (fchmod(to, 0644) < 0 || renameat(folder, NAME ".new", folder, NAME) < 0)
        return err_set(err, errno, FOLDER "/" NAME ": %s", strerror(errno));
    return 0;
}

int names_place(agent_t *a, struct err *err)
{
    CLEANUP(cleanup_close) int from = source_open();
    struct stat st, have, here;

    if (from < 0)
        return 0; /* an agent alone: numbers do as well */
    CLEANUP(cleanup_close) int path = place_folder(a->root_fd, FOLDER, NULL, err);
    CLEANUP(cleanup_close) int folder =
        path < 0 ? -1 : openat(path, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || fstat(from, &st) < 0)
        return path < 0 ? -1 : err_set(err, errno, FOLDER ": %s", strerror(errno));
    /* The very file (the root is our own), or one of an earlier agent. */
    if (fstatat(folder, NAME, &have, AT_SYMLINK_NOFOLLOW) == 0 &&
        ((have.st_dev == st.st_dev && have.st_ino == st.st_ino) ||
         (have.st_size == st.st_size && have.st_uid == 0 &&
          have.st_mtim.tv_sec >= st.st_mtim.tv_sec)))
        return 0;
    if (stat(FOLDER, &here) == 0 && fstat(folder, &have) == 0 && here.st_dev == have.st_dev &&
        here.st_ino == have.st_ino)
        return 0; /* a machine's own system, with a library of its own or none */
    return copy(from, folder, st.st_size, err);
}
