"""Generates start-path.ld: the order in which the linker places the functions that a container's life executes.

    bench.sh order

Each verb is run one instruction at a time (steps.c); the linker's map of that build says to which section an instruction belongs.
A section is named after its function, so the list stays valid when other code changes. Parts of a name that the compiler may change (the
hash of a crate, the number of an impl or a closure, back references) are wildcards. A name that no longer exists matches nothing and is
harmless; a new function is placed with the cold ones until the list is regenerated. `bench.sh guard` shows when that is necessary.
"""

import argparse
import ctypes
import fnmatch
import json
import os
import re
import subprocess
import sys
import time
from bisect import bisect_right
from pathlib import Path

import spec
from axes.config import docker_default

TREE = Path(__file__).parents[2]
ORDER = TREE / "scripts/bench/start-path.ld"
PR_SET_CHILD_SUBREAPER = 36

SECTION = re.compile(r"^ (\.(?:text|rodata)\S*)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s(\S.*)$", re.M)

HEAD = """\
/* start-path.ld: the functions of a start in the order in which they first run, side by side in the program.
 * Written by `scripts/bench.sh order`, not by hand; handed to the linker by build.rs; scripts/bench/order.py says more. */
"""


class Map:
    """The sections and their addresses, from the map that GNU ld writes"""

    def __init__(self, path):
        text = path.read_text(errors="replace")
        # a long name is on a line of its own
        text = re.sub(r"^( \.\S+)\n +", r"\1 ", text, flags=re.M)
        found = ((int(at, 16), int(size, 16), name, file) for name, at, size, file in SECTION.findall(text))
        self.sections = sorted(entry for entry in found if entry[0] and entry[1])
        self.starts = [entry[0] for entry in self.sections]
        if not self.sections:
            sys.exit(f"bench.sh: {path} is not a map of GNU ld's")

    def at(self, address):
        """the section that holds an address, or None"""
        number = bisect_right(self.starts, address) - 1
        at, size, name, file = self.sections[number] if number >= 0 else (0, 0, "", "")
        return (name, file, size) if at <= address < at + size else None


class Steps:
    """Runs verbs of the runtime under steps.c"""

    def __init__(self, tool, program, out):
        self.tool, self.program, self.out = tool, program, out
        self.state = out / "run/order"
        self.seen = []

    def begin(self, *words, before=()):
        seen = self.out / f"steps-{len(self.seen)}.txt"
        seen.unlink(missing_ok=True)
        self.seen.append(seen)
        print("  " + " ".join(map(str, words)), flush=True)
        argv = [*before, self.tool, seen, self.program, "--root", self.state, *words]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(9,))

    def run(self, *words, before=()):
        if status := self.begin(*words, before=before).wait():
            sys.exit(f"bench.sh: {words[0]} ended with {status} under steps")

    def runtime(self, *words):
        """at full speed"""
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.run([self.program, "--root", self.state, *words], **quiet).returncode == 0

    def status(self, ident):
        asked = subprocess.run([self.program, "--root", self.state, "state", ident], capture_output=True)
        return json.loads(asked.stdout)["status"] if asked.returncode == 0 else None

    def life(self, bundle, waits):
        """every verb of a container's life, the most time-critical first"""
        self.run("run", "--bundle", bundle.path, "order-run")
        # under steps, init waits at the gate until `start`
        created = self.begin("create", "--bundle", bundle.path, "order-life")
        while self.status("order-life") != "created":
            if created.poll() is not None:
                sys.exit("bench.sh: create ended under steps")
            time.sleep(0.1)
        self.run("start", "order-life")
        created.wait()
        self.runtime("delete", "--force", "order-life")
        if not self.runtime("create", "--bundle", waits.path, "order-waits") or not self.runtime("start", "order-waits"):
            sys.exit("bench.sh: a container that waits could not be started")
        self.run("exec", "order-waits", "/bin/true", "stamp")
        self.run("state", "order-waits")
        self.run("kill", "order-waits", "KILL")
        while not self.runtime("delete", "order-waits"):
            time.sleep(0.1)
        self.runtime("create", "--bundle", bundle.path, "order-gone")
        self.run("delete", "--force", "order-gone")


