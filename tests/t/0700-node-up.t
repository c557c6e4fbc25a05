#!/bin/bash
# 0700-node-up: node_up and node_down: what runs when a node joins, what it may
# do there, how it ends, and what happens when anything of it dies meanwhile
. tests/lib.sh

need bin/bpctl bin/bpsh bin/bpstat libexec/clustermatic/bpvnode libexec/clustermatic/bootsrv
cluster_up 3
hook=$state/node_up
conf=$state/node_up.conf

# script TEXT: becomes the site's node_up
script() {
    printf '#!/bin/bash\n%s\n' "$1" >"$hook.new"
    chmod +x "$hook.new"
    mv "$hook.new" "$hook"
}
again() { clustermatic restart node "$1"; } # the machine starts afresh
state_of() { bpstat -s "$1"; }
in_state() { [ "$(state_of "$2")" = "$1" ]; }
comes() { eventually 20 in_state "$1" "$2"; } # comes STATE NODE
why() { bpstat -x "$1" | tail -n 1; }
log() { cat "$logs/node.$1"; }

# --- nothing to be done

ok 'without node_up and node_up.conf nodes are up at once' is up state_of 0
ok 'bootsrv runs' has '^bootsrv +ready' clustermatic status
ok 'and says what it does' is '[]' tests/ask.py -e 'v["setups"]' bootsrv.status

# --- the script: its argument, what it may do, its log

script 'echo "node is $1, $# argument"
bpsh $1 touch /made-by-node-up || exit
mkdir -p '"$tmp"'/at; : >'"$tmp"'/at/$1
for i in {1..200}; do [ -e '"$tmp"'/go ] && exit 0; sleep 0.1; done; exit 9'
again 0
at() { [ -e "$tmp/at/$1" ]; }
ok 'node 0 is in state boot while it runs' eventually 20 at 0
ok 'says bpstat' is boot state_of 0
ok 'with mode 0100: root may start work' bpsh 0 true
ok 'others not' fails_with 'no execute permission for user 11111' as 11111 bpsh 0 true
ok 'and why it is not up' has 'waits for node_up' why 0
ok 'who runs is known' is "[[0, 'node_up']]" tests/ask.py -e '[s[:2] for s in v["setups"]]' bootsrv.status
again 1
again 2
ok 'the others are set up at the same time: node 1' eventually 20 at 1
ok 'and node 2' eventually 20 at 2
: >"$tmp/go"
ok 'when it ends with 0 the node is up' comes up 0
ok 'all are' comes up 1
ok 'all three' comes up 2
ok 'with mode 0111' as 11111 bpsh 0 true
ok 'what it did on the node is there' bpsh 0 ls /made-by-node-up
ok 'its output is in the log, with the time' \
    has '^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{3}  node is 0, 1 argument' log 0
ok 'and how it ended' has 'node 0 is up: set up' log 0
ok 'the log of clustermatic shows it too' has 'node is 0' clustermatic logs node 0

# --- how it can fail

script 'echo "no disk in node $1" >&2; exit 3'
again 0
ok 'a script that fails: error' comes error 0
ok 'with its status and last words' has 'node_up ended with status 3: no disk in node 0' why 0
ok 'nobody but root works there' fails_with 'no execute permission' as 11111 bpsh 0 true
script 'bpctl -S $1 -s error --why "the site says no"; exit 0'
again 0
ok 'a state that the script set itself stays' comes error 0
ok 'with its reason' has 'the site says no' why 0
left() { log 0 | grep -q 'node 0 is left as it is'; }
ok 'which the log says' eventually 10 left
script 'exit 0'
ok 'state boot by hand: it runs once more' bpctl -S 0 -s boot
ok 'and the node is up' comes up 0
chmod -x "$hook"
again 0
ok 'a script that is not executable: error' comes error 0
ok 'with the way out' has 'Permission denied \(chmod \+x it\)' why 0
script 'kill -SEGV $$'
again 0
ok 'a script that crashes: error' comes error 0
ok 'with the signal' has 'was killed by signal 11' why 0

# --- who else changes the state

script ': >'"$tmp"'/runs; for i in {1..200}; do [ -e '"$tmp"'/go2 ] && exit 0; sleep 0.1; done; exit 9'
again 1
runs() { [ -e "$tmp/runs" ]; }
ok '(it runs)' eventually 20 runs
ok 'an administrator sets a state meanwhile' bpctl -S 1 -s unavailable
: >"$tmp/go2"
unset_setups() { [ "$(tests/ask.py -e 'len(v["setups"])' bootsrv.status)" = 0 ]; }
ok 'it ends' eventually 20 unset_setups
ok 'and his word stands' is unavailable state_of 1

# --- deaths

