#!/bin/bash
# 0525-trusted-network: with "trustednetwork yes" files, programs, processes and long
# output go between machines in clear text, and nothing else does; without it nothing does
# shellcheck disable=SC2317 # functions are called by ok and eventually
. tests/lib.sh
. tests/moves.sh

need_root
need bin/bpcp bin/bpsh lib/libbproc.so libexec/clustermatic/bprestore
program() { # FILE: it says what it is called with, and holds the text that is looked for
    printf '%s\n' '#include <stdio.h>' "static const char text[] = \"$1 $mark\";" \
        'int main(int n, char **v) { puts(n > 1 ? v[1] : text); return 0; }' >"$tmp/p.c"
    gcc -o "$tmp/$1" "$tmp/p.c"
}
go=$tmp/go
ok 'the program compiles' gcc -O1 -mfma -mavx -pthread -I"$CM_BUILD/include" -I. -o "$go" \
    tests/libbproc/go.c -L"$libdir" -lbproc -lm
export LD_LIBRARY_PATH=$libdir
printf 'interface cm0\niprange 0 198.18.1.0 198.18.1.2\n' >"$tmp/config"
cluster_up 3 --config "$tmp/config"

# seen TEXT CMD...: does CMD work, and does the text go by in the master's network? 1: it
# does not go by. The last packet is ours, so all before it has been looked at.
seen() {
    local text=$1 sniffer end=End$RANDOM$RANDOM
    shift
    rm -f "$tmp/ready"
    at -1 tests/sniff.py "$text" "$end" "$tmp/ready" & sniffer=$!
    on_exit+=("kill -KILL $sniffer 2>/dev/null")
    eventually 10 test -e "$tmp/ready" || return 2
    "$@" >"$tmp/said" 2>&1 || { cat "$tmp/said"; return 3; }
    at -1 bash -c "echo $end >/dev/udp/198.18.1.0/9"
    wait "$sniffer"
}
hidden() { # TEXT CMD...
    seen "$@"
    [ $? = 1 ]
}
mark=Mark$RANDOM$RANDOM$RANDOM
for ((i = 0; i < 50000; i++)); do echo "$mark $i"; done >"$tmp/file"
for ((i = 0; i < 16; i++)); do cat "$tmp/file"; done >"$tmp/long"
sum=$(sha256sum <"$tmp/long")
copy() { bpcp "$tmp/file" 0:/tmp/file && cmp <(bpsh 0 cat /tmp/file) "$tmp/file"; }
long() { bpcp "$tmp/long" 1:/tmp/long && [ "$(bpsh 1 cat /tmp/long | sha256sum)" = "$sum" ]; }
in_memory() { MARK=$mark$mark "$go" 8 0 1 -1; }
fresh=0
fetch() { program "p$((++fresh))" && [ "$(bpsh 0-2 "$tmp/p$fresh" | grep -c "^p$fresh $mark$")" = 3 ]; }

# --- as it is by itself

ok 'a file is not seen' hidden "$mark" copy
ok 'nor long output' hidden "$mark" long
ok 'nor a process that moves' hidden "$mark" in_memory
ok 'nor a program' hidden "$mark" fetch

# --- the network is trusted

echo 'trustednetwork yes' >>"$tmp/config"
ok 'it is trusted' clustermatic reload
ok 'a file is seen' eventually 5 seen "$mark" copy
ok 'long output, too' seen "$mark" long
ok 'a process' seen "$mark" in_memory
ok 'a program, which is started everywhere' seen "$mark" fetch
said() { [ "$(bpsh 0 "$tmp/p1" "$1")" = "$1" ]; }
ok 'what a program is called with is not, nor what it says' hidden Argument$mark said Argument$mark
input() { [ "$(echo "$1" | bpsh 0 cat)" = "$1" ]; }
ok 'nor what is typed' hidden Input$mark input Input$mark

# --- services that come anew know it, too

for service in procspace iofwd nodemgr; do
    ok "$service is started again" clustermatic restart $service
done
ok 'a program is seen' eventually 5 seen "$mark" fetch
ok 'long output' eventually 5 seen "$mark" long
kill -KILL "$(agent 0)"
ok 'a file, by an agent that was killed' eventually 5 seen "$mark" copy

# --- what makes no sense

sed -i 's/^trustednetwork.*/trustednetwork perhaps/' "$tmp/config"
ok 'perhaps: refused, with the line' fails_with "$tmp/config:3: trustednetwork: \"perhaps\"; want yes or no" \
    clustermatic reload
ok 'and all stays as it is' seen "$mark" copy

# --- and no more

sed -i 's/^trustednetwork.*/trustednetwork no/' "$tmp/config"
ok 'it is not trusted any more' clustermatic reload
ok 'a file is not seen' eventually 5 hidden "$mark" copy
ok 'nor a process' hidden "$mark" in_memory
ok 'nor a program' hidden "$mark" fetch
ok 'nor long output' hidden "$mark" long
done_testing
