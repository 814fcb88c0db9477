"""Where faults are injected: a mount and pid namespace of our own, a tmpfs on /mnt, cgroups `faults-PID`, bundles of busybox; and
what of a container is left there."""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from errnos import ERRNOS, numbers

HERE = os.path.dirname(os.path.abspath(__file__))


def enter():
    """Starts this program anew in namespaces of its own, which end with it."""
    if "ONGGI_FAULTS" in os.environ:
        return
    os.environ["ONGGI_FAULTS"] = str(os.getpid())
    unshare = ["unshare", "-mp", "--propagation", "private", "--fork", "--kill-child", "--mount-proc"]
    os.execvp("unshare", [*unshare, sys.executable, "-B", os.path.abspath(sys.argv[0]), *sys.argv[1:]])


def arguments(parser):
    """Those of every program here."""
    parser.add_argument("runtime")
    parser.add_argument("--view", choices=("native", "v2"), default="native", help="v2: nothing but cgroup2 is mounted")
    parser.add_argument("--flag", action="append", default=[], help="a flag before the verb of each call: --flag=--cgroup-manager=disabled for a crun that knows no hybrid cgroups")


# a process tells what it sees of its confinement
VIEW = "cat /proc/self/mountinfo /proc/self/status /proc/self/limits /proc/self/cgroup; echo view-end"
STATUS = "Umask Uid Gid Groups NoNewPrivs Seccomp Seccomp_filters SigBlk SigIgn CapInh CapPrm CapEff CapBnd CapAmb Cpus_allowed Mems_allowed".split()


def view(text):
    """What VIEW has told, without what differs from one start to the next: numbers of mounts and processes."""
    seen = set()
    for line in text[text.find("ran-ok"):].partition("view-end")[0].splitlines():
        f = line.split()
        if len(f) > 8 and "-" in f and f[0].isdigit():
            tags = [tag.split(":")[0] for tag in f[6:f.index("-")]]
            seen.add(" ".join(["mount", *f[3:6], *tags, *f[f.index("-"):]]))
        elif f and (f[0].rstrip(":") in STATUS or f[0] == "Max" or re.match(r"\d+:[^ ]*:/", f[0])):
            seen.add(" ".join(f))
    return seen


