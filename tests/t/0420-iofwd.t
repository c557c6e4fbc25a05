#!/usr/bin/python3
"""0420: iofwd with busd alone: what it relays, holds back, refuses, and survives"""
import array
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

os.chdir(os.path.dirname(os.path.abspath(__file__)) + "/../..")
sys.path.insert(0, "tests")
libexec = os.path.abspath(os.environ.get("CM_BUILD", "build")) + "/libexec/clustermatic"
try:
    import zmq
    import busclient
except ImportError as missing:
    print(f"1..0 # SKIP {missing}")
    sys.exit(0)
tmp = tempfile.mkdtemp(prefix="cm-0420-iofwd.")
os.chmod(tmp, 0o755)
for name in ("run", "state", "log"):
    os.mkdir(f"{tmp}/{name}", 0o755)
os.environ.update(CM_RUNDIR=tmp + "/run", CM_STATEDIR=tmp + "/state", CM_LOGDIR=tmp + "/log",
                  CM_CONFIG=tmp + "/config")

DATA, CREDIT, OPEN, RESUME, CLOSE, HELLO, BULK, NONE, GO = range(1, 10)
EOF, RAW, GONE, STARTED = 1, 2, 4, 8
ALL = 0xffffffff
KIND = ["", "DATA", "CREDIT", "OPEN", "RESUME", "CLOSE", "HELLO", "BULK", "NONE", "GO"]
HEAD = struct.Struct("<BBHIQQQIi")
count = failed = 0
procs = {}


def ok(good, text, *more):
    global count, failed
    count += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {count} - {text}", flush=True)
    for line in () if good else more:
        print(f"#   {line}", flush=True)


def free_ports():
    """Two that follow each other."""
    while True:
        with socket.socket() as a, socket.socket() as b:
            a.bind(("127.0.0.1", 0))
            port = a.getsockname()[1]
            try:
                b.bind(("127.0.0.1", port + 1))
                return port
            except (OSError, OverflowError):
                continue


def start(prog, *args):
    r, w = os.pipe()
    with open(f"{tmp}/log/{prog}", "a", encoding="utf8") as log:
        procs[prog] = subprocess.Popen([f"{libexec}/{prog}", "--ready-fd", str(w), *args],
                                       stderr=log, pass_fds=[w])
    os.close(w)
    ready = os.read(r, 1)
    os.close(r)
    return ready == b"\n"


class Msg:
    def __init__(self, head, body=b""):
        (self.kind, self.fd, self.flags, self.rank, self.launch, self.offset, self.limit,
         self.len, self.node) = HEAD.unpack(head)
        self.body = body

    def __repr__(self):
        return (f"{KIND[self.kind]} fd {self.fd} flags {self.flags} rank {self.rank:x} "
                f"offset {self.offset} limit {self.limit} len {self.len} node {self.node}")


def pack(kind, launch, fd=0, flags=0, rank=ALL, offset=0, limit=0, body=b""):
    return HEAD.pack(kind, fd, flags, rank, launch, offset, limit, len(body), 0)


class Nodemgr(threading.Thread):
    """As much of nodemgr as iofwd asks."""

    def __init__(self, keys):
        super().__init__(daemon=True)
        self.keys = keys
        self.peer = busclient.Local()
        self.peer.methods["keys"] = lambda body: self.keys
        self.peer.methods["config"] = lambda body: {"port": port, "trusted": False}
        self.over = False
        self.events = []

    def run(self):
        self.peer.sock.send_multipart(busclient.pack(busclient.HELLO, "nodemgr", 1, None))
        while not self.over:
            self.peer.serve(0.1)
            while self.events:
                topic, body = self.events.pop(0)
                self.peer.sock.send_multipart(busclient.pack(busclient.PUBLISH, topic, 1, body))

    def lost(self, node, space):
        self.events.append(("node.lost", {"node": node, "space": space, "why": "test"}))


