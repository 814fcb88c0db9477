//! Directories, records, and the status against real processes and locks.

use super::dir::{RECORD, user_name};
use super::root::is_user;
use super::*;
use crate::error::Kind;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A root of its own for each test, removed at its end.
struct Scratch(Root);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("onggi-state-{name}-{}", std::process::id()));
        let _stale = std::fs::remove_dir_all(&path);
        Self(Root { path, named: true, sticky: false })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0.path);
    }
}

/// Stands for what the cgroup side keeps.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Cgroup {
    #[serde(default)]
    cgroup_paths: BTreeMap<String, PathBuf>,
}

fn open(root: &Root) -> Result<Container<Cgroup>> {
    root.open("web")
}

fn record(id: &str, pid: i32, start: u64) -> Record<Cgroup> {
    Record {
        maker: Maker::Onggi,
        oci_version: "1.3.0".into(),
        id: id.into(),
        init_process_pid: pid,
        init_process_start: start,
        created: "2026-11-21T02:53:50.292325438Z".into(),
        bundle: "/b".into(),
        rootfs: "/b/rootfs".into(),
        annotations: BTreeMap::new(),
        rootless: false,
        namespace_paths: BTreeMap::new(),
        external_descriptors: Vec::new(),
        no_new_keyring: false,
        private_pid: true,
        root_mount: None,
        cgroup: Cgroup::default(),
        poststart: Vec::new(),
        poststop: Vec::new(),
    }
}

fn sleeper() -> (Child, Pid) {
    // it holds no pipe of a test that fails before it ends it
    let child = Command::new("/bin/sleep").arg("100").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    (child, pid)
}

#[test]
fn ids() {
    for good in ["a", "web-1", "A_b+c.d", "...", "0", &"x".repeat(64)] {
        assert!(check_id(good).is_ok(), "{good}");
    }
    let said = |id| check_id(id).err().map(|error| error.to_string());
    assert_eq!(said("").as_deref(), Some("container id cannot be empty"));
    for bad in [".", "..", "a/b", "@", "a b", "ä", "a\n", "../x"] {
        assert_eq!(said(bad).as_deref(), Some("invalid container ID format"), "{bad}");
    }
}

#[test]
fn who_has_a_root_of_his_own() {
    // (euid is 0, in a user namespace, USER) → below the runtime directory
    let rows = [
        (true, false, Some("root"), false),
        (true, false, Some("ann"), false),
        (true, true, Some("root"), false),
        (true, true, Some("ann"), true),
        (true, true, None, true),
        (false, false, Some("ann"), true),
        (false, false, None, true),
    ];
    for (root, namespace, user, expected) in rows {
        assert_eq!(is_user(root, || namespace, user.map(OsStr::new)), expected, "{root} {namespace} {user:?}");
    }
    assert_eq!(Root::default_below(None).path(), Path::new("/run/onggi"));
    assert_eq!(Root::default_below(Some("/run/user/7".into())).path(), Path::new("/run/user/7/onggi"));
}

#[test]
fn of_two_creates_one_wins() {
    let Scratch(root) = &Scratch::new("claim");
    let claim = root.claim("web").unwrap();
    let mode = std::fs::metadata(claim.dir.path()).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o1711, "marked as ours");
    assert_eq!(std::fs::metadata(root.path()).unwrap().mode() & 0o7777, 0o700);
    let error = root.claim("web").err().unwrap();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Exists, "container with given ID already exists"));

    let winners = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| root.claim("race").is_ok())).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|won| *won).count()
    });
    assert_eq!(winners, 1);
}

