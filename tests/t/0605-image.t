#!/bin/bash
# 0605-image: a process saved to a file and gone on with; what an image refuses:
# damage, another kernel or processor, other libraries, threads
# shellcheck disable=SC2317 # functions are called by ok
. tests/lib.sh

need lib/libbproc.so libexec/clustermatic/bprestore
export LD_LIBRARY_PATH=$libdir
export CM_RUNDIR=/run/nosuchcluster
flags=(-Wall -Wextra -Werror -g -I"$CM_BUILD/include" -I.)

chmod 755 "$tmp"
cat >"$tmp/lib.c" <<'END'
int answer(void);
int answer(void) { return ANSWER; }
END
library() { gcc -shared -fPIC -DANSWER="$1" -o "$tmp/libanswer.so" "$tmp/lib.c"; }
library 42
ok 'the program compiles' gcc "${flags[@]}" -o "$tmp/dump" tests/libbproc/dump.c \
    -L"$libdir" -lbproc -lm
ok 'and one with threads' gcc "${flags[@]}" -o "$tmp/threads" tests/libbproc/threads.c \
    -L"$libdir" -lbproc -lpthread
export LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$tmp

image=$tmp/image
says() { # TEXT CMD...: its last words are TEXT
    local want=$1
    shift
    timeout 60 "$@" >"$tmp/says" 2>&1 </dev/null || { cat "$tmp/says"; return 1; }
    [ "$(cat "$tmp/says")" = "$want" ] || { cat "$tmp/says"; return 1; }
}
original='left in the buffer; the original' copy='left in the buffer; the copy'

for how in 0 2 4 6 7; do
    ok "dump with flags $how: the process goes on" says "$original" "$tmp/dump" save "$image" $how 1
    ok "undump: so does its image" says "$copy" "$tmp/dump" load "$image"
    ok "a second time too" says "$copy" "$tmp/dump" load "$image"
done
# Only the image of this last one (everything in it) does without the program's files.
mv "$tmp/dump" "$tmp/dump.away"
elsewhere() { "$tmp/dump.away" load "$image" >"$tmp/says" 2>&1; grep -q 'the copy' "$tmp/says"; }
ok 'with all in it the program itself need not be there' elsewhere
ok 'its exe link is then all that is missing' is 2 grep -c . "$tmp/says"
mv "$tmp/dump.away" "$tmp/dump"
ok 'and 100 MB' says "$original" "$tmp/dump" save "$image" 0 100
ok 'come back' says "$copy" "$tmp/dump" load "$image"
ok 'a program that does without a system call compiles' \
    gcc "${flags[@]}" -o "$tmp/refuse" tests/libbproc/refuse.c
userfaultfd=323
dies_by_it() { "$tmp/refuse" "$userfaultfd" 0 "$tmp/dump" load "$image"; [ $? = 159 ]; } >/dev/null 2>&1
ok 'in pages that are made of bytes: by userfaultfd' dies_by_it
ok 'and without it' says "$copy" "$tmp/refuse" "$userfaultfd" 1 "$tmp/dump" load "$image"
# shellcheck disable=SC2016 # for the other shell
ok 'also through a pipe' says "$copy" \
    bash -c 'cat "$1" | "$2" 3 3<&0 </dev/null' - "$image" "$libexec/bprestore"
mkfifo "$tmp/pipe"
half() {
    timeout 30 head -c 100 "$tmp/pipe" >/dev/null &
    timeout 30 "$tmp/dump" save "$tmp/pipe" 0 1
    local rc=$?
    wait $!
    return $rc
}
ok 'to who reads no more of it: a reason, and no SIGPIPE' fails_with 'Broken pipe' half
user=(setpriv --reuid 61001 --regid 61001 --clear-groups)
mkdir -m 777 "$tmp/theirs"
ok 'as a user' says "$original" "${user[@]}" "$tmp/dump" save "$tmp/theirs/image" 0 1
ok 'and back' says "$copy" "${user[@]}" "$tmp/dump" load "$tmp/theirs/image"

"$tmp/dump" save "$image" 0 1 >"$tmp/out" 2>&1
refused() { # TEXT: the image is not restored, and the reason is TEXT
    fails_with "$1" timeout 60 "$CM_BUILD/libexec/clustermatic/bprestore" 3 3<"$2"
}
change() { # OFFSET BYTES: a copy of the image with these there
    cp "$image" "$tmp/bad"
    printf '%b' "$2" | dd of="$tmp/bad" bs=1 seek="$1" conv=notrunc 2>"$tmp/dd"
}
printf 'no image at all, whatever it says, for sure' >"$tmp/bad"
ok 'what is no image is refused' refused 'this is no image' "$tmp/bad"
load_bad() { "$tmp/dump" load "$tmp/bad"; }
ok 'by undump with an errno' fails_with 'undump: Invalid argument' load_bad
change 8 '\x7f'
ok 'another version' refused 'another version' "$tmp/bad"
change 12 '\xb7'
ok 'another architecture' refused 'another architecture' "$tmp/bad"
size=$(stat -c %s "$image")
for part in 0 10 100 5000 $((size / 2)) $((size - 1)); do
    head -c "$part" "$image" >"$tmp/bad"
    ok "cut after $part bytes" refused 'ends too early' "$tmp/bad"
