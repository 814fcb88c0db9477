#!/usr/bin/env python3
"""hangs.py RUNTIME [CASE...]: what the runtime does when something does not answer.

A wait that may take as long as it likes must say what for (`state` after a second, the log after ten), and SIGTERM must end it with that
sentence; all others must come to an end. Afterwards `delete --force` succeeds, and nothing is left. Cases: all functions of the class
Cases. Last line: `N injected, N clean, N failed`, where each check is one; status 1 if any failed."""

import argparse
import ctypes
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import world as faults


class Cases:
    def __init__(self, world):
        self.world, self.checks, self.failed, self.case = world, 0, [], ""

    def check(self, what, good, *shown):
        self.checks += 1
        if not good:
            self.failed.append(what)
            print(f"FAILED {self.case}: {what}: {' '.join(map(str, shown))[-600:]}", flush=True)

    def config(self, **change):
        """A bundle like `spec`, changed."""
        w = self.world
        c = json.load(open(w.bundles["spec"] + "/long/config.json"))
        c["process"]["args"] = ["/bin/sleep", "10000"]
        for key, value in change.items():
            part = c
            *way, last = key.split("__")
            for name in way:
                part = part[name]
            part[last] = part[last] + value if isinstance(part.get(last), list) else value
        path = f"{w.bundles['spec']}/long/changed.json"
        json.dump(c, open(path, "w"))
        return ["-b", w.bundles["spec"] + "/long", "--config", path]

    def begin(self, *argv):
        w = self.world
        self.said = open(w.w + "/begun", "w+b")
        child = subprocess.Popen([*w.base, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.said)
        w.mine = {child.pid}  # its end is kept for us if another wait meets it
        return child

    def signal(self, child, number):
        """Without a look at whether it has ended: nobody else waits for it, so its pid stays its own."""
        if child.pid not in self.world.ended:
            os.kill(child.pid, number)

    def end(self, child, seconds):
        status = self.world.wait(child, seconds)
        self.world.mine = set()
        self.said.seek(0)
        return status, self.said.read().decode(errors="replace").strip()

    def nothing_left(self):
        rc, _, err = self.world.call("delete", "--force", "c", timeout=20)
        self.check("delete --force", rc == 0, rc, err)
        left = self.world.leftovers()
        self.check("nothing is left", not left, *left)
        if left:
            self.world.wipe()

    def named(self, child, sentence, pause=1.6, patience=8):
        """A call that waits is ended by SIGTERM, with a sentence."""
        time.sleep(pause)
        self.check("it waits", child.pid not in self.world.ended)
        self.signal(child, signal.SIGTERM)
        status, said = self.end(child, patience)
        self.check("SIGTERM ends it", status == 1, status, said)
        self.check("it says what it waited for", "SIGTERM while waiting for" in said and sentence in said, said)

    def up(self):
        for argv in (["create", *self.config(), "c"], ["start", "c"]):
            rc, _, err = self.world.call(*argv)
            if rc:
                raise SystemExit(f"setup: {argv[0]}: {err}")

    # what may take as long as it likes

    def hook(self):
        """A hook of the host without a timeout: state, log, SIGTERM."""
        child = self.begin("create", *self.config(hooks={"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}), "c")
        time.sleep(1.6)
        rc, out, err = self.world.call("state", "c")
        shown = json.loads(out) if rc == 0 else {}
        self.check("state shows it", shown.get("status") == "creating" and shown.get("phase") == "hook" and "/bin/sleep" in shown.get("step", ""), out, err)
        self.named(child, "createRuntime hook #0 /bin/sleep", 9.5)
        self.said.seek(0)
        self.check("the log names it after 10 s", b"10 s of waiting for hook" in self.said.read())
        self.nothing_left()

    def hook_inside(self):
        child = self.begin("create", *self.config(hooks={"createContainer": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}), "c")
        self.named(child, "createContainer hook #0")
        self.nothing_left()

    def hook_that_is_deleted(self):
        child = self.begin("create", *self.config(hooks={"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}), "c")
        time.sleep(0.5)
        rc, _, err = self.world.call("delete", "--force", "c", timeout=20)
        self.check("delete --force beside it", rc == 0, rc, err)
        self.signal(child, signal.SIGTERM)
        status, said = self.end(child, 8)
        self.check("create ends", status != "hang" and said, status, said)
        self.nothing_left()

    def stopped(self):
        """A created container whose init is stopped."""
        rc, _, err = self.world.call("create", *self.config(), "c")
        pid = self.world.pid()
        os.kill(pid, signal.SIGSTOP)
        child = self.begin("start", "c")
        self.named(child, "is stopped by a signal")
        os.kill(pid, signal.SIGCONT)
        self.nothing_left()

    def frozen_above(self):
        w = self.world
        self.up()
        file, on, off = (f"/sys/fs/cgroup/{w.parent}/cgroup.freeze", "1", "0") if w.unified else (f"/sys/fs/cgroup/freezer/{w.parent}/freezer.state", "FROZEN", "THAWED")
        open(file, "w").write(on)
        time.sleep(0.2)
        child = self.begin("exec", "--ignore-paused", "c", "/bin/true")
        time.sleep(1.6)
        self.signal(child, signal.SIGTERM)
        status, said = self.end(child, 10)
        self.check("exec ends", status != "hang" and said, status, said)
        self.check("exec says that it is frozen", "frozen" in said or "paused" in said, said)
        rc, _, err = w.call("kill", "c", "KILL")
        self.check("kill ends", rc != "hang", rc, err)
        rc, _, err = w.call("delete", "--force", "c", timeout=40)
        self.check("delete --force ends", rc == 0 or (rc != "hang" and err.strip()), rc, err)
        open(file, "w").write(off)
        self.nothing_left()

    def server(self, path):
        """A file system that answers until it is told not to."""
        fd = os.open("/dev/fuse", os.O_RDWR)
        os.makedirs(path, exist_ok=True)
        if ctypes.CDLL(None, use_errno=True).mount(b"mute", path.encode(), b"fuse", 0, f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()):
            raise OSError(ctypes.get_errno(), "mount fuse")

        def serve():
            while True:
                try:
                    asked = os.read(fd, 1 << 17)
                    _, what, unique, _ = struct.unpack("<IIQQ", asked[:24])
                    if what == 26:  # FUSE_INIT; nothing else is ever answered
                        body = struct.pack("<IIIIHHIIHH", 7, 31, 65536, 0, 12, 10, 65536, 1, 1, 0) + b"\0" * 32
                        os.write(fd, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        return fd

    def fuse(self):
        """A bind mount's source, and the root, on a file system that does not answer."""
        w = self.world
        subprocess.run(["mount", "-t", "fusectl", "fusectl", "/sys/fs/fuse/connections"], stderr=subprocess.DEVNULL, check=False)
        for what in ("source", "root"):
            # not where this program looks for what is left
            path = f"/var/tmp/{w.parent}-mute"
            fd = self.server(path)
            w.mounts = len(open("/proc/self/mountinfo").readlines())
            bind = {"destination": "/tmp", "type": "bind", "source": path + "/dir", "options": ["rbind"]}
            child = self.begin("create", *(self.config(mounts=[bind]) if what == "source" else self.config(root={"path": path + "/dir"})), "c")
            # a request that the server has taken cannot be given up: even SIGKILL waits for its answer
            self.named(child, path + "/dir", patience=20)
            device = next(line.split()[2].split(":")[1] for line in open("/proc/self/mountinfo") if line.split()[4] == path)
            kept = " ".join(w.leftovers())
            self.check("what cannot be undone is known", "state c[" in kept, kept)
            open(f"/sys/fs/fuse/connections/{device}/abort", "w").write("1")
            subprocess.run(["umount", "-l", path], check=True)
            os.close(fd)
            os.rmdir(path)
            w.mounts = len(open("/proc/self/mountinfo").readlines())
            self.nothing_left()

    # what comes to an end by itself

    def deaf(self, name):
        path = f"{self.world.w}/{name}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(0)
        keep = [listener]
        for _ in range(3):
            other = socket.socket(socket.AF_UNIX)
            other.setblocking(False)
            try:
                other.connect(path)
            except OSError:
                break
            keep.append(other)
        return path, keep

    def sockets(self):
        """Sockets that take no connections any more."""
        for name in ("console", "pidfd", "agent"):
            path, keep = self.deaf(name)
            notify = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}
            argv = {
                "console": ["--console-socket", path, *self.config(process__terminal=True)],
                "pidfd": ["--pidfd-socket", path, *self.config()],
                "agent": self.config(linux__seccomp=notify),
            }[name]
            child = self.begin("create", *argv, "c")
            status, said = self.end(child, 20)
            self.check(f"{name}: ends with a word", status == 1 and said, status, said)
            for one in keep:
                one.close()
            os.unlink(path)
            self.nothing_left()

    def bus(self):
        """A D-Bus that takes connections and says nothing."""
        path, held = self.world.w + "/bus", []
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(8)
        # of our mount namespace: on the machine it would say that systemd runs
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        os.makedirs("/run/systemd/system")
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=" + path
        child = self.begin("--systemd-cgroup", "create", *self.config(linux__cgroupsPath="system.slice:faults:c"), "c")
        status, said = self.end(child, 45)
        del os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
        self.check("ends with a word", status == 1 and said, status, said)
        subprocess.run(["umount", "/run"], check=True)
        listener.close()
        os.unlink(path)
        self.nothing_left()

    def fifos(self):
        """A log and a pid file that are FIFOs without a reader."""
        path = self.world.w + "/fifo"
        for argv in (["--log", path, "create", *self.config(), "c"], ["create", "--pid-file", path, *self.config(), "c"]):
            os.mkfifo(path)
            child = self.begin(*argv)
            status, said = self.end(child, 12)
            self.check("it ends", status == 0 or (status == 1 and said), status, said)
            if os.path.exists(path):
                os.unlink(path)
            self.nothing_left()

    def sigstop(self):
        """`run -d` is stopped somewhere, the container deleted, and the call continued."""
        for number in range(20):
            child = self.begin("run", "-d", *self.config(), "c")
            time.sleep(random.Random(number).uniform(0, 0.03))
            self.signal(child, signal.SIGSTOP)
            rc, _, err = self.world.call("delete", "--force", "c", timeout=20)
            self.check("delete --force beside it", rc == 0, rc, err)
            self.signal(child, signal.SIGCONT)
            status, said = self.end(child, 10)
            self.check("it ends", status == 0 or (status == 1 and said), status, said)
            self.nothing_left()

    def killed(self):
        """`run` is killed somewhere."""
        for number in range(40):
            child = self.begin("run", *self.config(), "c")
            time.sleep(random.Random(number).uniform(0, 0.04))
            self.signal(child, signal.SIGKILL)
            self.end(child, 5)
            self.nothing_left()


def main():
    helpers = ("config", "begin", "nothing_left", "up")
    names = [n for n, what in vars(Cases).items() if getattr(what, "__code__", None) and what.__code__.co_argcount == 1 and n not in helpers]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    faults.arguments(p)
    p.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(names))
    args = p.parse_intermixed_args()
    args.bundles = "spec"
    with faults.entered(args) as world:
        cases = Cases(world)
        os.makedirs(world.root, mode=0o700)
        for name in ("/begun", "/b-spec/long/changed.json"):
            open(world.w + name, "w").close()
        world.call("run", "-b", world.bundles["spec"] + "/short", "c")
        world.remember()
        for name in args.cases or names:
            begun, before = time.time(), cases.checks
            cases.case = name
            getattr(cases, name)()
            print(f"# {name}: {cases.checks - before} checks, {time.time() - begun:.0f} s", flush=True)
        world.wipe()
    print(f"{cases.checks} injected, {cases.checks - len(cases.failed)} clean, {len(cases.failed)} failed")
    sys.exit(bool(cases.failed))


main()
