"""The config.json that `runc spec` writes (1.1 to 1.3, on a cgroup v2 host), and bundles made of it."""

import json
import shutil

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
INERT = ["nosuid", "noexec", "nodev"]
NAMESPACES = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def mount(destination, kind, source, options=()):
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def mounts():
    return [
        mount("/proc", "proc", "proc"),
        mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts",
              ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/shm", "tmpfs", "shm", INERT + ["mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", INERT),
        mount("/sys", "sysfs", "sysfs", INERT + ["ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", INERT + ["relatime", "ro"]),
    ]


def runc_spec(args):
    """as written by `runc spec`, except for the program, and without a terminal"""
    caps = {kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")}
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(args),
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": caps,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": mounts(),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    }


class Bundle:
    """A bundle directory with a root that contains only the payload as /bin/true."""

    def __init__(self, path, payload, change=None):
        self.path, self.root = str(path), str(path / "rootfs")
        self.filter = None  # a file for the floor's --filter
        shutil.rmtree(path, ignore_errors=True)
        for directory in ("bin", "proc", "sys", "dev", "etc", "tmp"):
            (path / "rootfs" / directory).mkdir(parents=True)
        shutil.copy(payload, path / "rootfs/bin/true")
        self.config = runc_spec(["/bin/true", "stamp"])
        if change:
            change(self.config)
        self.args = self.config["process"]["args"]
        (path / "config.json").write_text(json.dumps(self.config, indent=1) + "\n")
