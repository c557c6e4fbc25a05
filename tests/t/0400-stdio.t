#!/bin/bash
# 0400-stdio: stdin, stdout and stderr of bpsh, byte for byte, to the end of file
#
# Nodes have only what the master sent them: a program that a shell there is to
# run has to have been there before.
# shellcheck disable=SC2016,SC2034 # $ is for the nodes' shells; functions run by name
. tests/lib.sh

need bin/bpsh bin/bpps libexec/clustermatic/{bpvnode,procspace,iofwd}
command -v python3 >/dev/null || plan_skip 'python3 is not installed'
cluster_up 4
for program in cat head seq tail; do
    bpsh -n -N -a "$program" --version
done
san=${CM_SAN:+yes}
megs=${san:+4}
megs=${megs:-24}
T() { timeout -k 5 "${limit:-60}" "$@"; } # nothing here may hang

# same FILE CMD...: CMD succeeds and prints exactly this file.
same() {
    local want=$1 rc
    shift
    "$@" >"$tmp/same.out"
    rc=$?
    cmp "$want" "$tmp/same.out" && [ $rc = 0 ]
}
from() { # from FILE CMD...: with this stdin
    local file=$1
    shift
    "$@" <"$file"
}
sorted() { "$@" | LC_ALL=C sort; }
joined() { "$@" | paste -sd '|'; }

python3 - "$tmp" "$megs" <<'END_PY'
import os, sys
d = sys.argv[1] + "/"
open(d + "bytes", "wb").write(bytes(range(256)) * 3 + b"\0\0\r\n\xff\x04")
open(d + "random", "wb").write(os.urandom(int(sys.argv[2]) << 20) + b"x")
open(d + "line", "wb").write(b"abcdefghi-" * 1000 + b"\n")
END_PY

# --- who gets stdin

: "${tmp:?}"
echo hello >"$tmp/hello"
ok 'stdin goes to all' is "$(printf '%3d: hello\n' 0 1 2 3)" \
    sorted from "$tmp/hello" T bpsh 0-3 -p cat
ok 'to one rank' is '  1: hello' from "$tmp/hello" T bpsh 3,1,2 --stdin-rank 1 -p cat
ok 'to none' is '' from "$tmp/hello" T bpsh 0-1 --stdin-rank none -p cat
ok 'to none with -n' is '' from "$tmp/hello" T bpsh 0-1 -n -p cat
ok 'to each of two processes on one node' is "$(printf '  2: hello\n  2: hello')" \
    from "$tmp/hello" T bpsh 2,2 -p cat
ok 'stdin from a file on the node' bash -c 'bpsh 1 sh -c "echo there >/tmp/in"'
ok 'is read there' is there from "$tmp/hello" T bpsh 1 -I /tmp/in cat
ok 'a rank that is not there is refused' fails_with 'stdin-rank' T bpsh 0 --stdin-rank 1 cat

# --- its end

count_of() { T bpsh 0-1 -p sh -c 'cat; echo end'; }
ends='  0: end|  1: end'
closed() { sorted count_of <&-; }
empty() { sorted count_of </dev/null; }
none() { : | sorted count_of; }
slowly() { # the last byte comes when everything before has been seen
    mkfifo "$tmp/slow"
    sorted T bpsh 0 sh -c 'read -r x; echo "$x"; read -r y; echo "$y"; cat; echo end' \
        <"$tmp/slow" >"$tmp/slowly.out" &
    exec 8>"$tmp/slow"
    printf 'a' >&8
    eventually 10 has ' sh -c ' bpps 0 || return
    printf ' one\nb two' >&8
    printf '\n' >&8
    exec 8>&-
    wait $! && is 'a one|b two|end' joined cat "$tmp/slowly.out"
}
cat >"$tmp/terminal.py" <<'END_PY'
# Run a command at a terminal: send each argument before --, print what comes.
import os, pty, sys
at = sys.argv.index("--")
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[at + 1], sys.argv[at + 1:])
os.set_blocking(fd, True)
seen = b""
for text in sys.argv[1:at]:
    wait, say = text.encode().decode("unicode_escape").encode("latin1").split(b"=", 1)
    while wait not in seen:
        seen += os.read(fd, 4096)
    os.write(fd, say)
try:
    while True:
        got = os.read(fd, 4096)
        if not got:
            break
        seen += got
except OSError:
    pass
sys.stdout.write(seen.decode().replace("\r", "").replace("\x04", "").replace("^D\b\b", ""))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END_PY
ok 'stdin that is closed is empty' is "$ends" joined closed
ok 'so is /dev/null' is "$ends" joined empty
ok 'and an empty pipe' is "$ends" joined none
ok 'a slow writer is heard to the end' slowly
ok 'at a terminal the end is Ctrl-D' is 'one|one|two|two|end' joined T python3 "$tmp/terminal.py" \
    '=one\n' 'one\r\none\r\n=two\n' 'two\r\ntwo\r\n=\x04' -- bpsh 0 sh -c 'cat; echo end'
