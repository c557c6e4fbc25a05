#!/usr/bin/env python3
"""holdback OUT CTL: copy stdin to the file OUT, as far as CTL allows.

CTL is a fifo; each line is the number of bytes that may have been taken by
now, or "all". So a test has a reader that is exactly as slow as it wants, and
sees by the size of OUT how far a stream has come.
"""
import os
import sys

out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
taken = 0
for line in open(sys.argv[2]):
    may = float("inf") if line.strip() == "all" else int(line)
    while taken < may:
        data = os.read(0, int(min(65536, may - taken)))
        if not data:
            sys.exit()
        os.write(out, data)
        taken += len(data)
