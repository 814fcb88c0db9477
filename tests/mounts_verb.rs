//! `mounts add` and `mounts remove`: mounts of a container that runs, all of them or none.

use crate::support::kernel::{mounts, mounts_of};
use crate::support::payload::INSIDE;
use crate::support::{Bundle, Output, Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// Changes the mounts of a container.
fn change(bundle: &Bundle, what: &str, document: &Value) -> Output {
    let file = bundle.host_file("more.json", &document.to_string());
    bundle.verb(&["mounts", what, &bundle.id, file.to_str().unwrap()])
}

fn exec(bundle: &Bundle, words: &[&str]) -> Output {
    let args: Vec<&str> = ["exec", &bundle.id, INSIDE].iter().chain(words).copied().collect();
    bundle.verb(&args).ok()
}

/// The mount points of a container that lie below `/more`.
fn points(bundle: &Bundle) -> Vec<String> {
    let text = exec(bundle, &["mountinfo"]).stdout;
    let all = mounts(&text).into_iter().map(|mount| mount.point);
    let mut found: Vec<String> = all.filter(|point| point.starts_with("/more")).collect();
    found.sort();
    found
}

fn bind(source: &std::path::Path, destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "bind", "source": source.to_str().unwrap(), "options": options})
}

/// A bundle that runs, alone and in a user namespace.
fn running(name: &str) -> [Bundle; 2] {
    [Bundle::new(name), Bundle::new(&format!("{name}-user")).user_namespace()].map(|bundle| {
        let bundle = bundle.sees(&["pause"]);
        bundle.up();
        bundle
    })
}

