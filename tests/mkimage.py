#!/usr/bin/python3
"""mkimage FILE [MEGABYTES] [CMDLINE]: a boot image of random content, for tests"""
import hashlib
import os
import sys

path = sys.argv[1]
size = int(float(sys.argv[2]) * (1 << 20)) if len(sys.argv) > 2 else 1 << 20
cmdline = sys.argv[3] if len(sys.argv) > 3 else "console=ttyS0"
kernel, initrd = os.urandom(size // 3), os.urandom(size - size // 3)
at = 4096 + (len(kernel) + 4095) // 4096 * 4096
head = ("clustermatic-image 1\nphase 2\narch x86_64\nrelease 6.1.0-test\n"
        f"kernel 4096 {len(kernel)} {hashlib.sha256(kernel).hexdigest()}\n"
        f"initrd {at} {len(initrd)} {hashlib.sha256(initrd).hexdigest()}\n"
        f"cmdline {cmdline}\nend\n").encode()
data = head.ljust(4096, b"\0") + kernel
data = data.ljust(at, b"\0") + initrd
with open(path + ".tmp", "wb") as f:
    f.write(data)
os.rename(path + ".tmp", path)
print(hashlib.sha256(data).hexdigest())
