//! Sub-commands that print facts and change nothing.

use crate::{call, say, verdict};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Prints one fact; false when the verb is not one of these.
pub(crate) fn see(verb: &str, args: &[&str]) -> bool {
    match verb {
        "status" => print!("{}", fs::read_to_string("/proc/self/status").unwrap()),
        "mountinfo" => print!("{}", fs::read_to_string("/proc/self/mountinfo").unwrap()),
        "cgroup" => print!("{}", fs::read_to_string("/proc/self/cgroup").unwrap()),
        "id" => id(),
        "ns" => namespaces(),
        "env" => std::env::vars().for_each(|(key, value)| println!("{key}={value}")),
        "args" => std::env::args().enumerate().for_each(|(i, arg)| say(&format!("arg{i}"), arg)),
        "cwd" => say("cwd", std::env::current_dir().map_or_else(|e| e.to_string(), |d| d.display().to_string())),
        "umask" => say("umask", format!("{:04o}", call::umask())),
        "rlimits" => call::rlimits().iter().for_each(|(name, soft, hard)| say(name, format!("{soft} {hard}"))),
        "uname" => uname(),
        "fds" => fds(),
        "stat" => args.iter().for_each(|path| stat(path)),
        "ls" => args.iter().for_each(|path| ls(path)),
        "cat" => args.iter().for_each(|path| print!("{}", fs::read_to_string(path).unwrap_or_default())),
        // limited, for endless files
        "peek" => args.iter().for_each(|path| peek(path)),
        "read" => args.iter().for_each(|path| read(path)),
        "keyring" => match call::session_keyring() {
            Ok((id, text)) => say("keyring", format!("{id} {text}")),
            Err(error) => verdict::<()>("keyring", Err(error)),
        },
        "sched" => sched(),
        "clock" => clocks(),
        "statfs" => args.iter().for_each(|path| statfs(path)),
        _ => return false,
    }
    true
}

fn id() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let wanted =
        ["Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Pid", "NSpid", "Cap", "SigBlk", "SigIgn", "Threads"];
    for line in status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))) {
        println!("{line}");
    }
}

fn namespaces() {
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).map(|link| link.display().to_string());
        say(&format!("ns.{name}"), link.unwrap_or_else(|e| e.to_string()));
    }
}

fn uname() {
    let (node, domain, machine) = call::uname();
    say("hostname", node);
    say("domainname", domain);
    say("machine", machine);
}

/// Every open descriptor and what it is.
pub(crate) fn open_fds() -> Vec<(i32, String)> {
    let mut open: Vec<(i32, String)> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?.display().to_string();
            Some((entry.file_name().to_str()?.parse().ok()?, link))
        })
        // the descriptor of the directory that is being read
        .filter(|(_, link)| !(link.starts_with("/proc/") && link.ends_with("/fd")))
        .collect();
    open.sort();
    open
}

fn fds() {
    for (fd, link) in open_fds() {
        say(&format!("fd.{fd}"), link);
    }
}

fn stat(path: &str) {
    let key = |field: &str| format!("{path}.{field}");
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) => return verdict::<()>(&key("stat"), Err(error)),
    };
    let kind = meta.file_type();
    let letter = match () {
        () if kind.is_symlink() => "l",
        () if kind.is_dir() => "d",
        () if kind.is_file() => "f",
        () if kind.is_char_device() => "c",
        () if kind.is_block_device() => "b",
        () if kind.is_fifo() => "p",
        () if kind.is_socket() => "s",
        () => "?",
    };
    say(&key("stat"), "ok");
    say(&key("type"), letter);
    say(&key("mode"), format!("{:04o}", meta.mode() & 0o7777));
    say(&key("owner"), format!("{}:{}", meta.uid(), meta.gid()));
    say(&key("rdev"), format!("{}:{}", libc::major(meta.rdev()), libc::minor(meta.rdev())));
    say(&key("size"), meta.size());
    say(&key("dev"), meta.dev());
    if let Ok(link) = fs::read_link(path) {
        say(&key("link"), link.display());
    }
}

fn ls(path: &str) {
    match fs::read_dir(path) {
        Ok(entries) => {
            let mut names: Vec<String> =
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            say(&format!("ls {path}"), names.join(" "));
        }
        Err(error) => verdict::<()>(&format!("ls {path}"), Err(error)),
    }
}

fn read(path: &str) {
    match fs::read(path) {
        Ok(bytes) => {
            say(&format!("read {path}"), format!("{} {:?}", bytes.len(), String::from_utf8_lossy(&bytes)));
        }
        Err(error) => verdict::<()>(&format!("read {path}"), Err(error)),
    }
}

fn peek(path: &str) {
    use std::io::Read;
    let mut bytes = Vec::new();
    match fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut bytes)) {
        Ok(count) => say(&format!("peek {path}"), format!("{count} {:?}", String::from_utf8_lossy(&bytes))),
        Err(error) => verdict::<()>(&format!("peek {path}"), Err(error)),
    }
}

fn sched() {
    let attr = call::scheduling();
    say("sched.policy", attr.policy);
    say("sched.flags", attr.flags);
    say("sched.nice", attr.nice);
    say("sched.priority", attr.priority);
    say("sched.runtime", attr.runtime);
    say("sched.deadline", attr.deadline);
    say("sched.period", attr.period);
    let io = call::call(libc::SYS_ioprio_get, &[1, 0]).unwrap_or(-1);
    say("io.class", io >> 13);
    say("io.priority", io & 0x1fff);
    say("personality", format!("{:#x}", call::call(libc::SYS_personality, &[0xffff_ffff]).unwrap_or(-1)));
    say("oom_score_adj", fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default().trim());
}

fn clocks() {
    say("monotonic", call::clock(libc::CLOCK_MONOTONIC));
    say("boottime", call::clock(libc::CLOCK_BOOTTIME));
}

fn statfs(path: &str) {
    match std::ffi::CString::new(path).map(|c| call::statfs_of(&c)).unwrap() {
        Ok(magic) => say(&format!("{path}.magic"), format!("{magic:#x}")),
        Err(error) => verdict::<()>(&format!("{path}.magic"), Err(error)),
    }
}
