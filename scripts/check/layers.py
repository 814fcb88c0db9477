"""Checks which module of src uses which (the paths that begin with `crate::`), and that no modules use each other in a circle."""

import re

from rust import report, sources, without_comments, without_tests

# modules -> modules that they may use. `x` is the module itself, `x::*` also everything below it; the first matching row counts.
ROOMS = [
    ("main", "cli::* cmd::* error log trace"),
    ("lib", "cli::* cmd::* error log trace spec::* state::* facts cgroup::* sys::*"),
    ("cli::*", "cli::* abi::* error log plan::cgroup plan::request"),
    ("spec::*", "spec::* abi::* error"),
    ("facts::*", "facts::* sys::* abi::* error"),
    ("plan::container plan::exec", "plan::* spec::* facts::* abi::* error"),
    ("plan::show", "plan::* abi::*"),
    ("plan::cgroup::*", "plan plan::step plan::fmt plan::cgroup::* abi::* spec::* facts::* error"),
    ("plan::seccomp::*", "plan plan::step plan::fmt plan::seccomp::* abi::* spec::* error"),
    ("plan::*", "plan plan::step plan::fmt plan::* abi::* spec::* facts::* error"),
    ("launch::*", "launch::* plan::* cgroup::* state::* sync_socket sys::* abi::* error log trace"),
    ("cgroup::*", "cgroup::* plan::cgroup::* sys::* abi::* facts::* error"),
    ("sync_socket", "sys::* abi::*"),
    ("init::*", "init::* plan plan::step plan::image sync_socket sys::* abi::*"),
    ("state::*", "state::* sys::* abi::* error"),
    ("criu::*", "criu::* launch::* plan::* spec::* cgroup::* state::* sys::* abi::* error log"),
    ("cmd::*", "cmd::* criu::* cli::* spec::* facts::* plan::* launch::* cgroup::* state::* sync_socket sys::* abi::* error log trace"),
    ("abi::*", "abi::*"),
    ("sys::*", "sys::* abi::*"),
    ("error", "sys::* abi::*"),
    ("log", "sys::* error trace"),
    ("trace", "sys::* error"),
]

# (from, to): why this exception from the table is right
EXEMPT = {
    ("main", "sys"): "the program's arguments, its heap, and whether the environment is to be obeyed",
    ("plan::step", "sys::*"): "argument shapes of the typed calls that a step stands for; no call is made",
    ("plan::image", "sys::*"): "the prepared argv and envp that execve takes; no call is made",
    ("plan::terminal", "sys::tty"): "Size, the shape of a window",
    ("plan::devices", "sys::file"): "device(), which packs two numbers into one",
    ("plan::identity", "sys::cred"): "CapSets, the shape of five masks",
    ("plan::identity", "sys::task"): "SchedAttr, the shape of sched_setattr's argument",
    ("launch", "facts::*"): "the story of the host half hands the facts on to plan",
    ("launch::exec", "facts::*"): "so does the story of exec",
    ("spec", "sys::paths"): "reads a document that may be anything, in few calls",
    ("launch", "spec::*"): "the story of the host half hands the specification on to plan",
    ("launch::exec", "spec::*"): "the story of exec hands the checked process on to plan",
    ("launch::spawn", "init"): "the child of clone3 goes on in init",
    ("sync_socket", "plan::step"): "Slot and Sync, the numbers that both halves name",
}

USE = re.compile(r"\b(crate|onggi|super(?:::super)*)::")
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def module_of(path):
    parts = list(path.with_suffix("").parts[1:])
    return "::".join(parts[:-1] if parts[-1] == "mod" else parts)


def fits(module, patterns):
    return any(module == p or (p.endswith("::*") and (module + "::").startswith(p[:-1])) for p in patterns)


def tree(code, at):
    """the paths of the use tree that starts at `at`, and its end: a::{b, c::d} -> a::b, a::c::d"""
    if code[at : at + 1] == "{":
        paths, at = [], at + 1
        while at < len(code) and code[at] != "}":
            if WORD.match(code, at) or code[at] == "{":
                inner, at = tree(code, at)
                paths += inner
            else:
                at += 1
        return paths, at + 1
    word = WORD.match(code, at)
    if not word:
        return [[]], at
    if code.startswith("::", word.end()):
        inner, end = tree(code, word.end() + 2)
        return [[word.group(), *rest] for rest in inner], end
    return [[word.group()]], word.end()


def uses(module, code):
    """(line, path) of everything in this crate that a module names"""
    for match in USE.finditer(code):
        base = []
        if match.group(1).startswith("super"):
            base = module.split("::")[: -match.group(1).count("super")]
        for path in tree(code, match.end())[0]:
            # main reaches the library's private modules by this one
            path = path[1:] if path[:1] == ["program"] else path
            yield code.count("\n", 0, match.start()) + 1, base + path


def is_around(outer, inner):
    return (inner + "::").startswith(outer + "::")


def circles(arrows):
    """modules that use themselves through others; a module and its submodules count as one"""
    problems = []
    for start in sorted(arrows):
        way, queue = {start: None}, [start]
        while queue:
            for after in sorted(arrows.get(at := queue.pop(0), {})):
                if after == start:
                    names = [at]
                    while way[names[0]]:
                        names.insert(0, way[names[0]])
                    # report each circle once, at its first module
                    if start == min(names):
                        problems.append((arrows[at][start], f"a circle: {' -> '.join([*names, start])}"))
                elif after not in way:
                    way[after] = at
                    queue.append(after)
    return problems


def main():
    files = {module_of(path): (path, without_tests(without_comments(text))) for path, text in sources("src")}
    problems, arrows = [], {}
    for module, (path, code) in files.items():
        room = next((allowed for modules, allowed in ROOMS if fits(module, modules.split())), None)
        if room is None:
            problems.append((path, "belongs to no room: add it to ROOMS in scripts/check/layers.py"))
            continue
        for line, names in uses(module, code):
            # the longest prefix that is a module; the rest is an item in it
            target = next((p for n in range(len(names), 0, -1) if (p := "::".join(names[:n])) in files), None)
            if target is None:
                continue
            if not is_around(target, module) and not is_around(module, target):
                arrows.setdefault(module, {}).setdefault(target, f"{path}:{line}")
            if target == module or fits(target, room.split()):
                continue
            if not any(module == a and fits(target, [b]) for a, b in EXEMPT):
                problems.append((f"{path}:{line}", f"{module} may not use {target}"))
    report(problems + circles(arrows))


main()
