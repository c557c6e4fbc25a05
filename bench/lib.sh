# lib.sh - scratch folder, daemons by process id, cases and their samples
#
# What is measured, skipped and found goes into $dir/plan, a line each, words
# split by tabs, which report.awk turns into a page:
#   fact NAME VALUE             figure ID UNIT TITLE
#   case ID KEY AMOUNT COMMAND  skip ID KEY REASON COMMAND
#   sample ID KEY FAILED WHY S1 S2 ...        aim ID A OP LIMIT B TEXT
# shellcheck shell=bash

declare -A why     # peer -> why it cannot be measured; none: it can
declare -A pid_of  # our daemons
dir= # the scratch folder
say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }
die() { echo "bench: $*" >&2; exit 1; }

# --- scratch and daemons ----------------------------------------------------

scratch_make() {
    made=
    if [ "${BENCH_DIR-}" ]; then
        dir=$(realpath -m "$BENCH_DIR")
        mkdir -p "$dir" || exit 1
        [ -z "$(ls -A "$dir")" ] || die "$dir is not empty"
    else
        dir=$(mktemp -d /tmp/cm-bench.XXXXXX) || exit 1
        made=1
    fi
    chmod 755 "$dir"
    mkdir "$dir/log"
}
scratch_end() {
    daemons_end "${!pid_of[@]}"
    [ -z "${sshd_made-}" ] || rmdir "$sshd_made"
    [ -z "$made" ] || rm -rf "$dir"
}

daemon() { # daemon NAME COMMAND...: in the background, until daemons_end
    local name=$1
    shift
    "$@" </dev/null >"$dir/log/$name" 2>&1 &
    pid_of[$name]=$!
}
daemons_end() {
    local name
    for name; do
        [ -z "${pid_of[$name]-}" ] || kill "${pid_of[$name]}" 2>/dev/null
    done
    for name; do
        [ -z "${pid_of[$name]-}" ] || wait "${pid_of[$name]}" 2>/dev/null
        unset "pid_of[$name]"
    done
}
until_true() { # until_true SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}
free_ports() { # free_ports N: the first of N neighbours that nobody listens on
    local base used
    used=$(ss -Hltn | awk '{ sub(/.*:/, "", $4); print $4 }')
    for base in $(seq 20100 100 30000); do
        awk -v b="$base" -v n="$1" '$1 >= b && $1 < b + n { exit 1 }' <<<"$used" || continue
        echo "$base"
        return
    done
    return 1
}
repeat() { # repeat N WORD: WORD,WORD,...
    local list
    list=$(yes "$2" | head -n "$1" | paste -sd,)
    echo "$list"
}

# --- the plan ---------------------------------------------------------------

note() { local IFS=$'\t'; printf '%s\n' "$*" >>"$dir/plan"; }
fact() { note fact "$1" "$2"; }

figure() { # figure ID UNIT TITLE
    now=$1
    cases=()
    say "$1: $3"
    note figure "$1" "$2" "$3"
}
# try KEY PEER TEXT [-a AMOUNT] [REP-OPTION...] -- COMMAND...
try() {
    local key=$1 peer=$2 text=$3 amount='' options=()
    shift 3
    if [ "${why[$peer]-}" ]; then
        note skip "$now" "$key" "${why[$peer]}" "$text"
        say "  $key: skipped: ${why[$peer]}"
        return
    fi
    while [ "$1" != -- ]; do
        case $1 in
        -a) amount=$2; shift ;;
        -b) [ -z "$2" ] || options+=(-b "$2"); shift ;;
        *) options+=("$1") ;;
        esac
        shift
    done
    shift
    note case "$now" "$key" "$amount" "$text"
    [ ${#cases[@]} = 0 ] || cases+=(::)
    cases+=("${options[@]}" "$key" "$@")
}
aim() { note aim "$now" "$@"; } # aim A OP LIMIT B TEXT: A / B against LIMIT; B -: A itself
# measure RUNS [REP-OPTION...]: run all cases of this figure in turn
measure() {
    local n=$1 line key reason rest
    shift
    [ ${#cases[@]} != 0 ] || return
    # In the background, so that a signal to us need not wait for it.
    "${programs:?}/rep" -n "$n" -w 2 -q 20 -t 60 "$@" "${cases[@]}" \
        </dev/null >"$dir/samples" 2>"$dir/log/rep" &
    pid_of[rep]=$!
    wait "${pid_of[rep]}" || die "rep: $(tail -n 1 "$dir/log/rep")"
    unset 'pid_of[rep]'
    while read -r line; do
        say "  $line"
    done <"$dir/log/rep"
    line=$(sed -n 's/^rep: \(.* busy machine\)$/\1/p' "$dir/log/rep")
    [ -z "$line" ] || note remark "$now" "$line"
    while IFS=$'\t' read -r key _ reason rest; do
        if [ -z "$rest" ]; then
            note skip "$now" "$key" "each run failed, the last: $reason" "$(awk -F'\t' -v f="$now" -v k="$key" \
                '$1 == "case" && $2 == f && $3 == k { print $5 }' "$dir/plan")"
            say "  $key: failed: $reason"
        fi
    done < <(sed 's/\t\t/\t-\t/' "$dir/samples")
    sed "s/^/sample\t$now\t/" "$dir/samples" >>"$dir/plan"
    awk -v only="$now" -v brief=1 -f bench/report.awk "$dir/plan" >&2
}

# --- the machine ------------------------------------------------------------

facts() {
    fact Date "$(date -u '+%Y-%m-%d %H:%M UTC')"
    fact Machine "$(nproc) x $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(
        awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), $(
        if grep -q '^flags.* hypervisor' /proc/cpuinfo; then echo virtual; else echo bare metal; fi)"
    fact Kernel "$(uname -sr)"
    fact System "$(. /etc/os-release && echo "$PRETTY_NAME")"
    fact Load "$(cut -d' ' -f1-3 /proc/loadavg) (1, 5, 15 minutes, at the start)"
    fact Clustermatic "$(clustermatic --version 2>/dev/null | head -n 1), $(
        git rev-parse --short HEAD 2>/dev/null || echo 'no git')"
    fact Compiler "$(gcc --version | head -n 1)"
    fact Peers "$(dpkg-query -W -f '${Package} ${Version}, ' mpich slurm-wlm pdsh openssh-server \
        libzmq5 2>/dev/null | sed 's/, $//')"
}
