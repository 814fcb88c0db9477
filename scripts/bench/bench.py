"""bench.sh's second half: knows the runtimes, runs the axes, prints their tables, writes target/bench/AXIS.json.

An axis is a file in axes/ with a docstring (its first line is what --list shows) and `measure(bench)`, which returns Tables.
"""

import argparse
import contextlib
import ctypes
import datetime
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import spec
from chart import chart
from drive import Scenario, drive
from table import Table, show

HERE = Path(__file__).parent
PEERS = ["crun-static", "crun", "runc", "youki"]
PR_SET_CHILD_SUBREAPER = 36


class Runtime:
    """Something that can run a bundle: an OCI runtime, or the floor, which only knows the default one."""

    def __init__(self, name, path, state):
        self.name, self.path, self.state = name, str(path), str(state / name)
        self.is_oci = not name.startswith("floor")

    def run(self, bundle, ident, *flags):
        """argv that runs `bundle` in the foreground as container `ident`"""
        if self.is_oci:
            return self.verb("run", *flags, "--bundle", bundle.path, ident)
        flags = ["--filter", bundle.filter] if bundle.filter else []
        return [self.path, *flags, bundle.root, f"/sys/fs/cgroup/{ident}", *bundle.args]

    def verb(self, *words):
        """argv of a verb of an OCI runtime, with a private state directory"""
        return [self.path, "--root", self.state, *map(str, words)]

    def version(self):
        if not self.is_oci:
            return "scripts/bench/floor.c"
        text = subprocess.run([self.path, "--version"], capture_output=True, text=True).stdout
        return text.splitlines()[0] if text else "?"


class Bench:
    """What an axis gets: the runtimes, the bundles and the driver."""

    def __init__(self, out, rounds, only):
        self.out, self.rounds = out, rounds
        self.payload, self.empty = out / "true", out / "empty"
        self.spec = spec
        found = {"onggi": os.environ["ONGGI"], "floor": out / "floor"}
        if (out / "floor-musl").exists():
            found["floor-musl"] = out / "floor-musl"
        found |= {name: path for name in PEERS if (path := shutil.which(name))}
        found |= dict(pair.split("=", 1) for pair in os.environ.get("PEERS", "").split())
        self.runtimes = [Runtime(n, p, out / "run") for n, p in found.items() if not only or n in only]
        self.runtimes = [r for r in self.runtimes if self.works(r)]
        self.oci = [r for r in self.runtimes if r.is_oci]

    def works(self, runtime, bundle=None):
        """leaves out a peer that cannot run a bundle here, with a message; onggi and the floor must be able to"""
        argv = runtime.run(bundle or self.bundle("probe"), "bench-probe")
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            what = Path(bundle.path).name if bundle else "default"
            why = f"bench.sh: {runtime.name} ({runtime.path}) does not run {what}: {done.stderr.strip()[:300]}"
            if runtime.name == "onggi" or not runtime.is_oci:
                sys.exit(why)
            print(why, file=sys.stderr)
        return done.returncode == 0

    def succeeds(self, argv, keep=()):
        """whether a command ends with 0; it inherits the descriptors `keep`"""
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.run(argv, pass_fds=keep, **quiet).returncode == 0

    @contextlib.contextmanager
    def container(self, runtime, bundle, ident, start=True):
        """a running (or only created) container for the duration of a `with`; its value is init's pid"""
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.run(runtime.verb("create", "--bundle", bundle.path, ident), check=True, **quiet)
        if start:
            subprocess.run(runtime.verb("start", ident), check=True, **quiet)
        state = subprocess.run(runtime.verb("state", ident), check=True, capture_output=True)
        pid = json.loads(state.stdout)["pid"]
        try:
            yield pid
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)  # we are the subreaper
            subprocess.run(runtime.verb("delete", ident), check=True, **quiet)

    def bundle(self, name="default", change=None):
        """a bundle like `runc spec`'s with the payload as its program; `change(config)` may edit it first"""
        return spec.Bundle(self.out / "bundles" / name, self.payload, change)

    def scenario(self, **settings):
        return Scenario(**{"rounds": self.rounds} | settings)

    def drive(self, scenario):
        return drive(self.out, scenario)

    def machine(self):
        model = [l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")]
        return {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "kernel": platform.release(),
            "cpu": f"{os.cpu_count()} x {model[0] if model else platform.machine()}",
            "load": os.getloadavg()[0],
            "mounts": len(open("/proc/self/mountinfo").readlines()),
            "runtimes": {r.name: {"path": r.path, "version": r.version()} for r in self.runtimes},
        }


def axes():
    names = sorted(p.stem for p in (HERE / "axes").glob("*.py"))
    return {name: importlib.import_module(f"axes.{name}") for name in names}


def main():
    known = axes()
    parser = argparse.ArgumentParser(prog="bench.sh")
    parser.add_argument("axis", nargs="*", default=["run"])
    parser.add_argument("--rounds", type=int, default=60, help="recorded rounds of each scenario")
    parser.add_argument("--only", type=lambda s: set(s.split(",")), help="names of the runtimes to measure")
    parser.add_argument("--out", type=Path, default=Path("target/bench"), help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        for name, axis in known.items():
            print(f"{name:10} {axis.__doc__.splitlines()[0]}")
        return
    wanted = list(known) if args.axis == ["all"] else args.axis
    if unknown := [a for a in wanted if a not in known]:
        sys.exit(f"bench.sh: no axis {unknown[0]!r}; there are: {' '.join(known)}")

    # adopt the runtimes' orphans, because PID 1 may not reap them
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    bench = Bench(args.out.resolve(), args.rounds, args.only)
    machine = bench.machine()
    print(f"{machine['cpu']}, Linux {machine['kernel']}, {machine['mounts']} mounts, load {machine['load']:.1f}")
    for name, about in machine["runtimes"].items():
        print(f"  {name:12} {about['version']}")
    for name in wanted:
        tables = known[name].measure(bench)
        for table in tables:
            show(table)
        result = {"machine": machine, "tables": [t.as_json() for t in tables]}
        (bench.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        if name == "run":
            (bench.out / "run.svg").write_text(chart(result))


if __name__ == "__main__":
    main()
