#!/bin/bash
# 0611-media: CD image and UEFI program of beoboot on the other firmware: BIOS from a
# CD, UEFI from a stick, from a CD, and from a disk with the program alone
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
boot_media_needs
boot_uefi_needs
boot_network 1
boot_dnsmasq </dev/null
boot_config 1 </dev/null
boot_cluster
cmdline='console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'
ok 'a CD image is made' beoboot -2 -e -o "$tmp/cd.iso" -k "$kernel" -m "$modules" -c "$cmdline"
ok 'and a program for UEFI' beoboot -2 --efi -o "$tmp/disk/EFI/BOOT/BOOTX64.EFI" -k "$kernel" \
    -m "$modules" -c "$cmdline"
cp "$tmp/ok.out" "$tmp/said"
ok 'it is said to be one' grep -qx "UEFI image is in: $tmp/disk/EFI/BOOT/BOOTX64.EFI" "$tmp/said"
boot_stick "$tmp/cd.iso"
# shellcheck disable=SC2054 # QEMU wants commas
cd_rom=(-drive "if=none,id=c,format=raw,media=cdrom,readonly=on,file=$tmp/cd.iso" -boot d
    -device ide-cd,drive=c,bootindex=0)

gets_up() { # gets_up TEXT QEMU-OPTION...
    local text=$1
    shift
    vm 0 "$@"
    ok "$text: it gets up" is_up 0
    ok "$text: with the image's kernel" is "$release" timeout 60 bpsh 0 uname -r
    ok "$text: it is switched off" timeout 60 bpctl -S 0 -P
    ok "$text: and is off" eventually "$patience" not vm_alive 0
}
gets_up 'BIOS, CD' "${cd_rom[@]}"
vm_memory=512
boot_uefi
gets_up 'UEFI, stick' "${uefi[@]}" "${stick[@]}"
boot_uefi
gets_up 'UEFI, CD' "${uefi[@]}" "${cd_rom[@]}"
boot_uefi
gets_up 'UEFI, program on a disk' "${uefi[@]}" -drive "if=none,id=d,format=raw,file=fat:rw:$tmp/disk" \
    -device virtio-blk-pci,drive=d,bootindex=0
done_testing
