/* config.c - tests of the configuration parser: refusals first, then what loads */
#include "bus/config.h"
#include "bus/loop.h"
#include "tests/unit/tap.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static char path[] = "/tmp/config-test-XXXXXX";

static void put(const void *text, size_t len)
{
    FILE *f = fopen(path, "we");

    if (!f || fwrite(text, 1, len, f) != len || fclose(f) != 0) {
        perror(path);
        exit(99);
    }
}

static struct cm_config *load(const char *text, struct strlist *warnings, struct err *err)
{
    put(text, strlen(text));
    return config_load(path, warnings, err);
}

static void refuses(const char *text, const char *part)
{
    struct err err = { 0 };
    char name[200], want[200];

    CLEANUP(config_free) struct cm_config *c = load(text, NULL, &err);
    snprintf(name, sizeof name, "refused: %s", part);
    snprintf(want, sizeof want, "%s:%s", path, part);
    if (c)
        ok(false, "%s (but it was taken)", name);
    else
        says(err.text, want, name);
}

static void warns(const char *text, const char *part)
{
    struct err err = { 0 };
    char name[200];

    CLEANUP(strlist_free) struct strlist w = { 0 };
    CLEANUP(config_free) struct cm_config *c = load(text, &w, &err);
    snprintf(name, sizeof name, "loads with a warning: %s", part);
    if (!c)
        is(err.text, NULL, name);
    else
        says(w.n == 1 ? w.v[0] : "no single warning", part, name);
}

static void refusals(void)
{
    refuses("iprange 0 # lost\n", "1: too few arguments for iprange: want iprange [NODE] FIRST");
    refuses("\n\niprange 0 198.18.1.1\n", "3: too few arguments for iprange");
    refuses("iprange 0 198.18.1.2 198.18.1.1\n", "1: iprange: 198.18.1.2 comes after");
    refuses("iprange 0 1 2 3\n", "1: too many arguments for iprange");
    refuses("ip 0\n", "1: too few arguments for ip");
    refuses("ip 0 198.18.1\n", "1: \"198.18.1\" is no address");
    refuses("ip 0 198.18.1.256\n", "1: \"198.18.1.256\" is no address");
    refuses("ip 1000001 198.18.1.1\n", "1: \"1000001\" is no node number");
    refuses("iprange 999999 198.18.1.1 198.18.1.9\n", "1: this goes beyond node 1000000");
    refuses("ip 198.18.1.1\niprange 5 198.18.1.0 198.18.1.3\n",
            "2: address 198.18.1.1 is given to node 6 and to node 0 (line 1)");
    refuses("ip 0 198.18.1.1 198.18.1.1\n", "1: address 198.18.1.1 is given twice to node 0");
    refuses("ip 0 198.18.1.1\nip 1 198.18.1.2\nnode 0 0:1:2:3:4:5\nnode 1 00:01:02:03:04:05\n",
            "2: hardware address 00:01:02:03:04:05 is given to node 1 and to node 0");
    refuses("node 0 00:e0:4c:c3:d3\n", "1: node: \"00:e0:4c:c3:d3\" is no hardware address");
    refuses("node 0 00:e0:4c:c3:d3:321\n", "1: node: ");
    refuses("pingtimeout 1\n", "1: pingtimeout: \"1\"; want seconds, 2 to 86400");
    refuses("pingtimeout 10s\n", "1: pingtimeout: \"10s\"");
    refuses("grace -1\n", "1: grace: \"-1\"");
    refuses("grace .\n", "1: grace: \".\"");
    refuses("bprocport 65533\n", "1: bprocport: \"65533\"; want a port, 1 to 65532");
    refuses("bprocport no-such-service\n", "1: bprocport: \"no-such-service\"");
    refuses("bprocport\n", "1: too few arguments for bprocport: want bprocport PORT");
    refuses("bprocport 1 2\n", "1: too many arguments for bprocport");
    refuses("logfacility kitchen\n", "1: logfacility: \"kitchen\" is none");
    refuses("slave timesink yes\n", "1: slave: unknown word \"timesink\"; did you mean timesync?");
    refuses("slave timesync maybe\n", "1: slave timesync: \"maybe\"; want yes or no");
    refuses("trustednetwork perhaps\n", "1: trustednetwork: \"perhaps\"; want yes or no");
    refuses("send pork 1\n", "1: send: unknown word \"pork\"; did you mean port?");
    refuses("node_up banana 1\n", "1: node_up: unknown word \"banana\"; want max_clients, ");
    refuses("node_up log_level loud\n", "1: node_up log_level: \"loud\"");
    refuses("master a:b\n", "1: master: \"a:b\": the port is no number");
    refuses("master a b\nmaster A\n", "2: master: A is named twice");
    refuses("master m/n\n", "1: master: \"m/n\" is no host name");
    refuses("interface a-name-that-is-too-long\n", "1: interface: ");
    refuses("ip 0 198.18.1.1\nbootfile 7 /b\n", "2: bootfile: node 7: there is only 1 node, 0");
    refuses("# one\nkernelcommandline \"quiet\n", "2: the quote \" is not closed");
    static const char zero[] = "ip 0 198.18.1.1\nip\0 1 198.18.1.2\n";
    put(zero, sizeof zero - 1);
    struct err err = { 0 };
    CLEANUP(config_free) struct cm_config *c = config_load(path, NULL, &err);
    says(c ? "taken" : err.text, ":2: a zero byte", "a zero byte is refused with its line");
}

