#!/bin/bash
# 0520-bpcp: files to nodes, from nodes, between nodes; what fails is named
# shellcheck disable=SC2016 # what is in quotes is for the shells on the nodes
. tests/lib.sh

need bin/bpcp libexec/clustermatic/bpcopy
cluster_up 5

bpcp() { timeout -k 1 30 "$CM_BUILD/bin/bpcp" "$@"; }
lines() { "$@" | sort | paste -sd' '; }
sum() { sha256sum <"$1" | cut -d' ' -f1; }
sums() { bpsh "$1" sha256sum "$2" | cut -d' ' -f1 | sort -u; } # of all: one line if all are alike
same_tree() { bpsh "$1" tar -C "$2" -cf - . | tar -xf - -C "$3" && diff -r --no-dereference "$4" "$3"; }
stat_on() { bpsh "$1" stat -c "$2" "$3"; }

mkdir -p "$tmp/src/sub/deep" "$tmp/src/empty"
echo small >"$tmp/src/small"
echo deep >"$tmp/src/sub/deep/file"
printf 'a\nb' >"$tmp/src/with blank"
ln -s small "$tmp/src/link"
ln -s /nowhere "$tmp/src/dangling"
chmod 640 "$tmp/src/small"
chmod 2750 "$tmp/src/sub"
touch -d '2001-02-03 04:05:06.123456789' "$tmp/src/small" "$tmp/src/sub/deep"
touch -h -d '2002-03-04 05:06:07.987654321' "$tmp/src/link"
: >"$tmp/src/nothing"
head -c 9000000 /dev/urandom >"$tmp/big"

# --- one file

ok 'a file to a node' bpcp "$tmp/src/small" 1:/tmp/
ok 'is there' is small bpsh 1 cat /tmp/small
ok 'and no other file' is small bpsh 1 ls -A /tmp
ok 'under another name, by n2' bpcp "$tmp/src/small" n2:/tmp/name
ok 'is there' is small bpsh 2 cat /tmp/name
ok 'by .2, with a user' bpcp "$tmp/src/small" root@.2:/tmp/name2
ok 'is there' is small bpsh 2 cat /tmp/name2
ok 'an empty file' bpcp "$tmp/src/nothing" 2:/tmp
ok 'is empty' is 0 stat_on 2 %s /tmp/nothing
ok 'several, into a folder' bpcp "$tmp/src/small" "$tmp/src/with blank" 3:/tmp
ok 'are there' is 'small with blank' lines bpsh 3 ls /tmp
ok 'not into what is none' fails_with '^3: /tmp/none: no such directory' \
    bpcp "$tmp/src/small" "$tmp/big" 3:/tmp/none
ok 'from a node' bpcp 1:/tmp/small "$tmp/back"
ok 'it is the same' cmp "$tmp/src/small" "$tmp/back"
ok 'from node to node' bpcp 1:/tmp/small 4:/tmp/from1
ok 'it is the same' is small bpsh 4 cat /tmp/from1
ok 'from master: to master' bpcp master:"$tmp/src/small" master:"$tmp/back2"
ok 'it is the same' cmp "$tmp/src/small" "$tmp/back2"
ok 'here, with no cluster' env CM_RUNDIR=/nowhere "$CM_BUILD/bin/bpcp" "$tmp/src/with blank" "$tmp/back3"
ok 'it is the same' cmp "$tmp/src/with blank" "$tmp/back3"
ok 'a relative name begins where the caller is' bash -c "cd /tmp && bpcp '$tmp/src/small' 1:rel"
ok 'as it is there' is small bpsh 1 cat /tmp/rel
ok 'or at / if that is not there' bash -c "cd '$tmp' && bpcp src/small 1:rel && bpsh 1 test -e /rel"

# --- to many

ok 'to all' bpcp "$tmp/big" all:/tmp/big
ok 'each has it' is "$(sum "$tmp/big")" sums all /tmp/big
ok 'a node twice is one' bpcp "$tmp/src/small" 0,0,0:/tmp/
ok 'from a node to many and the master' bpcp 2:/tmp/big "all,master:/tmp/cm-$$"
ok 'each has it' is "$(sum "$tmp/big")" sums all "/tmp/cm-$$"
ok 'so has the master' cmp "$tmp/big" "/tmp/cm-$$"
rm -f "/tmp/cm-$$"

# --- progress, on a terminal only

