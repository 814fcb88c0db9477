"""Scenarios for drive.c and what comes back from it."""

import json
import statistics
import subprocess
import sys
from collections import defaultdict


class Scenario:
    """The text that drive.c reads, written with methods."""

    def __init__(self, rounds, warmup=3, parallel=1, quiet=0):
        self.lines = [("rounds", rounds), ("warmup", warmup), ("parallel", parallel), ("quiet", quiet)]

    def group(self, name):
        self.lines.append(("group", name))

    def step(self, name, argv):
        self.lines.append(("step", name, *argv))

    def untimed(self, argv):
        self.step("-", argv)

    def reap(self):
        self.lines.append(("reap",))

    def text(self):
        return "".join("\t".join(map(str, line)) + "\n" for line in self.lines)


class Samples:
    """All recorded runs of one step of one group; times in ms."""

    def __init__(self):
        self.cpu, self.ms, self.to_payload, self.minflt, self.maxrss, self.nvcsw = [], [], [], [], [], []
        self.spans = []  # (round, start, end) in ns

    def add(self, record, stamps):
        self.ms.append((record["end"] - record["start"]) / 1e6)
        self.spans.append((record["round"], record["start"], record["end"]))
        self.to_payload += [(s - record["start"]) / 1e6 for s in stamps if s > record["start"]][:1]
        self.cpu.append(record["cpu"] / 1e3)
        for field in ("minflt", "maxrss", "nvcsw"):
            getattr(self, field).append(record[field])

    @property
    def median(self):
        return statistics.median(self.ms)

    @property
    def minimum(self):
        return min(self.ms)

    def percentile(self, p):
        return sorted(self.ms)[min(len(self.ms) - 1, int(len(self.ms) * p / 100))]

    def per_second(self, burst):
        """throughput, where `burst` consecutive rounds are one burst, measured from its first start to its last end"""
        bursts = defaultdict(list)
        for number, start, end in self.spans:
            bursts[number // burst].append((start, end))
        busy = sum(max(end for _, end in runs) - min(start for start, _ in runs) for runs in bursts.values())
        return len(self.spans) / (busy / 1e9)


def drive(out, scenario):
    """runs the scenario and returns {group: {step: Samples}}; exits if a command failed"""
    path, errors = out / "scenario.txt", out / "stderr.txt"
    path.write_text(scenario.text())
    with open(errors, "w") as stderr:
        done = subprocess.run([out / "drive", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True)
    if done.returncode:
        sys.exit(f"bench.sh: a command failed, so there is no result:\n{errors.read_text()[:2000]}")
    return collect(json.loads(line) for line in done.stdout.splitlines())


def collect(records):
    """what drive.c has printed as {group: {step: Samples}}"""
    records = list(records)
    stamps = {(r["group"], r["round"]): r["stamps"] for r in records if "stamps" in r}
    result = defaultdict(lambda: defaultdict(Samples))
    for record in (r for r in records if "step" in r):
        result[record["group"]][record["step"]].add(record, stamps.get((record["group"], record["round"]), []))
    return result
