#!/usr/bin/env python3
"""An image with one thing changed and all checksums right again.

forge-image.py IMAGE OUT WHAT [ARG]; see doc/image.md for what is where."""
import struct
import sys

POLY = [0] * 256
for n in range(256):
    c = n
    for _ in range(8):
        c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    POLY[n] = c


def crc(data, c=0):
    c ^= 0xFFFFFFFF
    for b in data:
        c = c >> 8 ^ POLY[(c ^ b) & 255]
    return c ^ 0xFFFFFFFF


PROCESS, MAP, PAGES, END = 1, 2, 3, 6
HEAD = struct.Struct("<IIQQQ")
FIELDS = struct.Struct("<QQQIIIIQI20sII")  # struct image_map
MACHINE = 8 + 8 + 64 + 8 + 27 * 8 + 16 + 11 * 8 + 64 * 8 + 8 + 16 + 24 + 16 + 8 + 8 + 64 * 32 + 96 + 8

data = open(sys.argv[1], "rb").read()
what = sys.argv[3]
arg = sys.argv[4] if len(sys.argv) > 4 else ""
records, at = [], 16
while at < len(data):
    kind, old, size, addr, chain = HEAD.unpack_from(data, at)
    body = data[at + 32:at + 32 + size]
    records.append([kind, addr, body, old, chain])
    at += 32 + size
    if kind == END:
        break

process = bytearray(records[0][2])
hole = struct.unpack_from("<Q", process, 8)[0]
maps = [r for r in records if r[0] == MAP]
changed = []


def map_set(r, path=None, **new):
    names = ("start end offset kind prot flags head_crc file_size id_len id path_len pad").split()
    f = dict(zip(names, FIELDS.unpack_from(r[2])))
    path = r[2][FIELDS.size:] if path is None else path.encode() + b"\0"
    f.update(new, path_len=len(path))
    r[2] = FIELDS.pack(*(f[n] for n in names)) + path
    changed.append(r)


def libraries():
    return [r for r in maps if b"/libz.so" in r[2] or b"/libc.so" in r[2]]


if what == "cpu":
    process[MACHINE] ^= 0
    word = struct.unpack_from("<I", process, MACHINE + 8)[0]  # leaf 7, ebx
    free = next(b for b in (16, 17, 30, 31, 26, 27, 28, 21) if not word >> b & 1)
    struct.pack_into("<I", process, MACHINE + 8, word | 1 << free)
    records[0][2] = bytes(process)
    changed.append(records[0])
elif what == "vdso":
    process[MACHINE + 56] ^= 1
    records[0][2] = bytes(process)
    changed.append(records[0])
elif what == "hole":
    map_set(maps[-1], start=hole, end=hole + 4096)
elif what == "order":
    map_set(maps[1], start=4096, end=8192)
elif what == "library":
    for r in libraries():
        map_set(r, path="/no/such/library.so")
elif what == "buildid":
    for r in libraries():
        map_set(r, id=b"another build-id ...")
elif what == "hint":  # of much more memory than follows
    for r in records:
        if r[0] == PAGES:
            r[4] = int(arg, 0)
            changed.append(r)
elif what == "size":
    for r in libraries():
        map_set(r, file_size=12345)
else:
    sys.exit("what?")

out, chain = open(sys.argv[2], "wb"), 0
out.write(data[:16])
for r in records:
    kind, addr, body, old, link = r
    link = chain if kind == END else link
    if r in changed or kind == END:
        old = crc(body, crc(HEAD.pack(kind, 0, len(body), addr, link)))
    out.write(HEAD.pack(kind, old, len(body), addr, link) + body)
    chain = crc(struct.pack("<I", old), chain)
