"""changes configurations at random, then makes them harmless to the machine"""

import copy
import json

NUMBERS = [0, 1, -1, 2, 7, 99, 1000, 4095, 4096, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32, 2**53, 2**63 - 1, -(2**63),
           2**64 - 1, 2**64, 10**30, 0.5, -0.0, 1e308]
STRINGS = ["", "/", ".", "..", "/..", "a" * 300, "a" * 5000, "a/" * 2100, "\0", "a\0b", "\n", "%s%n", "é", "\ufffd", "\U0001f980", "-1", "0", "true", "null",
           "/proc", "/dev", "/dev/pts", "/sys", "/proc/self/fd/3", "/tmp/../..", "//x//", "rw", "ro", "bind", "rbind", "rshared", "slave", "private",
           "unbindable", "nosuid", "remount", "tmpcopyup", "mode=1777", "size=64k", "idmap", "ridmap", "rro", "mount", "user", "pid", "network",
           "cgroup", "time", "uts", "ipc", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "CAP_SYS_ADMIN", "CAP_NONE", "RLIMIT_NOFILE", "RLIMIT_AS", "RLIMIT_STACK",
           "RLIMIT_NPROC", "1.0.0", "9.9.9", "SCHED_FIFO", "SCHED_DEADLINE", "IOPRIO_CLASS_RT", "LINUX32"]
# system calls that the runtime needs between loading a filter and executing the payload, and more
NEEDED = ["execve", "read", "write", "close", "openat", "openat2", "prctl", "capset", "setuid", "setgid", "setgroups", "setresuid", "setresgid",
          "fchdir", "chdir", "seccomp", "sendmsg", "sendto", "recvmsg", "recvfrom", "dup3", "fcntl", "close_range", "exit", "exit_group", "mmap",
          "munmap", "brk", "rt_sigaction", "rt_sigprocmask", "clone", "clone3", "vfork", "wait4", "ioctl", "poll", "ppoll", "getpid", "futex", "umask", "lseek",
          "newfstatat", "fstat", "statx", "faccessat2", "sched_setattr", "mount", "pivot_root", "arch_prctl", "set_tid_address", "madvise"]
ACTIONS = ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_LOG", "SCMP_ACT_ALLOW",
           "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"]
# programs that may run: arguments and expected exit status
PAYLOADS = [(["/bin/true"], 0), (["true"], 0), (["/bin/false"], 1), (["/bin/sh", "-c", "exit 3"], 3), (["/bin/cat", "/proc/self/status"], None),
            (["/bin/ls", "/", "/dev"], None), (["/bin/sleep", "0.02"], 0), (["/bin/sh", "-c", "kill -9 $$"], 137), (["/nonexistent"], None),
            (["/etc"], None), ([""], None), (["/bin/busybox"], None), (["/bin/echo"] + ["x" * 1000] * 20, 0)]
HOOKS = ["/bin/true", "/bin/false", "/bin/cat", "/nonexistent", "/etc", "true", ""]
MOUNTED = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "bind", "none", "nosuchfs", ""]
SYSCTLS = ["net.ipv4.ip_forward", "net.ipv4.ping_group_range", "net.core.somaxconn", "kernel.msgmax", "kernel.shmmax", "kernel.domainname",
           "fs.mqueue.msg_max", "net.nosuchkey", "nosuchkey", ""]
NAMESPACES = ["/proc/self/ns/net", "/proc/self/ns/uts", "/proc/self/ns/ipc", "/proc/self/ns/cgroup", "/nonexistent", "/etc/passwd", ""]


def places(value, found=None):
    """every object and list of a document with every key in it"""
    found = [] if found is None else found
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        found.append((value, key))
        places(below, found)
    return found


def somewhere(random, value):
    """a random object or list of a document and a key in it, at any depth; long lists have the weight of single values"""
    found = None
    while isinstance(value, (dict, list)) and value and (found is None or random.random() < 0.75):
        key = random.choice(list(value)) if isinstance(value, dict) else random.randrange(len(value))
        found, value = (value, key), value[key]
    return found


def alike(random, old):
    """a value of the same type"""
    if isinstance(old, bool):
        return not old
    if isinstance(old, (int, float)):
        return random.choice(NUMBERS + [old + 1, old - 1, -old])
    if isinstance(old, str):
        return random.choice(STRINGS + [old + old, old[:-1], old.upper()])
    if isinstance(old, list):
        return old[:random.randrange(len(old) + 1)] * random.choice([1, 1, 2])
    return {}


def junk(random, others):
    kind = random.randrange(8)
    if kind == 0:
        return random.choice(NUMBERS)
    if kind in (1, 2):
        return random.choice(STRINGS)
    if kind == 3:
        return random.choice([None, True, False, [], {}, [[]], [None], {"": None}])
    if kind == 4:
        nested = []
        for _ in range(random.choice([3, 10, 100])):
            nested = [nested] if random.random() < 0.5 else {"a": nested}
        return nested
    parent, key = random.choice(places(random.choice(others)))
    return copy.deepcopy(parent[key])


