# moves.sh - for tests of processes that move, after lib.sh
# shellcheck shell=bash

# at PLACE CMD...: in the network of a node, or of the master (-1)
at() {
    local there
    if [ "$1" = -1 ]; then there=$(pid_of busd); else there=$(agent "$1"); fi
    [ -n "$there" ] && nsenter -t "$there" -n "${@:2}"
}
# hold NODE: it gets so much of an image, and then nothing
hold() {
    at "$1" nft -f - <<END
table ip hold {
    chain in {
        type filter hook input priority 0;
        tcp dport 2226 quota over 3000000 bytes counter drop
    }
}
END
}

# A process of bpsh's, the background job $job: its pid, as $pid
# shellcheck disable=SC2154 # job is the test's
its_pid() { pid=$(pgrep -P "$job" | head -n 1); [ -n "$pid" ]; }
# said REGEX: what it has written to the file $tmp/said
# shellcheck disable=SC2154 # tmp is lib.sh's
said() { grep -qs "$1" "$tmp/said"; }
# Where a process is: on PID, is_on PID PLACE
on() { bpstat -p --json | /usr/bin/python3 -c 'import json, sys
print(*[p["node"] for p in json.load(sys.stdin) if p["pid"] == int(sys.argv[1])])' "$1"; }
is_on() {
    local there
    there=$(on "$1")
    [ "$there" = "$2" ] || { echo "on ${there:-none}"; return 1; }
}
