#!/bin/bash
# 0220-exit-status: statuses to the bit, deaths by signals, and starts that fail
# shellcheck disable=SC2016 # what is in quotes is for the shells on the nodes
. tests/lib.sh

need bin/bpsh tests/body libexec/clustermatic/bpvnode libexec/clustermatic/nodemgr \
    libexec/clustermatic/procspace libexec/clustermatic/iofwd
/usr/bin/python3 -c 'import zmq, msgpack' 2>/dev/null ||
    plan_skip 'needs python3-zmq and python3-msgpack'
body=$CM_BUILD/tests/body
cluster_up 4

# N processes over the nodes: 0,1,2,3,0,1,...
spread() { seq 0 $(($1 - 1)) | awk '{ print $1 % 4 }' | paste -sd,; }

# --- exit statuses

tests/launcher.py "$(spread 256)" "$body" exit rank >"$tmp/exits" 2>&1
ok '256 processes with a status each' is 512 bash -c "wc -l <'$tmp/exits'"
seq 0 255 | awk '{ print $1, $1 * 256 }' >"$tmp/want"
ok 'the parent of the ghosts sees each' diff <(grep -v r "$tmp/exits") "$tmp/want"
ok 'and procspace has it too' diff <(sed -n 's/result \([0-9]* [0-9]*\) .*/\1/p' "$tmp/exits" | sort -n) "$tmp/want"
bpsh_gives_all() {
    local n bad=0
    for n in 0 1 2 3 7 42 100 123 124 125 126 127 128 129 130 137 143 200 253 254 255; do
        bpsh $((n % 4)) "$body" exit $n
        [ $? = $n ] || { echo "status $? of exit $n"; bad=1; }
    done
    return $bad
}
ok 'bpsh has the status of its process' bpsh_gives_all
ok 'or the highest of several' exits 63 bpsh "$(spread 64)" "$body" exit rank

# --- deaths

tests/launcher.py "$(spread 65)" "$body" die rank >"$tmp/deaths" 2>&1
# What does not kill (or is not for programs): 98 is the exit status.
seq 0 64 | awk '{ harmless = $1 == 0 || ($1 >= 17 && $1 <= 23) || $1 == 28 || $1 == 32 || $1 == 33
    print $1, harmless ? 98 * 256 : $1 }' >"$tmp/want"
ok 'a death by each signal there is the same death here' diff <(grep -v r "$tmp/deaths") "$tmp/want"
ok 'procspace knows how each died' \
    diff <(sed -n 's/result \([0-9]* [0-9]*\) .*/\1/p' "$tmp/deaths" | sort -n) "$tmp/want"
ok 'bpsh makes it 255' exits 255 bpsh 0 "$body" die 15
ok 'and says where' fails_with '^bpsh: Child process on node 2 exited abnormally.$' \
    bpsh 2 "$body" die 11
ok 'one of many is enough' exits 255 bpsh 0,1 sh -c '[ $BPROC_RANK = 0000000 ] || kill -9 $$'
dumps() { [ "$(cd "$tmp" && ulimit -c unlimited && CM_TEST_CORE=1 "$body" wstatus "$body" die 6)" = $((128 + 6)) ]; }
if dumps; then
    ok 'a dump of core is seen here' has '^0 134$' bash -c \
        "ulimit -c unlimited; CM_TEST_CORE=1 tests/launcher.py 0 '$body' die 6"
    # Many at a time. A program whose own dump failed, as it may where all of
    # them write one file, ended without one, and so must its ghost.
    all=$(printf '0,%.0s' {1..40})
    (ulimit -c unlimited; CM_TEST_CORE=1 tests/launcher.py "${all%,}" "$body" die 6) >"$tmp/cores"
    ok 'of each of many at once' eval "grep -q ' 134$' '$tmp/cores' && diff \
        <(grep -v r '$tmp/cores' | sort -n) \
        <(sed -n 's/result \([0-9]* [0-9]*\) .*/\1/p' '$tmp/cores' | sort -n)"
    ok 'and none where there was none' has '^0 6$' tests/launcher.py 0 "$body" die 6
else
    skip 'a dump of core is seen here' 'this machine writes none'
    skip 'of each of many at once' 'this machine writes none'
    skip 'and none where there was none' 'this machine writes none'
fi

# --- what it took

used() { tests/launcher.py "$@" | sed -n 's/^result //p' | sort -n; } # rank status utime stime maxrss
used 0,1,2 "$body" burn 200 >"$tmp/used"
ok 'processor time is told, of each' is 3 bash -c "awk '\$3 + \$4 >= 150000 && \$3 + \$4 < 2000000' '$tmp/used' | wc -l"
ok 'and memory' is 3 bash -c "awk '\$5 > 500 && \$5 < 100000' '$tmp/used' | wc -l"
ok 'a lazy one used little' is 1 bash -c "$(declare -f used); used 0 /bin/true | awk '\$3 + \$4 < 100000' | wc -l"

