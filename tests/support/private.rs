//! A private "host": a pid and a mount namespace with a first process that reaps. Tests in which an attacker looks at
//! other processes run in it, so that they cannot touch the machine's own. All of its processes end with it.

use super::runtime::{Call, Running, Runtime};
use super::{Bundle, payload, until};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The two namespaces, and a directory for their files.
#[derive(Debug)]
pub(crate) struct Private {
    outer: Running,
    /// The first process's pid in our pid namespace.
    pub(crate) pid: i32,
    /// A directory of this host.
    pub(crate) dir: PathBuf,
    /// A secret that no container may learn: the name of a mount point that only this host has.
    pub(crate) token: String,
}

impl Private {
    /// Creates the namespaces. `token` names a mount point that only this host has.
    #[track_caller]
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("onggi-test-{}-host-{number}", std::process::id()));
        let token = format!("hidden{}x{number}", std::process::id());
        let mounted = dir.join(&token);
        std::fs::create_dir_all(&mounted).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "sh"]);
        command
            .args(["-c", "mount -t tmpfs tmpfs \"$1\" && exec \"$2\" reap", "sh"])
            .arg(mounted)
            .arg(payload::binary());
        let outer = Call::new(command, &dir.join("reaper")).start();
        let pid = until("the first process of a private host", || {
            outer.stdout().contains("reap: ready").then(|| child_of(outer.pid)).flatten()
        });
        Self { outer, pid, dir, token }
    }

    /// Makes the bundle's runtime run on this host, with these global flags.
    #[track_caller]
    pub(crate) fn hosts(&self, mut bundle: Bundle, flags: &[&str]) -> Bundle {
        let script = bundle.path("in-private");
        let text = format!(
            "exec nsenter --target {} --mount --pid -- {:?} {} \"$@\"\n",
            self.pid,
            Runtime::get().path,
            flags.join(" ")
        );
        std::fs::write(&script, text).unwrap();
        (bundle.binary, bundle.script) = ("/bin/sh".into(), Some(script));
        bundle
    }

    /// The path of the pid namespace, for a container to join.
    pub(crate) fn pid_namespace(&self) -> String {
        format!("/proc/{}/ns/pid", self.pid)
    }

    /// Creates a file of this host.
    #[track_caller]
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.dir.join(name), text).unwrap();
        self.dir.join(name)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // the kernel kills all processes of a pid namespace when its first process ends
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
        self.outer.kill(libc::SIGKILL);
        let end = std::time::Instant::now() + super::limit(5);
        while Path::new(&format!("/proc/{}", self.pid)).exists() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn child_of(pid: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
