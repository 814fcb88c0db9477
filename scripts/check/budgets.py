"""Checks sizes: a file has at most 500 lines, a function at most 60 lines of code.

Tables and generated files are exempt. Mark them with a comment `// check: table: REASON` above the item (const, static, fn,
macro call), or `//! check: table: REASON` among the first lines of a file for the whole file. `budgets.py --exempt` lists them.
"""

import re
import sys

from rust import TREE, report, sources, without_comments

FILE_LINES, FUNCTION_LINES = 500, 60
MARK = re.compile(r"^\s*(//!|//|#) ?check: (table|generated): (.+)")
FUNCTION = re.compile(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:default )?(?:const )?(?:async )?(?:unsafe )?(?:extern \S+ )?fn (\w+)")


def indent(line):
    return len(line) - len(line.lstrip())


def end_of_item(lines, start):
    """the last line of the item that starts at `start`: rustfmt puts its closing bracket at the item's indentation"""
    first = start
    while first < len(lines) and lines[first].strip().startswith(("//", "#[", "#!", "/*")):
        first += 1
    if first < len(lines) and lines[first].rstrip().endswith((";", "}", ",")):
        return first
    for i in range(first + 1, len(lines)):
        if lines[i].strip() and indent(lines[i]) <= indent(lines[first]) and lines[i].lstrip()[0] in "}])":
            if not lines[i].rstrip().endswith(("{", "(", "[")):
                return i
    return len(lines) - 1


def marks(lines):
    """(first line, last line, reason) of every exempt range"""
    for i, line in enumerate(lines):
        if match := MARK.match(line):
            whole = match.group(1) in ("//!", "#")
            yield (0, len(lines) - 1, match.group(3)) if whole else (i, end_of_item(lines, i), match.group(3))


def functions(code):
    """(line, name, lines of code in its body) of a file without comments"""
    lines = code.split("\n")
    for i, line in enumerate(lines):
        if match := FUNCTION.match(line):
            start = i
            while start < len(lines) and not lines[start].rstrip().endswith(("{", ";", "}")):
                start += 1
            if start == len(lines) or not lines[start].rstrip().endswith("{"):
                continue
            closing = match.group(1) + "}"
            end = next((k for k in range(start + 1, len(lines)) if lines[k].startswith(closing)), start)
            yield i, match.group(2), sum(1 for l in lines[start + 1 : end] if l.strip())


def scripts():
    for path in sorted(p for kind in ("sh", "py", "c") for p in (TREE / "scripts").rglob(f"*.{kind}")):
        yield path.relative_to(TREE), path.read_text()


def main():
    problems, exempt = [], []
    for path, text in [*sources("src", "tests", "bundles"), *scripts()]:
        lines = text.split("\n")
        tables = list(marks(lines))
        exempt += [(f"{path}:{first + 1}", reason) for first, _, reason in tables]
        free = {i for first, last, _ in tables for i in range(first, last + 1)}
        if (counted := len(lines) - 1 - len(free)) > FILE_LINES:
            problems.append((path, f"{counted} lines outside tables, at most {FILE_LINES}"))
        if path.suffix != ".rs":
            continue
        for line, name, length in functions(without_comments(text)):
            if length > FUNCTION_LINES and line not in free:
                problems.append((f"{path}:{line + 1}", f"fn {name} has {length} lines of code, at most {FUNCTION_LINES}"))
    if "--exempt" in sys.argv:
        report([*exempt]) if exempt else print("no exemptions")
    report(problems)


main()