# --- starts that fail

mkdir -m 755 "$tmp/bin"
cd "$tmp/bin" || exit
make_file() { cat >"$1"; chmod "$2" "$1"; }
make_file unreadable 711 <"$body"
make_file forbidden 644 <"$body"
make_file script 755 <<<'#!/no/such/interpreter -x'
make_file nameless 755 <<<'#!  '
make_file text 755 <<<'echo I have no first line'
make_file empty 755 </dev/null
make_file library 755 < <(sed 's/libc\.so\.6/libq.so.6/' "$body")
make_file machine 755 <"$body"
printf '\xbe\xbe' | dd of=machine bs=1 seek=18 conv=notrunc status=none
make_file short 755 < <(head -c 1000 "$body")
mkdir folder
# fails STATUS PATTERN COMMAND: as a user, with this status, and one line for each node
fails() {
    local want=$1 pattern=$2 rc
    as 12345 bpsh 1,3 "$3" >"$tmp/out" 2>"$tmp/why"
    rc=$?
    [ $rc = "$want" ] && [ "$(grep -Ec -- "$pattern" "$tmp/why")" = "$(wc -l <"$tmp/why")" ] &&
        [ -s "$tmp/why" ] && return
    echo "status $rc, want $want:"
    cat "$tmp/why"
    return 1
}
ok 'a command that is not there' fails 1 '^bpsh: no-such-command: command not found$' no-such-command
ok 'a path that is not there' fails 1 '^bpsh: ./no-such: command not found$' ./no-such
ok 'a file that is no program by its mode' fails 1 '^bpsh: ./forbidden: Permission denied$' ./forbidden
ok 'a folder' fails 1 '^bpsh: ./folder: Is a directory$' ./folder
ok 'a program that may not be read' fails 127 '^[13]: .*/unreadable: Permission denied$' ./unreadable
ok 'a script without its interpreter' \
    fails 127 '^[13]: .*/script: its interpreter /no/such/interpreter is not on the master$' ./script
ok 'one that names none' fails 127 '^[13]: .*/nameless: names no interpreter' ./nameless
ok 'a text' fails 127 '^[13]: .*/text: neither a program nor a script' ./text
ok 'an empty file' fails 127 '^[13]: .*/empty: the file is empty$' ./empty
ok 'a program without its library' \
    fails 127 '^[13]: .*/library: needs the library libq.so.6, which is not on the master$' ./library
ok 'one for another machine' fails 127 "^[13]: .*/machine: .*this machine's kind$" ./machine
ok 'one that is cut off' fails 127 '^[13]: .*/short: ' ./short
ok 'an interpreter that is a script again' bash -c \
    "echo '#!/bin/cat' >first; chmod 755 first; echo '#!$tmp/bin/first' >second; chmod 755 second;
     bpsh 0 ./second | grep -q '^#!'"
ok 'none of that left a process' is '' bash -c 'bpstat -p | tail -n +2'
make_file large 755 <"$body"
truncate -s 600M large
ok 'a program larger than a node' fails 1 '^[13]: .*(room|space)' ./large
ok 'and works on' is n0 bpsh 0 hostname

# --- signals to a process that is still being started: its content is looked at for a while

cp /bin/sleep slow
truncate -s 120M slow
chmod 755 slow
ghost_of() { pgrep -P "$job" -x slow; }
gone() { ! kill -0 "$job" 2>/dev/null; }
early() { # NODE SIGNAL: to the ghost, as soon as there is one
    echo "$2" >>slow # another content: it has to be looked at again
    bpsh "$1" ./slow 100 </dev/null 2>/dev/null & job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    eventually 10 ghost_of >/dev/null
    ghost=$(ghost_of)
    kill "-$2" "$ghost"
}
ok 'TERM that comes so early' early 1 TERM
ok 'is not lost' eventually 30 gone
wait "$job"
rc=$?
ok 'but ends it' test $rc = 255
ok 'KILL' early 2 KILL
ok 'does so too' eventually 30 gone
none() { ! bpps 2 | grep -q slow; }
ok 'and nothing runs there' eventually 30 none
stopped() { bpps 3 | grep slow | awk '{ print $4 }' | grep -qx T; }
ok 'STOP' early 3 STOP
ok 'stops it where it runs' eventually 30 stopped
going() { bpps 3 | grep slow | awk '{ print $4 }' | grep -qx S; }
ok 'CONT' kill -CONT "$ghost"
ok 'lets it go on' eventually 10 going
ok 'until it is ended' kill -TERM "$ghost"
ok 'as it should' eventually 30 gone
wait "$job"
rc=$?
ok 'by that' test $rc = 255
done_testing
