"""`ctr run`, `docker run` and `podman run --rm` of /bin/true, end to end, with every runtime

Under private instances of the engines (scripts/engines.sh), without a network, which is the engine's work and not the runtime's. Time is from
the caller's exec of the engine's client to its return. The engines see this machine's own cgroups, but for cgroup2 beside v1, which crun refuses.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from drive import collect
from table import Table

TREE = Path(__file__).resolve().parents[3]
IMAGE = "docker.io/library/box:latest"
ENGINES = ["ctr", "docker", "podman"]
# descriptor of the machine's mount namespace, which bench.sh opened: the other axes are measured in a private one
HOME = 9


def measure(bench):
    scenario = bench.scenario()
    for engine in ENGINES:
        for runtime in bench.oci:
            scenario.group(f"{engine} {runtime.name}")
            scenario.step("run", run(engine, runtime))
    path, records = bench.out / "engines.txt", bench.out / "engines.records"
    path.write_text(scenario.text())
    command = f"{shlex.quote(str(bench.out / 'drive'))} {shlex.quote(str(path))} > {shlex.quote(str(records))}"
    peers = [word for runtime in bench.oci for word in ("--peer", f"{runtime.name}={runtime.path}")]
    done = subprocess.run(
        [*at_home(), TREE / "scripts/engines.sh", os.environ["ONGGI"], "--engines", " ".join(ENGINES), *peers, "--run", command],
        pass_fds=[HOME] if at_home() else [], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    if done.returncode:
        sys.exit(f"bench.sh: a command under the engines failed, so there is no result:\n{done.stdout[-2000:]}")
    seen = collect(json.loads(line) for line in records.read_text().splitlines())
    times = {(engine, r.name): seen[f"{engine} {r.name}"]["run"] for engine in ENGINES for r in bench.oci}
    return [
        table(bench, times, "an engine's run of /bin/true, median (ms)", lambda samples: samples.median),
        table(bench, times, "an engine's run of /bin/true, minimum (ms)", lambda samples: samples.minimum),
    ]


def run(engine, runtime):
    """argv of one run; each call has its own container. The paths are those of the distribution's packages"""
    program = f"/usr/bin/{engine}"
    if engine == "ctr":
        return [program, "run", "--rm", "--runc-binary", runtime.path, IMAGE, "bench-%n", "/bin/true"]
    rest = ["--rm", "--network", "none", IMAGE, "/bin/true"]
    if engine == "docker":
        return [program, "run", "--runtime", f"peer-{runtime.name}", *rest]
    return [program, "--runtime", runtime.path, "run", *rest]


def at_home():
    """argv prefix of a command that is to see the machine's own cgroups, only v1 if it has both"""
    if not os.path.exists(f"/proc/self/fd/{HOME}"):
        return []
    hide = 'if [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified; fi; exec "$@"'
    return ["nsenter", f"--mount=/proc/self/fd/{HOME}", "unshare", "--mount", "--propagation", "private", "sh", "-ec", hide, "sh"]


def table(bench, times, title, of):
    columns = [f"{engine} run" for engine in ENGINES]
    ratios = [f"onggi is, {engine}" for engine in ENGINES] if any(r.name == "onggi" for r in bench.oci) else []
    result = Table(title, ["", *columns, *ratios], "no network; onggi is: onggi as a part of that row")
    for runtime in bench.oci:
        values = [of(times[engine, runtime.name]) for engine in ENGINES]
        parts = [of(times[engine, "onggi"]) / value for engine, value in zip(ENGINES, values)] if ratios else []
        result.row(runtime.name, *values, *parts)
    return result
