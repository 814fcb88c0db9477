"""Checks for words that must not be in the tree, or not in certain modules."""

import re

from rust import TREE, report, sources, without_comments, without_tests

# marks of unfinished code; split so that this file passes its own check
LOOSE = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "to" + "do!", "unimpl" + "emented!", "db" + "g!"]) + ")")
UNSAFE_ROOMS = ("src/sys/",)
# init runs between clone and exec, when another thread may hold the allocator's lock: it must not allocate
ALLOCATES = re.compile(
    r"\b(Vec|String|Box|Rc|Arc|CString|PathBuf|OsString|HashMap|BTreeMap|format!|vec!|println!|eprintln!|panic!)"
    r"|\.(to_string|to_owned|to_vec|into_boxed_\w+|collect|join|concat|clone)\("
)
# names that do not say what a thing is
EMPTY_NAMES = re.compile(r"\b(struct|enum|trait|type|mod)\s+(\w*(?:Manager|Helper|Util|Utils|Impl|Builder|Data)|Context|utils?|helpers?|common)\b")
EMPTY_VERBS = re.compile(r"\bfn (handle|do)_\w+")
# (path, word): why it is allowed there
EXEMPT = {
    ("src/error.rs", "Context"): "the extension trait that puts context in front of an error, not a bag of things",
}
TEXT = {".rs", ".sh", ".py", ".c", ".md", ".json", ".toml", ".txt"}


def loose_ends():
    for room in ("src", "tests", "scripts", "bundles"):
        for path in sorted(p for p in (TREE / room).rglob("*") if p.suffix in TEXT and "rootfs" not in p.parts):
            for number, line in enumerate(path.read_text(errors="replace").split("\n"), 1):
                if found := LOOSE.search(line):
                    yield f"{path.relative_to(TREE)}:{number}", f"{found.group()}: finish it or take it out"


def in_code(path, code):
    name = str(path)
    for number, line in enumerate(code.split("\n"), 1):
        where = f"{path}:{number}"
        if name.startswith("src/") and not name.startswith(UNSAFE_ROOMS) and re.search(r"\bunsafe\b(?!_)", line):
            yield where, "unsafe is for src/sys"
        if name.startswith("src/init/") and (found := ALLOCATES.search(line)):
            yield where, f"init allocates nothing: {found.group()}"
        if (found := EMPTY_NAMES.search(line)) and (name, found.group(2)) not in EXEMPT:
            yield where, f"say what {found.group(2)} is instead"
        if found := EMPTY_VERBS.search(line):
            yield where, f"say what `{found.group()}` does instead"


def main():
    problems = list(loose_ends())
    for path, text in sources("src", "tests", "bundles"):
        problems += in_code(path, without_tests(without_comments(text)))
        if text.strip() and not text.startswith("//!"):
            problems.append((f"{path}:1", "opens without `//!`: its role, what it may depend on"))
    report(problems)


main()
