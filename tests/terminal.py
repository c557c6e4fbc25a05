#!/usr/bin/python3
"""terminal - an interactive shell on a terminal of its own, for tests of job control

    terminal STEP...

Each STEP is one of
    'text'     type this line          '^C' '^Z' '^\\' '^D'  press these keys
    '=REGEX'   wait until the terminal shows it, after what was matched before
    '?CMD'     wait until this command succeeds (in bash)
    '!REGEX'   nothing like that has been shown since the last match
It ends with 1, and what the terminal showed, when a wait takes more than 15 s.
"""
import os
import pty
import re
import select
import subprocess
import sys
import time

KEYS = {"^C": b"\x03", "^Z": b"\x1a", "^\\": b"\x1c", "^D": b"\x04"}
LIMIT = 15


class Terminal:
    def __init__(self):
        self.shown, self.at = "", 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(PS1="ready> ", TERM="dumb", HISTFILE="")
            os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])

    def look(self, timeout):
        if select.select([self.fd], [], [], timeout)[0]:
            try:
                self.shown += os.read(self.fd, 65536).decode(errors="replace").replace("\r", "")
            except OSError:
                return False
        return True

    def expect(self, pattern):
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            m = re.compile(pattern, re.M).search(self.shown, self.at)
            if m:
                self.at = m.end()
                return True
            if not self.look(0.1):
                break
        return False

    def until(self, command):
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            if subprocess.run(["/bin/bash", "-c", command], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0:
                return True
            self.look(0.1)
        return False

    def step(self, step):
        if step in KEYS:
            os.write(self.fd, KEYS[step])
            return True
        if step[0] == "=":
            return self.expect(step[1:])
        if step[0] == "?":
            return self.until(step[1:])
        if step[0] == "!":
            return re.compile(step[1:], re.M).search(self.shown, self.at) is None
        os.write(self.fd, step.encode() + b"\n")
        return self.expect(re.escape(step))  # its echo is no answer

    def end(self):
        """Hang up: the shell and its jobs get SIGHUP."""
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def main():
    t = Terminal()
    good = t.expect("ready> ")
    for step in sys.argv[1:]:
        good = good and t.step(step)
        if not good:
            print(f"at {step}; the terminal shows:\n{t.shown}")
            break
    t.end()
    sys.exit(not good)


main()
