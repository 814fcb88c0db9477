#!/usr/bin/env python3
"""terminal.py [STEP...] -- COMMAND...: runs COMMAND on a new terminal and types into it.

STEPs in their order: size:ROWSxCOLUMNS (before the start)  expect:TEXT  send:TEXT (\\n, \\x10 ...)  resize:ROWSxCOLUMNS  sleep:SECONDS.
resize: types "stty size" until the command's shell sees the new size. Docker's client may miss a SIGWINCH that comes before it listens, just
after the start, so the size is set again each second.
What the command prints goes to stdout. Exit status: the command's; 98 if an expected text did not come, 99 if the command did not end.
"""

import codecs
import errno
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

PATIENCE = 20.0


def size_of(text):
    return struct.pack("HHHH", *map(int, text.split("x")), 0, 0)


class Terminal:
    def __init__(self, command, size):
        self.end, self.seen, self.used, self.closed = time.time() + PATIENCE, b"", 0, False
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.execvp(command[0], command)

    def read(self, until):
        """takes in what comes within that time"""
        wait = max(0.0, until - time.time())
        if self.closed or not select.select([self.fd], [], [], wait)[0]:
            return
        try:
            data = os.read(self.fd, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # what Linux says once the other end is closed
                raise
            data = b""
        self.closed = not data
        self.seen += data
        os.write(1, data)

    def expect(self, text):
        wanted = codecs.decode(text, "unicode_escape").encode()
        while (at := self.seen.find(wanted, self.used)) < 0 and not self.closed and time.time() < self.end:
            self.read(min(self.end, time.time() + 0.2))
        if at < 0:
            self.give_up(f"no {text!r}", 98)
        self.used = at + len(wanted)

    def resize(self, size):
        seen = size.replace("x", " ").encode()
        while self.seen.find(seen, self.used) < 0 and not self.closed and time.time() < self.end:
            # the kernel signals a change only
            for one in ("24x80", size):
                fcntl.ioctl(self.fd, termios.TIOCSWINSZ, size_of(one))
            self.pause(0.3)
            os.write(self.fd, b"stty size\n")
            self.pause(0.7)
        self.expect(seen.decode())

    def pause(self, seconds):
        until = time.time() + seconds
        while time.time() < until and not self.closed:
            self.read(until)

    def give_up(self, why, code):
        print(f"\nterminal.py: {why}")
        os.kill(self.pid, signal.SIGKILL)
        sys.exit(code)

    def take(self, step):
        kind, _, value = step.partition(":")
        if kind == "expect":
            self.expect(value)
        elif kind == "send":
            os.write(self.fd, codecs.decode(value, "unicode_escape").encode("latin1"))
        elif kind == "resize":
            self.resize(value)
        elif kind == "sleep":
            self.pause(float(value))

    def finish(self):
        while not self.closed and time.time() < self.end:
            self.read(min(self.end, time.time() + 0.2))
        while time.time() < self.end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
            time.sleep(0.02)
        self.give_up("the command did not end", 99)


def main():
    cut = sys.argv.index("--")
    steps, command = sys.argv[1:cut], sys.argv[cut + 1 :]
    sizes = [s[5:] for s in steps if s.startswith("size:")]
    terminal = Terminal(command, size_of(sizes[0] if sizes else "24x80"))
    for step in steps:
        terminal.take(step)
    terminal.finish()


main()
