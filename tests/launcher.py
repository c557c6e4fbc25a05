#!/usr/bin/python3
"""launcher - a launch without bpsh, for tests: what a parent of ghosts sees

    launcher NODES COMMAND...

Starts COMMAND on NODES (0,1,1) with ghosts of its own and prints one line a
rank: RANK WAIT-STATUS, as waitpid() gives it, then the result as procspace
has it: RANK STATUS UTIME_US STIME_US MAXRSS_KB.
"""
import os
import random
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import busclient  # noqa: E402


def start_ghosts(n, launch, argv):
    """n ghosts, children of ours; their pids by rank"""
    r, w = os.pipe()
    env = {"CM_GHOST": f"{n}:{w}:{os.environ['CM_RUNDIR']}/gate", "CM_LAUNCH": str(launch)}
    if os.fork() == 0:
        os.set_inheritable(w, True)
        os.execve(os.environ["CM_BUILD"] + "/libexec/clustermatic/bpghost", argv, env)
    os.close(w)
    pids = b""
    while len(pids) < 4 * n:
        pids += os.read(r, 4 * n - len(pids))
    os.close(r)
    return struct.unpack(f"{n}i", pids)


def main():
    nodes = [int(x) for x in sys.argv[1].split(",")]
    argv = sys.argv[2:]
    launch = random.getrandbits(62)
    pids = start_ghosts(len(nodes), launch, argv)
    bus = busclient.Local()
    answer = bus.call("procspace.launch", dict(
        launch=launch, nodes=nodes, pids=pids, argv=[a.encode() for a in argv],
        env=[f"{k}={v}".encode() for k, v in os.environ.items()] + [b"BPROC_RANK=XXXXXXX"],
        cwd=b"/", umask=0o22, limits=[[4, 1 << 30, 1 << 30]], path=argv[0].encode(),
        streams=[{"mode": "null"}] * 3), timeout=30)
    for rank, code, text in answer["failed"]:
        print(f"failed {rank} {code} {text}")
    status = {}
    while len(status) < len(pids):
        pid, st = os.wait()
        status[pids.index(pid)] = st
    for rank in range(len(pids)):
        print(rank, status[rank])
    for _ in range(50):
        result = bus.call("procspace.result", {"launch": launch})
        if not result["running"]:
            break
        time.sleep(0.1)
    for row in result["ranks"]:
        print("result", row[0], *row[3:7])


main()