def patterns(section, file):
    """a pattern for a section in a linker script that matches in every build"""
    member = re.search(r"([^/]*)\.(\w+)$", re.sub(r"^.*\(|\)$", "", file))
    if section == ".text" and member:
        # functions of C and assembler code have no sections of their own: name the object files
        where = re.sub(r".*/|\(.*", "", file)
        return [f"*{where}:{member[1]}.*(.text)" if "(" in file else f"*{where}(.text)"]
    name = re.sub(r"Cs[0-9A-Za-z]+_", "Cs*_", section)
    if "._R" in name:
        name = re.sub(r"([Bs])[0-9A-Za-z]{0,2}_", r"\1*_", name)
    return [f"*({name})"]


def script(pieces):
    """`pieces`: patterns of code, and the names of its functions' tables"""
    code, tables = pieces
    lines = [HEAD, "SECTIONS", "{"]
    for name, inside in ((".text.start_path", code), (".rodata.start_path", tables)):
        lines += [f"    {name} :", "    {", *(f"        {pattern}" for pattern in inside), "    }"]
    # each next to the function that it was split from
    first, second = (lines.index(f"    {name} :") for name in (".text.start_path", ".rodata.start_path"))
    before = lambda section: ["}", f"INSERT BEFORE {section};"]
    return "\n".join([*lines[:second], *before(".text"), "", "SECTIONS", "{", *lines[second:], *before(".rodata"), ""])


def order(layout, seen):
    """the patterns of the sections that ran, each once, in order; and how many bytes ran of how many"""
    code, tables, sizes = {}, {}, {}
    named = {name for _, _, name, _ in layout.sections if name.startswith(".rodata._R")}
    for path in seen:
        for line in path.read_text().split():
            if not (found := layout.at(int(line, 16))) or not found[0].startswith(".text"):
                continue
            section, file, size = found
            sizes[section, file] = size
            code |= dict.fromkeys(patterns(section, file))
            table = re.sub(r"^\.text(\.unlikely|\.hot)?", ".rodata", section)
            if table in named:
                tables |= dict.fromkeys(patterns(table, file))
    return (list(code), list(tables)), sum(sizes.values())


def caught(layout, code):
    """bytes of all sections that match the list: those that run, and others with matching names"""
    wanted = re.compile("|".join(fnmatch.translate(p[2:-1]) for p in code if p.startswith("*(")))
    return sum(size for _, size, name, _ in layout.sections if wanted.match(name))


def main():
    parser = argparse.ArgumentParser(prog="bench.sh order")
    parser.add_argument("--out", type=Path, required=True, help=argparse.SUPPRESS)
    out = parser.parse_args().out.resolve()
    # adopt the runtime's orphans, because PID 1 may not reap them
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    layout = Map(Path(os.environ["ONGGI_MAP"]))
    steps = Steps(out / "steps", os.environ["ONGGI"], out)
    print("one instruction at a time:")
    waits = spec.Bundle(out / "bundles/order-waits", out / "true", lambda config: config["process"].update(args=["/bin/true", "wait"]))
    bench = argparse.Namespace(out=out)
    steps.life(spec.Bundle(out / "bundles/order", out / "true", None), waits)
    docker = spec.Bundle(out / "bundles/order-docker", out / "true", lambda config: docker_default(bench, config))
    steps.run("run", "--bundle", docker.path, "order-docker")
    # descriptor 9 is the machine's own mount namespace (bench.sh); with cgroup v1 more functions run
    steps.run("run", "--bundle", docker.path, "order-own", before=["nsenter", "--mount=/proc/self/fd/9"])
    # first what every start runs, then what only engines' containers run, then the small verbs
    first, *verbs, docker_run, own = steps.seen
    pieces, size = order(layout, [first, docker_run, *verbs, own])
    ORDER.write_text(script(pieces))
    print(f"{len(pieces[0])} functions with {size >> 10} KB ran; their names match {caught(layout, pieces[0]) >> 10} KB: {ORDER.name}")


if __name__ == "__main__":
    main()
