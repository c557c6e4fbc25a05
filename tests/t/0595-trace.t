#!/bin/bash
# shellcheck disable=SC2317 # functions are called by ok and eventually
# 0595-trace: strace and gdb for processes on nodes, from the master by the
# ghost's pid and on the node by the same
. tests/lib.sh

need bin/bptrace bin/bpsh libexec/clustermatic/procspace
for tool in strace gdb gdbserver; do
    command -v $tool >"$tmp/out" || plan_skip "$tool is not installed"
done
cluster_up 2 --node-size 256M
for prog in 'sleep 0' 'strace --version' 'gdbserver --version'; do
    # shellcheck disable=SC2086
    bpsh -n 0,1 $prog >"$tmp/out"
done
bptrace() { timeout -k 1 60 "$CM_BUILD/bin/bptrace" "$@"; }

ghost() { pgrep -P "$1" | head -n 1; }
started() { pid=$(ghost "$job") && [ -n "$pid" ] && bpstat -p | grep -Eq "^${pid}[[:space:]]"; }
mkfifo "$tmp/in"
hold() { # NODE COMMAND...: it waits for its input, fd 7; sets job and pid
    bpsh "$@" <"$tmp/in" >"$tmp/out" 2>"$tmp/err" & job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    exec 7>"$tmp/in"
    eventually 10 started
}
attached() { grep -qs "Process $1 attached" "$tmp/trace"; }
shows() { has "$2" cat "$tmp/$1"; } # trace|gdb PATTERN
kid_of() { kid=$(pgrep -P "$1" | head -n 1); [ -n "$kid" ]; }
# Its pid there: another where a cluster beside this one has a ghost of that number.
there() { bpstat -p --json | python3 -c 'import json, sys
print(*[p["npid"] for p in json.load(sys.stdin) if p["pid"] == int(sys.argv[1])])' "$1"; }
lives() { [ "$(ps -o stat= -p "$1" | cut -c1)" = S ]; }

# --- strace

hold 1 sh -c 'read x; sleep 0; exit 3'
rm -f "$tmp/trace"
bptrace "$pid" -f >"$tmp/trace" 2>&1 7>&- & trace=$!
ok 'strace from here' eventually 20 attached "$pid"
exec 7>&-
wait $job
ok 'the process ends as it would' test $? = 3
wait $trace
ok 'strace with it' test $? = 0
ok 'it saw the end of the input' shows trace 'read\(0, "", '
ok 'the end of the process' shows trace '\+\+\+ exited with 3 \+\+\+'
ok 'and a child, of which it was told to tell' shows trace 'execve\("[^"]*/sleep"'

hold 1 sh -c 'sleep 1000; exit 4'
eventually 10 kid_of "$pid"
listed() { npid=$(there "$kid") && [ -n "$npid" ]; }
eventually 10 listed
rm -f "$tmp/trace"
bpsh -n 1 strace -p "$npid" >"$tmp/trace" 2>&1 7>&- & trace=$!
ok 'strace on the node, of a child' eventually 20 attached "$npid"
kill -INT "$(ghost $trace)"
wait $trace
ok 'an interrupt ends it' shows trace detached
ok 'and not the child' lives "$kid"
rm -f "$tmp/trace"
bptrace "$kid" >"$tmp/trace" 2>&1 7>&- & trace=$!
ok 'from here, of the child' eventually 20 attached "$npid"
kill -TERM "$kid"
wait $trace
ok 'saw what has killed it' shows trace '--- SIGTERM '
exec 7>&-
wait $job
ok 'its parent ends' test $? = 4

# --- gdb

cat >"$tmp/loop.c" <<'END'
#include <unistd.h>
int counter = 41;
static int add_one(int c) { return c + 1; }
int main(void)
{
    char c;
    while (read(0, &c, 1) == 1)
        counter = add_one(counter);
    return counter;
}
END
gcc -g -O0 -o "$tmp/loop" "$tmp/loop.c"
chmod 755 "$tmp/loop"
hold 0 "$tmp/loop"
ok 'gdb from here' bash -c \
    "timeout -k 1 60 bptrace -g $pid -batch -ex bt -ex 'print counter + 1' -ex 'shell ps -o stat= -p $pid' >'$tmp/gdb' 2>&1"
ok 'reads variables' shows gdb '^\$1 = 42'
ok 'knows functions and lines' shows gdb '^#[0-9]+ .* in main \(\) at .*loop.c:7'
ok 'the ghost sleeps on meanwhile' shows gdb '^S'
bptrace -g "$pid" -batch -ex 'break add_one' -ex 'shell echo > '"$tmp/set" -ex continue \
    -ex 'set variable counter = 6' -ex 'print c' -ex 'delete' -ex 'return' >"$tmp/gdb" 2>&1 7>&- & trace=$!
eventually 20 test -e "$tmp/set"
printf x >&7
wait $trace
ok 'stops at a breakpoint' shows gdb '^Breakpoint 1.*, add_one \(c=41\) at '
ok 'and shows arguments' shows gdb '^\$1 = 41'
ok 'then lets it go on' lives "$pid"
hold_gdb() { timeout -k 1 60 bpsh -n 0 gdb -p "$pid" -batch -ex 'print counter' >"$tmp/gdb" 2>&1 7>&-; }
# Beside its libraries gdb needs a part of Python's.
python=$(find /usr/lib -maxdepth 1 -name 'python3.*' -type d | head -n 1)
mkdir -p "$tmp/$(basename "$python")"
cp -r "$python"/*.py "$python/encodings" "$python/collections" "$python/re" "$python/importlib" \
    "$tmp/$(basename "$python")/" 2>"$tmp/err"
if bpcp -r "$tmp/$(basename "$python")" 0:/usr/lib/ 2>"$tmp/err" && hold_gdb; then
    ok 'gdb on the node' shows gdb '^\$1 = '
else
    diag "$(head -n 5 "$tmp/gdb" "$tmp/err")"
    ok 'gdb on the node' false
fi
exec 7>&-
wait $job

# --- who may

as_user() { setpriv --reuid 12345 --regid 12345 --clear-groups "$@"; }
setpriv --reuid 12345 --regid 12345 --clear-groups bpsh -N 1 sleep 1000 & job=$!
eventually 10 started
his=$pid
rm -f "$tmp/trace"
as_user bptrace "$his" >"$tmp/trace" 2>&1 7>&- & trace=$!
decided() { attached "$his" || grep -qs 'not permitted' "$tmp/trace"; }
eventually 20 decided
kill -KILL "$his"
wait $trace
if grep -q 'not permitted' "$tmp/trace"; then # yama's ptrace_scope
    skip 'a user traces his own' 'the kernel forbids it'
else
    ok 'a user traces his own' shows trace '\+\+\+ killed by SIGKILL \+\+\+'
fi
wait $job
hold 1 sleep 1000
not_his() { as_user "$CM_BUILD/bin/bptrace" "$pid"; }
ok 'not what is root'\''s' fails_with 'Operation not permitted' not_his
kill "$pid"
exec 7>&-
wait $job

# --- mistakes

ok 'no such process' fails_with '^bptrace: process 4194000 is not on any node: bpstat -p' bptrace 4194000
ok 'one of the master' fails_with "process $$ is not on any node" bptrace $$
ok 'which?' exits 2 bptrace
ok 'not a number' exits 2 bptrace solver
hold 1 sleep 1000
ok 'without strace: told' fails_with 'strace is not installed: apt-get install strace' \
    env PATH=/nowhere "$CM_BUILD/bin/bptrace" "$pid"
ok 'without gdb: told' fails_with 'gdb is not installed' env PATH=/nowhere "$CM_BUILD/bin/bptrace" -g "$pid"
kill "$pid"
exec 7>&-
wait $job
ok 'no cluster: told' fails_with '^bptrace: ' env CM_RUNDIR=/nowhere "$CM_BUILD/bin/bptrace" 77
done_testing
