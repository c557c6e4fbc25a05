#!/bin/bash
# 0620-rfork: copies of a process on other nodes, and from there on the master: one,
# many, in a tree; to each other they are parents and children; nodes that are down
# are told, those behind one that ends in the middle of the image get it all the same,
# and nothing is left of what did not come about, services killed or not
# shellcheck disable=SC2317 # functions are called by ok
. tests/lib.sh
. tests/moves.sh

need lib/libbproc.so libexec/clustermatic/bprestore bin/bpsh
need_root
export LD_LIBRARY_PATH=$libdir
flags=(-Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I.)
chmod 755 "$tmp"
ok 'the program compiles' gcc "${flags[@]}" -o "$tmp/rfork" tests/libbproc/rfork.c \
    -L"$libdir" -lbproc -lm
ok 'so does that of relatives' gcc "${flags[@]}" -o "$tmp/kin" tests/libbproc/kin.c \
    -L"$libdir" -lbproc
ok 'so does the example' gcc "${flags[@]}" -o "$tmp/queens" doc/examples/queens.c \
    -L"$libdir" -lbproc
cluster_up 8
bpctl -S 7 -H
is_down() { [ "$(bpstat -s 7)" = down ]; }
ok 'one node is down' eventually 20 is_down
rfork() { timeout -k 1 60 "$tmp/rfork" "$@" </dev/null; }
user=(setpriv --reuid 61001 --regid 61001 --clear-groups)
urfork() { timeout -k 1 60 "${user[@]}" "$tmp/rfork" "$@" </dev/null; }

ok 'a child on a node' is 'child on 0, parent is another' rfork one 0
ok 'a user has one too' is 'child on 1, parent is another' urfork one 1
ok 'seven, by way of each other' is '7 ran, 0 are down' rfork many 0 1 2 3 4 5 6
ok 'some here, some there, some twice' is '6 ran, 0 are down' rfork many -1 3 3 -1 0 3
ok 'those that are down are told' is '4 ran, 3 are down' rfork many 7 0 7 1 2 7 3
ok 'children that come to nothing are not heard of' is '0 faults' rfork signals 2 7
ok 'nor those of nodes that are not there' is '0 faults' rfork signals 2 99
twenty() { is '40 ran, 0 are down' rfork many $(seq 0 6) $(seq 0 6) $(seq 0 6) $(seq 0 6) $(seq 0 6) 0 1 2 3 4; }
ok 'forty' twenty
ok 'a program on a node has one on another' timeout 60 bpsh 0 "$tmp/rfork" one 1
ok 'many, some where it is' is '6 ran, 0 are down' timeout 60 bpsh 2 "$tmp/rfork" many 0 1 2 2 3 0
ok 'those that are down are told there too' is '3 ran, 2 are down' \
    timeout 60 bpsh 2 "$tmp/rfork" many 7 0 1 7 2
ok 'and not heard of' is '0 faults' timeout 60 bpsh 2 "$tmp/rfork" signals 1 7
ok 'a user there has them too' \
    timeout 60 "${user[@]}" bpsh 3 "$tmp/rfork" many 0 1 3
ok 'a program on a node has one on the master' timeout -k 1 60 bpsh 0 "$tmp/rfork" one -1
ok 'many there, and elsewhere' is '6 ran, 0 are down' \
    timeout -k 1 60 bpsh 2 "$tmp/rfork" many -1 0 -1 2 1 -1
ok 'a user has them too' is '3 ran, 0 are down' \
    timeout -k 1 60 "${user[@]}" bpsh 3 "$tmp/rfork" many -1 -1 0
ok 'it writes to a file of the master, or is none' timeout -k 1 60 bpsh 1 "$tmp/rfork" says -1 "$tmp/its"
ok 'this one' is '-1 writes to it' cat "$tmp/its"
relatives() { # PARENT A B
    local rc at=(bpsh "$1")
    [ "$1" != -1 ] || at=()
    timeout -k 1 60 "${at[@]}" "$tmp/kin" forks "$2" "$3" >"$tmp/run.out" 2>&1
    rc=$?
    grep -av '^ok' "$tmp/run.out"
    return $rc
}
for p in -1 0 1; do
    for a in -1 0 1; do
        for b in -1 0 1; do
            ok "parent $p, children $a $b" relatives $p $a $b
        done
    done
