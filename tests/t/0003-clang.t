#!/bin/bash
# 0003-clang: everything compiles without a warning under clang too
. tests/lib.sh

command -v clang >/dev/null || plan_skip "clang is not installed"
[ -z "${CM_SAN:-}" ] || plan_skip "a sanitizer build is checked"
ok 'clang builds everything' \
    nice make -s -j2 --no-print-directory B=build-clang CC=clang all units
done_testing
