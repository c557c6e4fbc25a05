#!/bin/bash
# 0720-dhcp: dnsmasq under bootsrv: addresses for nodes and strangers, what each
# kind of client is told to boot, TFTP, proxy-DHCP; only where it should be
. tests/lib.sh
. tests/bootlib.sh

need bin/clustermatic libexec/clustermatic/bootsrv
need_root
command -v dnsmasq >/dev/null || plan_skip 'dnsmasq is not installed'
command -v udhcpc >/dev/null || plan_skip 'udhcpc is not installed'
[ -e /usr/lib/ipxe/undionly.kpxe ] || plan_skip 'ipxe is not installed'
boot_net || plan_skip 'no network namespaces'
# a second network of the master's, which the configuration does not name
ip link add m1 netns "$ns_m" type veth peer name c1 netns "$ns_c"
ip -n "$ns_m" addr add 198.18.41.1/24 dev m1
ip -n "$ns_m" link set m1 up
ip -n "$ns_c" link set c1 up

tests/mkimage.py "$tmp/boot.img" 0.1 >/dev/null
cat >"$tmp/config" <<END
interface m0
iprange 0 198.18.40.10 198.18.40.19
bootfile $tmp/boot.img
pingtimeout 5
node 0 52:54:00:00:00:00
node 7 52:54:00:00:00:07
END
boot_up
client ip addr flush dev c0

cat >"$tmp/lease" <<'END'
#!/bin/sh
[ "$1" != bound ] || echo "$ip $hostname $siaddr ${boot_file:-none} ${router:-none} ${opt224:-none}" >"$LEASE"
END
chmod +x "$tmp/lease"
# dhcp MAC [OPTION...]: what a client with this card is given
dhcp() {
    local mac=$1 if=${IF:-c0}
    shift
    client ip link set "$if" address "$mac"
    rm -f "$tmp/got"
    LEASE=$tmp/got client udhcpc -i "$if" -f -q -n -t "${TRIES:-20}" -T 1 -s "$tmp/lease" "$@" >/dev/null 2>&1
    cat "$tmp/got" 2>/dev/null || true
}
no_answer() { [ -z "$(TRIES=2 dhcp "$@")" ]; }
dnsmasq_pid() { tests/ask.py -e 'v["dnsmasq"]' bootsrv.status; }
runs() { [ "$(dnsmasq_pid)" -gt 0 ]; }
ok 'dnsmasq runs' eventually 10 runs

# --- who gets what

ok 'firmware of a known machine: its address, its name, iPXE by TFTP' \
    is '198.18.40.10 n0 198.18.40.1 undionly.kpxe none none' dhcp 52:54:00:00:00:00
ok 'another one' is '198.18.40.17 n7 198.18.40.1 undionly.kpxe none none' dhcp 52:54:00:00:00:07
ok 'UEFI firmware' is '198.18.40.10 n0 198.18.40.1 ipxe.efi none none' \
    dhcp 52:54:00:00:00:00 -x 0x5d:0007
ok 'iPXE: on by HTTP' is '198.18.40.10 n0 198.18.40.1 http://198.18.40.1:4711/boot.ipxe none none' \
    dhcp 52:54:00:00:00:00 -x 0xaf:b10101
hex() { printf '%s' "$1" | od -An -tx1 | tr -d ' \n'; }
ok 'Linux of ours: where the boot server is' \
    is "198.18.40.10 n0 198.18.40.1 none none $(hex 198.18.40.1:4711)" \
    dhcp 52:54:00:00:00:00 -V clustermatic -O 224
(bpevents --filter boot.unknown --count 1 --timeout 30 --ready-fd 3 >"$tmp/event" 3>"$tmp/event.ready") &
watching=$!
eventually 10 test -s "$tmp/event.ready"
ok 'a stranger: an address that is no node'"'"'s' \
    has '^198\.18\.40\.(19[0-9]|2[0-5][0-9])  198.18.40.1 undionly.kpxe' dhcp 52:54:00:00:00:99
