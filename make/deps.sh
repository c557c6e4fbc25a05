#!/bin/sh
# deps.sh GROUP...: install from Debian what is missing, and only that
#
# Groups: build (compile), run (start a cluster), check (the tests),
# boot (a firmware image for one of them), bench (the programs that the benchmarks compare with).
set -eu

# Encryption is faster with it; it works without.
on_amd64() { [ "$(uname -m)" != x86_64 ] || echo "$1"; }

packages() {
    case $1 in
    build) echo gcc libc6-dev make libzmq3-dev libmsgpack-dev libjansson-dev \
        libsqlite3-dev libssl-dev libfuse3-dev libcap2-bin \
        libpmix-dev libkmod-dev libzstd-dev libmicrohttpd-dev python3-docutils
        on_amd64 libipsec-mb-dev ;;
    run) echo s6 iproute2 procps fuse3 kmod cpio dnsmasq-base ipxe
        on_amd64 libipsec-mb1 ;;
    check) echo clang shellcheck perl python3-zmq python3-msgpack systemd attr curl udhcpc mpich libmpich-dev openmpi-bin libopenmpi-dev pdsh clustershell \
        strace gdb gdbserver g++ pkg-config nftables qemu-system-x86 seabios ipxe-qemu zstd \
        ovmf xorriso isolinux syslinux-common mtools systemd-boot-efi coreboot-utils ;;
    boot) echo dpkg-dev bison flex acpica-tools gcc-multilib nasm zlib1g-dev patch nfs-ganesha nfs-ganesha-vfs ;;
    bench) echo mpich libmpich-dev openmpi-bin libopenmpi-dev slurm-wlm munge pdsh openssh-server openssh-client rsync nginx-light curl bc strace ;;
    *) echo "deps.sh: no group $1: build, run, check, bench" >&2; return 2 ;;
    esac
}

command -v dpkg-query >/dev/null || {
    echo "deps.sh: this is not Debian; these packages (or their like) are needed:"
    for group; do packages "$group"; done
    exit 0
}

missing=
for group; do
    list=$(packages "$group")
    for package in $list; do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$state" = installed ] || missing="$missing $package"
    done
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "deps.sh: missing packages:$missing" >&2
    echo "deps.sh: install them with: sudo apt-get install$missing" >&2
    exit 1
fi
echo "installing:$missing"
# The benchmarks start these for themselves: the system is not to.
policy=/usr/sbin/policy-rc.d
case $missing in
*slurm* | *munge* | *openssh-server*)
    [ -e $policy ] || {
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        trap 'rm -f $policy' EXIT
    } ;;
esac
export DEBIAN_FRONTEND=noninteractive
# Word splitting is wanted: one word a package.
# shellcheck disable=SC2086
install() { apt-get install -y -q --no-install-recommends $missing; }
install || { apt-get update -q && install; }
if command -v systemctl >/dev/null; then
    for package in $missing; do
        case $package in
        slurm-wlm) systemctl -q disable slurmctld slurmd || true ;;
        munge) systemctl -q disable munge || true ;;
        openssh-server) systemctl -q disable ssh || true ;;
        esac
    done
fi
