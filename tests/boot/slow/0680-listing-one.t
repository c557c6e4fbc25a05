#!/bin/bash
# 0680-listing-one: the configuration that the article prints boots its three nodes;
# then what the article does with them
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
need libexec/clustermatic/bootsrv
[ -e /usr/lib/ipxe/qemu/pxe-virtio.rom ] || plan_skip 'ipxe-qemu is not installed'
boot_bridge=eth1
boot_network 3
mac() { sed -n "s/^node $1 //p" tests/data/listing-one.config; }
# Only the image is elsewhere; the kernel's command line is for our virtual consoles.
sed "s|^bootfile .*|bootfile $tmp/boot.img|" tests/data/listing-one.config >"$tmp/config"
boot_cluster
ok 'beoboot -2 -n -c' beoboot -2 -n -c "console=ttyS0 apm=off reboot=t panic=5 no_timer_check norandmaps quiet" -k "$kernel" -m "$modules"
ok 'the configuration is read again' clustermatic reload --name "$cluster"
patience=500
for n in 0 1 2; do vm $n -boot n; done
for n in 0 1 2; do ok "node $n gets up" is_up $n; done
ok 'bpstat' has '^0-2 +up +---x--x--x +root' bpstat
ok 'bpctl -S allup -m 111' bpctl -S allup -m 111
ok 'their addresses are of the iprange' is $'198.18.1.10\n198.18.1.11\n198.18.1.12' bpstat -a
ok 'bpsh -a -L -p df' has '^  2: .* /$' timeout 120 bpsh -a -L -p df
ok 'a file goes there by cpio' sh -c "cd /etc && echo passwd | cpio -o --quiet |
    timeout 120 bpsh 1 cpio -imd --quiet"
ok 'and is there' is "$(cat /etc/passwd)" timeout 120 bpsh 1 cat /etc/passwd
ok 'bpctl -S allup -R' timeout 60 bpctl -S allup -R
for n in 0 1 2; do ok "node $n comes back" is_up $n; done
done_testing