ok 'and is announced' wait $watching
ok 'with its interface' grep -q '"mac":"52:54:00:00:00:99","addr":"198.18.40.[0-9]*","interface":"m0"' "$tmp/event"
before=$(dnsmasq_pid)
echo 'node 1 52:54:00:00:00:99' >>"$tmp/config"
ok 'its MAC comes into the configuration' clustermatic reload
named() { [ "$(dhcp 52:54:00:00:00:99)" = '198.18.40.11 n1 198.18.40.1 undionly.kpxe none none' ]; }
ok 'and it gets the node'"'"'s address' eventually 20 named
ok 'from the same dnsmasq: nothing was disturbed' is "$before" dnsmasq_pid
other_side() { IF=c1 no_answer 52:54:00:00:01:00; }
ok 'on another interface nobody answers' other_side

# --- TFTP

client ip addr add 198.18.40.10/24 dev c0
tftp() { client curl -s -m 20 "tftp://198.18.40.1/$1"; }
same_file() { tftp undionly.kpxe | cmp - /usr/lib/ipxe/undionly.kpxe; }
ok 'iPXE comes by TFTP' same_file
ok 'nothing from elsewhere' not tftp ../../../etc/passwd
ok 'by no way' not tftp /etc/passwd
client ip addr flush dev c0

# --- deaths

old=$(dnsmasq_pid)
kill -9 "$old"
new() { runs && [ "$(dnsmasq_pid)" != "$old" ]; }
ok 'dnsmasq killed: it is there again' eventually 10 new
ok 'which is said' grep -q 'dnsmasq has ended (signal 9)' "$logs/bootsrv/current"
ok 'and answers' has '^198.18.40.10 n0' dhcp 52:54:00:00:00:00
old=$(dnsmasq_pid)
kill -9 "$(pid_of bootsrv)"
gone() { ! kill -0 "$old" 2>/dev/null; }
ok 'bootsrv killed: its dnsmasq is ended' eventually 10 gone
ok 'and both are there again' eventually 20 new
ok 'and answer' has '^198.18.40.10 n0' dhcp 52:54:00:00:00:00

# --- beside another DHCP server

sed -i 's/^pingtimeout/dhcp proxy\npingtimeout/' "$tmp/config"
ok 'dhcp proxy' clustermatic reload
proxies() { grep -q ',proxy' "$run/dnsmasq.conf" && runs; }
ok 'runs' eventually 10 proxies
ok 'it gives no addresses' no_answer 52:54:00:00:00:00
client ip addr add 198.18.40.10/24 dev c0
offers() { client /usr/bin/python3 tests/dhcpask.py c0 52:54:00:00:00:00 "$@" | grep -q "$pattern"; }
pattern='^address 0.0.0.0 .*class PXEClient menu yes'
ok 'but tells firmware where to boot from' eventually 20 offers
sed -i 's/^dhcp proxy/dhcp off/' "$tmp/config"
ok 'dhcp off' clustermatic reload
none() { [ "$(dnsmasq_pid)" = 0 ]; }
ok 'ends it' eventually 10 none
sed -i 's/^dhcp off/dhcp pool 198.18.40.60 198.18.40.60/' "$tmp/config"
ok 'a pool of the site' clustermatic reload
ok 'runs' eventually 10 runs
client ip addr flush dev c0
ok 'is what strangers get' has '^198.18.40.60 ' dhcp 52:54:00:00:00:55
sed -i 's/^dhcp pool.*/dhcp pol 198.18.40.60/' "$tmp/config"
ok 'a word that there is not' fails_with 'dhcp: unknown word "pol"; did you mean pool' clustermatic reload
sed -i 's/^dhcp pol.*/dhcp pool 198.18.40.60 198.18.40.50/' "$tmp/config"
ok 'a pool that ends before it begins' fails_with 'want two IPv4 addresses, the lower first' clustermatic reload
ok 'and all is as it was' has '^198.18.40.60 ' dhcp 52:54:00:00:00:55
done_testing
