#!/usr/bin/env python3
"""sweep.py RUNTIME: lets every single system call of an OCI runtime fail once, and the runtime be killed there once.

For each verb and bundle a first run is recorded; then there is one run for each call of each task, in which this call fails,
and one in which its process is killed as it enters the call. A case fails if one of these is so afterwards:

  hang         it did not end within 10 s (an untraced call that cleans up: the same)
  lie          status 0, but what was asked for is not so
  mute         status not 0 without a word on stderr
  crash        it was ended by a signal that nobody sent, or panicked
  left         it failed, and something of the container is there before anybody calls `delete --force`
  stuck        `delete --force ID` fails with something else than "does not exist"
  leak         after `delete --force` there is a process, a cgroup, a mount, a state directory or a file too many
  taken        the same id cannot be created and deleted again
  changed      it succeeded, and the process sees other mounts, rights, limits or cgroups than without the fault
  lost         a call on a running container failed and the container is not running any more, or half changed

CASE: TASK:CALL:N:ERRNO or TASK:CALL:N:KILL, as a line FAILED shows it. --pairs: the failure is the execve of the payload (or
--first CASE), and all that the runtime does about it fails or is killed in turn; and each kind of call fails together with every
rmdir of a cgroup, or every umount2. --races: the call stands still at each of its system calls while somebody else calls
`delete --force` (with delete and kill: and makes the container anew); `orphan` is a container that runs and that nobody knows.
--sample N: every Nth case only.

Needs root, gcc, a static busybox. Last line: `N injected, N clean, N failed`; status 1 if any failed."""

import argparse
import errno
import os
import signal
import sys
import time

import world as faults
from errnos import ERRNOS, INTERRUPTIBLE, MUSL, NEVER, UNFAILING
from verbs import OPS, Delete, Kill, Start


