#!/bin/bash
# 0710-bootsrv: what machines are told by HTTP: scripts, images, stages; unknown
# machines; images that are no good; reload and restart in mid-transfer
. tests/lib.sh
. tests/bootlib.sh

need bin/clustermatic libexec/clustermatic/bootsrv libexec/clustermatic/bpfetch
need_root
command -v curl >/dev/null || plan_skip 'curl is not installed'
boot_net || plan_skip 'no network namespaces'

hash=$(tests/mkimage.py "$tmp/boot.img" 6)
other=$(tests/mkimage.py "$tmp/other.img" 1 'quiet splash')
cat >"$tmp/config" <<END
interface m0
iprange 0 198.18.40.10 198.18.40.19
bootfile $tmp/boot.img
bootfile 2-3 $tmp/other.img
dhcp off
pingtimeout 5
node 0 52:54:00:00:00:00
node 2 52:54:00:00:00:02
END
boot_up
url=http://198.18.40.1:4711
fetch() { client "$libexec/bpfetch" --server 198.18.40.1:4711 "$@"; }

# --- iPXE

ok 'the service answers' eventually 10 get "$url/status"
ok 'iPXE is sent to the script of its card' has "chain --replace $url/ipxe/.*netX/mac:hexhyp" get "$url/boot.ipxe"
ok 'a known machine gets kernel and command line' \
    has "^kernel $url/i/$hash/kernel\?mac=52:54:00:00:00:00 console=ttyS0 cm.master=198.18.40.1:2223 cm.boot=198.18.40.1:4711 cm.node=0 cm.image=$hash cm.mac=52:54:00:00:00:00 initrd=initrd" \
    get "$url/ipxe/52-54-00-00-00-00"
ok 'and initramfs' has "^initrd --name initrd $url/i/$hash/initrd" get "$url/ipxe/52-54-00-00-00-00"
ok 'another range of nodes another image' has "/i/$other/kernel\?mac=52:54:00:00:00:02 quiet splash cm" \
    get "$url/ipxe/52:54:00:00:00:02"
part() { get "$url/i/$hash/$1" | sha256sum | cut -d' ' -f1; }
said() { head -c 4096 "$tmp/boot.img" | tr -d '\0' | awk -v p="$1" '$1 == p { print $4 }'; }
ok 'the kernel is whole' is "$(said kernel)" part kernel
ok 'the initramfs is whole' is "$(said initrd)" part initrd
whole() { get "$url/i/$hash" | sha256sum | cut -d' ' -f1; }
ok 'the image is whole' is "$hash" whole
piece() { get -r 1000-1999 "$url/i/$hash" | cmp - <(tail -c +1001 "$tmp/boot.img" | head -c 1000); }
ok 'a range of it' piece
rest() { get -r 6000000- "$url/i/$hash" | cmp - <(tail -c +6000001 "$tmp/boot.img"); }
ok 'the rest of it' rest
code() { client curl -s -m 30 -o /dev/null -w '%{http_code}' "$@"; }
ok 'beyond its end: 416' is 416 code -r 99999999- "$url/i/$hash"
ok 'HEAD' is 200 code -I "$url/i/$hash"
ok 'only what is asked for by hash: another file is not there' is 404 code "$url/i/$(printf '%064d' 0)"

# --- unknown machines

(bpevents --filter boot.unknown --count 1 --timeout 20 --ready-fd 3 >"$tmp/event" 3>"$tmp/event.ready") &
watching=$!
eventually 10 test -s "$tmp/event.ready"
ok 'an unknown machine gets a page that waits' has 'this machine is 52:54:00:00:00:09: no line .* names it' \
    get "$url/ipxe/52-54-00-00-00-09"
ok 'and asks again by itself' has "chain --replace $url/ipxe/52:54:00:00:00:09" get "$url/ipxe/52-54-00-00-00-09"
ok 'an event tells of it' wait $watching
ok 'with its address and interface' grep -q '"mac":"52:54:00:00:00:09","addr":"198.18.40.200","interface":"m0"' "$tmp/event"
ok 'it is on the list' is "['52:54:00:00:00:09']" tests/ask.py -e '[m["mac"] for m in v]' bootsrv.unknown
ok 'phase 1 is told to wait' has '^wait 2000' get "$url/next?mac=52:54:00:00:00:09&wait=0"
get "$url/next?mac=52:54:00:00:00:09&wait=30" >"$tmp/next" &
asking=$!
echo 'node 1 52:54:00:00:00:09' >>"$tmp/config"
ok 'its MAC comes into the configuration' clustermatic reload
ok 'who waits goes on by itself' wait $asking
ok 'as node 1' has '^node 1' cat "$tmp/next"
ok 'the list is empty' is '[]' tests/ask.py bootsrv.unknown
ok 'several cards: the one that is known counts' has '^node 2' \
    get "$url/next?mac=52:54:00:00:00:77&mac=52:54:00:00:00:02"

# --- fetching as phase 1 does

ok 'an image is fetched and checked' has "^image $hash" fetch --mac 52:54:00:00:00:00 -o "$tmp/out"
ok 'it is the file' cmp "$tmp/out" "$tmp/boot.img"
ok 'with the command line for this node' has 'cmdline .*cm.node=0' fetch --mac 52:54:00:00:00:00
ok 'an unknown machine gives up after its limit, and says why' \
    fails_with 'no image: no line of the configuration names 52:54:00:00:00:55' \
    fetch --mac 52:54:00:00:00:55 --limit 1
ok 'a server that is not there' fails_with 'no image: 198.18.40.77:4711: (no answer|No route)' \
    client "$libexec/bpfetch" --server 198.18.40.77:4711 --mac 52:54:00:00:00:00 --limit 1

# --- transfers outlive reload and restart, a new image does not disturb them