class Agent:
    def __init__(self, keys, space="space-1"):
        self.keys, self.space = keys, space
        self.connect()

    def connect(self):
        self.sock = busclient.context.socket(zmq.DEALER)
        for option, value in ((zmq.LINGER, 0), (zmq.IMMEDIATE, 1), (zmq.PROBE_ROUTER, 1),
                              (zmq.SNDHWM, 0)):
            self.sock.setsockopt(option, value)
        self.sock.curve_serverkey = master
        self.sock.curve_publickey, self.sock.curve_secretkey = self.keys
        self.sock.connect(f"tcp://127.0.0.1:{port}")

    def get(self, timeout=3.0):
        if not self.sock.poll(int(timeout * 1000)):
            return None
        head, body = self.sock.recv_multipart()
        return Msg(head, body)

    def want(self, kind, timeout=3.0, **attrs):
        """The next message of this kind; others in front of it are passed over."""
        end = time.monotonic() + timeout
        while (m := self.get(max(0, end - time.monotonic()))) is not None:
            if m.kind == kind and all(getattr(m, k) == v for k, v in attrs.items()):
                return m
        return None

    def say(self, kind, launch=0, **more):
        self.sock.send_multipart([pack(kind, launch, **more), more.get("body", b"")])

    def hello(self):
        self.say(HELLO, body=self.space.encode())
        return self.want(HELLO, flags=0)

    def greet(self):
        """iofwd asks who is there; we say so, and it answers. It refuses us as
        long as it does not know our key; ZeroMQ then does not try again."""
        over = time.monotonic() + 10
        while (asked := self.want(HELLO, 0.5)) is None and time.monotonic() < over:
            self.sock.close()
            self.connect()
        return asked and asked.flags & GONE and self.hello()


class Reader:
    def __init__(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(3)
        self.sock.connect(tmp + "/run/iofwd")
        self.fds = []

    def open(self, launch, nodes, offsets=None, limit=65536, flags=0):
        self.launch = launch
        offsets = offsets or [(0, 0, 0)] * len(nodes)
        body = struct.pack(f"<I{len(nodes)}i", len(nodes), *nodes)
        body += b"".join(struct.pack("<3Q", *o) for o in offsets)
        self.say(OPEN, rank=0, limit=limit, flags=flags, body=body)
        return self

    def say(self, kind, **more):
        self.sock.sendall(pack(kind, self.launch, **more) + more.get("body", b""))

    def bytes(self, n):
        got = b""
        while len(got) < n:
            part, fds, _, _ = self.recv(n - len(got))
            self.fds += fds
            if not part:
                raise EOFError
            got += part
        return got

    def recv(self, n):
        data, anc, flags, addr = self.sock.recvmsg(n, socket.CMSG_SPACE(16))
        fds = array.array("i")
        for level, kind, content in anc:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[:len(content) - len(content) % fds.itemsize])
        return data, list(fds), flags, addr

    def get(self, timeout=3.0):
        self.sock.settimeout(timeout)
        try:
            head = self.bytes(40)
            m = Msg(head)
            m.body = self.bytes(m.len) if m.len else b""
            return m
        except (EOFError, ConnectionError):
            return "closed"
        except socket.timeout:
            return None

    def want(self, kind):
        while (m := self.get()) not in (None, "closed"):
            if m.kind == kind:
                return m
        return m

    def close(self):
        self.sock.close()


def launch_id():
    return random.getrandbits(62)


def rss_kb(prog):
    with open(f"/proc/{procs[prog].pid}/status", encoding="utf8") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


def relay():
    one = launch_id()
    r = Reader().open(one, [0, 1], limit=4096)
    ok(getattr(r.get(), "kind", 0) == GO, "OPEN is answered by GO")
    m = a.want(OPEN)
    uid, n, rank, _, *offsets = struct.unpack("<IIII3Q", m.body)
    ok((uid, n, rank, offsets, m.limit) == (os.getuid(), 1, 0, [0, 0, 0], 4096),
       "the node is told who reads which of its ranks, from where, with what credit", m)
    a.say(DATA, one, fd=1, rank=0, body=b"hello")
    m = r.get()
    ok(m.kind == DATA and m.body == b"hello" and m.node == 0, "its bytes reach the reader", m)
    a.say(DATA, one, fd=1, rank=0, body=b"hello again", offset=0)
    m = r.get()
    ok(m.body == b" again" and m.offset == 5, "what was had already is cut off", m)
    a.say(DATA, one, fd=1, rank=0, body=b"x", offset=100)
    m = a.get()
    ok(m.kind == RESUME and m.offset == 11, "a gap is answered by RESUME", m)
    a.say(DATA, one, fd=1, rank=0, body=b"!" * 5000, offset=11)
    a.say(DATA, one, fd=1, rank=1, body=b"not my rank")
    a.say(DATA, one, fd=1, rank=7, body=b"nobody's rank")
    a.say(DATA, one + 1, fd=1, rank=0, body=b"nobody's launch")
    a.say(DATA, one, fd=1, rank=0, flags=EOF, offset=11)
    m = r.get()
    ok(m.flags == EOF and m.len == 0 and m.offset == 11,
       "more than the credit, another node's rank and no launch are not relayed; the end is", m)
    r.say(CREDIT, fd=1, rank=0, offset=11, limit=9000, flags=EOF)
    m = a.want(CREDIT)
    ok(m.offset == 11 and m.flags == EOF, "the reader's acknowledgement reaches the node", m)
    r.close()


