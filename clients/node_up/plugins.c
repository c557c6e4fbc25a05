/* plugins.c - the table of plugins, and the small ones */
#include "clients/node_up/node_up.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bus/nearest.h"

#define ASK_MS 10000
#define NFS_S 600 /* how long a file server is asked again */

/* ---- ifconfig, sysctl, exec, nodeinfo ---- */

static int send_words(struct build *b, const char *kind, int n, char **words, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_array(&m, (uint32_t)n + 1);
    mp_str(&m, kind);
    for (int i = 0; i < n; i++)
        mp_str(&m, words[i]);
    return stream_put(b->out, &m, err);
}

static int plugin_ifconfig(struct build *b, int argc, char **argv, struct err *err)
{
    if (argc < 4 || (argc - 1) % 3)
        return err_set(err, EINVAL, "want INTERFACE ADDRESS MASK, once or more");
    for (int i = 1; i < argc; i += 3)
        if (send_words(b, "ifconfig", 3, argv + i, err) < 0)
            return -1;
    return 0;
}

static int plugin_sysctl(struct build *b, int argc, char **argv, struct err *err)
{
    char value[1024] = "";

    if (argc < 3)
        return err_set(err, EINVAL, "want KEY VALUE...");
    for (int i = 2; i < argc; i++)
        snprintf(value + strlen(value), sizeof value - strlen(value), "%s%s", i > 2 ? " " : "",
                 argv[i]);
    if (strstr(argv[1], "..") || argv[1][0] == '/')
        return err_set(err, EINVAL, "%s is no key: want one as net.ipv4.ip_forward", argv[1]);
    char *words[] = { argv[1], value };
    return send_words(b, "sysctl", 2, words, err);
}

static int plugin_exec(struct build *b, int argc, char **argv, struct err *err)
{
    if (argc < 2)
        return err_set(err, EINVAL, "want PROGRAM [ARGUMENT...]");
    return send_words(b, "exec", argc - 1, argv + 1, err);
}

static int plugin_nodeinfo(struct build *b, int argc, char **argv, struct err *err)
{
    (void)argv;
    if (argc > 1)
        return err_set(err, EINVAL, "no arguments are wanted");
    return send_words(b, "info", 0, NULL, err);
}

/* ---- setupfs ---- */

static const struct {
    const char *word;
    unsigned long set, clear;
} flag_words[] = {
    { "ro", MS_RDONLY, 0 },       { "rw", 0, MS_RDONLY },
    { "nosuid", MS_NOSUID, 0 },   { "suid", 0, MS_NOSUID },
    { "nodev", MS_NODEV, 0 },     { "dev", 0, MS_NODEV },
    { "noexec", MS_NOEXEC, 0 },   { "exec", 0, MS_NOEXEC },
    { "sync", MS_SYNCHRONOUS, 0 }, { "async", 0, MS_SYNCHRONOUS },
    { "noatime", MS_NOATIME, 0 }, { "atime", 0, MS_NOATIME },
    { "nodiratime", MS_NODIRATIME, 0 }, { "diratime", 0, MS_NODIRATIME },
    { "defaults", 0, 0 },         { "auto", 0, 0 },
    { "noauto", 0, 0 },           { "user", 0, 0 },
};

