#!/usr/bin/python3
"""dhcpask INTERFACE MAC [ARCH]: one DHCPDISCOVER as PXE firmware sends it, for tests

Prints what each answer within two seconds offers: address, next server, boot file, class.
"""
import os
import random
import socket
import struct
import sys
import time

interface, mac = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", ""))
arch = int(sys.argv[3]) if len(sys.argv) > 3 else 0
xid = random.getrandbits(32)
options = [(53, b"\x01"), (60, b"PXEClient:Arch:%05d:UNDI:002001" % arch), (93, struct.pack(">H", arch)),
           (94, b"\x01\x02\x01"), (97, b"\0" + os.urandom(16)), (55, bytes([1, 3, 43, 60, 66, 67]))]
packet = struct.pack(">BBBBIHH16x", 1, 1, 6, 0, xid, 0, 0x8000) + mac.ljust(16, b"\0") + bytes(192)
packet += b"\x63\x82\x53\x63" + b"".join(bytes([t, len(v)]) + v for t, v in options) + b"\xff"

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
s.bind(("", 68))
end = time.monotonic() + 2
s.sendto(packet, ("255.255.255.255", 67))
while time.monotonic() < end:
    s.settimeout(max(0.01, end - time.monotonic()))
    try:
        data = s.recv(2000)
    except socket.timeout:
        break
    if struct.unpack(">I", data[4:8])[0] != xid:
        continue
    found, at = {}, 240
    while at + 1 < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        found[data[at]] = data[at + 2:at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    file = data[108:236].rstrip(b"\0") or found.get(67, b"").rstrip(b"\0")
    print("address", socket.inet_ntoa(data[16:20]), "next", socket.inet_ntoa(data[20:24]),
          "file", file.decode(errors="replace"), "class", found.get(60, b"").decode(errors="replace"),
          "menu", "yes" if 43 in found else "no")