ok 'stdout and stderr closed: it still runs' is ran bash -c \
    'bpsh 1 sh -c "echo x; echo y >&2; echo ran >/tmp/ran" >&- 2>&-; bpsh 1 cat /tmp/ran'

# --- what arrives

both() { T bpsh 0 sh -c 'i=0; while [ $i -lt 9000 ]; do i=$((i + 1))
    echo "out $i"; echo "err $i" >&2; done'; }
seq -f 'out %g' 9000 >"$tmp/want.out"
seq -f 'err %g' 9000 >"$tmp/want.err"
both >"$tmp/got.out" 2>"$tmp/got.err"
ok 'stdout is complete and alone' cmp "$tmp/want.out" "$tmp/got.out"
ok 'stderr too' cmp "$tmp/want.err" "$tmp/got.err"
ok 'all bytes pass' same "$tmp/bytes" from "$tmp/bytes" T bpsh 0 cat
ok "$megs random megabytes pass, both ways" same "$tmp/random" from "$tmp/random" T bpsh 0 cat
ok 'from a pipe into a pipe' same "$tmp/random" \
    bash -c 'cat "$1" | timeout 60 bpsh 3 cat | cat' - "$tmp/random"
ok 'by stderr' same "$tmp/random" bash -c 'timeout 60 bpsh 1 sh -c "cat >&2" 2>&1 >/dev/null <"$1"' \
    - "$tmp/random"
ok 'to a file' bash -c 'timeout 60 bpsh 2 cat <"$1" >"$2" && cmp "$1" "$2"' \
    - "$tmp/random" "$tmp/copy"
ok 'appended to one' bash -c 'echo first >"$1"; bpsh 0 echo second >>"$1"; paste -sd "|" "$1"' \
    - "$tmp/append"
ok 'and nothing is lost there' is 'first|second' joined cat "$tmp/append"
ok 'to a file on the node' bash -c \
    'timeout 60 bpsh 2 -O /tmp/copy cat <"$1" && timeout 60 bpsh 2 cat /tmp/copy | cmp - "$1"' - "$tmp/random"
ok 'no output is none' same /dev/null T bpsh 0-3 true
ok 'nor with -p' same /dev/null T bpsh 0-3 -p true
printf 'no newline' >"$tmp/bare"
ok 'a last line without newline stays so' same "$tmp/bare" T bpsh 0 printf 'no newline'
ok 'with -L too' same "$tmp/bare" T bpsh 0 -L printf 'no newline'
printf '  0: no newline\n' >"$tmp/ended"
ok 'with -p it gets one' same "$tmp/ended" T bpsh 0 -p printf 'no newline'
ok 'stderr has prefixes as well' is '  1: oops' bash -c \
    'bpsh 1 -p sh -c "echo oops >&2" 2>&1 >/dev/null'

# --- long lines (10000 bytes and a newline)

{ printf '  0: '; head -c 4096 "$tmp/line"; printf '\n  0: '
  tail -c +4097 "$tmp/line" | head -c 4096; printf '\n  0: '; tail -c +8193 "$tmp/line"; } \
    >"$tmp/broken"
ok '-p breaks a line at 4096 bytes' same "$tmp/broken" from "$tmp/line" T bpsh 0 -p cat
{ printf '  0: '; cat "$tmp/line"; } >"$tmp/whole"
ok 'or where -b says' same "$tmp/whole" from "$tmp/line" T bpsh 0 -b 16384 -p cat
ok 'a line as long as the buffer is whole' same "$tmp/whole" from "$tmp/line" T bpsh 0 -b 10000 -p cat
ok '-L adds nothing to it' same "$tmp/line" from "$tmp/line" T bpsh 0 -L cat
ok 'nor to bytes without lines' same "$tmp/random" from "$tmp/random" T bpsh 0 -L cat

# --- ends in odd order

ok 'a program that closes its stdout runs on' exits 3 T bpsh 0 sh -c 'exec >&- 2>&-; read -r x; exit 3' \
    <"$tmp/hello"
mkfifo "$tmp/late"
late() {
    T bpsh 1 sh -c 'exec 3<&0; (read -r x <&3; echo "late $x") & echo now; exit 5' \
        <"$tmp/late" >"$tmp/late.out" &
    local pid=$!
    exec 8>"$tmp/late"
    eventually 10 grep -q now "$tmp/late.out" || return
    echo word >&8
    exec 8>&-
    exits 5 wait $pid && is 'now|late word' joined cat "$tmp/late.out"
}
ok 'what a child writes later is waited for' late
none_left() { ! bpps -a | grep -qE ' (yes|sleep|cat)( |$)'; }
ok 'a reader that has enough ends it' is 'y|141' joined bash -c 'bpsh 0 yes | head -n 1; echo ${PIPESTATUS[0]}'
ok 'the program gets SIGPIPE' eventually 10 none_left
one_line() { T bpsh 2 sh -c 'trap "" PIPE; while echo y; do :; done; echo failed >/tmp/failed' \
    2>/dev/null | head -n 1; }
ok 'or EPIPE, if it asks for that' is y one_line
failed_there() { [ "$(bpsh 2 cat /tmp/failed 2>/dev/null)" = failed ]; }
ok 'and can act on it' eventually 10 failed_there
ok 'stdin that nobody reads is no hindrance' bash -c 'head -c 10M /dev/zero | timeout 60 bpsh 0-3 true'
never() { # a stdin that never ends
    exec 8<>"$tmp/late"
    T bpsh 0-3 true <&8
    local rc=$?
    exec 8>&-
    return $rc
}
ok 'nor is one that does not end' never
ok 'a full disk is said' fails_with 'stdout: No space left' bash -c 'timeout 60 bpsh 0 echo x >/dev/full'
flags_kept() { # O_NONBLOCK belongs to the file, which others use as well
    python3 - <<'END_PY'
import fcntl, os, subprocess
r, w = os.pipe()
i, o = os.pipe()
os.write(o, b"hi")
os.close(o)
subprocess.run(["bpsh", "0", "cat"], stdin=i, stdout=w, stderr=w, check=True)
assert os.read(r, 9) == b"hi"
for fd in (w, i):
    assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
END_PY
}
ok "flags of inherited descriptors are left alone" flags_kept

# --- many at once

rows=12000
[ -z "$san" ] || rows=1500
nodes=$(printf '0,1,2,3,%.0s' {1..16})
limit=100 T bpsh "${nodes%,}" -p sh -c \
    'exec seq -f "$BPROC_RANK %06.0f abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-0123456789" '$rows \
    >"$tmp/many"
unmixed() {
    awk -v rows=$rows '
        NF != 4 || $2 % 4 "" ":" != $1 || $3 != ++row[$2] ||
            $4 != "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-0123456789" {
            print "line " NR ": " $0; exit bad = 1
        }
        END {
            for (rank in row) { ranks++; if (row[rank] != rows) { print rank ": " row[rank]; bad = 1 } }
            if (ranks != 64) { print ranks " ranks"; bad = 1 }
            exit bad
        }' "$1"
}
ok "64 ranks, $rows lines each, with -p: no line is mixed or lost" unmixed "$tmp/many"
rm "$tmp/many"

# --- order

mkfifo "$tmp/order"
in_order() { # OPTION: what the first node says comes first, though it is last to speak
    bpsh 3,1,0,2 "$1" --stdin-rank 0 \
        sh -c 'read -r x; printf "%s\n" "$BPROC_RANK"; echo 2nd' <"$tmp/order" >"$tmp/in_order" &
    local pid=$!
    exec 8>"$tmp/order"
    eventually 10 alone || return
    echo go >&8
    exec 8>&-
    wait $pid
}
alone() { [ "$(bpps -a | grep -c ' sh -c read')" = 1 ]; }
ok 'one node after another with -s' in_order -s
ok 'in the order of the list' is '0000000|2nd|0000001|2nd|0000002|2nd|0000003|2nd' joined cat "$tmp/in_order"
dashes=---------------------------------------------------------------------
divided() { local node; for node; do printf '%d\t%s\n' "$node" "$dashes"; done; }
{ divided 3; echo a; divided 1; echo a; } >"$tmp/dividers"
ok '-d puts a divider before each' same "$tmp/dividers" T bpsh 3,1 -d echo a
ok 'also where there is no output' same <(divided 0 2) T bpsh 0,2 -d true
bpctl -S 2 -m 0
{ divided 1; echo a; divided 2; divided 3; echo a; } >"$tmp/dividers"
with_failure() { as 12345 timeout 60 bpsh 1-3 -d echo a >"$tmp/d.out" 2>"$tmp/d.err"; }
ok 'a node that refuses makes it fail' not with_failure
ok 'and is told' grep -q '^2: ' "$tmp/d.err"
ok 'but has its divider' cmp "$tmp/dividers" "$tmp/d.out"
bpctl -S 2 -m 111
bpsh 0-1 -O /tmp/random cat <"$tmp/random"
{ divided 1; cat "$tmp/random"; divided 0; cat "$tmp/random"; } >"$tmp/twice"
ok 'megabytes wait for their turn' same "$tmp/twice" T bpsh 1,0 -d cat /tmp/random
{ printf '0-1,3:\nsame\n2:\nother\n'; } >"$tmp/folded"
ok '--fold prints equal output once' same "$tmp/folded" T bpsh 0-3 --fold \
    sh -c 'if [ "$BPROC_RANK" = 0000002 ]; then echo other; else echo same; fi'
done_testing
