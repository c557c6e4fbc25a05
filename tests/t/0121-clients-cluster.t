#!/bin/bash
# 0121-clients-cluster: bpstat, bpctl, bpevents and bpps on nodes that really run
. tests/lib.sh

need bin/bpstat bin/bpctl bin/bpevents bin/bpps bin/bpsh libexec/clustermatic/bpvnode \
    libexec/clustermatic/nodemgr libexec/clustermatic/procspace libexec/clustermatic/iofwd
cluster_up 4

cat >"$tmp/up" <<'END'
Node(s)                            Status          Mode       User     Group   
0-3                                up              ---x--x--x root     root    
END
prints() { # FILE CMD...: exactly this file
    local want=$1
    shift
    "$@" | cmp - "$want"
}
json() { # EXPR CMD...: of what CMD prints, as v
    local expr=$1
    shift
    "$@" | python3 -c 'import json, sys
print(eval(sys.argv[1], {"v": json.load(sys.stdin)}))' "$expr"
}
state_is() { [ "$(bpstat -s "$1")" = "$2" ]; }
space() { json 'v[0]["space"]' bpstat --json "$1"; }

ok 'four nodes are up, open to everybody' prints "$tmp/up" bpstat
ok 'and may take work' is 4 bash -c 'bpstat -x | grep -c " up  *yes   yes "'
ok 'a node is found by its address' is 2 bpstat -A 198.18.1.2

# --- changes

: >"$tmp/live"
bpstat -U -s 3 >>"$tmp/live" & live=$!
on_exit+=("kill $live 2>/dev/null")
eventually 5 grep -q up "$tmp/live"
ok 'a node is taken out of use' bpctl -S 3 -s unavailable --why 'disk is being changed'
ok 'bpstat -U shows it at once' eventually 2 grep -q unavailable "$tmp/live"
kill $live
ok 'bpstat -x says why and who' has '3 unavailable .* root +disk is being changed' bpstat -x 3
ok 'and is put back' bpctl -S 3 -s up
ok 'owner and mode are set' bpctl -S 3 -u nobody -m 100
ok 'and shown' has '^3 +up +---x------ nobody +root' bpstat
ok 'for others there is no work now' has '3 up +yes +no ' as 12345 bpstat -x 3
ok 'but for the owner there is' has '3 up +yes +yes ' as 65534 bpstat -x 3
ok 'who may open it to everybody' as 65534 bpctl -S 3 -m 111
ok 'but not give it away' fails_with '^3: Operation not permitted' as 65534 bpctl -S 3 -u 0
ok 'nor restart it' fails_with 'only root' as 65534 bpctl -S 3 -R
ok 'bits beside execute are refused' fails_with '^3: Operation not permitted' bpctl -S 3 -m 777
ok 'back to root' bpctl -S 3 -u root

# --- processes

# the shell's own child is a shell too: nothing else is there to run
mkfifo "$tmp/hold"
# shellcheck disable=SC2016
bpsh 1 sh -c 'i=0; while [ $i -lt 150000 ]; do i=$((i + 1)); done
    (read -r x; true); true' <>"$tmp/hold" & job=$!
on_exit+=("kill $job 2>/dev/null")
shells() { [ "$(bpps 1 | grep -c ' sh -c ')" = "$1" ]; }
ok 'bpps shows a child that nobody announced' eventually 10 shells 2
ok 'below its parent' is 'True' json \
    'any(p["ppid"] == q["pid"] and p["comm"] == q["comm"] == "sh"
         for p in v["procs"] for q in v["procs"])' bpps --json
ok 'with real processor time' is 'True' json \
    'any(p["comm"] == "sh" and p["utime_us"] > 10000 for p in v["procs"])' bpps --json
ok 'and real memory' is 'True' json 'all(p["rss_kb"] > 0 for p in v["procs"])' bpps --json 1
ghost=$(bpstat -p 1 | awk 'NR == 2 { print $1 }')
ok 'the ghost is a child of bpsh' is "$job" ps -o ppid:1= -p "$ghost"
ok 'ps shows the node beside it' has "^1	.* $ghost " bash -c 'ps -ef | bpstat -P'
ok 'no other user has processes there' is 1 bash -c 'bpps -u 12345 | wc -l'

# --- restart and halt

mkfifo "$tmp/ready"
exec 9<>"$tmp/ready"
bpevents -f node.state -f node.lost --ready-fd 9 -t 60 >"$tmp/events" & events=$!
on_exit+=("kill $events 2>/dev/null")
read -r -t 10 <&9
was=$(space 1)
ok 'a node is restarted' bpctl -S 1 -R
ok 'what ran there is gone' exits 255 wait $job
ok 'it comes back' eventually 20 state_is 1 up
ok 'as a new space' not is "$was" space 1
ok 'whose end was told' grep -q "\"topic\":\"node.lost\".*\"space\":\"$was\"" "$tmp/events"
ok 'and its states in order' is 'down boot up' bash -c \
    "grep node.state '$tmp/events' | sed 's/.*\"state\":\"\\([a-z]*\\)\".*/\\1/' | paste -sd' '"
ok 'another one is halted' bpctl -S 2 -H
ok 'and is down' eventually 10 state_is 2 down
ok 'on request' has '2 down +no +no .* root +halt' bpstat -x 2
ok 'nothing can be changed there' fails_with '^2: Operation not permitted' bpctl -S 2 -m 111
ok 'for good' eventually 10 grep -q 'bpvnode: n2: halted' "$logs/node.2"
ok 'bpps names it, and shows the others' fails_with '^2: Node is down' bpps -a
ok 'and is content without' bpps
done_testing
