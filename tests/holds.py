#!/usr/bin/env python3
"""Holds what a process cannot take along to another machine, until a signal ends it.

holds.py WORD...: all, or some of threads socket pipe lock deleted epoll memory timer
child dead full (a pipe of its own, and something in it). What goes along: own (such a
pipe, empty), brief (for a moment each, it has children that have ended). Says "ready"
when it holds that, and "whole" at its end.
"""
import ctypes
import fcntl
import mmap
import os
import select
import signal
import socket
import sys
import threading

words = sys.argv[1:]
kept = []
over = False


def want(word):
    return word in words or "all" in words


def end(_sig, _frame):
    global over
    over = True


signal.signal(signal.SIGUSR1, end)
if want("socket"):
    kept.append(socket.socket())
if want("pipe"):
    kept.append(os.pipe())
    if os.fork() == 0:  # which has it, too
        while os.getppid() > 1:
            signal.sigtimedwait([], 0.1)
        os._exit(0)
if "own" in words or "full" in words:
    own = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_inheritable(own[1], True)
    os.dup2(own[0], 60)
    fcntl.fcntl(own[0], fcntl.F_SETPIPE_SZ, 8192)
if "full" in words:
    os.write(own[1], b"awake")
if want("lock"):
    lock = open("/tmp/held", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    kept.append(lock)
if want("deleted"):
    gone = open("/tmp/gone", "w")
    os.unlink("/tmp/gone")
    kept.append(gone)
if want("epoll"):
    kept.append(select.epoll())
if want("memory"):
    kept.append(mmap.mmap(-1, 4096))
if want("timer"):
    timer = ctypes.c_void_p()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.timer_create(~1 << 3 | 2, None, ctypes.byref(timer)) != 0:  # the clock of process 1
        sys.exit("timer_create failed")
if want("child"):
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        while True:
            signal.pause()
    kept.append(child)
if want("dead"):
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
if want("threads"):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
while not over:
    if "brief" in words and os.fork() == 0:
        os._exit(0)
    signal.sigtimedwait([], 0.01)
    if "brief" in words:
        os.wait()
        signal.sigtimedwait([], 0.03)
if want("child"):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
if "own" in words:
    os.write(own[1], b"awake")
    if (os.read(60, 9) != b"awake" or os.get_blocking(own[0]) or os.get_blocking(own[1]) or
            os.get_inheritable(own[0]) or not os.get_inheritable(own[1]) or
            fcntl.fcntl(own[1], fcntl.F_GETPIPE_SZ) != 8192):
        sys.exit("its pipe is another")
if want("dead"):
    os.waitpid(dead, 0)
print("whole", flush=True)
os._exit(0)
