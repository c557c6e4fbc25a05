#!/bin/bash
# boot.sh - machines of QEMU, for figure_boot
#
# Sourced by run: boot_up makes a network, a cluster in it and the images; boot_down
# ends all that. As a program, "boot.sh once WAY N" starts N machines and prints the
# seconds until all are up; WAY tiny: until the packet of onepacket.c is there.
# shellcheck disable=SC2154,SC2034 # dir, why and friends: lib.sh
boot_options='console=ttyS0 reboot=t panic=5 no_timer_check quiet'

boot_up() {
    local cache=${CM_TEST_CACHE:-/var/cache/clustermatic-tests} d=$dir/vm i path
    missing boot qemu-system-x86_64 dnsmasq cpio && return
    kernel_dir=$(find "$cache" -maxdepth 1 -name 'kernel-*-cloud-amd64' 2>/dev/null | sort -V | tail -n 1)
    [ "$kernel_dir" ] || { why[boot]="no kernel in $cache: make check T=tests/boot/0600* fetches one"; return; }
    release=${kernel_dir##*/kernel-}
    boot_ns=cmbench$$
    mkdir -p "$d/tiny/m"
    ip netns add "$boot_ns" || { boot_ns=; why[boot]='no network namespaces'; return; }
    ip -n "$boot_ns" link set lo up
    ip -n "$boot_ns" link add br0 type bridge forward_delay 0 mcast_snooping 0
    ip -n "$boot_ns" address add 198.18.0.1/15 dev br0
    ip -n "$boot_ns" link set br0 up
    for i in 0 1 2 3; do
        ip netns exec "$boot_ns" ip tuntap add dev "tap$i" mode tap
        ip -n "$boot_ns" link set "tap$i" master br0 up
    done
    {
        printf 'interface br0\niprange 0 198.18.0.10 198.18.0.13\nbootfile %s\npingtimeout 30\n' "$d/boot.img"
        for i in 0 1 2 3; do printf 'node %d 52:54:00:77:00:1%d\n' $i $i; done
    } >"$d/config"
    boot_cluster=benchboot
    export CM_STATEDIR=/var/lib/clustermatic-$boot_cluster CM_CONFIG=$d/config CM_RUNDIR=/run/clustermatic-$boot_cluster
    local make=(-k "$kernel_dir/boot/vmlinuz-$release" -m "$kernel_dir/lib/modules/$release")
    {
        beoboot -2 -i -o "$d/two" "${make[@]}" -c "$boot_options" &&
            beoboot -1 -i -o "$d/one" "${make[@]}" -c "$boot_options" &&
            beoboot -2 -n -o "$d/boot.img" "${make[@]}" -c "$boot_options" &&
            ip netns exec "$boot_ns" clustermatic up --name "$boot_cluster" --config "$d/config"
    } >"$dir/log/boot" 2>&1 || why[boot]=$(tail -n 1 "$dir/log/boot")
    i=0
    while read -r _ path; do
        cp "$path" "$d/tiny/m/$((i++)).ko"
    done < <(for module in virtio_pci virtio_net; do
        modprobe -d "$kernel_dir" -S "$release" --show-depends $module; done | awk '$1 == "insmod" && !seen[$2]++')
    cp "$programs/onepacket-static" "$d/tiny/init"
    (cd "$d/tiny" && find . | cpio -o -H newc --quiet) >"$d/tiny.cpio"
    printf '%s=%q\n' d "$d" ns "$boot_ns" kernel "${make[1]}" options "$boot_options" cluster "$boot_cluster" >"$d/env"
    export BOOT_ENV=$d/env
    unset CM_STATEDIR CM_CONFIG CM_RUNDIR
}
boot_down() {
    [ "${boot_ns-}" ] || return 0
    [ ! -e "/run/clustermatic-$boot_cluster" ] || clustermatic down --name "$boot_cluster"
    rm -rf "/var/lib/clustermatic-$boot_cluster" "/var/log/clustermatic-$boot_cluster"
    ip netns del "$boot_ns"
    boot_ns=
}

boot_machine() { # boot_machine N QEMU-OPTION...
    local i=$1
    shift
    nsenter --net="/run/netns/$ns" qemu-system-x86_64 -accel tcg -m 384 -display none -nodefaults \
        -serial "file:$d/console$i" -netdev "tap,id=n0,ifname=tap$i,script=no,downscript=no" \
        -device "virtio-net-pci,netdev=n0,mac=52:54:00:77:00:1$i" "$@" </dev/null >"$d/qemu$i" 2>&1 &
    machines+=($!)
}
# Stages of the last boot of node 0, in seconds from the machine's start.
boot_stages() {
    clustermatic why node 0 --json | /usr/bin/python3 -c '
import json, sys
start = float(sys.argv[1])
said = json.load(sys.stdin)["stages"]
print(", ".join("%s %.1f" % (s["stage"], s["at"] / 1000 - start) for s in said))' "$1"
}
# Waits of bpboot that no answer ended, but their time, in all its lives on one console.
boot_waits() {
    sed -n 's/.* \([0-9]*\) waits for a timer.*/\1/p' "$d/console0" | awk '{ n += $1 } END { print n + 0 }'
}
# The same of a node's bpinit and bpnode, from their start to ready, as strace sees it: of a
# virtual node, where it can be seen.
boot_agent_waits() {
    local name=benchwaits pid supervisor='' trace=$dir/log/boot-trace
    clustermatic up --name "$name" --virtual 1 >"$dir/log/boot-waits" 2>&1 || return
    for pid in /proc/[0-9]*; do
        [ "$(readlink "$pid/cwd")" = "/run/clustermatic-$name/s6/node.0" ] &&
            [ "$(cat "$pid/comm")" = s6-supervise ] && supervisor=${pid#/proc/}
    done 2>/dev/null
    strace -f -q -T -e trace=epoll_wait,epoll_pwait,poll,ppoll,select,pselect6,nanosleep,clock_nanosleep,write \
        -o "$trace" -p "$supervisor" >"$dir/log/boot-strace" 2>&1 &
    pid=$!
    until_true 20 grep -q "^TracerPid:.*[1-9]" "/proc/$supervisor/status"
    CM_RUNDIR=/run/clustermatic-$name clustermatic restart node 0 >/dev/null
    kill "$pid"
    wait "$pid"
    clustermatic down --name "$name" --purge >/dev/null
    /usr/bin/python3 - "$trace" "$supervisor" <<'END'
import re, sys
waits, begun = [], {}
for line in open(sys.argv[1]):
    thread, call = line.rstrip().split(None, 1)
    if call.endswith("<unfinished ...>"):
        begun[thread] = call[:-len("<unfinished ...>")]
        continue
    call = re.sub(r'^<\.\.\. \w+ resumed>', lambda _: begun.pop(thread, ""), call)
    if call.startswith('write(3, "\\n", 1)'):  # the descriptor for being ready
        print("%d waits for a timer, %.0f ms" % (len(waits), 1000 * sum(waits)))
        break
    took = re.search(r'= 0 (\(Timeout\) )?<([0-9.]+)>$', call)
    if took and not call.startswith("write") and not re.search(r', 0 ?\)\s+= 0', call) and thread != sys.argv[2]:
        waits.append(float(took[2]))
END
}
boot_once() {
    local way=$1 n=$2 i start end got='' machines=()
    # shellcheck disable=SC1090
    . "$BOOT_ENV"
    export CM_RUNDIR=/run/clustermatic-$cluster
    case $way in
    tiny) set -- -kernel "$kernel" -initrd "$d/tiny.cpio" -append "$options" ;;
    direct) set -- -kernel "$d/two.kernel" -initrd "$d/two.initrd" -append "$options" ;;
    phase1) set -- -kernel "$d/one.kernel" -initrd "$d/one.initrd" -append "$options" ;;
    pxe) set -- -boot n ;;
    esac
    if [ "$way" = tiny ]; then
        exec 8< <(exec nsenter --net="/run/netns/$ns" timeout 100 /usr/bin/python3 -c '
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
s.bind(("br0", 0x88b5))
print("ready", flush=True)
print(len(s.recv(100)), flush=True)')
        read -r -t 20 got <&8 || return
    fi
    start=$EPOCHREALTIME
    for ((i = 0; i < n; i++)); do boot_machine $i "$@"; done
    if [ "$way" = tiny ]; then
        read -r -t 100 got <&8 || got=
    else
        for ((i = 0; i < 2000; i++)); do
            [ "$(bpstat -t up 2>/dev/null)" = "$n" ] && got=1 && break
            sleep 0.05
        done
    fi
    end=$EPOCHREALTIME
    kill -KILL "${machines[@]}"
    wait "${machines[@]}" 2>/dev/null
    [ "$way" = tiny ] || echo "$(boot_stages "$start"); bpboot had $(boot_waits) waits for a timer" >"$d/stages.$way"
    [ "$way" = tiny ] || bpctl -S allup -s down
    [ "$got" ] || { echo "not up: $(bpstat -t up) of $n" >&2; return 1; }
    echo "$end $start" | awk '{ printf "%.3f\n", $1 - $2 }'
}

[ "${BASH_SOURCE[0]}" != "$0" ] || { [ "${1-}" = once ] && shift && boot_once "$@"; }
