#!/bin/bash
# 0230-job-control: the keys of a terminal, and signals to bpsh itself
. tests/lib.sh

need bin/bpsh bin/bpps tests/body libexec/clustermatic/bpvnode libexec/clustermatic/nodemgr \
    libexec/clustermatic/procspace libexec/clustermatic/iofwd
export body=$CM_BUILD/tests/body
cluster_up 3
terminal() { timeout 60 tests/terminal.py "$@"; }

# Bodies named so: how many there are, in this state if one is given.
cat >"$tmp/bodies" <<'END'
#!/bin/bash
bpps | awk -v name="$1" -v state="${2:-.}" \
    '($7 ~ name "$" || $8 ~ name "$") && $4 ~ state' | wc -l
END
chmod 755 "$tmp/bodies"
export bodies=$tmp/bodies
are() { [ "$("$bodies" "$2" "${3:-.}")" = "$1" ]; } # are N NAME [STATE]

# --- keys

ok 'Ctrl-C ends what runs on the nodes, and bpsh as by that signal' terminal \
    'bpsh 0-2 sleep 100' '?[ $("$bodies" sleep) = 3 ]' '^C' '=ready' 'echo status $?' '=^status 130$' \
    '?[ $("$bodies" sleep) = 0 ]'
ok 'without a word about it' terminal 'bpsh 0 sleep 100' \
    '?[ $("$bodies" sleep) = 1 ]' '^C' '?[ $("$bodies" sleep) = 0 ]' '?sleep 0.2' '!abnormally' '=ready'
ok 'a program may catch it' terminal \
    "bpsh 1 sh -c 'trap \"exit 5\" INT; echo he''re; while :; do read -r x; done'; echo status \$?" \
    '=here' '^C' '=status 5$'
ok 'Ctrl-\ ends it too' terminal 'bpsh 0-2 sleep 100; echo status $?' \
    '?[ $("$bodies" sleep) = 3 ]' '^\' '=status 131$' '?[ $("$bodies" sleep) = 0 ]'
ok 'Ctrl-Z stops bpsh and what runs on the nodes; fg lets it go on' terminal \
    'bpsh 0-2 sleep 100' '?[ $("$bodies" sleep S) = 3 ]' '^Z' '=Stopped' \
    '?[ $("$bodies" sleep T) = 3 ]' 'fg' '?[ $("$bodies" sleep S) = 3 ]' '^C' '=ready' \
    '?[ $("$bodies" sleep) = 0 ]'
ok 'again and again' terminal \
    'bpsh 0,1 sleep 100' '?[ $("$bodies" sleep S) = 2 ]' \
    '^Z' '=Stopped' '?[ $("$bodies" sleep T) = 2 ]' 'fg' '?[ $("$bodies" sleep S) = 2 ]' \
    '^Z' '=Stopped' '?[ $("$bodies" sleep T) = 2 ]' 'fg' '?[ $("$bodies" sleep S) = 2 ]' \
    '^Z' '=Stopped' '?[ $("$bodies" sleep T) = 2 ]' 'fg' '?[ $("$bodies" sleep S) = 2 ]' '^C'
ok 'bg too, and the shell can kill the job' terminal \
    'bpsh 0-2 sleep 100' '?[ $("$bodies" sleep S) = 3 ]' '^Z' '=Stopped' \
    '?[ $("$bodies" sleep T) = 3 ]' 'bg' '?[ $("$bodies" sleep S) = 3 ]' 'kill %1' \
    '?[ $("$bodies" sleep) = 0 ]'
ok 'a stopped job can be killed' terminal \
    'bpsh 0-2 sleep 100' '?[ $("$bodies" sleep S) = 3 ]' '^Z' '=Stopped' \
    '?[ $("$bodies" sleep T) = 3 ]' 'kill -9 %1' '?[ $("$bodies" sleep) = 0 ]'
ok 'what is deaf to Ctrl-C is left by the second' terminal \
    'bpsh 0,1 "$body" deaf' '=rank.*\n.*rank' '^C' '?sleep 0.5' '!ready' \
    '^C' '=ready' 'echo status $?' '=^status 130$' '?[ $("$bodies" deaf) = 0 ]'