static void files(void)
{
    struct err err = { 0 };
    CLEANUP(config_free) struct cm_config *c = config_load("/no/such/config", NULL, &err);
    ok(!c && err.code == ENOENT, "a missing file is ENOENT: %s", err.text);
    c = config_load("/tmp", NULL, &err);
    says(c ? "taken" : err.text, "/tmp is not a regular file", "a folder is no file");

    put("ip 0 198.18.1.1\n", 16);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    flock(fd, LOCK_EX);
    int64_t began = now_ms();
    c = config_load(path, NULL, &err);
    says(c ? "taken" : err.text, "locked for writing", "a file locked for long is refused");
    ok(err.code == EBUSY && now_ms() - began >= 900 && now_ms() - began < 5000,
       "after about a second");

    int out[2];
    if (pipe(out) < 0)
        exit(99);
    pid_t pid = fork();
    if (pid == 0) { /* a writer that ends while the reader waits */
        int mine = open(path, O_RDWR | O_CLOEXEC);
        close(fd);
        while (flock(mine, LOCK_EX) < 0)
            ;
        if (write(out[1], "x", 1) != 1 || write(mine, "ip 9", 4) != 4)
            _exit(1);
        struct timespec t = { 0, 200 * 1000 * 1000 };
        nanosleep(&t, NULL);
        _exit(0);
    }
    close(fd);
    char byte;
    ok(read(out[0], &byte, 1) == 1, "a writer holds the lock");
    c = config_load(path, NULL, &err);
    ok(c && c->nnodes == 1 && c->nodes[0].number == 9,
       "one locked briefly is waited for, and read as its writer left it");
    waitpid(pid, NULL, 0);
    close(out[0]);
    close(out[1]);
}

static void listing_one(void)
{
    struct err err = { 0 };
    CLEANUP(strlist_free) struct strlist w = { 0 };
    CLEANUP(config_free) struct cm_config *c =
        config_load("tests/data/listing-one.config", &w, &err);

    if (!ok(c != NULL, "the article's Listing One loads: %s", err.text))
        return;
    ok(w.n == 0, "without a warning");
    ok(c->nnodes == 3 && c->nodes[2].number == 2, "and has nodes 0-2");
    is(c->nodes[1].addrs.v[0], "198.18.1.11", "with their addresses");
    is(c->nodes[2].macs.v[0], "00:e0:4c:c3:d8:18", "and hardware addresses");
    is(c->nodes[0].bootfile, "/var/clustermatic/boot.img", "the boot file");
    ok(c->ninterfaces == 1 && strcmp(c->interfaces[0].name, "eth1") == 0, "the interface");
    ok(c->nmasters == 1 && strcmp(c->masters[0].v[0], "master1:2223") == 0, "the master");
    ok(c->libraries.n == 7 && c->libraries_from_binary.n == 4, "and the libraries");
}

