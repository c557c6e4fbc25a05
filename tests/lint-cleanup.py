#!/usr/bin/python3
"""A buffer with a clean-up must be initialised before its function may return.

gcc and clang do not see it: CLEANUP(mp_free) mp_buf m; if (...) return -1; mp_init(&m);
would free what was never set up. Prints FILE:LINE for each such declaration.
"""
import re
import sys

DECLARED = re.compile(r'CLEANUP\((mp_free|msgpack_unpacked_destroy|nodelist_free|strlist_free)\)'
                      r' (?:struct )?\w+ (\w+)[,;]')
bad = 0
for name in sys.argv[1:]:
    lines = open(name).read().split('\n')
    for i, line in enumerate(lines):
        m = DECLARED.search(line)
        if not m:
            continue
        ready = re.compile(r'_init\(&%s\)' % m.group(2))
        for j in range(i + 1, len(lines)):
            if ready.search(lines[j]) or lines[j] == '}':
                break
            if re.search(r'\b(return|goto)\b', lines[j]):
                print('%s:%d: %s may be freed before it is set up' % (name, i + 1, m.group(2)))
                bad = 1
                break
sys.exit(bad)