def standard_input():
    one = launch_id()
    r = Reader().open(one, [0, 1, 1])
    r.want(GO)
    ok(a.want(OPEN) and b.want(OPEN), "both nodes of a launch are told")
    a.say(RESUME, one, offset=0, limit=1000)
    ok(r.get(0.2) is None, "no credit for stdin before both have answered")
    b.say(RESUME, one, offset=0, limit=500)
    m = r.get()
    ok(m.kind == CREDIT and (m.rank, m.limit) == (ALL, 500), "then what the fuller one takes", m)
    r.say(DATA, body=b"to all", flags=EOF)
    got = [x.want(DATA) for x in (a, b)]
    ok(all(m and m.body == b"to all" and m.flags == EOF for m in got), "each gets a copy")
    a.say(CREDIT, one, offset=6, limit=2000, flags=EOF)
    ok(r.get(0.2) is None, "one node's acknowledgement is not enough")
    b.say(CREDIT, one, flags=GONE)
    m = r.get()
    ok(m.kind == CREDIT and (m.offset, m.limit, m.flags) == (6, 2000, EOF),
       "a node where nobody reads it any more does not count", m)
    r.close()

    r = Reader().open(one := launch_id(), [0, 1])
    r.want(GO)
    a.say(RESUME, one, offset=0, limit=10)
    r.say(CLOSE, rank=1, flags=GONE)
    ok(r.get().limit == 10, "a rank that the reader gives up is not waited for")
    r.say(DATA, body=b"much too long")
    ok(r.want(None) == "closed", "stdin beyond the credit ends the connection")
    ok(a.want(CLOSE, launch=one).flags == GONE, "and closes the streams")


def readers_come_and_go():
    one = launch_id()
    r = Reader().open(one, [0])
    a.want(OPEN)
    r.close()
    ok(a.want(CLOSE, 0.5, launch=one) is None, "a live process that lost its connection is waited for")
    r = Reader().open(one, [0], [(0, 3, 0)])
    m = a.want(OPEN)
    ok(struct.unpack_from("<4I3Q", m.body)[5] == 3, "it comes back and goes on from where it was", m)
    m = a.want(CREDIT)
    ok(m.offset == 3, "and the node may forget what it has", m)
    second = Reader().open(one, [0])
    ok(r.want(None) == "closed" and second.want(GO).kind == GO,
       "a newer connection takes the place of the older")
    second.close()

    one = launch_id()
    child = os.fork()
    if child == 0:
        r = Reader().open(one, [0])
        r.want(GO)
        signal.pause()
    a.want(OPEN, launch=one)
    t = time.monotonic()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    m = a.want(CLOSE, launch=one)
    ok(m and m.flags == GONE and time.monotonic() - t < 1, "a reader that died is told of at once")

    one = launch_id()
    r = Reader().open(one, [0])
    r.want(GO)
    if os.getuid() == 0:
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            other = Reader().open(one, [0])
            os._exit(0 if other.get() == "closed" else 1)
        ok(os.waitpid(child, 0)[1] == 0, "another user cannot take a launch's place")
    a.say(DATA, one, fd=1, rank=0, body=b"mine")
    ok(r.get().body == b"mine", "the first reader has it still")
    a.say(NONE, one, flags=GONE)
    ok(r.want(NONE).flags == GONE and r.get() == "closed",
       "a reader whom the node refuses is told so and sent away")


def nonsense():
    for text, bytes_ in (("noise", os.urandom(4096)),
                         ("a message before OPEN", pack(CREDIT, 1, fd=1, rank=0)),
                         ("a body over the limit", HEAD.pack(OPEN, 0, 0, 0, 1, 0, 0, 1 << 30, 0)),
                         ("no ranks", pack(OPEN, 1, rank=0, body=b"1234") + bytes(4)),
                         ("a short OPEN", pack(OPEN, 1, rank=0, body=b"1234") + b"\1\0\0\0"),
                         ("too many ranks", HEAD.pack(OPEN, 0, 0, 0, 1, 1 << 40, 0, 4, 0) +
                          b"\1\0\0\0")):
        r = Reader()
        r.sock.sendall(bytes_)
        ok(r.get() == "closed", f"{text}: closed")
    for text, what in (("CREDIT for what was not sent", dict(kind=CREDIT, fd=1, offset=9)),
                       ("RESUME past the end", dict(kind=RESUME, fd=1, offset=9)),
                       ("a rank too many", dict(kind=CREDIT, fd=1, rank=1)),
                       ("DATA on stdout", dict(kind=DATA, fd=1, body=b"x")),
                       ("HELLO", dict(kind=HELLO)), ("BULK", dict(kind=BULK))):
        r = Reader().open(launch_id(), [0])
        r.want(GO)
        what.setdefault("rank", 0)
        r.say(**what)
        ok(r.get() == "closed", f"{text} from a reader: closed")
    stranger = Agent(zmq.curve_keypair())
    ok(stranger.get(0.5) is None, "an unknown key gets no word")
    stranger.sock.close()
    for frames in ([b""], [b"x"], [os.urandom(40), b""], [bytes(40), b"", b"", b""]):
        a.sock.send_multipart(frames)
    ok(a.hello(), "what an agent says without sense is passed over")


