#!/bin/bash
# 0120-clients: bpstat, bpctl, bpevents and bpps against made-up nodes on a real bus
. tests/lib.sh

need bin/bpstat bin/bpctl bin/bpevents bin/bpps libexec/clustermatic/busd
need_root
/usr/bin/python3 -c 'import zmq, msgpack' 2>/dev/null ||
    plan_skip 'needs python3-zmq and python3-msgpack'

export CM_RUNDIR=$tmp/run CM_STATEDIR=$tmp/state
mkdir "$CM_RUNDIR" "$CM_STATEDIR"
mkfifo "$tmp/ready"
exec 9<>"$tmp/ready"
sleep 1000 & other=$!
on_exit+=('kill $other $fake $busd 2>/dev/null; wait')

start_busd() {
    "$libexec/busd" --listen 'tcp://127.0.0.1:*' --ready-fd 8 8>&9 9>&- 2>>"$tmp/busd.log" &
    busd=$!
    read -r -t 10 <&9 || { diag "$(cat "$tmp/busd.log")"; plan_skip 'busd does not start'; }
}
start_fake() {
    tests/fake-services.py $other 8 "$@" 8>&9 9>&- >"$tmp/asked" 2>"$tmp/fake.log" &
    fake=$!
    read -r -t 10 <&9 || diag "$(cat "$tmp/fake.log")"
}
fake='' busd=''
start_busd
start_fake

# --- bpstat: the tables of the manual, byte for byte

cat >"$tmp/compact" <<'END'
Node(s)                            Status          Mode       User     Group   
6                                  boot            ---x------ root     root    
2                                  down            ---------- root     root    
7                                  error           ---x------ root     root    
0-1                                up              ---x--x--x root     root    
3                                  up              ---x------ nobody   nogroup 
5,8                                up              ---x--x--x root     root    
9                                  up              ---x--x--- #424242  users   
END
cat >"$tmp/long" <<'END'
Node Address         Status       Mode          User       Group
   0 10.0.0.10       up           ---x--x--x	root       root      
   2 0.0.0.0         down         ----------	root       root      
END
cat >"$tmp/explain" <<'END'
Node State           Reach Work Since               By           Why
   2 down            no    no   2025-06-15 15:06:40 nodemgr      no beat for 10 s; no work: Node is down
   7 error           yes   no   2025-06-15 15:06:40 root         no ?[2J disk; no work: no execute permission
END
prints() { # FILE CMD...: exactly this file
    local want=$1
    shift
    "$@" | cmp - "$want"
}
lines() { "$@" | paste -sd' '; }
json() { # EXPR CMD...: of what CMD prints, as v
    local expr=$1
    shift
    "$@" | python3 -c 'import json, sys
print(eval(sys.argv[1], {"v": json.load(sys.stdin)}))' "$expr"
}

ok 'bpstat prints the compact table' prints "$tmp/compact" bpstat
ok 'and the long one' prints "$tmp/long" bpstat -l 2 0
ok 'and why a node is as it is' prints "$tmp/explain" env TZ=UTC bpstat -x 7,2
ok '-a' is '10.0.0.10 0.0.0.0' lines bpstat -a 2 0
ok '-s, by number' is 'up up down boot' lines bpstat -s 0,6,2,1
ok '-O keeps order and duplicates' is '3 1 1' lines bpstat -nO 3,1 1
ok '-R turns the order' is '9 8 5 3 1 0' lines bpstat -nR up
ok '-S sorts by state' is '6 2 7 0' lines bpstat -nS 0,2,6,7
ok '-t counts' is 6 bpstat -t up
ok 'none are counted too' is 0 bash -c 'bpstat -t unavailable 2>/dev/null; true'
ok 'but are an error' fails_with 'no node is in state unavailable' bpstat -t unavailable
ok 'with a header' is 'Node(s)' bash -c 'bpstat unavailable 2>/dev/null | cut -d" " -f1'
ok 'the right word is blamed' fails_with '"uq" names no node' bpstat 0 uq
ok 'an unknown node says how many there are' fails_with 'only 9 nodes' bpstat 77
ok 'a wrong option is a mistake' exits 2 bpstat -q
ok '-A finds an address' is 3 bpstat -A 10.0.0.13
ok 'and a name' is 5 bpstat -A n5
ok 'or says that it is nobody' fails_with 'No node with address 192.0.2.1' bpstat -A 192.0.2.1
ok 'or unknown' fails_with 'Unknown host: no.such.invalid' bpstat -A no.such.invalid
ok '--json has every field' is "no beat for 10 s/no/---x------/r1/04000000" \
    json '"/".join([v[0]["why"], v[0]["reach"], v[0]["mode_text"], v[0]["attrs"]["rack"],
          v[0]["attrs"]["cpus"]["hex"]])' bpstat --json 2
