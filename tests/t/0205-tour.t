#!/bin/bash
# 0205-tour: what `make demo` shows, from the first line to the last
. tests/lib.sh

need_root
need bin/bpsh bin/bpstat bin/bpps bin/bjssub libexec/clustermatic/sched libexec/clustermatic/bpvnode libexec/clustermatic/nodemgr \
    libexec/clustermatic/procspace libexec/clustermatic/iofwd
cluster=t$$
names+=("$cluster")
use_cluster "$cluster"

tour() { timeout -k 5 120 doc/demo.sh >"$tmp/tour" 2>&1 || { cat "$tmp/tour"; return 1; }; }
ok 'the tour works' tour
shows() { grep -Eq -- "$1" "$tmp/tour" || { echo "no line like: $1"; cat "$tmp/tour"; return 1; }; }
ready() { grep -E '^[a-z]+ +ready +[0-9]+ ' "$tmp/tour" | cut -d' ' -f1 | sort; }
for service in busd nodemgr procspace iofwd; do
    ok "$service is ready" has "^$service\$" ready
done
ok 'and no service is not' not grep -E '^[a-z]+ +(down|starting|missing|paused) ' "$tmp/tour"
ok 'four nodes are up' shows '^0-3  +up +---x--x--x root +root'
for n in 0 1 2 3; do
    ok "node $n says its name" shows "^  $n: n$n\$"
    ok 'and its file systems' shows "^  $n: node +[0-9]+ +[0-9]+ .* /\$"
done
ok 'none of the master' not grep -E '^  [0-3]: /dev/' "$tmp/tour"
ok 'input comes back' shows '^hello$'
ok 'and a status' shows '^\(status 7\)$'
ok 'a job is given nodes' shows '^NODES=[0-3],[0-3]$'
ok 'four ghosts are children of bpsh' is 4 grep -cE '^ *[0-9]+ S[^ ]* +sleep 1000$' "$tmp/tour"
ghosts() { sed -n 's/^ *\([0-9]*\) S[^ ]* *sleep 1000$/\1/p' "$tmp/tour" | sort -u; }
bodies() { awk '$3 == "root" && $7 == "sleep" { print $2 }' "$tmp/tour" | sort -u; }
ok 'with the pids of the processes on the nodes' diff <(ghosts) <(bodies)
ok 'one of which is killed' is 7 grep -cE ' root .* sleep 1000$' "$tmp/tour"
ok 'as bpsh says' shows '^bpsh: Child process on node [0-3] exited abnormally\.$'
ok 'whose status says so too' shows '^\(status 255\)$'
up() { bpstat -t up; }
ok 'the cluster is left running' is 4 up
ok 'with nothing on it' is '' bash -c 'bpstat -p | tail -n +2'
ok 'a second tour uses it' tour
ok 'and says so' shows '^# A cluster is up already'
ok 'an ordinary user is told what is needed' fails_with 'needs root: sudo make demo' \
    as 12345 doc/demo.sh
ok 'the command that the tour names ends it' \
    bash -c "$(sed -n 's/^ *sudo \(.*clustermatic down\)$/\1/p' "$tmp/tour")"
ok 'without a rest' not test -e "$run"
done_testing
