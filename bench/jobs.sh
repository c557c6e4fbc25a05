#!/bin/bash
# jobs.sh HOW N [QUEUED] - N jobs of true, from the first submission to the last end
#
# bjs loop, bjs array, slurm loop, slurm array: one submission each, or one for all.
# bare: the same commands, eight at a time, without a scheduler.
# bjs deep: N jobs of a queue of QUEUED, from when they may start; prints jobs/s.
set -u
how=$1 n=$2 queued=${3-}
export SHELL=/bin/sh # as sbatch takes
fail() { echo "jobs.sh: $*" >&2; exit 1; }

# Started before the first submission; ended() returns once N jobs have ended.
watch() {
    local fifo
    fifo=$(mktemp -u /tmp/cm-jobs.XXXXXX)
    mkfifo "$fifo"
    bpevents --filter job.ended --count "$n" --timeout 300 --ready-fd 3 3>"$fifo" >/dev/null 2>&1 &
    watcher=$!
    trap 'kill $watcher 2>/dev/null' EXIT
    read -r _ <"$fifo"
    rm -f "$fifo"
}
ended() { wait "$watcher" || fail "$n jobs have not ended"; }
slurm_ended() {
    while [ -n "$(squeue -h -r -t PD,R,CG,CF -o %i | head -n 1)" ]; do sleep 0.05; done
}

case $how in
bjs-loop)
    watch
    for ((i = 0; i < n; i++)); do
        bjssub true >/dev/null || fail 'bjssub'
    done
    ended
    ;;
bjs-array)
    watch
    bjssub --array 1-"$n" true >/dev/null || fail 'bjssub'
    ended
    ;;
slurm-loop)
    for ((i = 0; i < n; i++)); do
        sbatch -Q -o /dev/null --wrap=true >/dev/null || fail 'sbatch'
    done
    slurm_ended
    ;;
slurm-array)
    sbatch -Q -o /dev/null --array=1-"$n" --wrap=true >/dev/null || fail 'sbatch'
    slurm_ended
    ;;
bare)
    seq "$n" | xargs -P 8 -I{} sh -c true
    ;;
deep)
    bjsctl drain default || fail 'drain'
    range=$(bjssub --array 1-"$queued" true | sed 's/JOBID=//')
    watch
    from=$EPOCHREALTIME
    bjsctl undrain default
    ended
    to=$EPOCHREALTIME
    bjsctl drain default
    [ "$queued" = "$n" ] || bjsctl -r "$range" >/dev/null
    while bjsstat --json -p default | grep -q '"jobs": \?\[{'; do sleep 0.1; done
    bjsctl undrain default
    awk -v n="$n" -v s="$from" -v e="$to" 'BEGIN { printf "%.1f\n", n / (e - s) }'
    ;;
*) fail "$how: want bjs-loop, bjs-array, slurm-loop, slurm-array, bare or deep" ;;
esac
