#!/usr/bin/env python3
"""hammer.py RUNTIME [--seconds N] [--alive N]: many callers at once.

First sixteen callers make, start, kill, pause and delete one container for N seconds, as they like. Afterwards `delete --force`
must succeed, nothing may be left, and the id must be usable. Each call must end within 60 s, and say why if it fails. Then, with
--alive, N containers are created, started, listed and deleted, 32 at once, and nothing may be left of them.

Last line: `N injected, N clean, N failed`, where each call and each look at what is left is one; status 1 if any failed."""

import argparse
import collections
import concurrent.futures
import os
import random
import re
import shutil
import subprocess
import sys
import time

import world as faults

VERBS = ["create", "create", "run", "run", "start", "start", "kill", "delete", "force", "force", "state", "exec", "list", "pause", "resume"]
CALLERS, AT_ONCE, LONGEST = 16, 32, 60


class Crowd:
    """Calls of many threads, counted; children that nobody else waits for are reaped at the end alone."""

    def __init__(self, world):
        self.world = world
        self.calls, self.failed, self.said = 0, [], collections.Counter()

    def call(self, label, *argv):
        path = f"{self.world.w}/said-{label}"
        with open(path, "w+b") as said:
            child = subprocess.Popen([*self.world.base, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
            try:
                status = child.wait(LONGEST)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                status = "hang"
            said.seek(0)
            text = said.read().decode(errors="replace").strip()
        os.unlink(path)
        self.said[argv[0], status, re.sub(r"[0-9]{2,}", "N", text.split("msg=")[-1])[:160]] += 1
        # the status of `exec` may be that of its process, which had nothing to say
        told = status == 0 or text or (argv[0] == "exec" and status not in (1, 255))
        wrong = "hang" if status == "hang" else f"signal {-status}" if status < 0 else "panic" if "panicked" in text else None if told else "mute"
        if wrong:
            self.failed.append(f"{' '.join(argv)}: {wrong}: {text[-200:]}")
        return status

    def judge(self, label, wrong):
        self.calls += 1
        if wrong:
            self.failed.append(f"{label}: {wrong}")


def hammer(crowd, bundle, seconds):
    words = {
        "create": ["create", "-b", bundle, "c"], "run": ["run", "-d", "-b", bundle, "c"], "start": ["start", "c"],
        "kill": ["kill", "c", "KILL"], "delete": ["delete", "c"], "force": ["delete", "--force", "c"], "state": ["state", "c"],
        "exec": ["exec", "c", "/bin/true"], "list": ["list"], "pause": ["pause", "c"], "resume": ["resume", "c"],
    }
    end = time.time() + seconds

    def caller(number):
        choose, seen = random.Random(number), collections.Counter()
        while time.time() < end:
            verb = choose.choice(VERBS)
            seen[verb, crowd.call(number, *words[verb]) == 0] += 1
        return seen

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        seen = sum(pool.map(caller, range(CALLERS)), collections.Counter())
    crowd.calls += sum(seen.values())
    launched = seen["create", True] + seen["run", True]
    print(f"# {sum(seen.values())} calls in {seconds} s, {launched} of {launched + seen['create', False] + seen['run', False]} launches succeeded")
    for (verb, status, text), count in sorted(crowd.said.items(), key=lambda item: (item[0][0], -item[1])):
        print(f"#   {count:5d} {verb:7s} {status} {text}")
    status = crowd.call("end", "delete", "--force", "c")
    crowd.judge("delete --force", status and f"status {status}")
    crowd.judge("what is left", "; ".join(crowd.world.leftovers(5)))
    crowd.world.wipe()
    again = [crowd.call("end", *words["create"]), crowd.call("end", *words["force"])]
    crowd.judge("the id is used again", any(again) and f"status {again}")
    crowd.judge("launches", not launched and "none succeeded")


def alive(crowd, count):
    ids = [f"c{i}" for i in range(count)]
    bundles = {id: crowd.world.sleeper(id) for id in ids}
    for what in (["create", "-b"], ["start"], ["exec"], ["delete", "--force"]):
        def one(id):
            argv = [*what, bundles[id], id] if what[-1] == "-b" else [*what, id, "/bin/true"] if what == ["exec"] else [*what, id]
            return crowd.call(id, *argv)

        begun = time.time()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for id, status in zip(ids, pool.map(one, ids)):
                crowd.judge(f"{what[0]} {id}", status and f"status {status}")
        print(f"# {what[0]} of {count}, {AT_ONCE} at once: {time.time() - begun:.1f} s")
        if what == ["start"]:
            listed = subprocess.run([*crowd.world.base, "list", "-q"], capture_output=True, text=True)
            crowd.judge("list", len(listed.stdout.split()) != count and f"{len(listed.stdout.split())} of {count}")
    for bundle in bundles.values():
        shutil.rmtree(bundle)
    crowd.judge("what is left", "; ".join(crowd.world.leftovers(5)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    faults.arguments(p)
    p.add_argument("--seconds", type=int, default=60)
    p.add_argument("--alive", type=int, default=0)
    args = p.parse_args()
    args.bundles = "spec"
    with faults.entered(args) as world:
        bundle = world.sleeper("c")
        os.makedirs(world.root, mode=0o700)
        world.remember()
        crowd = Crowd(world)
        hammer(crowd, bundle, args.seconds)
        if args.alive:
            alive(crowd, args.alive)
        world.wipe()
    for line in crowd.failed:
        print("FAILED", line)
    print(f"{crowd.calls} injected, {crowd.calls - len(crowd.failed)} clean, {len(crowd.failed)} failed")
    sys.exit(bool(crowd.failed))


main()
