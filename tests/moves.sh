# moves.sh - for tests of processes that move, after lib.sh
# shellcheck shell=bash

# agent NODE: its pid
# shellcheck disable=SC2154 # run is lib.sh's
agent() { pgrep -f "^[^ ]*bpnode .*--space $run/space/$1( |\$)"; }
# at NODE CMD...: in its network
at() {
    local there
    there=$(agent "$1") && nsenter -t "$there" -n "${@:2}"
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
