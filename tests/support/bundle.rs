//! A bundle on disk and the container made from it: its own state root, id and cgroup, and a check that nothing is left.

use super::runtime::{Call, Output, Runtime, peer_differs};
use super::{Value, json, kernel, payload, reaper, until, world};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// A bundle, and the container that is made from it.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The container's id; unique on this machine.
    pub(crate) id: String,
    /// The bundle's directory; it also contains the state root and all output.
    pub(crate) dir: PathBuf,
    /// The content of `config.json`.
    pub(crate) config: Value,
    /// The runtime to call.
    pub(crate) binary: PathBuf,
    /// The first argument of `binary`: a script, if `binary` is a shell that calls the runtime.
    pub(crate) script: Option<PathBuf>,
    mark: String,
    calls: AtomicU32,
    launched: AtomicU32,
    born: Instant,
}

impl Bundle {
    /// A bundle like that of `runc spec`, with the payload as its only program.
    #[track_caller]
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("onggi-test-{}-{}-", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let id = format!("{mark}{name}");
        let dir = std::env::temp_dir().join(&id);
        std::fs::create_dir_all(dir.join("rootfs")).expect("bundle directory");
        for name in ["proc", "dev", "sys", "tmp", "etc"] {
            std::fs::create_dir(dir.join("rootfs").join(name)).unwrap();
        }
        payload::place(&dir.join("rootfs"), payload::INSIDE);
        let config = default_config(&id);
        let binary = Runtime::get().path.clone();
        Self {
            id,
            dir,
            config,
            binary,
            script: None,
            mark,
            calls: AtomicU32::new(0),
            launched: AtomicU32::new(0),
            born: Instant::now(),
        }
    }

    // ------------------------------------------------------------------------------------------ what config.json says