static void everything(void)
{
    struct err err = { 0 };
    CLEANUP(strlist_free) struct strlist w = { 0 };
    CLEANUP(config_free) struct cm_config *c = load(
        "\xef\xbb\xbf" "bootfile 1000-,0 /special # comment\r\n"
        "bprocport 4000\n"
        "logfacility LOCAL3\n"
        "pingtimeout 2.5\n"
        "allowinsecureports\n"
        "slavetimesync no\ntrustednetwork yes\n"
        "slave privatefs yes\n"
        "send port 5000\nsend connect_timeout 0.25\n"
        "node_up max_clients 7\nnode_up startup_delay 0\nnode_up worker /w\n"
        "master one two:99 # first\nmaster [::1] 198.18.0.2 fe80::1\n"
        "ip 198.18.1.1\nip 0 198.18.2.1 198.18.3.1\niprange 198.18.1.2 198.18.1.4\n"
        "bootfile /above\n"
        "iprange 1000 198.18.1.254 198.18.2.0\n"
        "ip fd00::5\n"
        "bootfile /below\n"
        "ip 20 198.18.1.20\n"
        "node 0:E0:4c.c3:d3:32 001122334455\nnode 2\nnode 2:2:2:2:2:2\n"
        "kernelcommandline \"a # b\" 'c d' e\\ f\n"
        "interface \"eth 0\" 198.18.0.1 255.254.0.0", &w, &err);

    if (!ok(c != NULL, "a file with every kind of line loads: %s", err.text))
        return;
    ok(w.n == 0, "without warnings");
    ok(c->port == 4000 && c->log_facility == LOG_LOCAL3 && c->pingtimeout_ms == 2500 &&
       c->grace_ms == 2500 && c->insecure_ports && !c->timesync && c->privatefs && c->trusted &&
       c->send.port == 5000 && c->send.connect_timeout_ms == 250 &&
       c->node_up.max_clients == 7 && c->node_up.startup_delay_ms == 0, "its numbers");
    is(c->masters[0].v[0], "one:4000", "a master without port gets bprocport");
    is(c->masters[0].v[1], "two:99", "or keeps its own");
    is(c->masters[1].v[0], "[::1]:4000", "also in brackets");
    is(c->masters[1].v[2], "[fe80::1]:4000", "which are added where needed");
    ok(c->nnodes == 9, "nodes 0-3, 20, 1000-1003 exist");
    ok(config_node(c, 0)->addrs.n == 3, "several lines add addresses to one node");
    is(config_node(c, 3)->addrs.v[0], "198.18.1.4", "an omitted node is the one after the last");
    is(config_node(c, 1001)->addrs.v[0], "198.18.1.255", "numbers may be sparse");
    is(config_node(c, 1003)->addrs.v[0], "fd00::5", "and addresses may be long");
    ok(!config_node(c, 4) && !config_node(c, 999), "others do not exist");
    is(config_node(c, 0)->macs.v[0], "00:e0:4c:c3:d3:32", "hardware addresses are normalised");
    is(config_node(c, 0)->macs.v[1], "00:11:22:33:44:55", "twelve digits are one too");
    ok(config_node(c, 2)->macs.n == 1, "node NUMBER alone sets the counter");
    is(config_node(c, 1001)->bootfile, "/special", "a boot file may be named before its nodes");
    is(config_node(c, 2)->bootfile, "/above", "a plain one is for nodes above it");
    is(config_node(c, 20)->bootfile, "/below", "the last one for those below, too");
    is(c->kernel_command_line, "a # b c d e f", "# in quotes is no comment");
    is(c->interfaces[0].name, "eth 0", "the last line needs no line feed");
}

static void warnings(void)
{
    warns("# x\npingtimout 5\n", ":2: unknown word \"pingtimout\", the line has no effect; "
          "did you mean pingtimeout?");
    warns("Interface eth0\n", "did you mean interface?");
    warns("frobnicate\n", ":1: unknown word \"frobnicate\", the line has no effect");
    warns("nodes 5\n", "nodes is obsolete and has no effect");
    warns("node 3 1:2:3:4:5:6\n", ":1: node 3 has a hardware address but no ip");
}

static void long_lines(void)
{
    struct err err = { 0 };
    static char text[2 << 20];
    char *p = text;

    p += sprintf(p, "libraries");
    for (int i = 0; i < 100000; i++)
        p += sprintf(p, " /usr/lib/x%d", i);
    memcpy(p, "\nip 5\n", 7);
    refuses(text, "2: too few arguments for ip");
    p += sprintf(p, "\niprange 0 10.0.0.0 10.1.134.159\n");
    CLEANUP(config_free) struct cm_config *c = load(text, NULL, &err);
    ok(c && c->libraries.n == 100000, "a line of a megabyte is one line");
    ok(c && c->nnodes == 100000 && strcmp(c->nodes[99999].addrs.v[0], "10.1.134.159") == 0,
       "a hundred thousand nodes fit in one");
}

int main(void)
{
    int fd = mkstemp(path);

    if (fd < 0)
        return 99;
    close(fd);
    refusals();
    files();
    warnings();
    listing_one();
    everything();
    long_lines();
    unlink(path);
    return done_testing();
}
