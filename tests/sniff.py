#!/usr/bin/env python3
"""sniff.py TEXT END READY: does TEXT go by here before END does? 0: yes, 1: no,
2: END has not come

READY is made once it looks.
"""
import socket
import sys

text, end, ready = sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3]
ETH_P_ALL, SO_RCVBUFFORCE = 3, 33
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
s.settimeout(120)
open(ready, "w").close()
seen, packet = False, b""
while end not in packet:
    try:
        packet = s.recv(1 << 17)
    except socket.timeout:
        sys.exit(2)
    seen = seen or text in packet
sys.exit(not seen)
