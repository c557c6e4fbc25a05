#!/bin/bash
# 0905-names: names of nodes and users by libnss_bproc, on the master and on nodes
# shellcheck disable=SC2016 # what is in quotes is for the shells on the nodes
. tests/lib.sh

need bin/bpsh lib/libnss_bproc.so.2
cluster_up 3
joined() { "$@" | sort | paste -sd'|'; return "${PIPESTATUS[0]}"; }

# --- on nodes: nsswitch.conf is there, and so is the library ------------------

at() { # NODE NAME: the address alone
    bpsh "$1" getent hosts "$2" | awk '{ print $1; exit }'
}
ok 'a node knows its own name' is n1 bpsh 1 hostname
ok 'another node by its name' is '198.18.1.2' at 0 n2
ok 'and as .2' is '198.18.1.2' at 0 .2
ok 'itself as self' is '198.18.1.1' at 1 self
ok 'the master' is '198.18.0.1' at 1 master
ok 'the canonical name' is '198.18.1.2      n2' bpsh 0 getent hosts .2
ok 'getaddrinfo' has '^198.18.1.2 +STREAM n2' bpsh 0 getent ahostsv4 n2
ok 'back from the address' is '198.18.1.2      n2' bpsh 0 getent hosts 198.18.1.2
ok 'the master from its address' is '198.18.0.1      n-1' bpsh 0 getent hosts 198.18.0.1
ok 'localhost is the node' has '^127.0.0.1|^::1' bpsh 2 getent hosts localhost
for name in n9 n n1x x1 .x n-3; do
    ok "no $name" exits 2 bpsh 0 getent ahostsv4 $name
done
ok 'no address of nobody' exits 2 bpsh 0 getent hosts 198.18.1.77

# --- who -----------------------------------------------------------------------

ok 'the user of a process, from its environment' is 'joe:x:1234:1234::/home/joe:/bin/zsh' \
    as 1234 env USER=joe HOME=/home/joe SHELL=/bin/zsh bpsh 0 getent passwd 1234
ok 'by name' is 'joe:x:1234:1234::/home/joe:/bin/sh' \
    as 1234 env -u SHELL USER=joe HOME=/home/joe bpsh 0 getent passwd joe
ok 'and the group' is 'joe:x:1234:' as 1234 env USER=joe HOME=/home/joe bpsh 0 getent group 1234
ok 'id shows them' is 'uid=1234(joe) gid=1234(joe) groups=1234(joe)' \
    as 1234 env USER=joe HOME=/home/joe bpsh 0 id
ok 'others are not known' exits 2 env USER=root HOME=/root bpsh 0 getent passwd 77
ok 'without USER and LOGNAME nobody is' exits 2 env -u USER -u LOGNAME bpsh 0 getent passwd 0

# --- on the master, where a site may add it to nsswitch.conf ----------------------

here() { LD_LIBRARY_PATH="$CM_BUILD/lib" getent -s bproc "$@"; }
ok 'on the master: a node' is '198.18.1.1      n1' here hosts n1
ok 'back' is '198.18.1.1      n1' here hosts 198.18.1.1
ok 'self is the master' is '127.0.0.1       n-2' here hosts self
ok 'no node' exits 2 here hosts n7

# --- nobody answers ------------------------------------------------------------------

cat >"$tmp/ask.c" <<'END'
/* looks up names; prints how many were found, and whether one took too long */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    int found = 0, slow = 0;
    for (int i = 1; i < argc; i++) {
        struct timespec a, b;
        if (argv[i][0] == '-') { /* wait for a line */
            puts("waiting");
            fflush(stdout);
            if (getchar() == EOF)
                return 1;
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &a);
        found += gethostbyname(argv[i]) != NULL;
        clock_gettime(CLOCK_MONOTONIC, &b);
        /* a second, and what a loaded machine takes to let us run */
        slow += b.tv_sec - a.tv_sec > 3;
    }
    printf("%d found, %d slow\n", found, slow);
    return 0;
}
END
cc -o "$tmp/ask" "$tmp/ask.c" || exit 1
ok 'names are found' is '3 found, 0 slow' bpsh 1 "$tmp/ask" n0 n1 n2
stuck() { # UNIT SIGNAL: before, and again when it is stuck
    local pid rc
    pid=$(pid_of "$1") || return
    mkfifo "$tmp/go" || return
    exec 8<>"$tmp/go"
    bpsh 1 "$tmp/ask" n0 - n2 n2 n0 n2 <"$tmp/go" >"$tmp/asked" 2>&1 8>&- & local job=$!
    eventually 20 grep -q waiting "$tmp/asked" || return
    kill "-$2" "$pid"
    echo >&8
    exec 8>&-
    rm "$tmp/go"
    wait $job
    rc=$?
    [ "$2" != STOP ] || kill -CONT "$pid"
    cat "$tmp/asked"
    # n0 (it is by the node's hosts file or known), and n2 never
    [ $rc = 0 ] && grep -Eq '^[2-5] found, 0 slow' "$tmp/asked"
}
ok 'nodemgr is stuck: what was known still is, nothing hangs' stuck nodemgr STOP
ok 'nodemgr is killed' stuck nodemgr KILL
ok 'it answers again' eventually 30 is '1 found, 0 slow' bpsh 1 "$tmp/ask" n2

# --- what it is for --------------------------------------------------------------------

cc -O -o "$tmp/hello_tcp" doc/examples/hello_tcp.c || exit 1
ok 'an example: processes find each other by name' \
    is 'rank 1 on n0, from n0|rank 2 on n2, from n2' joined bpsh 1,0,2 "$tmp/hello_tcp"
ok 'by mpirun too' is 'rank 1 on n1, from n1|rank 2 on n2, from n2' \
    joined mpirun -np 3 "$tmp/hello_tcp"
no_threads() { ! nm -D "$CM_BUILD/lib/libnss_bproc.so.2" | grep -E 'pthread_create|zmq'; }
ok 'the library starts no thread' no_threads
only_its_names() { nm -D --defined-only "$CM_BUILD/lib/libnss_bproc.so.2" | awk '{ print $3 }' | grep -v '^_nss_bproc_'; }
ok 'and shows no other names' not only_its_names
done_testing
