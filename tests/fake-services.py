#!/usr/bin/python3
"""nodemgr and procspace with made-up nodes, on a real bus (CM_RUNDIR), for
tests of the commands: exact tables, refusals, events on demand.

SIGUSR1: node 0 changes its state (up, error) and node.state says so.
SIGUSR2: the same, after three events that nobody gets.
Each request that changes something is noted on stdout as a line of text.
Usage: fake-services.py OWNERS_PID READY_FD"""
import os
import signal
import sys

import msgpack
import zmq

RUN = os.environ["CM_RUNDIR"]
OTHER_PID = int(sys.argv[1])


def node(n, state, mode, uid=0, gid=0, reach="yes", why="", who="nodemgr"):
    return {
        "node": n, "name": f"n{n}", "state": state, "why": why, "who": who,
        "since": 1750000000000, "reach": reach, "addr": f"10.0.0.{10 + n}",
        "macs": [f"02:c6:12:00:00:{n:02x}"], "mode": mode, "uid": uid, "gid": gid,
        "attrs": {"cpus": b"\4\0\0\0", "rack": b"r1"}, "space": "s", "key": "k",
    }


NODES = [
    node(0, "up", 0o111), node(1, "up", 0o111),
    node(2, "down", 0o100, 7, 7, "no", "no beat for 10 s"),
    node(3, "up", 0o100, 65534, 65534), node(5, "up", 0o111),
    node(6, "boot", 0o100), node(7, "error", 0o100, why="no \33[2J disk", who="root"),
    node(8, "up", 0o111), node(9, "up", 0o110, 424242, 100),
]
if len(sys.argv) > 3:  # a wide cluster, every second node in boot
    NODES = [node(i, "boot" if i % 2 else "up", 0o111) for i in range(int(sys.argv[3]))]
KEY = "a" * 20 + "B" * 20
PENDING = [{"key": KEY, "addr": "198.18.1.9", "macs": ["02:c6:12:00:00:09"],
            "since": 1750000000000, "why": "no node has this address"}]


def proc(n, pid, ppid, uid, comm, args, state="S"):
    return {"node": n, "pid": pid, "ppid": ppid, "pgid": pid, "sid": 1, "uid": uid,
            "state": state, "utime_us": 1500000, "stime_us": 62000000, "rss_kb": 100 * pid,
            "vsz_kb": 9, "start_ms": 1750000000000, "comm": comm, "args": args}


PROCS = [
    proc(0, 1, 0, 0, "bpinit", b"bpinit\0"),
    proc(0, 70, 1, 0, "sh", b"sh\0-c\0a \33b\0"), proc(0, 71, 70, 65534, "b", b"b\0", "R"),
    proc(0, 75, 1, 0, "gone", b"", "Z"), proc(1, 1, 0, 0, "bpinit", b"bpinit\0"),
    proc(1, 71, 70, 0, "c", b"c\0"),
]


class Refused(Exception):
    pass


def select(spec, empty_ok=False):
    out = []
    for word in (spec or "all").split(","):
        if word.isdigit():
            found = [n for n in NODES if n["node"] == int(word)]
            if not found:
                raise Refused(2, f"node {word}: there are only {len(NODES)} nodes")
        elif word == "all":
            found = NODES
        elif word.startswith("allnot"):
            found = [n for n in NODES if n["state"] != word[6:]]
        elif word in ("up", "down", "boot", "error", "unavailable"):
            found = [n for n in NODES if n["state"] == word]
        else:
            raise Refused(22, f'"{word}" names no node and no state')
        out += found
    if not out and not empty_ok:
        raise Refused(2, f"no node is in state {spec}")
    return out


def resolve(n):
    if n["state"] == "down":
        return [n["node"], n["state"], n["reach"], n["addr"], 301, "Node is down"]
    if not n["mode"] & 1:
        return [n["node"], n["state"], n["reach"], n["addr"], 13, "no execute permission"]
    return [n["node"], n["state"], n["reach"], n["addr"], 0, ""]


def answer(topic, body):
    if topic == "nodemgr.list":
        return select(body.get("spec"))
    if topic == "nodemgr.resolve":
        return {"nodes": [resolve(n) for n in select(body["spec"], body.get("empty_ok"))]}
    if topic in ("nodemgr.set", "nodemgr.control", "nodemgr.accept", "nodemgr.forget"):
        print(topic, *(f"{k}={v}" for k, v in body.items()), flush=True)
        return {"failed": [[n, 301, "Node is down"] for n in body.get("nodes", []) if n == 2]}
    if topic == "nodemgr.pending":
        return PENDING
    if topic == "procspace.list":
        return [{"pid": OTHER_PID, "node": 5, "rank": 0, "launch": 7, "uid": 0,
                 "argv0": b"x", "since": 0},
                {"pid": 1, "node": 3, "rank": 0, "launch": 2**63 + 5, "uid": 0,
                 "argv0": b"y", "since": 0}]
    if topic == "procspace.ps":
        want = body.get("nodes", range(100))
        return {"procs": [p for p in PROCS if p["node"] in want],
                "missing": [[n, 301, "Node is down"] for n in want if n == 2]}
    raise Refused(38, f"{topic}: no such method")


def envelope(kind, topic, number, when=0):
    return msgpack.packb([1, kind, topic, number, when, -1, -1, -1, -1, "", ""])


def serve(sock):
    route, head, payload = sock.recv_multipart()
    head = msgpack.unpackb(head)
    if head[1] != 1:
        return
    try:
        kind, value = 2, answer(head[2], msgpack.unpackb(payload))
    except Refused as why:
        kind, value = 3, list(why.args)
    sock.send_multipart([route, envelope(kind, head[2], head[3]), msgpack.packb(value)])


sequence = 0


def change(signo, _):
    global sequence
    sequence += 4 if signo == signal.SIGUSR2 else 1
    was = NODES[0]["state"]
    NODES[0]["state"] = "error" if was == "up" else "up"
    body = {"node": 0, "state": NODES[0]["state"], "was": was, "topic": "not this one"}
    services["nodemgr"].send_multipart(
        [envelope(6, "node.state", sequence, 1750000000000), msgpack.packb(body)])


poller = zmq.Poller()
services = {}
for name in ("nodemgr", "procspace"):
    s = zmq.Context.instance().socket(zmq.DEALER)
    s.connect(f"ipc://{RUN}/bus")
    s.send_multipart([envelope(5, name, 1), msgpack.packb(None)])
    s.recv_multipart()  # noted
    poller.register(s, zmq.POLLIN)
    services[name] = s
signal.signal(signal.SIGUSR1, change)
signal.signal(signal.SIGUSR2, change)
os.write(int(sys.argv[2]), b"\n")
while True:
    for ready, _ in poller.poll():
        serve(ready)
