#!/bin/bash
# 0600-beoboot: images from what a configuration says, and each refusal with its
# reason. What an image does is tests/boot's.
. tests/lib.sh

need bin/beoboot
export CM_STATEDIR=$tmp/state CM_CONFIG=$tmp/config
V=9.8.7-test

# A kernel as far as its release, and a tree of modules with none in it.
printf 'MZ%0510d' 0 >"$tmp/vmlinuz"
printf '\0\0HdrS%08d\0\1%496s' 0 '' | tr ' ' '\0' >>"$tmp/vmlinuz"
printf '%s (somebody) #1' "$V" | dd of="$tmp/vmlinuz" bs=1 seek=768 conv=notrunc status=none
mkdir -p "$tmp/lib/modules/$V"
: >"$tmp/lib/modules/$V/modules.builtin"
: >"$tmp/lib/modules/$V/modules.order"
depmod -b "$tmp" "$V" 2>/dev/null
mv "$tmp/lib/modules/$V" "$tmp/modules"
boot() { beoboot -k "$tmp/vmlinuz" -m "$tmp/modules" "$@"; }

# --- usage

ok '--help says how to call it' has '^Usage: beoboot' beoboot --help
ok '--version' has '^beoboot version ' beoboot -V
for wrong in '' -2 -n '-1 -2 -n' '-2 -n -i' '-2 -n extra' '--json' '-2 --list x' '--nonsense'; do
    # shellcheck disable=SC2086
    ok "wrong usage: beoboot $wrong" exits 2 beoboot $wrong
done
ok 'floppies are of the past' fails_with '1.44 MB' beoboot -2 -f

# --- images

ok 'a phase 2 network image' boot -2 -n -o "$tmp/boot.img" -c 'console=ttyS0 apm=off'
cp "$tmp/ok.out" "$tmp/said"
ok 'where it is, is said' grep -qx "Netboot image is in: $tmp/boot.img" "$tmp/said"
ok 'and its hash' grep -q "^$(sha256sum <"$tmp/boot.img" | cut -c1-64)  $tmp/boot.img" "$tmp/said"
beoboot --list "$tmp/boot.img" >"$tmp/list"
ok 'the list says what it is' is "phase    2
arch     $(uname -m)
kernel   $V, $(stat -c %s "$tmp/vmlinuz") bytes
cmdline  console=ttyS0 apm=off" sh -c "head -n 5 $tmp/list | grep -v ^initrd"
for file in init usr/libexec/clustermatic/bpinit usr/libexec/clustermatic/bpnode \
    etc/clustermatic/master.pub etc/clustermatic/config.boot modules/index dev/console; do
    ok "/$file is in it" grep -q " /$file\$" "$tmp/list"
done
ok 'the same as JSON' is "2 $V True" sh -c "beoboot --list '$tmp/boot.img' --json |
    python3 -c 'import json, sys; j = json.load(sys.stdin)
