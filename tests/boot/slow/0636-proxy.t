#!/bin/bash
# 0636-proxy: beside a site's own DHCP server: that gives addresses and knows nothing
# of booting, the boot server says where to boot from
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
need libexec/clustermatic/bootsrv
[ -e /usr/lib/ipxe/qemu/pxe-virtio.rom ] || plan_skip 'ipxe-qemu is not installed'
boot_network 1
# The site's server, in a namespace of its own on the same network.
site=cms$$
on_exit=("kill \${site_pid:-} 2>/dev/null; ip netns del $site 2>/dev/null" ${on_exit[@]+"${on_exit[@]}"})
ip netns add $site
ip link add site0 netns "$boot_ns" type veth peer name e0 netns $site
ip -n "$boot_ns" link set site0 master br0 up
ip -n $site addr add 198.18.0.2/15 dev e0
ip -n $site link set e0 up
nsenter --net=/run/netns/$site dnsmasq -k --conf-file=/dev/null --port=0 --interface=e0 \
    --bind-interfaces --dhcp-authoritative --no-ping --leasefile-ro --user=root \
    --dhcp-range=198.18.0.10,198.18.0.10,255.254.0.0,1h </dev/null >"$tmp/site.out" 2>&1 &
# shellcheck disable=SC2034 # for on_exit
site_pid=$!
boot_config 1 <<END
bootfile $tmp/boot.img
dhcp proxy
END
boot_cluster
ok 'a phase 2 image is made' beoboot -2 -n -k "$kernel" -m "$modules" \
    -c 'console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'
ok 'the boot server takes it' clustermatic reload --name "$cluster"
vm 0 -boot n
ok 'a machine gets up' is_up 0
ok 'it runs the kernel of the image' is "$release" timeout 60 bpsh 0 uname -r
ok 'with the address that the site gave it' has '^ +0 198.18.0.10 ' bpstat -l
done_testing