class Sweep:
    def __init__(self, world, args):
        self.world, self.args = world, args
        self.injected = self.clean = self.missed = 0
        self.failed, self.vague, self.tolerated = [], [], []

    def sampled(self, number):
        return number % self.args.sample == self.args.offset % self.args.sample

    def record(self, op, points=()):
        w = self.world
        op.ready()
        result = w.traced(op.argv(), points=points, log=True, wait_all=op.wait_all, during=op.during and op.during)
        result["killed"] = False
        calls, after, hit = [], False, not points
        for line in result["text"].splitlines():
            f = line.split()
            if f[0] == "hit":
                hit = True
            if f[0] in ("exit", "signal"):
                after = True
            if f[0] == "call" and hit and (not op.wait_all or (after and f[1].startswith("p"))):
                calls.append((f[1], w.nr.get(int(f[2]), f[2]), int(f[3])))
        if not points and (result["status"] != ("exit", 0) or (why := op.good(result))):
            raise SystemExit(f"baseline {type(op).__name__}: {result['status']} {result['err']} {why if result['status'] == ('exit', 0) else ''}")
        if not points:
            op.seen = op.view()
        if not op.keeps:
            w.call("delete", "--force", "c")
        if left := [] if op.keeps else w.leftovers():
            print(f"# baseline {type(op).__name__} leaves {left}")
            w.wipe()
            op.have = False
        return calls

    def one(self, op, label, points, always=()):
        w = self.world
        op.ready()
        result = w.traced(op.argv(), points=points, always=always, wait_all=op.wait_all, during=op.during and op.during)
        if result["hits"] < len(points):
            self.missed += 1
            if self.args.v:
                print(f"# missed {label}")
        else:
            self.injected += 1
        task, name, occ, what = points[-1]
        result["killed"], result["fault"] = what == "KILL" and task.startswith("p"), (task, name, what)
        kind, number = result["status"]
        problems, err = [], result["err"]
        shown = err
        if kind == "hang":
            problems.append("hang " + " ".join(f"{p.split(':')[0]} in {w.nr.get(int(p.split(':')[1]), '-')}" for p in number.split()[1:]))
        elif kind == "signal" and what == "KILL" and (why := op.after_kill()):
            problems.append("lost: " + why)
        elif kind == "signal" and not (what == "KILL" and number == signal.SIGKILL and not task.startswith("p")):
            problems.append(f"crash: signal {number}")
        elif kind == "exit" and number and "panicked" in err:
            problems.append("crash: panic")
        elif kind == "exit" and number == 0:
            if why := op.good(result):
                problems.append("lie: " + why)
            elif op.during and result["late"][0]:
                shown = result["late"][2]
            elif what != "KILL" and op.seen and not op.refused(result) and (why := self.changed(op, [p[1] for p in points])):
                problems.append("changed: " + why)
            elif result["hits"] >= len(points):
                self.tolerated.append((label, w.output()[-80:].strip(), err.strip()[-200:]))
        elif kind == "exit":
            if not err.strip():
                problems.append("mute")
            if why := op.bad(result):
                problems.append("lost: " + why)
        reasons = ["killed", "is gone"] if what == "KILL" else [os.strerror(getattr(errno, what)).lower(), *MUSL.get(what, ())]
        if shown.strip() and (kind == "exit" and (number or op.during)) and not any(r in shown.lower() for r in reasons) and result["hits"]:
            self.vague.append((label, shown.strip()[-300:]))
        if kind == "exit" and number and op.makes and not isinstance(op, Start):
            if (left := w.leftovers(0.3)) and not always and not (len(points) > 1 and "level=warning" in err):
                problems.append("left: " + "; ".join(left))
        if not op.keeps or problems:
            rc, _, derr = w.call("delete", "--force", "c")
            if rc and "does not exist" not in derr:
                problems.append(f"stuck: delete --force: {rc} {derr.strip()[-300:]}")
            if left := w.leftovers():
                problems.append("leak: " + "; ".join(left))
                w.wipe()
            rc, _, cerr = w.call("create", *w.console(), "-b", op.bundle + "/short", "c")
            rc2, _, derr = w.call("delete", "--force", "c")
            if rc or rc2:
                problems.append(f"taken: {cerr.strip()[-200:]} {derr.strip()[-200:]}")
            if w.leftovers():
                problems.append("leak after a clean create+delete: " + "; ".join(w.leftovers(0)))
                w.wipe()
            op.have = False
        if problems:
            self.failed.append(label)
            print(f"FAILED {label} | {' | '.join(problems)} | stderr: {shown.strip()[-300:]!r}", flush=True)
        elif result["hits"] >= len(points):
            self.clean += 1
        return result

    def changed(self, op, names):
        """What the process sees that it does not see without the fault."""
        now = op.view()
        lost, new = sorted(op.seen - now), sorted(now - op.seen)
        if "rt_sigaction" in names:
            # only a seccomp profile refuses that, and it refuses it to the payload as well
            lost, new = ([line for line in lines if not line.startswith("SigIgn")] for lines in (lost, new))
        return f"the process sees {new[:3] or 'nothing new'} instead of {lost[:3] or 'nothing'} ({len(lost)})" if lost or new else None

    def cases(self, calls):
        seen_exec, begun = False, self.args.first or any(t != "0" for t, _, _ in calls[:1])
        for task, name, occ in calls:
            if name in NEVER or (name == "execve" and task == "0" and not seen_exec):
                seen_exec |= name == "execve"
                continue
            # the C library's own start, before there is anybody who could say something
            begun = begun or name not in ("mmap", "brk", "mprotect", "execve", "prctl", "prlimit64", "readlink", "readlinkat", "getrandom")
            if not begun:
                continue
            if name in UNFAILING:
                pass
            elif name not in ERRNOS:
                if self.args.v:
                    print(f"# no errno for {name}")
                yield task, name, occ, "ENOMEM"
            else:
                yield task, name, occ, ERRNOS[name]
            if self.args.eintr and name in INTERRUPTIBLE:
                yield task, name, occ, "EINTR"
            yield task, name, occ, "KILL"

    def sweep(self, verb, bundle):
        op = OPS[verb](self.world, bundle)
        if op.bundle is None:
            return
        op.have = False
        self.world.remember_op = verb
        start, n, d = time.time(), self.injected, len(self.failed)
        tag = f"{verb}/{bundle}"
        if self.args.races:
            self.races(op, tag)
        elif self.args.pairs:
            self.pairs(op, tag)
        else:
            calls = self.record(op)
            todo = list(self.cases(calls))
            if self.args.only:
                want = [tuple(x.split(":")) for x in self.args.only]
                todo = [(t, c, int(n), e) for t, c, n, e in want]
            for i, case in enumerate(todo):
                if self.sampled(i):
                    began = time.time()
                    result = self.one(op, f"{tag} {':'.join(map(str, case))}", [case])
                    if time.time() - began > 2.5:
                        print(f"# slow: {tag} {':'.join(map(str, case))}: {time.time() - began:.1f} s", flush=True)
                    if self.args.only:
                        print(f"# {case}: {result['status']} {result['err'].strip()!r} {result['late'] or ''}")
        if op.keeps:
            answer = self.world.call("delete", "--force", "c")
            if left := self.world.leftovers():
                print(f"FAILED {tag} at the end | leak: {left} | {answer}")
                self.failed.append(tag + " at the end")
                self.world.wipe()
        print(f"# {tag}: {self.injected - n} injected, {len(self.failed) - d} failed, {time.time() - start:.0f} s", flush=True)

    def races(self, op, tag):
        """The call stands still at each of its calls while somebody else deletes the container, or replaces it."""
        w = self.world

        def delete():
            return [w.call("delete", "--force", "c")]

        def replace():
            return [w.call("delete", "--force", "c"), w.call("create", "-b", op.bundle + "/long", "c")]

        beside = replace if isinstance(op, (Delete, Kill)) else delete
        waits = [case for case in self.cases(self.record(op)) if case[3] == "KILL"]
        for i, (task, name, occ, what) in enumerate(waits):
            if not self.sampled(i) or (self.args.only and f"{task}:{name}:{occ}" not in [":".join(x.split(":")[:3]) for x in self.args.only]):
                continue
            label = f"{tag} {task}:{name}:{occ}:WAIT + {beside.__name__} beside it"
            op.ready()
            result = w.traced(op.argv(), points=[(task, name, occ, "WAIT1500")], wait_all=op.wait_all, beside=beside)
            self.injected += 1
            problems, said = [], [(x[0], x[2].strip()[-120:]) for x in result["late"]]
            kind, number = result["status"]
            op.after_kill()
            there = w.status()
            if kind == "hang":
                problems.append("hang")
            if beside is delete and kind == "exit" and number == 0 and there == "none" and w.leftovers(0.5):
                problems.append("orphan: it said 0, the container is not known: " + "; ".join(w.leftovers(0)))
            if beside is replace and said[-1][0] == 0 and there != "created" and w.processes():
                problems.append(f"orphan: the new container is {there}: " + "; ".join(w.leftovers(0)))
            rc, _, derr = w.call("delete", "--force", "c")
            if rc and "does not exist" not in derr:
                problems.append(f"stuck: delete --force: {rc} {derr.strip()[-300:]}")
            if left := w.leftovers():
                problems.append("leak: " + "; ".join(left))
                w.wipe()
            op.have = False
            if self.args.only:
                print(f"# {label}: {kind} {number} {result['err'].strip()[-300:]!r}, beside {said}, then {there}")
            if problems:
                self.failed.append(label)
                print(f"FAILED {label} | {' | '.join(problems)} | it: {kind} {number} {result['err'].strip()[-200:]!r} | beside: {said}", flush=True)
            else:
                self.clean += 1

    def pairs(self, op, tag):
        calls = self.record(op)
        task = next((t for t, n, o in reversed(calls) if t.startswith("p")), "0")
        firsts = [tuple(self.args.first.split(":"))] if self.args.first else []
        firsts = [(t, c, int(n), e) for t, c, n, e in firsts]
        if not firsts:
            last = [(t, n, o) for t, n, o in calls if t == task][-1]
            firsts = [(*last, ERRNOS.get(last[1], "ENOMEM"))]
        for first in firsts:
            later = self.record(op, points=[first])
            for i, case in enumerate(self.cases(later)):
                if case[:3] == first[:3] or not self.sampled(i):
                    continue
                self.one(op, f"{tag} {':'.join(map(str, first))} + {':'.join(map(str, case))}", [first, case])
        seen = set()
        first_of = {(t, n): o for t, n, o, _ in reversed(list(self.cases(calls)))}
        for t, n, o in calls:
            if n in UNFAILING or (t, n) in seen or first_of.get((t, n)) != o:
                continue
            seen.add((t, n))
            if not self.sampled(len(seen)):
                continue
            for undo in (("unlinkat", "EBUSY", "cgroup"), ("rmdir", "EBUSY", self.world.root), ("umount2", "EBUSY", "")):
                if undo[0] == n:
                    continue
                # not the slow one for each: a cgroup that stays busy is waited for
                self.one(op, f"{tag} {t}:{n}:{o}:{ERRNOS.get(n, 'ENOMEM')} + all {undo[0]}({undo[2]}) {undo[1]}", [(t, n, o, ERRNOS.get(n, "ENOMEM"))], [undo] + ([("rmdir", "EBUSY", "cgroup")] if undo[0] == "unlinkat" else []))