# slow MS: one that takes its time is on its way
slow() {
    sent_before=$(sent)
    # exec: $! is its pid
    (exec ip netns exec "$ns_c" "$libexec/bpfetch" --server 198.18.40.1:4711 --mac 52:54:00:00:00:00 \
        --slow "$1" -o "$tmp/slow" >"$tmp/slow.log" 2>&1) &
    eventually 10 begun
}
sent() { tests/ask.py -e 'sum(i["sent"] for i in v["images"])' bootsrv.status; }
begun() { [ "$(sent)" -gt "$sent_before" ]; }
slow 150
kill -HUP "$(pid_of bootsrv)"
ok 'SIGHUP in mid-transfer' clustermatic reload
new=$(tests/mkimage.py "$tmp/boot.img" 3)
ok 'and another image in its place' eventually 10 has "^image $new" fetch --mac 52:54:00:00:00:09
ok 'the transfer ends well' wait $!
ok 'with the image that it began with' has "^image $hash" cat "$tmp/slow.log"
ok 'HUP has reread the configuration' eventually 10 has 'info .*boot images at' cat "$logs/bootsrv/current"
slow 300
kill -9 "$(pid_of bootsrv)"
ok 'bootsrv killed in mid-transfer: the machine fetches on' wait $!
ok 'the new image' has "^image $new" cat "$tmp/slow.log"
ok 'whole' cmp "$tmp/slow" "$tmp/boot.img"

# --- images that are no good

bad() { # bad PATTERN: the machine is told, and so is whoever reads the log
    fails_with "no image: the master: .*$1" fetch --mac 52:54:00:00:00:00 --limit 1
}
cp "$tmp/boot.img" "$tmp/good.img"
head -c 1000000 "$tmp/good.img" >"$tmp/half" && mv "$tmp/half" "$tmp/boot.img"
ok 'half an image' bad 'boot.img'
ok 'iPXE shows why' has 'this machine is 52:54:00:00:00:00: image .*boot.img' get "$url/ipxe/52-54-00-00-00-00"
{ head -c 1500000 "$tmp/good.img"; printf X; tail -c +1500002 "$tmp/good.img"; } >"$tmp/dmg" && mv "$tmp/dmg" "$tmp/boot.img"
ok 'a damaged one' bad 'its (kernel|initramfs) is not what its header says'
echo 'no image' >"$tmp/txt" && mv "$tmp/txt" "$tmp/boot.img"
ok 'another file' bad 'boot.img'
rm "$tmp/boot.img"
ok 'none' bad 'boot.img: No such file'
ok 'the reason is in the log' grep -q 'error image .*boot.img' "$logs/bootsrv/current"
ok 'a node of another image is served all the same' has "^image $other" fetch --mac 52:54:00:00:00:02
mv "$tmp/good.img" "$tmp/boot.img"
ok 'with a good one in its place all is well' has "^image $new" fetch --mac 52:54:00:00:00:00

# --- a phase 1 image first

first=$(tests/mkimage.py "$tmp/first.img" 0.3 'one')
cp "$tmp/config" "$tmp/config.before"
echo "phase1 2 $tmp/first.img" >>"$tmp/config"
ok 'a phase 1 image for some' clustermatic reload
ok 'iPXE gets that' has "/i/$first/kernel\?mac=52:54:00:00:00:02 one cm" get "$url/ipxe/52:54:00:00:00:02"
ok 'which fetches the other' has "^image $other" fetch --mac 52:54:00:00:00:02
ok 'another node does without' has "/i/$new/kernel" get "$url/ipxe/52:54:00:00:00:00"
cp "$tmp/config.before" "$tmp/config"
clustermatic reload

# --- a file that is overwritten while it is fetched: what came is found out

cp "$tmp/boot.img" "$tmp/good.img"
slow 1000
slow_pid=$!
kill -STOP $slow_pid
head -c 1000000 /dev/urandom | dd of="$tmp/boot.img" bs=1M seek=2 conv=notrunc status=none
kill -CONT $slow_pid
ok 'a file overwritten in mid-transfer: that is seen' eventually 20 grep -q 'has sent a damaged chunk' "$tmp/slow.log"
mv "$tmp/good.img" "$tmp/boot.img"
ok 'it is mended: the transfer goes on' wait $slow_pid
ok 'is fetched whole in the end' cmp "$tmp/slow" "$tmp/boot.img"

# --- stages

(bpevents --filter boot.stage --count 1 --timeout 20 --ready-fd 3 >"$tmp/event2" 3>"$tmp/event2.ready") &
watching=$!
eventually 10 test -s "$tmp/event2.ready"
post() { code -d "$2" "$url/stage?$1"; }
ok 'a machine says how far it is' is 204 post 'mac=52:54:00:00:00:00&stage=kexec&ms=1234&result=error' 'no memory'
ok 'an event tells' wait $watching
ok 'all of it' grep -q '"node":0,"mac":"52:54:00:00:00:00","stage":"kexec","ms":1234,"error":true,"text":"no memory"' "$tmp/event2"
ok 'a stage that there is not' is 400 post 'mac=52:54:00:00:00:00&stage=dance' x
ok 'no machine' is 400 post 'stage=net' x
head -c 5000 /dev/zero | tr '\0' x >"$tmp/long"
ok 'too many words' is 413 post 'mac=52:54:00:00:00:00&stage=net' "@$tmp/long"

# --- a configuration that boots nothing

sed -i '/^bootfile/d' "$tmp/config"
ok 'without a bootfile line' clustermatic reload
ok 'nothing is listened on' eventually 10 not get -m 2 "$url/status"
ok 'bootsrv says so' is '[]' tests/ask.py -e 'v["listening"]' bootsrv.status
done_testing
