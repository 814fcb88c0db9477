#!/usr/bin/env python3
"""fuzz-run.py RUNTIME [--seconds N] [--runs N] [--seed N] [--keep DIR] [SEEDS...]: runs randomly changed configurations with the runtime

Takes bundles/*/config.json and the *.json of further folders, changes them (scripts/fuzz/mutate.py), and either runs each or creates, starts
and deletes it, in private mount, pid, network, uts and ipc namespaces. A changed configuration cannot harm the machine: the root and bind
sources are private copies, programs, hooks and sysctls come from a list of harmless ones, and the cgroup is /onggi-fuzz-PID/N. A run must
end in time, the runtime must not panic or be killed by a signal, a failure must have an error message, and no process, cgroup, mount or
state may be left. As root. Failed configurations are kept in DIR (target/fuzz-run) with the reason; the printed seed repeats a run. The
last line is `N runs, N clean, N failed`.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import json
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "scripts/fuzz"))
sys.dont_write_bytecode = True
from mutate import mutate, tame, text  # noqa: E402

APPLETS = ["sh", "true", "false", "cat", "ls", "sleep", "echo"]
LIMIT = 20


def arguments():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n")[0].split(": ")[0])
    parser.add_argument("runtime")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", default=str(TOP / "target/fuzz-run"))
    parser.add_argument("--inside", default=None, help=argparse.SUPPRESS)
    parser.add_argument("seeds", nargs="*")
    return parser.parse_intermixed_args()


def enter(args):
    """executes this script again as the first process of new namespaces"""
    if os.getuid() != 0:
        sys.exit("fuzz-run.py: needs root: containers are made")
    seed = args.seed if args.seed is not None else random.randrange(2**32)
    work = tempfile.mkdtemp(prefix="onggi-fuzz-")
    name = f"onggi-fuzz-{os.getpid()}"
    inside = ["unshare", "-mpuin", "--propagation", "private", "--fork", "--kill-child", "--mount-proc", sys.executable, str(Path(__file__).resolve()),
              *sys.argv[1:], "--seed", str(seed), "--inside", f"{work} {name}"]
    try:
        return subprocess.call(inside)
    finally:
        # mounts on it ended with the namespace
        os.rmdir(work)
        for path in cgroups(name):
            path.rmdir()


def cgroups(name):
    """the cgroups of that name in all hierarchies, the innermost first"""
    top = Path("/sys/fs/cgroup")
    found = []
    for hierarchy in [top, *(path for path in top.iterdir() if path.is_dir() and not path.is_symlink())]:
        if (hierarchy / name).is_dir():
            found += [Path(path) for path, _, _ in os.walk(hierarchy / name, topdown=False)]
    return found


class World:
    def __init__(self, args):
        work, self.name = args.inside.split(" ")
        self.work, self.runtime, self.keep = Path(work), os.path.realpath(args.runtime), Path(args.keep)
        subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=256m", "fuzz", work])
        self.private = self.work / "private"
        (self.private / "tree/below").mkdir(parents=True)
        (self.private / "file").write_text("a file\n")
        root = self.work / "seed"
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc"]:
            (root / name).mkdir(parents=True)
        busybox = os.environ.get("BUSYBOX") or shutil.which("busybox")
        if not busybox:
            sys.exit("fuzz-run.py: there is no static busybox: install busybox-static, or set BUSYBOX=PATH")
        shutil.copy(busybox, root / "bin/busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        self.mounts = self.mounted()
        self.tried = self.through = 0

    @staticmethod
    def mounted():
        return Path("/proc/self/mountinfo").read_text()

    @staticmethod
    def processes():
        """all other processes of the pid namespace; reaps those that have ended"""
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]

    def call(self, bundle, words, failures):
        """calls the runtime; returns its status and output"""
        with open(self.work / "said", "w+b") as said:
            command = [self.runtime, "--root", str(self.work / "state"), *words]
            child = subprocess.Popen(command, cwd=bundle, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
            try:
                status = child.wait(LIMIT)
            except subprocess.TimeoutExpired:
                where = "; ".join(self.where(pid) for pid in self.processes())
                failures.append(f"{words[0]} hangs for {LIMIT} s: {where}")
                child.kill()
                status = child.wait()
                return status, ""
            said.seek(0)
            told = said.read().decode(errors="replace")
        if status < 0:
            failures.append(f"{' '.join(words)} died of {signal.Signals(-status).name}")
        if "panicked" in told or "RUST_BACKTRACE" in told:
            failures.append(f"{' '.join(words)} panicked: {told}")
        return status, told

    @staticmethod
    def where(pid):
        try:
            return f"{pid} {Path(f'/proc/{pid}/comm').read_text().strip()} in {Path(f'/proc/{pid}/stack').read_text().split()[1]}"
        except (OSError, IndexError):
            return str(pid)

    def judge(self, number, config, status, dice):
        """runs one configuration; returns what was wrong"""
        failures, bundle, identity = [], self.work / "bundle", f"c{number}"
        subprocess.check_call(["cp", "-a", self.work / "seed", bundle / "rootfs"])
        (bundle / "config.json").write_text(config)
        flags = [flag for flag in ["--no-pivot", "--no-new-keyring"] if dice.random() < 0.1]
        if dice.random() < 0.7:
            self.tried += 1
            ended, told = self.call(bundle, ["run", *flags, identity], failures)
            silent = [status, 128 + signal.SIGSYS, 128 + signal.SIGKILL, 128 + signal.SIGSEGV, 128 + signal.SIGXCPU, 128 + signal.SIGXFSZ]
            self.through += not told.strip() or "level=error" not in told
            # an unknown payload may fail without an error of the runtime
            if ended and not told.strip() and status is not None and ended not in silent:
                failures.append(f"status {ended} and not a word; the payload's own is {status}")
        else:
            ended, told = self.call(bundle, ["create", *flags, identity], failures)
            if ended > 0 and not told.strip():
                failures.append(f"create: status {ended} and not a word")
            if ended == 0:
                for words in (["state", identity], ["start", identity], ["delete", "--force", identity]):
                    ended, told = self.call(bundle, words, failures)
                    if ended > 0 and not told.strip():
                        failures.append(f"{words[0]}: status {ended} and not a word")
                    if ended and words[0] != "start":
                        failures.append(f"{words[0]}: status {ended}: {told}")
        failures += self.left(identity, number)
        return failures

    def left(self, identity, number):
        failures = []
        end = time.monotonic() + 3
        while (pids := self.processes()) and time.monotonic() < end:
            time.sleep(0.01)
        if pids:
            failures.append("processes are left: " + "; ".join(self.where(pid) for pid in pids))
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            while self.processes():
                time.sleep(0.01)
        if (self.work / "state" / identity).exists():
            failures.append("a state directory is left")
            shutil.rmtree(self.work / "state" / identity)
        if found := [path for path in cgroups(f"{self.name}/{number}")]:
            failures.append(f"cgroups are left: {', '.join(map(str, found))}")
            for path in found:
                path.rmdir()
        if (now := self.mounted()) != self.mounts:
            failures.append("mounts are left: " + "; ".join(set(now.splitlines()) ^ set(self.mounts.splitlines())))
            for line in set(now.splitlines()) - set(self.mounts.splitlines()):
                subprocess.call(["umount", "-l", line.split(" ")[4]])
            self.mounts = self.mounted()
        return failures


def seeds(folders):
    files = sorted(TOP.glob("bundles/*/config.json")) + [path for folder in folders for path in sorted(Path(folder).glob("*.json"))]
    read = [json.loads(path.read_text()) for path in files]
    return [seed for seed in read if isinstance(seed, dict) and "process" in seed]


def main():
    args = arguments()
    if args.inside is None:
        return enter(args)
    world, known = World(args), seeds(args.seeds)
    print(f"seed {args.seed}, {len(known)} initial configurations")
    begun, runs, failed, good = time.monotonic(), 0, 0, 0
    while runs < args.runs if args.runs else time.monotonic() - begun < args.seconds:
        runs += 1
        # each run has its own random generator, so that it can be repeated alone
        dice = random.Random(f"{args.seed}/{runs}")
        config = mutate(dice, known)
        status = tame(config, dice, f"/{world.name}/{runs}", str(world.private))
        (world.work / "bundle").mkdir()
        written = text(config, dice)
        failures = world.judge(runs, written, status, dice)
        subprocess.check_call(["rm", "-rf", "--one-file-system", world.work / "bundle"])
        if failures:
            failed += 1
            world.keep.mkdir(parents=True, exist_ok=True)
            (world.keep / f"{args.seed}-{runs}.json").write_text(written)
            (world.keep / f"{args.seed}-{runs}.txt").write_text("\n".join(failures) + "\n")
            print(f"run {runs}: {'; '.join(failures)[:2000]}", flush=True)
    print(f"the payload ran in {world.through} of {world.tried}; the others were refused")
    print(f"{runs} runs, {runs - failed} clean, {failed} failed")
    return 1 if failed or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
