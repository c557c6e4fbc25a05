/* modules.c - kmod: kernel modules with what they depend on, from the master
 *
 * Which files, and in which order, modprobe tells. Packed ones are unpacked
 * here: a node's kernel may not be able to.
 */
#include "clients/node_up/node_up.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Runs argv; what it prints is in the file that is returned (-1: *err). */
static int output_of(char *const *argv, int *status, struct err *err)
{
    posix_spawn_file_actions_t fa;
    pid_t pid;
    int fd = memfd_create(argv[0], MFD_CLOEXEC);

    if (fd < 0)
        return err_set(err, errno, "memory for %s: %s", argv[0], strerror(errno));
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, fd, 1);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    int rc = posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    if (rc != 0 || waitpid(pid, status, 0) < 0) {
        close(fd);
        return err_set(err, rc ? rc : errno, "%s: %s", argv[0], strerror(rc ? rc : errno));
    }
    lseek(fd, 0, SEEK_SET);
    return fd;
}

/* The module's file, unpacked. */
static int open_module(char *path, struct err *err)
{
    static const struct {
        const char *suffix;
        char *argv[4];
    } packers[] = {
        { ".xz", { (char *)"xz", (char *)"-dc", NULL, NULL } },
        { ".zst", { (char *)"zstd", (char *)"-qdc", NULL, NULL } },
        { ".gz", { (char *)"gzip", (char *)"-dc", NULL, NULL } },
    };
    size_t n = strlen(path);

    for (size_t i = 0; i < sizeof packers / sizeof packers[0]; i++) {
        size_t k = strlen(packers[i].suffix);
        char *argv[] = { packers[i].argv[0], packers[i].argv[1], path, NULL };
        int status;
        if (n <= k || strcmp(path + n - k, packers[i].suffix) != 0)
            continue;
        int fd = output_of(argv, &status, err);
        if (fd >= 0 && status != 0) {
            close(fd);
            return err_set(err, EIO, "%s cannot unpack %s", argv[0], path);
        }
        return fd;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? fd : err_set(err, errno, "%s: %s", path, strerror(errno));
}

static int send_module(struct build *b, char *path, const char *args, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    char name[128];
    struct stat st;
    const char *slash = strrchr(path, '/');

    mp_init(&m);
    snprintf(name, sizeof name, "%s", slash ? slash + 1 : path);
    name[strcspn(name, ".")] = '\0';
    CLEANUP(cleanup_close) int fd = open_module(path, err);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    mp_array(&m, 4);
    mp_str(&m, "module");
    mp_str(&m, name);
    mp_str(&m, args);
    mp_int(&m, st.st_size);
    log_line(b->plugin, "%s", path);
    return stream_put(b->out, &m, err) < 0 ? -1
               : stream_bytes(b->out, fd, (uint64_t)st.st_size, path, err);
}

/* Lines "insmod PATH [ARGUMENTS]" and "builtin NAME". */
static int send_chain(struct build *b, FILE *f, struct err *err)
{
    CLEANUP(cleanup_free) char *line = NULL;
    size_t room = 0;

    while (getline(&line, &room, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "insmod ", 7) != 0)
            continue;
        char *path = line + 7, *args = strchr(path, ' ');
        if (args)
            *args++ = '\0';
        if (send_module(b, path, args ? args + strspn(args, " ") : "", err) < 0)
            return -1;
    }
    return 0;
}

static int one(struct build *b, const char *root, const char *kernel, const char *name,
               bool missing_ok, struct err *err)
{
    char *argv[] = { (char *)"modprobe", (char *)"-d", (char *)root, (char *)"-S", (char *)kernel,
                     (char *)"--show-depends", (char *)name, NULL };
    int status;
    int fd = output_of(argv, &status, err);

    if (fd < 0)
        return -1;
    if (status != 0) {
        close(fd);
        if (!missing_ok)
            return err_set(err, ENOENT, "no module %s for kernel %s on the master (-f leaves out "
                           "what is missing)", name, kernel);
        log_line(b->plugin, "no module %s for kernel %s: left out", name, kernel);
        return 0;
    }
    FILE *f = fdopen(fd, "r");
    if (!f) {
        close(fd);
        return err_set(err, ENOMEM, "out of memory");
    }
    int rc = send_chain(b, f, err);
    fclose(f);
    return rc;
}

int plugin_kmod(struct build *b, int argc, char **argv, struct err *err)
{
    const char *kernel = b->kernel, *root = "/";
    bool missing_ok = false;
    int i = 1;

    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "-f") == 0)
            missing_ok = true;
        else if (strcmp(argv[i], "-r") == 0 && i + 1 < argc)
            kernel = argv[++i];
        else if (strcmp(argv[i], "-d") == 0 && i + 1 < argc)
            root = argv[++i];
        else
            return err_set(err, EINVAL, "%s: want [-d ROOT] [-r KERNEL] [-f] MODULE...", argv[i]);
    }
    if (strcmp(kernel, b->kernel) != 0) {
        log_line(b->plugin, "the node's kernel is %s, not %s: nothing is loaded", b->kernel, kernel);
        return 0;
    }
    for (; i < argc; i++)
        if (one(b, root, kernel, argv[i], missing_ok, err) < 0)
            return -1;
    return 0;
}
