#!/bin/bash
# 0245-reconnect: bpctl --reconnect: nodes take another way to the master, and what
# runs on them does not notice; ways that lead nowhere are refused with the reason
. tests/lib.sh

need bin/bpctl bin/bpsh libexec/clustermatic/bpvnode
need_root
cat >"$tmp/config" <<END
interface cm0
iprange 0 198.18.1.0 198.18.1.2
pingtimeout 30
END
cluster_up 3 --config "$tmp/config"

# Another address of the master's, which its configuration names then.
in_cluster() { nsenter -t "$(pid_of nodemgr)" -n "$@"; }
ok '(the master has another interface)' in_cluster ip link add alt0 type bridge
in_cluster ip address add 198.18.9.1/32 dev alt0
in_cluster ip link set alt0 up
sed -i 's/^interface cm0/&\ninterface alt0/' "$tmp/config"
ok '(which is in the configuration)' clustermatic reload
for service in busd iofwd procspace; do ok "($service listens there)" clustermatic restart $service; done
all_up() { [ "$(bpstat -t up)" = 3 ]; }
ok '(all are up)' eventually 30 all_up

# way N PORT: where the agent of node N is connected to, and from where
way() { nsenter -t "$(agent "$1")" -n ss -Htn state established "dport = $2" | awk '{ print $3, $4 }'; }
goes_by() { way "$1" 2223 | grep -qE "$2"; }
space() { tests/ask.py -e 'v[0]["space"]' nodemgr.list "{\"spec\": \"$1\"}"; }
ok 'a node is connected as ever' eventually 10 goes_by 0 ' 198.18.0.1:2223$'

# One that reads and writes meanwhile.
before=$(space 0)
mkfifo "$tmp/in"
bpsh 0 cat <"$tmp/in" >"$tmp/out" 2>&1 &
job=$!
exec 7>"$tmp/in"
echo before >&7
ok '(a process that reads and writes)' eventually 10 grep -qx before "$tmp/out"
old=$(agent 0)
ok 'bpctl --reconnect: to the other address' bpctl -S 0 --reconnect 198.18.9.1
ok 'it goes there' eventually 20 goes_by 0 ' 198.18.9.1:2223$'
ok 'by another agent' not is "$old" agent 0
echo after >&7
ok 'its process goes on reading and writing' eventually 20 grep -qx after "$tmp/out"
streams_by() { way 0 2224 | grep -q ' 198.18.9.1:2224$'; }
ok 'by that way too' streams_by
exec 7>&-
ok 'and ends as ever' wait $job
ok 'with every byte' is $'before\nafter' cat "$tmp/out"
ok 'the node was not lost for a moment' is "$before" space 0
ok 'it is up' is up bpstat -s 0
kill -9 "$(agent 0)"
ok 'an agent that is killed comes back that way' eventually 20 goes_by 0 ' 198.18.9.1:2223$'
ok 'and works' is n0 bpsh 0 hostname

# Programs that are being started as an agent leaves: its successor starts them.
starts() {
    local round pid pids
    for round in $(seq 15); do
        pids=()
        for pid in 1 2 3; do
            timeout 60 bpsh -n 0-2 true >>"$tmp/starts.$round" 2>&1 & pids+=($!)
        done
        bpctl -S 0-2 --reconnect 198.18.9.1 >>"$tmp/bpctl" 2>&1 # refused by who is away
        for pid in "${pids[@]}"; do wait "$pid" || { cat "$tmp/starts.$round"; return 1; }; done
    done
}
ok 'what is started meanwhile is started' starts
ok 'whose agent is away is not said to be down' not grep 'Node is down' "$tmp/bpctl"
settled() { # NODE MASTER: asked while nothing else changes, and there
    local it
    it=$(agent "$1")
    bpctl -S "$1" --reconnect "$2" && [ -n "$it" ] && [ "$(agent "$1")" = "$it" ] &&
        eventually 20 not is "$it" agent "$1" && eventually 20 goes_by "$1" " $2:2223\$"
}
settle() {
    eventually 20 settled 0 198.18.9.1 && eventually 20 settled 1 198.18.0.1 &&
        eventually 20 settled 2 198.18.0.1
}
ok '(and all are where they were)' settle

