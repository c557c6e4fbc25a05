/* nodes.c - libbproc's calls about nodes, and those that change them
 *
 *   nodes look         what everybody may ask, on the master; 0, 1 up, 2 down
 *   nodes change       what root may, on node 1
 *   nodes refused      what others may not; runs as somebody who is not root
 *   nodes there        the same questions, on node 0
 *   nodes absent       no cluster
 *   nodes power        node 2: reboot and halt
 *   nodes restart PID  the notifier, when the bus (PID) is killed
 *   nodes libraries    the library list
 *   nodes again        before and after fork and exec
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include "tests/libbproc/check.h"

static void look_at_all(void)
{
    struct bproc_node_set_t ns = BPROC_EMPTY_NODESET, out = BPROC_EMPTY_NODESET;
    struct bproc_version_t v;

    equals(bproc_version(&v), 0, "there is a version");
    ok(memcmp(v.bproc_magic, "BPr", 3) == 0 && v.version_string[0], "and it says BPr");
    equals(bproc_numnodes(), 3, "there are three nodes");
    equals(bproc_nodelist(&ns), 3, "the list has three");
    equals(bproc_node_set_node(&ns, 1)->node, 1, "the second is node 1");
    is(ns.node[0].status, "up", "node 0 is up");
    is(ns.node[2].status, "down", "node 2 is down");
    equals((long)ns.node[2].mode, 0, "a node that is down has no mode");
    equals(bproc_nodefilter(&out, &ns, "2,0-1,0"), 0, "a set is filtered");
    ok(out.size == 4 && out.node[0].node == 2 && out.node[3].node == 0,
       "order and duplicates are kept");
    bproc_nodeset_free(&out);
    equals(bproc_nodefilter(&out, &ns, "nosuchstate"), 0, "a state that nobody is in");
    equals(out.size, 0, "selects nobody");
    equals(bproc_nodefilter(&out, &ns, "allnotnosuchstate"), 0, "and its negation");
    equals(out.size, 3, "everybody");
    bproc_nodeset_free(&out);
    equals(bproc_nodefilter(&out, &ns, "master,-1"), 0, "the master by its name only");
    ok(out.size == 1 && out.node[0].node == -1 && out.node[0].mode == 0111, "is -1, mode 0111");
    bproc_nodeset_free(&out);
    fails(bproc_nodefilter(&out, &ns, "0 1"), EINVAL, "blanks are an error");
    fails(bproc_nodefilter(&out, &ns, "5x"), EINVAL, "so is 5x");
    equals(bproc_nodefilter(&out, &ns, ""), 0, "the empty specification is none");
    equals(out.size, 0, "and selects nobody");
    bproc_nodeset_free(&ns);
    ok(ns.size == 0 && ns.node == NULL, "a set that is freed is empty");
    equals(bproc_nodespec(&ns, "up"), 0, "a specification");
    equals(ns.size, 2, "of those that are up");
    int size = ns.size;
    equals(bproc_nodefilteraccessible(ns.node, &size), 0, "where may we start work?");
    equals(size, 2, "on both");
    bproc_nodeset_free(&ns);
    fails(bproc_nodespec(&ns, "0,!up"), EINVAL, "a wrong specification is EINVAL");
}

static void sets(void)
{
    struct bproc_node_set_t a = BPROC_EMPTY_NODESET, b = BPROC_EMPTY_NODESET;
    struct bproc_node_info_t info;

    memset(&info, 0, sizeof info);
    equals(bproc_nodeset_init(&a, 0), 0, "an empty set");
    equals(a.size, 0, "has no nodes");
    for (info.node = 0; info.node < 300; info.node++)
        bproc_nodeset_add(&a, &info);
    ok(a.size == 300 && a.node[299].node == 299, "300 nodes were added");
    equals(bproc_nodeset_init(&b, 2), 0, "a set of two");
    equals(b.size, 2, "has two");
    equals(bproc_nodeset_append(&b, &a), 0, "300 are appended");
    ok(b.size == 302 && b.node[301].node == 299, "and there");
    equals(bproc_nodeset_append(&b, &b), 0, "a set is appended to itself");
    equals(b.size, 604, "and has twice as many");
    equals(bproc_nodeset_grow(&b, 1000), 0, "room for 1000");
    ok(b.alloc >= 1000 && b.alloc % 128 == 0 && b.size == 604, "is there");
    bproc_nodeset_free(&a);
    bproc_nodeset_free(&b);
}

static void look_at_one(void)
{
    struct bproc_node_info_t info;
    struct sockaddr_in in;
    struct sockaddr *sa = (struct sockaddr *)&in;
    int size = sizeof in;
    char buf[64];

    equals(bproc_nodeinfo(1, &info), 0, "node 1's information");
    ok(info.node == 1 && info.mode == 0111 && info.addr.sa_family == AF_INET, "is right");
    equals(bproc_nodeinfo(2, &info), 0, "that of a node that is down");
    is(info.status, "down", "says so");
    equals(bproc_nodeinfo(BPROC_NODE_MASTER, &info), 0, "the master has some too");
    fails(bproc_nodeinfo(99, &info), BE_INVALIDNODE, "a node that does not exist has none");
    equals(bproc_nodestatus(0, buf, sizeof buf), 3, "the length of \"up\" with its NUL");
    is(buf, "up", "and the state");
    equals(bproc_nodestatus(0, NULL, 0), 3, "the length alone");
    fails(bproc_nodestatus(0, buf, 2), ERANGE, "no room for the state");
    fails(bproc_nodestatus(BPROC_NODE_MASTER, buf, sizeof buf), ENODATA,
          "the master has no state");
    fails(bproc_nodestatus(99, buf, sizeof buf), ENOENT, "nor has a node that is not");
    fails(bproc_nodestatus(BPROC_NODE_ANY, buf, sizeof buf), ENOENT, "nor any node");
    equals(bproc_nodeaddr(1, sa, &size), 0, "node 1's address");
    ok(size == (int)sizeof in && in.sin_addr.s_addr == inet_addr("198.18.1.1"), "is right");
    equals(bproc_nodenumber(sa, sizeof in), 1, "and leads back to node 1");
    in.sin_addr.s_addr = inet_addr("198.51.100.1");
    fails(bproc_nodenumber(sa, sizeof in), ENOENT, "a stranger's address is no node's");
    fails(bproc_nodenumber(sa, 2), EINVAL, "half an address neither");
    fails(bproc_nodeaddr(2, sa, &size), ENODATA, "a node that is down has no address");
    size = 3;
    fails(bproc_nodeaddr(1, sa, &size), ERANGE, "an address needs room");
    size = sizeof in;
    equals(bproc_masteraddr(sa, &size), 0, "the master's address");
    ok(in.sin_family == AF_INET, "is one");
    fails(bproc_getnodeattr(1, "nosuch", buf, sizeof buf), ENODATA, "no such attribute");
    equals(bproc_getnodeattr(1, "state", buf, sizeof buf), 3, "the state as an attribute");
    equals(bproc_getnodeattr(1, "addr", buf, sizeof buf), 16, "the address as an attribute");
    int cpus = 0;
    equals(bproc_getnodeattr(1, "cpus", &cpus, sizeof cpus), 4, "processors");
    ok(cpus > 0, "are there");
    fails(bproc_getnodeattr(1, "state", buf, 1), ERANGE, "an attribute needs room");
    fails(bproc_getnodeattr(99, "state", buf, 16), ENOENT, "and a node");
    equals(bproc_access(1, BPROC_X_OK), 0, "we may start work on node 1");
    fails(bproc_access(2, BPROC_X_OK), EACCES, "not on one that is down");
    equals(bproc_access(2, 0), 0, "which is there, though");
    fails(bproc_access(99, 0), ENOENT, "and this is not");
    fails(bproc_access(1, 0100), EINVAL, "there are three bits");
}

static void look_at_processes(void)
{
    struct bproc_proc_info_t *list = (struct bproc_proc_info_t *)&list;

    equals(bproc_currnode(), BPROC_NODE_MASTER, "we are on the master");
    ok(bproc_proclist(BPROC_NODE_ANY, &list) >= 0, "processes are listed");
    free(list);
    equals(bproc_proclist(99, &list), 0, "none on a node that is not");
    ok(list == NULL, "and no list");
    equals(bproc_pidnode(getpid()), -1, "this process is on the master");
    equals(errno, 0, "which is no error");
    fails(bproc_pidnode(4194303), ESRCH, "a process that is not");
    equals(bproc_getsid(getpid()), (long)getsid(0), "the session of a local process");
    fails(bproc_getrusage(getpid(), NULL, NULL), ESRCH, "which no launch knows");
    is(bproc_strerror(BE_NODEDOWN), "Node is down", "BE_NODEDOWN has a name");
    is(bproc_strerror(-BE_INVALIDNODE), "Invalid node number", "negative numbers too");
    is(bproc_strerror(BE_SAMENODE), "Move to same node", "BE_SAMENODE");
    is(bproc_strerror(BE_SLAVEDIED), "Slave node died", "BE_SLAVEDIED");
    is(bproc_strerror(BE_INVALIDPROC), "Invalid process ID", "BE_INVALIDPROC");
    is(bproc_strerror(ENOENT), strerror(ENOENT), "others are errno's");
}

static int readable(int fd, int ms)
{
    struct pollfd p = { fd, POLLIN, 0 };

    return poll(&p, 1, ms);
}

static void change(void)
{
    struct bproc_node_set_t ns = BPROC_EMPTY_NODESET;
    struct bproc_node_info_t info;
    char buf[80], name[80];
    int fd = bproc_notifier();

    ok(fd > 2, "a notifier");
    equals(readable(fd, 200), 0, "nothing has happened yet");
    equals(bproc_setnodeattr(1, "colour", "red", 4), 0, "an attribute is set");
    equals(readable(fd, 5000), 1, "the notifier tells");
    equals(bproc_nodelist_(&ns, fd), 3, "the list is fetched");
    equals(readable(fd, 200), 0, "and the notifier is quiet again");
    bproc_nodeset_free(&ns);
    equals(bproc_getnodeattr(1, "colour", buf, sizeof buf), 4, "its length");
    is(buf, "red", "and its value");
    equals(bproc_getnodeattr(1, "colour", NULL, 0), 4, "the length alone");
    memset(buf, 'x', sizeof buf);
    fails(bproc_setnodeattr(1, "colour", buf, 65), ENOSPC, "65 bytes are too many");
    equals(bproc_setnodeattr(1, "colour", buf, 64), 0, "64 are not");
    memset(name, 'n', sizeof name);
    name[60] = 0;
    fails(bproc_setnodeattr(1, name, "x", 1), ENOSPC, "a name that is too long");
    fails(bproc_setnodeattr(1, "colour", buf, -1), EINVAL, "a length below 0");
    fails(bproc_setnodeattr(2, "colour", "x", 1), ENODATA, "a node that is down");
    fails(bproc_setnodeattr(99, "colour", "x", 1), ENOENT, "a node that is not");
    equals(bproc_chmod(1, 0110), 0, "the mode is changed");
    equals(bproc_chown(1, 61001), 0, "the owner too");
    equals(bproc_chgrp(1, 61009), 0, "and the group");
    bproc_nodeinfo(1, &info);
    ok(info.mode == 0110 && info.user == 61001 && info.group == 61009, "all of that is so");
    fails(bproc_chmod(1, 0755), EPERM, "only the bits 0111 may be set");
    fails(bproc_chmod(2, 0111), EPERM, "not on a node that is down");
    fails(bproc_chmod(-1, 0111), EPERM, "nor on the master");
    fails(bproc_chmod(99, 0111), ENOENT, "nor on one that is not");
    fails(bproc_chmod(1, 010000), EINVAL, "a mode is 07777 at most");
    fails(bproc_chown(1, -1), EINVAL, "a user that is none");
    fails(bproc_chgrp(1, -1), EINVAL, "a group that is none");
    equals(bproc_nodesetstatus(1, "drained"), 0, "a state of our own");
    equals(bproc_nodestatus(1, buf, sizeof buf), 8, "is set");
    fails(bproc_nodesetstatus(1, "not-a-word"), EINVAL, "a state is a word");
    fails(bproc_nodesetstatus(1, "abcdefghijklmnop"), ENOSPC, "of 15 characters");
    fails(bproc_nodesetstatus(2, "up"), EINVAL, "a node leaves down by joining");
    bproc_nodesetstatus(1, "up");
    bproc_chown(1, 0);
    bproc_chgrp(1, 0);
    bproc_chmod(1, 0111);
    close(fd);
}

static void libraries(void)
{
    char *list = NULL;

    equals(bproc_libclear(), 0, "the library list is cleared");
    equals(bproc_liblist(&list), 0, "and read");
    ok(list && list[0] == 0, "it is empty");
    free(list);
    equals(bproc_libadd("/lib/libexample.so.1"), 0, "one is added");
    equals(bproc_libadd("/lib/libexample.so.2"), 0, "another is added");
    equals(bproc_liblist(&list), 0, "the list");
    const char *second = list ? list + strlen(list) + 1 : "";
    ok(list && *second && strcmp(list, second) != 0 && second[strlen(second) + 1] == 0,
       "has two, and then an end");
    free(list);
    equals(bproc_libdel("/lib/libexample.so.1"), 0, "one is deleted");
    fails(bproc_libdel("/lib/libexample.so.1"), ENOENT, "but not twice");
    bproc_libclear();
}

static void refused(void)
{
    fails(bproc_chmod(1, 0100), EPERM, "the mode is its owner's");
    fails(bproc_chown(1, (int)getuid()), EPERM, "the owner is root's to change");
    fails(bproc_chgrp(1, (int)getgid()), EPERM, "the group is the owner's");
    fails(bproc_nodesetstatus(1, "drained"), EPERM, "the state is root's");
    fails(bproc_setnodeattr(1, "colour", "x", 1), EPERM, "attributes are root's");
    fails(bproc_nodereboot(1), EPERM, "reboot");
    fails(bproc_nodereboot_async(1), EPERM, "reboot, not waited for");
    fails(bproc_nodehalt(1), EPERM, "halt");
    fails(bproc_nodehalt_async(1), EPERM, "halt, not waited for");
    fails(bproc_nodepwroff(1), EPERM, "power off");
    fails(bproc_nodepwroff_async(1), EPERM, "power off, not waited for");
    fails(bproc_nodechroot(1, "/tmp"), EPERM, "chroot");
    fails(bproc_nodereconnect(1, NULL, 0, NULL, 0), EPERM, "reconnect");
    fails(bproc_libclear(), EPERM, "the library list is root's to clear");
    fails(bproc_libadd("/lib/libx.so"), EPERM, "to add to");
    fails(bproc_libdel("/lib/libx.so"), EPERM, "to delete from");
}

static void there(void)
{
    struct bproc_node_set_t ns = BPROC_EMPTY_NODESET;
    struct bproc_node_info_t info;
    struct bproc_proc_info_t *list = NULL;
    char buf[32];

    equals(bproc_currnode(), 0, "we are on node 0");
    equals(bproc_numnodes(), 3, "there are three nodes");
    equals(bproc_nodelist(&ns), 3, "which are listed");
    bproc_nodeset_free(&ns);
    equals(bproc_nodeinfo(BPROC_NODE_SELF, &info), 0, "our own node");
    equals(info.node, 0, "is node 0");
    ok(bproc_nodestatus(BPROC_NODE_SELF, buf, sizeof buf) == 3, "and up");
    ok(bproc_proclist(BPROC_NODE_SELF, &list) >= 1, "processes run on it");
    free(list);
    fails(bproc_notifier(), ENOSYS, "changes are told on the master");
    fails(bproc_chmod(0, 0111), ENOSYS, "and made there");
    fails(bproc_nodesetstatus(0, "up"), ENOSYS, "states too");
    fails(bproc_nodereboot(0), ENOSYS, "nodes are rebooted from the master");
    fails(bproc_nodehalt_async(0), ENOSYS, "and halted");
    fails(bproc_nodechroot(0, "/"), ENOSYS, "and moved into a folder");
    fails(bproc_libadd("/lib/libx.so"), ENOSYS, "the library list is the master's");
    char *argv[] = { text("true"), NULL };
    int nodes[2] = { 1, -1 }, pids[2];
    equals(bproc_vexecmove(2, nodes, pids, "/bin/true", argv, environ), 2,
           "processes on other nodes");
    equals(reap(pids[0]), 0, "start from here");
    equals(reap(pids[1]), 0, "on the master too");
    fails(bproc_execmove(99, "/proc/self/exe", argv, environ), BE_INVALIDNODE,
          "ourselves to none that there is");
}

static void absent(void)
{
    struct bproc_node_set_t ns = BPROC_EMPTY_NODESET;
    struct bproc_node_info_t info;
    struct bproc_version_t v;
    char *argv[] = { text("true"), NULL };
    int nodes[1] = { 0 }, pids[1];

    fails(bproc_numnodes(), ENOENT, "no cluster: no nodes");
    fails(bproc_nodelist(&ns), ENOENT, "no list");
    fails(bproc_nodespec(&ns, "up"), ENOENT, "no specification");
    fails(bproc_nodeinfo(0, &info), BE_INVALIDNODE, "no node");
    fails(bproc_notifier(), ENOENT, "no notifier");
    fails(bproc_version(&v), ENOSYS, "no version");
    fails(bproc_vexecmove(1, nodes, pids, "/bin/true", argv, environ), ENOSYS, "no processes");
    fails(bproc_execmove(0, "/bin/true", argv, environ), ENOSYS, "no moving");
    fails(bproc_rexec(0, "/bin/true", argv, environ), ENOSYS, "nor the other way");
    fails(bproc_nodereboot(0), geteuid() == 0 ? BE_INVALIDNODE : EPERM, "no reboot");
    equals(bproc_currnode(), -1, "this is the master all the same");
    equals(bproc_move(BPROC_NODE_MASTER), 0, "where one can always move");
}

/* Until node is in this state (or has left it), told by a notifier. */
static bool reaches(int fd, int node, const char *state, bool is_it)
{
    struct bproc_node_set_t ns = BPROC_EMPTY_NODESET;
    time_t end = time(NULL) + 20;
    bool there_now = false;

    while (!there_now && time(NULL) < end) {
        if (bproc_nodelist_(&ns, fd) < 0)
            return false;
        there_now = (strcmp(ns.node[node].status, state) == 0) == is_it;
        bproc_nodeset_free(&ns);
        if (!there_now)
            readable(fd, 1000);
    }
    return there_now;
}

