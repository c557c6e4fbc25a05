#!/usr/bin/python3
"""seeds - what fuzzers start from: legal input, and input at the edges of what is legal

    seeds DIR        makes DIR/wire, DIR/pkt, DIR/stream, DIR/nodespec, a file each

A fuzzer that starts from nothing spends its seconds on what is refused at once.
"""
import os
import struct
import sys

import msgpack


def save(where, items):
    os.makedirs(where, exist_ok=True)
    for n, data in enumerate(items):
        with open(os.path.join(where, f"seed.{n}"), "wb") as f:
            f.write(data)


def envelope(topic="nodemgr.list", sender="", addr="", payload=None, **more):
    fields = [1, more.get("kind", 1), topic, 7, 10000, 0, 0, 4711, -1, sender, addr]
    return msgpack.packb(fields + more.get("tail", [])) + msgpack.packb(payload)


def wire():
    yield envelope()
    for n in (119, 120, 121, 200):
        yield envelope(topic="t" * n)
    for n in (62, 63, 64, 100):
        yield envelope(kind=5, sender="s" * n)
        yield envelope(addr="a" * n)
    yield envelope(tail=[1, "more"])
    yield envelope(payload={"a": 1, "nodes": [0, -1, 2 ** 63], "spec": b"x\0y", "launch": 2 ** 64 - 1,
                            "pid": -5, "": "text"})
    deep = 0
    for _ in range(60):
        deep = [deep]
    yield envelope(payload=deep)
    yield envelope(payload=[{"a": [None, True, 1.5]}, "x" * 300, b"y" * 70000][:2])


def pkt():
    """How it is sent, the number of descriptors, the packet: a tag and a message."""
    for how in (0, 1 | 2, 2, 4, 1 | 2 | 4, 8, 32):
        for count in (0, 1, 2, 15, 16, 17, 18, 19, 30):
            for tag in (0, 1, 2):
                yield bytes([how, count, tag]) + b"message"


def stream():
    for kind in range(0, 11):
        for fd in (0, 1, 2, 3):
            yield struct.pack("<BBHIQQQIi", kind, fd, 15, 0xffffffff, 2 ** 63, 2 ** 62, 2 ** 64 - 1,
                              1 << 20, -1)


def nodespec():
    for text in ("0", "0-9", "010", "5-", "0,2,9-1", "up", "allup", "notdown", "master,0", "n3",
                 "up,0-3,", "-1", "0-1000000", "maint", "99999999999999999999", "0x1", ",,", "198.18.1.3"):
        yield text.encode()


def main():
    for make in (wire, pkt, stream, nodespec):
        save(os.path.join(sys.argv[1], make.__name__), make())


main()