bpsh all rm -f /tmp/big
ok 'progress is shown on a terminal' timeout 60 tests/terminal.py \
    "bpcp $tmp/big all:/tmp/; echo end\$?" '=[0-9.]+ MiB  [0-9.]+ MiB/s' '=end0'
quiet() { bpcp "$tmp/big" 1:/tmp/ 2>"$tmp/quiet" && [ ! -s "$tmp/quiet" ]; }
ok 'and nowhere else' quiet

# --- trees

ok 'a tree needs -r' fails_with 'src: is a directory' bpcp "$tmp/src" 1:/tmp/tree
ok 'a tree' bpcp -r "$tmp/src" 0-3:/tmp/tree
for n in 0 3; do
    mkdir "$tmp/tree$n"
    ok "is the same on $n" same_tree $n /tmp/tree "$tmp/tree$n" "$tmp/src"
done
ok 'into a folder that is there' bpcp -rp "$tmp/src" 0-3:/tmp/tree
ok 'is below it' bpsh 0-3 test -f /tmp/tree/src/sub/deep/file
ok '-p keeps the mode of a file' is 640 stat_on 1 %a /tmp/tree/src/small
ok 'of a folder' is 2750 stat_on 1 %a /tmp/tree/src/sub
ok 'the time of a file' is "$(stat -c %y "$tmp/src/small")" stat_on 1 %y /tmp/tree/src/small
ok 'of a folder' is "$(stat -c %y "$tmp/src/sub/deep")" stat_on 1 %y /tmp/tree/src/sub/deep
ok 'of a link' is "$(stat -c %y "$tmp/src/link")" stat_on 1 %y /tmp/tree/src/link
ok 'a link is kept' is small bpsh 1 readlink /tmp/tree/src/link
ok '-L follows' fails_with 'dangling: No such file' bpcp -rL "$tmp/src" 4:/tmp/followed
ok 'a file where the link was' is 'regular file' stat_on 4 %F /tmp/followed/link
ok 'a link that is named is followed' bpcp "$tmp/src/link" 4:/tmp/named
ok 'it is a file' is 'regular file' stat_on 4 %F /tmp/named
ok 'but not by -P' bpcp -P "$tmp/src/link" 4:/tmp/aslink
ok 'it is a link' is 'symbolic link' stat_on 4 %F /tmp/aslink
ok 'a tree from a node' bpcp -rp 3:/tmp/tree/src "$tmp/fetched"
ok 'is the same' diff -r --no-dereference "$tmp/src" "$tmp/fetched"
ok 'with times' is "$(stat -c %y "$tmp/src/small")" stat -c %y "$tmp/fetched/small"
ok 'the content of a folder' bash -c "cd '$tmp/src' && bpcp -r . 2:/tmp/dot"
ok 'is there' is small bpsh 2 cat /tmp/dot/small
ok 'a tree onto itself is refused' fails_with 'itself' bpcp -r "$tmp/src" "$tmp"
ok 'and into itself' fails_with 'into itself' bpcp -r "$tmp/src" "$tmp/src/sub"
ok 'on a node, too' fails_with '^1: /tmp/tree: .*into itself' bpcp -r 1:/tmp/tree 1:/tmp/tree/src
ok 'a file onto itself' fails_with 'same file' bpcp "$tmp/big" "$tmp/big"
ok 'it is still there' test -s "$tmp/big"

# --- owners and modes

ok '-p keeps owners for root' bash -c "chown 12:34 '$tmp/src/nothing' && bpcp -p '$tmp/src/nothing' 1:/tmp/owned"
ok 'so it did' is 12:34 stat_on 1 %u:%g /tmp/owned
ok 'the mask counts without -p' bash -c "umask 077; bpcp '$tmp/big' 1:/tmp/masked"
ok 'so it did' is 600 stat_on 1 %a /tmp/masked
ok 'a file that is there' bpsh 1 sh -c 'echo longer than before >/tmp/mode'
bpsh 1 chmod 604 /tmp/mode
ok 'keeps its mode' bash -c "bpcp '$tmp/src/small' 1:/tmp/mode && [ \$(bpsh 1 stat -c %a /tmp/mode) = 604 ]"
ok 'and is not longer than the new one' is small bpsh 1 cat /tmp/mode
cp "$tmp/src/small" "$tmp/setid"
chmod 4755 "$tmp/setid"
ok 'set-id bits do not travel' bash -c "bpcp '$tmp/setid' 1:/tmp/ && [ \$(bpsh 1 stat -c %a /tmp/setid) = 755 ]"
chmod 755 "$tmp/src"
ok 'another user' as 12345 bpcp "$tmp/src/with blank" 0-2:/tmp/his
ok 'owns what he copies' is '12345:12345 12345:12345 12345:12345' lines stat_on 0-2 %u:%g /tmp/his
ok 'does not read what he may not' fails_with '^bpcp: .*small: Permission denied' \
    as 12345 bpcp "$tmp/src/small" 1:/tmp/his2
