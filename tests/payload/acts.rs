//! Sub-commands that change something, wait, or end the process.

use crate::{call, facts, say, verdict};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::exit;
use std::time::Duration;

// check: table: one line a subcommand
/// Acts; false when the verb is not one of these.
pub(crate) fn act(verb: &str, args: &[&str]) -> bool {
    match (verb, args) {
        ("true", []) => {}
        ("exit", [code]) => exit(number(code)),
        ("die", [signal]) => call::die(number(signal)),
        ("pause", []) => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        ("sleep", [millis]) => std::thread::sleep(Duration::from_millis(number(millis))),
        ("echo", [text]) => println!("{text}"),
        ("flood", [lines]) => (0..number::<u32>(lines)).for_each(|n| println!("line {n}")),
        ("complain", [text]) => eprintln!("{text}"),
        ("stdin", []) => stdin(),
        ("trap", []) => trap(),
        ("open", [path, how]) => verdict(&format!("open {path} {how}"), open(path, how)),
        ("write", [path, text]) => verdict(&format!("write {path}"), fs::write(path, text)),
        ("append", [path, text]) => verdict(&format!("append {path}"), append(path, text)),
        ("mkdir", [path]) => verdict(&format!("mkdir {path}"), fs::create_dir(path)),
        ("link", [target, path]) => verdict(&format!("link {path}"), std::os::unix::fs::symlink(target, path)),
        ("rm", [path]) => verdict(&format!("rm {path}"), fs::remove_file(path)),
        ("chmod", [path, mode]) => {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(u32::from_str_radix(mode, 8).unwrap());
            verdict(&format!("chmod {path}"), fs::set_permissions(path, mode));
        }
        ("mknod", [path, kind, major, minor]) => mknod(path, kind, number(major), number(minor)),
        ("mount", [fstype, target]) => verdict(&format!("mount {target}"), call::mount(fstype, target, 0)),
        ("remount", [target, flags]) => {
            verdict(&format!("remount {target}"), call::mount("none", target, hex(flags)));
        }
        ("adopt", [path, ..]) => adopt(path, &args[1..]),
        ("exec", [path, ..]) => exec(path, &args[1..]),
        ("become", [path, ..]) => become_other(path, &args[1..]),
        ("syscall", [nr, ..]) => syscall(nr, &args[1..]),
        ("wait-file", [path]) => wait_file(path),
        ("fork", [count]) => fork_many(number(count)),
        ("runaways", [count]) => runaways(number(count)),
        ("background", [..]) => background(args),
        // after `unshare`: the child is in the new pid and time namespaces
        ("child", [..]) => child(args),
        ("hog", [bytes]) => hog(number(bytes)),
        ("burn", [millis]) => burn(number(millis)),
        ("unshare", [flags]) => {
            verdict("unshare", call::call(libc::SYS_unshare, &[i64::try_from(hex(flags)).unwrap()]));
        }
        ("kill", [pid, signal]) => verdict(&format!("kill {pid}"), call::kill(number(pid), number(signal))),
        ("count", [file]) => loop {
            append(file, "tick").unwrap();
            std::thread::sleep(Duration::from_millis(5));
        },
        ("tally", [file]) => tally(file),
        ("notify", [text]) => {
            let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
            let result = socket.send_to(text.replace('|', "\n").as_bytes(), std::env::var_os("NOTIFY_SOCKET").unwrap());
            verdict("notify", result);
        }
        ("save", [file]) => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).unwrap();
            save(file, &bytes);
        }
        ("save-ns", [file]) => {
            save(file, fs::read_link("/proc/self/ns/mnt").unwrap().as_os_str().as_encoded_bytes());
        }
        ("save-env", [file]) => {
            let lines: Vec<String> = std::env::vars().map(|(key, value)| format!("{key}={value}\n")).collect();
            save(file, lines.concat().as_bytes());
        }
        ("save-args", [file, ..]) => {
            let lines: Vec<String> = std::env::args().map(|arg| arg + "\n").collect();
            save(file, lines.concat().as_bytes());
        }
        ("save-fds", [file]) => {
            let lines: Vec<String> = facts::open_fds().iter().map(|(fd, link)| format!("{fd} {link}\n")).collect();
            save(file, lines.concat().as_bytes());
        }
        _ => return false,
    }
    true
}

pub(crate) fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().unwrap_or_else(|| panic!("payload: not a number: {text}"))
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

fn stdin() {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).unwrap();
    say("stdin", format!("{:?}", String::from_utf8_lossy(&bytes)));
}

