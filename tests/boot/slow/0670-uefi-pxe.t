#!/bin/bash
# 0670-uefi-pxe: UEFI machines boot from the network: by iPXE in the card, and by the
# firmware's own PXE, which is given iPXE by TFTP first
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
need libexec/clustermatic/bootsrv
boot_uefi_needs
boot_network 1
boot_config 1 <<END
bootfile $tmp/boot.img
END
boot_cluster
ok 'a phase 2 image is made' beoboot -2 -n -k "$kernel" -m "$modules" \
    -c 'console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'
ok 'the boot server takes it' clustermatic reload --name "$cluster"
patience=400 vm_memory=768
gets_up() { # gets_up TEXT QEMU-OPTION...
    local text=$1
    shift
    boot_uefi
    vm 0 "${uefi[@]}" -boot n "$@"
    ok "$text: it gets up" is_up 0
    ok "$text: with the image's kernel" is "$release" timeout 60 bpsh 0 uname -r
    ok "$text: it is told to reboot" timeout 60 bpctl -S 0 -R
    ok "$text: it comes back" is_up 0
    ok "$text: it is switched off" timeout 60 bpctl -S 0 -P
    ok "$text: and is off" eventually "$patience" not vm_alive 0
}
gets_up 'iPXE of the card'
vm_card=,romfile=
gets_up 'PXE of the firmware' -device virtio-rng-pci
done_testing
