#!/bin/bash
# 0001-build: every program answers --help and --version, refuses what it does
# not know, and clients stay free of ZeroMQ (which brings threads)
. tests/lib.sh

version=$(sed -n 's/#define CM_VERSION "\(.*\)"/\1/p' bus/rundir.h)

help_to_stdout() { "$1" --help 2>"$tmp/err" </dev/null | grep -qi "usage" && [ ! -s "$tmp/err" ]; }
refuses_option() {
    local rc
    "$1" --no-such-option >"$tmp/out" 2>"$tmp/err" </dev/null
    rc=$?
    [ $rc = 2 ] && [ ! -s "$tmp/out" ] && [ -s "$tmp/err" ] && return
    echo "status $rc, stdout:"; head -n 3 "$tmp/out"; echo "stderr:"; head -n 3 "$tmp/err"
    return 1
}
no_zmq() { ! ldd "$1" | grep -E 'libzmq|libpthread|libczmq'; }

for program in "$CM_BUILD"/bin/* "$libexec"/*; do
    name=$(basename "$program")
    if [ ! -x "$program" ] || [ -d "$program" ]; then
        continue
    fi
    if [ "$name" = bpghost ]; then # a stand-in: its words are another program's
        ok 'bpghost needs no library' not ldd "$program"
        continue
    fi
    ok "$name --help goes to stdout" help_to_stdout "$program"
    ok "$name --version says $version" has "(^| )$version" "$program" --version
    ok "$name refuses an option that it does not know, with status 2" refuses_option "$program"
done
for program in "$CM_BUILD"/bin/*; do
    if file -b "$program" 2>/dev/null | grep -q ELF || head -c 4 "$program" | grep -q ELF; then
        ok "$(basename "$program") does without ZeroMQ" no_zmq "$program"
    fi
done
ok 'clustermatic without a command is a mistake' exits 2 clustermatic
ok 'clustermatic with a command that does not exist is one too' exits 2 clustermatic upp
for service in busd nodemgr procspace iofwd bpfs bootsrv sched; do
    ok "$service: a descriptor that is none is a mistake" exits 2 "$libexec/$service" --ready-fd 3x
    ok 'and says so' fails_with "^$service: --ready-fd 3x: want a descriptor's number$" \
        "$libexec/$service" --ready-fd 3x
done
done_testing
