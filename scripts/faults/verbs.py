"""The verbs that faults are injected into: what each needs, and whether what it says is true."""

import json
import os
import re
import shutil
import subprocess
import time

from world import VIEW, view


class Op:
    """A verb under test. `keeps`: the container outlives the call, and is used for many."""
    keeps, wait_all, makes = False, False, False
    during, seen = None, None

    def view(self):
        """What the process sees of its confinement; nothing for a verb that starts none."""
        path = self.sees()
        end = time.time() + 3
        while path and time.time() < end:
            text = open(path, errors="replace").read()
            if "view-end" in text:
                return view(text)
            time.sleep(0.002)
        return set()

    def sees(self):
        """Where the process tells that."""
        return self.world.out if self.makes and not self.world.terminal else None

    def __init__(self, world, bundle):
        self.world, self.bundle = world, world.bundles[bundle]

    def ready(self):
        """Makes what the call needs; again only if it is not there any more."""

    def good(self, result):
        """Status 0: None, or why that is a lie."""

    def bad(self, result):
        """Status not 0: None, or what is wrong with the container now."""

    def running(self):
        w = self.world
        if getattr(self, "have", False):
            return
        with open(w.w + "/long", "wb") as o:
            rc = subprocess.run([*w.base, "create", *w.console(), "-b", self.bundle + "/long", "c"], stdin=subprocess.DEVNULL, stdout=o, stderr=o)
        if rc.returncode:
            raise SystemExit("setup: create: " + open(w.w + "/long").read())
        rc, _, err = w.call("start", "c")
        if rc:
            raise SystemExit(f"setup: start: {err}")
        for _ in range(2000 if not w.terminal else 0):
            if "ran-ok" in open(w.w + "/long").read():
                break
            time.sleep(0.001)
        self.have = self.keeps

    def after_kill(self):
        """The call was killed: back to what the next one needs."""

    def still_running(self):
        w = self.world
        end = time.time() + 2
        while True:
            s = w.status()
            w.reap()
            p = w.processes()
            if s == "running" and len(p) == 1:
                return None
            if time.time() > end:
                return f"container is {s}, processes {' '.join(p)}"
            time.sleep(0.005)

    def created(self):
        w = self.world
        with open(w.w + "/long", "wb") as o:
            rc = subprocess.run([*w.base, "create", *w.console(), "-b", self.bundle + "/long", "c"], stdin=subprocess.DEVNULL, stdout=o, stderr=o)
        if rc.returncode:
            raise SystemExit("setup: create: " + open(w.w + "/long").read())

    def spoke(self, path):
        if self.world.terminal:
            return True
        end = time.time() + 3
        while time.time() < end:
            if "ran-ok" in open(path, errors="replace").read():
                return True
            time.sleep(0.001)
        return False

    def refused(self, result):
        """Whether execve refused the payload's program: the container's own end, which its standard error tells, and no error of the verb."""
        task, name, what = result.get("fault", ("0", "", ""))
        if not (task.startswith("p") and name == "execve" and what != "KILL"):
            return False
        end = time.time() + 3
        while time.time() < end:
            if re.search(r"^exec \S+: \w", open(self.world.err, errors="replace").read(), re.M) and self.world.status() == "stopped":
                return True
            time.sleep(0.01)
        return False


class Run(Op):
    makes = True

    def argv(self):
        return ["run", "-b", self.bundle + "/short", "c"]

    def good(self, result):
        return None if "ran-ok" in self.world.output() else "the payload did not run"


class RunDetached(Run):
    def argv(self):
        return ["run", "-d", "--pid-file", self.world.w + "/pidfile", *self.world.console(), "-b", self.bundle + "/long", "c"]

    def pid_file(self):
        """Whether there is one; takes it away, and what a killed call left of it."""
        there = os.path.exists(self.world.w + "/pidfile")
        for name in os.listdir(self.world.w):
            if "pidfile" in name:
                os.unlink(f"{self.world.w}/{name}")
        return there

    def good(self, result):
        there = self.pid_file()
        if not self.refused(result) and not self.spoke(self.world.out):
            return "the payload did not run"
        return None if there else "no pid file"

    def bad(self, result):
        return "a pid file stays" if self.pid_file() else None

    def after_kill(self):
        self.pid_file()


