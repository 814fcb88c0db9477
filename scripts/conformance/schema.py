"""Tests a runtime with the OCI runtime spec's JSON schemas: schema.py RUNTIME SCHEMAS.

written/…  documents of the runtime are valid: features, spec, state in each status, input of hooks and seccomp agents
config/…   each sample configuration is accepted or refused as its directory says, by `plan` (other runtimes: by `create`)
schema/…   each sample is valid or not by the schema, as its directory says; this tests our use of the schemas
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from jsonschema import Draft4Validator, RefResolver

RUNTIME, SCHEMAS = sys.argv[1], Path(sys.argv[2]).resolve()
HOOKS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
# samples for other platforms
OTHERS = ("zos", "freebsd", "windows", "solaris", "vm")


def problem(kind, text):
    """The schema's error for a document; None if it is valid."""
    path = SCHEMAS / f"{kind}-schema.json"
    schema = json.loads(path.read_text())
    try:
        document = json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}"
    resolver = RefResolver(base_uri=path.as_uri(), referrer=schema)
    error = next(Draft4Validator(schema, resolver=resolver).iter_errors(document), None)
    return error and f"{'/'.join(map(str, error.absolute_path))}: {error.message}"[:300].replace("\n", " ")


def report(name, trouble):
    print(f"{'FAIL' if trouble else 'PASS'} {name}" + (f"  # {trouble}" if trouble else ""), flush=True)


def call(*words, cwd=None):
    """Runs a command with its output in files: a container would keep pipes open."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run([RUNTIME, *words], cwd=cwd, stdout=out, stderr=err, timeout=60, stdin=subprocess.DEVNULL)
        out.seek(0)
        err.seek(0)
        done.stdout, done.stderr = out.read(), err.read()
        return done


def output(*words, cwd=None):
    done = call(*words, cwd=cwd)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()[-300:]}")
    return done.stdout


def bundle(directory, change):
    """Creates a bundle with a busybox that sleeps; hooks of all kinds store their input."""
    root = directory / "rootfs"
    for name in ("bin", "proc", "dev", "sys"):
        (root / name).mkdir(parents=True)
    busybox = subprocess.run(["sh", "-c", "command -v busybox"], capture_output=True, text=True, check=True).stdout.strip()
    for name in ("sh", "cat", "sleep"):
        (root / "bin" / name).write_bytes(Path(busybox).read_bytes())
        (root / "bin" / name).chmod(0o755)
    output("spec", cwd=directory)
    config = json.loads((directory / "config.json").read_text())
    change(config, root)
    (directory / "config.json").write_text(json.dumps(config))


def live(directory):
    """Runs a container through its life; returns the documents that this leaves, by name."""

    def change(config, root):
        config["process"].update(terminal=False, args=["sleep", "1000"])
        config["root"]["readonly"] = False
        config["annotations"] = {"org.example.key": "value"}
        keep = lambda path: {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {path}"]}
        config["hooks"] = {kind: [keep(f"/{kind}" if kind == "startContainer" else root / kind)] for kind in HOOKS}

    bundle(directory, change)
    name = f"schema-{os.getpid()}"
    documents = {}
    try:
        output("create", "--bundle", str(directory), name)
        documents["state, created"] = output("state", name)
        output("start", name)
        documents["state, running"] = output("state", name)
        output("kill", name, "KILL")
        while json.loads(documents.setdefault("state, stopped", output("state", name)))["status"] != "stopped":
            del documents["state, stopped"]
    finally:
        call("delete", "--force", name)
    for kind in HOOKS:
        documents[f"state for {kind} hooks"] = (directory / "rootfs" / kind).read_text()
    return documents


def written():
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        report("written/features", problem("features", output("features")))
        for words in (["spec"], ["spec", "--rootless"]):
            place = scratch / "-".join(words)
            place.mkdir()
            output(*words, cwd=place)
            report(f"written/{' '.join(words)}", problem("config", (place / "config.json").read_text()))
        for name, text in live(scratch / "live").items():
            report(f"written/{name}", problem("state", text))


def taken(sample):
    """Whether the runtime accepts a sample; prints its error if not."""
    plans = call("plan", "--help").returncode == 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        text = sample.read_text()
        (scratch / "config.json").write_text(text)
        (scratch / "rootfs").mkdir()
        name = f"sample-{os.getpid()}"
        done = call("plan", str(scratch)) if plans else call("create", "--bundle", str(scratch), name)
        if not plans:
            call("delete", "--force", name)
        print(f"{sample.name}: {done.returncode}: {done.stderr.strip()}", file=sys.stderr, flush=True)
        return done.returncode == 0, done.stderr.strip()[-300:].replace("\n", " ")


def samples():
    for sample in sorted((SCHEMAS / "test").glob("*/*/*.json")):
        kind, good = sample.parts[-3], sample.parts[-2] == "good"
        name = "/".join(sample.parts[-2:])
        trouble = problem(kind, sample.read_text())
        report(f"schema/{kind}/{name}", (trouble if good else None if trouble else "the schema takes it"))
        if kind != "config":
            continue
        if sample.name.startswith(OTHERS):
            print(f"SKIP config/{name}  # no Linux container")
            continue
        answer, words = taken(sample)
        report(f"config/{name}", None if answer == good else words or "taken")


written()
samples()
