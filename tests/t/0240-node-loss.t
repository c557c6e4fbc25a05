#!/bin/bash
# 0240-node-loss: a node that dies, one that is cut off, one that is restarted
# shellcheck disable=SC2016 # what is in quotes is for the shells on the nodes
. tests/lib.sh

need bin/bpsh bin/bpstat bin/bpctl bin/bpps bin/bpevents tests/body libexec/clustermatic/bpvnode \
    libexec/clustermatic/nodemgr libexec/clustermatic/procspace libexec/clustermatic/iofwd
body=$CM_BUILD/tests/body
cat >"$tmp/config" <<'END'
interface cm0 198.18.0.1 255.254.0.0
iprange 0 198.18.1.0 198.18.1.3
pingtimeout 6
END
chmod 644 "$tmp/config"
cluster_up 4 --config "$tmp/config"

node_is() { [ "$(bpstat -s "$1")" = "$2" ]; }
reach_is() { [ "$(bpstat -x "$1" | awk 'NR == 2 { print $3 }')" = "$2" ]; }
node_json() { bpstat --json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)[0][sys.argv[1]])' "$2"; }
space() { node_json "$1" space; }
# The pid of bpinit of a node, as the master sees it: a child of its machine.
bpinit() { pgrep -P "$(pid_of "node.$1")" -x bpinit; }
gone() { ! kill -0 "$1" 2>/dev/null; }
link() { nsenter -t "$(pid_of busd)" -n ip link set "cmv$1" "$2"; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }

mkfifo "$tmp/in" "$tmp/ready"
exec 7<>"$tmp/in" 9<>"$tmp/ready"
bpevents -f node. --ready-fd 9 >"$tmp/events" 7>&- & events=$!
on_exit+=("kill $events 2>/dev/null")
read -r -t 10 <&9
exec 9>&-
# States that the events told of a node since the last call, in order.
mark=0
states() {
    tail -n "+$((mark + 1))" "$tmp/events" | python3 -c 'import json, sys
last = None
for line in sys.stdin:
    e = json.loads(line)
    if e["topic"] == "node.state" and e["node"] == int(sys.argv[1]) and e["state"] != last:
        last = e["state"]
        print(last)' "$1" | paste -sd' '
}
new_events() { mark=$(wc -l <"$tmp/events"); }
event() { # TOPIC NODE: one came since the mark
    tail -n "+$((mark + 1))" "$tmp/events" | grep -q "\"topic\":\"$1\".*\"node\":$2\b"
}
lost_because() { # NODE WHY
    tail -n "+$((mark + 1))" "$tmp/events" |
        grep "\"topic\":\"node.lost\".*\"node\":$1\b" | grep -F "\"why\":\"$2\""
}
declare -A job
start() { # NAME NODES: body wait there, in the background
    bpsh -L "$2" "$body" wait <"$tmp/in" >"$tmp/$1.out" 2>"$tmp/$1.err" 7>&- &
    job[$1]=$!
    on_exit+=("kill -9 $! 2>/dev/null")
    eventually 10 grep -qs rank "$tmp/$1.out"
}
ends() { # NAME STATUS: within 15 s
    local rc
    eventually 15 gone "${job[$1]}" || { echo 'it still runs'; return 1; }
    wait "${job[$1]}"
    rc=$?
    [ $rc = "$2" ] || { echo "status $rc, want $2"; cat "$tmp/$1.err"; return 1; }
}

# --- the node's bpinit is killed

