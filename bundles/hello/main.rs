//! hello: the program of the sample bundle. Prints what a container sees, from the kernel's own files.
//!
//! Uses no code of the runtime. If `/host-namespaces` exists (scripts/quickstart.sh writes it, one `TYPE INODE` of the host per
//! line), it shows which namespaces differ from the host's.

use std::fmt::Display;
use std::fs::{read_link, read_to_string};
use std::io::{self, Write};

/// Names by bit number, as in linux/capability.h.
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE \
    SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL \
    SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";
const NAMESPACES: [&str; 8] = ["pid", "mnt", "net", "ipc", "uts", "cgroup", "user", "time"];
/// The file on cgroup v2, then on v1.
const MEMORY_LIMIT: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
const PIDS_LIMIT: [&str; 2] = ["/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"];

/// A file's text without the last newline; empty if it cannot be read.
fn text(path: &str) -> String {
    read_to_string(path).unwrap_or_default().trim_end().to_owned()
}

/// One field of /proc/self/status.
fn status(field: &str) -> String {
    let all = text("/proc/self/status");
    let line = all.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().next().unwrap_or_default().to_owned()
}

fn capabilities() -> String {
    let mask = u64::from_str_radix(&status("CapEff"), 16).unwrap_or_default();
    let all = CAPABILITIES.split_whitespace();
    let held: Vec<_> = all.clone().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, name)| name).collect();
    format!("{} of {}: {}", held.len(), all.count(), held.join(" "))
}

fn seccomp() -> String {
    match status("Seccomp").as_str() {
        "0" => "off".to_owned(),
        "1" => "strict".to_owned(),
        mode => format!("filter (mode {mode}), filters: {}", status("Seccomp_filters")),
    }
}

fn limit(files: [&str; 2], unit: u64, name: &str) -> String {
    let found = files.iter().map(|file| text(file)).find(|value| !value.is_empty());
    match found.as_deref().map(str::parse::<u64>) {
        Some(Ok(value)) => format!("{} {name}", value / unit),
        Some(Err(_)) => "none".to_owned(),
        None => "not shown by this machine's cgroups".to_owned(),
    }
}

fn namespace(name: &str, host: &str) -> Option<String> {
    let link = read_link(format!("/proc/self/ns/{name}")).ok()?.to_string_lossy().into_owned();
    let inode = link.split(['[', ']']).nth(1)?.to_owned();
    let of_host = host.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Some(match of_host {
        Some(same) if same == inode => format!("{name:7} {inode}  the host's"),
        Some(other) => format!("{name:7} {inode}  its own (the host's is {other})"),
        None => format!("{name:7} {inode}"),
    })
}

/// Every mount: mount point, type, and whether it is writable.
fn mounts() -> Vec<String> {
    let shape = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let (at, kind) = (place.split(' ').nth(4)?, kind.split(' ').next()?);
        let options = place.split(' ').nth(5)?.replace(",relatime", "");
        Some(format!("{at:24} {kind:8} {options}"))
    };
    text("/proc/self/mountinfo").lines().filter_map(shape).collect()
}

/// Prints the title on the first line only.
fn section(out: &mut impl Write, title: &str, lines: &[impl Display]) -> io::Result<()> {
    for (i, line) in lines.iter().enumerate() {
        writeln!(out, "  {:14}{line}", if i == 0 { title } else { "" })?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let out = &mut io::stdout().lock();
    let host = text("/host-namespaces");
    let namespaces: Vec<_> = NAMESPACES.iter().filter_map(|name| namespace(name, &host)).collect();
    let more_rights = if status("NoNewPrivs") == "1" { "barred (no_new_privs)" } else { "through set-uid programs" };
    section(out, "process", &[format!("pid {}, uid {}, gid {}", status("Pid"), status("Uid"), status("Gid"))])?;
    section(out, "hostname", &[text("/proc/sys/kernel/hostname")])?;
    section(out, "namespaces", &namespaces)?;
    section(out, "capabilities", &[capabilities()])?;
    section(out, "more rights", &[more_rights])?;
    section(out, "seccomp", &[seccomp()])?;
    section(out, "memory limit", &[limit(MEMORY_LIMIT, 1 << 20, "MiB")])?;
    section(out, "pids limit", &[limit(PIDS_LIMIT, 1, "processes")])?;
    section(out, "mounts", &mounts())
}