rm -f "$tmp/go2" "$tmp/runs"
again 1
ok '(it runs)' eventually 20 runs
kill -9 "$(pid_of bootsrv)"
ok 'bootsrv killed: it is there again' clustermatic restart bootsrv
ok 'and knows who runs' is "[[1, 'node_up']]" tests/ask.py -e '[s[:2] for s in v["setups"]]' bootsrv.status
ok 'the node waits on' is boot state_of 1
ok 'nodemgr restarted too' clustermatic restart nodemgr
ok 'the node waits on' is boot state_of 1
before=$(grep -c -- '--- node_up of' "$logs/node.1")
: >"$tmp/go2"
ok 'it is up when the script ends' comes up 1
ok 'which has run once' is "$before" grep -c -- '--- node_up of' "$logs/node.1"

rm -f "$tmp/go2" "$tmp/runs"
again 2
ok '(it runs)' eventually 20 runs
setup=$(tests/ask.py -e 'v["setups"][0][2]' bootsrv.status)
kill -9 "$setup"
ok 'its keeper killed: error' comes error 2
ok 'with the reason' has 'keeper was killed by signal 9' why 2

printf '#!/bin/sh\necho "down: $1: $CM_NODE_WHY"\n' >"$state/node_down"
chmod +x "$state/node_down"
rm -f "$tmp/runs"
again 2
ok '(it runs)' eventually 20 runs
old=$(tests/ask.py -e 'v["setups"][0][2]' bootsrv.status)
rm -f "$tmp/runs"
ok 'a node that is lost in mid-set-up' bpctl -S 2 -R
ok 'has it ended' eventually 20 not kill -0 "$old"
ok 'starts afresh, and it is begun again' eventually 20 runs
: >"$tmp/go2"
ok 'to its end' comes up 2
downed() { log 2 | grep -q 'down: 2: reboot'; }
ok 'node_down has run for the lost one, with the reason' eventually 10 downed

# --- the article's way: files by cpio through bpsh

mkdir -p "$tmp/lib/modules/1.2.3"
: >"$tmp/lib/modules/1.2.3/modules.order"
head -c 300000 /dev/urandom >"$tmp/lib/modules/1.2.3/some.bin"
script 'cd '"$tmp"' && find lib | cpio -o -H newc --quiet | bpsh $1 cpio -imd --quiet || exit
bpsh $1 depmod -a 1.2.3 || exit
bpsh $1 chmod -R a+rX /lib'
again 0
ok 'cpio into bpsh' comes up 0
ok 'brings files unharmed' is "$(md5sum <"$tmp/lib/modules/1.2.3/some.bin")" \
    bash -c 'bpsh 0 cat /lib/modules/1.2.3/some.bin | md5sum'
ok 'depmod has run there' bpsh 0 ls /lib/modules/1.2.3/modules.dep
rm -f "$hook" "$state/node_down"

# --- the built-in one: node_up.conf

echo 'some words' >"$tmp/words"
printf '#!/bin/sh\necho "not today"; exit 2\n' >"$tmp/some-program"
chmod +x "$tmp/some-program"
ln -s words "$tmp/link"
cat >"$conf" <<END
path $tmp/plugins
plugin ifconfig lo 127.0.0.1 255.0.0.0
plugin miscfiles $tmp/words > /etc/words  # blanks, as the article prints it
miscfiles $tmp/words>/etc/words2 $tmp/words >/etc/words3
plugin miscfiles -f $tmp/link
plugin miscfiles -i $tmp/not-there /dev/zero $tmp/w*s
failok plugin miscfiles $tmp/not-there
failok exec false
plugin sysctl net.ipv4.ip_forward 1
plugin vmadlib
plugin setupfs
plugin nodeinfo
plugin ours a 'b c'
END
mkdir "$tmp/plugins"
printf '#!/bin/sh\necho "ours: $2 for nodes $NODES"\n' >"$tmp/plugins/ours"
chmod +x "$tmp/plugins/ours"
cat >"$state/fstab" <<END
# DEVICE FOLDER TYPE OPTIONS
none /mnt/small tmpfs size=1m,nosuid,ro
none /mnt/small2 tmpfs defaults
END
again 0
ok 'node_up.conf alone' comes up 0
ok 'A > B with blanks' is 'some words' bpsh 0 cat /etc/words
ok 'A>B' is 'some words' bpsh 0 cat /etc/words2
ok 'A >B' is 'some words' bpsh 0 cat /etc/words3
ok 'a link, not followed' is words bpsh 0 readlink "$tmp/link"
ok 'a device is as on the master' is "$(stat -c '%t %T %a' /dev/zero)" bpsh 0 stat -c '%t %T %a' /dev/zero
ok 'lo has its address' has 'inet 127.0.0.1/8' bpsh 0 ip addr show lo
ok 'sysctl' is 1 bpsh 0 cat /proc/sys/net/ipv4/ip_forward
ok 'a mount with its options' has '^none /mnt/small tmpfs ro,nosuid.*size=1024k' bpsh 0 cat /proc/mounts
ok 'mtab' has small2 bpsh 0 cat /etc/mtab
ok 'what is missing was left out' has 'miscfiles : .*not-there is not here: left out' log 0
ok 'what may fail was said' has 'exec +: false ended with status 127: .*it may fail, going on' log 0
ok 'a program of the site' has 'ours: b c for nodes 0' log 0
ok 'attributes' is 8 tests/ask.py -e 'len(v[0]["attrs"]["mem"])' nodemgr.list '{"spec": "0"}'
ok 'a second time by hand: all is there already' "$libexec/node_up" 0
ok 'for several nodes at once' has 'nodeinfo  : node 2: ' "$libexec/node_up" 0-2
ok 'and how much goes there' has 'node_up   : [0-9]{2,} bytes go to node 1' "$libexec/node_up" -S 1
ok 'each has the file' is 'some words' bpsh 2 cat /etc/words
ok 'states that are not boot stay' has 'node 1 is left as it is: .*its state is up' "$libexec/node_up" 1
ok '(error)' bpctl -S 1 -s error
ok 'but with -u' "$libexec/node_up" -u 1
ok 'the node is up' is up state_of 1

