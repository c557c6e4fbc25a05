#!/bin/bash
# 0521-bpcp-scale: many nodes, many files, big files
. tests/lib.sh

need bin/bpcp libexec/clustermatic/bpcopy
cluster_up 16 --node-size 512M

bpcp() { timeout -k 1 60 "$CM_BUILD/bin/bpcp" "$@"; }
sums() { bpsh "$1" sha256sum "$2" | cut -d' ' -f1 | sort -u; }
sum() { sha256sum <"$1" | cut -d' ' -f1; }
# What the master has put on the cluster's wire, in bytes.
sent() { awk '$1 == "cm0:" { print $10 }' "/proc/$(pid_of procspace)/net/dev"; }
less_than() { [ "$1" -lt "$2" ] || { echo "$1, want less than $2"; return 1; }; }

# --- sixteen nodes

head -c 20000000 /dev/urandom >"$tmp/data"
was=$(sent)
ok 'to 16 nodes' bpcp "$tmp/data" all:/tmp/
now=$(sent)
ok 'each has it' is "$(sum "$tmp/data")" sums all /tmp/data
ok 'the master sent it at most 3 times' less_than $((now - was)) 60000000
was=$(sent)
ok 'from one to the 15 others' bpcp 3:/tmp/data 0-2,4-15:/tmp/copy
now=$(sent)
ok 'each has it' is "$(sum "$tmp/data")" sums 0-2,4-15 /tmp/copy
ok 'the master sent nothing of it' less_than $((now - was)) 2000000
bpsh all rm -f /tmp/data /tmp/copy

# --- a large tree

shm=$(mktemp -d /dev/shm/cm-0521.XXXXXX) # a disk would take longer than the copies
on_exit+=("rm -rf '$shm'")
mkdir "$shm/tree"
(cd "$shm/tree" && for d in {1..100}; do
    mkdir "$d"
    for f in {1..200}; do echo "$d $f" >"$d/$f"; done
done)
ok '20,000 files to two nodes' bpcp -rp "$shm/tree" 0-1:/tmp/tree
ok 'and back' bpcp -rp 1:/tmp/tree "$shm/tree2"
ok 'are all there' diff -r "$shm/tree" "$shm/tree2"
rm -rf "$shm/tree2"
bpsh 0-1 rm -rf /tmp/tree
arrived() { bpsh 1 test -d /tmp/tree/1; }
"$CM_BUILD/bin/bpcp" -rp "$shm/tree" 0-1:/tmp/tree 2>"$tmp/broken" & copy=$!
eventually 20 arrived
kill -9 $copy
{ wait $copy; } 2>/dev/null
ok 'killed in its midst, and repeated' bpcp -rp "$shm/tree" 0-1:/tmp/
same_names() { diff <(cd "$shm/tree" && find . | sort) <(bpsh 1 sh -c 'cd /tmp/tree && find .' | sort); }
bpsh 1 find / -maxdepth 0 >"$tmp/out" 2>&1
ok 'all are there, and nothing else' same_names
ok 'with what is in them' bpcp -rp 1:/tmp/tree "$shm/tree2"
ok 'as it was' diff -r "$shm/tree" "$shm/tree2"
rm -rf "$shm/tree" "$shm/tree2"

# --- a large file with little in it

truncate -s 2G "$tmp/sparse"
echo middle | dd of="$tmp/sparse" bs=1 seek=1200000000 conv=notrunc status=none
ok 'a sparse file of 2 GiB' bpcp "$tmp/sparse" 2:/tmp/
ok 'is as long there' is 2147483648 bpsh 2 stat -c %s /tmp/sparse
ok 'and takes no room' less_than "$(bpsh 2 stat -c %b /tmp/sparse)" 1000
ok 'it is in its place' is middle bpsh 2 dd if=/tmp/sparse bs=1 skip=1200000000 count=6 status=none
rm -f "$tmp/sparse"
done_testing