def agents_come_and_go():
    one = launch_id()
    r = Reader().open(one, [0], limit=100000)
    r.want(GO)
    a.want(OPEN)
    a.say(DATA, one, fd=1, rank=0, body=b"12345")
    r.get()
    r.say(CREDIT, fd=1, rank=0, offset=2, limit=100002)
    a.want(CREDIT)
    a.sock.close()
    a.connect()
    ok(a.greet(), "an agent that connects again is asked who it is")
    a.sock.close()
    a.connect()
    asked = a.get(5)
    a.say(HELLO, body=a.space.encode())
    m = a.get()
    ok(asked.flags & GONE and m.kind == OPEN and struct.unpack_from("<4I3Q", m.body)[5] == 5,
       "and told at once from where to go on", asked, m)
    m = a.get()
    ok(m.kind == CREDIT and m.offset == 2 and m.limit > 5, "with the credit that it had", m)
    a.space = "space-2"
    a.hello()
    m = r.want(NONE)
    ok(m.rank == ALL and m.node == 0, "a node that was started anew has nothing of the launch", m)
    r.close()
    r = Reader().open(launch_id(), [0])
    r.want(GO)
    nodemgr.lost(0, a.space)
    m = r.want(NONE)
    ok(m not in (None, "closed") and m.node == 0, "nor has one that is lost", m)
    r.close()
    while a.get(0.2):
        pass
    a.say(HELLO, body=a.space.encode())
    ok(a.get(0.5) is None, "what is left of its machine says hello, and gets no answer")
    r = Reader().open(one := launch_id(), [0])
    r.want(GO)
    ok(a.get(0.5) is None, "nor what is opened there")
    a.space = "space-3"
    a.say(HELLO, body=a.space.encode())
    ok(a.want(OPEN, launch=one), "which its next life gets")
    a.say(DATA, one, fd=1, rank=0, body=b"here")
    m = r.get()
    ok(m not in (None, "closed") and m.kind == DATA and m.body == b"here",
       "and whose reader hears of no loss", m)
    r.close()

    one = launch_id()
    r = Reader().open(one, [1])
    b.want(OPEN)
    b.sock.close()
    r.say(CLOSE, flags=GONE)
    ok(r.get(0.2) is not None, "a reader ends while a node is away")
    time.sleep(0.2)
    b.connect()
    b.want(HELLO, 5.0)
    b.say(HELLO, body=b.space.encode())
    m = b.want(CLOSE, launch=one)
    ok(m and m.flags == GONE, "the node is told when it is back")


def a_reader_that_does_not_read():
    one = launch_id()
    n = 64
    r = Reader().open(one, [0] * n, limit=512 * 1024)
    m = a.want(OPEN)
    ok(m.limit < 512 * 1024, "many streams share what one reader may have waiting", m)
    piece, sent, told = b"x" * 65536, [0] * n, [m.limit] * n
    for i in range(n):  # well over the credit
        for _ in range(8):
            a.say(DATA, one, fd=1, rank=i, offset=sent[i], body=piece)
            sent[i] += len(piece)
    a.hello()
    other = Reader().open(two := launch_id(), [0])
    other.want(GO)
    a.say(DATA, two, fd=1, rank=0, body=b"through")
    ok(other.get().body == b"through", "another reader is served beside it")
    ok(rss_kb("iofwd") < 64 * 1024, f"iofwd stays small: {rss_kb('iofwd')} kB")
    received, sent, over = [0] * n, [0] * n, time.monotonic() + 20
    size = 3 * len(piece)
    while min(received) < size and time.monotonic() < over:
        while (m := a.get(0)) is not None:  # a sender that does as it is told
            if m.launch != one or m.kind not in (CREDIT, RESUME):
                continue
            told[m.rank] = max(told[m.rank], m.limit)
            if m.kind == RESUME:
                sent[m.rank] = m.offset
        for i in range(n):
            while (left := min(told[i], size) - sent[i]) > 0:
                part = piece[:left]
                a.say(DATA, one, fd=1, rank=i, offset=sent[i], body=part)
                sent[i] += len(part)
        while (m := r.get(0.05)) not in (None, "closed"):
            if m.kind == DATA:
                if m.offset != received[m.rank]:
                    ok(False, "bytes come in order", m)
                received[m.rank] += m.len
                r.say(CREDIT, fd=1, rank=m.rank, offset=received[m.rank],
                      limit=received[m.rank] + 512 * 1024)
    ok(min(received) >= size, "and when it reads again, every stream goes on", received)
    r.close()
    other.close()