ok '--json -x says where work may go' is '[True, False]' \
    json '[n["work"] for n in v]' bpstat --json -x 0,3
ok '--json -t' is '{"total":9}' bpstat --json -t
ok '-p lists processes' is "PID	Node 1	3 $other	5" bash -c \
    'bpstat -p | (read -r h; echo "$h"; sort -n) | paste -sd" "'
ok '-p of some nodes' is "PID	Node $other	5" lines bpstat -p 5
ok '-P with ps -ef' has "^5	[^ ]+ +$other .*sleep 1000" bash -c 'ps -ef | bpstat -P'
ok '-P with ps aux' has "^5	[^ ]+ +$other .*sleep 1000" bash -c 'ps aux | bpstat -P'
ok '-P leaves others without a node' has '^	' bash -c 'ps aux | bpstat -P'
ok '-P without a header says so' fails_with 'no word PID' bash -c 'echo 1 2 | bpstat -P'
ok 'a full disk is noticed' fails_with 'No space left' bash -c 'bpstat >/dev/full'
ok 'no cluster: says how to start one' fails_with 'clustermatic up' \
    env CM_RUNDIR="$tmp/none" bpstat
ok 'an ordinary user sees the nodes' prints "$tmp/compact" as 65534 bpstat

: >"$tmp/live"
bpstat -U -n 0 -s >>"$tmp/live" & live=$!
ok '-U prints at once' eventually 5 grep -q up "$tmp/live"
kill -USR1 $fake
ok 'and when something changes' eventually 5 grep -q error "$tmp/live"
kill $live
ok '-U clears the screen' is 2 grep -c $'^\e\\[H\e\\[J' "$tmp/live"
kill -USR1 $fake

# --- bpctl

ok 'bpctl acts from left to right' bpctl -S 0,1 -s error --why 'it is old' -m 110 -S 3 -R
ok 'with one request for each' is "nodemgr.set nodes=[0, 1] state=error why=it is old
nodemgr.set nodes=[0, 1] mode=72
nodemgr.control nodes=[3] action=reboot" cat "$tmp/asked"
ok 'a node that refuses is named' fails_with '^2: Node is down$' bpctl -S 1,2 -P
ok 'and the others were asked' has 'nodes=\[1, 2\] action=pwroff' cat "$tmp/asked"
ok 'a node is asked once' bpctl -S 3,3 -H
ok 'however often it is named' has 'nodes=\[3\] action=halt' cat "$tmp/asked"
ok 'owner and group by name' bpctl -S 0 -u nobody -g nogroup
ok 'become numbers' has 'uid=65534' cat "$tmp/asked"
: >"$tmp/asked"
ok 'an action without nodes is a mistake' exits 2 bpctl -m 111
ok 'and says so' fails_with 'name the nodes first' bpctl -R -S 0
ok 'no octal number' fails_with 'Invalid number: 9' bpctl -S 0 -R -m 9
ok 'no such user' fails_with 'Invalid user id: no-one' bpctl -S 0 -R -u no-one
ok 'no such group' fails_with 'Invalid user id: no-one' bpctl -S 0 -R -g no-one
ok 'no address to connect to' fails_with 'Invalid argument: a:b' bpctl -S 0 -R --reconnect a:b
ok 'a reason without a state' exits 2 bpctl -S 0 -R --why x
ok 'a wrong word' exits 2 bpctl -S 0 -R 1
ok 'no such state' fails_with 'names no node' bpctl -S uq -R
ok 'after none of these anything was done' is '' cat "$tmp/asked"
ok '--pending lists' has '^a{20}B{20} 198.18.1.9 +02:c6:12:00:00:09 .* no node has' bpctl --pending
ok '--pending --json' is 198.18.1.9 json 'v[0]["addr"]' bpctl --pending --json
ok 'the beginning of a key is enough' bpctl -S 9 --accept aaa
ok 'and stands for the whole' has "key=a{20}B{20} node=9" cat "$tmp/asked"
ok 'the whole of one is taken as it is' bpctl -S 8 --accept 1234567890123456789012345678901234567890
ok 'and passed on' has 'key=(1234567890){4} node=8' cat "$tmp/asked"
ok 'an unknown key is refused' fails_with 'no waiting key' bpctl -S 9 --accept zz
ok 'a key is one node'"'"'s' fails_with "one node's" bpctl -S 8,9 --accept aaa
ok '--forget' bpctl -S 9 --forget
ok 'is passed on' has 'nodemgr.forget node=9' cat "$tmp/asked"

