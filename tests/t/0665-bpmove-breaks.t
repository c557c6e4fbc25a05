#!/bin/bash
# 0665-bpmove-breaks: services, agents and what moves a process are killed while it is
# moved from outside: it goes on in one place, and its parent hears how it ends
# shellcheck disable=SC2317 # functions are called by ok and eventually
. tests/lib.sh
. tests/moves.sh

need bin/bpmove bin/bpsh libexec/clustermatic/bpmover libexec/clustermatic/bprestore
need_root
python=/usr/bin/python3
[ -x $python ] || plan_skip "$python is not installed"
lib=$($python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
cluster_up 3
bpmove() { timeout -k 1 100 "$CM_BUILD/bin/bpmove" "$@"; }
moves=${CM_MOVES:-3}

# It counts. With MEGABYTES to carry there is time to kill somebody.
cat >"$tmp/count.py" <<'END'
import signal, sys, time
over = False
def end(*a):
    global over
    over = True
signal.signal(signal.SIGUSR1, end)
size = int(sys.argv[1]) << 20
ballast = bytearray(b"x" * 4096) * (size >> 12)
print("ready", flush=True)
n = s = 0
while not over:
    n += 1
    s += n
    time.sleep(0.001)
right = s == n * (n + 1) // 2 and n > 10 and ballast.count(b"x") == size
print("right" if right else "wrong", flush=True)
raise SystemExit(7 if right else 8)
END
count() { # NODE MEGABYTES: sets job and pid
    : >"$tmp/said"
    bpsh -n "$1" --with "$lib" $python -c "$(cat "$tmp/count.py")" "$2" "$tmp" >"$tmp/said" 2>&1 & job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    eventually 20 its_pid && eventually 20 said '^ready$'
}

# Those that run its code, on any machine; a ghost or a restorer does not.
runs() { pgrep -f "^/usr/bin/python3 .* $tmp\$" -r R,S,D,T,t |
    while read -r p; do
        case $(readlink "/proc/$p/exe") in */python3*) echo "$p" ;; esac
    done; }
one() { [ "$(runs | wc -l)" = 1 ]; }
busy() { # it does something: it is not waiting for ever
    local p was
    p=$(runs) && was=$(grep ^voluntary "/proc/$p/status") && sleep 0.05 &&
        [ "$(grep ^voluntary "/proc/$p/status")" != "$was" ]
}
ticks() { eventually 10 busy; }

