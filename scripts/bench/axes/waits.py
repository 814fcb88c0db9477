"""what waits for the whole machine on the start path: unmounts (an RCU grace period each) and moves between cgroups

A grace period costs microseconds on an idle machine and 10 to 100 ms on a big, busy one, so the number matters more than the
time here. Counted by the system calls that lead to one, in all processes that a `run` starts: umount2(2) of something that is
mounted, and writes of a process into `cgroup.procs` or `tasks`; CLONE_INTO_CGROUP needs none. What the kernel's tracer would say
of its own functions is not asked: locked-down kernels do not tell.
"""

import re
import subprocess
import sys

from table import Table

CALLS = "trace=umount2,clone3,openat,openat2,open,write,pwrite64"


def measure(bench):
    table = Table(
        "waits of a run of /bin/true, `runc spec` config",
        ["", "unmounts", "cgroup moves", "born in its cgroup"],
        "born: clone3 with CLONE_INTO_CGROUP",
    )
    bundle = bench.bundle()
    for runtime in bench.runtimes:
        lines = trace(bench, runtime.run(bundle, f"waits-{runtime.name}"))
        table.row(
            runtime.name,
            sum("umount2(" in line and line.endswith("= 0") for line in lines),
            moves(lines),
            sum("CLONE_INTO_CGROUP" in line for line in lines),
        )
    return [table]


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
            # threads share descriptors: whoever opened it last under this number
            owners = [key for key in opened if key[1] == match[1] and (key[0] == pid or opened[key])]
            found += any(opened[key] for key in owners)
    return found
