//! The systemd driver with the systemd of this machine; where none runs, the error must say so.

use super::super::*;
use crate::plan::cgroup::{CgroupRequest, limits, plan};
use oci_spec::runtime::LinuxResources;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

/// Limits that the lab's kernel has on v1, too.
const ON_V1: &str = r#"{"pids":{"limit":20},"cpu":{"shares":100,"quota":500000,"period":900000},
    "devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;

const RESOURCES: &str = r#"{"memory":{"limit":67108864,"swap":67108864},"pids":{"limit":20},
    "cpu":{"shares":100,"quota":500000,"period":900000},
    "devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;

/// A scope with a shell in it that executes the lines that it is sent.
struct Scoped {
    made: CgroupSetup,
    shell: Child,
    unit: String,
}

impl Scoped {
    /// A scope on cgroup2. `None` on v1.
    fn new(name: &str) -> Option<Self> {
        let made = Self::of(name, RESOURCES).filter(|scoped| scoped.made.handle().is_pure());
        assert!(made.is_some() || !Path::new("/sys/fs/cgroup/system.slice").exists());
        made
    }

    /// `None` where systemd does not run, after a check of the error.
    fn of(name: &str, resources: &str) -> Option<Self> {
        let unit = format!("test{}-{name}.scope", std::process::id());
        let path = format!(":test{}:{name}", std::process::id());
        let resources: LinuxResources = serde_json::from_str(resources).unwrap();
        let wanted = CgroupRequest {
            resources: Some(&resources),
            cgroups_path: Some(Path::new(&path)),
            driver: Driver::Systemd,
            ..CgroupRequest::default()
        };
        let plan = plan(&wanted, &facts(false).unwrap(), &mut Vec::new()).unwrap();
        let made = match make(&plan) {
            Ok(made) => made,
            Err(error) => {
                assert!(!Path::new("/run/systemd/system").exists(), "{error}");
                assert!(error.to_string().starts_with("systemd over the system bus "), "{error}");
                return None;
            }
        };
        let shell = Command::new("/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let scoped = Self { made, shell, unit };
        assert!(scoped.made.needs_placing() && scoped.made.clone_into_fd().is_none());
        scoped.made.place(i32::try_from(scoped.shell.id()).unwrap(), &plan).unwrap();
        scoped.made.limit(&plan).unwrap();
        Some(scoped)
    }

    fn file(&self, name: &str) -> String {
        let path = self.made.handle().unified().unwrap().join(name);
        std::fs::read_to_string(path).unwrap().trim_end().to_owned()
    }

    fn shows(&self, property: &str) -> String {
        let output = Command::new("systemctl").args(["show", "-P", property, &self.unit]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn tell(&mut self, line: &str) -> String {
        use std::io::{BufRead, BufReader};
        writeln!(self.shell.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut said = String::new();
        BufReader::new(self.shell.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        said.trim_end().to_owned()
    }
}

impl Drop for Scoped {
    fn drop(&mut self) {
        let _ = self.made.handle().kill_all();
        let _ = self.shell.wait();
        let _ = self.made.handle().remove();
    }
}

#[test]
fn a_scope_lives_and_dies() {
    for _ in 0..2 {
        // a second one of the same name must not collide with what is left of the first
        let Some(scoped) = Scoped::new("life") else { return };
        let path = format!("/sys/fs/cgroup/system.slice/{}", scoped.unit);
        assert_eq!(scoped.made.handle().unified(), Some(Path::new(&path)));
        assert_eq!(scoped.file("memory.max"), "67108864");
        assert_eq!(scoped.file("memory.swap.max"), "0");
        assert_eq!(scoped.file("pids.max"), "20");
        assert_eq!(scoped.file("cpu.weight"), "17");
        assert_eq!(scoped.file("cpu.max"), "504000 900000");
        for (property, value) in [
            ("MemoryMax", "67108864"),
            ("MemorySwapMax", "0"),
            ("TasksMax", "20"),
            ("CPUWeight", "17"),
            ("CPUQuotaPerSecUSec", "560ms"),
            ("Delegate", "yes"),
            ("DevicePolicy", "strict"),
        ] {
            assert_eq!(scoped.shows(property), value, "{property}");
        }
        let unit = scoped.unit.clone();
        let handle = scoped.made.handle().clone();
        drop(scoped);
        assert!(!handle.exists());
        let output = Command::new("systemctl").args(["show", "-P", "LoadState", &unit]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), "not-found");
    }
}

#[test]
fn a_scope_on_v1() {
    let Some(scoped) = Scoped::of("v1", ON_V1).filter(|scoped| !scoped.made.handle().is_pure()) else { return };
    let handle = scoped.made.handle().clone();
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", scoped.shell.id())).unwrap();
    assert!(own.lines().all(|line| line.ends_with(&format!(":/system.slice/{}", scoped.unit))), "{own}");
    let read = |controller: &str, file: &str| {
        std::fs::read_to_string(handle.cgroup_paths.get(controller).unwrap().join(file)).unwrap()
    };
    let rules = read("devices", "devices.list");
    assert!(rules.contains("c 1:11 r\n") && !rules.contains("a *:*"), "{rules}");
    for _ in 0..2 {
        assert_eq!(read("pids", "pids.max"), "20\n");
        assert_eq!(read("cpu", "cpu.shares"), "100\n");
        assert_eq!(read("cpu", "cpu.cfs_quota_us"), "504000\n");
        assert_eq!(scoped.shows("TasksMax"), "20");
        assert_eq!(scoped.shows("CPUShares"), "100");
        assert_eq!(read("devices", "devices.list"), rules);
        assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    }
    drop(scoped);
    assert!(handle.cgroup_paths.values().all(|path| !path.exists()));
}

#[test]
fn a_reload_changes_nothing() {
    let Some(mut scoped) = Scoped::new("reload") else { return };
    let dir = std::env::temp_dir().join(format!("onggi-test-{}-reload", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    for (name, minor) in [("kmsg", "11"), ("mem", "1"), ("null", "3")] {
        Command::new("mknod").arg(dir.join(name)).args(["c", "1", minor]).status().unwrap();
    }
    let probe = format!(
        "for n in kmsg mem null; do (exec 3< {0}/$n) 2> /dev/null && printf 'r-%s ' $n; \
         (exec 3>> {0}/$n) 2> /dev/null && printf 'w-%s ' $n; done; echo",
        dir.display()
    );
    assert_eq!(scoped.tell(&probe), "r-kmsg r-null w-null");
    let files = ["memory.max", "memory.swap.max", "pids.max", "cpu.weight", "cpu.max"];
    let before = files.map(|file| scoped.file(file));
    assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    // systemd writes its own values again with any change of the unit
    let unit = scoped.unit.clone();
    assert!(
        Command::new("systemctl").args(["set-property", "--runtime", &unit, "IOWeight=50"]).status().unwrap().success()
    );
    assert_eq!(files.map(|file| scoped.file(file)), before);
    assert_eq!(scoped.tell(&probe), "r-kmsg r-null w-null");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_update_is_told_to_systemd() {
    let Some(scoped) = Scoped::new("update") else { return };
    let handle = scoped.made.handle();
    let planned = |json: &str| {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        limits(&resources, &facts(false).unwrap(), handle.driver(), &mut Vec::new()).unwrap()
    };
    let good =
        r#"{"pids":{"limit":30},"cpu":{"quota":600000,"period":900000,"idle":1},"unified":{"memory.high":"5M"}}"#;
    handle.update(&planned(good)).unwrap();
    assert_eq!(scoped.shows("TasksMax"), "30");
    assert_eq!(scoped.shows("CPUQuotaPerSecUSec"), "670ms");
    assert_eq!(scoped.shows("MemoryHigh"), "5242880");
    assert_eq!(scoped.file("cpu.max"), "603000 900000");
    assert_eq!(scoped.file("cpu.idle"), "1");
    assert_eq!(scoped.file("pids.max"), "30");

    let bad = r#"{"pids":{"limit":40},"cpu":{"period":5}}"#;
    let error = handle.update(&planned(bad)).unwrap_err().to_string();
    assert!(error.contains("cpu.max"), "{error}");
    assert_eq!((scoped.file("pids.max"), scoped.shows("TasksMax")), ("30".to_owned(), "30".to_owned()));
}

#[test]
fn a_used_name_is_refused() {
    let Some(scoped) = Scoped::new("used") else { return };
    let path = format!(":test{}:used", std::process::id());
    let wanted =
        CgroupRequest { cgroups_path: Some(Path::new(&path)), driver: Driver::Systemd, ..CgroupRequest::default() };
    let plan = plan(&wanted, &facts(false).unwrap(), &mut Vec::new()).unwrap();
    let error = make(&plan).unwrap_err().to_string();
    assert_eq!(error, "container's cgroup is not empty: 1 process(es) found");
    assert_eq!(scoped.shows("ActiveState"), "active");
}

#[test]
fn properties_of_annotations_arrive() {
    let Some(_) = Scoped::new("first") else { return };
    let path = format!(":test{}:annotated", std::process::id());
    let annotations = [("org.systemd.property.TimeoutStopSec".to_owned(), "7".to_owned())].into();
    let wanted = CgroupRequest {
        cgroups_path: Some(Path::new(&path)),
        annotations: Some(&annotations),
        driver: Driver::Systemd,
        ..CgroupRequest::default()
    };
    let plan = plan(&wanted, &facts(false).unwrap(), &mut Vec::new()).unwrap();
    let made = make(&plan).unwrap();
    let mut sleep = Command::new("sleep").arg("1000").spawn().unwrap();
    made.place(i32::try_from(sleep.id()).unwrap(), &plan).unwrap();
    let unit = format!("test{}-annotated.scope", std::process::id());
    let output = Command::new("systemctl").args(["show", "-P", "TimeoutStopUSec", &unit]).output().unwrap();
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    made.handle().remove().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), "7s");
}

/// The part of [`users_have_scopes_too`] that runs as a user.
#[test]
fn as_a_user() {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let resources: LinuxResources = serde_json::from_str(r#"{"pids":{"limit":20}}"#).unwrap();
    let path = ":usertest:scope";
    let wanted = CgroupRequest {
        resources: Some(&resources),
        cgroups_path: Some(Path::new(path)),
        driver: Driver::Systemd,
        rootless: Rootless::Yes,
        ..CgroupRequest::default()
    };
    let plan = plan(&wanted, &facts(false).unwrap(), &mut Vec::new()).unwrap();
    let made = make(&plan).unwrap();
    let mut sleep = Command::new("sleep").arg("1000").spawn().unwrap();
    made.place(i32::try_from(sleep.id()).unwrap(), &plan).unwrap();
    made.limit(&plan).unwrap();
    let path = made.handle().unified().unwrap().to_owned();
    assert!(path.ends_with("user@4242.service/user.slice/usertest-scope.scope"), "{}", path.display());
    assert_eq!(std::fs::read_to_string(path.join("pids.max")).unwrap(), "20\n");
    // a process from outside the delegated subtree
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    made.handle().join(i32::try_from(other.id()).unwrap(), &[], false).unwrap();
    assert_eq!(made.handle().pids().unwrap().len(), 2);
    made.handle().freeze().unwrap();
    made.handle().kill_all().unwrap();
    for child in [&mut sleep, &mut other] {
        child.wait().unwrap();
    }
    made.handle().remove().unwrap();
    assert!(!path.exists());
    println!("a user has scopes");
}

#[test]
fn users_have_scopes_too() {
    let Some(_) = Scoped::new("user") else { return };
    let sh = |script: &str| {
        let output = Command::new("/bin/sh").args(["-c", script]).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let said = sh("useradd --uid 4242 --create-home labuser && loginctl enable-linger labuser && \
         for i in $(seq 100); do [ -S /run/user/4242/bus ] && break; sleep 0.1; done; ls /run/user/4242/bus");
    assert_eq!(said, "/run/user/4242/bus\n");
    let test = std::env::current_exe().unwrap();
    let said = sh(&format!(
        "cd / && exec setpriv --reuid 4242 --regid 4242 --clear-groups env XDG_RUNTIME_DIR=/run/user/4242 \
         {} --exact --nocapture cgroup::tests::systemd::as_a_user",
        test.display()
    ));
    sh("loginctl disable-linger labuser; userdel --force --remove labuser");
    assert!(said.contains("a user has scopes"), "{said}");
}
