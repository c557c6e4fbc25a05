#!/bin/bash
# 0500-libbproc: every call of sys/bproc.h, its good path and its refusals, as
# root and as another user, on the master and on a node, compiled as C and C++
. tests/lib.sh

need_root
need lib/libbproc.so tests/body libexec/clustermatic/bpfwd bin/bpsh
flags=(-Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I.)
# A program can only use a library with the sanitizers if it has them itself.
[ -z "${CM_SAN:-}" ] || flags+=("-fsanitize=address,undefined")
shared=(-L"$CM_BUILD/lib" -lbproc)
export LD_LIBRARY_PATH=$CM_BUILD/lib

compile() { # compile OUT LANGUAGE SOURCE LIBS...
    local out=$1 lang=$2 source=$3 cc=gcc
    shift 3
    [ "$lang" = c ] || cc=g++
    $cc -x "$lang" "${flags[@]}" -o "$out" "tests/libbproc/$source.c" -x none "$@"
}
for source in nodes exec every; do
    ok "$source.c compiles as C" compile "$tmp/$source" c $source "${shared[@]}" -pthread
    ok "$source.c compiles as C++" compile "$tmp/$source++" c++ $source "${shared[@]}" -pthread
done
declared=$(gcc -fpreprocessed -dD -E -P clients/libbproc/bproc.h |
    grep -oE '\b_?bproc_[a-z_]+\(' | grep -v bproc_node_set_node | sort -u)
not_called() { for call in $declared; do grep -qF "$call" tests/libbproc/every.c || echo "$call"; done; }
ok 'all calls that the header declares are made' is '' not_called
ok 'they are many' test "$(wc -l <<<"$declared")" -gt 60
versioned() {
    nm -D --defined-only "$CM_BUILD/lib/libbproc.so" | grep -o '_\?bproc_.*@@BPROC_4.0$' |
        sed 's/@.*/(/' | sort -u
}
ok 'the library has these, and no others, each with its version' is "$declared" versioned
paged() {
    for call in $declared; do
        [ -s "$CM_BUILD/share/man/man3/${call%(}.3" ] || echo "${call%(}(3)"
    done
}
ok 'each has a manual page' is '' paged
ok 'a program can be linked with the archive' \
    compile "$tmp/nodes-a" c nodes "$CM_BUILD/lib/libbproc.a"
api_only() { ! nm --defined-only "$@" | awk '$2 ~ /[A-Z]/ { print $3 }' | grep -vE '^_?bproc_|^BPROC_|^__odr_asan|^$'; }
ok 'the shared library has no names but the API' api_only -D "$CM_BUILD/lib/libbproc.so"
ok 'nor has the archive' api_only -g "$CM_BUILD/lib/libbproc.a"
no_threads() { ! ldd "$CM_BUILD/lib/libbproc.so" | grep -E 'zmq|msgpack|pthread'; }
ok 'it needs no library that brings threads or names' no_threads
ok 'its name is libbproc.so.4' has 'SONAME.*\[libbproc.so.4\]' readelf -d "$CM_BUILD/lib/libbproc.so"

# Only what went wrong is worth reading.
run() {
    local rc
    timeout -k 1 60 "$@" >"$tmp/run.out" 2>&1
    rc=$?
    grep -av '^ok' "$tmp/run.out"
    return $rc
}
run_user() { run setpriv --reuid 61001 --regid 61001 --clear-groups "$@"; }
chmod 755 "$tmp"/nodes* "$tmp"/exec* "$tmp"/every*

absent() { CM_RUNDIR=/run/nosuchcluster "$@"; }
ok 'without a cluster each call says so' absent run "$tmp/nodes" absent
ok 'to others than root too' absent run_user "$tmp/nodes" absent

cluster_up 3