# --- refusals

bad() { # bad PATTERN LINE...: node_up refuses this file with these words
    local pattern=$1
    shift
    printf '%s\n' "$@" >"$tmp/bad.conf"
    fails_with "$pattern" "$libexec/node_up" -C "$tmp/bad.conf" 0
}
printf 'none /mnt/x nosuchfs defaults\n' >"$tmp/fs1"
printf '\nnone /mnt/x\n' >"$tmp/fs2"
printf '/home /mnt/x nfs vers=4.1\n' >"$tmp/fs3"
printf '/dev/null swap swap defaults\n' >"$tmp/fs4"
printf 'none mnt/x tmpfs defaults\n' >"$tmp/fs5"
printf '198.18.0.1:/home / nfs ro\n' >"$tmp/fs6"
ok 'an unknown plugin' bad 'no such plugin; did you mean kmod' 'plugin kmodd x'
ok 'nothing like it' bad 'no program of that name in the path: none is given' 'plugin zzz'
ok 'a missing file' bad 'nowhere: no such file \(-i leaves out' 'miscfiles /nowhere'
ok 'no name behind the arrow' bad 'a name is missing beside ">"' 'miscfiles /etc/passwd >'
ok 'a relative name' bad 'want an absolute path' 'miscfiles /etc/passwd > passwd'
ok 'an unknown option' bad 'no option -x' 'miscfiles -x /etc/passwd'
ok 'an interface without a mask' bad 'ifconfig: want INTERFACE ADDRESS MASK' 'ifconfig lo 127.0.0.1'
ok 'an interface that is not there' bad 'address of nope0: No such device' 'ifconfig nope0 198.18.9.9 255.0.0.0'
ok 'a key that is not there' bad 'sysctl no.such = 1: No such file' 'sysctl no.such 1'
ok 'a program that fails' bad 'some-program ended with status 2: not today' \
    "miscfiles /bin/dash > /bin/sh $tmp/some-program > /bin/some-program" 'exec some-program'
ok 'a module that is not there' bad "no module nosuch for kernel $(uname -r)" 'kmod nosuch'
ok 'a line without a plugin' bad 'bad.conf:2: which plugin' '# x' 'failok'
ok 'a quote that is not closed' bad "bad.conf:1: the quote ' is not closed" "exec 'a"
ok 'a type that no kernel knows' bad 'mount none \(nosuchfs\) on /mnt/x: No such device: .*kmod' \
    "setupfs --fstab $tmp/fs1"
ok 'an fstab line cut short' bad 'fs2:2: want DEVICE FOLDER TYPE OPTIONS' "setupfs --fstab $tmp/fs2"
ok 'NFS without a server' bad 'fs3:1: /home: want SERVER:/PATH, or MASTER:/PATH' "setupfs --fstab $tmp/fs3"
ok 'swap on what is none' bad 'swap on /dev/null: Invalid argument' "setupfs --fstab $tmp/fs4"
ok 'a relative folder' bad 'fs5:1: mnt/x: want an absolute path' "setupfs --fstab $tmp/fs5"
ok 'another root' bad 'fs6:1: a node.s / is its memory' "setupfs --fstab $tmp/fs6"
ok 'the same by an option' bad 'its memory, and stays so' 'setupfs -r /new'
ok 'a time that is none' bad '--timeout x: want seconds' 'setupfs --timeout x'
ok 'a node that is not there' fails_with 'there are only 3 nodes' "$libexec/node_up" 9
ok 'a user' fails_with 'only root' as 11111 "$libexec/node_up" 0
ok 'no node' exits 2 "$libexec/node_up"
ok 'an unknown option of its own' exits 2 "$libexec/node_up" --nope
ok 'the plugins are listed' has '^miscfiles ' "$libexec/node_up" -i
echo 'plugin nosuch' >"$conf"
again 0
ok 'on a node that joins: error' comes error 0
ok 'with the reason' has 'nosuch: no such plugin' why 0
rm "$conf"
again 0
ok 'with the file gone the node is up at once' comes up 0
done_testing
