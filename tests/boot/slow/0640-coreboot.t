#!/bin/bash
# 0640-coreboot: LinuxBIOS as it is today: a firmware image, built from coreboot's
# source, with our phase 1 as its payload. From power-on to up without a disk or a
# network loader: coreboot, Linux, the boot server, Linux, up.
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
need libexec/clustermatic/bootsrv
command -v cbfstool >/dev/null || plan_skip 'coreboot-utils is not installed'

# coreboot for QEMU's i440fx, without a payload: built once, kept in the cache.
build_coreboot() {
    local cache=${CM_TEST_CACHE:-/var/cache/clustermatic-tests} work=$tmp/coreboot log=$tmp/coreboot.log
    bare=$cache/coreboot-i440fx-16m.rom
    [ ! -s "$bare" ] || return 0
    mkdir -p "$work/lists/partial" "$work/archives/partial"
    sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list \
        /etc/apt/sources.list.d/* 2>/dev/null | grep -v security | head -n 1 >"$work/mirror"
    echo "deb-src $(cat "$work/mirror") $(. /etc/os-release && echo "$VERSION_CODENAME") main" \
        >"$work/sources.list"
    (
        cd "$work" || exit
        source_apt() {
            timeout 300 apt-get -q -o Dir::Etc::SourceList="$work/sources.list" \
                -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$work/lists" \
                -o Dir::Cache="$work/archives" -o APT::Sandbox::User=root "$@"
        }
        source_apt update && source_apt source coreboot && cd coreboot-*/ || exit
        for option in ANY_TOOLCHAIN=y USE_BLOBS=n VENDOR_EMULATION=y \
            BOARD_EMULATION_QEMU_X86_I440FX=y COREBOOT_ROMSIZE_KB_16384=y CBFS_SIZE=0x01000000 \
            PAYLOAD_NONE=y CONSOLE_SERIAL=y; do
            echo "CONFIG_$option"
        done >.config
        make olddefconfig UPDATED_SUBMODULES=1 &&
            make -j2 UPDATED_SUBMODULES=1 CONFIG_WARNINGS_ARE_ERRORS= && cp build/coreboot.rom "$bare.new"
    ) >"$log" 2>&1 </dev/null && mv "$bare.new" "$bare" && return
    tail -n 15 "$log" | sed 's/^/# /'
    return 1
}
build_coreboot || plan_skip 'coreboot could not be built here (its last words are above)'

boot_network 1
boot_dnsmasq </dev/null
boot_config 1 <<END
bootfile $tmp/boot.img
dhcp off
END
boot_cluster
ok 'a phase 2 image is made for the boot server' beoboot -2 -n -k "$kernel" -m "$modules" \
    -c 'console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'
ok 'the boot server takes it' clustermatic reload --name "$cluster"
ok 'a phase 1 payload is made' beoboot -1 --firmware -o "$tmp/payload" -k "$kernel" -m "$modules" \
    -c 'console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'
cp "$bare" "$tmp/cb.rom"
ok 'cbfstool puts it into the firmware' cbfstool "$tmp/cb.rom" add-payload -n fallback/payload \
    -f "$tmp/payload" -c none
ok 'where it is whole' has '^fallback/payload .*simple elf +1[0-9]{7} ' cbfstool "$tmp/cb.rom" print

vm_memory=512 vm_card=,romfile=
vm 0 -M pc -bios "$tmp/cb.rom"
ok 'the machine gets up' is_up 0
ok 'coreboot was its firmware' grep -aq 'coreboot-4' "$tmp/vm0.log"
ok 'then phase 1' grep -aq 'phase 1, kernel' "$tmp/vm0.log"
ok 'then phase 2' grep -aq 'phase 2, kernel' "$tmp/vm0.log"
ok 'it runs the kernel of the image' is "$release" timeout 60 bpsh 0 uname -r
ok 'bpctl -R: it is told to reboot' timeout 60 bpctl -S 0 -R
ok 'it comes back, from the firmware' is_up 0
ok 'and works' is "$release" timeout 60 bpsh 0 uname -r
done_testing