# Beside all that, on another cluster, services that do not answer.
clustermatic up --name "${cluster}b" --virtual 1
also_end "${cluster}b"
other=/run/clustermatic-${cluster}b
s6-svc -p "$other/s6/nodemgr"
s6-svc -wD -T 20000 -d "$other/s6/procspace"
stands_still() { [ "$(ps -o stat= -p "$(s6-svstat -o pid "$other/s6/nodemgr")" | cut -c1)" = T ]; }
eventually 15 stands_still
CM_RUNDIR=$other timeout -k 1 60 "$tmp/every" late >"$tmp/late" 2>&1 & late=$!
on_exit+=("kill -9 $late 2>/dev/null" "s6-svc -c '$other/s6/nodemgr' 2>/dev/null")

ok 'nodes are rebooted, halted, and their states told' run "$tmp/nodes" power
ok 'root asks about nodes' run "$tmp/nodes" look
ok 'so does a program in C++' run "$tmp/nodes++" look
ok 'and one with the archive' run "$tmp/nodes-a" look
ok 'and a user' run_user "$tmp/nodes" look
ok 'calls work after fork and exec' run "$tmp/nodes" again
ok 'root changes nodes' run "$tmp/nodes" change
ok 'root changes the library list' run "$tmp/nodes" libraries
ok 'a user may not' run_user "$tmp/nodes" refused
ok 'a program on a node asks' run bpsh 0 "$tmp/nodes" there
ok 'and as a user' run_user bpsh 0 "$tmp/nodes" there

body=$CM_BUILD/tests/body
for who in root user; do
    run_as=run
    [ $who = root ] || run_as=run_user
    for what in many self files sockets forwarded not; do
        ok "$who: processes: $what" $run_as "$tmp/exec" "$body" $what
    done
done
ok 'processes in C++' run "$tmp/exec++" "$body" many
every() { # TEXT [PROGRAM IN FRONT...]
    local what=$1
    shift
    ok "$what: each call, in C" run "$@" "$tmp/every" calls
    ok "$what: and in C++" run "$@" "$tmp/every++" calls
}
every 'root on the master'
every 'root on a node' bpsh 0
chmod 755 "$tmp"
as_user=(setpriv --reuid 61001 --regid 61001 --clear-groups)
every 'a user on the master' "${as_user[@]}"
every 'a user on a node' "${as_user[@]}" bpsh 0
echo 'int f(void); int f(void) { return 0; }' | gcc -x c -shared -o "$tmp/libgone.so" -
echo 'int f(void); int main(void) { return f(); }' |
    gcc -x c -o "$tmp/needs" - -x none -L"$tmp" -lgone
rm "$tmp/libgone.so"
ok 'errors that are rare' run "$tmp/every" rare "$tmp/needs"
ok 'no more processes for this user' run_user env ASAN_OPTIONS=detect_leaks=0 "$tmp/every" crowded
bpctl -S 0 -m 100
ok 'a user is kept off a node' run_user "$tmp/exec" "$body" denied
bpctl -S 0 -m 111
ok 'a notifier outlives the bus' run "$tmp/nodes" restart "$(pid_of busd)"

forwarders() { pgrep -r R,S,D -f "^bpfwd [0-9]+ $run/"; }
ok 'no forwarder is left' eventually 10 not forwarders
example() { gcc "${flags[@]}" -o "$tmp/everywhere" doc/examples/everywhere.c "${shared[@]}"; }
ok 'the example compiles' example
ok 'and runs a program on all nodes' has '^1: exit 3$' run "$tmp/everywhere" up sh -c 'exit 3'
wait $late
ok 'services that do not answer, or are not there' test $? = 0
grep -v '^ok' "$tmp/late" | sed 's/^/# /'

# A node that is lost while something is being started there.
kill -STOP "$(pgrep -P "$(pid_of node.1)" bpnode)"
timeout -k 1 60 "$tmp/every" lost >"$tmp/lost" 2>&1 & job=$!
starting() { bpstat -p | grep -Eq '[[:space:]]1$'; }
eventually 10 starting
s6-svc -d "$run/s6/node.1"
wait $job
ok 'a node that is lost meanwhile' test $? = 0
grep -v '^ok' "$tmp/lost" | sed 's/^/# /'
done_testing
