//! The runtime under test, one call of it, and its output.
//!
//! `ONGGI_RUNTIME=/usr/sbin/runc` runs the suite on another runtime, which checks the tests themselves.

use super::{Value, patience, reaper};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The binary under test.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// The path of its binary.
    pub(crate) path: PathBuf,
    /// `onggi`, `runc`, `crun`, `youki`: the name that `--version` prints.
    pub(crate) name: String,
    /// The version, such as `1.3.6`, as numbers that can be compared.
    pub(crate) version: Vec<u32>,
}

impl Runtime {
    /// The binary under test; its name and version are queried once.
    #[track_caller]
    pub(crate) fn get() -> &'static Self {
        static CHOSEN: OnceLock<Runtime> = OnceLock::new();
        CHOSEN.get_or_init(|| {
            assert!(nix::unistd::geteuid().is_root(), "the integration tests make containers: run them as root");
            let path =
                std::env::var_os("ONGGI_RUNTIME").map_or_else(|| env!("CARGO_BIN_EXE_onggi").into(), PathBuf::from);
            assert!(path.is_file(), "ONGGI_RUNTIME={}: no such file", path.display());
            let said = std::env::temp_dir().join(format!("onggi-test-{}-version", std::process::id()));
            let output = Call::new(Command::new(&path), &said).args(["--version"]).finish();
            for end in ["out", "err"] {
                let _ = std::fs::remove_file(said.with_extension(end));
            }
            let first = output.stdout.lines().next().unwrap_or_default().to_owned();
            let name = std::env::var_os("ONGGI_RUNTIME").map_or_else(
                || "onggi".to_owned(),
                |_| first.split_whitespace().next().unwrap_or("unknown").to_owned(),
            );
            let version = first.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
            let numbers = version.unwrap_or("0").split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
            Self { version: numbers.collect(), name, path }
        })
    }

    /// Whether the binary under test is onggi.
    pub(crate) fn is_onggi(&self) -> bool {
        self.name == "onggi"
    }
}

/// Whether the runtime under test is one of `peers` (`"runc"`, `"runc<1.2"`), which is known to differ here; `why` says
/// how. If so, this prints a note to the real standard error, and the test stops. Never true for onggi.
pub(crate) fn peer_differs(peers: &[&str], why: &str) -> bool {
    let runtime = Runtime::get();
    let fits = |peer: &&str| match peer.split_once('<') {
        Some((name, below)) => {
            let below: Vec<u32> = below.split('.').filter_map(|n| n.parse().ok()).collect();
            name == runtime.name && runtime.version < below
        }
        None => *peer == runtime.name,
    };
    let differs = !runtime.is_onggi() && peers.iter().any(fits);
    if differs {
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        let line = format!("DIFFERS {test}: {}: {why}\n", runtime.name);
        let _ = nix::unistd::write(std::io::stderr(), line.as_bytes());
    }
    differs
}

/// Prints that this machine or cgroup layout cannot run a test, and why; always returns true.
pub(crate) fn not_here(why: &str) -> bool {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = nix::unistd::write(std::io::stderr(), format!("NOT HERE {test}: {why}\n").as_bytes());
    true
}

/// One call of a program. Its output goes to files, because a container may keep writing after the runtime has exited.
#[derive(Debug)]
pub(crate) struct Call {
    command: Command,
    said: PathBuf,
    stdin: Option<Vec<u8>>,
}

impl Call {
    /// A call whose output goes to `SAID.out` and `SAID.err`.
    pub(crate) fn new(command: Command, said: &Path) -> Self {
        let mut call = Self { command, said: said.to_path_buf(), stdin: None };
        call.command.stdin(Stdio::null()).env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS");
        call
    }

    /// Adds an argument.
    pub(crate) fn arg(self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.args([arg])
    }

    /// Adds arguments.
    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the program's environment.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Sets the program's working directory.
    pub(crate) fn within(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Sets what the program reads on standard input.
    pub(crate) fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = Some(bytes.to_vec());
        self
    }