# --- from an address of its own

nsenter -t "$(agent 1)" -n ip address add 198.18.9.101/15 dev eth0
ok '-: from another address of its own' bpctl -S 1 --reconnect 198.18.0.1:2223,198.18.9.101
ok 'it comes from there' eventually 20 goes_by 1 '^198.18.9.101:[0-9]* 198.18.0.1:2223$'
known() { [ "$(bpstat -a "$1")" = "$2" ]; }
ok 'which the master knows' eventually 20 known 1 198.18.9.101
ok 'it works' is n1 bpsh 1 hostname

# what only libbproc can say: master's address, any port; its own address, as it is
if [ -n "${CM_SAN:-}" ]; then
    skip 'bproc_nodereconnect() does the same' 'python cannot load a library with sanitizers'
else
    ok 'bproc_nodereconnect()' /usr/bin/python3 -c '
import ctypes, socket, struct, sys
lib = ctypes.CDLL(sys.argv[1])
to = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton("198.18.9.1"))
sys.exit(lib.bproc_nodereconnect(1, to, len(to), None, 0) != 0)' "$CM_BUILD/lib/libbproc.so"
    ok 'does the same' eventually 20 goes_by 1 '^198.18.9.101:[0-9]* 198.18.9.1:2223$'
fi

# --- ways that lead nowhere

stays() { goes_by 2 ' 198.18.0.1:2223$' && is "$untouched" agent 2; }
untouched=$(agent 2)
ok 'nobody listens there' fails_with '198.18.9.1:4999: Connection refused; the node stays with 198.18.0.1:2223' \
    bpctl -S 2 --reconnect 198.18.9.1:4999
ok 'no such address' fails_with '198.18.77.77:2223: (No route to host|Connection timed out|Host is unreachable)' \
    bpctl -S 2 --reconnect 198.18.77.77
ok 'an address that the node does not have' fails_with 'from 198.18.1.99:0: Cannot assign' \
    bpctl -S 2 --reconnect 198.18.0.1:2223,198.18.1.99
ok 'no address' fails_with "nowhere: want MASTER" bpctl -S 2 --reconnect nowhere
ok 'a user' fails_with 'permitted|root|privilege' as 11111 bpctl -S 2 --reconnect 198.18.9.1
ok 'after all that the node is where it was' stays

# Somebody listens, who is not the master.
nsenter -t "$(pid_of nodemgr)" -n /usr/bin/python3 -c '
import socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("198.18.9.1", 4999)); s.listen(); print("listening", flush=True); time.sleep(600)' >"$tmp/false" 2>&1 &
on_exit+=("kill $! 2>/dev/null")
ok '(somebody who is not the master)' eventually 10 grep -q listening "$tmp/false"
before=$(space 2)
ok 'is tried' bpctl -S 2 --reconnect 198.18.9.1:4999
left() { [ "$(agent 2)" != "$untouched" ]; }
ok '(the node has gone there)' eventually 20 left
ok 'and left again' eventually 40 goes_by 2 ' 198.18.0.1:2223$'
ok 'which the log says' grep -q 'does not answer at 198.18.9.1:4999: back to where it was' "$logs/node.2"
ok 'the node was not lost' is "$before" space 2

# --- a new life begins with the old way

ok 'a reboot' bpctl -S 0 -R
fresh() { [ "$(space 0)" != "" ] && [ "$(bpstat -s 0)" = up ] && goes_by 0 ' 198.18.0.1:2223$'; }
ok 'forgets it' eventually 30 fresh
ok 'the other nodes are up' is 3 bpstat -t up
done_testing
