#!/bin/bash
# 0004-analyze: gcc's analyzer finds nothing in any source
. tests/lib.sh

[ -z "${CM_SAN:-}" ] || plan_skip "a sanitizer build is checked"
ok 'gcc -fanalyzer is silent' nice make -s -j2 --no-print-directory analyze
done_testing
