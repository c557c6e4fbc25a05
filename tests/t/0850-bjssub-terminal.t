#!/usr/bin/python3
"""0850-bjssub-terminal: bjssub -i at a terminal: the command has it, with its size;
Ctrl-C asks first while it waits, and is the command's while it runs"""
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

BUILD = os.path.realpath(os.environ.get("CM_BUILD", "build"))
os.environ["PATH"] = BUILD + "/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAME = f"t{os.getpid()}"
count = bad = 0


def ok(good, text, *why):
    global count, bad
    count += 1
    bad += not good
    print(f"{'' if good else 'not '}ok {count} - {text}", flush=True)
    if not good:
        for line in map(str, why):
            print("#   " + line.replace("\n", "\n#   "), flush=True)


def run(*words):
    return subprocess.run(words, capture_output=True, text=True)


class Terminal:
    """bjssub with a terminal of 33 rows and 77 columns."""

    def __init__(self, *words):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            for sig in signal.SIGINT, signal.SIGQUIT:  # ignored where we run in the background
                signal.signal(sig, signal.SIG_DFL)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
            os.execvp("bjssub", ["bjssub", *words])

    def until(self, what, seconds=20):
        end = time.monotonic() + seconds
        while what not in self.text and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    data = os.read(self.fd, 4096)
                except OSError:
                    break
                if not data:
                    break
                self.text += data.decode(errors="replace").replace("\r\n", "\n")
        return what in self.text

    def type(self, text):
        try:
            os.write(self.fd, text.encode())
        except OSError:
            pass  # it has just ended

    def status(self, seconds=20, press=None):
        """How it ends; press: again and again, for two of them must come in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if press:
                self.type(press)
            self.until("\0never\0", 0.3)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        self.text += "\n[still there]\n" + run("bjsstat").stdout + run(
            "ps", "-o", "pid,pgid,tpgid,stat,wchan:24,pending,blocked,ignored,args",
            "-g", str(self.pid)).stdout
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return None


def tests():
    t = Terminal("-i", "-n", "2", "stty size; read x; echo got $x on $NODES; exit 9")
    ok(t.until("\n33 77\n"), "the command has the terminal, with its size", t.text)
    t.type("words\n")
    ok(t.until("got words on 0,1\n"), "it reads from there", t.text)
    ok(t.status() == 9, "its status is ours")

    # Not a shell that says it: dash loses a SIGINT in the moment in which it starts a command.
    t = Terminal("-i", r"""exec perl -e '$| = 1; print "begun\n"; sleep 1000'""")
    ok(t.until("begun\n"), "another command runs", t.text)
    t.type("\x03")
    got = t.status()
    ok(got == 130, "Ctrl-C is the command's: it dies of it", got, t.text)

    t = Terminal("-i", "trap 'echo asked' INT; echo begun; while :; do sleep 0.1; done")
    ok(t.until("begun\n"), "one that does not mind Ctrl-C", t.text)
    t.type("\x03")
    ok(t.until("asked\n"), "is asked the first time", t.text)
    got = t.status(press="\x03")
    ok(got is not None and got > 128, "and ended the second", got, t.text)

    run("bjsctl", "drain", "default")
    t = Terminal("-i", "true")
    ok(t.until("Waiting for interactive job nodes.\n"), "one that waits", t.text)
    ok(t.until("Pool default is drained"), "says why after a while", t.text)
    t.type("\x03")
    ok(t.until("still waits for its nodes; Ctrl-C again gives it up"), "Ctrl-C asks", t.text)
    got = t.status(press="\x03")
    ok(got == 130, "twice leaves", got, t.text)
    out = run("bjsstat").stdout
    ok(len(out.splitlines()) == 2, "and takes the job away", out)

    t = Terminal("-i", "true")
    ok(t.until("Waiting for interactive job nodes.\n"), "another one that waits", t.text)
    os.kill(t.pid, signal.SIGKILL)
    os.waitpid(t.pid, 0)
    end = time.monotonic() + 20
    while len(run("bjsstat").stdout.splitlines()) > 2 and time.monotonic() < end:
        time.sleep(0.1)
    out = run("bjsstat").stdout
    ok(len(out.splitlines()) == 2, "is no job any more once its bjssub is killed", out)


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root")
        return 0
    up = run("clustermatic", "up", "--name", NAME, "--virtual", "2")
    os.environ["CM_RUNDIR"] = f"/run/clustermatic-{NAME}"
    try:
        ok(up.returncode == 0, "a cluster", up.stderr)
        if up.returncode == 0:
            tests()
    finally:
        down = run("clustermatic", "down", "--name", NAME, "--purge")
    ok(down.returncode == 0, "is ended", down.stderr)
    print(f"1..{count}")
    return bad != 0


sys.exit(main())
