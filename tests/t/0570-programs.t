#!/bin/bash
# shellcheck disable=SC2317 # functions are called by ok and eventually
# 0570-programs: all kinds of programs run on a node as they do here: large and
# static, with many libraries, scripts, at fixed addresses or not, of 32 bits;
# one that is deleted meanwhile; a set-user-id one gains nobody any rights
. tests/lib.sh

need bin/bpsh
cluster_up 2
mkdir "$tmp/bin" "$tmp/lib"
cd "$tmp/bin" || exit

# as_here STATUS TEXT PROGRAM...: the same end and output here and on both nodes.
as_here() {
    local status=$1 text=$2 rc got
    shift 2
    got=$("$@")
    rc=$?
    [ "$rc $got" = "$status $text" ] || { echo "here: status $rc: $got"; return 1; }
    got=$(bpsh -s 0,1 "$@")
    rc=$?
    [ "$rc $got" = "$status $text"$'\n'"$text" ] || { echo "there: status $rc: $got"; return 1; }
}
compile() { gcc -O1 -x c "$@" -x none; }
whoami='#include <stdio.h>
#include <unistd.h>
int main(void) { printf("%d %d %d %d\n", getuid(), geteuid(), getgid(), getegid()); return 7; }'

# --- where they lie in memory, how large they are, what they need

echo "$whoami" | compile -fPIE -pie -o pie - && echo "$whoami" | compile -fno-pie -no-pie -o nopie -
ok 'a position-independent program' as_here 7 '0 0 0 0' ./pie
ok 'one at a fixed address' as_here 7 '0 0 0 0' ./nopie
ok 'they are what they are to be' bash -c \
    "readelf -h pie | grep -q 'Type:.*DYN' && readelf -h nopie | grep -q 'Type:.*EXEC'"
{
    echo '#include <stdio.h>'
    echo 'const unsigned char filler[8 << 20] = { [0 ... (8 << 20) - 1] = 90 };'
    echo 'int main(void) { unsigned long s = 0; for (unsigned i = 0; i < sizeof filler; i++)'
    # shellcheck disable=SC2028 # for C
    echo 's += filler[i]; printf("%lu\n", s); return 3; }'
} | compile -static -o large -
ok 'a static one of 8 MB' as_here 3 $((90 << 23)) ./large
ok 'of that size' test "$(stat -c %s large)" -gt 8000000

calls='' links=()
for i in {1..20}; do
    echo "int f$i(void); int f$i(void) { return $i; }" |
        compile -shared -fPIC -o "$tmp/lib/libtwenty$i.so" -
    calls+=" + f$i()"
    links+=("-ltwenty$i")
done
{
    seq -f 'int f%.0f(void);' 20
    printf '#include <stdio.h>\nint main(void) { return printf("%%d\\n", 0%s) & 7; }\n' "$calls"
} | compile -o twenty - -L"$tmp/lib" "${links[@]}" -Wl,-rpath,"$tmp/lib"
ok 'one with 20 libraries that no node has' as_here 4 210 ./twenty
cat >>"$tmp/twenty1.c" <<<'int f1(void); int f1(void) { return 11; }'
compile -shared -fPIC -o "$tmp/lib/libtwenty1.so" "$tmp/twenty1.c"
ok 'and again, when one of them has changed' as_here 4 220 ./twenty

printf '#!/bin/sh\necho "$0 $*"; exit 5\n' >script
printf '#!%s/bin/interp -x\nignored\n' "$tmp" >script2
echo '#include <stdio.h>
int main(int c, char **v) { for (int i = 0; i < c; i++) printf("%s ", v[i]); puts(""); return c; }' |
    compile -o interp -
chmod 755 script script2
ok 'a script' as_here 5 "$tmp/bin/script a b" "$tmp/bin/script" a b
ok 'a script of a program of its own' \
    as_here 4 "$tmp/bin/interp -x $tmp/bin/script2 a " "$tmp/bin/script2" a
printf '#!/nowhere/interp\n' >script3
chmod 755 script3
ok 'whose interpreter is nowhere: told' fails_with '/nowhere/interp' bpsh 0 ./script3
printf 'neither this nor that\n' >neither
chmod 755 neither
ok 'a file that is no program: told' fails_with 'neither a program nor a script with #!' \
    bpsh 0 ./neither

# --- 32 bits

thirty_two='void _start(void) { __asm__ volatile("mov $1, %eax; mov $7, %ebx; int $0x80"); }'
if echo "$thirty_two" | compile -m32 -nostdlib -static -fno-pie -no-pie -o i386 - 2>"$tmp/why"; then
    ok 'a program of 32 bits: refused, and why' \
        fails_with "^0: $tmp/bin/i386: not a 64-bit program" bpsh 0 ./i386
    ok 'with the status of what cannot be executed' exits 127 bpsh 0 ./i386
else
    skip 'a program of 32 bits' 'the compiler makes none'
fi

# --- deleted while it runs

cat >waits.c <<'END'
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(void)
{
    char c;
    puts("ready");
    fflush(stdout);
    while (read(0, &c, 1) > 0)
        continue;
    char name[4096];
    ssize_t n = readlink("/proc/self/exe", name, sizeof name - 1);
    name[n > 0 ? n : 0] = 0;
    return strstr(name, " (deleted)") ? 9 : 8;
}
END
gcc -o waits waits.c
mkfifo "$tmp/in"
exec 7<>"$tmp/in"
bpsh 0 "$tmp/bin/waits" <"$tmp/in" >"$tmp/out" 7>&- & job=$!
on_exit+=("kill -9 $job 2>/dev/null")
ready() { grep -q ready "$tmp/out"; }
ok 'a program runs' eventually 10 ready
rm waits
bpsh 0 rm -f "$tmp/bin/waits"
ok 'its file is gone, there and here' not bpsh 0 test -e "$tmp/bin/waits"
ok 'it runs on' kill -0 $job
exec 7>&-
wait $job
ok 'to its end' test $? = 9
ok 'another cannot be started' fails_with 'command not found' bpsh 0 "$tmp/bin/waits"
gcc -o waits waits.c
ok 'until it is there again, on the node too' exits 8 bpsh -n 0 "$tmp/bin/waits"

# --- set-user-id programs

cp pie setuid
chown 0:0 setuid
chmod 6755 setuid
chmod 755 "$tmp" "$tmp/bin"
ok 'a set-user-id program is one here' is '12345 0 12345 0' bash -c \
    'setpriv --reuid 12345 --regid 12345 --clear-groups ./setuid; true'
ok 'on a node it gains nothing' is '12345 12345 12345 12345' bash -c \
    'setpriv --reuid 12345 --regid 12345 --clear-groups bpsh 0 ./setuid; true'
ok 'even where root has run it' is '0 0 0 0' bash -c 'bpsh 0 ./setuid; true'
ok 'before' is '12345 12345 12345 12345' bash -c \
    'setpriv --reuid 12345 --regid 12345 --clear-groups bpsh 0 ./setuid; true'
ok 'nor started by a shell on the node' is '12345 12345 12345 12345' bash -c \
    'setpriv --reuid 12345 --regid 12345 --clear-groups bpsh 0 sh -c ./setuid; true'
cd / || exit
done_testing
