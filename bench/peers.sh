# peers.sh - the programs to compare with: started here, ended with the run
#
# peers_up NODES tries each; one that is missing or does not work leaves its
# reason in why[NAME]. All listen on 127.0.0.1 only and keep their files in $dir.
# shellcheck shell=bash disable=SC2154 # dir and friends: lib.sh

peers_up() {
    local peer
    for peer in hydra pdsh rsync ssh slurm; do
        say "peer $peer"
        "${peer}_up" "$1"
        [ -z "${why[$peer]-}" ] || say "  not here: ${why[$peer]}"
    done
}
missing() { # missing PEER PROGRAM...: is one not installed?
    local peer=$1 program
    shift
    for program; do
        command -v "$program" >/dev/null && continue
        why[$peer]="$program is not installed (make bench-deps)"
        return 0
    done
    return 1
}

hydra_up() {
    missing hydra mpiexec.hydra && return
    mpiexec.hydra -iface lo -n 1 true >"$dir/log/hydra" 2>&1 || why[hydra]=$(tail -n 1 "$dir/log/hydra")
}
# nginx_up FILE: serves it as /image, for figure_images
nginx_up() {
    local d=$dir/nginx
    missing nginx /usr/sbin/nginx && return
    mkdir "$d"
    nginx_port=$(free_ports 1) || { why[nginx]='no free port'; return; }
    cat >"$d/conf" <<END
daemon off; worker_processes 1; pid $d/pid; error_log $d/log;
events { worker_connections 1024; }
http { access_log off; sendfile on; client_body_temp_path $d; proxy_temp_path $d;
    fastcgi_temp_path $d; uwsgi_temp_path $d; scgi_temp_path $d;
    server { listen 127.0.0.1:$nginx_port; location = /image { alias $1; } } }
END
    chmod 755 "$(dirname "$1")"
    daemon nginx /usr/sbin/nginx -c "$d/conf"
    until_true 10 curl -s -f -o /dev/null "http://127.0.0.1:$nginx_port/image" ||
        why[nginx]=$(tail -n 1 "$d/log" "$dir/log/nginx")
}
rsync_up() {
    missing rsync rsync && return
}
pdsh_up() {
    missing pdsh pdsh && return
    pdsh -R exec -w n0 true >"$dir/log/pdsh" 2>&1 || why[pdsh]=$(tail -n 1 "$dir/log/pdsh")
}

# A server with keys of its own, and two connections that are kept open.
ssh_up() {
    local d=$dir/ssh port
    missing ssh ssh ssh-keygen /usr/sbin/sshd && return
    mkdir -m 700 "$d"
    port=$(free_ports 1) || { why[ssh]='no free port'; return; }
    ssh-keygen -q -t ed25519 -N '' -f "$d/host"
    ssh-keygen -q -t ed25519 -N '' -f "$d/id"
    cat >"$d/sshd_config" <<END
Port $port
ListenAddress 127.0.0.1
HostKey $d/host
AuthorizedKeysFile $d/id.pub
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
UseDNS no
SetEnv SHLVL=2
END
    cat >"$d/config" <<END
Host node
 HostName 127.0.0.1
 Port $port
 User $(id -un)
 IdentityFile $d/id
 IdentitiesOnly yes
 StrictHostKeyChecking no
 UserKnownHostsFile $d/known
 LogLevel ERROR
 BatchMode yes
END
    # SHLVL: or bash reads a user's .bashrc each time, which may take longer than ssh
    if [ ! -d /run/sshd ]; then # sshd insists on this one
        sshd_made=/run/sshd
        mkdir -m 755 $sshd_made
    fi
    daemon sshd /usr/sbin/sshd -D -e -f "$d/sshd_config"
    if ! until_true 10 ssh -F "$d/config" node true 2>>"$dir/log/wait"; then
        why[ssh]=$(tail -qn 1 "$dir/log/wait" "$dir/log/sshd" | paste -sd' ')
        return
    fi
    daemon ssh-master ssh -F "$d/config" -M -S "$d/cm" -N node
    daemon ssh-master-gcm ssh -F "$d/config" -c aes128-gcm@openssh.com -M -S "$d/cm-gcm" -N node
    until_true 10 test -S "$d/cm" && until_true 10 test -S "$d/cm-gcm" ||
        why[ssh]=$(tail -n 1 "$dir/log/ssh-master")
}

# A controller and so many nodes, all on this machine.
slurm_up() {
    local n=$1 d=$dir/slurm port host i
    missing slurm srun slurmctld slurmd munged && return
    mkdir -m 755 "$d" "$d/munge" "$d/state" "$d/spool"
    port=$(free_ports $((n + 1))) || { why[slurm]='no free ports'; return; }
    host=$(hostname -s)
    (umask 077 && head -c 128 /dev/urandom >"$d/munge/key")
    daemon munged munged --force -F -S "$d/munge/sock" --key-file="$d/munge/key" \
        --log-file="$dir/log/munge" --pid-file="$d/munge/pid" --seed-file="$d/munge/seed"
    until_true 10 test -S "$d/munge/sock" || { why[slurm]=$(tail -n 1 "$dir/log/munged"); return; }
    cat >"$d/slurm.conf" <<END
ClusterName=bench
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$d/munge/sock
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
SlurmctldPidFile=$d/slurmctld.pid
SlurmdPidFile=$d/slurmd.%n.pid
SlurmdSpoolDir=$d/spool/%n
StateSaveLocation=$d/state
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=n[0-$((n - 1))] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + n))] CPUs=16 RealMemory=1000 State=UNKNOWN
PartitionName=p Nodes=n[0-$((n - 1))] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
END
    export SLURM_CONF=$d/slurm.conf
    daemon slurmctld slurmctld -D -c -f "$SLURM_CONF"
    for ((i = 0; i < n; i++)); do
        mkdir "$d/spool/n$i"
        daemon "slurmd$i" slurmd -D -f "$SLURM_CONF" -N "n$i"
    done
    # shellcheck disable=SC2016 # for the inner shell
    until_true 60 sh -c 'test "$(sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" = "$0"' "$n" ||
        { why[slurm]="its nodes do not come up: $(tail -n 1 "$dir/log/slurmctld")"; return; }
    srun -Q -N1 -n1 true 2>"$dir/log/srun" || why[slurm]=$(tail -n 1 "$dir/log/srun")
}
# For rep -b: until no job is left and every node is free again.
slurm_settle_command() {
    cat <<'END'
for i in $(seq 300); do
    [ -z "$(squeue -h)$(sinfo -h -o %T | grep -vx idle)" ] && exit 0
    sleep 0.1
done
exit 1
END
}
