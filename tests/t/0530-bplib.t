#!/bin/bash
# 0530-bplib: the library list: what fills it, who changes it, what of it is on
# nodes beforehand, and libraries of the same name but other content
. tests/lib.sh

need bin/bplib bin/bpsh bin/bpctl bin/bpstat bin/bpevents libexec/clustermatic/bpvnode \
    libexec/clustermatic/nodemgr libexec/clustermatic/procspace
CC=$(command -v gcc || command -v clang || command -v cc) || plan_skip 'there is no compiler'

# --- a library that nobody else needs, with a soname, and a program of it

lib=$tmp/lib
mkdir -p "$lib/more/deep" "$tmp/bin"
make_lib() { # FILE SONAME ANSWER
    printf 'const char *q(void);\nconst char *q(void) { return "%s"; }\n' "$3" >"$tmp/q.c"
    "$CC" -shared -fPIC -o "$1.new" -Wl,-soname,"$2" "$tmp/q.c" && mv "$1.new" "$1"
}
make_lib "$lib/libq.so.1.0" libq.so.1 first
ln -s libq.so.1.0 "$lib/libq.so.1"
ln -s libq.so.1 "$lib/libq.so"
printf '#include <stdio.h>\nconst char *q(void);\nint main(void) { puts(q()); return 0; }\n' >"$tmp/p.c"
"$CC" -o "$tmp/bin/askq" "$tmp/p.c" -L"$lib" -lq -Wl,-rpath,"$lib"
make_lib "$lib/more/deep/libdeep.so" libdeep.so deep
make_lib "$lib/libonly.so" libonly.so only
echo text >"$lib/more/notes.txt"
printf '#!/bin/sh\necho a script\n' >"$tmp/bin/script"
chmod 755 "$tmp/bin/script"
config() { # LINE...: with these lines for libraries
    printf 'interface cm0\nbprocport 2223\niprange 0 198.18.1.0 198.18.1.1\npingtimeout 10\n'
    printf '%s\n' "$@"
}
config "libraries $lib/lib[qo]*.so* $lib/nothing*.so $lib/more" >"$tmp/config"
cluster_up 2 --config "$tmp/config"

# --- the list

sorted() { bplib -l | sort; }
want=$(printf '%s\n' "$lib/libonly.so" "$lib/libq.so.1.0" "$lib/more/deep/libdeep.so" | sort)
ok 'libraries: patterns and folders, regular files, no links, nothing else' is "$want" sorted
ok 'anybody may list' is "$want" as 65534 bash -c 'bplib -l | sort'
ok 'nobody but root may add' fails_with 'only root' as 65534 bplib -a /lib/x.so
ok 'nor clear' fails_with 'only root' as 65534 bplib -c
ok 'add' bplib -a "$tmp/bin/askq"
ok 'the newest comes first' has "^$tmp/bin/askq" bash -c 'bplib -l | head -n 1'
ok 'add again: nothing happens' bplib -a "$lib/libq.so.1.0"
ok 'it is where it was' is "$tmp/bin/askq" bash -c 'bplib -l | head -n 1'
ok 'several, from standard input' bash -c "printf '%s\n' /lib/a.so /lib/b.so | bplib -a - 2>'$tmp/warned'"
ok 'those that are not there are told' is 2 grep -c 'warning: /lib/[ab].so: No such file' "$tmp/warned"
ok 'in the order given' is '/lib/b.so /lib/a.so' bash -c 'bplib -l | head -n 2 | paste -sd" "'
ok 'delete' bplib -d /lib/a.so /lib/b.so
ok 'a name that is not there' fails_with '/lib/a.so: No such file or directory' bplib -d /lib/a.so
ok 'then nothing is deleted' fails_with '/lib/a.so' bplib -d "$tmp/bin/askq" /lib/a.so
ok 'it is still there' has "^$tmp/bin/askq$" bplib -l
ok 'as JSON too' is 4 bash -c "bplib -l --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))'"
ok 'a relative name is made absolute' bash -c "cd '$lib/more' && bplib -a ./deep/../deep/libdeep.so"
ok 'and is the same' is 4 bash -c 'bplib -l | wc -l'
ok '-c with names is refused' fails_with '^bplib: No library names allowed with -c$' bplib -c x
ok 'with status 1' exits 1 bplib -c x
ok 'two things at once: 2' exits 2 bplib -l -c
ok 'nothing to add: 2' exits 2 bplib -a
ok 'no option: the usage, and 0' has '^Usage: bplib' bplib
ok 'the version' has '^bplib version' bplib -v

# --- on nodes

on_node() { bpsh "$1" test -e "$2" </dev/null; }
missing() { ! on_node "$@"; }
ok 'a library is on node 0 before anybody needs it' eventually 20 on_node 0 "$lib/libq.so.1.0"
ok 'and on node 1, under its soname' eventually 20 on_node 1 "$lib/libq.so.1"
ok 'from a folder below, too' eventually 20 on_node 1 "$lib/more/deep/libdeep.so"
ok 'what was added later is there' eventually 20 on_node 0 "$tmp/bin/askq"
ok 'and nothing else of there' missing 0 "$lib/more/notes.txt"
ok 'owner and mode are the master'"'"'s' is "$(stat -c '%a %u %g' "$lib/libq.so.1.0")" \
    bpsh 0 stat -c '%a %u %g' "$lib/libq.so.1.0"
