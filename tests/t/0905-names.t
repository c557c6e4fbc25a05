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
users() { # of one node at one time, each asks for itself and for the other
    local a b
    as 1234 env USER=joe HOME=/home/joe SHELL=/bin/sh bpsh 0 sh -c 'getent passwd 1234 joe ann 4321
        getent group joe ann; read -r x; id' <"$tmp/both" >"$tmp/joe" & a=$!
    as 4321 env USER=ann HOME=/home/ann SHELL=/bin/sh bpsh 0 sh -c 'getent passwd 4321 ann joe 1234
        getent group ann joe; read -r x; id' <"$tmp/both" >"$tmp/ann" & b=$!
    exec 8>"$tmp/both"
    eventually 20 grep -q '^joe:x:1234:$' "$tmp/joe" &&
        eventually 20 grep -q '^ann:x:4321:$' "$tmp/ann"
    printf '\n\n' >&8
    exec 8>&-
    wait $a && wait $b && cat "$tmp/joe" "$tmp/ann"
}
mkfifo "$tmp/both"
chmod 644 "$tmp/both"
ok 'two users on one node at one time: each knows itself alone' \
    is "$(for who in 'joe 1234' 'ann 4321'; do
        set -- $who
        printf '%s:x:%s:%s::/home/%s:/bin/sh\n' $1 $2 $2 $1 $1 $2 $2 $1
        printf '%s:x:%s:\nuid=%s(%s) gid=%s(%s) groups=%s(%s)\n' $1 $2 $2 $1 $2 $1 $2 $1
    done)" users
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
/* looks up names; prints how many were found, and how many held us up for more than
 * a second: what the machine took to let us run does not count */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static double held(void)
{
    unsigned long long ran, waited = 0;
    struct timespec now;
    FILE *f = fopen("/proc/self/schedstat", "r");
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (f && fscanf(f, "%llu %llu", &ran, &waited) != 2)
        waited = 0;
    if (f)
        fclose(f);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9 - (double)waited / 1e9;
}
int main(int argc, char **argv)
{
    int found = 0, slow = 0;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-') { /* wait for a line */
            puts("waiting");
            fflush(stdout);
            if (getchar() == EOF)
                return 1;
            continue;
        }
        double began = held();
        found += gethostbyname(argv[i]) != NULL;
        slow += held() - began > 1;
    }
    printf("%d found, %d slow\n", found, slow);
    return 0;
}
END
cc -o "$tmp/ask" "$tmp/ask.c" || exit 1
ok 'names are found' is '3 found, 0 slow' bpsh 1 "$tmp/ask" n0 n1 n2
victim() { if [ "$1" = agent ]; then agent 1; else pid_of "$1"; fi; }
asks() { pgrep -f "^$tmp/ask " -P "$(pgrep -x -P "$(pid_of node.1)" bpinit)"; }
stuck() { # WHO SIGNAL: before, and again when it is stuck
    local pid rc=0 found=2 # n0, known from before, and n2 never
    [ "$2" = STOP ] || found='[2-5]' # it may be back already
    pid=$(victim "$1") || return
    : >"$tmp/asked" # not what the one before it said
    rm -f "$tmp/go"
    mkfifo "$tmp/go" && exec 8<>"$tmp/go" || return
    bpsh 1 "$tmp/ask" n0 - n2 n2 n0 n2 <"$tmp/go" >"$tmp/asked" 2>&1 8>&- & local job=$!
    eventually 20 grep -q waiting "$tmp/asked" && asks >"$tmp/body" || rc=1
    # The line that lets it go on comes by way of those who are stuck then: so it
    # goes to the process itself, which reads it from a pipe of the agent.
    kill "-$2" "$pid"
    echo >"/proc/$(head -n 1 "$tmp/body")/fd/0" || rc=1
    eventually 20 not asks || rc=1
    [ "$2" != STOP ] || kill -CONT "$pid"
    exec 8>&-
    wait $job || rc=1
    cat "$tmp/asked"
    [ $rc = 0 ] && grep -Eqx "$found found, 0 slow" "$tmp/asked"
}
for who in nodemgr busd agent; do
    ok "$who is stuck: what was known still is, nobody waits for more than a second" stuck $who STOP
    ok "$who is killed" stuck $who KILL
    ok 'it answers again' eventually 30 is '1 found, 0 slow' bpsh 1 "$tmp/ask" n2
done

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