#[test]
fn mounts_are_added_and_removed() {
    for bundle in running("add") {
        let (directory, file) = (bundle.host_directory("directory"), bundle.host_file("file", "of the host"));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::write(directory.join("inner"), "inner").unwrap();
        let list = json!([
            bind(&directory, "/more/directory", &["rbind", "ro", "nosuid"]),
            bind(&file, "/more/file", &["bind"]),
            {"destination": "/more/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "mode=700"]},
            bind(&file, "/more/tmp/below", &["bind", "ro"]),
        ]);
        change(&bundle, "add", &list).ok();
        assert_eq!(points(&bundle), ["/more/directory", "/more/file", "/more/tmp", "/more/tmp/below"]);
        let output = exec(
            &bundle,
            &["read", "/more/directory/inner", "/more/file", "/more/tmp/below", "+", "write", "/more/directory/x", "x"],
        );
        let output =
            output.has("read /more/directory/inner", "5 \"inner\"").has("read /more/file", "11 \"of the host\"");
        output.has("read /more/tmp/below", "11 \"of the host\"").has("write /more/directory/x", "EROFS");
        exec(&bundle, &["stat", "/more/tmp"]).has("/more/tmp.mode", "0700").has("/more/tmp.owner", "0:0");
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(mounts_of(own).iter().all(|mount| !mount.point.contains("/more/")), "a mount of the host changed");
        // what was made for them belongs to root of the container
        let owner = std::fs::metadata(bundle.rootfs().join("more/file")).unwrap().uid();
        assert_eq!(owner, if bundle.id.ends_with("user") { 100_000 } else { 0 });

        change(&bundle, "remove", &json!({"mounts": list})).ok();
        assert_eq!(points(&bundle), [""; 0]);
        bundle.down();
        bundle.nothing_left();
    }
}

#[test]
fn all_are_added_or_none() {
    for bundle in running("none") {
        let (directory, file) = (bundle.host_directory("directory"), bundle.host_file("file", "x"));
        let first = [
            bind(&file, "/more/file", &["bind"]),
            json!({"destination": "/more/tmp", "type": "tmpfs", "source": "tmpfs"}),
            bind(&directory, "/more/tmp/below", &["bind"]),
        ];
        for (last, why) in [
            (bind(&bundle.path("missing"), "/more/last", &["bind"]), "no such file or directory"),
            (bind(&directory, "/more/file", &["bind"]), "not a directory"),
            (bind(&file, "/proc/version", &["bind"]), "inside /proc"),
            (json!({"destination": "/more/last", "type": "proc", "source": "proc"}), "can't be added"),
            (bind(&file, "/more/file", &["bind", "remount", "ro"]), "remount adds no mount"),
        ] {
            let list: Vec<Value> = first.iter().cloned().chain([last]).collect();
            change(&bundle, "add", &json!(list)).fails(1, why);
            assert_eq!(points(&bundle), [""; 0], "{why}");
        }
        bundle.down();
        bundle.nothing_left();
    }
}

#[test]
fn all_are_removed_or_none() {
    let [bundle, other] = running("keep");
    let file = bundle.host_file("file", "x");
    let added = json!([bind(&file, "/more/one", &["bind"]), bind(&file, "/more/two", &["bind"])]);
    change(&bundle, "add", &added).ok();
    let absent = json!([{"destination": "/more/one"}, {"destination": "/more"}]);
    change(&bundle, "remove", &absent).fails(1, "open the mount on \"/more\": invalid argument");
    assert_eq!(points(&bundle), ["/more/one", "/more/two"]);
    change(&bundle, "remove", &json!([{"destination": "/more/two"}])).ok();
    assert_eq!(points(&bundle), ["/more/one"]);
    bundle.down();
    other.down();
}

#[test]
fn links_of_the_container_lead_nowhere_else() {
    for bundle in running("links") {
        let (outside, file) = (bundle.host_directory("outside"), bundle.host_file("file", "x"));
        let way = outside.to_str().unwrap();
        exec(&bundle, &["link", way, "/tmp/way"]).has("link /tmp/way", "ok");
        change(&bundle, "add", &json!([bind(&file, "/tmp/way/file", &["bind"])])).ok();
        assert!(std::fs::read_dir(&outside).unwrap().next().is_none(), "a file was made on the host");
        exec(&bundle, &["read", &format!("{way}/file")]).has(&format!("read {way}/file"), "1 \"x\"");
        exec(&bundle, &["link", "/proc/self/fd", "/tmp/fds"]);
        change(&bundle, "add", &json!([bind(&file, "/tmp/fds/0", &["bind"])])).fails(1, "");
        bundle.down();
        bundle.nothing_left();
    }
}

/// A link of the container must not turn the removal of a mount into that of one that hides something from it.
#[test]
fn no_other_mount_is_removed_through_a_link() {
    let bundle = Bundle::new("masked").set("/linux/maskedPaths", json!(["/proc/version"])).sees(&["pause"]);
    bundle.up();
    let before = exec(&bundle, &["mountinfo"]).stdout;
    assert!(before.contains(" /proc/version "), "{before}");
    exec(&bundle, &["link", "/proc", "/tmp/way", "+", "link", "/proc/version", "/tmp/last"]);
    for path in ["/tmp/way/version", "/tmp/last"] {
        change(&bundle, "remove", &json!([{"destination": path}])).fails(1, "");
    }
    assert_eq!(exec(&bundle, &["mountinfo"]).stdout, before);
    bundle.down();
}

#[test]
fn only_containers_that_run_in_mounts_of_their_own() {
    let bundle = Bundle::new("stopped").sees(&["true"]);
    let file = bundle.host_file("file", "x");
    let list = json!([bind(&file, "/more", &["bind"])]);
    change(&bundle, "add", &list).fails(1, "container does not exist");
    bundle.up();
    bundle.wait_for("stopped");
    change(&bundle, "add", &list).fails(1, "container not running");
    bundle.down();
    let bundle = Bundle::new("hosts").without_namespace("mount").without("/linux/maskedPaths");
    let bundle = bundle.without("/linux/readonlyPaths").set("/mounts", json!([])).sees(&["pause"]);
    bundle.up();
    for what in ["add", "remove"] {
        change(&bundle, what, &list).fails(1, "no mount namespace of its own");
    }
    bundle.down();
    bundle.nothing_left();
}

#[test]
fn the_command_line_is_checked() {
    let bundle = Bundle::new("words");
    bundle.verb(&["mounts", "list", "x", "y"]).fails(1, "unknown command \"list\"");
    bundle.verb(&["mounts", "add", "x"]).fails(1, "requires exactly 3 argument(s)");
}

#[test]
fn an_expression_names_many_containers() {
    let first = Bundle::new("regex-a").sees(&["pause"]);
    let mut second = Bundle::new("regex-b").sees(&["pause"]);
    let root = first.state_root();
    let verb = |words: &[&str]| first.runtime().args(words).finish();
    first.up();
    // the same state root
    second.config["linux"]["cgroupsPath"] = json!(format!("/{}-second", first.id));
    let other = format!("{}-second", first.id);
    std::fs::write(second.path("config.json"), serde_json::to_vec(&second.config).unwrap()).unwrap();
    let run = first.runtime().args(["run", "--detach", "--bundle"]).args([&second.dir]).args([&other]);
    run.finish().ok();
    assert_eq!(verb(&["list", "--quiet"]).ok().stdout.lines().count(), 2, "{}", root.display());

    let both = format!("^{}", first.id);
    verb(&["kill", "--regex", "nosuchid", "KILL"]).ok();
    verb(&["kill", "--regex", "(", "KILL"]).fails(1, "invalid regular expression");
    verb(&["delete", "--regex", &both]).fails(1, "failed for: ");
    assert_eq!(verb(&["list", "--quiet"]).ok().stdout.lines().count(), 2);
    verb(&["kill", "--regex", &format!("{both}$"), "KILL"]).ok();
    first.wait_for("stopped");
    verb(&["kill", "-r", &both, "KILL"]).ok();
    crate::support::until("the second to stop", || {
        (verb(&["state", &other]).ok().json()["status"] == "stopped").then_some(())
    });
    verb(&["delete", "--regex", &both]).ok();
    assert_eq!(verb(&["list", "--quiet"]).ok().stdout, "");
    first.nothing_left();
}