static void power(void)
{
    struct sockaddr_in6 six;
    int fd = bproc_notifier();

    memset(&six, 0, sizeof six);
    six.sin6_family = AF_INET6;
    fails(bproc_nodereboot(99), BE_INVALIDNODE, "a node that is not does not reboot");
    fails(bproc_nodereboot(BPROC_NODE_MASTER), BE_INVALIDNODE, "nor does the master");
    fails(bproc_nodereconnect(2, (struct sockaddr *)&six, sizeof six, NULL, 0), EINVAL,
          "reconnect knows IPv4 only");
    fails(bproc_nodechroot(2, "/nosuchfolder"), ENOENT, "chroot to a folder that is not");
    equals(bproc_nodechroot(2, "/"), 0, "chroot to one that is");
    ok(reaches(fd, 2, "up", true), "node 2 is up");
    equals(bproc_nodereboot(2), 0, "it reboots");
    ok(reaches(fd, 2, "up", false), "and is gone");
    ok(reaches(fd, 2, "up", true), "and comes back");
    equals(bproc_nodereboot_async(2), 0, "the same without waiting");
    ok(reaches(fd, 2, "up", false), "and is gone");
    ok(reaches(fd, 2, "up", true), "and comes back");
    equals(bproc_nodehalt(2), 0, "it halts");
    ok(reaches(fd, 2, "down", true), "and is down");
    fails(bproc_nodepwroff(2), BE_NODEDOWN, "a node that is down cannot be switched off");
    fails(bproc_nodehalt_async(2), BE_NODEDOWN, "nor halted");
    fails(bproc_nodepwroff_async(2), BE_NODEDOWN, "nor the other way");
}