class World:
    """Where it all happens: a private mount and pid namespace, a tmpfs, cgroups of our own."""

    def __init__(self, args):
        self.args, self.rt = args, os.path.abspath(shutil.which(args.runtime) or args.runtime)
        subprocess.run(["mount", "-t", "tmpfs", "sweep", "/mnt"], check=True)
        self.w = "/mnt"
        self.root, self.tracer = self.w + "/root", self.w + "/inject"
        # what every call of the runtime begins with
        self.base = [self.rt, *args.flag, "--root", self.root]
        self.parent = "faults-" + os.environ["ONGGI_FAULTS"]
        subprocess.run(["gcc", "-O2", "-w", "-o", self.tracer, os.path.join(HERE, "inject.c")], check=True)
        self.nr = numbers()
        self.by_name = {name: n for n, name in self.nr.items()}
        self.hierarchies, self.ended, self.mine = [], {}, set()
        self.terminal = False
        if args.view == "v2":
            subprocess.run(["umount", "-R", "/sys/fs/cgroup"], check=False, stderr=subprocess.DEVNULL)
            subprocess.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"], check=True)
        for line in open("/proc/self/mounts"):
            f = line.split()
            if f[2] in ("cgroup", "cgroup2"):
                self.hierarchies.append((f[1], f[2]))
        self.unified = len(self.hierarchies) == 1
        for path, kind in self.hierarchies:
            os.makedirs(f"{path}/{self.parent}", exist_ok=True)
            if path.endswith("cpuset") and kind == "cgroup":
                for name in ("cpus", "mems"):
                    open(f"{path}/{self.parent}/cpuset.{name}", "w").write(open(f"{path}/cpuset.{name}").read())
        if self.unified:
            for c in open("/sys/fs/cgroup/cgroup.controllers").read().split():
                for d in ("/sys/fs/cgroup", "/sys/fs/cgroup/" + self.parent):
                    try:
                        open(d + "/cgroup.subtree_control", "w").write("+" + c)
                    except OSError:
                        pass
        self.bundles = {}
        for name in args.bundles.split(","):
            self.bundles[name] = self.bundle(name)
        self.out, self.err, self.log = (self.w + x for x in ("/out", "/err", "/log"))

    def close(self):
        for path, _ in self.hierarchies:
            for _ in range(20):
                subprocess.run(["find", f"{path}/{self.parent}", "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"], stderr=subprocess.DEVNULL)
                if not os.path.exists(f"{path}/{self.parent}"):
                    break
                time.sleep(0.1)

    def sleeper(self, id):
        """The bundle of a container `id` that sleeps and prints nothing; its root is that of the bundle `spec`."""
        d = f"{self.w}/b-{id}"
        os.mkdir(d)
        with open(self.bundles["spec"] + "/long/config.json") as f, open(d + "/config.json", "w") as to:
            text = f.read().replace('"echo ran-ok; exec sleep 10000"', '"exec sleep 10000"')
            to.write(text.replace(f"/{self.parent}/c", f"/{self.parent}/{id}"))
        return d

    def bundle(self, name):
        d = f"{self.w}/b-{name}"
        os.makedirs(d + "/rootfs/bin")
        for sub in ("proc", "dev", "sys", "etc", "tmp", "run"):
            os.mkdir(f"{d}/rootfs/{sub}")
        shutil.copy(shutil.which("busybox"), d + "/rootfs/bin/busybox")
        for tool in ("sh", "echo", "sleep", "true", "cat"):
            os.symlink("busybox", f"{d}/rootfs/bin/{tool}")
        if name == "docker":
            c = json.load(open(os.path.join(HERE, "../../bundles/docker-default/config.json")))
            os.mkdir(d + "/etc")
            for m in c["mounts"]:
                if "bind" in m["options"] or "rbind" in m["options"]:
                    m["source"] = d + "/etc/" + os.path.basename(m["source"])
                    open(m["source"], "w").write("x\n")
        else:
            subprocess.run([self.rt, "spec"], cwd=d, check=True, stdout=subprocess.DEVNULL)
            c = json.load(open(d + "/config.json"))
            if name == "userns":
                c["linux"]["namespaces"].append({"type": "user"})
                c["linux"]["uidMappings"] = c["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
                subprocess.run(["chown", "-R", "100000:100000", d + "/rootfs"], check=True)
            if name == "hooks":
                kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
                c["hooks"] = {kind: [{"path": "/bin/true", "args": ["true"], "timeout": 5}] for kind in kinds}
        c["process"]["terminal"] = name == "tty"
        c["process"].pop("consoleSize", None)
        c["linux"]["cgroupsPath"] = f"/{self.parent}/c"
        for kind, argv in (("short", ["/bin/sh", "-c", f"echo ran-ok; {VIEW}"]), ("long", ["/bin/sh", "-c", f"echo ran-ok; {VIEW}; exec sleep 10000"])):
            c["process"]["args"] = argv
            os.makedirs(f"{d}/{kind}", exist_ok=True)
            c["root"]["path"] = d + "/rootfs"
            json.dump(c, open(f"{d}/{kind}/config.json", "w"))
        os.chmod(d, 0o755)
        return d

    def console(self):
        """Where terminals are taken: a socket whose other end keeps the latest."""
        if not hasattr(self, "listener"):
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.w + "/console")
            self.listener.listen(64)
            self.known.add(self.w + "/console")

            def serve():
                held = None
                while True:
                    peer, _ = self.listener.accept()
                    try:
                        fds = socket.recv_fds(peer, 4096, 1)[1]
                    except OSError:
                        fds = []
                    peer.close()
                    if held is not None:
                        os.close(held)  # the terminal before: its container is gone
                    held = fds[0] if fds else None

            threading.Thread(target=serve, daemon=True).start()
        return ["--console-socket", self.w + "/console"] if self.terminal else []

    # calls

    def reap(self):
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] in self.mine:
                    self.ended[ended[0]] = ended[1]
        except ChildProcessError:
            pass

    def wait(self, child, timeout):
        """Waits for a child, and reaps every other process meanwhile, as an engine's subreaper does."""
        def late(*_):
            raise TimeoutError

        before = signal.signal(signal.SIGALRM, late)
        self.ended = {pid: status for pid, status in self.ended.items() if pid in self.mine}
        signal.setitimer(signal.ITIMER_REAL, timeout)
        try:
            while child.pid not in self.ended:
                pid, status = os.waitpid(-1, 0)
                self.ended[pid] = status
            child.returncode = os.waitstatus_to_exitcode(self.ended.pop(child.pid))
            return child.returncode
        except TimeoutError:
            child.kill()
            child.wait()
            return "hang"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def call(self, *argv, timeout=10):
        """An untraced call of the runtime. stdout goes where the containers' goes."""
        with open(self.w + "/co", "wb") as o, open(self.w + "/ce", "wb") as e:
            child = subprocess.Popen([*self.base, *argv], stdin=subprocess.DEVNULL, stdout=o, stderr=e)
            rc = self.wait(child, timeout)
        return rc, open(self.w + "/co", errors="replace").read(), open(self.w + "/ce", errors="replace").read()

    def traced(self, argv, points=(), always=(), log=False, wait_all=False, during=None, beside=None):
        cmd = [self.tracer, "-o", self.log, "-s", os.path.basename(self.rt)[:15]]
        for task, name, occ, what in points:
            cmd += ["-p", f"{task}:{self.by_name[name]}:{occ}:{'k' if what == 'KILL' else 'd' + what[4:] if what.startswith('WAIT') else getattr(errno, what)}"]
        for name, what, text in always:
            cmd += ["-u", f"{self.by_name[name]}:{getattr(errno, what)}:{text}"]
        cmd += ["-l"] * log + ["-w"] * wait_all + ["--", *self.base, *argv]
        for name in (self.log, self.log + ".go"):
            if os.path.exists(name):
                os.unlink(name)
        with open(self.out, "wb") as o, open(self.err, "wb") as e:
            child = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=o, stderr=e)
            late = None
            self.mine = {child.pid}
            if beside:
                end = time.time() + 5
                while time.time() < end and "hit 0" not in (open(self.log).read() if os.path.exists(self.log) else ""):
                    time.sleep(0.001)
                late = beside()
                open(self.log + ".go", "w").close()
            if during:
                late = self.during(during)
            self.wait(child, 14)
            self.mine = set()
        text = open(self.log).read() if os.path.exists(self.log) else ""
        m = re.search(r"^(exit|signal) (\d+)|^(timeout.*)", text, re.M)
        status = ("hang", "") if not m else ("hang", m[3]) if m[3] else (m[1], int(m[2]))
        return dict(status=status, hit="hit 0" in text, hits=text.count("\nhit ") + text.startswith("hit "), text=text, err=open(self.err, errors="replace").read(), late=late)

    def during(self, what):
        """Something beside a traced call, once the main task is over."""
        end = time.time() + 11
        while time.time() < end and not re.search(r"^(exit|signal|timeout)", open(self.log).read() if os.path.exists(self.log) else "", re.M):
            time.sleep(0.001)
        return what()

    def output(self):
        return open(self.out, errors="replace").read()

    def status(self):
        rc, out, err = self.call("state", "c")
        if rc == 0:
            try:
                return json.loads(out)["status"]
            except (ValueError, KeyError):
                return "unreadable"
        return "none" if "does not exist" in err or "not found" in err or "No such file" in err else f"error: {err.strip()[-200:]}"

    def pid(self):
        rc, out, _ = self.call("state", "c")
        return json.loads(out).get("pid", 0) if rc == 0 else 0

    # what is left

    def processes(self):
        mine, found = os.getpid(), []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != mine:
                try:
                    stat = open(f"/proc/{entry}/stat").read()
                    if stat.rsplit(")", 1)[1].split()[0] != "Z":
                        found.append(f"{entry}({open(f'/proc/{entry}/comm').read().strip()},{stat.rsplit(')', 1)[1].split()[0]})")
                except OSError:
                    pass
        return found

    def cgroups(self):
        found = []
        for path, _ in self.hierarchies:
            for here, dirs, _ in os.walk(f"{path}/{self.parent}"):
                found += [f"{here}/{d}" for d in dirs]
        return found

    def files(self):
        found = set()
        for here, dirs, names in os.walk(self.w):
            if here.startswith(self.root):
                continue
            found |= {f"{here}/{n}" for n in dirs + names}
        return found

    def remember(self):
        self.mounts = len(open("/proc/self/mountinfo").readlines())
        self.known = self.files() | {self.root, self.out, self.err, self.log, self.log + ".go", self.w + "/co", self.w + "/ce"}

    def leftovers(self, patience=2.0):
        end = time.time() + patience
        while True:
            self.reap()
            left = []
            if p := self.processes():
                left.append("processes " + " ".join(p))
            if c := self.cgroups():
                left.append("cgroups " + " ".join(c[:3]) + (f" (+{len(c) - 3})" if len(c) > 3 else ""))
            if os.path.isdir(self.root) and (s := [x for x in os.listdir(self.root) if not x.startswith(".")]):
                left.append("state " + " ".join(f"{x}[{','.join(os.listdir(self.root + '/' + x)) if os.path.isdir(self.root + '/' + x) else ''}]" for x in s))
            n = len(open("/proc/self/mountinfo").readlines())
            if n != self.mounts:
                left.append(f"mounts {n - self.mounts:+d}")
            if f := self.files() - self.known:
                left.append("files " + " ".join(sorted(f)[:3]))
            if not left or time.time() > end:
                return left
            time.sleep(0.003)

    def wipe(self):
        """Back to nothing, whatever it takes."""
        for path, kind in self.hierarchies:
            for here, dirs, names in os.walk(f"{path}/{self.parent}"):
                for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                    if name in names:
                        try:
                            open(f"{here}/{name}", "w").write(word)
                        except OSError:
                            pass
        for p in self.processes():
            try:
                os.kill(int(p.split("(")[0]), signal.SIGKILL)
            except OSError:
                pass
        for _ in range(100):
            self.reap()
            if not self.processes():
                break
            time.sleep(0.01)
        for path, _ in self.hierarchies:
            subprocess.run(["find", f"{path}/{self.parent}", "-mindepth", "1", "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"], stderr=subprocess.DEVNULL)
        while len(open("/proc/self/mountinfo").readlines()) > self.mounts:
            last = open("/proc/self/mountinfo").readlines()[-1].split()[4]
            subprocess.run(["umount", "-l", last])
        shutil.rmtree(self.root, ignore_errors=True)
        os.makedirs(self.root, mode=0o700)  # or the next call makes one mkdir more
        for f in sorted(self.files() - self.known, reverse=True):
            shutil.rmtree(f, ignore_errors=True) if os.path.isdir(f) else os.unlink(f)


@contextlib.contextmanager
def entered(args):
    """A world in namespaces of its own, which is closed behind the block."""
    enter()
    world = World(args)
    try:
        yield world
    finally:
        world.close()
