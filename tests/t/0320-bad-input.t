#!/bin/bash
# 0320-bad-input: what is written wrong is answered by one clear line: what,
# why, and what would be right. 2: a mistake of usage, 1: refused
. tests/lib.sh

need_root
need bin/bpsh bin/bpctl bin/bpstat bin/bpps bin/bpevents libexec/clustermatic/bpvnode

good='interface cm0
bprocport 2223
iprange 0 198.18.1.0 198.18.1.1
pingtimeout 10
'
# says STATUS LINES PATTERN CMD...: this status, at most so many lines, like this
says() {
    local want=$1 lines=$2 pattern=$3 rc=0
    shift 3
    "$@" </dev/null >"$tmp/said.out" 2>"$tmp/said" || rc=$?
    if [ $rc != "$want" ] || ! grep -Eq -- "$pattern" "$tmp/said" ||
        [ "$(wc -l <"$tmp/said")" -gt "$lines" ]; then
        echo "status $rc, want $want; said:"
        cat "$tmp/said"
        return 1
    fi
}
refused() { says 1 1 "$@"; }
usage() { says 2 3 "$@"; } # the line, and where to read on

# --- the configuration, before there is a cluster

name=t$$c
also_end $name
config() { printf '%b' "$*" >"$tmp/config"; }
up() { clustermatic up --name $name --virtual 2 --config "$tmp/config"; }
bad() { # TEXT PATTERN LINES...
    local text=$1 pattern=$2
    shift 2
    config "$@"
    ok "$text" refused "^clustermatic: $tmp/config$pattern" up
}
bad 'a word where a number belongs' ':5: pingtimeout: "x"; want seconds' "${good}pingtimeout x\n"
bad 'a number out of range' ':5: bprocport: "99999"; want a port' "${good}bprocport 99999\n"
bad 'a range upside down' ':2: iprange: 198.18.1.9 comes after 198.18.1.1' \
    'interface cm0\niprange 0 198.18.1.9 198.18.1.1\n'
bad 'what is no address' ':5: .*"1.2.3.400"' "${good}ip 7 1.2.3.400\n"
bad 'what is no hardware address' ':5: node: "zz:zz" is no hardware address' "${good}node 7 zz:zz\n"
bad 'one address twice' ':5: .*198.18.1.1' "${good}ip 7 198.18.1.1\n"
bad 'a word that is missing' ':5: ' "${good}iprange 5\n"
bad 'bytes' ':[0-9]+: a zero byte: this is no text file' 'interface cm0\n\0000\n'
bad 'nothing' ' names no node 0, but --virtual 2 wants nodes 0 to 1' ''
bad 'fewer nodes than wanted' ' names no node 1, but --virtual 2' \
    'interface cm0\nip 0 198.18.1.0\n'
ok 'a folder' refused "$tmp is not a regular file" \
    clustermatic up --name $name --virtual 2 --config "$tmp"
ok 'a file that is not there' refused 'No such file' \
    clustermatic up --name $name --virtual 2 --config "$tmp/none"
ok 'nothing was begun' not test -e /run/clustermatic-$name

# --- up, and taking over a new one

config "${good}pingtimout 5\n"
ok 'a misspelt word is warned about' says 0 1 \
    "^clustermatic: warning: $tmp/config:5: unknown word \"pingtimout\".* did you mean pingtimeout" up
use_cluster $name
two_up() { [ "$(bpstat -s 0)$(bpstat -s 1)" = upup ] && bpsh 0-1 true; }
reload() { # TEXT STATUS PATTERN LINES
    config "$4"
    ok "reload: $1" says "$2" 1 "$3" clustermatic reload
    ok '... and all goes on' two_up
}
reload 'a range upside down' 1 "^clustermatic: $tmp/config:2: iprange: .* comes after" \
    'interface cm0\niprange 0 198.18.1.9 198.18.1.1\n'
reload 'nothing at all' 1 "^clustermatic: $tmp/config names no node any more" ''
reload 'a misspelt word' 0 'warning: .*:5: unknown word "iprnage".* did you mean iprange' \
    "${good}iprnage 5 6 7\n"
rm "$tmp/config"
ok 'reload: no file' says 1 1 "open $tmp/config: No such file" clustermatic reload
ok '... and all goes on' two_up
ok 'nodemgr is restarted without it' clustermatic restart nodemgr
ok '... and all goes on' eventually 10 two_up

# --- node lists, at every client

for client in 'bpsh WHAT true' 'bpstat WHAT' 'bpctl -S WHAT -m 111' 'bpps WHAT'; do
    while IFS='|' read -r what pattern; do
        command=()
        for word in $client; do
            [ "$word" != WHAT ] || word=$what
            command+=("$word")
        done
        ok "${command[*]}" refused "^${command[0]}: .*$pattern" "${command[@]}"
    done <<'LISTS'
