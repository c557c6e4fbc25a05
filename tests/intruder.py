#!/usr/bin/python3
"""intruder.py WHAT ARGS... - do what one should not be able to, for tests

Each prints one line on what came of it, and ends with status 0 however it went.
RUN is CM_RUNDIR. JSON arguments may give bytes as "hex:00ff".

  gate TOPIC JSON [UID]    ask over the gate (claiming to be UID)
  bus TOPIC JSON [UID]     ask over the bus; both print the value, or CODE TEXT
  hello NAME TOPIC         become service NAME, let somebody ask TOPIC meanwhile
  publish TOPIC JSON       publish an event; prints whether a listener got it
  forge TOPIC JSON         ask the bus by a hand-made ZMTP handshake that claims to
                           be root, and one of the old protocol without any name
  identity HEX TOPIC JSON  ask the bus on a connection with this routing id
  reader LAUNCH NODES [close]  read LAUNCH's streams; first close them all
"""
import json
import os
import random
import socket
import struct
import sys
import time

import msgpack
import zmq

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from busclient import (ERROR, HELLO, PUBLISH, REQUEST, Events, Gate, Local,  # noqa: E402
                       Refused, context, pack)

RUN = os.environ["CM_RUNDIR"]


def value(text):
    def bytes_in(v):
        if isinstance(v, str) and v.startswith("hex:"):
            return bytes.fromhex(v[4:])
        if isinstance(v, list):
            return [bytes_in(x) for x in v]
        if isinstance(v, dict):
            return {k: bytes_in(x) for k, x in v.items()}
        return v
    return bytes_in(json.loads(text))


def show(v):
    return json.dumps(v, default=lambda b: "hex:" + b.hex(), sort_keys=True)


def envelope(kind, topic, ident, uid=-1, node=-1):
    return [1, kind, topic, ident, 5000, uid, uid, os.getpid(), node, "", ""]


# --- the gate and the bus ----------------------------------------------------

def ask(peer, topic, body, uid):
    try:
        print(show(peer.call(topic, value(body), uid=uid)))
    except Refused as no:
        print(no)
    except (TimeoutError, socket.timeout):
        print("no answer")


def cmd_gate(topic, body, uid=-1):
    ask(Gate(), topic, body, int(uid))


class Bus(Local):
    def call(self, topic, body=None, uid=-1):
        ident = random.getrandbits(62)
        self.sock.send_multipart([msgpack.packb(envelope(REQUEST, topic, ident, uid)),
                                  msgpack.packb(body, use_bin_type=True)])
        end = time.monotonic() + 5
        while time.monotonic() < end:
            got = self.serve(end - time.monotonic(), ident)
            if got:
                if got[0] == ERROR:
                    raise Refused(*got[1][:2])
                return got[1]
        raise TimeoutError(topic)


def cmd_bus(topic, body, uid=-1):
    ask(Bus(), topic, body, int(uid))


def cmd_hello(name, topic):
    me = Local()
    me.sock.send_multipart(pack(HELLO, name, 1, None))
    noted = me.sock.poll(500) != 0
    if noted:
        me.sock.recv_multipart()
    other = Gate()
    try:
        answer = show(other.call(topic, {}))
    except Refused as no:
        answer = str(no)
    mine = me.sock.poll(200) != 0
    print(f"{'noted' if noted else 'not noted'}, {'asked' if mine else 'not asked'}, "
          f"the answer was {answer}")


def cmd_publish(topic, body):
    events = Events(topic)
    events.drain(0.3)
    Local().sock.send_multipart(pack(PUBLISH, topic, 1, value(body)))
    me = Local()
    # what a service says, busd takes for an event; this is none, however it begins
    me.sock.send_multipart([b"\x01nobody"] + pack(PUBLISH, topic, 1, value(body)))
    time.sleep(0.1)
    got = events.drain(0.5)
    print("published" if got else "not published")


def frame(data, more=False, command=False):
    flags = more | 4 * command
    if len(data) > 255:
        return struct.pack(">BQ", flags | 2, len(data)) + data
    return struct.pack(">BB", flags, len(data)) + data


def prop(name, text):
    return struct.pack(">B", len(name)) + name + struct.pack(">I", len(text)) + text


