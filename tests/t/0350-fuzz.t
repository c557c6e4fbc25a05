#!/bin/bash
# 0350-fuzz: decoders under hostile bytes, each for a few seconds
#
# CM_FUZZ_SECONDS says how long (3); CM_FUZZ_CORPUS is a folder to keep what was
# found worth trying again.
. tests/lib.sh

command -v clang >/dev/null || plan_skip 'clang is not installed'
echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' >"$tmp/try.c"
clang -fsanitize=fuzzer,address -o "$tmp/try" "$tmp/try.c" 2>"$tmp/why" ||
    plan_skip "clang has no libFuzzer: $(grep -m1 . "$tmp/why")"

fuzzers=$CM_BUILD/tests/fuzz
corpus=${CM_FUZZ_CORPUS:-$tmp/corpus}
ok 'the fuzzers are built' make -s B="$CM_BUILD" fuzzers
run() { # NAME [SEEDS]
    mkdir -p "$corpus/$1"
    if ! "$fuzzers/$1" -max_total_time="${CM_FUZZ_SECONDS:-3}" -max_len=4096 -timeout=10 \
        -rss_limit_mb=1024 -artifact_prefix="$corpus/$1." "$corpus/$1" ${2:+"$2"} \
        >"$tmp/$1.log" 2>&1; then
        grep -E -A 12 'ERROR|runtime error|SUMMARY|Base64' "$tmp/$1.log" || tail "$tmp/$1.log"
        return 1
    fi
    grep '^Done' "$tmp/$1.log"
}
mkdir "$tmp/seeds"
if /usr/bin/python3 -c 'import msgpack' 2>/dev/null; then
    ok 'there is something to start from' /usr/bin/python3 tests/fuzz/seeds.py "$tmp/seeds"
fi
seeds() { [ ! -d "$tmp/seeds/$1" ] || echo "$tmp/seeds/$1"; }
ok 'envelopes and payloads' run wire "$(seeds wire)"
ok 'packets of the gate' run pkt "$(seeds pkt)"
ok 'headers of streams' run stream "$(seeds stream)"
ok 'node lists' run nodespec "$(seeds nodespec)"
ok 'configurations' run config "$PWD/tests/data"
done_testing
