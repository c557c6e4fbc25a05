/* bpfetch.c - fetch a boot image as a node does, to see whether and how that works */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>
#include "bus/loop.h"
#include "bus/rundir.h"
#include "node/boot/fetch.h"

#define MACS_MAX 16

static const char usage[] =
    "usage: bpfetch --server ADDRESS:PORT --mac MAC... [OPTION]...\n"
    "Fetch the boot image of a machine with this hardware address, as phase 1 does, check\n"
    "it, serve it to others meanwhile, and print its hash and where it came from.\n"
    "  -o, --output FILE  write it there\n"
    "      --alone        ask no others, and serve none\n"
    "      --limit S      give up after so many seconds (600)\n"
    "      --slow MS      pause before each chunk\n"
    "      --damage       serve others damaged chunks, to try what they do\n"
    "  -h, --help, -V, --version\n";

enum { OPT_SERVER = 256, OPT_MAC, OPT_ALONE, OPT_LIMIT, OPT_SLOW, OPT_DAMAGE };

static const struct option longopts[] = {
    { "server", required_argument, NULL, OPT_SERVER },
    { "mac", required_argument, NULL, OPT_MAC },
    { "output", required_argument, NULL, 'o' },
    { "alone", no_argument, NULL, OPT_ALONE },
    { "limit", required_argument, NULL, OPT_LIMIT },
    { "slow", required_argument, NULL, OPT_SLOW },
    { "damage", no_argument, NULL, OPT_DAMAGE },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

static void to_stderr(const char *text) { fprintf(stderr, "bpfetch: %s\n", text); }

static long number(const char *text, const char *option)
{
    char *end;
    long v = strtol(text, &end, 10);

    if (end == text || *end || v < 0 || v > 1000000) {
        fprintf(stderr, "bpfetch: %s %s: want a number\n", option, text);
        exit(2);
    }
    return v;
}

static int save(const struct boot_image *im, const char *path, struct err *err)
{
    CLEANUP(cleanup_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    off_t at = 0;

    if (fd < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    while ((uint64_t)at < im->size)
        if (sendfile(fd, im->fd, &at, (size_t)im->size - (size_t)at) <= 0)
            return err_set(err, errno, "%s: %s", path, strerror(errno));
    return 0;
}

int main(int argc, char **argv)
{
    struct boot_fetch_how how = { .say = to_stderr };
    const char *server = NULL, *output = NULL, *mac[MACS_MAX + 1] = { 0 };
    struct boot_image im;
    struct err err = { 0 };
    int c, n = 0;

    while ((c = getopt_long(argc, argv, "o:hV", longopts, NULL)) != -1) {
        switch (c) {
        case OPT_SERVER: server = optarg; break;
        case OPT_MAC:
            if (n < MACS_MAX)
                mac[n++] = optarg;
            break;
        case 'o': output = optarg; break;
        case OPT_ALONE: how.alone = true; break;
        case OPT_LIMIT: how.limit_ms = 1000 * number(optarg, "--limit"); break;
        case OPT_SLOW: how.slow_ms = number(optarg, "--slow"); break;
        case OPT_DAMAGE: how.damage = true; break;
        case 'h': fputs(usage, stdout); return 0;
        case 'V': puts("bpfetch " CM_VERSION); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (optind < argc || !server || n == 0) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int64_t begun = now_ms();
    if (boot_fetch(server, mac, &how, &im, &err) < 0 || (output && save(&im, output, &err) < 0)) {
        fprintf(stderr, "bpfetch: %s\n", err.text);
        return 1;
    }
    printf("image %s\nnode %d\ncmdline %s\nmaster %llu\npeers %llu\nms %lld\n", im.hash, im.node,
           im.cmdline, (unsigned long long)im.from_master, (unsigned long long)im.from_peers,
           (long long)(now_ms() - begun));
    return 0;
}