print(j[\"phase\"], j[\"release\"], \"/init\" in [f[\"name\"] for f in j[\"files\"]])'"
ok "the master's keys were made for it" test -s "$CM_STATEDIR/master.key"
ok 'again' boot -2 -n -o "$tmp/again.img" -c 'console=ttyS0 apm=off'
ok 'it is the same, byte for byte' cmp "$tmp/boot.img" "$tmp/again.img"
ok 'a phase 1 image' boot -1 -n -o "$tmp/one.img"
beoboot --list "$tmp/one.img" >"$tmp/list"
ok 'is one' grep -qx 'phase    1' "$tmp/list"
ok 'and has nothing of phase 2' not grep -q 'bpnode\|master.pub' "$tmp/list"
ok 'a pair of files' boot -2 -i -o "$tmp/pair"
ok 'kernel and initramfs' sh -c "cmp $tmp/pair.kernel $tmp/vmlinuz && beoboot --list $tmp/pair.initrd"
ok 'nothing half-made is left' is '' find "$tmp" -maxdepth 1 -name '*.img.*'

# --- the configuration

cat >"$tmp/config" <<END
bootfile $tmp/var/clustermatic/boot.img
kernelimage $tmp/vmlinuz
kernelcommandline "quiet x=1"
END
ok 'beoboot -2 -n takes all of it from the configuration' beoboot -2 -n -m "$tmp/modules"
ok 'the bootfile' test -s "$tmp/var/clustermatic/boot.img"
ok 'the command line' has '^cmdline  quiet x=1$' beoboot --list "$tmp/var/clustermatic/boot.img"
ok '-c takes its place' beoboot -2 -n -m "$tmp/modules" -c 'console=ttyS0'
ok 'all of it' has '^cmdline  console=ttyS0$' beoboot --list "$tmp/var/clustermatic/boot.img"
printf '%s\n' 'modarg e1000e "Debug=1" x=2 # why' 'phase 1 rarp max_time 30' \
    'phase 2 rarp max_time 60' 'rarp rand 0' >"$tmp/config.boot"
boot -2 -i -o "$tmp/pair" >/dev/null 2>&1
ok 'config.boot goes into it: plain, and only what is for its phase' \
    is $'modarg e1000e Debug=1 x=2\nrarp max_time 60\nrarp rand 0' sh -c \
    "zstd -dc $tmp/pair.initrd | cpio -i --quiet --to-stdout etc/clustermatic/config.boot"
printf 'modporbe e1000e\n' >"$tmp/config.boot"
boot -1 -n -o "$tmp/one.img" >"$tmp/said" 2>&1
ok 'a misspelt word is a warning, with what may have been meant' \
    grep -q 'config.boot: unknown word "modporbe".*did you mean modprobe' "$tmp/said"
refuses() { # refuses TEXT PATTERN LINE
    printf '\n%s\n' "$3" >"$tmp/config.boot"
    ok "$1" fails_with "^beoboot: Fatal Error \\(aborting\\): $tmp/config.boot:2: .*$2" \
        boot -2 -n -o "$tmp/bad.img"
}
refuses 'a delay that cannot be' 'rarp backoff: "0.5"; want a number' 'rarp backoff 0.5'
refuses 'no such delay' 'rarp: unknown word "soon"' 'rarp soon 1'
refuses 'no such phase' 'want phase 1|2' 'phase 3 rarp rand 0'
refuses 'half a line' 'too few arguments for modarg' 'modarg e1000e'
refuses 'linking boot programs' 'are not linked' 'plugin hooks.o'
rm "$tmp/config.boot"
printf 'file %s>/opt/hello\ndevice /dev/null\n' "$tmp/config" >"$tmp/more"
ok '--plugin: a file and a device' boot -2 -n --plugin "$tmp/more" -o "$tmp/more.img"
ok 'are in the image' sh -c "beoboot --list $tmp/more.img | grep -c ' /opt/hello$\|^crw.* /dev/null$' | grep -qx 2"
printf 'file /nonexistent\n' >"$tmp/more"
ok 'a file that is not there' fails_with '/nonexistent: No such file' boot -2 -n --plugin "$tmp/more" -o "$tmp/bad.img"

# --- drivers: those of network cards, what they need, and no others

tree=$tmp/drivers/lib/modules/$V
module() { # module PATH NAME LINE...: as far as depmod(8) and modinfo(8) look into one
    local path=$tree/kernel/$1 line
    mkdir -p "${path%/*}"
    shift
    for line in "name=$1" "${@:2}"; do
        case $line in
        uses=*) printf '.data\n.quad %s\n' "${line#*=}" ;;
        gives=*) printf '.section __ksymtab_strings,"a"\n.asciz "%s"\n' "${line#*=}" ;;
        *) printf '.section .modinfo,"a"\n.asciz "%s"\n' "$line" ;;
        esac
    done | command as -o "$path" -
}
module drivers/net/ethernet/x/card.ko card uses=help depends=helper firmware=cmtest/card.fw \
    'alias=pci:v00008086d00001521sv*sd*bc*sc*i*'
module lib/helper.ko helper gives=help depends=
module drivers/net/usb/stick.ko stick depends= 'alias=usb:v0B95p1790d*dc*dsc*dp*ic*isc*ip*in*'
module drivers/usb/host/port.ko port depends= 'alias=pci:v*d*sv*sd*bc0Csc03i30*'
module drivers/net/wireless/radio.ko radio depends= 'alias=pci:v00008086d00002723sv*sd*bc*sc*i*'
module drivers/ata/disk.ko disk depends= 'alias=pci:v*d*sv*sd*bc01sc06i01*'
: >"$tree/modules.builtin"
find "$tree/kernel" -name '*.ko' -printf 'kernel/%P\n' >"$tree/modules.order"
depmod -b "$tmp/drivers" "$V" 2>/dev/null
drivers() { beoboot --list "$tmp/d.img" | sed -n 's|.* /modules/\(.*\)\.ko$|\1|p' | sort | paste -sd' '; }
ok 'an image of a tree with drivers' beoboot -2 -n -v -k "$tmp/vmlinuz" -m "$tree" -o "$tmp/d.img"
cp "$tmp/ok.out" "$tmp/said"
ok 'has the wired card'"'"'s, and what that depends on' is 'card helper' drivers
ok 'firmware that the master has not is said' grep -q '^beoboot: 1 firmware files .* not in /lib/firmware' "$tmp/said"
ok '-u: USB cards, and what USB needs' beoboot -2 -n -u -k "$tmp/vmlinuz" -m "$tree" -o "$tmp/d.img"
ok 'are in it too' is 'card helper port stick' drivers
echo 'bootmodule disk' >"$tmp/config.boot"
ok 'bootmodule: one more' beoboot -2 -n -k "$tmp/vmlinuz" -m "$tree" -o "$tmp/d.img"
ok 'is in it' is 'card disk helper' drivers
ok '--noautomod' beoboot -2 -n --noautomod -k "$tmp/vmlinuz" -m "$tree" -o "$tmp/d.img"
ok 'nothing but that' is disk drivers
rm "$tmp/config.boot"
if [ -d /lib/firmware ] && unshare -m true 2>/dev/null; then
    mkdir -p "$tmp/firmware/cmtest"
    echo blob >"$tmp/firmware/cmtest/card.fw"
    # shellcheck disable=SC2016 # for the other shell
    ok 'firmware that is there' unshare -m sh -c 'mount --bind "$1/firmware" /lib/firmware &&
        exec beoboot -2 -n -k "$1/vmlinuz" -m "$2" -o "$1/d.img"' - "$tmp" "$tree"
    ok 'is in the image' has ' 5 /lib/firmware/cmtest/card.fw$' beoboot --list "$tmp/d.img"
