#!/bin/bash
# 0540-bpfs: the nodes as files: what stat, test, chmod, chown, setfattr and
# poll do, whose rights they have, and what a crash leaves behind
. tests/lib.sh

need bin/bpctl bin/bpstat libexec/clustermatic/bpvnode libexec/clustermatic/nodemgr \
    libexec/clustermatic/bpfs
[ -e /dev/fuse ] || plan_skip 'there is no /dev/fuse'
command -v getfattr >/dev/null || plan_skip 'getfattr is not installed (attr)'
# Those of clusters beside us come and go.
mounts >"$tmp/before"
cluster_up 3
fs=$run/bpfs

# --- what is there

ok 'the nodes, the master, self and status' is '-1 0 1 2 self status' bash -c "ls '$fs' | paste -sd' '"
ok 'self is the master' is -1 readlink "$fs/self"
ok 'a node is an empty regular file with its mode' is 'regular empty file 111 root root 0' \
    stat -c '%F %a %U %G %s' "$fs/2"
ok 'the master too' is '111 root' stat -c '%a %U' "$fs/-1"
ok 'there is no node 3' fails_with 'No such file' stat "$fs/3"
ok 'nor a second name of node 1' fails_with 'No such file' stat "$fs/01"
ok 'the folder is not for writing' fails_with 'not permitted' touch "$fs/3"
ok 'nor its files for removal' fails_with 'not permitted' rm "$fs/1"
ok 'nor for filling' fails_with 'not permitted' bash -c "echo x >'$fs/1'"
ok 'status names the service' has '^bpfs +ready' clustermatic status
ok 'the master'"'"'s entry does not change' fails_with 'not permitted' chmod 100 "$fs/-1"

# --- owner and mode

mode_is() { [ "$(stat -c %a "$fs/$1")" = "$2" ]; }
ok 'chmod' chmod 110 "$fs/0"
ok 'stat sees it' mode_is 0 110
ok 'and so does nodemgr' has '^0 +up +---x--x---' bpstat
ok 'bpctl changes it' bpctl -S 0 -m 100
ok 'and stat sees that soon, though the kernel keeps what it saw' eventually 2 mode_is 0 100
ok 'bits beside execute are refused' fails_with 'not permitted' chmod 755 "$fs/0"
ok 'root may give a node away' chown nobody:nogroup "$fs/1"
ok 'stat shows the owner' is 'nobody nogroup' stat -c '%U %G' "$fs/1"
ok 'the owner may change the mode' as 65534 chmod 101 "$fs/1"
ok 'of his node only' fails_with 'not permitted' as 65534 chmod 111 "$fs/0"
ok 'not the owner' fails_with 'not permitted' as 65534 chown 12345 "$fs/1"
ok 'not into a group that he is not in' fails_with 'not permitted' as 65534 chgrp 12345 "$fs/1"
in_groups() { setpriv --reuid 65534 --regid 65534 --groups "$@"; }
ok 'into his own, though a supplementary one' in_groups 12345,54321 chgrp 54321 "$fs/1"
ok 'stat shows the group' is 54321 stat -c %g "$fs/1"
ok 'who did it is known' has '^1 .*---x-----x' bpstat 1

ok 'nobody but a service of root acts for others' \
    has "^1 as: only root's services act for others" as 65534 /usr/bin/python3 tests/intruder.py \
    gate nodemgr.set '{"nodes": [0], "mode": 73, "as": {"uid": 0, "gid": 0, "groups": []}}'

# --- test -x: who may start work there

ok 'others may' as 11111 test -x "$fs/1"
ok 'the group may not' not in_groups 54321 bash -c "exec setpriv --reuid 11111 test -x '$fs/1'"
ok 'the owner may' as 65534 test -x "$fs/1"
ok 'others may not on node 0' not as 11111 test -x "$fs/0"
ok 'root may while anybody may' test -x "$fs/0"
ok 'no bit at all' chmod 0 "$fs/0"
ok 'then not even root' not test -x "$fs/0"
ok 'reading a node is for root' fails_with 'Permission denied' as 11111 cat "$fs/2"
ok 'who sees nothing' is '' cat "$fs/2"

