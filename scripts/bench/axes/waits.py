"""waits on the start path that grow with the machine: RCU grace periods, moves between cgroups, and the calls that cause them

A grace period costs microseconds on an idle machine and 10 to 100 ms on a big, busy one, so the number matters more than the
time here. strace counts the calls in all processes that a `run` starts: umount2(2) of a mount, and writes of a process into
`cgroup.procs` or `tasks`; CLONE_INTO_CGROUP needs none. If perf can trace the scheduler, the waits themselves are counted: each
time one of these processes sleeps in synchronize_rcu() or a related function. On a kernel without these events (User Mode Linux)
only the calls are shown.
"""

import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter

from table import Table

CALLS = "trace=umount2,clone3,openat,openat2,open,write,pwrite64"
RUNS = 5
GRACE = re.compile(r"^(synchronize_s?rcu|rcu_barrier|rcu_sync_enter|wait_rcu|__wait_rcu)")


def measure(bench):
    table = Table(
        "waits of a run of /bin/true, `runc spec` config",
        ["", "unmounts", "cgroup moves", "born in its cgroup", "sleeps in RCU"],
        f"born: clone3 with CLONE_INTO_CGROUP; sleeps: median of {RUNS} runs",
    )
    kinds = Table("where a run sleeps for a grace period of RCU", ["", "call", "because of", "a run"])
    bundle = bench.bundle()
    for runtime in bench.runtimes:
        lines = trace(bench, runtime.run(bundle, f"waits-{runtime.name}"))
        runs = [sleeps(bench, runtime.run(bundle, f"waits-{runtime.name}-{i}")) for i in range(RUNS)]
        seen = [run for run in runs if run is not None]
        table.row(
            runtime.name,
            sum("umount2(" in line and line.endswith("= 0") for line in lines),
            moves(lines),
            sum("CLONE_INTO_CGROUP" in line for line in lines),
            statistics.median(run.total() for run in seen) if seen else None,
        )
        for (call, cause), count in sorted(sum(seen, Counter()).items()):
            kinds.row(runtime.name, call, cause, count / len(seen))
    if not kinds.rows:
        kinds.note = "perf does not follow the scheduler here"
    return [table, kinds]


def sleeps(bench, argv):
    """how often a run sleeps for a grace period, by system call and kernel function; None if perf cannot trace it"""
    data = bench.out / "waits.perf"
    if not shutil.which("perf"):
        return None
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    record = ["perf", "record", "-q", "-g", "-e", "sched:sched_switch", "-o", data, "--"]
    done = subprocess.run([*record, *argv], **quiet)
    text = subprocess.run(["perf", "script", "-i", data, "-F", "ip,sym"], capture_output=True, text=True).stdout
    if done.returncode or "__schedule" not in text:
        return None
    found = Counter()
    for stack in text.split("\n\n"):
        frames = [line.split()[1].split("+")[0] for line in stack.splitlines() if len(line.split()) > 1]
        grace = [i for i, frame in enumerate(frames) if GRACE.match(frame)]
        if grace:
            found[call_of(frames), (frames + ["?"])[grace[-1] + 1]] += 1
    return found


def call_of(frames):
    """the system call at the bottom of a kernel stack"""
    for frame in reversed(frames):
        if match := re.match(r"(?:__(?:x64|arm64|do|se)_sys|ksys)_(\w+)$", frame):
            return match[1]
    return next((name for mark, name in (("do_exit", "exit"), ("task_work_run", "close, at its end")) if mark in frames), "?")


def trace(bench, argv):
    """strace's lines, the two halves of an interrupted call joined"""
    log = bench.out / "strace.txt"
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    done = subprocess.run(["strace", "-f", "-qq", "-e", CALLS, "-o", log, *argv], **quiet)
    if done.returncode:
        sys.exit(f"bench.sh: under strace {' '.join(argv)} failed: {done.stderr.decode()[:1000]}")
    begun, lines = {}, []
    for line in log.read_text(errors="replace").splitlines():
        pid, rest = line.split(None, 1)
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>")
        elif rest.startswith("<..."):
            lines.append(f"{pid} {begun.pop(pid, '')}{rest.split('>', 1)[1]}")
        else:
            lines.append(line)
    return lines


def moves(lines):
    """writes to descriptors that were opened as cgroup.procs or tasks"""
    opened, found = {}, 0
    for line in lines:
        pid, call = line.split(None, 1)
        if match := re.match(r"open\w*\(.*\) += (\d+)", call):
            opened[pid, match[1]] = re.search(r'cgroup\.procs"|/tasks"', call) is not None and "O_RDONLY" not in call
        elif match := re.match(r"p?write\w*\((\d+),.*\) += \d+", call):
            # threads share descriptors: take the last open with this number
            owners = [key for key in opened if key[1] == match[1] and (key[0] == pid or opened[key])]
            found += any(opened[key] for key in owners)
    return found