#[test]
fn a_record_is_stored_and_read_back() {
    let Scratch(root) = &Scratch::new("record");
    let claim = root.claim("web").unwrap();
    let absent = open(root).err().unwrap();
    assert_eq!((absent.kind(), absent.to_string().as_str()), (Kind::NotFound, "container does not exist"));

    let mut stored = record("web", 7, 8);
    stored.annotations.insert("a".into(), "b".into());
    stored.cgroup.cgroup_paths.insert(String::new(), "/x".into());
    stored.poststop = serde_json::from_str(r#"[{"path": "/bin/true", "timeout": 3}]"#).unwrap();
    let announced = claim.announce(&record("web", 0, 0)).unwrap();
    let read = open(root).unwrap();
    assert_eq!((read.record, read.config), (record("web", 0, 0), Vec::new()));
    let file = claim.dir.record();
    let first = std::fs::read(&file).unwrap();
    announced.complete(&stored, b"{\n \"a\": 1\n}\n").unwrap();
    let read = open(root).unwrap();
    assert_eq!((&read.record, read.config.as_slice()), (&stored, &b"{\n \"a\": 1\n}\n"[..]));
    // half of the second record has come
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..first.len() + 40]).unwrap();
    assert_eq!(open(root).unwrap().record, record("web", 0, 0));
    // and half of the first
    std::fs::write(&file, &whole[..40]).unwrap();
    assert_eq!(open(root).err().map(|error| error.kind()), Some(Kind::NotFound));
    std::fs::write(&file, &whole).unwrap();
    let text = std::fs::read_to_string(read.dir.path().join(RECORD)).unwrap();
    assert!(text.contains(r#""init_process_pid":7,"init_process_start":8"#), "{text}");
    assert!(text.contains(r#""cgroup_paths":{"":"/x"}"#), "{text}");
    let names = std::fs::read_dir(read.dir.path()).unwrap().count();
    assert_eq!(names, 1, "nothing beside the record");

    assert_eq!(root.ids().unwrap(), ["web"]);
    std::fs::write(read.dir.path().join("left-behind"), "").unwrap();
    read.dir.remove().unwrap();
    read.dir.remove().unwrap();
    assert_eq!(root.ids().unwrap(), Vec::<String>::new());
    assert_eq!(root.dir("web").err().map(|error| error.kind()), Some(Kind::NotFound));
}

#[test]
fn a_default_root_need_not_be_there() {
    let missing = PathBuf::from("/nonexistent/onggi");
    let root = |named| Root { path: missing.clone(), named, sticky: false };
    assert_eq!(root(false).ids().unwrap(), Vec::<String>::new());
    let said = root(true).ids().err().map(|error| error.to_string());
    assert_eq!(said.as_deref(), Some("open /nonexistent/onggi: no such file or directory"));
}

#[test]
fn the_status_follows_the_process_the_gate_and_the_cgroup() {
    let Scratch(root) = &Scratch::new("status");
    let claim = root.claim("web").unwrap();
    let status = |frozen: bool| open(root).and_then(|container| container.status(|| Ok(frozen))).unwrap();
    let (mut child, pid) = sleeper();
    let start = proc::stat(pid).unwrap().unwrap().start;
    let gate = claim.dir.make_status_lock().unwrap();
    claim.announce(&record("web", pid.as_raw(), start)).unwrap();
    drop(claim);
    assert_eq!(status(false), Status::Created);
    assert_eq!(status(false), Status::Created, "asking does not open the gate");
    assert_eq!(status(true), Status::Paused);
    // not by closing: a child that another test is about to execute may hold a copy for a moment
    gate.unlock().unwrap();
    assert_eq!(status(false), Status::Running);
    assert_eq!(status(true), Status::Paused);

    child.kill().unwrap();
    let held = open(root).unwrap();
    proc::pidfd_wait(proc::pidfd_open(pid).unwrap().as_fd(), std::time::Duration::from_secs(10)).unwrap();
    assert_eq!(status(false), Status::Stopped, "a zombie has stopped");
    assert!(held.hold().unwrap().is_none());
    child.wait().unwrap();
    assert_eq!(status(true), Status::Stopped);
}

#[test]
fn a_number_that_was_used_again_is_not_believed() {
    let Scratch(root) = &Scratch::new("reuse");
    let claim = root.claim("web").unwrap();
    let (mut child, pid) = sleeper();
    let start = proc::stat(pid).unwrap().unwrap().start;
    let announced = claim.announce(&record("web", pid.as_raw(), start + 1)).unwrap();
    let container = open(root).unwrap();
    assert_eq!(container.status(|| Ok(false)).unwrap(), Status::Stopped);
    assert!(container.hold().unwrap().is_none());
    announced.complete(&record("web", pid.as_raw(), start), b"{}").unwrap();
    assert_eq!(open(root).unwrap().hold().unwrap().map(|held| held.pid), Some(pid));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A claim belongs to a process: this test runs once more in a process of its own, which claims and waits.
#[test]
fn a_container_is_being_created_as_long_as_its_creator_lives() {
    const ROLE: &str = "ONGGI_TEST_CLAIM";
    let (mut payload, pid) = sleeper();
    if let Some(path) = std::env::var_os(ROLE) {
        let claim = Root { path: path.into(), named: true, sticky: false }.claim("web").unwrap();
        let start = proc::stat(pid).unwrap().unwrap().start;
        claim.announce(&record("web", pid.as_raw(), start)).unwrap();
        // the payload outlives its creator and inherits what is not close-on-exec; neither makes it a creator
        println!("claimed");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        drop(claim);
        println!("released");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        payload.kill().unwrap();
        payload.wait().unwrap();
        return;
    }
    payload.kill().unwrap();
    payload.wait().unwrap();
    let Scratch(root) = &Scratch::new("creator");
    let name = "state::tests::a_container_is_being_created_as_long_as_its_creator_lives";
    let mut creator = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ROLE, root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(creator.stdout.take().unwrap()).lines();
    let mut until = |word: &str| assert!(told.by_ref().any(|line| line.unwrap().contains(word)), "{word}");
    let status = || open(root).unwrap().status(|| Ok(false)).unwrap();
    until("claimed");
    assert_eq!(status(), Status::Creating);
    assert!(root.dir("web").unwrap().claimed().unwrap());
    let mut stdin = creator.stdin.take().unwrap();
    stdin.write_all(b"\n").unwrap();
    until("released");
    assert_eq!(status(), Status::Running);
    drop(stdin);
    assert!(creator.wait().unwrap().success());
    assert_eq!(status(), Status::Stopped);
}

#[test]
fn a_create_that_was_killed_has_stopped() {
    let Scratch(root) = &Scratch::new("killed");
    let claim = root.claim("web").unwrap();
    claim.announce(&record("web", 0, 0)).unwrap();
    drop(claim);
    assert_eq!(open(root).unwrap().status(|| Ok(false)).unwrap(), Status::Stopped);
}

#[test]
fn the_document_is_runcs() {
    let mut record = record("c1", 13680, 1);
    let text = |record: &Record<Cgroup>, status, owner: &str| {
        serde_json::to_string_pretty(&record.document(status, owner.to_owned())).unwrap()
    };
    let expected = "{\n  \"ociVersion\": \"1.3.0\",\n  \"id\": \"c1\",\n  \"pid\": 13680,\n  \"status\": \"running\",\n  \
                    \"bundle\": \"/b\",\n  \"rootfs\": \"/b/rootfs\",\n  \
                    \"created\": \"2026-11-21T02:53:50.292325438Z\",\n  \"owner\": \"\"\n}";
    assert_eq!(text(&record, Status::Running, ""), expected);
    record.annotations.insert("k".into(), "v".into());
    let stopped = text(&record, Status::Stopped, "root");
    assert!(stopped.contains("\"pid\": 0,\n  \"status\": \"stopped\""), "{stopped}");
    assert!(stopped.contains("\"annotations\": {\n    \"k\": \"v\"\n  },\n  \"owner\": \"root\""), "{stopped}");
}

#[test]
fn owners() {
    let users = b"root:x:0:0:root:/root:/bin/sh\nbroken\nren\xe9:x:9:9:Ren\xe9:/:\nann:x:1000:100::/home/ann:\n";
    assert_eq!(user_name(users, 0), Some(&b"root"[..]));
    assert_eq!(user_name(users, 1000), Some(&b"ann"[..]));
    assert_eq!(user_name(users, 9), Some(&b"ren\xe9"[..]));
    assert_eq!(user_name(users, 7), None);
}

/// Whoever makes a container and whoever deletes it meet at the record: one of them knows of the other.
#[test]
fn who_completes_a_record_learns_that_it_was_deleted() {
    let Scratch(root) = &Scratch::new("deleted");
    let complete = |announced: Announced| announced.complete(&record("web", 7, 8), b"{}");
    let claim = root.claim("web").unwrap();
    let announced = claim.announce(&record("web", 0, 0)).unwrap();
    let Taken::Recorded(dir, grip) = root.take("web").unwrap() else { panic!("no record") };
    grip.mark().unwrap();
    let said = complete(announced).err().map(|error| error.to_string());
    assert_eq!(said.as_deref(), Some("the container was deleted while it was being created"));
    let found = Container::<Cgroup>::read(&dir, &grip).unwrap().unwrap();
    assert_eq!(found.record.init_process_pid, 7, "what was completed is there for who deletes");
    dir.remove().unwrap();

    let claim = root.claim("web").unwrap();
    let announced = claim.announce(&record("web", 0, 0)).unwrap();
    std::fs::remove_file(claim.dir.record()).unwrap();
    assert!(complete(announced).is_err(), "nobody finds this record");
    assert!(claim.grip().is_gone().unwrap());
}

/// Of two that delete one container the second waits, and then knows whether it is still the same one.
#[test]
fn who_deletes_meets_no_newer_container() {
    let Scratch(root) = &Scratch::new("newer");
    drop(root.claim("web").unwrap().announce(&record("web", 1, 1)).unwrap());
    let Taken::Recorded(dir, grip) = root.take("web").unwrap() else { panic!("no record") };
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let Taken::Recorded(dir, grip) = root.take("web").unwrap() else { panic!("no record") };
            Container::<Cgroup>::read(&dir, &grip).unwrap().unwrap().record.init_process_pid
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(!second.is_finished(), "two delete one container at once");
        dir.remove().unwrap();
        drop(root.claim("web").unwrap().announce(&record("web", 2, 2)).unwrap());
        drop(grip);
        second.join().unwrap()
    });
    assert_eq!(second, 2);
}

/// A call that fails leaves the directory to somebody who deletes the container, and takes it away otherwise.
#[test]
fn a_claim_is_undone_once() {
    let Scratch(root) = &Scratch::new("undone");
    let claim = root.claim("web").unwrap();
    claim.undo()().unwrap();
    assert_eq!(root.ids().unwrap(), Vec::<String>::new());

    let old = root.claim("web").unwrap();
    std::fs::remove_dir_all(old.dir.path()).unwrap();
    drop(root.claim("web").unwrap().announce(&record("web", 1, 1)).unwrap());
    old.undo()().unwrap();
    assert_eq!(root.ids().unwrap(), ["web"], "a newer container is not the old call's");

    let Taken::Recorded(_, grip) = root.take("web").unwrap() else { panic!("no record") };
    grip.mark().unwrap();
    let claim = Claim::again(&root.dir("web").unwrap());
    claim.undo()().unwrap();
    assert_eq!(root.ids().unwrap(), ["web"], "who deletes it takes it away");
}

/// What a killed call left is taken away, but no record that has come meanwhile.
#[test]
fn a_rest_is_removed_and_no_newer_container() {
    let Scratch(root) = &Scratch::new("rest");
    let path = root.path().join("web");
    let claim = root.claim("web").unwrap();
    std::fs::remove_file(claim.dir.record()).unwrap();
    drop(claim);
    std::fs::create_dir(path.join("notify")).unwrap();
    std::fs::write(path.join("gate"), "").unwrap();
    let Taken::Bare(dir) = root.take("web").unwrap() else { panic!("a record") };
    std::fs::write(path.join(RECORD), "{}\n").unwrap();
    dir.remove_rest().unwrap();
    assert_eq!(root.ids().unwrap(), ["web"]);
    std::fs::remove_file(path.join(RECORD)).unwrap();
    dir.remove_rest().unwrap();
    assert_eq!(root.ids().unwrap(), Vec::<String>::new());
}

/// What cannot be looked at is an error: neither absent, nor broken, nor running.
#[test]
fn a_record_that_cannot_be_read_is_an_error() {
    let Scratch(root) = &Scratch::new("unreadable");
    let path = root.claim("web").unwrap().dir.record();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    for error in [open(root).err(), root.take("web").err()] {
        assert!(matches!(error.map(|error| (error.kind(), error.errno())), Some((Kind::Other, Some(_)))));
    }
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "no record\n").unwrap();
    assert_eq!(open(root).err().map(|error| error.kind()), Some(Kind::Broken));
    std::fs::create_dir(path.with_file_name("gate")).unwrap();
    assert!(!root.dir("web").unwrap().claimed().unwrap());
}

/// A call that deletes what it takes for the rest of a container meets a newer container of the same id.
#[test]
fn the_rest_of_a_container_is_not_taken_from_a_newer_one() {
    let path = std::env::temp_dir().join(format!("onggi-rest-{}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    let names: Vec<String> = (0..20).map(|n| format!("file-{n}")).chain(["state.json".to_owned()]).collect();
    for name in &names {
        std::fs::write(path.join(name), "").unwrap();
    }
    Dir { path: path.clone() }.remove_rest().unwrap();
    let left = std::fs::read_dir(&path).unwrap().count();
    std::fs::remove_dir_all(&path).unwrap();
    assert_eq!(left, names.len());
}

/// A directory without our mark is another runtime's, with or without a record.
#[test]
fn a_directory_without_the_mark_is_another_runtimes() {
    let Scratch(root) = &Scratch::new("foreign");
    let path = root.path().join("web");
    std::fs::create_dir_all(&path).unwrap();
    let kinds = || [open(root).err(), root.take("web").err()].map(|error| error.map(|error| error.kind()));
    assert_eq!(kinds(), [Some(Kind::NotFound); 2], "nothing is in it yet");
    assert_eq!(root.claim("web").err().map(|error| error.kind()), Some(Kind::Exists));
    std::fs::write(path.join(RECORD), r#"{"id":"web","init_process_pid":1,"config":{}}"#).unwrap();
    assert_eq!(kinds(), [Some(Kind::Foreign); 2]);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o1711)).unwrap();
    assert!(matches!(root.take("web"), Ok(Taken::Recorded(..))), "a record of ours that is broken can be deleted");
}
