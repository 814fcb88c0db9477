//! A small host of its own: a pid and a mount namespace, private, with a first process that reaps. What looks at other
//! people's processes is tried in there, and everything in it ends with it.

use super::runtime::{Call, Running, Runtime};
use super::{Bundle, payload, until};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The two namespaces, and a directory for what belongs to them.
#[derive(Debug)]
pub(crate) struct Private {
    outer: Running,
    /// The first process, as this process counts.
    pub(crate) pid: i32,
    /// A directory of the host.
    pub(crate) dir: PathBuf,
    /// A word that nobody in a container may come to know: the name of the directory that is a mount of this host.
    pub(crate) token: String,
}

impl Private {
    /// Makes them. `token` names a mount point that only this host has.
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

    /// Has the bundle's runtime called in there; `flags` are global ones of its command line.
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

    /// The pid namespace, for a container to join.
    pub(crate) fn pid_namespace(&self) -> String {
        format!("/proc/{}/ns/pid", self.pid)
    }

    /// A file of this host.
    #[track_caller]
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.dir.join(name), text).unwrap();
        self.dir.join(name)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // the kernel ends all others when the first process of their pid namespace ends
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
        self.outer.kill(libc::SIGKILL);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
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
