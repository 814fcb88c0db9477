//! Callers without privileges: the user `nobody`, directly or as root of a user namespace that the user created.

use super::runtime::Call;
use super::{Bundle, Runtime, Value, json, not_here};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The uid of `nobody`, which every machine has.
pub(crate) const USER: u32 = 65534;

/// How the runtime is called.
#[derive(Debug, Default)]
pub(crate) struct Caller<'a> {
    /// Shell commands that root runs before the call.
    pub(crate) first: &'a str,
    /// Options of setpriv(1) for supplementary groups; none by default.
    pub(crate) groups: &'a str,
    /// A command that executes the runtime, such as `unshare -Ur`.
    pub(crate) through: &'a str,
}

/// Shell for [`Caller::first`] that mounts something in a mount namespace of the runtime's own.
pub(crate) fn privately(mounts: &str) -> String {
    format!(
        "[ -n \"$INSIDE\" ] || INSIDE=1 exec unshare --mount --propagation private sh \"$0\" \"$@\"\n{mounts} || exit 99"
    )
}

/// Whether unprivileged users cannot create user namespaces here; if so, prints that the test did not run.
pub(crate) fn refused() -> bool {
    static REFUSED: OnceLock<bool> = OnceLock::new();
    let refused = *REFUSED.get_or_init(|| {
        let said = std::env::temp_dir().join(format!("onggi-test-{}-user", std::process::id()));
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "unshare", "-U", "true"]);
        let output = Call::new(command, &said).finish();
        for end in ["out", "err"] {
            let _ = std::fs::remove_file(said.with_extension(end));
        }
        output.code != 0
    });
    refused && not_here("users may not make user namespaces")
}

impl Bundle {
    /// A bundle like that of `spec --rootless`, whose runtime is called by the user.
    pub(crate) fn rootless(name: &str) -> Self {
        let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
        Self::users(name)
            .namespace("user", None)
            .set("/linux/uidMappings", map(USER))
            .set("/linux/gidMappings", map(USER))
            .called_by(&Caller::default())
    }

    /// The same without a user namespace, for a caller that is in one already.
    #[track_caller]
    pub(crate) fn users(name: &str) -> Self {
        let mut bundle = Self::new(name)
            .without("/linux/cgroupsPath")
            .without("/linux/resources")
            .without_namespace("network")
            .without_namespace("cgroup")
            .without_mount("/sys")
            .bind("/sys", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
        for mount in bundle.config["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
        for path in ["", "rootfs", "rootfs/proc", "rootfs/dev", "rootfs/sys", "rootfs/tmp", "rootfs/etc"] {
            chown(bundle.dir.join(path), Some(USER), Some(USER)).unwrap();
        }
        bundle
    }

    /// Makes a script call the runtime this way, as a copy that every user can execute.
    #[track_caller]
    pub(crate) fn called_by(mut self, caller: &Caller<'_>) -> Self {
        let (runtime, script) = (self.path("runtime"), self.path("as-user"));
        let _ = std::fs::remove_file(&runtime);
        if std::fs::hard_link(&Runtime::get().path, &runtime).is_err() {
            self.own_runtime();
        }
        let groups = if caller.groups.is_empty() { "--clear-groups" } else { caller.groups };
        let text = format!(
            "{}\nexec setpriv --reuid {USER} --regid {USER} {groups} {} {:?} \"$@\"\n",
            caller.first, caller.through, runtime
        );
        std::fs::write(&script, text).unwrap();
        // the shell reads the script instead of executing it: a file that was just written may give ETXTBSY
        (self.binary, self.script) = ("/bin/sh".into(), Some(script));
        self
    }

    /// Makes the user call the runtime as root of a new user namespace; `flags` are further letters for unshare(1).
    pub(crate) fn called_by_inner_root(self, flags: &str) -> Self {
        self.called_by(&Caller { through: &format!("unshare -Ur{flags}"), ..Caller::default() })
    }

    /// Replaces the runtime that the user calls by a copy that belongs to the user.
    pub(crate) fn own_runtime(&self) -> PathBuf {
        let runtime = self.path("runtime");
        // copied by another process: children of ours would inherit a descriptor that is open for writing (ETXTBSY)
        let mut copy = Command::new("cp");
        copy.arg("--remove-destination").args([&Runtime::get().path, &runtime]);
        Call::new(copy, &self.path("copied")).finish().ok();
        Self::given(&runtime);
        runtime
    }

    /// Changes the owner of `path` to the user.
    #[track_caller]
    pub(crate) fn given(path: &Path) {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
}

/// Parses a uid_map or gid_map as the kernel shows it.
pub(crate) fn ranges(text: &str) -> Vec<Vec<u32>> {
    let numbers = |line: &str| line.split_whitespace().map_while(|number| number.parse().ok()).collect::<Vec<u32>>();
    text.lines().map(numbers).filter(|range| range.len() == 3).collect()
}

/// An entry of `linux.uidMappings` or `linux.gidMappings`.
pub(crate) fn range(inside: u32, outside: u32, size: u32) -> Value {
    json!({"containerID": inside, "hostID": outside, "size": size})
}
