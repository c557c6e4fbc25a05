#!/bin/bash
# 0005-limit: a test that hangs is ended and says where; one that ends passes through
. tests/lib.sh

limited() { CM_TEST_LIMIT=1 tests/limit "$@"; }

ok 'what a test says goes through' is 'ok 1' limited echo 'ok 1'
ok 'what it complains of too' has '^oops$' bash -c 'tests/limit sh -c "echo oops >&2" 2>&1'
ok 'and its status' exits 3 limited sh -c 'exit 3'
ok 'and its death' exits 137 limited sh -c 'kill -KILL $$'
ok 'it has no input' is 0 limited wc -c
ok 'one that hangs is ended, and named' fails_with '^# limit: sh has not ended within 1 seconds' \
    limited sh -c 'echo "ok 7 - before"; sleep 1000; true'
ok 'with what it said last' has '^# limit: ok 7 - before$' cat "$tmp/why"
ok 'and what it waits for' has '^# limit: .*nanosleep.* sleep 1000$' cat "$tmp/why"
ok 'one whose child holds the output is named as well' \
    fails_with '^# limit: sh has ended, but something it started still holds' \
    env CM_TEST_LINGER=1 tests/limit sh -c 'sleep 1001 & echo $!'
ok 'with the child' has '^# limit: .* sleep 1001$' cat "$tmp/why"
kill "$(head -n 1 "$tmp/why.out")"
ok 'one that does not listen is killed' fails_with 'did not end within 1 seconds' \
    env CM_TEST_LIMIT=1 CM_TEST_CLEANUP=1 tests/limit sh -c 'trap "" TERM; sleep 1002; true'
ok 'and nothing of it is left' not pgrep -f '^sleep 1002$'
done_testing
