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
  reply UID                (as root) UID answers a request to a service that is slow
  reader LAUNCH NODES [close]  read LAUNCH's streams; or close them all

In the master's network namespace, where nodes come in:
  stranger                 ask this and that with a key that nobody knows
  wrong-server             trust another master than the one that is there
  stream-stranger          say hello on the port for streams with such a key
  node KEYFILE SPACE PID LAUNCH  with a node's key: answer, report, write as another

Bytes that make no sense:
  noise WHERE [SEED]       a socket of RUN, or tcp:PORT
  bombs WHERE              well-formed, and not: bus or gate
  crowd N WHERE            N connections, held until standard input ends
  descriptors N            N packets to the gate with more of them than may be, or
                           with nothing else in them
  flood SECONDS            large requests to the gate, as many as it takes
  babble N                 N connections to the gate, each good for a line in a log
"""
import fcntl
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time

import msgpack
import zmq
from zmq.utils.monitor import recv_monitor_message

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from busclient import (ERROR, HELLO, PUBLISH, REQUEST, Events, Gate, Local, Peer,  # noqa: E402
                       Refused, context, pack, unpack)

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
        end = time.monotonic() + 2
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
    """What comes after this request id in the bytes that arrive."""
    data = b""
    try:
        while msgpack.packb(ident) not in data or len(data) < 100:
            more = s.recv(65536)
            if not more:
                return "connection closed"
            data += more
    except (socket.timeout, ConnectionError):
        pass
    where = data.find(msgpack.packb(ident))
    return data[where:].decode("latin1") if where >= 0 else "no answer"


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


def cmd_reply(uid):
    slow, asker = Local(), Gate()
    slow.sock.send_multipart(pack(HELLO, "slow", 1, None))
    slow.sock.poll(3000)
    slow.sock.recv_multipart()
    asker.sock.send(b"\0" + msgpack.packb(envelope(REQUEST, "slow.question", 77)) + b"\xc0")
    slow.sock.poll(3000)
    route = slow.sock.recv_multipart()[0]
    child = subprocess.run([sys.executable, __file__, "forged-reply", route.hex()],
                           user=int(uid), group=int(uid), extra_groups=[], check=True)
    asker.sock.settimeout(0.5)
    try:
        print("forged answer:", asker.sock.recv(1000))
    except socket.timeout:
        slow.sock.send_multipart([route] + pack(2, "slow.question", 77, "real"))
        asker.sock.settimeout(3)
        print("the answer was", "real" if asker.sock.recv(1000).endswith(b"real") else "lost",
              child.returncode)


def cmd_forged_reply(route):
    me = Local()
    me.sock.setsockopt(zmq.LINGER, 1000)
    me.sock.send_multipart([bytes.fromhex(route)] + pack(2, "slow.question", 77, "forged"))
    me.sock.poll(200)
    me.close()


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


# --- nodes --------------------------------------------------------------------

MASTER = "198.18.0.1"


def curve(port, keys=None, server=None, watch=False):
    """watch: say how the handshake went, too."""
    sock = context.socket(zmq.DEALER)
    sock.setsockopt(zmq.LINGER, 0)
    with open(RUN + "/master.pub", "rb") as f:
        sock.curve_serverkey = server or f.read().strip()
    sock.curve_publickey, sock.curve_secretkey = keys or zmq.curve_keypair()
    events = sock.get_monitor_socket() if watch else None
    sock.connect(f"tcp://{MASTER}:{port}")
    if not watch:
        return sock
    names = {getattr(zmq, n): n[6:] for n in dir(zmq) if n.startswith("EVENT_HANDSHAKE")}
    end, how = time.monotonic() + 3, None
    while not how and events.poll(max(0, int((end - time.monotonic()) * 1000))):
        how = names.get(recv_monitor_message(events)["event"])
    sock.disable_monitor()
    return sock, how or "no handshake"


def try_call(peer, topic, body=None):
    try:
        return show(peer.call(topic, body, 2.0))
    except Refused as no:
        return str(no)
    except TimeoutError:
        return "no answer"


class Node(Peer):
    def __init__(self, keys=None):
        super().__init__()
        self.sock.close()
        self.keys = keys or zmq.curve_keypair()
        self.sock = curve(2223, self.keys)


JOIN = dict(version=1, boot="b", space="s", macs=["02:00:00:00:00:99"], cpus=1, mem=1,
            kernel="6", hostname="h", ready=True)


def cmd_stranger():
    me = Node()
    for topic in ("nodemgr.list", "busd.services", "busd.ping", "node.0.ps", "procspace.ps",
                  "procspace.report", "nodemgr.beat", "nodemgr.accept"):
        print(f"{topic}: {try_call(me, topic, dict(key=me.keys[0].decode(), node=0))}")
    me.sock.send_multipart(pack(HELLO, "nodemgr", 1, None))
    me.sock.send_multipart(pack(PUBLISH, "node.state", 1, {"node": 0}))
    me.sock.send_multipart([b"I\x00\x00\x00\x00\x01"] + pack(2, "nodemgr.list", 1, []))
    print(f"large join: {try_call(me, 'nodemgr.join', dict(JOIN, more=bytes(1 << 20)))}")
    print(f"nodemgr.join: {try_call(me, 'nodemgr.join', JOIN)}")
    print(f"key {me.keys[0].decode()}")


def cmd_wrong_server():
    print(curve(2223, server=zmq.curve_keypair()[0], watch=True)[1])


def cmd_stream_stranger():
    sock, how = curve(2224, watch=True)
    print(how)
    try:  # a socket that was refused may have nobody left to send to
        sock.send_multipart([message(6, 0), b"space"], zmq.DONTWAIT)
    except zmq.Again:
        pass
    print("answered" if sock.poll(700) else "no answer")


def cmd_node(keyfile, space, pid, launch):
    """With the key of node 0: process PID, rank 1 of LAUNCH, runs on node 1."""
    with open(keyfile, "rb") as f:
        keys = f.read().split()
    pid, launch = int(pid), int(launch)
    me, asker = Node(keys), Local()
    print("report:", try_call(me, "procspace.report", {
        "space": space, "first": 1, "events": [["exit", pid, 9, 0, 0, 0, 0, launch, 1],
                                             ["exit", pid, 9, 0, 0, 0, 0, 0, 1],
                                             ["stop", pid, 9, 19, launch, 1]]}))
    for topic in ("nodemgr.set", "nodemgr.control", "nodemgr.keys", "procspace.signal",
                  "procspace.result", "procspace.launch", "node.1.ps", "busd.keys"):
        print(f"{topic}: " + try_call(me, topic, {
            "nodes": [1], "state": "bad", "action": "halt", "sig": 9, "pid": pid, "keys": [],
            "launch": launch, "pids": [pid], "path": "/bin/true", "argv": ["true"],
            "asker": [4711, pid, 1]}))

    # Somebody asks node 1 (whose agent is stopped) and node 0: the answers are ours.
    wanted = asker.send("node.1.ps", {})
    other = asker.send("node.0.ps", {})
    while me.sock.poll(3000):
        got = me.sock.recv_multipart()
        if got[0] and unpack(got[1])[3] == other:
            break
    else:
        print("answer: node 0 was not asked")
        return
    for ident in (wanted, other):
        env = [1, 2, "node.1.ps", ident, 0, -1, -1, -1, 1, "", ""]
        me.sock.send_multipart([got[0], msgpack.packb(env), msgpack.packb(["mine"])])
    stamped = []
    while asker.sock.poll(1000):
        stamped.append(unpack(asker.sock.recv_multipart()[1])[8])
    print("answer: stamped as node", stamped)

    stream = curve(2224, keys)
    hello = message(6, 0, rank=0, body=space.encode())
    stream.send_multipart([hello[:40], hello[40:]])
    heard = stream.poll(3000)
    for flags, body in ((0, b"forged\n"), (1, b"")):
        m = message(1, launch, fd=1, rank=1, flags=flags, body=body)
        stream.send_multipart([m[:40], body])
    for flags in (0, 4):
        stream.send_multipart([message(8, launch, rank=1, flags=flags), b""])
    stream.send_multipart([message(2, launch, fd=0, flags=4), b""])
    print("streams:", "let in as node 0" if heard else "not let in")
    time.sleep(0.3)  # for what was sent to leave


# --- bytes --------------------------------------------------------------------

def connect(where):
    if where.startswith("tcp:"):
        s = socket.create_connection((MASTER, int(where[4:])), 5)
    else:
        kind = socket.SOCK_SEQPACKET if where == "gate" else socket.SOCK_STREAM
        s = socket.socket(socket.AF_UNIX, kind)
        s.connect(RUN + "/" + where)
    s.settimeout(1)
    return s


def say(where, data):
    """All of it, unless the other side has had enough."""
    try:
        with connect(where) as s:
            for i in range(0, len(data), 60000):
                s.sendall(data[i:i + 60000])
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
    except OSError:
        pass


def cmd_noise(where, seed="1"):
    rng = random.Random(seed)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    curves = greeting.replace(b"NULL\0", b"CURVE")
    ready = frame(b"\x05READY" + prop(b"Socket-Type", b"DEALER") + prop(b"Identity", b""),
                  command=True)
    env = msgpack.packb(envelope(REQUEST, "nodemgr.list", 5))
    starts = [b"", b"\0", b"\1", greeting, curves, greeting + ready,
              greeting + ready + frame(env, more=True), b"\0" + env, b"\x16\x03\x01\x02\x00",
              message(3, 5, body=b"")[:32], bytes(7), open_message(5, [0])]
    ends = [b"", b"\0", bytes(300), b"\xff" * 300, b"\x02" + b"\xff" * 8,
            b"\x02\x7f" + b"\xff" * 7, b"GET / HTTP/1.0\r\n\r\n"]
    ends += [rng.randbytes(rng.choice((1, 9, 40, 41, 1000, 70000))) for _ in range(8)]
    for start in starts:
        for end in ends:
            say(where, start + end)
    print(f"said {len(starts) * len(ends)} things")


def bombs():
    big = 60 << 20
    yield b"\x91" * big
    yield b"\x81" * big
    yield b"\xdd" + struct.pack(">I", big) + b"\xc0" * big
    yield b"\xdd\xff\xff\xff\xff" * 1000
    yield b"\xdf\x7f\xff\xff\xff" + b"\xdd\x7f\xff\xff\xff" * 30
    yield b"\xc6\xff\xff\xff\xff"
    yield b"\xc1"
    yield b""


def cmd_bombs(where):
    env = msgpack.packb(envelope(REQUEST, "nodemgr.list", 5))
    for bomb in bombs():
        for head, body in ((bomb, b"\xc0"), (env, bomb)):
            if where == "bus":
                peer = Local()
                peer.sock.setsockopt(zmq.LINGER, 5000)
                peer.sock.send_multipart([head, body])
                peer.sock.poll(300)
                peer.close()
                continue
            fd = os.memfd_create("bomb", os.MFD_ALLOW_SEALING)
            with os.fdopen(fd, "wb", closefd=False) as f:
                f.write(head + body)
            for sealed in (True, False):
                if sealed:
                    fcntl.fcntl(fd, 1033, 15)
                with connect(where) as s:
                    s.settimeout(0.2)
                    try:
                        socket.send_fds(s, [b"\1"], [fd])
                        s.recv(1000)
                    except OSError:
                        pass
            os.close(fd)
    print("all said")


def cmd_descriptors(count):
    env = msgpack.packb(envelope(REQUEST, "nodemgr.pending", 5)) + b"\xc0"
    for i in range(int(count)):
        with connect("gate") as s, open("/dev/null", "rb") as f:
            fds = [f.fileno()] * (1, 16, 17, 18, 30, 200)[i % 6]
            for packet in (b"\0" + env, b"\1", b"\0", b""):
                try:
                    socket.send_fds(s, [packet], fds)
                except OSError:
                    break
            s.settimeout(0.1)
            try:
                s.recv(1000)
            except OSError:
                pass


def cmd_flood(seconds):
    fd = os.memfd_create("flood", os.MFD_ALLOW_SEALING)
    with os.fdopen(fd, "wb", closefd=False) as f:
        f.write(msgpack.packb(envelope(REQUEST, "procspace.launch", 5)) +
                b"\xc6" + struct.pack(">I", 60 << 20) + bytes(60 << 20))
    fcntl.fcntl(fd, 1033, 15)
    held = [connect("gate") for _ in range(50)]
    end, count = time.monotonic() + float(seconds), 0
    while time.monotonic() < end:
        for s in held:
            s.setblocking(False)
            try:
                socket.send_fds(s, [b"\1"], [fd])
                count += 1
            except OSError:
                pass
        time.sleep(0.02)
    print("sent" if count > 100 else "not sent", flush=True)


def cmd_babble(count):
    for _ in range(int(count)):
        with connect("gate") as s:
            s.send(b"\0" + bytes(200))


def cmd_crowd(count, where):
    held = []
    for _ in range(int(count)):
        s = connect(where)
        held.append(s)
    time.sleep(0.5)
    closed = 0
    for s in held:
        s.setblocking(False)
        try:
            closed += s.recv(1) == b""
        except ConnectionError:
            closed += 1
        except BlockingIOError:
            pass
    print(f"{len(held) - closed} held, {closed} closed", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    if len(sys.argv) < 2 or "cmd_" + sys.argv[1].replace("-", "_") not in globals():
        sys.exit(__doc__)
    globals()["cmd_" + sys.argv[1].replace("-", "_")](*sys.argv[2:])
