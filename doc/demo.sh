#!/bin/bash
# demo.sh - the tour of `make demo`: four virtual nodes, and what one does with
# them. The cluster is left running.
set -u
cd "$(dirname "$0")/.." || exit 1
CM_BUILD=$(realpath "${CM_BUILD:-build}")
cm=$CM_BUILD/bin/clustermatic

if [ "$(id -u)" != 0 ]; then
    echo "demo: starting a cluster needs root: sudo make demo" >&2
    exit 1
fi
eval "$("$cm" env)"

bold=$(tput bold 2>/dev/null) && plain=$(tput sgr0 2>/dev/null) && [ -t 1 ] || bold='' plain=''
say() { printf '\n%s# %s%s\n' "$bold" "$1" "$plain"; }
# show 'COMMAND': print it as typed, run it, give its status if not 0.
show() {
    local rc
    printf '%s$ %s%s\n' "$bold" "$1" "$plain"
    eval "$1"
    rc=$?
    [ $rc = 0 ] || printf '(status %d)\n' $rc
    return $rc
}
must() {
    show "$1" || {
        echo "demo: that should have worked; \`clustermatic logs\` and \`clustermatic doctor\` say more" >&2
        exit 1
    }
}

if "$cm" status >/dev/null 2>&1; then
    say "A cluster is up already; the tour uses it."
else
    say "Start the master's services and four virtual nodes."
fi
"$cm" status >/dev/null 2>&1 || must 'clustermatic up --virtual 4'
must 'clustermatic status'

say "The nodes: open to all, nothing on them but what the master sends."
must 'bpstat'

say "A program of the master, on every node; -p puts the node's number in front."
must 'bpsh 0-3 -p hostname'
must 'bpsh -a -L -p df'

say "Standard input goes there, output and exit status come back."
must 'echo hello | bpsh 2 cat'
show "bpsh 1 sh -c 'exit 7'"
[ $? = 7 ] || exit 1

say "A job waits until nodes are its own; -i runs it here, at this terminal."
must "bjssub -i -n 2 'bpsh \$NODES -p hostname'"

say "A process of a node has a stand-in here with the same pid, a ghost: ps and kill work."
bpsh=
show 'bpsh 0-3 sleep 1000 </dev/null & bpsh=$!'
four_sleep() { [ "$(pgrep -c -P "$bpsh")" = 4 ] && [ "$(bpps | grep -c 'sleep 1000')" = 4 ]; }
three_sleep() { [ "$(bpps | grep -c 'sleep 1000')" = 3 ]; }
within() { # within SECONDS CONDITION
    local end=$((SECONDS + $1))
    until "$2"; do [ $SECONDS -lt $end ] || break; done
}
within 20 four_sleep
must 'ps --ppid $bpsh -o pid,stat,args'
must 'bpps | grep sleep'
must 'kill -KILL $(pgrep -P $bpsh | tail -n 1)'
within 20 three_sleep
must 'bpps | grep sleep'
say "The rest end too; bpsh gives 255, since one died by a signal."
must 'pkill -TERM -P $bpsh'
show 'wait $bpsh'

cat <<END

The cluster is still running. To go on with it:
    eval "\$($cm env)"
    bpstat; bpsh 0-3 -p uname -a; bpps; bpctl --help; man bpsh
To end it:
    sudo $cm down
END
