"""Reads Rust sources line by line with comments and the contents of literals removed; shared by the checks."""

import re
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]

# what is skipped as a whole, in the order of matching; a lifetime ('a) is not a character ('a')
SKIPPED = re.compile(
    r"""(?P<line>//[^\n]*)
      | (?P<block>/\*.*?\*/)
      | (?P<raw>b?c?r(?P<hashes>\#*)".*?"(?P=hashes))
      | (?P<string>[bc]?"(?:\\.|[^"\\])*")
      | (?P<char>b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\\n])')""",
    re.X | re.S,
)


def without_comments(text):
    """the same text, line by line, with comments blanked and literals emptied"""

    def blank(match):
        lines = "\n" * match.group().count("\n")
        return lines if match.lastgroup in ("line", "block") else '""' + lines

    return SKIPPED.sub(blank, text)


def without_tests(code):
    """the same lines with every `#[cfg(test)]` item blanked (rustfmt puts its closing bracket at the item's indentation)"""
    lines, skip_until, pending = code.split("\n"), None, False
    for i, line in enumerate(lines):
        if skip_until is not None:
            if line.startswith(skip_until):
                skip_until = None
            lines[i] = ""
        elif line.strip() == "#[cfg(test)]":
            pending, lines[i] = True, ""
        elif pending and line.strip() and not line.strip().startswith("#"):
            pending = False
            if line.rstrip().endswith(("{", "[", "(")):
                skip_until = line[: len(line) - len(line.lstrip())] + ("}" if line.rstrip().endswith("{") else "]")
            lines[i] = ""
    return "\n".join(lines)


def sources(*rooms):
    """(path relative to the tree, text) of every Rust file below the named directories"""
    for room in rooms:
        for path in sorted((TREE / room).rglob("*.rs")):
            yield path.relative_to(TREE), path.read_text()


def report(problems):
    """prints the problems and exits with 1 if there are any"""
    for where, what in problems:
        print(f"{where}: {what}")
    sys.exit(1 if problems else 0)
