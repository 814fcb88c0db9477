//! Callers without privileges: the user `nobody`, as himself or as root of a user namespace of his own.

use super::runtime::Call;
use super::{Bundle, Runtime, Value, json, not_here};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The user: `nobody`, whom every machine has.
pub(crate) const USER: u32 = 65534;

/// How the runtime is called.
#[derive(Debug, Default)]
pub(crate) struct Caller<'a> {
    /// What root does before, in shell.
    pub(crate) first: &'a str,
    /// Groups beside his own.
    pub(crate) groups: &'a str,
    /// What stands between him and the runtime: `unshare -Ur`.
    pub(crate) through: &'a str,
}

/// Shell for [`Caller::first`] that mounts something where only the runtime sees it.
pub(crate) fn privately(mounts: &str) -> String {
    format!(
        "[ -n \"$INSIDE\" ] || INSIDE=1 exec unshare --mount --propagation private sh \"$0\" \"$@\"\n{mounts} || exit 99"
    )
}

/// Whether users may not make user namespaces here; says so.
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
    /// A bundle much as `spec --rootless` writes it, whose runtime is called by the user.
    pub(crate) fn rootless(name: &str) -> Self {
        let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
        Self::users(name)
            .namespace("user", None)
            .set("/linux/uidMappings", map(USER))
            .set("/linux/gidMappings", map(USER))
            .called_by(&Caller::default())
    }

    /// The same without a user namespace, for a caller who has made one himself.
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

    /// Has the runtime called this way: by a script, with a copy of it that everybody can reach.
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
        // read by a shell, not executed: a file that was just written may be busy
        (self.binary, self.script) = ("/bin/sh".into(), Some(script));
        self
    }

    /// Has the runtime called by the user as root of a user namespace of his own; `flags` of unshare(1) beside.
    pub(crate) fn called_by_inner_root(self, flags: &str) -> Self {
        self.called_by(&Caller { through: &format!("unshare -Ur{flags}"), ..Caller::default() })
    }

    /// Puts a copy of the runtime that is the user's own file in the place of the one that he calls.
    pub(crate) fn own_runtime(&self) -> PathBuf {
        let runtime = self.path("runtime");
        // by a program of its own: what this one has open for writing its other children have too, for a moment
        let mut copy = Command::new("cp");
        copy.arg("--remove-destination").args([&Runtime::get().path, &runtime]);
        Call::new(copy, &self.path("copied")).finish().ok();
        Self::given(&runtime);
        runtime
    }

    /// Gives the user something that root made.
    #[track_caller]
    pub(crate) fn given(path: &Path) {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
}

/// The ranges of a map as the kernel shows them.
pub(crate) fn ranges(text: &str) -> Vec<Vec<u32>> {
    let numbers = |line: &str| line.split_whitespace().map_while(|number| number.parse().ok()).collect::<Vec<u32>>();
    text.lines().map(numbers).filter(|range| range.len() == 3).collect()
}

/// A mapping of the configuration.
pub(crate) fn range(inside: u32, outside: u32, size: u32) -> Value {
    json!({"containerID": inside, "hostID": outside, "size": size})
}
