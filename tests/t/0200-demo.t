#!/bin/bash
# 0200-demo: what the demo shows, and every option of bpsh on nodes that run
# shellcheck disable=SC2016 # what is in quotes is for the shells on the nodes
. tests/lib.sh

need bin/bpsh bin/bpstat bin/bpctl libexec/clustermatic/bpvnode libexec/clustermatic/nodemgr \
    libexec/clustermatic/procspace libexec/clustermatic/iofwd
cluster_up 4

cat >"$tmp/table" <<'END'
Node(s)                            Status          Mode       User     Group   
0-3                                up              ---x--x--x root     root    
END
prints() { # FILE CMD...: exactly this file
    local want=$1
    shift
    "$@" | cmp - "$want"
}
lines() { "$@" | paste -sd' '; }
sorted() { "$@" | sort | paste -sd' '; }
say() { printf '%b' "$1" | "${@:2}"; } # say TEXT CMD...: TEXT is its input

# --- the tour

ok 'bpstat prints a table of four nodes' prints "$tmp/table" bpstat
ok 'df runs everywhere' bash -c "bpsh -a -L -p df >'$tmp/df'"
for n in 0 1 2 3; do
    ok "its rows carry the number of node $n" has "^  $n: node +[0-9]+ .* /\$" cat "$tmp/df"
done
ok 'and each node has its own file systems only' \
    not grep -Ev '^  [0-3]: (Filesystem|node|tmpfs) ' "$tmp/df"
ok 'a file made on one node' bpsh 1 mkdir /tmp/here
ok 'is on that node' bpsh 1 test -d /tmp/here
ok 'and on no other' exits 1 bpsh 0,2,3 test -d /tmp/here
ok 'nor on the master' not test -d /tmp/here
ok "the master's /usr is not there" fails_with 'No such file' bpsh 0 ls /usr/share/man
ok 'nor its /lib' fails_with 'No such file' bpsh 0 ls /lib/systemd
ok 'nor this test' fails_with 'No such file' bpsh 0 ls "$tmp/df"
ok 'hostname' is '  0: n0   1: n1   2: n2   3: n3' sorted bpsh 0-3 -p hostname
ok 'input goes there and comes back' is hello say 'hello\n' bpsh 2 cat
ok 'so does the exit status' exits 7 bpsh 1 sh -c 'exit 7'
ok 'the highest of them' exits 3 bpsh 0-3 sh -c 'exit ${BPROC_RANK#000000}'
ok 'and errors' fails_with 'oops' bpsh 1 sh -c 'echo oops >&2; exit 1'

# --- which nodes

ok 'several processes on one node' is 'n1 n1 n0' lines bpsh -s 1,1,0 hostname
ok 'each has its rank' is '0000000 0000001 0000002' lines bpsh -s 1,1,0 sh -c 'echo $BPROC_RANK'
ok 'the master is a place too' is "$(hostname) n0" lines bpsh -s master,0 hostname
ok 'by itself as well' is "$(hostname)" bpsh -1 hostname
ok 'a node by its address' is n3 bpsh 198.18.1.3 hostname
ok 'all that are not down' is 'n0 n1 n2 n3' sorted bpsh -A hostname
ok 'options may stand behind the nodes' is '  2: n2' bpsh 2 -p hostname
ok 'and the rest is the command' is '-p' bpsh 2 echo -p
ok 'a node that there is not' fails_with 'only 4 nodes' bpsh 9 true
ok 'no node at all' fails_with 'no node' bpsh error true
ok 'a bad specification' fails_with '5x' bpsh 5x true
ok 'the command is looked for here' fails_with 'no-such-program: command not found' \
    bpsh 0 no-such-program
ok 'which is a failure' exits 1 bpsh 0 no-such-program
ok 'no command is a mistake' exits 2 bpsh 0
ok 'a wrong option is one' exits 2 bpsh -q 0 true
ok '--help' has '^Usage: bpsh' bpsh --help
ok '--version' has '^bpsh ' bpsh --version

# --- output