9|node 9: there are only 2 nodes, 0-1
5-|no node is in the range 5-; the highest is 1
x|"x": no node is in a state of that name; usual are up, down
upp|did you mean up\?
|the node list is empty; write for example 0-3
,|the node list is empty
1-0|"1-0" selects no node: a range goes upward
0x1|"0x1": after a node number
0/1|"0/1": after a node number
0 1|after a node number
up down|no blanks may stand in a node list
99999999999999999999|node numbers end at 1000000
LISTS
done

# --- people, numbers, words

ok 'a user that is not there' refused 'Invalid user id: nobodyknows' bpctl -S 0 -u nobodyknows
ok 'a group that is not there' refused 'Invalid .* id: nobodyknows' bpctl -S 0 -g nobodyknows
ok 'a user number too large' refused 'Invalid user id: 99999999999' bpctl -S 0 -u 99999999999
ok 'bpps: a user that is not there' refused 'Invalid user id: nobodyknows' bpps -u nobodyknows
ok 'a mode that is none' refused 'Invalid number: 9x' bpctl -S 0 -m 9x
ok 'bits that are none of a node' refused '^0: .*only the bits 0111' bpctl -S 0 -m 777
ok 'an empty state' refused '^0: .*a state begins with a letter' bpctl -S 0 -s ''
ok 'a state that means something else' refused '^0: .*means something else' bpctl -S 0 -s all
ok 'a state too long' refused '^0: .*at most 15 characters' bpctl -S 0 -s averyverylongstate
ok 'a folder that is not on the node' refused '^0: chroot /nosuch: No such file .* on the node' \
    bpctl -S 0 -r /nosuch
ok 'a key that nobody has' refused 'no waiting key begins with "foo": see bpctl --pending' \
    bpctl -S 0 --accept foo
ok 'an address nobody has' refused 'No node with address 9.9.9.9' bpstat -A 9.9.9.9
printf '#!/nowhere/interpreter\necho hi\n' >"$tmp/script"
chmod 755 "$tmp/script"
printf 'no program\n' >"$tmp/text"
printf 'secret\n' >"$tmp/secret"
chmod 711 "$tmp/secret"
chmod 755 "$tmp/text"
while IFS='|' read -r status command pattern; do
    # shellcheck disable=SC2086 # words
    ok "bpsh 0 $command" says "$status" 1 "$pattern" bpsh 0 $command
done <<COMMANDS
1|nosuchcommand|nosuchcommand: command not found
1|/no/such/command|/no/such/command: command not found
1|/etc|/etc: Is a directory
1|/etc/passwd|/etc/passwd: Permission denied
127|$tmp/script|^0: .*/nowhere/interpreter
COMMANDS
ok 'a program that the user may run but not read' fails_with "$tmp/secret: Permission denied" \
    as 61002 bpsh 0 "$tmp/secret"
ok 'two nodes, one line each' says 127 2 '^1: .*/nowhere/interpreter' bpsh 0-1 "$tmp/script"

while IFS='|' read -r command pattern; do
    # shellcheck disable=SC2086 # words
    ok "$command" usage "$pattern" $command
done <<'USAGE'
bpsh|which nodes
bpsh 0|which command
bpsh --nosuch 0 true|--nosuch
bpsh -b x 0 true|Invalid buffer size: x \(want 1 to 1048576\)
bpsh -b 0 0 true|Invalid buffer size: 0
bpsh --timeout soon 0 true|--timeout: want seconds, not "soon"
bpsh --stdin-rank x 0 true|--stdin-rank: want a rank
bpsh -a -A true|the nodes are already given
bpctl|nothing to do
bpctl -m 111|name the nodes first
bpctl -S 0 -Q|'Q'
bpctl -S 0 -R extra|extra: not an option
bpstat -Q|'Q'
bpps -Q|'Q'
bpevents --nosuch|--nosuch
bpevents -t soon|soon: not a number
clustermatic|which command
clustermatic foo|no such command: foo
clustermatic up --virtual x|--virtual x: want a number from 1 to 1000
clustermatic up --virtual -1|--virtual -1: want a number
clustermatic up --virtual 2 --node-size x|--node-size x: want bytes
clustermatic up --name ../etc|--name ../etc: want 1-32 letters
clustermatic restart|restart what
clustermatic restart foo|foo: want busd, nodemgr
clustermatic restart node x|this cluster has 2 virtual nodes
clustermatic logs node 9|this cluster has 2 virtual nodes
clustermatic reload x|too many words: x
clustermatic status --nosuch|--nosuch
USAGE
for service in busd nodemgr procspace iofwd bpnode bpinit bpvnode; do
    ok "$service --nosuch" exits 2 "$libexec/$service" --nosuch
    ok "$service --help" "$libexec/$service" --help
    ok "$service --version" "$libexec/$service" --version
done
ok 'after all that nodes are up' two_up
done_testing