# --- attributes

attr() { getfattr --absolute-names --only-values -n "bproc.$2" "$fs/$1" >"$tmp/value" && tr -d '\0' <"$tmp/value"; }
ok 'the state' is up attr 2 state
ok 'for everybody' is up as 11111 bash -c \
    "getfattr --absolute-names --only-values -n bproc.state '$fs/2' | tr -d '\\0'"
ok 'root sets it' setfattr -n bproc.state -v error "$fs/2"
ok 'bpstat sees it' has '^2 +error' bpstat
ok 'and the attribute has it at once' is error attr 2 state
ok 'a user does not set it' fails_with 'not permitted' \
    as 65534 setfattr -n bproc.state -v up "$fs/1"
ok 'not even his own node'"'"'s attributes' fails_with 'not permitted' \
    as 65534 setfattr -n bproc.x -v up "$fs/1"
ok 'a state that cannot be is refused' fails_with 'Invalid argument' \
    setfattr -n bproc.state -v 'two words' "$fs/2"
ok 'back' setfattr -n bproc.state -v up "$fs/2"
ok 'an attribute of one'"'"'s own' setfattr -n bproc.rack -v b12 "$fs/2"
ok 'is there' is b12 attr 2 rack
ok 'and listed with the others' is 'bproc.addr bproc.cpus bproc.mem bproc.rack bproc.state' \
    bash -c "getfattr --absolute-names -m - '$fs/2' | grep bproc | sort | paste -sd' '"
ok 'is taken away' setfattr -x bproc.rack "$fs/2"
ok 'and gone' fails_with 'No such attribute' attr 2 rack
ok 'other names are none of ours' fails_with 'not supported' setfattr -n user.x -v 1 "$fs/2"
ok 'an attribute too long is refused' fails_with 'No space left' \
    setfattr -n bproc.long -v "$(printf '%065d' 0)" "$fs/2"
ok 'the address is a struct sockaddr' is '0200 0000c6120102' bash -c \
    "getfattr --absolute-names --only-values -n bproc.addr '$fs/2' | xxd -p | sed 's/\\(....\\)\\(............\\).*/\\1 \\2/'"
ok 'cpus is an int' is 4 bash -c \
    "getfattr --absolute-names --only-values -n bproc.cpus '$fs/2' | wc -c"

# --- status: content and polls

cat >"$tmp/poll.py" <<'END'
import os, select, struct, subprocess, sys, time
fs = sys.argv[1]
fd = os.open(fs + "/status", os.O_RDONLY)
p = select.poll()
p.register(fd, select.POLLIN)
rows = lambda b: [struct.unpack("i16sIII16s", b[i:i + 48]) for i in range(0, len(b), 48)]
def check(text, good):
    print(("good: " if good else "BAD: ") + text)
check("no change at first", p.poll(0) == [])
now = rows(os.read(fd, 65536))
check("three nodes", [r[0] for r in now] == [0, 1, 2])
check("with states", now[2][1].rstrip(b"\0") == b"up")
check("mode, user, group", now[1][2:5] == (0o101, 65534, 54321))
check("address", now[2][5][:8] == bytes([2, 0, 0, 0, 198, 18, 1, 2]))
for what, cmd in [("mode", ["chmod", "111", fs + "/2"]),
                  ("state", ["bpctl", "-S", "2", "-s", "error"]),
                  ("owner", ["bpctl", "-S", "2", "-u", "12345"]),
                  ("attribute", ["setfattr", "-n", "bproc.a", "-v", "1", fs + "/2"])]:
    subprocess.run(["bpctl", "-S", "2", "-m", "110"], check=True)
    deadline = time.time() + 2 # the change of before is behind its answer
    while rows(os.pread(fd, 65536, 0))[2][2] != 0o110 and time.time() < deadline:
        time.sleep(0.01)
    while p.poll(200):
        os.pread(fd, 65536, 0)
    child = subprocess.Popen(["sh", "-c", 'sleep 0.3; exec "$@"', "sh"] + cmd)
    start = time.time()
    woken = p.poll(5000)
    check(what + " wakes a poll", woken != [] and time.time() - start > 0.2)
    check("which stays until it is read", p.poll(0) != [])
    child.wait()
    while p.poll(200):
        os.pread(fd, 65536, 0)
    check("and then is quiet", p.poll(0) == [])