    /// Sets the value at a JSON pointer and creates missing parents. A final `-` appends to an array.
    #[track_caller]
    pub(crate) fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let mut place = &mut self.config;
        for key in pointer.split('/').skip(1) {
            place = match (key, place) {
                ("-", place) => {
                    if !place.is_array() {
                        *place = json!([]);
                    }
                    let list = place.as_array_mut().unwrap();
                    list.push(Value::Null);
                    list.last_mut().unwrap()
                }
                (index, Value::Array(list)) => &mut list[index.parse::<usize>().unwrap()],
                (name, place) => {
                    if !place.is_object() {
                        *place = json!({});
                    }
                    place.as_object_mut().unwrap().entry(name).or_insert(Value::Null)
                }
            };
        }
        *place = value.into();
        self
    }

    /// Removes a key.
    #[track_caller]
    pub(crate) fn without(mut self, pointer: &str) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        if let Some(parent) = self.config.pointer_mut(parent).and_then(Value::as_object_mut) {
            parent.remove(key);
        }
        self
    }

    /// Sets what the payload does: its sub-commands, joined by `+`.
    pub(crate) fn sees(self, words: &[&str]) -> Self {
        let args: Vec<&str> = [payload::INSIDE].iter().chain(words).copied().collect();
        self.set("/process/args", args)
    }

    /// Sets the whole of `process.args`.
    pub(crate) fn args(self, args: &[&str]) -> Self {
        self.set("/process/args", args)
    }

    /// Adds a variable to the process's environment.
    pub(crate) fn env(self, variable: &str) -> Self {
        self.set("/process/env/-", variable)
    }

    /// Adds a mount.
    #[track_caller]
    pub(crate) fn mount(self, destination: &str, fstype: &str, source: impl AsRef<Path>, options: &[&str]) -> Self {
        let source = source.as_ref().to_str().unwrap();
        let mount = json!({"destination": destination, "type": fstype, "source": source, "options": options});
        self.set("/mounts/-", mount)
    }

    /// Adds a bind mount.
    pub(crate) fn bind(self, source: impl AsRef<Path>, destination: &str, options: &[&str]) -> Self {
        self.mount(destination, "bind", source, options)
    }

    /// Removes a mount of the default configuration.
    #[track_caller]
    pub(crate) fn without_mount(mut self, destination: &str) -> Self {
        self.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != destination);
        self
    }

    /// Asks for a new namespace, or joins one by path, in place of the default's entry of that type.
    pub(crate) fn namespace(self, kind: &str, path: Option<&str>) -> Self {
        let entry = path.map_or_else(|| json!({"type": kind}), |path| json!({"type": kind, "path": path}));
        self.without_namespace(kind).set("/linux/namespaces/-", entry)
    }

    /// Removes a namespace from the list, so that the container shares the host's.
    #[track_caller]
    pub(crate) fn without_namespace(mut self, kind: &str) -> Self {
        self.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|entry| entry["type"] != kind);
        self
    }

    /// Asks for a new user namespace (65536 ids, container 0 is host 100000) and gives it the root file system.
    #[track_caller]
    pub(crate) fn user_namespace(self) -> Self {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        for path in ["", "proc", "dev", "sys", "tmp", "etc"] {
            std::os::unix::fs::chown(self.rootfs().join(path), Some(100_000), Some(100_000)).unwrap();
        }
        self.namespace("user", None).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
    }

    /// Gives the process exactly these capabilities: bounding, effective and permitted.
    pub(crate) fn caps(self, names: &[&str]) -> Self {
        self.set("/process/capabilities", json!({"bounding": names, "effective": names, "permitted": names}))
    }

    /// Adds a hook that runs the payload on the host with these sub-commands and exactly this environment.
    #[track_caller]
    pub(crate) fn hook(self, kind: &str, words: &[&str], env: &[&str]) -> Self {
        let program = payload::binary().to_str().unwrap();
        let args: Vec<&str> = ["payload"].iter().chain(words).copied().collect();
        self.set(&format!("/hooks/{kind}/-"), json!({"path": program, "args": args, "env": env}))
    }

    // ------------------------------------------------------------------------------------------------ what is on disk

    /// The root file system.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// A path in the bundle's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Puts a file into the root file system.
    #[track_caller]
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Puts a directory into the root file system.
    #[track_caller]
    pub(crate) fn directory(self, path: &str) -> Self {
        std::fs::create_dir_all(self.rootfs().join(path.trim_start_matches('/'))).unwrap();
        self
    }

    /// Puts a symbolic link into the root file system and replaces what is at that path.
    #[track_caller]
    pub(crate) fn symlink(self, path: &str, target: impl AsRef<Path>) -> Self {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        let _ = std::fs::remove_dir(&path).or_else(|_| std::fs::remove_file(&path));
        std::os::unix::fs::symlink(target, path).unwrap();
        self
    }

    /// Makes a directory next to the root file system, as the source of a bind mount.
    #[track_caller]
    pub(crate) fn host_directory(&self, name: &str) -> PathBuf {
        std::fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    /// Makes a file next to the root file system.
    #[track_caller]
    pub(crate) fn host_file(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// The state root of this bundle's container.
    pub(crate) fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The container's cgroup, as `config.json` names it.
    pub(crate) fn cgroup(&self) -> String {
        self.config.pointer("/linux/cgroupsPath").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The content of a file in the container's cgroup; on v1 the controller selects the hierarchy.
    #[track_caller]
    pub(crate) fn cgroup_file(&self, controller: &str, file: &str) -> String {
        let path = world::cgroup_dir(controller, &self.cgroup()).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim().to_owned()
    }

    // ----------------------------------------------------------------------------------------------------- the verbs

    /// Writes `config.json` unless it has that content already: another call may be reading it.
    fn write_config(&self) {
        let (file, text) = (self.dir.join("config.json"), serde_json::to_vec_pretty(&self.config).unwrap());
        if std::fs::read(&file).ok().as_ref() != Some(&text) {
            std::fs::write(file, text).unwrap();
        }
    }

    /// A command that calls the runtime, possibly through a shell script.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(&self.script);
        command
    }

    /// A call of the runtime with this bundle's state root. More global flags may be added, then the verb.
    pub(crate) fn runtime(&self) -> Call {
        self.write_config();
        let mut command = self.command();
        command.arg("--root").arg(self.state_root()).current_dir(&self.dir).env("ONGGI_TEST", &self.mark);
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        Call::new(command, &self.dir.join(format!("call-{number}")))
    }

    /// A verb with its arguments.
    pub(crate) fn verb(&self, args: &[&str]) -> Output {
        self.runtime().args(args).finish()
    }

    /// A verb that takes a bundle: `run` or `create`, its flags, and the id.
    pub(crate) fn launch(&self, verb: &str, flags: &[&str]) -> Call {
        self.launched.store(self.calls.load(Ordering::Relaxed), Ordering::Relaxed);
        self.runtime().args([verb, "--bundle"]).args([&self.dir]).args(flags).args([&self.id])
    }

    /// Runs the payload in the foreground.
    pub(crate) fn run(mut self, words: &[&str]) -> Output {
        self = self.sees(words);
        self.launch("run", &[]).finish()
    }

    /// `run` with the configuration as it is.
    pub(crate) fn run_as_is(&self) -> Output {
        self.launch("run", &[]).finish()
    }

    /// `run_as_is`, then calls `undo`, whether the run succeeded or not.
    pub(crate) fn run_then(&self, undo: impl FnOnce()) -> Output {
        let output = self.run_as_is();
        undo();
        output
    }

    /// Creates the container.
    pub(crate) fn create(&self) -> Output {
        self.launch("create", &[]).finish()
    }

    /// Starts the container.
    pub(crate) fn start(&self) -> Output {
        self.verb(&["start", &self.id])
    }

    /// Creates and starts the container; returns the host pid of its first process.
    pub(crate) fn up(&self) -> i32 {
        self.create().ok();
        let pid = self.pid();
        self.start().ok();
        pid
    }

    /// What the most recently launched container has printed so far.
    pub(crate) fn printed(&self) -> String {
        let call = self.launched.load(Ordering::Relaxed);
        std::fs::read_to_string(self.dir.join(format!("call-{call}.out"))).unwrap_or_default()
    }

    /// The file that holds what the container launched last writes on standard error.
    pub(crate) fn last_errors(&self) -> PathBuf {
        self.dir.join(format!("call-{}.err", self.launched.load(Ordering::Relaxed)))
    }

    /// Waits until the container has printed a text.
    #[track_caller]
    pub(crate) fn hears(&self, text: &str) -> &Self {
        until(&format!("{text:?} from {}", self.id), || self.printed().contains(text).then_some(()));
        self
    }

    /// Sends a signal.
    pub(crate) fn kill(&self, signal: &str) -> Output {
        self.verb(&["kill", &self.id, signal])
    }

    /// Deletes the container.
    pub(crate) fn delete(&self) -> Output {
        self.verb(&["delete", &self.id])
    }

    /// Kills and deletes the container.
    pub(crate) fn down(&self) {
        self.verb(&["delete", "--force", &self.id]).ok();
    }

    /// The state document.
    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        self.verb(&["state", &self.id]).ok().json()
    }

    /// The status in the state document.
    #[track_caller]
    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Waits for a status.
    #[track_caller]
    pub(crate) fn wait_for(&self, status: &str) -> &Self {
        until(&format!("{} to be {status}", self.id), || (self.status() == status).then_some(()));
        self
    }

    /// The host pid of the container's first process.
    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.state()["pid"].as_i64().unwrap()).unwrap()
    }

    /// Waits for an adopted process to end; returns its status as a shell reports it.
    #[track_caller]
    pub(crate) fn exit_code(&self, pid: i32) -> i32 {
        let status = reaper::status_of(pid, self.born, super::patience());
        reaper::code(status.unwrap_or_else(|| panic!("{pid} did not end: {}", kernel::where_it_hangs(pid))))
    }

    // ----------------------------------------------------------------------------------------------- nothing is left

    /// Lists what is left of the container: processes, cgroups, mounts, state.
    #[track_caller]
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left: Vec<String> =
            kernel::processes_with(&self.mark).into_iter().map(|(pid, what)| format!("process {pid} {what}")).collect();
        left.extend(kernel::cgroups_with(&self.mark).iter().map(|path| format!("cgroup {}", path.display())));
        let own = i32::try_from(std::process::id()).unwrap();
        left.extend(
            kernel::mounts_of(own)
                .iter()
                .filter(|m| m.point.contains(&self.mark))
                .map(|m| format!("mount {}", m.point)),
        );
        let states = std::fs::read_dir(self.state_root()).into_iter().flatten().flatten();
        // names with a leading dot are a runtime's own cache (crun's `.cache`), unless they contain the mark of our ids
        left.extend(
            states
                .filter(|e| e.file_name().to_string_lossy().contains(&self.mark))
                .map(|e| format!("state {:?}", e.path())),
        );
        left
    }

    /// Asserts that the container has left nothing. Waits a moment, since killed processes take time to disappear.
    #[track_caller]
    pub(crate) fn nothing_left(&self) {
        let end = Instant::now() + super::limit(3);
        loop {
            let left = self.left();
            let only_cgroups = left.iter().all(|what| what.starts_with("cgroup"));
            if left.is_empty() || (only_cgroups && peer_differs(&["crun"], "a failed run leaves its empty cgroup")) {
                return;
            }
            assert!(Instant::now() < end, "{} left behind: {left:#?}", self.id);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Removes by force whatever is left.
    fn clean(&self) {
        for _ in 0..50 {
            for (pid, _) in kernel::processes_with(&self.mark) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
            let own = i32::try_from(std::process::id()).unwrap();
            for mount in kernel::mounts_of(own).iter().rev().filter(|m| m.point.contains(&self.mark)) {
                let _ = nix::mount::umount2(mount.point.as_str(), nix::mount::MntFlags::MNT_DETACH);
            }
            for cgroup in kernel::cgroups_with(&self.mark) {
                let _ = std::fs::write(cgroup.join("freezer.state"), "THAWED");
                let _ = std::fs::write(cgroup.join("cgroup.freeze"), "0");
                let _ = std::fs::remove_dir(cgroup);
            }
            let _ = std::fs::remove_dir_all(self.state_root());
            if self.left().is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if !panicking {
                self.nothing_left();
            }
        }));
        self.clean();
        if std::env::var_os("ONGGI_KEEP_BUNDLES").is_none() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
        if let Err(why) = judged {
            std::panic::resume_unwind(why);
        }
    }
}

/// Like the output of `runc spec`, without the cgroup mount and with a writable root file system.
fn default_config(id: &str) -> Value {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    let mount = |destination: &str, fstype: &str, options: &[&str]| json!({"destination": destination, "type": fstype, "source": fstype, "options": options});
    json!({
        // crun 1.8 knows nothing newer
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [payload::INSIDE, "true"],
            "env": ["PATH=/usr/bin:/bin:/", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "onggi-test",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
