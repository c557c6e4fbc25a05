"""busclient - the bus from Python, for tests: services' clients and fake agents.

Local() speaks as a service over RUN/bus, Gate() as any program over RUN/gate,
Agent() as a node over tcp with CURVE, Events() follows RUN/events. Envelope and payload are doc/wire.md's.
"""
import os
import random
import socket
import time

import msgpack
import zmq

REQUEST, REPLY, ERROR, EVENT, HELLO, PUBLISH = range(1, 7)
context = zmq.Context()


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code} {text}")
        self.code, self.text = code, text


def pack(kind, topic, ident, body, deadline=5000):
    env = [1, kind, topic, ident, deadline, -1, -1, -1, -1, "", ""]
    return [msgpack.packb(env), msgpack.packb(body, use_bin_type=True)]


def unpack(data):
    return msgpack.unpackb(data, raw=False, strict_map_key=False)


class Peer:
    """One DEALER: call() asks and waits; requests that come are answered by
    self.methods[verb](body), a value or a Refused."""

    def __init__(self):
        self.sock = context.socket(zmq.DEALER)
        self.sock.setsockopt(zmq.LINGER, 0)
        self.methods = {}
        self.asked = []

    def send(self, topic, body, ident=None):
        ident = ident or random.getrandbits(62)
        self.sock.send_multipart(pack(REQUEST, topic, ident, body))
        return ident

    def call(self, topic, body=None, timeout=5.0, ident=None):
        ident = self.send(topic, body, ident)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            got = self.serve(end - time.monotonic(), ident)
            if got is not None:
                kind, value = got
                if kind == ERROR:
                    raise Refused(*value[:2])
                return value
        raise TimeoutError(topic)

    def serve(self, timeout, ident=None):
        """Handle what comes; (kind, value) when it is the answer to ident."""
        if not self.sock.poll(max(0, int(timeout * 1000))):
            return None
        route, env, body = self.sock.recv_multipart()[:3]
        env, body = unpack(env), unpack(body)
        if route and env[1] == REQUEST:
            self.answer(route, env, body)
        elif env[3] == ident and env[1] in (REPLY, ERROR):
            return env[1], body
        return None

    def answer(self, route, env, body):
        verb = env[2].rsplit(".", 1)[1]
        self.asked.append((verb, body))
        try:
            kind, value = REPLY, self.methods[verb](body)
        except Refused as no:
            kind, value = ERROR, [no.code, no.text]
        self.sock.send_multipart([route] + pack(kind, env[2], env[3], value))

    def close(self):
        self.sock.close()


class Local(Peer):
    def __init__(self):
        super().__init__()
        self.sock.connect(f"ipc://{os.environ['CM_RUNDIR']}/bus")


class Gate:
    """uid: what the envelope claims; nobody must believe it."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.connect(os.environ["CM_RUNDIR"] + "/gate")

    def call(self, topic, body=None, timeout=8.0, uid=-1):
        ident = random.getrandbits(62)
        self.sock.settimeout(timeout)
        env = [1, REQUEST, topic, ident, 5000, uid, uid, -1, -1, "", ""]
        self.sock.send(b"\0" + msgpack.packb(env) + msgpack.packb(body, use_bin_type=True))
        while True:
            data, fds, _, _ = socket.recv_fds(self.sock, 200000, 4)
            if not data:
                raise ConnectionError("the gate has closed the connection")
            if data[0] == 1:
                data = b"\0" + os.pread(fds[0], 1 << 27, 0)
                os.close(fds[0])
            u = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=1 << 27)
            u.feed(data[1:])
            env, value = u.unpack(), u.unpack()
            if env[3] == ident:
                if env[1] == ERROR:
                    raise Refused(*value[:2])
                return value


class Agent(Peer):
    """A node's agent. source: the address it speaks from."""

    def __init__(self, port, source=None, keys=None):
        super().__init__()
        self.keys = keys or zmq.curve_keypair()
        with open(os.environ["CM_RUNDIR"] + "/master.pub", "rb") as f:
            self.sock.curve_serverkey = f.read().strip()
        self.sock.curve_publickey, self.sock.curve_secretkey = self.keys
        self.key = self.keys[0].decode()
        self.space = self.boot = f"{random.getrandbits(64):x}"
        self.macs = []
        self.methods["control"] = lambda body: None
        self.sock.connect(f"tcp://{source + ':0;' if source else ''}127.0.0.1:{port}")

    def join(self, ready=False, **more):
        body = dict(version=1, boot=self.boot, space=self.space, macs=self.macs, cpus=2,
                    mem=1 << 30, kernel="6.1", hostname="n", ready=ready)
        body.update(more)
        return self.call("nodemgr.join", body)

    def beat(self, ready=True, **more):
        body = dict(boot=self.boot, space=self.space, ready=ready, procs=0)
        body.update(more)
        return self.call("nodemgr.beat", body)

    def reborn(self):
        self.space = f"{random.getrandbits(64):x}"
        return self


class Events:
    def __init__(self, prefix=""):
        self.sock = context.socket(zmq.SUB)
        self.sock.setsockopt(zmq.LINGER, 0)
        self.sock.setsockopt_string(zmq.SUBSCRIBE, prefix)
        self.sock.connect(f"ipc://{os.environ['CM_RUNDIR']}/events")

    def drain(self, timeout=0.3):
        """All events until none comes for timeout: [(topic, payload)]."""
        got = []
        while self.sock.poll(int(timeout * 1000)):
            topic, _, body = self.sock.recv_multipart()
            got.append((topic.decode(), unpack(body)))
        return got

    def wait(self, topic, timeout=5.0, **want):
        """The first event of this topic whose payload has these values; None."""
        end = time.monotonic() + timeout
        while self.sock.poll(max(0, int((end - time.monotonic()) * 1000))):
            got, _, body = self.sock.recv_multipart()
            body = unpack(body)
            if got.decode() == topic and all(body.get(k) == v for k, v in want.items()):
                return body
        return None