done
agents() { pgrep -f "^[^ ]*bpnode .*--space $run/space/[01]( |\$)"; }
stop_it() { for p in $(if [ "$1" = agents ]; then agents; else pid_of "$1"; fi); do kill -9 "$p"; done; }
survives() { # WHAT N NODE...: from node 0
    local what=$1 job
    shift
    timeout -k 1 100 bpsh 0 "$tmp/rfork" again "$@" >"$tmp/said" 2>"$tmp/also" & job=$!
    for _ in 1 2 3; do
        stop_it "$what" 2>/dev/null
        sleep 0.$((RANDOM % 9 + 1))
    done
    wait $job
    local rc=$?
    cat "$tmp/also"
    [ $rc = 0 ] && [ "$(cat "$tmp/said")" = '0 faults' ]
}
ok 'procspace is killed: each runs once, or is none' survives procspace 100 -1 1 -1
ok 'agents are' survives agents 100 -1 1 -1

# --- the image goes from node to node: the first passes it on to two, these to two each

release() { agent "$1" >/dev/null && not at "$1" nft delete table ip hold && agent "$1" >/dev/null; } 2>/dev/null
held() { # some node
    local n
    for n in $up; do at "$n" nft list table ip hold | grep -q 'counter packets [1-9]' && return; done
    return 1
}
peers() { at "$1" ss -Htn state established "$2" = :2226 dst "$3" | awk '{ sub(":.*", "", $4); print $4 }'; }
find_relay() { # first|middle SENDER: sets relay
    local from n
    for n in $up; do
        from=$(peers "$n" sport 198.18.0.0/15)
        case $1 in first) [ "$from" = "$2" ] ;; *) [ "${from:-$2}" != "$2" ] ;; esac &&
            [ -n "$(peers "$n" dport 198.18.1.0/24)" ] && relay=$n && return
    done
    return 1
}
up='0 1 2 3 4 5 6'
all_up() { [ "$(bpstat -t up)" = 7 ]; }
cut_off() { # agent|machine first|middle FROM: of that one, while it passes the image on
    local job on=() relay n sender=198.18.0.1
    [ "$3" = -1 ] || { on=(bpsh -n "$3"); sender=198.18.1.$3; }
    eventually 20 all_up || return 1
    for n in $up; do hold "$n" || return 1; done
    (
        set -o pipefail # what they say is passed on to its end by others
        # shellcheck disable=SC2086 # numbers
        timeout -k 1 90 "${on[@]}" "$tmp/rfork" large 40 $up </dev/null 2>"$tmp/also" | sort >"$tmp/said"
    ) & job=$!
    eventually 20 held && eventually 20 find_relay "$2" "$sender" || return 1
    case $1 in agent) kill -9 "$(agent "$relay")" ;; machine) kill -9 "$(pid_of "node.$relay")" ;; esac
    for n in $up; do eventually 20 release "$n" || return 1; done
    wait $job || { echo "status $?"; cat "$tmp/said" "$tmp/also"; return 1; }
    for n in $up; do
        [ "$1 $n" != "machine $relay" ] && echo "$n ran" || echo "$n did not: Slave node died"
    done >"$tmp/want"
    diff "$tmp/want" "$tmp/said"
}
if command -v nft >/dev/null; then
    ok 'an agent that passes the image on is killed: all run' cut_off agent middle -1
    ok 'the one that gets it first' cut_off agent first -1
    ok 'from a node' cut_off agent middle 6
    ok 'its machine ends: all others run' cut_off machine middle -1
    ok 'that of the first' cut_off machine first -1
else
    skip 'one that passes the image on ends' 'nft is not installed'
fi

ok 'eight queens, spread over seven nodes' is '92 ways' \
    timeout 60 "$tmp/queens" 8 0 1 2 3 4 5 6
left() { bpstat -p | tail -n +2 | grep -q .; }
ok 'nothing is left on the nodes' eventually 20 not left
ghosts() { pgrep -af "^$tmp/rfork "; }
ok 'nor stand-ins here' eventually 20 not ghosts

clustermatic down --purge --name "$cluster"
cluster_up 32
bpctl -S 3,16,31 -H
are_down() { [ "$(bpstat -t down)" = 3 ]; }
ok 'three of 32 nodes are down' eventually 20 are_down
ok '29 run, three are told' is '29 ran, 3 are down' rfork many $(seq 0 31)
ok 'nothing is left on the nodes' eventually 20 not left
ok 'nor stand-ins here' eventually 20 not ghosts
done_testing
