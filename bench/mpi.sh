# mpi.sh - the figures of MPI: mpirun beside each MPI's own launcher
# shellcheck shell=bash disable=SC2154 # dir, nodes, programs: run

# Programs of MPI: with each MPI, by mpirun on virtual nodes and by its own launcher
# on the spot, where ranks talk through memory unless UCX_TLS says otherwise.
mpi_programs() {
    local mpi source
    for mpi in mpich openmpi; do
        for source in doc/examples/mpi_hello.c bench/mpipair.c; do
            "mpicc.$mpi" -O2 -o "$dir/$(basename "$source" .c).$mpi" "$source" \
                >>"$dir/log/mpicc" 2>&1 || why[$mpi]=$(tail -n 1 "$dir/log/mpicc")
        done
    done
    [ -z "${why[cluster]-}" ] || why[mpich]=${why[cluster]} why[openmpi]=${why[cluster]}
}
hello() { # hello N RUNS
    local n=$1 own=(mpirun.openmpi --allow-run-as-root --oversubscribe --mca btl_base_warn_component_unused 0)
    figure "hello$n" ms "An MPI program of $n ranks that says hello, the whole command"
    try ours mpich "mpirun, $nodes nodes, MPICH" -- mpirun -np "$n" "$dir/mpi_hello.mpich"
    try hydra mpich 'mpiexec.hydra, on the spot' -- \
        mpiexec.hydra -iface lo -n "$n" "$dir/mpi_hello.mpich"
    try openmpi openmpi "mpirun, $nodes nodes, Open MPI" -- \
        mpirun -np "$n" "$dir/mpi_hello.openmpi"
    try orte openmpi "Open MPI's own mpirun, on the spot" -- \
        "${own[@]}" -n "$n" "$dir/mpi_hello.openmpi"
    aim ours '<' 1 hydra 'faster than hydra'
    aim openmpi '<' 1 orte "faster than Open MPI's"
    measure "$(runs "$2")" -w 1
}
# Their launchers are given the network that our virtual nodes have, so that the same
# cables are compared: this stands for ssh, and starts what it is told to in the
# namespaces of that node (network and host name). The launcher itself is at the
# master's end of that network.
their_nodes() {
    local n pid
    {
        printf '#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done\ncase $1 in\n'
        for n in 0 1; do
            pid=$(s6-svstat -o pid "$CM_RUNDIR/s6/node.$n") && pid=$(pgrep -o -P "$pid") || return
            printf '198.18.1.%s | n%s) in=%s ;;\n' "$n" "$n" "$pid"
        done
        printf '*) echo "no host $1" >&2; exit 1 ;;\nesac\n'
        printf 'shift\nexec nsenter -n -u -t "$in" -- sh -c "$*"\n'
    } >"$dir/as-ssh"
    chmod 755 "$dir/as-ssh"
    master=(nsenter -n -t "$(s6-svstat -o pid "$CM_RUNDIR/s6/busd")" --)
}
pair() { # pair WHAT UNIT TITLE RUNS OP LIMIT
    local own=(mpirun.openmpi --allow-run-as-root --mca btl 'tcp,self')
    figure "$1" "$2" "$3"
    try ours mpich 'between two virtual nodes, MPICH' -p -- \
        mpirun -np 2 "$dir/mpipair.mpich" "$1"
    try hydra mpich 'under mpiexec.hydra, in the namespaces of these nodes, MPICH' -p -- \
        env UCX_TLS=tcp,self "${master[@]}" mpiexec.hydra -iface cm0 -launcher ssh \
        -launcher-exec "$dir/as-ssh" -hosts 198.18.1.0,198.18.1.1 -n 2 "$dir/mpipair.mpich" "$1"
    try lo mpich 'under mpiexec.hydra, TCP over the loopback, MPICH' -p -- \
        env UCX_TLS=tcp,self mpiexec.hydra -iface lo -n 2 "$dir/mpipair.mpich" "$1"
    try openmpi openmpi 'between two virtual nodes, Open MPI' -p -- \
        mpirun -np 2 "$dir/mpipair.openmpi" "$1"
    try orte openmpi "under Open MPI's own mpirun, in the namespaces of these nodes" -p -- \
        "${master[@]}" "${own[@]}" --mca plm_rsh_agent "$dir/as-ssh" \
        --mca oob_tcp_if_include 198.18.0.0/15 --bind-to none --host n0,n1 -n 2 "$dir/mpipair.openmpi" "$1"
    try orte-lo openmpi "under Open MPI's own mpirun, TCP over the loopback" -p -- \
        "${own[@]}" --oversubscribe --mca btl_tcp_if_include lo -n 2 "$dir/mpipair.openmpi" "$1"
    aim ours "$5" "$6" hydra "as under hydra, within noise"
    aim openmpi "$5" "$6" orte "as under Open MPI's, within noise"
    measure "$4" -w 1 -t 30
}
figure_mpi() {
    local ranks=256 rounds=20 each=$((256 / nodes))
    local master=()
    mpi_programs
    if [ "$cluster" ] && ! their_nodes; then
        why[mpich]='the namespaces of the nodes are not found' why[openmpi]=${why[mpich]}
    fi
    hello 16 "$(runs 7)"
    hello 64 "$(runs 5)"
    figure fence us "A PMI fence of $ranks ranks that are no MPI programs: put, fence, two gets"
    try ours cluster "mpirun, $nodes nodes" -p -- mpirun -np $ranks "$programs/pmifence" $rounds
    try hydra hydra 'mpiexec.hydra, one proxy' -p -- \
        mpiexec.hydra -iface lo -n $ranks "$programs/pmifence" $rounds
    try hydra16 hydra "mpiexec.hydra, $nodes proxies" -p -- \
        mpiexec.hydra -iface lo -localhost 127.0.0.1 -launcher fork \
        -hosts "$(seq -f "127.0.0.%g:$each" -s, 1 $nodes)" -n $ranks "$programs/pmifence" $rounds
    aim ours '<' 1 hydra16 'faster than hydra with as many proxies'
    measure "$(runs 5)" -w 1
    pair latency us 'MPI latency, 8 bytes, half a round trip' "$(runs 7)" '<=' 1.15
    pair bandwidth MB/s 'MPI bandwidth, messages of 1 MiB, one way' "$(runs 7)" '>=' 0.85
}
