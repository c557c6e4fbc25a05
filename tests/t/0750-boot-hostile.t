#!/bin/bash
# 0750-boot-hostile: what strangers on the nodes' network may send to the boot
# server: refused, and nobody else is disturbed
. tests/lib.sh
. tests/bootlib.sh

need bin/clustermatic libexec/clustermatic/bootsrv libexec/clustermatic/bpfetch
need_root
command -v curl >/dev/null || plan_skip 'curl is not installed'
command -v dnsmasq >/dev/null || plan_skip 'dnsmasq is not installed'
[ -e /usr/lib/ipxe/undionly.kpxe ] || plan_skip 'ipxe is not installed'
boot_net || plan_skip 'no network namespaces'
hash=$(tests/mkimage.py "$tmp/boot.img" 4)
cat >"$tmp/config" <<END
interface m0
iprange 0 198.18.40.10 198.18.40.19
bootfile $tmp/boot.img
pingtimeout 5
node 0 52:54:00:00:00:00
END
boot_up
url=http://198.18.40.1:4711
ok 'the service answers' eventually 10 get "$url/status"
runs() { [ "$(tests/ask.py -e 'v["dnsmasq"]' bootsrv.status)" -gt 0 ]; }
ok 'dnsmasq runs' eventually 10 runs
bootsrv=$(pid_of bootsrv)
dnsmasq=$(tests/ask.py -e 'v["dnsmasq"]' bootsrv.status)
fetch() { client "$libexec/bpfetch" --server 198.18.40.1:4711 --mac 52:54:00:00:00:00 "$@"; }

fetch --slow 400 >"$tmp/slow" 2>&1 &
slow=$!
ok 'broken, oversized and odd requests are refused' client /usr/bin/python3 tests/boothostile.py 198.18.40.1 $RANDOM
ok 'whoever fetches meanwhile gets the image' wait $slow
ok 'whole' has "^image $hash" cat "$tmp/slow"
ok 'the service is the same' is "$bootsrv" pid_of bootsrv
ok 'and dnsmasq' is "$dnsmasq" tests/ask.py -e 'v["dnsmasq"]' bootsrv.status
firmware() { client /usr/bin/python3 tests/dhcpask.py c0 52:54:00:00:00:00; }
ok 'which answers' has '^address 198.18.40.10 next 198.18.40.1 file undionly.kpxe' firmware

# --- many who say nothing

cat >"$tmp/idle.py" <<'END'
import socket, sys, time
s = []
for i in range(400):
    c = socket.create_connection(("198.18.40.1", 4711))
    c.sendall([b"", b"GET /st", b"GET /next?mac=52:54:00:00:aa:%02x&wait=30 HTTP/1.1\r\nHost: x\r\n\r\n" % (i % 256)][i % 3])
    s.append(c)
print("connected", flush=True)
sys.stdin.read()
END
mkfifo "$tmp/hold"
client /usr/bin/python3 "$tmp/idle.py" <"$tmp/hold" >"$tmp/idle" 2>&1 &
idle=$!
exec 7>"$tmp/hold"
connected() { grep -q connected "$tmp/idle"; }
ok '400 connections that say nothing, or wait' eventually 20 connected
ok 'the image is served all the same' has "^image $hash" fetch
exec 7>&-
wait $idle

# --- many strangers

client bash -c 'for i in {0..1199}; do printf "url = http://198.18.40.1:4711/ipxe/02:00:00:00:%02x:%02x\noutput = /dev/null\n" $((i / 256)) $((i % 256)); done | curl -s -K -'
ok 'of 1200 strangers 1000 are remembered' is 1000 tests/ask.py -e 'len(v)' bootsrv.unknown
ok 'the newest among them' is True tests/ask.py -e '"02:00:00:00:04:af" in [m["mac"] for m in v]' bootsrv.unknown
ok 'a node is served all the same' has "^image $hash" fetch
ok 'by the same service' is "$bootsrv" pid_of bootsrv
ok 'which takes no more memory than it should' \
    test "$(awk '/VmRSS/ { print $2 }' "/proc/$bootsrv/status")" -lt "$([ -n "${CM_SAN:-}" ] && echo 600000 || echo 80000)"
done_testing
