/* main.c - bptrace: strace or gdb for a process that runs on a node
 *
 * A ghost has nothing to be traced: the debugger goes where the body is, by
 * bpsh. Of gdb only its server does, and gdb itself stays here, where the
 * program, its sources and its symbols are.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus/gate.h"
#include "bus/rundir.h"
#include "clients/common/opt.h"

#define TIMEOUT_MS 15000

static const char usage[] =
    "Usage: bptrace [-s] PID [STRACE-ARGUMENT ...]\n"
    "       bptrace -g PID [GDB-ARGUMENT ...]\n"
    "Trace a process of a node from the master: attach strace or gdb to the body\n"
    "behind the ghost PID, on its node. What follows PID is given to strace or gdb.\n"
    "\n"
    "  -s, --strace   system calls and signals (the default)\n"
    "  -g, --gdb      the debugger; on the node runs gdbserver\n"
    "  -h, --help     this text\n"
    "  -v, --version  the version\n";

static const struct option longopts[] = {
    { "strace", no_argument, NULL, 's' },
    { "gdb", no_argument, NULL, 'g' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

struct body {
    int64_t node, npid; /* where it is, and under which pid */
};

/* Which process is behind that ghost? */
static int find_body(int64_t pid, struct body *out, struct err *err)
{
    CLEANUP(mp_free) mp_buf m;
    CLEANUP(msgpack_unpacked_destroy) msgpack_unpacked reply;
    CLEANUP(gate_close) gate_t *g = gate_open("bptrace", err);

    mp_init(&m);
    msgpack_unpacked_init(&reply);
    mp_map(&m, 0);
    if (!g || gate_call(g, "procspace.list", &m, TIMEOUT_MS, &reply, err) < 0)
        return -1;
    uint32_t n = reply.data.type == MSGPACK_OBJECT_ARRAY ? reply.data.via.array.size : 0;
    for (int there = 0; there < 2; there++) /* else the pid on its node, as bpps has it */
        for (uint32_t i = 0; i < n; i++) {
            const msgpack_object *row = &reply.data.via.array.ptr[i];

            if (mp_opt_int(row, there ? "npid" : "pid", 0) != pid)
                continue;
            out->node = mp_opt_int(row, "node", -1);
            out->npid = mp_opt_int(row, "npid", pid);
            if (out->node >= 0)
                return 0;
        }
    return err_set(err, ESRCH, "process %" PRId64 " is not on any node: bpstat -p lists those "
                   "that are", pid);
}

/* Is it on the PATH? Else a failure far away would be hard to read. */
static bool there(const char *name)
{
    const char *path = getenv("PATH");
    char file[PATH_MAX];

    for (path = path ? path : "/usr/bin:/bin"; *path;) {
        size_t n = strcspn(path, ":");

        snprintf(file, sizeof file, "%.*s/%s", (int)n, path, name);
        if (access(file, X_OK) == 0)
            return true;
        path += n + (path[n] == ':');
    }
    fprintf(stderr, "bptrace: %s is not installed: apt-get install %s\n", name, name);
    return false;
}

/* PREFIX/bin/bpsh, as a word of a shell command if quoted. */
static void bpsh_path(char *out, size_t size, bool quoted)
{
    static const char tail[] = "/../../bin/bpsh";
    size_t n = 0;

    if (quoted)
        out[n++] = '\'';
    for (const char *s = cm_libexec(); *s && n + sizeof tail + 8 < size; s++) {
        if (quoted && *s == '\'')
            n += (size_t)snprintf(out + n, size - n, "'\\'");
        out[n++] = *s;
    }
    snprintf(out + n, size - n, "%s%s", tail, quoted ? "'" : "");
}

static int run(char **argv)
{
    execvp(argv[0], argv);
    fprintf(stderr, "bptrace: %s: %s\n", argv[0], strerror(errno));
    return EXIT_FAILURE;
}

static int run_strace(const struct body *b, char **args, size_t n)
{
    char bpsh[PATH_MAX], node[16], pid[16];
    char *head[] = { bpsh, (char[]){ "-n" }, node, (char[]){ "strace" }, (char[]){ "-p" }, pid };
    size_t heads = sizeof head / sizeof *head;
    CLEANUP(cleanup_free) char **argv = calloc(heads + n + 1, sizeof *argv);

    if (!argv || !there("strace"))
        return EXIT_FAILURE;
    bpsh_path(bpsh, sizeof bpsh, false);
    snprintf(node, sizeof node, "%" PRId64, b->node);
    snprintf(pid, sizeof pid, "%" PRId64, b->npid);
    memcpy(argv, head, sizeof head);
    memcpy(argv + heads, args, n * sizeof *args);
    return run(argv);
}

static int run_gdb(const struct body *b, char **args, size_t n)
{
    char bpsh[PATH_MAX], remote[PATH_MAX + 128];
    char *head[] = { (char[]){ "gdb" }, (char[]){ "-q" }, (char[]){ "-iex" },
                     (char[]){ "set sysroot /" }, (char[]){ "-ex" }, remote };
    size_t heads = sizeof head / sizeof *head;
    CLEANUP(cleanup_free) char **argv = calloc(heads + n + 1, sizeof *argv);

    if (!argv || !there("gdb") || !there("gdbserver"))
        return EXIT_FAILURE;
    bpsh_path(bpsh, sizeof bpsh, true);
    snprintf(remote, sizeof remote, "target remote | %s %" PRId64 " gdbserver --once --attach - "
             "%" PRId64, bpsh, b->node, b->npid);
    memcpy(argv, head, sizeof head);
    memcpy(argv + heads, args, n * sizeof *args);
    return run(argv);
}

int main(int argc, char **argv)
{
    struct err err = { 0 };
    struct body body;
    bool gdb = false;
    int64_t pid;
    int c;

    while ((c = getopt_long(argc, argv, "+sghv", longopts, NULL)) != -1) {
        switch (c) {
        case 's': gdb = false; break;
        case 'g': gdb = true; break;
        case 'h': fputs(usage, stdout); return opt_finish("bptrace");
        case 'v': return opt_version("bptrace");
        default: fputs("Try `bptrace --help'.\n", stderr); return OPT_EXIT_USAGE;
        }
    }
    if (optind == argc) {
        fputs("bptrace: which process?\nTry `bptrace --help'.\n", stderr);
        return OPT_EXIT_USAGE;
    }
    if (!opt_number(argv[optind], 10, 1, INT32_MAX, &pid)) {
        fprintf(stderr, "bptrace: %s: not a process number\n", argv[optind]);
        return OPT_EXIT_USAGE;
    }
    if (find_body(pid, &body, &err) < 0) {
        fprintf(stderr, "bptrace: %s\n", err.text);
        return EXIT_FAILURE;
    }
    char **args = argv + optind + 1;
    size_t n = (size_t)(argc - optind - 1);
    return gdb ? run_gdb(&body, args, n) : run_strace(&body, args, n);
}
