//! A state root that several runtimes use: containerd gives one to all handlers. Each runtime knows its own containers only.

use crate::support::runtime::Call;
use crate::support::{Bundle, kernel, not_here, peer_differs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each runtime keeps of a container: its name, and the files in the container's directory.
const OTHERS: [(&str, &[(&str, &str)]); 5] = [
    ("runc", &[("state.json", r#"{"id":"x","init_process_pid":PID,"init_process_start":1,"config":{"rootfs":"/r"}}"#)]),
    ("crun", &[("status", r#"{"pid":PID,"process-start-time":1,"cgroup-path":"/x"}"#), ("config.json", "{}")]),
    ("youki", &[("state.json", r#"{"ociVersion":"v1.0.2","id":"x","pid":PID}"#), ("youki_config.json", "{}")]),
    // what runc has before it writes a record
    ("another runtime", &[("exec.fifo", "")]),
    ("another runtime", &[("state.json", "no json\n")]),
];

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).map(|entries| entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>());
    entries.unwrap_or_default().into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn alive(pid: i32) -> bool {
    !matches!(kernel::process_state(pid), None | Some('Z' | 'X'))
}

#[test]
fn records_of_other_runtimes_are_refused_by_name_and_kept() {
    if peer_differs(&["runc", "crun"], "takes its own kind of record for its own") {
        return;
    }
    let own = Bundle::new("own").sees(&["pause"]);
    own.up();
    for (number, (runtime, kept)) in OTHERS.into_iter().enumerate() {
        let id = format!("{}-{number}", own.id);
        let mut process = Command::new("/bin/sleep").arg("100").spawn().unwrap();
        let dir = own.state_root().join(&id);
        std::fs::create_dir(&dir).unwrap();
        for (name, text) in kept {
            std::fs::write(dir.join(name), text.replace("PID", &process.id().to_string())).unwrap();
        }
        let before = files(&dir);
        let verbs: [&[&str]; 12] = [
            &["state", &id],
            &["start", &id],
            &["kill", &id, "KILL"],
            &["exec", &id, "/payload", "true"],
            &["ps", &id],
            &["pause", &id],
            &["resume", &id],
            &["events", "--stats", &id],
            &["update", "--pids-limit", "7", &id],
            &["checkpoint", &id],
            &["delete", &id],
            &["delete", "--force", &id],
        ];
        for verb in verbs {
            let output = own.verb(verb);
            assert_eq!(output.code, if verb[0] == "exec" { 255 } else { 1 }, "{output}");
            assert!(output.stderr.contains(&format!("container {id} was made by {runtime}, not by onggi")), "{output}");
            assert_eq!(files(&dir), before, "after {verb:?} on a container of {runtime}");
        }
        assert!(alive(i32::try_from(process.id()).unwrap()), "the process of {runtime} was killed");
        let _ = process.kill();

        let taken = own.runtime().args(["create", "--bundle"]).args([&own.dir]).args([&id]).finish();
        let taken = taken.fails(1, "container with given ID already exists");
        assert!(taken.stderr.contains("choose another id") && !taken.stderr.contains(" delete "), "{taken}");
        let list = own.verb(&["list", "-q"]).ok();
        assert_eq!(list.stdout, format!("{}\n", own.id));
        assert!(list.stderr.contains(&format!("container {id} was made by {runtime}, not by onggi")), "{list}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
    // a directory that is empty may be one that another runtime is about to fill
    let empty = own.state_root().join("empty");
    std::fs::create_dir(&empty).unwrap();
    own.verb(&["delete", "empty"]).fails(1, "container does not exist");
    own.verb(&["delete", "--force", "empty"]).ok();
    assert!(empty.is_dir());
    assert_eq!(own.verb(&["list", "-q"]).ok().stderr, "", "there is nothing to tell of yet");
    std::fs::remove_dir(&empty).unwrap();
    own.down();
}

#[test]
fn runc_and_onggi_share_a_root() {
    let runc = Path::new("/usr/sbin/runc");
    if peer_differs(&["runc", "crun"], "is itself") || (!runc.exists() && not_here("there is no runc")) {
        return;
    }
    let ours = Bundle::new("ours").sees(&["pause"]);
    let pid = ours.up();
    let theirs = Bundle::new("theirs").sees(&["pause"]);
    let by_runc = |args: &[&str]| {
        let mut command = Command::new(runc);
        command.arg("--root").arg(ours.state_root()).current_dir(&theirs.dir).env("ONGGI_TEST", &theirs.id);
        Call::new(command, &theirs.path("runc")).args(args).finish()
    };
    theirs.verb(&["list"]);
    by_runc(&["run", "--detach", &theirs.id]).ok();
    let both =
        |name: &str| [ours.state_root().join(&ours.id), ours.state_root().join(&theirs.id)].map(|dir| dir.join(name));
    let records = both("state.json").map(|file| std::fs::read(file).unwrap());

    let list = by_runc(&["list", "-q"]).ok();
    assert_eq!(list.stdout, format!("{}\n", theirs.id), "runc shows its own");
    assert!(list.stderr.contains(&format!("load container {}", ours.id)) && !list.stderr.contains("panic"), "{list}");
    for verb in [&["state"][..], &["kill"], &["start"], &["exec", "-d"], &["ps"], &["delete"], &["delete", "--force"]] {
        let more = if verb[0] == "exec" { &["true"][..] } else { &[] };
        let output = by_runc(&[verb, &[&ours.id], more].concat());
        assert!(output.code != 0 && !output.stderr.contains("panic"), "{output}");
        let output = ours.verb(&[verb, &[&theirs.id], more].concat());
        assert!(output.code != 0 && output.stderr.contains("was made by runc, not by onggi"), "{output}");
    }
    assert_eq!(both("state.json").map(|file| std::fs::read(file).unwrap()), records);
    assert!(alive(pid), "runc killed our container");
    assert_eq!(ours.status(), "running");
    assert!(by_runc(&["state", &theirs.id]).ok().stdout.contains("running"));
    by_runc(&["delete", "--force", &theirs.id]).ok();
    ours.down();
    ours.nothing_left();
}