def zmtp3(properties):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(2)
    s.connect(RUN + "/bus")
    s.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    got = b""
    while len(got) < 64:
        got += s.recv(64 - len(got))
    s.sendall(frame(b"\x05READY" + b"".join(prop(*p) for p in properties), command=True))
    return s


def zmtp_old():
    """ZMTP 2.0: no mechanism, no properties."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(2)
    s.connect(RUN + "/bus")
    s.sendall(b"\xff" + bytes(8) + b"\x7f\x01\x05" + frame(b""))
    return s


def answer_of(s, ident):
    data = b""
    end = time.monotonic() + 2
    try:
        while time.monotonic() < end:
            more = s.recv(65536)
            if not more:
                return "connection closed"
            data += more
            at = data.find(msgpack.packb(ident))
            if at >= 0 and data[at:].count(b"\0") >= 0 and len(data) > at + 40:
                u = msgpack.Unpacker(raw=False, strict_map_key=False)
                u.feed(data[at - 2 - 40:] if False else data)
                return data[at:].decode("latin1")
    except socket.timeout:
        pass
    return "no answer"


def raw_request(s, topic, body):
    ident = random.getrandbits(61) | 1 << 60
    env = msgpack.packb(envelope(REQUEST, topic, ident, 0))
    s.sendall(frame(env, more=True) + frame(msgpack.packb(body, use_bin_type=True)))
    text = answer_of(s, ident)
    return "".join(c for c in text if c.isprintable() and ord(c) < 127)


ROOT = (b"Peer-Address", b"localhost:0:0:1")


def cmd_forge(topic, body):
    new = raw_request(zmtp3([(b"Socket-Type", b"DEALER"), (b"Identity", b""), ROOT,
                             (b"User-Id", b"root")]), topic, value(body))
    old = raw_request(zmtp_old(), topic, value(body))
    print(f"new: {new[-60:]}; old: {old[-60:]}")


def cmd_identity(hexes, topic, body):
    me = Local()
    me.sock.close()
    me.sock = context.socket(zmq.DEALER)
    me.sock.setsockopt(zmq.LINGER, 0)
    me.sock.setsockopt(zmq.ROUTING_ID, bytes.fromhex(hexes))
    me.sock.connect(f"ipc://{RUN}/bus")
    try:
        print(show(me.call(topic, value(body), 3)))
    except Refused as no:
        print(no)
    except TimeoutError:
        print("no answer")


# --- streams -----------------------------------------------------------------

KINDS = ["", "DATA", "CREDIT", "OPEN", "RESUME", "CLOSE", "HELLO", "BULK", "NONE", "GO"]


def message(kind, launch, fd=0, flags=0, rank=0xffffffff, offset=0, limit=0, body=b""):
    return struct.pack("<BBHIQQQIi", kind, fd, flags, rank, launch, offset, limit,
                       len(body), 0) + body


def open_message(launch, nodes):
    body = struct.pack("<I", len(nodes)) + b"".join(struct.pack("<i", n) for n in nodes)
    return message(3, launch, rank=0, flags=8, limit=65536,
                   body=body + bytes(24 * len(nodes)))


def cmd_reader(launch, nodes, *what):
    launch = int(launch)
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(3)
    s.connect(RUN + "/iofwd")
    said = []
    try:
        s.sendall(open_message(launch, [int(n) for n in nodes.split(",")]))
        if "close" in what:
            s.sendall(message(5, launch, fd=1) + message(5, launch, flags=4))
        else:
            s.sendall(message(1, launch, flags=1))  # the end of stdin
        while True:
            head = s.recv(40, socket.MSG_WAITALL)
            if len(head) < 40:
                said.append("closed")
                break
            m = struct.unpack("<BBHIQQQIi", head)
            body = s.recv(m[7], socket.MSG_WAITALL) if m[7] else b""
            said.append(KINDS[m[0]] + (" refused" if m[0] == 8 and m[2] & 4 else "") +
                        (f" {len(body)}" if m[0] == 1 else ""))
    except ConnectionError:
        said.append("closed")
    except socket.timeout:
        said.append("silence")
    print(", ".join(said))


if __name__ == "__main__":
    if len(sys.argv) < 2 or "cmd_" + sys.argv[1].replace("-", "_") not in globals():
        sys.exit(__doc__)
    globals()["cmd_" + sys.argv[1].replace("-", "_")](*sys.argv[2:])