start dies 1
start both 1,2
start stays 2
new_events
was=$(space 1)
began=$(now_ms)
ok 'bpinit of a node is killed' kill -KILL "$(bpinit 1)"
ok 'its process has died by a signal' ends dies 255
ok 'as bpsh says' grep -q 'on node 1 exited abnormally' "$tmp/dies.err"
took=$(($(now_ms) - began))
diag "after $took ms"
ok 'the loss is announced' eventually 5 event node.lost 1
ok 'for what it is, and not because pingtimeout was over' lost_because 1 'it has started afresh'
ok 'the node comes up again' eventually 15 node_is 1 up
ok 'its states were told' is 'down boot up' states 1
ok 'it is a new space' not is "$was" space 1
ok 'with nothing in it' not grep -q '/body' <(bpps 1)
ok 'and it works' is n1 bpsh 1 hostname
ok 'another launch has lost the part that was there' eventually 5 \
    grep -q 'on node 1 exited abnormally' "$tmp/both.err"
ok 'but runs on elsewhere' grep -q '/body wait' <(bpps 2)
ok 'a launch elsewhere does not notice' kill -0 "${job[stays]}"

# --- the link is down for less than the grace

start cut 3
bpsh -L 3 sh -c 'i=0; while [ $i -lt 400 ]; do i=$((i + 1)); echo $i; read -r x; done; exit 6' \
    < <(yes | while read -r x && sleep 0.01; do echo "$x"; done) >"$tmp/lines" 2>"$tmp/lines.err" 7>&- &
job[lines]=$!
on_exit+=("kill -9 $! 2>/dev/null")
eventually 10 test -s "$tmp/lines"
new_events
was=$(space 3)
ok 'the cable of a node is cut' link 3 down
ok 'it is late soon' eventually 6 reach_is 3 late
ok 'and takes no work then' fails_with '^3: .*(late|heard)' bpsh 3 true
ok 'but keeps its state' node_is 3 up
ok 'the cable is mended' link 3 up
ok 'it is back' eventually 5 reach_is 3 yes
ok 'in the state in which it was' is up bpstat -s 3
ok 'with the same space' is "$was" space 3
ok 'nothing was lost' not event node.lost 3
seq 1 400 >"$tmp/want"
ok 'what ran meanwhile ends as it should' ends lines 6
ok 'its output is all there' cmp "$tmp/want" "$tmp/lines"
ok 'the other runs on' kill -0 "${job[cut]}"

# --- and for longer

new_events
ok 'the cable is cut again' link 3 down
ok 'the node is down after pingtimeout' eventually 15 node_is 3 down
silent() { tail -n "+$((mark + 1))" "$tmp/events" | grep -q '"node":3,"state":"down".*"why":"no word from it'; }
ok 'for its silence' silent
ok 'a start there fails' fails_with '^3: Node is down' bpsh 3 true
ok 'its process counts as killed' ends cut 255
ok 'which is announced' event node.lost 3
link 3 up
ok 'when the cable is mended it comes up' eventually 25 node_is 3 up
ok 'afresh' not is "$was" space 3
ok 'with nothing in it' not grep -q '/body' <(bpps 3)
ok 'and works' is n3 bpsh 3 hostname

# --- restart and halt by hand

start reboots 1
was=$(space 1)
pid=$(bpinit 1)
ok 'bpctl -R' bpctl -S 1 -R
ok 'ends what runs there' ends reboots 255
ok 'really ends the machine' eventually 10 gone "$pid"
ok 'which comes up' eventually 15 node_is 1 up
ok 'anew' not is "$was" space 1
ok 'it works' is n1 bpsh 1 hostname
start halts 1
pid=$(bpinit 1)
ok 'bpctl -H' bpctl -S 1 -H
ok 'ends what runs there too' ends halts 255
ok 'and the machine' eventually 10 gone "$pid"
ok 'the node is down' eventually 10 node_is 1 down
machine_up() { [ "$(s6-svstat -o up "$run/s6/node.1")" = true ]; }
ok 'its machine is off' eventually 10 not machine_up
sleep 1.5 # longer than the supervisor takes to start anything again
ok 'and stays so' not machine_up

# --- all the while

exec 7>&-
ok 'the launch on node 2 ends as if nothing had been' ends stays 0
ok 'the one that lost a part says so in its status' ends both 255
done_testing
