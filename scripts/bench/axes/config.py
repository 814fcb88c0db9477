"""`run` with other configurations: docker-default, 100 bind mounts, a user namespace, a joined network namespace

The floor is always its own default container; for docker-default it installs the filter that onggi installs.
"""

import json
import subprocess
import sys
from pathlib import Path

from table import Table

SAMPLES = Path(__file__).parents[3] / "bundles"


def docker_default(bench, config):
    program = config["process"]["args"]
    config.update(json.loads((SAMPLES / "docker-default/config.json").read_text()))
    config["process"]["args"] = program
    for mount in config["mounts"]:
        if mount["type"] == "bind":
            mount["source"] = str(SAMPLES / "docker-default" / mount["source"])
    del config["linux"]["cgroupsPath"]  # so that each run has its own cgroup
    config["linux"]["resources"].pop("blockIO")  # empty, but crun then needs the io controller


def binds(bench, config):
    source = bench.out / "empty"
    for i in range(100):
        config["mounts"].append(
            {"destination": f"/dev/bind{i}", "type": "bind", "source": str(source), "options": ["bind", "ro", "nosuid"]}
        )


def user_namespace(bench, config):
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {"uidMappings": ids, "gidMappings": ids}


def joined_network(bench, config):
    path = bench.out / "run/netns"
    if not path.exists():
        path.touch()
        subprocess.run(["unshare", f"--net={path}", "true"], check=True)
    for namespace in config["linux"]["namespaces"]:
        if namespace["type"] == "network":
            namespace["path"] = str(path)


VARIANTS = {
    "docker-default": docker_default,
    "100 bind mounts": binds,
    "user namespace": user_namespace,
    "joined network": joined_network,
}


def measure(bench):
    table = Table(
        "run of /bin/true, other configurations (ms)",
        ["", "runtime", "median", "min", "x floor", "x floor (min)", "onggi is", "onggi is (min)"],
        "x floor: of the floor in the same rounds",
    )
    for name, change in VARIANTS.items():
        bundle = bench.bundle(name.replace(" ", "-"), lambda config, change=change: change(bench, config))
        if name == "docker-default":
            bundle.filter = installed_filter(bench)
        scenario = bench.scenario()
        able = [r for r in bench.runtimes if bench.works(r, bundle)]
        for runtime in able:
            scenario.group(runtime.name)
            scenario.step("run", runtime.run(bundle, "config-%n"))
        seen = bench.drive(scenario)
        compare(table, name, {r.name: seen[r.name]["run"] for r in able})
    return [table]


def compare(table, label, times):
    """the rows of one variant"""
    floor, onggi = times.get("floor"), times.get("onggi")
    for name, samples in times.items():
        table.row(
            label, name, samples.median, samples.minimum,
            samples.median / floor.median if floor else None,
            samples.minimum / floor.minimum if floor else None,
            onggi.median / samples.median if onggi else None,
            onggi.minimum / samples.minimum if onggi else None,
        )


def installed_filter(bench):
    """a file with the seccomp program that the first runtime loads for docker-default, read back from the kernel"""

    def wait(config):
        docker_default(bench, config)
        config["process"]["args"] = ["/bin/true", "wait"]

    runtime, bundle, path = bench.oci[0], bench.bundle("filter", wait), bench.out / "docker-default.bpf"
    with bench.container(runtime, bundle, "filter") as pid, open(path, "wb") as file:
        done = subprocess.run([bench.out / "filterof", str(pid)], stdout=file, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"bench.sh: the floor runs docker-default without a filter: {done.stderr.strip()}", file=sys.stderr)
        return None
    return path
