# lib.sh - what the boot tests share: a kernel, a network, virtual machines
#
# Sourced after tests/lib.sh:
#
#     boot_needs                      # root, QEMU, a Debian kernel: or the test is skipped
#     boot_network 2                  # a namespace with a bridge and 2 taps
#     boot_cluster                    # the services there; config from $tmp/config
#     vm 0 -kernel ... -initrd ...    # machine 0 on tap0, MAC $(mac 0)
#     ok 'it is up' is_up 0
#
# Machines run without hardware help (-accel tcg), several times slower than
# real ones: $patience is the limit of every wait.
# shellcheck shell=bash

# shellcheck disable=SC2034 # for the tests
patience=240
boot_ns=cmb$$
boot_master=198.18.0.1
boot_bridge=br0
vms=()

# --- the kernel --------------------------------------------------------------

# Debian's cloud kernel, unpacked into a cache, not installed. $kernel,
# $release, $modules. Fetched once; without a network the test is skipped.
boot_kernel() {
    local cache=${CM_TEST_CACHE:-/var/cache/clustermatic-tests} name deb dir
    mkdir -p "$cache" || plan_skip "cannot make $cache"
    exec 7>"$cache/lock"
    timeout 300 flock 7 || plan_skip "another test holds $cache/lock"
    dir=$(find "$cache" -maxdepth 1 -name 'kernel-*-cloud-amd64' | sort -V | tail -n 1)
    if [ -z "$dir" ]; then
        name=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
            awk '/Depends: linux-image/ { print $2 }')
        [ -n "$name" ] || plan_skip "no linux-image-cloud-amd64 in the package lists (apt-get update)"
        (cd "$cache" && timeout 300 apt-get download -q "$name") >/dev/null 2>&1 ||
            plan_skip "$name could not be downloaded"
        deb=$(find "$cache" -name "${name}_*.deb" | head -n 1)
        release=${name#linux-image-}
        rm -rf "$cache/unpack"
        dpkg-deb -x "$deb" "$cache/unpack" || plan_skip "$deb could not be unpacked"
        depmod -b "$cache/unpack" "$release" || plan_skip "depmod failed"
        rm -f "$deb"
        dir=$cache/kernel-$release
        mv "$cache/unpack" "$dir"
    fi
    exec 7>&-
    release=${dir##*/kernel-}
    # shellcheck disable=SC2034
    kernel=$dir/boot/vmlinuz-$release modules=$dir/lib/modules/$release
}

boot_needs() {
    need_root
    need bin/beoboot libexec/clustermatic/bpboot
    command -v qemu-system-x86_64 >/dev/null || plan_skip 'qemu-system-x86 is not installed'
    command -v dnsmasq >/dev/null || plan_skip 'dnsmasq-base is not installed'
    ip netns add "$boot_ns" 2>/dev/null || plan_skip 'network namespaces cannot be made'
    on_exit+=(boot_cleanup)
    [ -c /dev/net/tun ] || plan_skip 'there is no /dev/net/tun'
    boot_kernel
}

# --- the network ---------------------------------------------------------------

# in_net CMD...: in the master's network
in_net() { nsenter --net="/run/netns/$boot_ns" "$@"; }

boot_network() { # boot_network TAPS
    local i
    ip -n "$boot_ns" link set lo up
    ip -n "$boot_ns" link add "$boot_bridge" type bridge forward_delay 0 mcast_snooping 0
    ip -n "$boot_ns" address add "$boot_master/15" dev "$boot_bridge"
    ip -n "$boot_ns" link set "$boot_bridge" up
    for ((i = 0; i < $1; i++)); do
        in_net ip tuntap add dev "tap$i" mode tap
        ip -n "$boot_ns" link set "tap$i" master "$boot_bridge" up
    done
}
mac() { printf '52:54:00:77:00:%02x' $((16 + $1)); }
address() { echo "198.18.0.$((10 + $1))"; }

# DHCP by hand, for tests that are not about the boot server. Host names tell
# nodes their numbers. More lines from standard input.
boot_dnsmasq() {
    local i
    {
        printf '%s\n' port=0 "interface=$boot_bridge" bind-interfaces dhcp-authoritative no-ping \
            leasefile-ro user=root "log-facility=$tmp/dnsmasq.log" \
            "dhcp-range=198.18.0.10,198.18.0.200,255.254.0.0,1h"
        for i in 0 1 2 3; do echo "dhcp-host=$(mac "$i"),$(address "$i"),n$i"; done
        cat
    } >"$tmp/dnsmasq.conf"
    # Not by in_net, here and for the machines: $! would be a shell's.
    nsenter --net="/run/netns/$boot_ns" dnsmasq -k -C "$tmp/dnsmasq.conf" </dev/null >"$tmp/dnsmasq.out" 2>&1 &
    dnsmasq_pid=$!
}

# --- the cluster -----------------------------------------------------------------

# Nodes 0 to N-1 by address and MAC; more lines from standard input.
boot_config() { # boot_config N
    local i
    {
        echo "interface $boot_bridge"
        echo "iprange 0 $(address 0) $(address $(($1 - 1)))"
        for ((i = 0; i < $1; i++)); do echo "node $i $(mac "$i")"; done
        echo "pingtimeout 30" # a machine of QEMU may stand still for ten seconds where much else runs
        cat
    } >"$tmp/config"
}
boot_cluster() { # after boot_config
    cluster=t$$
    names+=("$cluster")
    use_cluster "$cluster"
    export CM_STATEDIR=$state CM_CONFIG=$tmp/config
    if ! in_net clustermatic up --name "$cluster" --config "$tmp/config" 2>"$tmp/up.err"; then
        diag "$(cat "$tmp/up.err")"
        ok 'the services come up' false
        done_testing
    fi
}

# --- machines --------------------------------------------------------------------

# vm N QEMU-OPTION...: machine N, its card on tapN; its console in $tmp/vmN.log.
vm() {
    local n=$1
    shift
    nsenter --net="/run/netns/$boot_ns" qemu-system-x86_64 -accel tcg -m "${vm_memory:-384}" -display none -nodefaults \
        -serial "file:$tmp/vm$n.log" -monitor "unix:$tmp/vm$n.monitor,server,nowait" \
        -netdev "tap,id=n0,ifname=tap$n,script=no,downscript=no" \
        -device "virtio-net-pci,netdev=n0,mac=$(mac "$n")${vm_card:-}" \
        "$@" </dev/null >"$tmp/vm$n.out" 2>&1 &
    vms[n]=$!
}
vm_alive() { [ -n "${vms[$1]:-}" ] && kill -0 "${vms[$1]}" 2>/dev/null; }
vm_end() { # vm_end N: the plug is pulled
    [ -n "${vms[$1]:-}" ] || return 0
    kill -KILL "${vms[$1]}" 2>/dev/null
    wait "${vms[$1]}" 2>/dev/null
    vms[$1]=
}
node_state() { bpstat -s "$1" 2>/dev/null; }
in_state() { [ "$(node_state "$1")" = "$2" ]; }
is_up() { # within patience; the console is shown if not
    eventually "$patience" in_state "$1" up && return
    echo "node $1 is $(node_state "$1"); its console:"
    tail -n 25 "$tmp/vm$1.log"
    return 1
}
console_has() { eventually "$patience" grep -aqE "$2" "$tmp/vm$1.log" || { tail -n 25 "$tmp/vm$1.log"; return 1; }; }

# shellcheck disable=SC2317
boot_cleanup() {
    local n
    for n in "${!vms[@]}"; do vm_end "$n"; done
    [ -z "${dnsmasq_pid:-}" ] || { kill "$dnsmasq_pid"; wait "$dnsmasq_pid"; } 2>/dev/null
    # The services live in the namespace: they go first.
    for n in ${names[@]+"${names[@]}"}; do
        [ ! -e "/run/clustermatic-$n" ] || clustermatic down --name "$n"
    done
    # Whatever still lives in there was started by us.
    for n in $(ip netns pids "$boot_ns" 2>/dev/null); do
        echo "# left in the test's network: $(tr '\0' ' ' <"/proc/$n/cmdline" 2>/dev/null)"
        kill -KILL "$n" 2>/dev/null
    done
    ip netns del "$boot_ns" 2>/dev/null
}

# --- firmware and media ------------------------------------------------------------

boot_media_needs() {
    command -v xorriso >/dev/null || plan_skip 'xorriso is not installed'
    command -v mformat >/dev/null || plan_skip 'mtools is not installed'
    [ -e /usr/lib/ISOLINUX/isolinux.bin ] || plan_skip 'isolinux is not installed'
    [ -e /usr/lib/systemd/boot/efi/linuxx64.efi.stub ] || plan_skip 'systemd-boot-efi is not installed'
}
boot_uefi_needs() { [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || plan_skip 'ovmf is not installed'; }

# boot_stick FILE: $stick, the options for a USB stick with these contents
boot_stick() {
    stick=(-drive "if=none,id=u,format=raw,readonly=on,file=$1" -device qemu-xhci
        -device usb-storage,drive=u,bootindex=0)
}
# boot_uefi: $uefi, the options for a UEFI machine without a past
boot_uefi() {
    cp /usr/share/OVMF/OVMF_VARS_4M.fd "$tmp/vars.fd"
    # shellcheck disable=SC2034 # for the tests
    uefi=(-M q35 -drive "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"
        -drive "if=pflash,format=raw,file=$tmp/vars.fd")
}