ok '-p makes whole lines' is '  2: one   2: two' lines bpsh -p 2 printf 'one\ntwo'
ok '-L leaves the last as it is' is 8 bash -c "bpsh -L 2 printf 'one\ntwo!' | wc -c"
ok 'a line longer than -b is broken' is '  0: abcd   0: ef' lines bpsh -b 4 -p 0 echo abcdef
ok '-b wants a number' fails_with 'Invalid buffer size: x' bpsh -b x 0 true
ok '-s keeps the order of the nodes' is 'n3 n1 n2' lines bpsh -s 3,1,2 hostname
mkfifo "$tmp/in"
{ sleep 0.3; echo go; } >"$tmp/in" &
ok '-s does so when the first is the last to speak' is 'n3 n1' \
    lines bpsh -s --stdin-rank 0 3,1 sh -c 'read -r x; hostname' <"$tmp/in"
dashes=$(printf '%69s' '' | tr ' ' -)
printf '3\t%s\nn3\n1\t%s\nn1\n' "$dashes" "$dashes" >"$tmp/divided"
ok '-d puts a divider between' prints "$tmp/divided" bpsh -d 3,1 hostname
ok '-t prints the seconds' has '^[0-9]+\.[0-9]{6}$' bpsh -t 0 true
took() { bpsh -t 0 sleep 0.3 | awk '{ exit !($1 >= 0.3 && $1 < 60) }'; }
ok 'which are about right' took
ok '--fold prints what is equal' has '^hello$' bpsh --fold 0-3 echo hello
ok 'and only once' is 1 bash -c 'bpsh --fold 0-3 echo hello | grep -c hello'

# --- streams

ok '-n: no input' is 0 say 'hello\n' bpsh -n 0 wc -c
ok 'input goes to all' is 'x x' lines say 'x\n' bpsh 0,1 cat
ok 'or to one' is '0 2' lines say 'x\n' bpsh -s --stdin-rank 1 0,1 wc -c
ok '-N: no output' is '' bpsh -N 0 sh -c 'echo no; echo no >&2'
ok 'but the status' exits 4 bpsh -N 0 sh -c 'exit 4'
ok '-O writes a file on the node' bpsh -O /tmp/out 0,2 hostname
ok 'on each its own' is 'n0 n2' lines bpsh -s 0,2 cat /tmp/out
ok '-E the same for errors' bpsh -E /tmp/err 0 sh -c 'echo bad >&2'
ok 'as can be seen' is bad bpsh 0 cat /tmp/err
ok '-I reads one' is n2 bpsh -I /tmp/out 2 cat
ok 'it must be there' fails_with '^1: /tmp/out: No such file' bpsh -I /tmp/out 1 cat
ok 'or nothing starts' is '' bash -c 'bpsh -I /tmp/out 1 echo started 2>/dev/null; true'
ok '--timeout ends it' exits 124 bpsh --timeout 0.3 0 sleep 60
ok 'a closed input' is 0 bash -c 'bpsh 0 wc -c <&-'
ok 'the folder is the same where there is one' is /tmp bash -c 'cd /tmp && bpsh 0 sh -c pwd'
ok 'and / where there is not' is / bpsh 0 sh -c pwd
ok 'the environment goes along' is yes env CM_TEST=yes bpsh 0 sh -c 'echo $CM_TEST'
ok 'and the mask' is 0027 bash -c 'umask 027; bpsh 0 sh -c umask'

# --- users

ok 'another user' is 12345 as 12345 bpsh 0 id -u
ok 'owns what he makes' is 12345 as 12345 bpsh 0 sh -c 'echo >/tmp/mine; [ -O /tmp/mine ] && id -u'
bpctl -S 3 -m 100
ok 'is refused where he may not' fails_with '^3: .*ermission' as 12345 bpsh 3 true
ok 'and works elsewhere meanwhile' is n2 as 12345 bash -c 'bpsh 2,3 hostname 2>/dev/null; true'
ok 'but with a failure' exits 1 as 12345 bpsh 2,3 true

# --- a node that is down

node_is() { [ "$(bpstat -s "$1")" = "$2" ]; }
bpctl -S 1 -H
eventually 10 node_is 1 down
ok 'a node that is down is named' fails_with '^1: Node is down' bpsh 1 true
ok 'with a failure' exits 1 bpsh 1 true
ok 'the others run' is 'n0 n2' lines bash -c 'bpsh -s 0-2 hostname 2>/dev/null; true'
ok 'and it is a failure all the same' exits 1 bpsh 0-2 true
ok '-a leaves it out' is 'n0 n2 n3' lines bpsh -s -a hostname
ok 'a node that is not there and the master' is "$(hostname)" \
    bash -c 'bpsh master,1 hostname 2>/dev/null; true'
done_testing
