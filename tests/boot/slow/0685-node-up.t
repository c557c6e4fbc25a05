#!/bin/bash
# 0685-node-up: a real machine is set up: modules by kmod, then the article's way:
# modules by cpio, modprobe, and the master's files by NFS; then a set-up that fails
. tests/lib.sh
. tests/boot/lib.sh

boot_needs
need libexec/clustermatic/bootsrv libexec/clustermatic/node_up
command -v ganesha.nfsd >/dev/null || plan_skip 'nfs-ganesha and nfs-ganesha-vfs are not installed'
boot_network 1
boot_config 1 <<END
bootfile $tmp/boot.img
END
root=${modules%/lib/modules/*}
mkdir "$tmp/home"
echo 'from the master' >"$tmp/home/hello"
cat >"$tmp/ganesha.conf" <<END
NFS_CORE_PARAM { Protocols = 4; NFS_Port = 2049; Enable_NLM = false; Enable_RQUOTA = false;
    Bind_addr = $boot_master; }
NFSv4 { Grace_Period = 5; RecoveryBackend = fs; RecoveryRoot = "$tmp/recovery"; }
EXPORT { Export_Id = 1; Path = "$tmp/home"; Pseudo = "/home"; Access_Type = RW; Squash = None;
    SecType = sys; Protocols = 4; FSAL { Name = VFS; } }
END
mkdir "$tmp/recovery"
nsenter --net="/run/netns/$boot_ns" ganesha.nfsd -F -f "$tmp/ganesha.conf" -L "$tmp/ganesha.log" \
    -p "$tmp/ganesha.pid" </dev/null >"$tmp/ganesha.out" 2>&1 &
ganesha=$!
on_exit=("kill -KILL $ganesha 2>/dev/null" ${on_exit[@]+"${on_exit[@]}"})
serves() { in_net ss -Hltn 'sport = 2049' | grep -q .; }
eventually 30 serves || plan_skip "no NFS server here: $(tail -n 1 "$tmp/ganesha.log")"

cp etc/samples/nfs.init "$tmp/nfs.init"
cat >"$tmp/node_up.conf" <<END
plugin kmod -d $root overlay
plugin miscfiles $tmp/home/hello > /etc/hello
plugin nodeinfo
END
cat >"$tmp/node_up" <<END
#!/bin/sh
"\$CM_LIBEXEC/node_up" "\$@" || exit
ROOT=$root MODULES='nfs nfsv4' MASTER=$boot_master
OPTIONS=vers=4.1,clientaddr=$(address 0)
. $tmp/nfs.init
END
chmod +x "$tmp/node_up"
boot_cluster
ok 'a phase 2 image is made' beoboot -2 -n -k "$kernel" -m "$modules" \
    -c 'console=ttyS0 reboot=t panic=5 no_timer_check norandmaps quiet'
ok 'the boot server takes it' clustermatic reload --name "$cluster"
head -c 16M /dev/zero >"$tmp/swap.img"
chmod 600 "$tmp/swap.img"
mkswap "$tmp/swap.img" >"$tmp/mkswap.out" 2>&1
vm 0 -boot n -drive "if=none,id=s,format=raw,file=$tmp/swap.img" -device virtio-blk-pci,drive=s
log() { tail -n 30 "$logs/node.0"; }
ok 'the machine is set up' is_up 0
in_state 0 up || log
node() { timeout 120 bpsh 0 "$@"; }
ok 'kmod has loaded a module' has '^overlay ' node cat /proc/modules
ok 'miscfiles has brought a file' is 'from the master' node cat /etc/hello
ok 'the modules that came by cpio are loaded' has '^nfsv4 ' node cat /proc/modules
ok 'df shows the master'"'"'s /home there' has "^ +0: $boot_master:/home .* /home$" timeout 120 bpsh -a -L -p df
ok 'with its files' is 'from the master' node cat /home/hello
ok 'which can be written' node cp /etc/hello /home/back
ok 'and are here' cmp "$tmp/home/hello" "$tmp/home/back"
ok 'why tells of the set-up' has ' node_up +[0-9.]+ s' clustermatic why node 0 --name "$cluster"

# --- one that fails

printf '#!/bin/sh\necho "no scratch disk"\nexit 5\n' >"$tmp/node_up"
ok 'a reboot' timeout 60 bpctl -S 0 -R
ok 'a set-up that fails: error' eventually "$patience" in_state 0 error
ok 'with the reason' has 'node_up ended with status 5: no scratch disk' bpstat -x 0
ok 'root can look at it' is "$release" node uname -r
ok 'and set it up by hand' timeout 120 "$libexec/node_up" -u 0
ok 'it is up' is_up 0

# --- the same in a few lines of node_up.conf, by setupfs; and swap

rm "$tmp/node_up"
cat >"$tmp/node_up.conf" <<END
plugin kmod -d $root virtio_blk nfs nfsv4
plugin setupfs --timeout 60
END
cat >"$tmp/fstab" <<END
MASTER:/home	/mnt/home	nfs4	vers=4.1,clientaddr=$(address 0),nosuid	0 0
/dev/vda	swap	swap	defaults	0 0
END
ok 'a reboot' timeout 60 bpctl -S 0 -R
ok 'MASTER:/home by setupfs: the machine is set up' is_up 0
in_state 0 up || log
mounts() { node cat /proc/mounts; }
ok 'it is mounted, with its options' has "^$boot_master:/home /mnt/home nfs4 [^ ]*nosuid" mounts
ok 'its files are there' is 'from the master' node cat /mnt/home/hello
ok 'and the swap is in use' has '^/dev/vda[[:space:]]+partition[[:space:]]+[1-9]' node cat /proc/swaps
ok 'a second time: all is there already' timeout 120 "$libexec/node_up" -u 0
fails() { # fails PATTERN FSTAB-LINE: setupfs is refused, with this reason
    echo "$2" >"$tmp/bad-fstab"
    echo "setupfs --timeout 0 --fstab $tmp/bad-fstab" >"$tmp/bad.conf"
    fails_with "$1" timeout 120 "$libexec/node_up" -C "$tmp/bad.conf" 0
}
ok 'an export that there is not' fails "mount $boot_master:/nowhere \(nfs4\) on /mnt/x: No such file" \
    "MASTER:/nowhere /mnt/x nfs4 vers=4.1,clientaddr=$(address 0)"
ok 'a device that there is not' fails 'swap on /dev/vdz: No such file' '/dev/vdz swap swap defaults'
done_testing