class Create(Op):
    makes = True

    def argv(self):
        return ["create", *self.world.console(), "-b", self.bundle + "/long", "c"]

    def good(self, result):
        if (s := self.world.status()) != "created":
            # killed as it had said that it was ready: created, and stopped since
            return None if s == "stopped" and result["killed"] else f"status {s} after create"
        rc, _, err = self.world.call("start", "c")
        if rc and result["killed"] and self.world.status() == "stopped":
            return None  # it was still dying when its status was asked for
        if rc:
            return f"start after create: {rc} {err.strip()[-300:]}"
        return None if self.bundle.endswith("tty") or self.spoke(self.world.out) else "the payload did not run"


class Gate(Op):
    """Init's part behind the gate: `create` is traced until init has become the payload, `start` is not."""
    makes, wait_all = True, True

    def argv(self):
        return ["create", "-b", self.bundle + "/short", "c"]

    def during(self):
        return self.world.call("start", "c")

    def good(self, result):
        rc, _, err = result["late"]
        if rc == "hang":
            return "start hangs"
        if rc:
            return None if err.strip() else "start is mute"
        return None if self.refused(result) or self.spoke(self.world.out) else "start said 0, the payload did not run"


class Start(Op):
    makes = True

    def sees(self):
        return None if self.world.terminal else self.world.w + "/long"

    def ready(self):
        self.created()

    def argv(self):
        return ["start", "c"]

    def good(self, result):
        return None if self.spoke(self.world.w + "/long") else "the payload did not run"

    def bad(self, result):
        s = self.world.status()
        return None if s in ("created", "running", "stopped", "none") else f"status {s} after start"


class Exec(Op):
    keeps = True

    def sees(self):
        return self.world.out if type(self) in (Exec, ExecDetached) else None

    def ready(self):
        self.running()

    def argv(self):
        return ["exec", "c", "/bin/sh", "-c", "echo exec-ok ran-ok; " + VIEW]

    def good(self, result):
        return self.still_running() if "exec-ok" in self.world.output() else "the process did not run"

    def bad(self, result):
        return self.still_running()


class ExecDetached(Exec):
    def argv(self):
        return ["exec", "-d", "--pid-file", self.world.w + "/pidfile", "c", "/bin/sh", "-c", "echo exec-ok ran-ok; " + VIEW]

    def tidy(self):
        for name in os.listdir(self.world.w):
            if "pidfile" in name:
                os.unlink(f"{self.world.w}/{name}")

    def good(self, result):
        there = os.path.exists(self.world.w + "/pidfile")
        self.tidy()
        for _ in range(1000):
            if "exec-ok" in self.world.output():
                return self.still_running() if there else "no pid file"
            time.sleep(0.002)
        return "the process did not run"

    def bad(self, result):
        there = os.path.exists(self.world.w + "/pidfile")
        self.tidy()
        return "a pid file stays" if there else self.still_running()

    def after_kill(self):
        self.tidy()


class Kill(Op):
    def ready(self):
        self.running()

    def argv(self):
        return ["kill", "c", "KILL"]

    def gone(self):
        end = time.time() + 2
        while time.time() < end:
            self.world.reap()
            if not self.world.processes():
                return True
            time.sleep(0.002)
        return False

    def good(self, result):
        return None if self.gone() else "not killed"

    def bad(self, result):
        s = self.world.status()
        if s == "running":
            rc, _, err = self.world.call("kill", "c", "KILL")
            return None if rc == 0 and self.gone() else f"kill again: {rc} {err.strip()[-200:]}"
        return None if s == "stopped" else f"status {s} after kill"


class Delete(Op):
    def ready(self):
        self.created()
        self.world.call("kill", "c", "KILL")
        for _ in range(1000):
            self.world.reap()
            if not self.world.processes():
                break
            time.sleep(0.001)

    def argv(self):
        return ["delete", "c"]

    def good(self, result):
        left = self.world.leftovers()
        return "; ".join(left) or None