ok 'the program runs' is first bpsh 0 "$tmp/bin/askq"
make_lib "$lib/libz9.so" libz9.so z
ok 'one more' bplib -a "$lib/libz9.so"
ok 'is brought at once' eventually 20 on_node 1 "$lib/libz9.so"
space() { bpstat --json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["space"])'; }
was=$(space 1)
bpctl -S 1 -R
fresh() { [ "$(bpstat -s 1)" = up ] && [ "$(space 1)" != "$was" ]; }
ok 'a node restarted' eventually 20 fresh
ok 'has it all again' eventually 20 on_node 1 "$lib/libz9.so"
mkfifo "$tmp/ready"
exec 9<>"$tmp/ready"
bpevents -f launch.libs --ready-fd 9 -t 60 >"$tmp/rounds" 2>&1 & rounds=$!
on_exit+=("kill $rounds 2>/dev/null")
read -r -t 10 <&9
ok 'a program with nothing on the list runs too' is z bash -c \
    "'$CC' -o '$tmp/bin/askz' '$tmp/p.c' -L'$lib' -lz9 -Wl,-rpath,'$lib' && bplib -d '$lib/libz9.so' && bpsh 0 '$tmp/bin/askz'"

# The list without it reaches the nodes a moment later: what is done to files
# there before would be mended by that, not by a launch.
ok 'the shorter list reaches the nodes' eventually 30 grep -q '"files":4,"nodes":"0-1"' "$tmp/rounds"

# --- other content under the same name

bpevents -f launch.replaced --ready-fd 9 -t 60 >"$tmp/events" 2>&1 & events=$!
on_exit+=("kill $events 2>/dev/null")
read -r -t 10 <&9
bpsh 0 cp "$lib/libq.so.1" /tmp/same </dev/null && bpsh 0 mv /tmp/same "$lib/libq.so.1" </dev/null
runs() { bpsh "$1" "$tmp/bin/askq" 2>"$tmp/stderr" </dev/null; }
ok 'the same content, copied there by somebody' is first runs 0
ok 'is nothing to talk about' not test -s "$tmp/stderr"
bpsh 0 rm "$lib/libq.so.1" </dev/null && bpsh 0 sh -c "echo no library >'$lib/libq.so.1'" </dev/null
ok 'other content: the program gets the master'"'"'s' is first runs 0
ok 'and bpsh says so' grep -q "^0: warning: another $lib/libq.so.1 was on the node" "$tmp/stderr"
ok 'an event tells it' eventually 20 grep -q "\"node\":0,\"path\":\"$lib/libq.so.1\",\"ours\":false" "$tmp/events"
ok 'and the log of the node' has "libq.so.1: another one was here" clustermatic logs node 0
ok 'next time it is said no more' is first runs 0
ok '(nothing)' not test -s "$tmp/stderr"
bpsh 0 sh -c "echo spoilt >'$lib/libq.so.1'" </dev/null
ok 'changed in place: the master'"'"'s again' is first runs 0
ok 'and it is said' grep -q "^0: warning: another $lib/libq.so.1 was on the node" "$tmp/stderr"
make_lib "$lib/libq.so.1.0" libq.so.1 second
ok 'another version on the master: the program gets it' is second runs 0
ok 'bpsh says nothing: the older one was ours' not test -s "$tmp/stderr"
ok 'an event does' eventually 20 grep -q "\"node\":0,\"path\":\"$lib/libq.so.1\",\"ours\":true" "$tmp/events"

# --- reload, restarts

config "libraries $lib/libz9.so" "librariesfrombinary $tmp/bin/askq $tmp/bin/script /etc/passwd /no/such" \
    >"$tmp/config"
ok 'reload' clustermatic reload
resolved() { bplib -l | grep -qx "$lib/libq.so.1" && bplib -l | grep -qx "$lib/libz9.so"; }
ok 'librariesfrombinary: what the loader finds' eventually 20 resolved
ok 'its libc too' has '/libc.so.6$' bplib -l
ok 'what the configuration names no more has gone' not grep -q libonly <(bplib -l)
ok 'what was added by hand stays' has "^$tmp/bin/askq$" bplib -l
ok 'also what was, when it was there before' has "/libdeep.so$" bplib -l
before=$(bplib -l)
kill -9 "$(pid_of nodemgr)"
ok 'nodemgr killed: the list is the same' is "$before" bplib -l
ok 'clear' bplib -c
ok 'empty' is '' bplib -l
ok 'programs run all the same' is second runs 1
ok 'a configuration reloaded fills it again' clustermatic reload
ok '(filled)' eventually 20 resolved
ok 'by hand once more' bplib -a "$tmp/bin/askq"
clustermatic down --name "$cluster"
ok 'the cluster anew' clustermatic up --name "$cluster" --virtual 2 --config "$tmp/config" \
    --node-size 64M
ok 'has the configuration'"'"'s list' resolved
ok 'and nothing by hand' not grep -q askq <(bplib -l)
truncate -s 60M "$lib/libbig.so"
ok 'a file that would fill the nodes' bplib -a "$lib/libbig.so"
said() { grep -q "node $1: $lib/libbig.so (61440 kB) is not brought beforehand" "$logs/procspace/current"; }
ok 'is not brought, and the log says so' eventually 20 said 0
ok 'of each node' eventually 20 said 1
ok 'programs run' is second bpsh 1 "$tmp/bin/askq"
done_testing