mover_there() { # our bpinit's child that moves it: it traces
    local p
    for p in $(pgrep -xf "bpinit --space $run/space/.*" -r R,S,D,t); do
        grep -q "^TracerPid:.$p\$" /proc/[0-9]*/status 2>/dev/null && echo "$p"
    done
}
break_it() { # WHAT
    case $1 in
    procspace) kill -9 "$(pid_of procspace)" ;;
    agents) for n in 0 1 2; do kill -9 "$(agent $n)"; done ;;
    mover) for p in $(mover_there) $(pgrep -f "^[^ ]*bpmover .* $pid "); do kill -9 "$p"; done ;;
    all) for w in mover agents procspace; do break_it $w; done ;;
    esac 2>/dev/null
    return 0
}
breaks() { # WHAT WHERE...
    local what=$1 i to mv
    shift
    count 0 30 || { cat "$tmp/said"; return 1; }
    for ((i = 0; i < moves; i++)); do
        to=${*: (i % $#) + 1:1}
        bpmove "$pid" "$to" >"$tmp/moved" 2>&1 & mv=$!
        sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
        break_it "$what"
        wait $mv || cat "$tmp/moved"
        eventually 30 one || { echo "it runs $(runs | wc -l) times"; runs; return 1; }
        ticks || { echo "it does not run"; return 1; }
    done
    kill -USR1 "$pid"
    wait "$job"
    rc=$?
    [ $rc = 7 ] && { [ "$what" = all ] || said '^right$'; } ||
        { echo "status $rc"; cat "$tmp/said"; return 1; }
}
ok 'procspace is killed: it runs once, and ends as it should' breaks procspace 1 2 0
ok 'agents are' breaks agents 1 2 0
ok 'what moves it is' breaks mover 1 2 0
ok 'there and back' breaks mover master 1
ok 'all of them are' breaks all 1 2 master 0

# --- at every moment, those within the calls that it is made to make, too

ok 'the program compiles' gcc -Wall -Wextra -Werror -O1 -o "$tmp/calm" tests/libbproc/calm.c
bodies() { pgrep -f "^$tmp/calm mark" -r R,S,D,T,t |
    while read -r p; do
        case $(readlink "/proc/$p/exe") in */calm) echo "$p" ;; esac
    done; }
one_body() { body=$(bodies) && [ "$(wc -w <<<"$body")" = 1 ]; }
# What one of the master's says elsewhere is copied by another, which may end after it.
calm() { # TIMES PLACE PLACE: what moves it is killed so often
    local times=$1 i mv at to on=()
    shift
    : >"$tmp/said"
    [ "$1" = master ] || on=(bpsh -n "$1")
    "${on[@]}" "$tmp/calm" mark >"$tmp/said" 2>&1 </dev/null & job=$!
    on_exit+=("kill -9 $job 2>/dev/null")
    pid=$job
    eventually 20 said '^ready$' && { [ "$1" = master ] || its_pid; } || return 1
    for ((i = 0; i < times; i++)); do
        eventually 20 one_body || { echo "it runs $(bodies | wc -l) times, after $i"; cat "$tmp/said"; return 1; }
        at=$(bpstat -p | awk -v pid="$pid" '$1 == pid { print $2 }')
        [ "${at:-master}" = "$1" ] && to=$2 || to=$1
        bpmove "$pid" "$to" >"$tmp/moved" 2>&1 & mv=$!
        "$tmp/calm" kill "$body" 1 >/dev/null || { echo 'nobody traces it'; cat "$tmp/moved"; }
        wait $mv
    done
    eventually 20 one_body || { echo "it runs $(bodies | wc -l) times"; cat "$tmp/said"; return 1; }
    # Nothing that would stand in the way has been left in it.
    bpmove "$pid" 2 && eventually 20 one_body || { bpmove --check "$pid"; return 1; }
    kill -USR1 "$pid"
    wait "$job"
    rc=$?
    [ $rc = 7 ] && eventually 10 said '^right$' || { echo "status $rc"; cat "$tmp/said"; return 1; }
}
ok 'its mover is killed at any moment: it notices nothing' calm $((4 * moves)) 0 1
ok 'on the master, and from there' calm $((4 * moves)) master 1

asked() { # node 1's agent, which does not read it
    mover_there && [ "$(nsenter -t "$1" -n ss -Htn state established dport = :2223 |
        awk '{ n += $1 } END { print n + 0 }')" -gt 0 ]
}
early() { # what moves it is killed while the other node has not answered yet
    local there mv
    count 0 1 || { cat "$tmp/said"; return 1; }
    there=$(agent 1) && kill -STOP "$there" || return 1
    on_exit+=("kill -CONT $there 2>/dev/null")
    bpmove "$pid" 1 >"$tmp/moved" 2>&1 & mv=$!
    eventually 20 asked "$there" || { kill -CONT "$there"; return 1; }
    break_it mover
    kill -CONT "$there"
    wait $mv
    one && ticks || { echo 'it does not run'; return 1; }
    kill -USR1 "$pid"
    wait "$job"
    rc=$?
    [ $rc = 7 ] && said '^right$' || { echo "status $rc"; cat "$tmp/said"; return 1; }
}
ok 'what moves it is killed before anything is sent: it goes on' early

# --- what moves it is killed when only the other machine knows where it runs

init_of() { pgrep -xf "bpinit --space $run/space/$1 .*"; }
held() { at "$1" nft list table ip hold | grep -q 'counter packets [1-9]'; }
release() { at "$1" nft delete table ip hold; }
told() { # bpinit, which does not read it: that it is ready, and that it is to go on
    [ "$(nsenter -t "$target" -n ss -Hxp | grep -F "pid=$target," | awk '$3 > 0' | wc -l)" = 2 ]
}
waits() { grep -q '^34 ' "/proc/$old/syscall"; } # pause(2)
parked() { # its old self waits, for good, by its mover's hand
    waits && not grep -q '^TracerPid:.0$' "/proc/$old/status" && sleep 0.1 && waits
}
unsure() { # FROM TO HOW WHERE: its mover dies then; how: what else does; where it runs
    local mv to=$2 target old
    if [ "$1" = master ]; then
        : >"$tmp/said"
        $python -c 'import os, sys
os.closerange(3, 1024)
os.execv(sys.argv[1], sys.argv[1:])' $python -c "$(cat "$tmp/count.py")" 30 "$tmp" >"$tmp/said" 2>&1 & job=$!
        pid=$job
        eventually 20 said '^ready$' || return 1
    else
        count "$1" 30 || return 1
    fi
    old=$(runs) && target=$(init_of "$to") && hold "$to" || return 1
    on_exit+=("kill -CONT $target 2>/dev/null")
    bpmove "$pid" "$to" >"$tmp/moved" 2>&1 & mv=$!
    # Its restorer stands there, and its image is on its way: it is let come, and nobody
    # says that it has.
    eventually 20 held "$to" && kill -STOP "$target" && release "$to" || return 1
    eventually 20 told && eventually 20 parked || { kill -CONT "$target"; wait $mv; echo 'it did not wait'; return 1; }
    [ "$3" != procspace ] || break_it procspace
    break_it mover
    eventually 10 waits || { cat "/proc/$old/syscall"; return 1; }
    [ "$3" != target ] || kill -9 "$target"
    kill -CONT "$target"
    wait $mv || cat "$tmp/moved"
    eventually 30 one || { echo "it runs $(runs | wc -l) times"; return 1; }
    ticks || { echo 'it does not run'; return 1; }
    [ "$4" = master ] || eventually 20 is_on "$pid" "$4" || return 1
    kill -USR1 "$pid"
    wait "$job"
    rc=$?
    [ $rc = 7 ] && eventually 10 said '^right$' || { echo "status $rc"; cat "$tmp/said"; return 1; }
}
if command -v nft >/dev/null; then
    ok 'it has gone, and nobody could say so' unsure 0 1 mover 1
    ok 'procspace is killed besides' unsure 0 1 procspace 1
    ok 'from the master' unsure master 1 mover 1
    ok 'procspace is killed besides, and finds the note' unsure master 1 procspace 1
    ok 'it has not: the other node is lost' unsure 0 1 target 0
    ok 'nor from the master' unsure master 2 target master
else
    skip 'only the other machine knows where it runs' 'nft is not installed'
fi

left() { bpstat -p | tail -n +2 | grep -q .; }
ok 'nothing is left on the nodes' eventually 20 not left
held() { compgen -G "$run/held.*"; }
ok 'nor a note of a move' eventually 20 not held
done_testing
