#!/usr/bin/python3
"""ask - one request over the bus, for tests: ask TOPIC [JSON] prints the answer as JSON

With -e EXPR the value of this Python expression is printed, v being the answer.
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import busclient  # noqa: E402


def main():
    args = sys.argv[1:]
    expr = None
    if args[0] == "-e":
        expr, args = args[1], args[2:]
    body = json.loads(args[1]) if len(args) > 1 else {}
    try:
        value = busclient.Local().call(args[0], body, timeout=20)
    except busclient.Refused as no:
        sys.exit(f"ask: {no}")
    if expr is None:
        print(json.dumps(value, default=lambda o: o.decode(errors="replace")))
    else:
        print(eval(expr, {"v": value}))


main()
