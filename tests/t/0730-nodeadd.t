#!/bin/bash
# 0730-nodeadd: machines that no line names become nodes, in the order of arrival
# or as a file says; the configuration is never half written
. tests/lib.sh
. tests/bootlib.sh

need bin/nodeadd libexec/clustermatic/bootsrv
need_root
command -v curl >/dev/null || plan_skip 'curl is not installed'
boot_net || plan_skip 'no network namespaces'
tests/mkimage.py "$tmp/boot.img" 0.1 >/dev/null
cat >"$tmp/real" <<END
# our cluster
interface m0
iprange 0 198.18.40.10 198.18.40.49  # forty
bootfile $tmp/boot.img
dhcp off
pingtimeout 5
node 3 52:54:00:00:00:03 # the odd one
END
printf '# no newline at the end' >>"$tmp/real"
chmod 640 "$tmp/real"
ln -s real "$tmp/config"
boot_up
knock() { get "http://198.18.40.1:4711/ipxe/52:54:00:00:00:$1" >/dev/null; }
last() { tail -n "${1:-1}" "$tmp/real"; }
ok 'the service answers' eventually 10 get http://198.18.40.1:4711/status

# --- those that wait already, then those that come

ok '(one that waits)' knock 0a
nodeadd -a -c 3 m0 >"$tmp/out" 2>"$tmp/err" &
adding=$!
added() { grep -q "$1" "$tmp/real"; }
ok 'is added' eventually 10 added '52:54:00:00:00:0A'
before=$(cat "$tmp/real")
knock 03
knock 0a
knock 0b
ok 'so is the next that asks' eventually 10 added '52:54:00:00:00:0B'
knock 0c
ok 'and it ends after three' wait $adding
ok 'without a word on stderr' is '' cat "$tmp/err"
ok 'lines without numbers, in the order of arrival' is "node      52:54:00:00:00:0A
node      52:54:00:00:00:0B
node      52:54:00:00:00:0C" last 3
ok 'the others are as they were' is "$before" bash -c "head -n -2 '$tmp/real'"
ok 'comments too' grep -q 'the odd one$' "$tmp/real"
ok 'owner and mode too' is '640 root' stat -c '%a %U' "$tmp/real"
ok 'a link stays a link' is real readlink "$tmp/config"
ok 'it says what it does' is 'Automatic daemon reload enabled.
Listening on interface: m0
New MAC: 52 54 00 00 00 0A
Sending SIGHUP to beoserv.
New MAC: 52 54 00 00 00 0B
Sending SIGHUP to beoserv.
New MAC: 52 54 00 00 00 0C
Sending SIGHUP to beoserv.' cat "$tmp/out"
ok 'and the machine boots: it follows the last node line' \
    has 'cm.node=4 ' get http://198.18.40.1:4711/ipxe/52:54:00:00:00:0a
ok 'the third is node 6' has 'cm.node=6 ' get http://198.18.40.1:4711/ipxe/52:54:00:00:00:0c
ok 'a stranger of another interface is not ours' fails_with 'no line `interface m9' nodeadd m9

# --- numbers

more() { # more COUNT OPTION...: with as many strangers waiting
    local n=$1
    shift
    nodeadd -c "$n" "$@" m0 >"$tmp/out" 2>"$tmp/err" </dev/null
}
knock 10; knock 11
ok '-n: the first has a number' more 2 -n 20
ok 'the next none' is 'node   20 52:54:00:00:00:10
node      52:54:00:00:00:11' last 2
knock 12; knock 13
clustermatic reload
ok '-n -e: each has one' more 2 -n 30 -e
ok 'counted on' is 'node   30 52:54:00:00:00:12
node   31 52:54:00:00:00:13' last 2
ok 'as it says' has '^Numbering every node entry' cat "$tmp/out"
clustermatic reload
knock 14; knock 15; knock 16
printf '# rack 7\n52:54:00:00:00:16 n35\n52:54:00:00:00:15 36\n' >"$tmp/names"
ok '-f: those that a file names, as it names them' more 2 -f "$tmp/names" -a
ok 'whatever the order of arrival' is 'node   36 52:54:00:00:00:15
node   35 52:54:00:00:00:16' last 2
ok 'and no others' not grep -q '52:54:00:00:00:14' "$tmp/real"
ok 'who is in the file gets its number' has 'cm.node=35 ' get http://198.18.40.1:4711/ipxe/52:54:00:00:00:16

# --- what can go wrong

before=$(cat "$tmp/real")
knock 17
# shellcheck disable=SC2016 # for the inner shell
flock "$tmp/real" sh -c 'echo >"$0"; sleep 2' "$tmp/locked" &
ok '(somebody else writes)' eventually 10 test -s "$tmp/locked"
ok 'who writes at the same time is waited for' more 1 -C "$tmp/real" -n 40
wait
ok 'and nothing is lost' is "$before" bash -c "head -n -1 '$tmp/real'"
sed -i '$d' "$tmp/real"
echo 'iprange oops' >>"$tmp/real"
ok 'a configuration that is wrong' fails_with 'real:[0-9]+: too few arguments for iprange' nodeadd -c 1 m0
sed -i '$d' "$tmp/real"
chattr +i "$tmp" 2>/dev/null && {
    ok 'a folder that cannot be written' fails_with 'real.nodeadd: ' nodeadd -c 1 -C "$tmp/real" m0 2>/dev/null
    chattr -i "$tmp"
}
ok 'nothing is left beside it' not ls "$tmp"/real.nodeadd
ok 'a file of names that is none' fails_with 'names:1: want MAC' bash -c "echo rack >'$tmp/names'; nodeadd -f '$tmp/names' m0"
ok 'a number that is none' exits 2 nodeadd -n x m0
ok 'no interface' exits 2 nodeadd

# --- bootsrv is restarted meanwhile: who asks then is seen too

echo 52:54:00:00:00:18 >"$tmp/names"
nodeadd -c 1 -f "$tmp/names" m0 >"$tmp/out" 2>&1 &
adding=$!
listening() { grep -q Listening "$tmp/out"; }
ok '(nodeadd waits)' eventually 10 listening
ok 'bootsrv is restarted' clustermatic restart bootsrv
ok '(it answers)' eventually 10 get http://198.18.40.1:4711/status
knock 18
ok 'the next one is added' wait $adding
done_testing