fi

# --- on a terminal it says what it does

on_terminal() { /usr/bin/python3 -c 'import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))' "$@" </dev/null; }
ok 'on a terminal' on_terminal beoboot -2 -n -k "$tmp/vmlinuz" -m "$tree" -o "$tmp/d.img"
cp "$tmp/ok.out" "$tmp/shown"
ok 'one sees how far it is' grep -q 'drivers: 2 of 2' "$tmp/shown"
ok 'elsewhere not' not grep -q 'drivers: ' "$tmp/said"

# --- refusals

ok 'no kernel' fails_with "$tmp/none: No such file" beoboot -2 -n -k "$tmp/none" -o "$tmp/bad.img"
ok 'a kernel that is none' fails_with 'does not tell its release.*--kversion' \
    beoboot -2 -n -k "$tmp/config" -m "$tmp/modules" -o "$tmp/bad.img"
ok '--kversion says it' beoboot -2 -n -k "$tmp/config" --kversion 1.2 -m "$tmp/modules" -o "$tmp/any.img"
ok 'no modules' fails_with "/lib/modules/$V: No such file.*-m says where.*--noautomod" \
    beoboot -2 -n -k "$tmp/vmlinuz" -o "$tmp/bad.img"
ok '--noautomod does without' beoboot -2 -n -k "$tmp/vmlinuz" --noautomod -o "$tmp/any.img"
printf 'bootmodule nosuch\n' >"$tmp/config.boot"
ok 'a module that is not there' fails_with 'names module nosuch, but there is none in' \
    boot -2 -n -o "$tmp/bad.img"
rm "$tmp/config.boot"
for kind in -e --efi --firmware -i; do
    ok "no output: $kind" fails_with '-o FILE is needed' boot -2 $kind
done
if [ -e /usr/lib/systemd/boot/efi/linuxx64.efi.stub ]; then
    ok 'no tool' fails_with 'xorriso is not there: apt-get install xorriso' \
        env PATH=/nonexistent "$CM_BUILD/bin/beoboot" -2 -e --noautomod -k "$tmp/vmlinuz" -o "$tmp/bad.img"
    ok 'nor that one' fails_with 'cbfstool is not there: apt-get install coreboot-utils' \
        env PATH=/nonexistent "$CM_BUILD/bin/beoboot" -1 --firmware --noautomod -k "$tmp/vmlinuz" -o "$tmp/bad.img"
else
    skip 'no tool' 'systemd-boot-efi is not installed'
    skip 'nor that one' 'systemd-boot-efi is not installed'
fi
ok 'no output' fails_with '-o FILE is needed' boot -1 -n
ok 'a configuration that is not there' fails_with "$tmp/none" boot -2 -n -C "$tmp/none" -o "$tmp/bad.img"
echo 'iprange 5' >"$tmp/config"
ok 'a configuration that is wrong' fails_with "$tmp/config:1: too few" boot -2 -n -o "$tmp/bad.img"
rm "$tmp/config"
echo short >"$tmp/key"
ok 'a key that is none' fails_with 'is not the master.s public key' boot -2 -n --master-key "$tmp/key" -o "$tmp/bad.img"
ok 'a command line of two lines' fails_with 'one line of at most' boot -2 -n -c $'a\nb' -o "$tmp/bad.img"
ok 'of none of these an image is left' not test -e "$tmp/bad.img"
if [ "$(id -u)" = 0 ]; then
    mkdir "$tmp/small"
    mount -t tmpfs -o size=1m tmpfs "$tmp/small"
    on_exit+=('umount "$tmp/small"')
    ok 'a full disk' fails_with 'No space left on device' boot -2 -n -o "$tmp/small/boot.img"
    ok 'nothing is left there' is '' ls "$tmp/small"
else
    skip 'a full disk' 'needs root'
    skip 'nothing is left there' 'needs root'
fi
ok '--list of no image' fails_with 'is no boot image' beoboot --list "$tmp/vmlinuz"
head -c -1 "$tmp/boot.img" >"$tmp/half.img"
ok '--list of half an image' fails_with 'not written to the end' beoboot --list "$tmp/half.img"
cp "$tmp/boot.img" "$tmp/damaged.img"
printf X | dd of="$tmp/damaged.img" bs=1 seek=4200 conv=notrunc status=none
ok '--list of a damaged one' fails_with 'its kernel is damaged' beoboot --list "$tmp/damaged.img"
printf '\x28\xb5\x2f\xfdgarbage' >"$tmp/garbage"
ok '--list of garbage' fails_with 'cannot be unpacked' beoboot --list "$tmp/garbage"
ok 'bpboot does nothing on a machine that runs' exits 2 "$libexec/bpboot"
done_testing
