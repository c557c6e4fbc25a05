#!/bin/sh
# drain.sh - a long computation that moves off a node being drained
#
# The program is an awk, which knows nothing of clusters: it sums 1/k^2, whose root
# times six is pi, until there are as many terms as were asked for. It is started
# on a node; then that node is to be freed, and the sum goes on on another. What it
# prints is what it would have printed anyway.
#
#     ./drain.sh [NODE [TERMS]]
set -e
node=${1:-0} terms=${2:-100000000}

bpsh -n "$node" awk -v terms="$terms" 'BEGIN {
    for (k = 1; k <= terms; k++)
        sum += 1 / (k * k)
    printf "pi is about %.6f\n", sqrt(6 * sum)
}' &
job=$!
until bpps "$node" | grep -q 'awk.*terms'; do
    kill -0 $job
    sleep 0.1
done

bpctl -S "$node" -s unavailable # nothing new is started there
bpmove --drain "$node" || echo "some processes stay on node $node"
wait $job
bpctl -S "$node" -s up
