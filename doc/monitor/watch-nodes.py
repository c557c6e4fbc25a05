#!/usr/bin/python3
"""Follow the nodes of a cluster from another language: a stock ZeroMQ binding
and msgpack are enough (Debian: python3-zmq python3-msgpack; doc/wire.md).
Usage: watch-nodes.py [COUNT]"""
import os
import sys
import time

import msgpack
import zmq

run = os.environ.get("CM_RUNDIR", "/run/clustermatic")
left = int(sys.argv[1]) if len(sys.argv) > 1 else -1

events = zmq.Context().socket(zmq.SUB)
events.setsockopt(zmq.SUBSCRIBE, b"node.")
events.connect(f"ipc://{run}/events")  # comes back by itself after a restart

last = {}  # service -> number of its last event
while left != 0:
    topic, envelope, payload = events.recv_multipart()
    head = msgpack.unpackb(envelope)
    seq, when, service = head[3], head[4], head[9]
    body = msgpack.unpackb(payload)
    stamp = time.strftime("%H:%M:%S", time.localtime(when / 1000))
    text = " ".join(f"{key}={value}" for key, value in body.items())
    print(stamp, service, seq, topic.decode(), text, flush=True)
    if seq < last.get(service, seq):
        print(f"{service} has started anew", file=sys.stderr)
    last[service] = seq
    left -= 1
