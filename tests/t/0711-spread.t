#!/bin/bash
# 0711-spread: 64 clients fetch a 40 MB image at once: all have it whole, and few
# of its bytes leave the master; neighbours that die, stall or lie do no harm
. tests/lib.sh
. tests/bootlib.sh

need bin/clustermatic libexec/clustermatic/bootsrv libexec/clustermatic/bpfetch
need_root
boot_net || plan_skip 'no network namespaces'
size=40
hash=$(tests/mkimage.py "$tmp/boot.img" $size)
bytes=$(stat -c %s "$tmp/boot.img")
{
    printf 'interface m0\niprange 0 198.18.40.10 198.18.40.90\nbootfile %s\ndhcp off\npingtimeout 5\n' "$tmp/boot.img"
    for i in {0..80}; do printf 'node %d 52:54:00:00:00:%02x\n' "$i" "$i"; done
} >"$tmp/config"
boot_up
fetch() { # fetch N [OPTION...]
    local n=$1
    shift
    client "$libexec/bpfetch" --server 198.18.40.1:4711 --mac "$(printf '52:54:00:00:00:%02x' "$n")" "$@"
}
ok 'the image is there' eventually 20 fetch 80 --alone

before=$(received)
pids=()
for i in {0..63}; do
    fetch "$i" --limit 240 >"$tmp/out.$i" 2>"$tmp/err.$i" &
    pids+=($!)
done
failed_clients=0
for pid in "${pids[@]}"; do wait "$pid" || failed_clients=$((failed_clients + 1)); done
after=$(received)
ok '64 clients have fetched it' is 0 echo "$failed_clients"
ok 'each has the right hash' is 64 bash -c "cat '$tmp'/out.* | grep -c '^image $hash'"
ok 'most of them from neighbours' test "$(cat "$tmp"/out.* | awk '/^peers/ && $2 > 0 { n++ } END { print n }')" -ge 56
ok 'the master has sent four images at most' test $((after - before)) -le $((bytes * 4 + bytes / 10))
diag "the master sent $(((after - before) * 100 / bytes)) % of an image to 64 clients"
ok 'it says so too' tests/ask.py -e "1 / (v['images'][0]['sent'] <= 5 * $bytes)" bootsrv.status

# --- a neighbour that lies: its chunks are found out, and somebody else asked

# Two that fetch from the master itself: the third is sent to the first of them.
sent() { tests/ask.py -e "v['images'][0]['sent'] // $bytes" bootsrv.status; }
one_more() { [ "$(sent)" -gt "$count_before" ]; }
count_before=$(sent)
fetch 0 --slow 150 --damage >"$tmp/liar" 2>&1 &
liar=$!
ok '(one that lies)' eventually 20 one_more
count_before=$(sent)
fetch 1 --slow 150 >"$tmp/honest" 2>&1 &
honest=$!
ok '(one that does not)' eventually 20 one_more
fetch 2 >"$tmp/victim" 2>&1
rc=$?
ok 'beside a neighbour that sends damage the image is right' is 0 echo $rc
ok 'by its hash' has "^image $hash" cat "$tmp/victim"
fetch 3 >"$tmp/victim2" 2>&1
ok 'another one too' has "^image $hash" cat "$tmp/victim2"
wait $liar $honest
ok 'who was found out is named in the log' eventually 10 grep -q 'has sent a damaged chunk' "$logs/bootsrv/current"

# --- a neighbour that dies in mid-transfer

# links N: so many fetch now. Who fetches from a neighbour is seen from both ends.
links() {
    client ss -Htn state established | awk -v want="$1" '
        { n += $4 ~ /:4711$/ ? 2 : 1 } END { exit n < 2 * want }'
}

count_before=$(sent)
fetch 4 --slow 200 >"$tmp/a" 2>&1 &
a=$!
ok '(one begins)' eventually 20 one_more
count_before=$(sent)
fetch 5 --slow 200 >"$tmp/b" 2>&1 &
b=$!
ok '(another)' eventually 20 one_more
fetch 6 >"$tmp/c" 2>&1 &
c=$!
fetch 7 >"$tmp/d" 2>&1 &
d=$!
ok '(two more, from these)' eventually 20 links 4
# the client itself, below the shell that started it
for pid in $a $b; do
    read -r child _ <"/proc/$pid/task/$pid/children" && kill -9 "$child"
done
wait $a $b 2>/dev/null
ok 'both neighbours killed: the image comes all the same' wait $c
ok 'to the other too' wait $d
ok 'whole' has "^image $hash" cat "$tmp/c"

# --- the master dies: what is there goes on among neighbours, then it is back

for i in {10..17}; do
    fetch "$i" --slow 100 >"$tmp/m.$i" 2>&1 &
    last[i]=$!
done
ok '(eight fetch)' eventually 20 links 8
kill -9 "$(pid_of bootsrv)"
bad=0
for i in {10..17}; do wait "${last[i]}" || bad=$((bad + 1)); done
ok 'bootsrv killed meanwhile: all come to their end' is 0 echo $bad
ok 'with the right hash' is 8 bash -c "cat '$tmp'/m.* | grep -c '^image $hash'"
done_testing