def handover():
    one = launch_id()
    r = Reader().open(one, [0], limit=512 * 1024, flags=RAW)
    a.want(OPEN)
    piece, sent, invitation = b"y" * 65536, 0, None
    while not invitation and sent < 20 << 20:
        a.say(DATA, one, fd=1, rank=0, offset=sent, body=piece)
        sent += len(piece)
        r.want(DATA)
        r.say(CREDIT, fd=1, rank=0, offset=sent, limit=sent + 512 * 1024)
        while not invitation and a.sock.poll(0):
            m = a.get()
            invitation = m if m.kind == BULK else None
    ok(invitation and sent >= 8 << 20, "a bulk stream's node is invited to the bulk channel")
    token, key, bulk_port = struct.unpack("<32s32sH", invitation.body)
    ok(bulk_port == port + 1, "on the next port", bulk_port)
    wrong = socket.create_connection(("127.0.0.1", bulk_port))
    wrong.settimeout(3)
    wrong.sendall(b"0" * 32 + struct.pack("<Q", sent))
    ok(wrong.recv(1) == b"", "a token that was not given out is shown the door")
    c = socket.create_connection(("127.0.0.1", bulk_port))
    c.sendall(token + struct.pack("<Q", sent + 5))
    ok(r.get(0.3) is None, "the reader hears nothing while earlier bytes are on their way")
    a.say(DATA, one, fd=1, rank=0, offset=sent, body=b"last5")
    m = r.get()
    ok(m.kind == DATA and m.body == b"last5", "then it gets these", m)
    m = r.get()
    ok(m.kind == BULK and m.offset == sent + 5 and m.body == token + key and len(r.fds) == 1,
       "and the connection, with token and key", m)
    given = socket.socket(fileno=r.fds.pop())
    c.sendall(b"direct")
    ok(given.recv(6) == b"direct", "which leads to the agent")
    r.say(RESUME, fd=1, rank=0, offset=sent + 9, limit=sent + 1000)
    m = a.want(RESUME)
    ok((m.offset, m.limit) == (sent + 9, sent + 1000), "RESUME brings the stream back", m)
    a.say(DATA, one, fd=1, rank=0, offset=sent + 9, body=b"normal")
    ok(r.get().body == b"normal", "to the normal way")
    r.close()


port = free_ports()
start("busd", "--listen", f"tcp://127.0.0.1:{free_ports()}")
with open(tmp + "/run/master.pub", "rb") as pub:
    master = pub.read().strip()
key_a, key_b = zmq.curve_keypair(), zmq.curve_keypair()
nodemgr = Nodemgr([[key_a[0].decode(), 0], [key_b[0].decode(), 1]])
nodemgr.start()
try:
    ok(start("iofwd", "--port", str(port)), "iofwd starts")
    a = Agent(key_a)
    ok(a.greet(), "an agent with a known key is asked who it is, and answered")
    b = Agent(key_b)
    ok(b.greet(), "and another")
    relay()
    standard_input()
    readers_come_and_go()
    nonsense()
    agents_come_and_go()
    a_reader_that_does_not_read()
    handover()
    streams = busclient.Local().call("iofwd.streams")
    ok(isinstance(streams, list), "iofwd.streams lists what there is", streams)
    procs["iofwd"].terminate()
    ok(procs["iofwd"].wait(5) == 0, "SIGTERM ends it with status 0")
    ok(not os.path.exists(tmp + "/run/iofwd"), "and leaves no socket behind")
finally:
    nodemgr.over = True
    for p in procs.values():
        if p.poll() is None:
            p.terminate()
            p.wait(5)
    if failed:
        for log_name in os.listdir(tmp + "/log"):
            with open(f"{tmp}/log/{log_name}", encoding="utf8", errors="replace") as log_file:
                print("".join(f"# {log_name}: {line}" for line in log_file.readlines()[-20:]))
    shutil.rmtree(tmp, ignore_errors=True)
print(f"1..{count}")
sys.exit(failed > 0)