    /// Uses one descriptor as standard input, output and error.
    #[track_caller]
    pub(crate) fn stdio(mut self, fd: &OwnedFd) -> Self {
        let copy = || Stdio::from(fd.try_clone().unwrap());
        self.command.stdin(copy()).stdout(copy()).stderr(copy());
        self.said = PathBuf::new();
        self
    }

    /// Changes the underlying `Command`.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn start(mut self) -> Running {
        reaper::start();
        if self.said.as_os_str().is_empty() {
            // the caller's descriptors
        } else {
            self.command.stdout(File::create(self.said.with_extension("out")).unwrap());
            self.command.stderr(File::create(self.said.with_extension("err")).unwrap());
        }
        if self.stdin.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let born = Instant::now();
        let line = format!("{:?}", self.command);
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
        if let (Some(bytes), Some(mut pipe)) = (&self.stdin, child.stdin.take()) {
            // ignore EPIPE: the program need not read its input
            let _ = std::io::Write::write_all(&mut pipe, bytes);
        }
        Running { pid: i32::try_from(child.id()).unwrap(), born, line, said: self.said }
    }

    /// Starts it and waits for its end.
    pub(crate) fn finish(self) -> Output {
        self.start().finish()
    }
}

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Running {
    /// Its process.
    pub(crate) pid: i32,
    born: Instant,
    line: String,
    said: PathBuf,
}

impl Running {
    /// Waits for its end; a program that hangs is killed and reported.
    pub(crate) fn finish(self) -> Output {
        self.finish_within(patience())
    }

    /// `finish`, with another time limit.
    #[track_caller]
    pub(crate) fn finish_within(self, patience: Duration) -> Output {
        let Some(status) = reaper::status_of(self.pid, self.born, patience) else {
            let where_it_hangs = super::kernel::where_it_hangs(self.pid);
            self.kill(libc::SIGKILL);
            panic!("{} hangs for {patience:?}\n{where_it_hangs}", self.line);
        };
        let read = |end: &str| std::fs::read(self.said.with_extension(end)).unwrap_or_default();
        let text = |end: &str| String::from_utf8_lossy(&read(end)).into_owned();
        Output { code: reaper::code(status), stdout: text("out"), stderr: text("err"), line: self.line }
    }

    /// Sends it a signal.
    #[track_caller]
    pub(crate) fn kill(&self, signal: i32) {
        let signal = nix::sys::signal::Signal::try_from(signal).unwrap();
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), signal);
    }

    /// What it has written on standard output so far.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(self.said.with_extension("out")).unwrap_or_default()
    }
}

/// The result of a call.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// Exit status, or 128 plus the signal.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    line: String,
}

impl Output {
    /// Asserts that it exited with 0.
    pub(crate) fn ok(self) -> Self {
        self.code(0)
    }

    /// Asserts that it exited with this status.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit status of {self}");
        self
    }

    /// Asserts that it failed with this status and printed this phrase on standard error.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, phrase: &str) -> Self {
        assert!(self.code != 0, "no failure of {self}");
        // other runtimes may have other texts and statuses
        if Runtime::get().name == "runc" || Runtime::get().is_onggi() {
            // the text log format quotes the message
            let said = self.stderr.replace("\\\"", "\"");
            assert!(said.contains(phrase), "{phrase:?} is not in the error of {self}");
            assert_eq!(self.code, code, "exit status of {self}");
        }
        self
    }

    /// The value that the payload printed for `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.stdout.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
    }

    /// Asserts that the payload printed exactly this value for `key`.
    #[track_caller]
    pub(crate) fn has(self, key: &str, value: &str) -> Self {
        assert_eq!(self.get(key), Some(value), "{key} in {self}");
        self
    }

    /// Asserts that standard output contains this line.
    #[track_caller]
    pub(crate) fn says(self, line: &str) -> Self {
        assert!(self.stdout.lines().any(|l| l.trim_end() == line), "no line {line:?} in {self}");
        self
    }

    /// Standard output, parsed as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON: {e}: {self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nstatus {}\nstdout:\n{}\nstderr:\n{}", self.line, self.code, self.stdout, self.stderr)
    }
}