def profile(random):
    """a filter that denies needed system calls"""
    def rule():
        names = random.sample(NEEDED, random.choice([1, 1, 2, 5, len(NEEDED)]))
        rule = {"names": names, "action": random.choice(ACTIONS)}
        if random.random() < 0.3:
            rule["errnoRet"] = random.choice([0, 1, 38, 4095, 4096])
        if random.random() < 0.3:
            rule["args"] = [{"index": random.choice([0, 1, 5, 6]), "value": random.choice([0, 1, 2**32, 2**64 - 1]), "op": "SCMP_CMP_MASKED_EQ"}]
        return rule
    return {"defaultAction": random.choice(ACTIONS + ["SCMP_ACT_ALLOW"] * 9), "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "syscalls": [rule() for _ in range(random.choice([0, 1, 2, 8]))]}


def mutate(random, seeds):
    config = copy.deepcopy(random.choice(seeds))
    for _ in range(random.choice([0, 1, 1, 2, 3, 6])):
        parent, key = somewhere(random, config)
        how = random.randrange(12)
        if how == 0:
            del parent[key]
        elif how == 1 and isinstance(parent, list):
            parent.insert(random.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
        elif how == 2 and isinstance(parent, dict):
            parent[random.choice(STRINGS)] = parent.pop(key)
        elif how == 3:
            # the value at the same path in another configuration, if it has one
            others = [(p, k) for p, k in places(random.choice(seeds)) if k == key]
            if others:
                other, at = random.choice(others)
                parent[key] = copy.deepcopy(other[at])
        elif how == 4 and isinstance(parent[key], list):
            random.shuffle(parent[key])
        elif how == 5:
            parent[key] = junk(random, seeds)
        else:
            parent[key] = alike(random, parent[key])
    if random.random() < 0.15 and isinstance(config.get("linux"), dict):
        config["linux"]["seccomp"] = profile(random)
    return config


def each(value, key, kind):
    """the objects in a list that is a member of an object; other values are skipped"""
    inside = value.get(key) if isinstance(value, dict) else None
    if kind is list:
        return [entry for entry in inside if isinstance(entry, dict)] if isinstance(inside, list) else []
    return inside if isinstance(inside, kind) else None


def tame(config, random, cgroup, private):
    """makes a configuration harmless to the machine; returns the expected exit status of its payload, if known"""
    status = None
    if isinstance(config.get("process"), dict):
        config["process"]["args"], status = copy.deepcopy(random.choice(PAYLOADS + [PAYLOADS[0]] * 12))
    if "root" in config:
        root = config["root"] if isinstance(config["root"], dict) else {}
        config["root"] = {"path": "rootfs", **{key: root[key] for key in ("readonly",) if key in root}}
    config.get("linux") if isinstance(config.get("linux"), dict) else config.update(linux={})
    linux = config["linux"]
    linux["cgroupsPath"] = cgroup
    linux.pop("intelRdt", None)
    given = [entry for entry in each(linux, "namespaces", list) if isinstance(entry.get("type"), str) and entry["type"] != "mount"]
    for entry in given:
        # sources of a recorded seed existed only on its machine
        if entry.pop("path", None) is not None and random.random() < 0.2:
            entry["path"] = random.choice([f"/proc/self/ns/{entry['type'][:3]}"] * 3 + NAMESPACES)
    linux["namespaces"] = given + [{"type": "mount"}]
    if "sysctl" in linux and random.random() < 0.5:
        linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    elif "sysctl" in linux:
        linux["sysctl"] = {random.choice(SYSCTLS): random.choice(["0", "1", "", "x", "0 0"]) for _ in range(2)}
    if isinstance(linux.get("seccomp"), dict) and "listenerPath" in linux["seccomp"]:
        linux["seccomp"]["listenerPath"] = f"{private}/nobody.sock"
    resources = each(linux, "resources", dict)
    if resources and isinstance(resources.get("unified"), dict):
        resources["unified"] = {key: value for key, value in resources["unified"].items() if "/" not in key}
    for mount in each(config, "mounts", list):
        if mount.get("type") not in MOUNTED and "type" in mount:
            mount["type"] = random.choice(MOUNTED)
        if "source" in mount:
            odd = [f"{private}/file", f"{private}/none", "rootfs", "tmpfs", "proc", ""]
            mount["source"] = f"{private}/tree" if random.random() < 0.9 else random.choice(odd)
    # seeds come from other machines and may ask for more than the caller may have
    for limit in each(config.get("process"), "rlimits", list):
        for key in ("hard", "soft"):
            if isinstance(limit.get(key), int) and random.random() < 0.95:
                limit[key] = min(limit[key], 1024)
    # some hooks run on the host: allow only these programs
    hooks = config.get("hooks")
    for kind in list(hooks) if isinstance(hooks, dict) else []:
        for hook in each(hooks, kind, list):
            if "path" in hook:
                hook["path"] = random.choice(HOOKS + ["/bin/true"] * 12)
    return status


def text(config, random):
    """a configuration as text; sometimes invalid JSON or with duplicate keys"""
    plain = json.dumps(config)
    chance = random.random()
    if chance < 0.02:
        return plain[:random.randrange(len(plain))]
    if chance < 0.04:
        key = random.choice(list(config))
        return plain[:-1] + f", {json.dumps(key)}: {json.dumps(config[key])}}}"
    if chance < 0.05:
        return plain[:-1] + ', "deep": ' + "[" * 100000 + "]" * 100000 + "}"
    return plain