static void take_options(char *options, unsigned long *flags, char *data, size_t room)
{
    char *save = NULL;

    for (char *w = strtok_r(options, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        size_t i = 0, n = sizeof flag_words / sizeof flag_words[0];
        while (i < n && strcmp(w, flag_words[i].word) != 0)
            i++;
        if (i < n)
            *flags = (*flags | flag_words[i].set) & ~flag_words[i].clear;
        else
            snprintf(data + strlen(data), room - strlen(data), "%s%s", *data ? "," : "", w);
    }
}

static int master_address(struct build *b, char *out, size_t room, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;

    msgpack_unpacked_init(&reply);
    mp_init(&m);
    mp_map(&m, 0);
    if (gate_call(b->gate, "nodemgr.config", &m, ASK_MS, &reply, err) < 0)
        return -1;
    CLEANUP(cleanup_free) char *addr = mp_opt_dup(&reply.data, "address");
    if (!addr || !*addr)
        return err_set(err, ENOENT, "MASTER: the master has no address on the nodes' network");
    snprintf(out, room, "%s", addr);
    return 0;
}

/* The kernel's NFS client wants the server's address among its options. */
static int nfs_options(struct build *b, char *dev, size_t room, char *data, size_t data_room,
                       struct err *err)
{
    char host[256], rest[1024];
    const char *colon = strchr(dev, ':');

    if (!colon || (size_t)(colon - dev) >= sizeof host)
        return err_set(err, EINVAL, "%s: want SERVER:/PATH, or MASTER:/PATH", dev);
    snprintf(host, sizeof host, "%.*s", (int)(colon - dev), dev);
    snprintf(rest, sizeof rest, "%s", colon);
    if (strcmp(host, "MASTER") == 0 && master_address(b, host, sizeof host, err) < 0)
        return -1;
    snprintf(dev, room, "%s%s", host, rest);
    if (strncmp(data, "addr=", 5) != 0 && !strstr(data, ",addr=")) /* clientaddr= is another */
        snprintf(data + strlen(data), data_room - strlen(data), "%saddr=%s", *data ? "," : "",
                 host);
    return 0;
}

static int send_mount(struct build *b, char **word, int64_t patience, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    unsigned long flags = 0;
    char dev[1500], data[2000] = "";
    struct stat st;

    mp_init(&m);
    snprintf(dev, sizeof dev, "%s", word[0]);
    take_options(word[3], &flags, data, sizeof data);
    if (strncmp(word[2], "nfs", 3) == 0 && nfs_options(b, dev, sizeof dev, data, sizeof data, err) < 0)
        return -1;
    if (strcmp(word[1], "/") == 0)
        return err_set(err, EINVAL, "a node's / is its memory: nothing can be mounted there");
    bool block = dev[0] == '/' && stat(dev, &st) == 0 && S_ISBLK(st.st_mode);
    mp_array(&m, 8);
    mp_str(&m, "mount");
    mp_str(&m, dev);
    mp_str(&m, word[1]);
    mp_str(&m, word[2]);
    mp_int(&m, (int64_t)flags);
    mp_str(&m, data);
    mp_int(&m, patience);
    mp_int(&m, block ? (int64_t)st.st_rdev : 0);
    return stream_put(b->out, &m, err);
}

static int read_fstab(struct build *b, const char *path, int64_t patience, struct err *err)
{
    CLEANUP(cleanup_free) char *line = NULL;
    size_t room = 0;
    int number = 0, rc = 0;
    FILE *f = fopen(path, "re");

    if (!f)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    while (rc == 0 && getline(&line, &room, f) > 0) {
        char *word[4] = { 0 }, *save = NULL;
        int n = 0;
        number++;
        line[strcspn(line, "#\n")] = '\0';
        for (char *w = strtok_r(line, " \t", &save); w && n < 4; w = strtok_r(NULL, " \t", &save))
            word[n++] = w;
        if (n == 0)
            continue;
        if (n < 4)
            rc = err_set(err, EINVAL, "want DEVICE FOLDER TYPE OPTIONS");
        else if (word[1][0] != '/' && strcmp(word[2], "swap") != 0)
            rc = err_set(err, EINVAL, "%s: want an absolute path", word[1]);
        else
            rc = send_mount(b, word, patience, err);
        if (rc < 0)
            err_prefix(err, "%s:%d", path, number);
    }
    fclose(f);
    return rc;
}

static int plugin_setupfs(struct build *b, int argc, char **argv, struct err *err)
{
    char path[PATH_MAX];
    int64_t patience = NFS_S;

    snprintf(path, sizeof path, "%s/fstab", b->confdir);
    for (int i = 1; i < argc; i++) {
        char *end = NULL;
        if (strcmp(argv[i], "--fstab") == 0 && i + 1 < argc) {
            snprintf(path, sizeof path, "%s", argv[++i]);
        } else if (strcmp(argv[i], "--timeout") == 0 && i + 1 < argc) {
            patience = strtol(argv[++i], &end, 10);
            if (*end || patience < 0 || patience > 86400)
                return err_set(err, EINVAL, "--timeout %s: want seconds", argv[i]);
        } else if ((strcmp(argv[i], "--delay") == 0 || strcmp(argv[i], "--maxdelay") == 0 ||
                    strcmp(argv[i], "--backoff") == 0) && i + 1 < argc) {
            i++; /* of old files: the pauses are chosen by themselves */
        } else if (strcmp(argv[i], "-r") == 0) {
            return err_set(err, EINVAL, "-r: a node's / is its memory, and stays so: mount below it, "
                           "and bpctl --chroot sends programs there");
        } else {
            return err_set(err, EINVAL, "%s: want [--fstab FILE] [--timeout SECONDS]", argv[i]);
        }
    }
    char *words[] = { (char *)"/etc/mtab", (char *)"../proc/mounts" };
    return read_fstab(b, path, patience, err) < 0 ? -1 : send_words(b, "link", 2, words, err);
}

/* ---- the table ---- */

const struct plugin plugins[] = {
    { "kmod", plugin_kmod, "[-d ROOT] [-r KERNEL] [-f] MODULE...",
      "load kernel modules, and those they need" },
    { "miscfiles", plugin_miscfiles, "[-i] [-f] FILE[>NAME]...",
      "copy files, devices, links, folders; -i leave out what is missing, -f links as links" },
    { "ifconfig", plugin_ifconfig, "INTERFACE ADDRESS MASK...", "give interfaces addresses" },
    { "setupfs", plugin_setupfs, "[--fstab FILE] [--timeout SECONDS]",
      "mount what fstab says (that beside the configuration)" },
    { "vmadlib", plugin_vmadlib, "", "wait for the library list, make the links to it" },
    { "nodeinfo", plugin_nodeinfo, "", "set the node's attributes cpus, hz, mem" },
    { "sysctl", plugin_sysctl, "KEY VALUE...", "set a kernel parameter" },
    { "exec", plugin_exec, "PROGRAM [ARGUMENT...]", "run a program that is on the node" },
    { NULL, NULL, NULL, NULL },
};

/* ---- a plugin of the site: a program in the path, run here ---- */

static bool find_program(const struct plan *p, const char *name, char *out)
{
    if (name[0] == '/') {
        snprintf(out, PATH_MAX, "%s", name);
        return access(out, X_OK) == 0;
    }
    for (const char *s = p->path; s && *s && !strchr(name, '/');) {
        size_t n = strcspn(s, ":");
        snprintf(out, PATH_MAX, "%.*s/%s", (int)n, s, name);
        if (n && access(out, X_OK) == 0)
            return true;
        s += n + (s[n] == ':');
    }
    return false;
}

static int run_program(struct build *b, const char *program, char **argv, struct err *err)
{
    int status;

    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("NODES", b->nodes, 1);
        dup2(1, 2);
        execv(program, argv);
        printf("%s: %s\n", program, strerror(errno));
        fflush(stdout);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return err_set(err, errno, "run %s: %s", program, strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return err_set(err, EIO, "%s %s %d", program,
                   WIFEXITED(status) ? "ended with status" : "was killed by signal",
                   WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

static int unknown(const struct plan *p, const char *name, struct err *err)
{
    const char *names[sizeof plugins / sizeof plugins[0]];
    size_t n = 0;

    for (const struct plugin *k = plugins; k->name; k++)
        names[n++] = k->name;
    const char *near = nearest_word(name, names, n);
    if (near)
        return err_set(err, ENOENT, "no such plugin; did you mean %s?", near);
    return err_set(err, ENOENT, "no such plugin, and no program of that name in the path%s%s "
                   "(node_up -i lists those that are built in)", p->path ? " " : ": none is given",
                   p->path ? p->path : "");
}

/* ---- all of them ---- */

static int begin_section(struct build *b, const struct step *s, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;

    mp_init(&m);
    mp_array(&m, 3);
    mp_str(&m, "plugin");
    mp_str(&m, s->argv[0]);
    mp_bool(&m, s->failok);
    return stream_put(b->out, &m, err);
}

static int one(struct build *b, const struct step *s, struct err *err)
{
    char program[PATH_MAX], name[64];

    snprintf(name, sizeof name, "%s", s->argv[0]);
    size_t n = strlen(name);
    if (n > 3 && strcmp(name + n - 3, ".so") == 0)
        name[n - 3] = '\0';
    b->plugin = s->argv[0];
    for (const struct plugin *k = plugins; k->name; k++)
        if (strcmp(k->name, name) == 0)
            return begin_section(b, s, err) < 0 ? -1 : k->fn(b, s->argc, s->argv, err);
    if (find_program(b->plan, s->argv[0], program))
        return run_program(b, program, s->argv, err);
    return unknown(b->plan, s->argv[0], err);
}

int plugins_run(struct build *b, struct err *err)
{
    CLEANUP(mp_free) mp_buf end;

    mp_init(&end);
    for (size_t i = 0; i < b->plan->nstep; i++) {
        const struct step *s = &b->plan->step[i];
        off_t before = ftello(b->out);
        struct err bad = { 0 };
        if (one(b, s, &bad) == 0)
            continue;
        if (!s->failok)
            return err_set(err, bad.code, "%s: %.280s", s->argv[0], bad.text);
        log_line(s->argv[0], "%s; it may fail, going on", bad.text);
        /* Half of it must not go to the nodes. */
        if (fflush(b->out) != 0 || ftruncate(fileno(b->out), before) < 0 ||
            fseeko(b->out, before, SEEK_SET) < 0)
            return err_set(err, errno, "gather what goes to the nodes: %s", strerror(errno));
    }
    mp_array(&end, 1);
    mp_str(&end, "end");
    return stream_put(b->out, &end, err);
}
