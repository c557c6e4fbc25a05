#!/bin/bash
# 0800-sched: jobs on the nodes: submitted, started, ended, asked about; two
# users in one pool; whose the nodes are meanwhile; interactive jobs
. tests/lib.sh
. tests/jobs.sh

need bin/bjssub bin/bjsstat bin/bjsctl bin/bpsh bin/bpstat libexec/clustermatic/sched \
    libexec/clustermatic/bpvnode
cluster_up 4
work=$tmp/work
mkdir -m 777 "$work"
cd "$work" || exit 1
a=12345 b=12346

standing() { bpstat -l "$1" | awk 'NR > 1 { print $1, $4, $5 }'; }

misused() { # misused PATTERN CMD...: status 2, and why
    local pattern=$1
    shift
    "$@" 2>why
    [ $? = 2 ] && grep -Eq -- "$pattern" why || { cat why; return 1; }
}

# --- without a bjs.conf: all nodes, and they stay open

ok 'sched is a service' has '^sched +ready' clustermatic status
up_for_jobs 4
ok 'the table has its header' has '^ID      User     Command                        Requirements                  $' bjsstat
ok 'nodes are still open to all' has '^0-3 +up +---x--x--x root' bpstat
ok 'bpsh works as ever for a user' is n3 as $a bpsh 3 hostname

job=$(as $a bjssub -n 2 -s 30 -O out 'echo $JOBID $NODES; bpsh $NODES hostname | sort' | id_of)
ok 'a submission prints the number of the job' test "$job" = 1
ok 'it ends' ended "$job"
ok 'it had its number and nodes, and bpsh used them' is $'1 0,1\nn0\nn1' cat out
ok 'the output is the user'"'"'s' is "$a" stat -c %u out
ok 'bjsstat knows the nodes' is 0,1 field "$job" node_list
ok 'and the status' is 0 field "$job" exit
ok 'ended jobs are listed' has '^ +1 #12345 .* 0 echo' bjsstat -d
ok 'nodes are open as before' has '^0-3 +up +---x--x--x root' bpstat
job=$(as $a bjssub -O '|cat >piped' 'echo through a pipe; bpsh $NODES echo and a node' | id_of)
fds=$(as $a bjssub -O fds 'exec ls /proc/self/fd' | id_of)
ended "$fds"
ok 'a job has three descriptors and no other, but the folder that ls reads' \
    is '0 1 2 3' bash -c 'paste -sd" " fds'
ok 'output goes to a command' eventually 10 is $'through a pipe\nand a node' cat piped
ended "$job" # it has given its node back
job=$(printf '#!/bin/sh\n# a comment\necho "script $1" on "$NODES"\nexit 3\n' | as $a bjssub -O script | id_of)
ok 'a script from standard input ends' ended "$job"
ok 'it was run by its first line' has '^script  on [0-3]$' cat script
ok 'its status is kept' is 3 field "$job" exit
ok 'and said' has 'It has ended: it exited with status 3' bjsstat why "$job"
job=$(as $a bjssub 'kill -SEGV $$' | id_of)
ended "$job"
ok 'a death by a signal is kept' is 11 field "$job" signal

# --- what is refused, and why

ok 'too many nodes' fails_with 'The maximum number of nodes for pool default is 4' bjssub -n 5 true
ok 'no such pool' fails_with 'No pool named: nowhere' bjssub -p nowhere true
ok 'no seconds' misused 'want a number of 1 to' bjssub -s 0 true
ok 'no nodes' misused 'want a number of 1 to' bjssub -n 0 true
ok 'a relative directory' misused 'want an absolute path' bjssub -D here true
ok 'a priority above 0 from a user' fails_with 'only root' as $a bjssub --priority 5 true
ok 'an empty script' misused 'no script' bash -c 'bjssub </dev/null'
ok 'a job that is to follow one that is not there' fails_with 'No job 999 found' bjssub --after 999 true
ok 'a job that is not there' fails_with 'No job 999 found' bjsstat 999
ok 'its removal, in the original'"'"'s words' has '^999: \(error No\\ job\\ 999\\ found\.\)$' \
    bash -c '! bjsctl -r 999'
ok 'an unknown action' misused 'there is no action explode' bjsctl explode 1
ok 'bjsctl alone does nothing' bjsctl

# --- what is told about what cannot be

job=$(as $a bjssub -O missing/out true 2>warned | id_of)
ok 'an output folder that is not there is warned of' grep -q 'missing: No such file' warned
ended "$job"
ok 'the job fails and says so' has 'could not be started: output missing/out: No such file' bjsstat why "$job"
job=$(as $a bjssub -D /nonexistent true | id_of)
ended "$job"
ok 'so does one whose directory is not there' has 'directory /nonexistent: No such file' bjsstat why "$job"

# --- odd words

job=$(as $a env LONG="$(head -c 10000 /dev/zero | tr '\0' x)" \
    bjssub -O long 'echo ${#LONG}' | id_of)
ended "$job"
ok 'an environment of 10,000 bytes arrives' is 10000 cat long
job=$(as $a bjssub --name 'Größe "π" 名前 '"'"'x'"'" -D "$work" -O 'out put "1"' "echo 'a  b'" | id_of)
ended "$job"
ok 'a name may be any text' is 'Größe "π" 名前 '"'"'x'"'" field "$job" name
ok 'names of files too, and quotes stay' is 'a  b' cat 'out put "1"'
ok 'a name with a line end does no harm to the table' bash -c \
    'bjssub --hold --name $'"'"'two\nlines'"'"' true >/dev/null; [ "$(bjsstat | wc -l)" = 3 ]'
bjsctl -r "$(bjsstat --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["id"])')" >/dev/null

# --- interactive