/* The bus is killed and started anew: the notifier tells, and goes on. */
static void restart(int bus)
{
    struct bproc_node_set_t ns = BPROC_EMPTY_NODESET;
    int fd = bproc_notifier();

    if (!ok(bus > 1, "the bus runs")) /* kill(-1) would reach everybody */
        return;
    equals(kill(bus, SIGKILL), 0, "the bus is killed");
    equals(readable(fd, 5000), 1, "something may have happened");
    equals(bproc_nodelist_(&ns, fd), 3, "the list comes from the next bus");
    bproc_nodeset_free(&ns);
    while (readable(fd, 500) == 1 && bproc_nodelist_(&ns, fd) == 3)
        bproc_nodeset_free(&ns);
    equals(bproc_setnodeattr(1, "colour", "blue", 5), 0, "something happens");
    equals(readable(fd, 5000), 1, "and the same notifier tells");
    close(fd);
}

static void look(void)
{
    look_at_all();
    sets();
    look_at_one();
    look_at_processes();
}

/* In the child of a fork, and in what that executes. */
static void again(const char *me)
{
    int pid;

    equals(bproc_numnodes(), 3, "before the fork");
    pid = fork();
    if (pid == 0) {
        if (bproc_numnodes() != 3)
            _exit(1);
        execl(me, me, "count", (char *)NULL);
        _exit(2);
    }
    equals(reap(pid), 0, "in a child, and in another program");
    equals(bproc_numnodes(), 3, "and still in the parent");
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (strcmp(what, "look") == 0)
        look();
    else if (strcmp(what, "change") == 0)
        change();
    else if (strcmp(what, "libraries") == 0)
        libraries();
    else if (strcmp(what, "refused") == 0)
        refused();
    else if (strcmp(what, "there") == 0)
        there();
    else if (strcmp(what, "absent") == 0)
        absent();
    else if (strcmp(what, "power") == 0)
        power();
    else if (strcmp(what, "restart") == 0)
        restart(argc > 2 ? atoi(argv[2]) : -1);
    else if (strcmp(what, "again") == 0)
        again(argv[0]);
    else if (strcmp(what, "count") == 0)
        return bproc_numnodes() == 3 ? 0 : 1;
    else
        return 2;
    return done_testing();
}
