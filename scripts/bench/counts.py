"""Counts of one `run` that do not depend on the machine's speed: system calls, execs, clones, faults, memory, size."""

import os
import shutil
import subprocess
import sys

from table import Table

EXECS = {"execve", "execveat"}
CLONES = {"clone", "clone3", "fork", "vfork"}


def table(bench, bundle, times):
    """`times` are Samples of runs without strace, for values that strace would change"""
    result = Table(
        "cost of that run, all processes of the runtime and the payload",
        ["", "syscalls", "above floor", "execs", "clones", "page faults", "switches", "peak RSS kB", "binary kB"],
        "execs and clones include the runtime's own exec and the payload's; faults and switches: smallest of all rounds",
    )
    if not shutil.which("strace"):
        result.note += "; strace is missing: apt-get install strace"
    calls = {r.name: trace(bench, r.run(bundle, f"count-{r.name}")) for r in bench.runtimes if shutil.which("strace")}
    floor = sum(calls["floor"].values()) if "floor" in calls else None
    for runtime in bench.runtimes:
        seen, samples = calls.get(runtime.name), times[runtime.name]
        total = sum(seen.values()) if seen else None
        result.row(
            runtime.name, total,
            total - floor if seen and floor else None,
            sum(seen.get(c, 0) for c in EXECS) if seen else None,
            sum(seen.get(c, 0) for c in CLONES) if seen else None,
            min(samples.minflt), min(samples.nvcsw), max(samples.maxrss),
            os.path.getsize(runtime.path) // 1024,
        )
    return result


def trace(bench, argv):
    """{system call: how often} over all processes that `argv` starts"""
    log = bench.out / "strace.txt"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", log, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    if done.returncode:
        sys.exit(f"bench.sh: under strace {' '.join(argv)} failed: {done.stderr.decode()[:1000]}")
    reap()
    seen = {}
    for line in log.read_text(errors="replace").splitlines():
        # "123 openat(..." or "123 <... openat resumed>"; signals and exits open with --- and +++
        words = line.split(None, 1)[1]
        if not words.startswith(("---", "+++", "<...")) and "(" in words:
            name = words.split("(", 1)[0]
            seen[name] = seen.get(name, 0) + 1
    return seen


def reap():
    """reaps the orphans that a runtime has left"""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