ok 'an interactive job runs here' has '^here on 0,1$' \
    as $a bjssub -i -n 2 'echo here on $NODES' </dev/null
as $a bjssub -i -n 2 true </dev/null >told
ok 'it tells its nodes as the original did' is $'Waiting for interactive job nodes.\nStarting interactive job.\nNODES=0,1' \
    grep -v '^JOBID\|^(nodes' told
ok 'in both ways' grep -q '^(nodes [0-9]* 0 1)$' told
ok 'its exit status is ours' exits 7 as $a bjssub -i 'exit 7' </dev/null
ok 'death by a signal too' exits 137 as $a bjssub -i 'kill -KILL $$' </dev/null
as $a bjssub -i 'sleep 1000 & echo $! >left' </dev/null >/dev/null
ok 'nothing of it is left' not kill -0 "$(cat left)"

# --- a pool that takes its nodes over; users in turn

cat >"$state/bjs.conf" <<EOF
acctlog $state/acct
acctjson $state/acct.json
pool default
    policy simple
    nodes 0-1
    defaultsecs 60
    killsecs 1
pool other
    policy shared
    nodes 2
EOF
ok 'the configuration is taken' bjsctl reload
ok 'idle nodes are root'"'"'s and closed' eventually 10 is $'0 ---x------ root\n1 ---x------ root' standing 0-1
ok 'those of a sharing pool are open' is '2 ---x--x--x root' standing 2
ok 'those of none are too' is '3 ---x--x--x root' standing 3
one=$(as $a bjssub -n 2 -O one 'bpsh $NODES sleep 1000' | id_of)
two=$(as $b bjssub -n 1 -O two 'bpsh $NODES id -u' | id_of)
ok 'the first job runs' eventually 10 in_state "$one" running
ok 'its nodes are its user'"'"'s' eventually 10 is $'0 ---x------ #12345\n1 ---x------ #12345' standing 0-1
ok 'others may not go there' fails_with 'no execute permission' as $b bpsh 0 true
ok 'nor start jobs' in_state "$two" queued
ok 'the running one is marked in the table' has "^ +$one R #12345 +bpsh .NODES sleep 1000 " bjsstat
ok 'the waiting one is not' has "^ +$two   #12346 +bpsh .NODES id -u" bjsstat
ok 'why it waits' has 'asks for 1 node; pool default has 2, 2 of them up and 0 free' bjsstat why "$two"
ok 'and until when' has 'It starts about 20.* reckoned from the time limits of 1 running job' bjsstat why "$two"
ok 'another user may not remove it' has 'error Permission\\ denied' as $b bash -c '! bjsctl -r '"$one"
running_sleeps() { [ "$(bpps 0-1 | grep -c 'sleep 1000')" = "$1" ]; }
ok 'its processes run there' eventually 10 running_sleeps 2
ok 'its own may' is "$one: (ok)" as $a bjsctl -r "$one"
ended "$one"
ok 'all of it is gone from the nodes' running_sleeps 0
ok 'it says by whom' has 'removed by user 12345' bjsstat why "$one"
ended "$two"
ok 'the other user had the node next' is "$b" cat two
ok 'then it is root'"'"'s again' eventually 10 is $'0 ---x------ root\n1 ---x------ root' standing 0-1
stubborn=$(as $a bjssub -O stub 'trap "" TERM; bpsh $NODES sh -c "trap \"\" TERM; sleep 1000"; sleep 1000' | id_of)
eventually 10 in_state "$stubborn" running
as $a bjsctl -r "$stubborn" >/dev/null
ok 'a job that ignores TERM is ended too' ended "$stubborn" 15
ok 'nothing of the user is left anywhere' eventually 10 not pgrep -r R,S,D,T,t -u $a
limited=$(as $a bjssub -s 1 'sleep 1000; bpsh $NODES true' | id_of)
ok 'a time limit ends the script on the master' ended "$limited" 15
ok 'and is the reason' has 'its time limit of 1 s was over' bjsstat why "$limited"
shared1=$(as $a bjssub -p other -O s1 'bpsh $NODES sleep 1000' | id_of)
shared2=$(as $b bjssub -p other -O s2 'bpsh $NODES sleep 2000' | id_of)
ok 'in a sharing pool both run at once' eventually 10 in_state "$shared1" running
ok 'both' eventually 10 in_state "$shared2" running
eventually 10 bash -c '[ "$(bpps 2 | grep -c "sleep [12]000")" = 2 ]'
as $a bjsctl -r "$shared1" >/dev/null
ended "$shared1"
ok 'the end of one leaves the other alone' has 'sleep 2000' bpps 2
bjsctl -r "$shared2" >/dev/null
ended "$shared2"
ok 'accounting has a line for each job that ran' \
    eventually 10 grep -qP '^\d{4} \d\d \d\d \d\d \d\d \d\d\tdefault\t12345\t12345\t2\t\d+$' "$state/acct"
ok 'and all about it as JSON' grep -q "\"id\":$stubborn,.*\"reason\":\"removed by user 12345\"" "$state/acct.json"
node_service() { bpsh 0 setsid sleep 3000 </dev/null >/dev/null 2>&1 & }
node_service
eventually 10 has 'sleep 3000' bpps 0
job=$(as $a bjssub -n 2 'bpsh $NODES true' | id_of)
ended "$job"
ok 'services of the site on a node are left alone' has 'sleep 3000' bpps 0
builtin kill %% 2>/dev/null
ok 'a configuration with an error is refused, with the line' fails_with 'bjs.conf:1: polcy is neither' \
    bash -c "echo 'polcy x' >'$state/bjs.conf'; bjsctl reload"
ok 'and the one before stays' has '^Pool: other' bjsstat
done_testing
