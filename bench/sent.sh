#!/bin/bash
# sent.sh MOVES MIB NODES - how often the memory of a process of MIB goes out over
# the master's network interface while it is spread over NODES by vrfork
set -eu
pid=$(s6-svstat -o pid "$CM_RUNDIR/s6/busd")
sent() { # all that the master itself sends to nodes leaves by this one
    sed 's/:/ /' "/proc/$pid/net/dev" | awk '$1 == "cm0" { print $10 }'
}
before=$(sent)
"$1" spread "$2" "$3" >/dev/null
after=$(sent)
awk -v b="$before" -v a="$after" -v m="$2" 'BEGIN { printf "%.2f\n", (a - b) / m / 1048576 }'
