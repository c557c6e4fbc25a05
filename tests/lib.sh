# lib.sh - what the integration tests share: TAP output, a cluster of one's own
#
# A test is a bash script that sources this, says what it needs, makes claims
# and ends with done_testing:
#
#     . tests/lib.sh
#     cluster_up 4                      # or: plan_skip "reason"
#     ok 'hostname is right' is n2 bpsh 2 hostname
#     ok 'a wrong node is refused' fails_with 'only 4 nodes' bpsh 9 true
#     done_testing
#
# Programs are found in $CM_BUILD (default build). Each test has a folder,
# $tmp, and a cluster name of its own, so tests can run beside each other and
# beside a cluster in use. Whatever happens, the cluster is ended on exit.
# shellcheck shell=bash

set -u
# Not what the caller has: it may be closed, a terminal, or read by others, too.
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
CM_BUILD=$(realpath -m "${CM_BUILD:-build}")
export CM_BUILD
export PATH="$CM_BUILD/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# shellcheck disable=SC2034 # for the tests
libexec=$CM_BUILD/libexec/clustermatic
# A sanitizer's memory cannot be moved: programs that move are linked with this one.
# shellcheck disable=SC2034 # for the tests
libdir=$CM_BUILD${CM_SAN:+/plain}/lib
unset CM_RUNDIR CM_STATEDIR CM_LOGDIR CM_CONFIG CM_LIBEXEC
tmp=$(mktemp -d "/tmp/cm-$(basename "$0" .t).XXXXXX")
chmod 755 "$tmp"
names=()       # clusters to end
on_exit=()     # commands to run before that
count=0
failed=0

# kill, but never everybody: a pid that could not be found out is empty, 0 or -1.
kill() {
    local arg first=1
    [ "${1:-}" != -l ] || { builtin kill "$@"; return; }
    for arg in "$@"; do
        case $first$arg in
        1-s | 1-n) first=2; continue ;;
        2*) first=0; continue ;;
        1-*) first=0; continue ;;
        esac
        first=0
        case $arg in
        '' | 0 | 1 | - | -0 | -1)
            echo "# refused: kill $*" >&2
            return 1
            ;;
        esac
    done
    builtin kill "$@"
}

# --- TAP -------------------------------------------------------------------

# ok TEXT CMD...: one claim, true when CMD succeeds.
ok() {
    local text=$1 out rc
    shift
    count=$((count + 1))
    "$@" >"$tmp/ok.out" 2>&1
    rc=$?
    if [ $rc = 0 ]; then
        echo "ok $count - $text"
    else
        failed=$((failed + 1))
        echo "not ok $count - $text"
        echo "#   status $rc of: $*"
        out=$(tail -n 20 "$tmp/ok.out")
        [ -z "$out" ] || printf '%s\n' "$out" | sed 's/^/#   /'
    fi
    return 0
}
# skip TEXT REASON: a claim that cannot be tried here.
skip() {
    count=$((count + 1))
    echo "ok $count - $1 # SKIP $2"
}
plan_skip() { # plan_skip REASON: the whole test
    echo "1..0 # SKIP $1"
    exit 0
}
done_testing() {
    echo "1..$count"
    [ $failed = 0 ]
    exit
}
diag() { printf '%s\n' "$*" | sed 's/^/# /'; }

# --- claims ----------------------------------------------------------------

