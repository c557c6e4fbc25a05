#!/usr/bin/python3
"""boothostile HOST SEED: what nobody should send to a boot server, for tests

HTTP that is broken, oversized, out of its folder; DHCP and TFTP that are noise. Prints what
was answered with something that it should not be.
"""
import random
import socket
import struct
import sys

host, seed = sys.argv[1], int(sys.argv[2])
rnd = random.Random(seed)
bad = 0


def http(data, wait=1.0):
    s = socket.create_connection((host, 4711), timeout=5)
    s.settimeout(wait)
    got = b""
    try:
        s.sendall(data)
        while len(got) < 1 << 20:
            more = s.recv(65536)
            if not more:
                break
            got += more
            if b"\r\n\r\n" in got and b"onnection: close" not in data:
                break
    except OSError:
        pass
    s.close()
    return got


def get(path, head=""):
    return http(f"GET {path} HTTP/1.1\r\nHost: x\r\n{head}Connection: close\r\n\r\n".encode("latin-1"))


def wants(what, answer, *codes):
    global bad
    status = answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/1.") else "none"
    if status not in codes or b"root:" in answer:
        bad += 1
        print(what, "->", status, answer[:80])


# out of the folder
for path in ["/../../../etc/passwd", "/i/../../etc/passwd", "/i/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
             "/i/" + "../" * 20 + "etc/passwd", "/i/" + "0" * 64 + "/../../etc/passwd", "/ipxe/../../etc/passwd",
             "/i/..%00", "/boot.ipxe/../../etc/passwd", "/i/", "/i//kernel"]:
    wants(path, get(path), "404", "400")
# what is no machine
for mac in ["", "x", "00:00", "00:11:22:33:44:55:66", "%00" * 6, "0" * 5000, "52-54-00-00-00-0g", "${net0/mac}",
            "%0a%0dHTTP/1.1 200"]:
    wants("mac " + mac[:20], get("/next?wait=0&mac=" + mac.replace(" ", "%20")), "400", "414", "431", "none")
    wants("ipxe " + mac[:20], get("/ipxe/" + mac.replace(" ", "%20")), "400", "404", "414", "431", "none")
# numbers out of range
for q in ["wait=-1", "wait=99999999999999999999", "wait=1e9", "port=0", "port=70000", "port=-5",
          "failed=http://1.2.3.4:99999/", "failed=" + "A" * 3000, "failed=%00", "why=" + "x" * 500]:
    wants(q[:30], get("/next?mac=52:54:00:00:00:00&" + q), "200", "202", "400", "414", "431")
for q in ["stage=net&ms=-1", "stage=net&ms=99999999999999999999999", "stage=%00", "stage=" + "n" * 2000, "stage="]:
    body = bytes(rnd.randrange(256) for _ in range(300))
    wants(q[:30], http(f"POST /stage?mac=52:54:00:00:00:00&{q} HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n"
                       "Connection: close\r\n\r\n".encode() + body), "204", "400", "414", "431")
for r in ["bytes=", "bytes=-", "bytes=5-2", "bytes=99999999999999999999-", "bytes=0-0,2-3", "lines=1-2", "bytes=-0",
          "bytes=abc", "bytes=1-2-3"]:
    wants(r, get("/i/" + "0" * 64, f"Range: {r}\r\n"), "404")
# too large, cut short, no HTTP at all
wants("long URL", get("/" + "a" * 100000), "404", "414", "431", "none")
wants("long header", get("/status", "X: " + "b" * 100000 + "\r\n"), "431", "413", "none", "400")
wants("many headers", get("/status", "".join(f"H{i}: x\r\n" for i in range(5000))), "431", "413", "none", "400")
wants("large body", http(b"POST /stage?mac=52:54:00:00:00:00&stage=net HTTP/1.1\r\nHost: x\r\n"
                         b"Content-Length: 1000000\r\nConnection: close\r\n\r\n" + b"z" * 1000000), "413", "none")
wants("body that never comes", http(b"POST /stage HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 0.3),
      "none", "413", "400")
wants("negative length", http(b"POST /stage HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 0.5), "400", "none")
for method in ["PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"]:
    wants(method, http(f"{method} /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()), "405", "400",
          "501", "none")
http(b"POST /stage HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nxx", 0.3)
for _ in range(150):
    http(bytes(rnd.randrange(256) for _ in range(rnd.randrange(1, 600))), 0.02)
for _ in range(150):  # nearly right
    text = bytearray(b"GET /next?mac=52:54:00:00:00:00&wait=0 HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ in range(rnd.randrange(1, 6)):
        text[rnd.randrange(len(text))] = rnd.randrange(256)
    http(bytes(text), 0.05)

# datagrams
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in (67, 69, 4011):
    for _ in range(200):
        u.sendto(bytes(rnd.randrange(256) for _ in range(rnd.randrange(1, 1400))), (host, port))
for _ in range(200):  # nearly DHCP
    p = bytearray(struct.pack(">BBBBIHH16x", 1, 1, rnd.choice([6, 0, 16, 255]), 0, rnd.getrandbits(32), 0, 0x8000))
    p += bytes(rnd.randrange(256) for _ in range(16)) + bytes(192) + b"\x63\x82\x53\x63"
    for _ in range(rnd.randrange(1, 20)):
        value = bytes(rnd.randrange(256) for _ in range(rnd.randrange(0, 60)))
        p += bytes([rnd.choice([53, 50, 60, 61, 82, 93, 97, 125, rnd.randrange(1, 254)]),
                    rnd.choice([len(value), 255, 0])]) + value
    u.sendto(bytes(p), (host, 67))
for name in ["../../../../etc/passwd", "/etc/passwd", "a" * 1000, "", "undionly.kpxe\0octet\0blksize\0999999999",
             "%s%n%x", "undionly.kpxe\0netascii"]:
    u.sendto(b"\0\1" + name.encode() + b"\0octet\0", (host, 69))
sys.exit(1 if bad else 0)