ok 'nor on a node' bpsh 1 sh -c 'umask 077; echo x >/tmp/secret'
ok 'it says so' fails_with '^1: /tmp/secret: Permission denied' as 12345 bpcp 1:/tmp/secret /tmp/
ok 'nor writes' fails_with '^1: /etc/x: Permission denied' as 12345 bpcp "$tmp/big" 1:/etc/x
bpctl -S 3 -m 100
ok 'is refused where he may not run' fails_with '^3: .*ermission' as 12345 bpcp "$tmp/big" 2,3:/tmp/hers
ok 'the other node has it' is "$(sum "$tmp/big")" sums 2 /tmp/hers
bpctl -S 3 -m 111
ok 'a link leads nowhere out of a node' bpsh 1 ln -s /../../../../.. /tmp/up
ok 'but to its root' bash -c "bpcp '$tmp/src/small' 1:/tmp/up/inroot && bpsh 1 test -f /inroot && [ ! -e /inroot ]"

# --- failures are named and stop nobody

ok 'wrong usage' exits 2 bpcp "$tmp/big"
ok 'a wrong option' exits 2 bpcp -x a b
ok '--help' has '^Usage: bpcp' bpcp --help
ok '-v' has '^bpcp version' bpcp -v
ok 'a file that is not there' fails_with "^bpcp: /nowhere: No such" bpcp /nowhere "$tmp/src/small" 1:/tmp
ok 'a node that is not there' fails_with 'only 5 nodes' bpcp "$tmp/big" 9:/tmp
ok 'a device' fails_with '/dev/null: not a plain file' bpcp /dev/null 1:/tmp
ok 'a folder that is not there' fails_with '^2: /none/x: No such file' bpcp "$tmp/big" 1-2:/none/x
bpsh 1 ln -s /dev /tmp/little
bpsh 0,2,3,4 mkdir /tmp/little
ok 'a full file system' fails_with '^1: /tmp/little/big: No space left' bpcp "$tmp/big" all:/tmp/little
ok 'stops no other' is "$(sum "$tmp/big")" sums 0,2,3,4 /tmp/little/big
ok 'and leaves nothing' is '' bpsh 1 sh -c 'ls -A /dev | grep bpcp; true'
ok 'a source node says what is wrong' fails_with '^1: /tmp/absent: No such' \
    bpcp 1:/tmp/absent 1:/tmp/small 2-3:/tmp/little
ok 'and the rest goes on' is small bpsh 2 cat /tmp/little/small

# --- sparse

truncate -s 300M "$tmp/sparse"
printf x | dd of="$tmp/sparse" bs=1 seek=200000000 conv=notrunc status=none
ok 'a sparse file' bpcp "$tmp/sparse" 0-1:/tmp/sparse
ok 'stays sparse' bpsh 0-1 sh -c '[ $(stat -c %b /tmp/sparse) -lt 1000 ]'
ok 'is as long' is 314572800 stat_on 0 %s /tmp/sparse
ok 'comes back' bpcp 1:/tmp/sparse "$tmp/sparse2"
ok 'the same' cmp "$tmp/sparse" "$tmp/sparse2"

# --- a node that is down

node_is() { [ "$(bpstat -s "$1")" = "$2" ]; }
bpctl -S 4 -H
eventually 10 node_is 4 down
ok 'a node that is down is named' fails_with '^4: ' bpcp "$tmp/src/small" 2-4:/tmp/late
ok 'the others have it' is 'small small' lines bpsh 2,3 cat /tmp/late
ok 'as a source' fails_with '^4: ' bpcp 4:/tmp/big "$tmp/late"
none_left() { # of this cluster
    local pid
    for pid in $(pgrep -x bpcopy); do
        ! grep -qsz "^CM_RUNDIR=$run\$" "/proc/$pid/environ" || return 1
    done
}
ok 'no bpcopy is left' eventually 5 none_left
done_testing