# is TEXT CMD...: CMD succeeds and prints exactly TEXT.
is() {
    local want=$1 got rc
    shift
    got=$("$@")
    rc=$?
    [ $rc = 0 ] && [ "$got" = "$want" ] && return
    printf 'want: %s\ngot (status %d): %s\n' "$want" $rc "$got"
    return 1
}
# has PATTERN CMD...: CMD succeeds and some line matches (grep -E).
has() {
    local pattern=$1
    shift
    "$@" >"$tmp/has.out" || { cat "$tmp/has.out"; return 1; }
    grep -Eq -- "$pattern" "$tmp/has.out" || { echo "no line like: $pattern"; cat "$tmp/has.out"; return 1; }
}
# fails_with PATTERN CMD...: CMD fails, and says why on stderr.
fails_with() {
    local pattern=$1
    shift
    if "$@" >"$tmp/why.out" 2>"$tmp/why"; then
        echo "it succeeded"
        return 1
    fi
    grep -Eq -- "$pattern" "$tmp/why" || { echo "the reason given:"; cat "$tmp/why"; return 1; }
}
# exits STATUS CMD...: CMD ends with exactly this status.
exits() {
    local want=$1 rc
    shift
    "$@"
    rc=$?
    [ $rc = "$want" ] || { echo "status $rc, want $want"; return 1; }
}
# eventually SECONDS CMD...: CMD succeeds within about this time; where much else
# is going on it may take four times as long.
eventually() {
    local end=$((SECONDS + 4 * $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}
not() { ! "$@"; }

# --- users -----------------------------------------------------------------

# as UID CMD...: run as another user; none needs to be made.
as() {
    local uid=$1
    shift
    setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
}

# --- clusters --------------------------------------------------------------

need_root() { [ "$(id -u)" = 0 ] || plan_skip "needs root"; }
# need FILE...: programs that this test is about.
need() {
    local file
    for file; do
        [ -x "$CM_BUILD/$file" ] || plan_skip "$file is not built"
    done
}
# quiet CMD...: of a program that prints claims of its own, only what went wrong; all of
# it is in $tmp/run.out
quiet() {
    local rc
    timeout -k 1 150 "$@" </dev/null >"$tmp/run.out" 2>&1
    rc=$?
    grep -av '^ok' "$tmp/run.out"
    return $rc
}
# cluster_up N [OPTION...]: N virtual nodes under a name of this test's own;
# then CM_RUNDIR, $run, $state and $logs speak of it.
cluster_up() {
    local nodes=$1
    shift
    need_root
    eventually 10 numbers_free || diag "numbers of nodes' processes are still taken: $(leftovers)"
    cluster=t$$
    names+=("$cluster")
    use_cluster "$cluster"
    if ! clustermatic up --name "$cluster" --virtual "$nodes" "$@" 2>"$tmp/up.err"; then
        show_logs
        diag "$(cat "$tmp/up.err")"
        ok 'the cluster comes up' false
        done_testing
    fi
}
# What is left of an earlier cluster, ghosts above all that init has not reaped: it keeps
# numbers that nodes give out again, so that a new ghost would have another.
leftovers() { ps -e -o ppid=,pid=,stat=,comm= | awk '$1 == 1 && $2 >= 1000000 { print $2, $3, $4 }'; }
numbers_free() { [ -z "$(leftovers)" ]; }
use_cluster() {
    run=/run/clustermatic-$1
    # shellcheck disable=SC2034 # for the tests
    state=/var/lib/clustermatic-$1
    logs=/var/log/clustermatic-$1
    export CM_RUNDIR=$run
}
# What is mounted here, but for what others that run beside this test may make.
mounts() {
    awk -v me="clustermatic-t$$" -v mine="$tmp/" -v tests="${tmp%/*}/cm-" \
        '($3 != "fuse.bpfs" && index($2, "/run/netns") != 1 &&
          (index($2, tests) != 1 || index($2, mine) == 1)) || index($2, me)' \
        /proc/self/mounts | sort
}
# Also end this one on exit (a second cluster of a test).
also_end() { names+=("$1"); }
# pid_of UNIT: of a service, or node.N (the machine of a virtual node).
# Never the -1 of a unit that is down: to kill that is to kill everything.
pid_of() {
    local pid
    pid=$(s6-svstat -o pid "$run/s6/$1") && [ "$pid" -gt 0 ] && echo "$pid"
}
# agent NODE: the pid of a virtual node's agent, which pid_of does not know.
agent() { pgrep -f "^[^ ]*bpnode .*--space $run/space/$1( |\$)"; }
show_logs() {
    local file
    for file in "$logs"/*/current "$logs"/node.* "$logs"/s6.log; do
        [ -s "$file" ] || continue
        echo "# --- $file"
        tail -n 15 "$file" | sed 's/^/# /'
    done
}

# What a sanitizer (SAN=1) found in a service or on a node is in its log.
# shellcheck disable=SC2317
sanitizers_content() {
    local name
    for name in ${names[@]+"${names[@]}"}; do
        ! grep -rE -A 12 'ERROR: (Address|Leak)Sanitizer|runtime error:' \
            "/var/log/clustermatic-$name" 2>/dev/null || return 1
    done
}

# shellcheck disable=SC2317
finish() {
    local rc=$? name cmd
    trap - EXIT
    for cmd in ${on_exit[@]+"${on_exit[@]}"}; do
        eval "$cmd"
    done
    if [ ${#names[@]} -gt 0 ] && { [ $failed != 0 ] || [ $rc != 0 ]; }; then
        show_logs
    fi
    for name in ${names[@]+"${names[@]}"}; do
        if [ -e "/run/clustermatic-$name" ]; then
            clustermatic down --name "$name" || rc=1
        fi
    done
    sanitizers_content | sed 's/^/# /'
    [ "${PIPESTATUS[0]}" = 0 ] || { echo '# a sanitizer found something'; rc=1; }
    for name in ${names[@]+"${names[@]}"}; do
        rm -rf "/var/lib/clustermatic-$name" "/var/log/clustermatic-$name"
    done
    rm -rf "$tmp"
    [ $failed = 0 ] || rc=1
    exit $rc
}
readonly -f finish # one of a test's own would leave its clusters
trap finish EXIT
trap 'exit 130' INT TERM HUP