# --- bpps

cat >"$tmp/tree" <<'END'
NODE     PID USER     STATE        TIME       RSS COMMAND
   0       1 root     S         1:03.50       100 bpinit
   0      70 root     S         1:03.50      7000   sh -c a ?b
   0      71 nobody   R         1:03.50      7100     b
   0      75 root     Z         1:03.50      7500   [gone]
   1       1 root     S         1:03.50       100 bpinit
   1      71 root     S         1:03.50      7100 c
END
ok 'bpps prints a tree' prints "$tmp/tree" bpps --tree
ok 'of one user' is 71 bash -c 'bpps -u nobody | awk "NR > 1 { print \$2 }"'
ok 'of some nodes' is '1 71' lines bash -c 'bpps 1 | awk "NR > 1 { print \$2 }"'
ok 'a missing node is named' fails_with '^2: Node is down$' bpps -a
ok 'after what the others said' has '^   1 ' bash -c 'bpps -a 2>/dev/null; true'
ok 'an unknown user is refused' fails_with 'Invalid user id: no-one' bpps -u no-one
ok '--json keeps arguments apart' is "['sh', '-c', 'a \\x1bb']" \
    json 'v["procs"][1]["args"]' bpps --json 0

# --- bpevents

watch_events() { # OPTION...: bpevents in the background, which misses nothing any more
    : >"$tmp/events"
    bpevents "$@" --ready-fd 8 8>&9 9>&- >"$tmp/events" 2>"$tmp/gaps" & events=$!
    read -r -t 10 <&9
}
watch_events --count 2
kill -USR1 $fake
eventually 5 grep -q seq "$tmp/events"
kill -USR2 $fake
ok 'bpevents ends after so many' wait $events
ok 'with a line for each' is 'node.state nodemgr 1750000000000 0 error' \
    json '" ".join(str(v[k]) for k in ("topic", "service", "time", "node", "state"))' \
    head -n 1 "$tmp/events"
ok 'and tells of those that were lost' is '{"gap":{"service":"nodemgr","from":4,"to":6}}' \
    cat "$tmp/gaps"
watch_events --filter launch. --filter node.own --timeout 1
kill -USR1 $fake
ok '--timeout ends it' wait $events
ok '--filter leaves out the rest' is '' cat "$tmp/events"
ok 'too few in time is a failure' exits 1 bpevents -c 1 -t 1
ok 'a wrong count is a mistake' exits 2 bpevents -c 0

doc/monitor/watch-nodes.py 1 >"$tmp/monitor" & monitor=$!
poke() { kill -USR1 $fake; not kill -0 $monitor 2>/dev/null; }
ok "a site's own monitor gets them too" eventually 10 poke
ok 'in another language' has 'nodemgr [0-9]+ node.state node=0 state=' cat "$tmp/monitor"

watch_events --count 1
kill $busd $fake
wait $busd $fake 2>/dev/null
start_busd
start_fake
poke() { kill -USR1 $fake; not kill -0 $events 2>/dev/null; }
ok 'bpevents lives through a restart of the bus' eventually 15 poke

# --- many nodes: a full row goes on in the next

kill $fake
wait $fake 2>/dev/null
start_fake 40
cat >"$tmp/wide" <<'END'
Node(s)                            Status          Mode       User     Group   
1,3,5,7,9,11,13,15,17,19,21,23,25  boot            ---x--x--x root     root    
27,29,31,33,35,37,39               boot            ---x--x--x root     root    
0,2,4,6,8,10,12,14,16,18,20,22,24  up              ---x--x--x root     root    
26,28,30,32,34,36,38               up              ---x--x--x root     root    
END
ok 'numbers that fill a row go on in the next' prints "$tmp/wide" bpstat
on_terminal() { # COLUMNS CMD...: on a terminal of this width
    local columns=$1
    shift
    script -qec "stty cols $columns; $*" /dev/null </dev/null | tr -d '\r'
}
ok 'a terminal that is too narrow is said to be' has '^bpstat: Window to small.$' \
    on_terminal 56 bpstat
ok 'a wide one is used' is 3 bash -c "$(declare -f on_terminal); on_terminal 200 bpstat | wc -l"
done_testing