/// Prints that it is ready, then every signal that arrives; SIGTERM makes it exit with 42.
fn trap() {
    call::block_signals();
    say("trap", "ready");
    loop {
        let signal = call::next_signal();
        say("signal", signal);
        if signal == libc::SIGTERM {
            exit(42);
        }
    }
}

fn open(path: &str, how: &str) -> std::io::Result<fs::File> {
    let mut options = OpenOptions::new();
    match how {
        "r" => options.read(true),
        "w" => options.write(true),
        "rw" => options.read(true).write(true),
        "a" => options.append(true),
        other => panic!("payload: open how? {other}"),
    };
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// Writes a file atomically, because a test waits for it.
fn save(path: &str, bytes: &[u8]) {
    let new = format!("{path}.new");
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, path)).unwrap();
}

/// Counts in memory and writes the count to a file.
fn tally(file: &str) {
    let mut count = 0_u64;
    loop {
        count += 1;
        save(file, count.to_string().as_bytes());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn append(path: &str, text: &str) -> std::io::Result<()> {
    writeln!(OpenOptions::new().append(true).create(true).open(path)?, "{text}")
}

fn mknod(path: &str, kind: &str, major: u32, minor: u32) {
    let kind = match kind {
        "c" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        other => panic!("payload: mknod what? {other}"),
    };
    verdict(&format!("mknod {path}"), call::mknod(path, kind | 0o600, major, minor));
}

fn exec(path: &str, args: &[&str]) {
    match std::process::Command::new(path).args(args).status() {
        Ok(status) => say(&format!("exec {path}"), status.code().unwrap_or(-1)),
        Err(error) => verdict::<()>(&format!("exec {path}"), Err(error)),
    }
}

/// Runs a program, adopts its orphans and does not reap them.
fn adopt(path: &str, args: &[&str]) {
    const PR_SET_CHILD_SUBREAPER: i64 = 36;
    call::call(libc::SYS_prctl, &[PR_SET_CHILD_SUBREAPER, 1]).unwrap();
    exec(path, args);
    say("adopted", path);
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn become_other(path: &str, args: &[&str]) {
    use std::os::unix::process::CommandExt;
    verdict::<()>(&format!("become {path}"), Err(std::process::Command::new(path).args(args).exec()));
}

/// `syscall NR ARG…`: numbers decimal or 0x; prints `ok` and the result, or the errno.
fn syscall(nr: &str, args: &[&str]) {
    let value = |text: &&str| {
        text.strip_prefix("0x").map_or_else(|| number(text), |h| u64::from_str_radix(h, 16).unwrap().cast_signed())
    };
    let args: Vec<i64> = args.iter().map(value).collect();
    match call::call(number(nr), &args) {
        Ok(ret) => say(&format!("syscall {nr}"), format!("ok {ret}")),
        Err(error) => verdict::<()>(&format!("syscall {nr}"), Err(error)),
    }
}

pub(crate) fn wait_file(path: &str) {
    while fs::symlink_metadata(path).is_err() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Forks up to `count` children that keep running; prints how many there were and why it stopped.
fn fork_many(count: usize) {
    let mut children = Vec::new();
    let mut why = "ok".to_owned();
    while children.len() < count {
        match call::fork() {
            Ok(Some(pid)) => children.push(pid),
            Ok(None) => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            Err(error) => {
                why = call::errno_name(error.raw_os_error().unwrap_or(0));
                break;
            }
        }
    }
    say("forked", format!("{} {why}", children.len()));
    for pid in children {
        let _ = call::kill(pid, libc::SIGKILL);
        let _ = call::wait(pid);
    }
}

/// Starts processes that fork and exit in a loop, so that any list of them is outdated when it is read.
fn runaways(count: usize) {
    for _ in 0..count {
        if call::fork().unwrap().is_none() {
            while call::fork().is_ok_and(|child| child.is_none()) {}
            exit(0);
        }
    }
}

/// Forks a child that runs these sub-commands.
fn background(args: &[&str]) {
    if call::fork().unwrap().is_none() {
        act(args[0], &args[1..]);
        exit(0);
    }
}

fn child(args: &[&str]) {
    match call::fork().unwrap() {
        Some(pid) => drop(call::wait(pid).unwrap()),
        None => {
            act(args[0], &args[1..]);
            exit(0);
        }
    }
}

fn hog(bytes: usize) {
    let mut held = Vec::with_capacity(bytes);
    held.resize(bytes, 1u8);
    say("hogged", held.iter().map(|&byte| usize::from(byte)).sum::<usize>());
}

fn burn(millis: u64) {
    let end = std::time::Instant::now() + Duration::from_millis(millis);
    while std::time::Instant::now() < end {
        std::hint::spin_loop();
    }
}