class DeleteForce(Delete):
    def ready(self):
        self.running()

    def argv(self):
        return ["delete", "--force", "c"]


class State(Exec):
    def argv(self):
        return ["state", "c"]

    def good(self, result):
        try:
            return None if json.loads(self.world.output())["status"] == "running" else "wrong status: " + self.world.output()
        except (ValueError, KeyError):
            return "no state: " + self.world.output()[-200:]


class Ps(Exec):
    def argv(self):
        return ["ps", "-f", "json", "c"]

    def good(self, result):
        try:
            return None if len(json.loads(self.world.output())) == 1 else "wrong: " + self.world.output()
        except ValueError:
            return "no list: " + self.world.output()[-200:]


class List(Exec):
    def argv(self):
        return ["list", "-f", "json"]

    def good(self, result):
        try:
            found = json.loads(self.world.output()) or []
            if not found and "load container c" in result["err"]:
                return None  # as runc: told of, left out
            return None if [x["id"] for x in found] == ["c"] and found[0]["status"] == "running" else "wrong list: " + self.world.output()[-300:]
        except ValueError:
            return "no list: " + self.world.output()[-200:]


class Events(Exec):
    def argv(self):
        return ["events", "--stats", "c"]

    def good(self, result):
        try:
            return None if "data" in json.loads(self.world.output()) else "no data"
        except ValueError:
            return "no stats: " + self.world.output()[-200:]


class Update(Exec):
    def ready(self):
        self.running()
        w = self.world
        self.file, w2 = (f"/sys/fs/cgroup/pids/{w.parent}/c/pids.max", 77) if not w.unified else (f"/sys/fs/cgroup/{w.parent}/c/hugetlb.2MB.max", 8 << 20)
        self.value = str(w2)
        open(self.file, "w").write("max" if not w.unified else "0")
        if w.unified:
            json.dump({"hugepageLimits": [{"pageSize": "2MB", "limit": 8 << 20}]}, open(w.w + "/resources", "w"))

    def argv(self):
        return ["update", "-r", self.world.w + "/resources", "c"] if self.world.unified else ["update", "--pids-limit", "77", "c"]

    def good(self, result):
        now = open(self.file).read().strip()
        return self.still_running() if now == self.value else f"{self.file} is {now}"


class Pause(Exec):
    def after_kill(self):
        if self.world.status() == "paused":
            rc, _, err = self.world.call("resume", "c")
            return f"resume after that: {err.strip()}" if rc else None

    def argv(self):
        return ["pause", "c"]

    def good(self, result):
        if (s := self.world.status()) != "paused":
            return f"status {s} after pause"
        rc, _, err = self.world.call("resume", "c")
        return f"resume: {err.strip()}" if rc else self.still_running()

    def bad(self, result):
        s = self.world.status()
        half = None
        if s == "paused":
            half = "pause failed and the container is paused"
            rc, _, err = self.world.call("resume", "c")
            if rc:
                return f"resume after that: {err.strip()}"
        return self.still_running() or half


class Resume(Exec):
    def ready(self):
        self.running()
        if self.world.status() == "paused":
            return
        rc, _, err = self.world.call("pause", "c")
        if rc:
            raise SystemExit(f"setup: pause: {err}")

    def argv(self):
        return ["resume", "c"]

    def good(self, result):
        return self.still_running()

    def bad(self, result):
        if self.world.status() == "paused":
            rc, _, err = self.world.call("resume", "c")
            if rc:
                return f"resume again: {err.strip()}"
        return self.still_running()


OPS = {"run": Run, "run-detached": RunDetached, "exec-detached": ExecDetached, "create": Create, "gate": Gate, "start": Start, "exec": Exec, "kill": Kill, "delete": Delete, "delete-force": DeleteForce,
       "state": State, "ps": Ps, "list": List, "events": Events, "update": Update, "pause": Pause, "resume": Resume}