ok 'a job in the background runs to its end' terminal \
    'bpsh 0 sh -c "exit 3" & wait $!; echo status $?' '=^status 3$'
ok 'what is typed for the shell does not stop it' terminal \
    'bpsh 0,1 sleep 100 &' '?[ $("$bodies" sleep S) = 2 ]' 'echo a' 'echo b' 'echo c' '?sleep 0.5' \
    'echo d' '=^d$' '?sleep 0.3' '!Stopped' '?[ $("$bodies" sleep S) = 2 ]' 'kill %1' \
    '?[ $("$bodies" sleep) = 0 ]'
ok 'in front again it gets it' terminal \
    'bpsh 2 cat &' '?[ $("$bodies" cat) = 1 ]' 'true' 'fg' 'for cat' '=^for cat$' '^D' '=ready'
ok 'lines that are typed go there, Ctrl-D ends them' terminal \
    'bpsh 2 cat; echo status $?' '?[ $("$bodies" cat) = 1 ]' 'so it is' '=^so it is$' '^D' '=^status 0$'
ok 'a terminal that hangs up takes the job along' terminal \
    'bpsh 0-2 sleep 100' '?[ $("$bodies" sleep) = 3 ]'
ok 'on all nodes' eventually 5 are 0 sleep

# --- signals to bpsh alone

mkfifo "$tmp/in"
exec 7<>"$tmp/in"
start() { # N NAME COMMAND...: bpsh in the background, once N bodies run; its pid in $job
    local n=$1 name=$2
    shift 2
    bpsh "$@" <"$tmp/in" >"$tmp/out" 2>"$tmp/err" 7>&- &
    job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    eventually 10 are "$n" "$name"
}
start 2 wait 0,1 "$body" wait
eventually 5 grep -q rank "$tmp/out"
eventually 5 bash -c "[ \$(grep -c rank '$tmp/out') = 2 ]"
kill -TERM $job
wait $job
rc=$?
ok 'TERM goes to the processes; theirs is the status' test $rc = 42
start 2 sleep 0,1 sleep 100
kill -HUP $job
wait $job
rc=$?
ok 'HUP too, and who dies of it makes 255' test $rc = 255
ok 'nothing is left' eventually 5 are 0 sleep
start 3 sleep 0,1,2 sleep 100
kill -STOP $job
sleep 0.3
ok 'STOP stops bpsh alone' are 3 sleep S
kill -CONT $job
kill -INT $job
wait $job
rc=$?
ok 'and CONT lets it pass a signal on' test $rc = 255
ok 'so that nothing is left' eventually 5 are 0 sleep

# Its agent does not answer: nothing is known to run, and nothing keeps bpsh.
stuck=$(agent 2)
on_exit+=("kill -CONT $stuck 2>/dev/null")
kill -STOP "$stuck"
bpsh 2 sleep 100 <"$tmp/in" 2>"$tmp/err" 7>&- & job=$!
on_exit+=("kill -9 $job 2>/dev/null")
one_ghost() { pgrep -P $job -x sleep; }
eventually 10 one_ghost >/dev/null
kill -TERM $job
over() { ! kill -0 $job 2>/dev/null; }
ok 'while a node does not answer a signal ends bpsh, too' eventually 30 over
wait $job
rc=$?
ok 'by that signal' test $rc = 143
kill -CONT "$stuck"
ok 'and nothing runs there when it answers again' eventually 20 are 0 sleep

start 2 wait 0,1 "$body" wait
eventually 5 bash -c "[ \$(grep -c rank '$tmp/out') = 2 ]"
disown $job
kill -KILL $job
ok 'bpsh killed: who reads sees the end' eventually 10 are 0 wait
start 1 yes 1 yes
disown $job
kill -KILL $job
ok 'who writes gets SIGPIPE' eventually 10 are 0 yes
start 2 sleep 0,1 sleep 100
ghosts=$(ps -o pid= --ppid $job)
disown $job
kill -KILL $job
ok 'who does neither runs on' are 2 sleep
# shellcheck disable=SC2086 # two of them
ok 'and can be ended by its pid' kill $ghosts
ok 'as it is' eventually 5 are 0 sleep
ok 'no ghost is left' eventually 5 is '' bash -c 'bpstat -p | tail -n +2'
done_testing