done
cat "$image" "$image" >"$tmp/bad"
ok 'what follows the end is not looked at' says "$copy" "$tmp/dump" load "$tmp/bad"
never_runs() { # 60 images with one byte changed: none runs, none hangs
    local i at rc
    for i in $(seq 60); do
        at=$((16 + i * (size - 17) / 60))
        python3 -c 'import sys
f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2])); b = f.read(1)[0]
f.seek(int(sys.argv[2])); f.write(bytes([b ^ 0x55]))' "$tmp/bad" "$at"
        timeout 60 "$libexec/bprestore" 3 3<"$tmp/bad" >"$tmp/out" 2>"$tmp/err" </dev/null
        rc=$?
        [ $rc = 125 ] && [ ! -s "$tmp/out" ] && grep -q '^bprestore: ' "$tmp/err" ||
            { echo "byte $at: status $rc"; cat "$tmp/out" "$tmp/err"; return 1; }
        cp "$image" "$tmp/bad"
    done
}
cp "$image" "$tmp/bad"
ok 'one byte that is wrong, wherever it is, is noticed' never_runs
forge() { python3 tests/forge-image.py "$image" "$tmp/bad" "$@"; }
forge cpu
ok 'a processor that lacks something' refused 'this processor has it not' "$tmp/bad"
forge vdso
ok 'another kernel' refused 'another kernel' "$tmp/bad"
forge hole
ok 'a mapping over the restorer itself' refused 'makes no sense' "$tmp/bad"
forge order
ok 'mappings out of order' refused 'makes no sense' "$tmp/bad"
forge library "$tmp/libanswer.so"
ok 'a library that is not there' refused 'is not here' "$tmp/bad"
forge buildid
ok 'a library of another build' refused 'its build-id differs' "$tmp/bad"
forge size
ok 'a library of another size' refused 'its size differs' "$tmp/bad"
for more in 0x200000 0xffffffffffffffff; do
    forge hint $more
    ok "pages that say that $more bytes follow do no harm" \
        says "$copy" "$tmp/dump" load "$tmp/bad"
done

# --- execdump: a program that has not begun ---
execdump() { # FLAGS PROGRAM ARG...: saved, and no word of it
    timeout 60 "$tmp/dump" exec "$image" "$@" >"$tmp/says" 2>&1 </dev/null && [ ! -s "$tmp/says" ] ||
        { cat "$tmp/says"; return 1; }
}
cat >"$tmp/born.sh" <<'END'
#!/bin/sh
echo "$0 $1 $WORD in $PWD"
read -r line && echo "read $line"
END
chmod 755 "$tmp/born.sh"
export WORD='a word'
born="$tmp/born.sh one a word in $PWD
read from here"
alive() { # the image: what it says, with a line to read
    echo 'from here' | timeout 60 "$tmp/dump" load "$image"
}
for how in 0 7; do
    ok "execdump with flags $how: the program does not run" execdump $how "$tmp/born.sh" one
    unset WORD
    ok 'undump: it does, as it would have then, with descriptors of now' is "$born" alive
    ok 'again too' is "$born" alive
    export WORD='a word'
done
ok 'a program of one file' execdump 0 "$libexec/bprestore" --version
ok 'comes back' says "$("$libexec/bprestore" --version)" "$tmp/dump" load "$image"
ok 'one that looks at its signals and timers' execdump 0 /usr/bin/python3 -c 'import signal as s
print(s.getsignal(s.SIGUSR1) is s.SIG_IGN, s.getsignal(s.SIGCHLD) is s.SIG_DFL,
      list(s.pthread_sigmask(s.SIG_BLOCK, [])) == [s.SIGUSR2], s.getitimer(s.ITIMER_REAL)[0] > 900)'
ok 'finds them as exec leaves them' says 'True True True True' "$tmp/dump" load "$image"
goes_on() { # ERROR FILE PROGRAM ARG...: execdump fails, and its caller is as it was
    local want="execdump: $1 as before"
    shift
    [ "$(timeout 60 "$tmp/dump" exec "$1" 0 "${@:2}" 2>&1 </dev/null | paste -sd' ')" = "$want" ] ||
        { "$tmp/dump" exec "$1" 0 "${@:2}"; return 1; }
}
ok 'execdump of no program: its caller goes on' goes_on 'No such file or directory' "$image" /no/such
ok 'of what is none' goes_on 'Permission denied' "$image" /etc/passwd
ok 'to a full disk' goes_on 'No space left on device' /dev/full /bin/echo one

ok 'a process with threads is not dumped: EBUSY' "$tmp/threads"
no_room() { "$tmp/dump" save /dev/full 0 1; }
ok 'a full disk is told' fails_with 'dump: -1 No space left' no_room
ok 'bprestore holds no right that it passes on' \
    says "$(printf 'CapEff:\t0000000000000000')" "${user[@]}" "$tmp/dump" rights "$tmp/theirs/rights"
done_testing