def inject(world, args):
    world.call("--version")
    sweep = Sweep(world, args)
    for bundle in args.bundles.split(","):
        # what a first run leaves in a root file system is no leak
        world.mounts, world.known = len(open("/proc/self/mountinfo").readlines()), set()
        world.terminal = bundle == "tty"
        how = ["run", "-d", *world.console()] if world.terminal else ["run"]
        rc, _, err = world.call(*how, "-b", world.bundles[bundle] + "/short", "c")
        if world.terminal:
            time.sleep(0.2)
            world.call("delete", "--force", "c")
        if rc:
            print(f"FAILED {bundle}: does not run: {rc} {err.strip()}")
            sweep.failed.append(bundle)
            continue
        for name in ("/long", "/resources"):
            open(world.w + name, "w").close()
        world.remember()
        for verb in args.verbs.split(","):
            if bundle == "tty" and verb not in ("create", "run-detached", "start"):
                continue  # there is nothing else about terminals
            try:
                sweep.sweep(verb, bundle)
            except SystemExit as why:
                print(f"FAILED {verb}/{bundle}: not swept: {why}", flush=True)
                sweep.failed.append(verb)
                world.wipe()
    for label, text in sweep.vague if args.vague else []:
        print(f"VAGUE {label} | {text!r}")
    for label, _, err in sweep.tolerated if args.tolerated else []:
        print(f"TOLERATED {label}" + (f" | {err!r}" if err else ""))
    if sweep.missed:
        print(f"# {sweep.missed} calls that a first run made were not made again")
    print(f"{sweep.injected} injected, {sweep.clean} clean, {len(sweep.failed)} failed")
    return 1 if sweep.failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    faults.arguments(p)
    p.add_argument("--verbs", default=",".join(OPS))
    p.add_argument("--bundles", default="spec,docker,userns,hooks,tty")
    p.add_argument("--only", action="append", metavar="CASE")
    p.add_argument("--pairs", action="store_true")
    p.add_argument("--first", metavar="CASE")
    p.add_argument("--races", action="store_true")
    p.add_argument("--sample", type=int, default=1)
    p.add_argument("--offset", type=int, default=0, help="which of the sample")
    p.add_argument("--eintr", action="store_true", help="also EINTR where a call can be interrupted")
    p.add_argument("--vague", action="store_true", help="also show errors that do not say the kernel's reason")
    p.add_argument("--tolerated", action="store_true", help="also show failures that changed nothing")
    p.add_argument("-v", action="store_true")
    args = p.parse_args()
    with faults.entered(args) as world:
        status = inject(world, args)
        world.wipe()
    sys.exit(status)


main()