check("the owner is read", rows(os.pread(fd, 65536, 0))[2][3] == 12345)
check("a part from the middle", len(os.pread(fd, 48, 48)) == 48)
END
python3 "$tmp/poll.py" "$fs" >"$tmp/poll" 2>&1
ok 'status is read and polled' not grep -qv '^good' "$tmp/poll"
grep -v '^good' "$tmp/poll" | sed 's/^/# /'
ok 'to the end' has 'a part from the middle' cat "$tmp/poll"

# --- a storm of stat stays in the kernel

ticks() { awk '{ print $14 + $15 }' "/proc/$(pid_of bpfs)/stat"; }
before=$(ticks)
python3 -c 'import os, sys
for i in range(30000): os.stat(sys.argv[1] + "/1")' "$fs"
ok '30000 stat calls cost the service less than 0.2 s' test $(($(ticks) - before)) -lt 20

# --- a node down, a restart of nodemgr

ok 'a node that is down' bpctl -S 2 -s down
mode_zero() { [ "$(stat -c '%a %U' "$fs/2")" = '0 root' ]; }
ok 'has no mode' eventually 5 mode_zero
gone() { ! attr 2 cpus 2>/dev/null; }
ok 'and no attributes' eventually 5 gone
up() { [ "$(attr 2 state)" = up ]; }
ok 'until it is up again' eventually 20 up
ok 'nodemgr is restarted' clustermatic restart nodemgr
ok 'chmod works on' chmod 101 "$fs/1"
ok 'and is seen' mode_is 1 101

# --- a crash

back() { [ -e "$fs/status" ]; }
kill -STOP "$(pid_of bpfs)"
ok 'stopped by a signal: a restart ends it by force' clustermatic restart bpfs
ok 'and it is there' eventually 5 back
exec 8<"$fs/status"
old=$(pid_of bpfs)
kill -9 "$old"
ok 'killed: it is there again' eventually 5 back
ok 'as one mount, not two' is 1 grep -c "^[^ ]* $fs " /proc/self/mounts
ok 'as it was' mode_is 1 101
exec 8<&-
umount -l "$fs"
ok 'unmounted by somebody: it is there again' eventually 5 back

# --- one more place; no FUSE at all

s6-svc -wD -T 5000 -d "$run/s6/bpfs"
ok 'ended, it leaves no mount' not grep -q " $fs " /proc/self/mounts
mkdir "$tmp/also"
"$libexec/bpfs" --also "$tmp/also" 2>"$tmp/also.log" &
second=$!
also() { [ -e "$tmp/also/status" ]; }
ok 'another folder shows them too' eventually 5 also
kill -9 $second
wait $second 2>/dev/null
also_dead() { ! ls "$tmp/also" 2>/dev/null; }
ok '(killed)' eventually 5 also_dead
"$libexec/bpfs" --also "$tmp/also" 2>"$tmp/also.log" &
second=$!
ok 'its dead mount is taken away too' eventually 5 also
kill $second
ok 'SIGTERM ends it' wait $second
ok 'and nothing is mounted there' not grep -q "$tmp/also" /proc/self/mounts
ok 'the service of the cluster is back' clustermatic restart bpfs
ok 'with its mount' eventually 5 back
unshare -m bash -c "mount -t tmpfs none /dev && exec '$libexec/bpfs'" 2>"$tmp/none.log" &
second=$!
ok 'without /dev/fuse it says so' eventually 5 grep -q 'no view of the nodes as files: /dev/fuse' "$tmp/none.log"
ok 'and stays' kill -0 $second
kill $second

kill -STOP "$(pid_of bpfs)"
ok 'down, with the service stopped' clustermatic down --name "$cluster"
same_mounts() { mounts | diff "$tmp/before" -; }
ok 'leaves no mount' eventually 5 same_mounts
done_testing
