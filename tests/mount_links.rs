//! Mount options about symbolic links, which crun has: `copy-symlink` (Podman's `no-dereference`), `src-nofollow` and
//! `dest-nofollow`.

use crate::support::{Bundle, Value, json};
use std::os::unix::fs::symlink;

/// A bundle whose directory has `link`, which says `says`, and `says` with a text, if that is a name.
fn with_link(name: &str, says: &str) -> Bundle {
    let bundle = Bundle::new(name);
    bundle.host_file("real", "of the host");
    symlink(says, bundle.path("link")).unwrap();
    bundle
}

/// The ways in which the source of a bind mount is cloned: by init, by the host half.
fn ways(name: &str, says: &str) -> [Bundle; 2] {
    [with_link(name, says), with_link(&format!("{name}-user"), says).user_namespace()]
}

#[test]
fn a_link_is_copied_instead_of_followed() {
    for bundle in ways("copied", "../tmp/real") {
        let link = bundle.path("link");
        let bundle = bundle.file("/tmp/real", "of the image").bind(link, "/new/link", &["rbind", "copy-symlink"]);
        let output = bundle.run(&["stat", "/new/link", "+", "read", "/new/link", "+", "mountinfo"]).ok();
        let output = output.has("/new/link.link", "../tmp/real").has("read /new/link", "12 \"of the image\"");
        assert!(!output.stdout.contains("/new/link "), "nothing is mounted there: {output}");
    }
}

#[test]
fn a_link_to_nothing_is_copied() {
    let bundle = with_link("dangling", "/no/such/place");
    let link = bundle.path("link");
    let output = bundle.bind(link, "/link", &["bind", "copy-symlink"]).run(&["stat", "/link"]).ok();
    output.has("/link.link", "/no/such/place");
}

#[test]
fn what_is_no_link_is_bound_whatever_the_option() {
    let bundle = with_link("no-link", "real");
    let real = bundle.path("real");
    let output = bundle.bind(real, "/file", &["bind", "copy-symlink"]).run(&["read", "/file"]).ok();
    output.has("read /file", "11 \"of the host\"");
}

#[test]
fn the_same_link_may_be_there_and_nothing_else() {
    let same = with_link("same", "/tmp/real").symlink("/link", "/tmp/real");
    let link = same.path("link");
    same.bind(link, "/link", &["bind", "copy-symlink"]).run(&["stat", "/link"]).ok().has("/link.link", "/tmp/real");
    let others = [
        with_link("other", "/tmp/real").symlink("/link", "/tmp/other"),
        with_link("file", "/tmp/real").file("/link", ""),
    ];
    for bundle in others {
        let link = bundle.path("link");
        let bundle = bundle.bind(link, "/link", &["bind", "copy-symlink"]);
        let output = bundle.run_as_is().fails(1, "file exists");
        assert!(output.stderr.contains("/link"), "{output}");
        bundle.nothing_left();
    }
}

#[test]
fn a_copied_link_is_made_inside_the_root() {
    let bundle = with_link("inside", "/tmp/real");
    let outside = bundle.host_directory("outside");
    let (link, way) = (bundle.path("link"), outside.to_str().unwrap().to_owned());
    let bundle = bundle.symlink("/way", &way).bind(link, "/way/link", &["bind", "copy-symlink"]);
    let bundle = bundle.sees(&["stat", &format!("{way}/link")]);
    bundle.run_as_is().ok().has(&format!("{way}/link.link"), "/tmp/real");
    assert!(std::fs::read_dir(outside).unwrap().next().is_none(), "a link was made on the host");
}

#[test]
fn a_source_in_the_root_is_read_inside_it() {
    let bundle = with_link("of-root", "real");
    let secret = bundle.host_directory("secret");
    symlink("of the host", secret.join("link")).unwrap();
    let bundle = bundle.symlink("/way", &secret);
    let inside = format!("rootfs{}", secret.display());
    std::fs::create_dir_all(bundle.path(&inside)).unwrap();
    symlink("of the image", bundle.path(&inside).join("link")).unwrap();
    let bundle = bundle.bind("rootfs/way/link", "/copied", &["bind", "copy-symlink"]);
    bundle.run(&["stat", "/copied"]).ok().has("/copied.link", "of the image");
}

#[test]
fn a_link_is_bound_itself() {
    for bundle in ways("bound", "/tmp/real") {
        let link = bundle.path("link");
        let bundle = bundle.bind(link, "/link", &["bind", "src-nofollow"]).file("/tmp/real", "of the image");
        let output = bundle.run(&["stat", "/link", "+", "mountinfo"]).ok();
        let output = output.has("/link.link", "/tmp/real");
        assert!(output.stdout.contains(" /link "), "a mount: {output}");
    }
}

#[test]
fn a_mount_covers_a_link_itself() {
    for bundle in ways("covers", "real") {
        let link = bundle.path("link");
        let bundle = bundle.symlink("/link", "/tmp/real").file("/tmp/real", "of the image");
        let bundle = bundle.bind(link, "/link", &["bind", "dest-nofollow"]);
        let output = bundle.run(&["read", "/link", "/tmp/real"]).ok();
        output.has("read /link", "11 \"of the host\"").has("read /tmp/real", "12 \"of the image\"");
    }
}

#[test]
fn a_link_covers_a_link() {
    for bundle in ways("both", "/etc/mine") {
        let link = bundle.path("link");
        let bundle = bundle.symlink("/link", "/tmp/real").file("/tmp/real", "of the image");
        let bundle = bundle.bind(link, "/link", &["bind", "src-nofollow", "dest-nofollow", "ro"]);
        let output = bundle.run(&["stat", "/link", "+", "read", "/tmp/real"]).ok();
        output.has("/link.link", "/etc/mine").has("read /tmp/real", "12 \"of the image\"");
    }
}

#[test]
fn a_directory_covers_no_link() {
    let bundle = with_link("directory", "real").symlink("/link", "/tmp");
    let directory = bundle.host_directory("directory");
    let bundle = bundle.bind(directory, "/link", &["bind", "dest-nofollow"]);
    bundle.run_as_is().fails(1, "not a directory");
    bundle.nothing_left();
}

#[test]
fn a_link_that_leads_through_proc_covers_nothing_of_it() {
    let bundle = with_link("through", "real").symlink("/way", "/proc/self");
    let link = bundle.path("link");
    let bundle = bundle.bind(link, "/way/exe", &["bind", "dest-nofollow"]);
    bundle.run_as_is().fails(1, "inside /proc");
    bundle.nothing_left();
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    for options in [["copy-symlink", "src-nofollow"], ["dest-nofollow", "copy-symlink"]] {
        let bundle = with_link("exclusive", "real");
        let link = bundle.path("link");
        let bundle = bundle.bind(link, "/link", &["bind", options[0], options[1]]);
        bundle.run_as_is().fails(1, "mutually exclusive");
        bundle.nothing_left();
    }
    let bundle = Bundle::new("no-bind").mount("/m", "tmpfs", "tmpfs", &["dest-nofollow"]);
    bundle.run_as_is().fails(1, "bind mounts");
}

#[test]
fn features_name_them() {
    let document = Bundle::new("features").verb(&["features"]).ok().json();
    let options = document["mountOptions"].as_array().unwrap();
    for option in
        ["copy-symlink", "src-nofollow", "dest-nofollow", "idmap", "rsync", "rasync", "rdirsync", "rmand", "rnomand"]
    {
        assert!(options.contains(&Value::from(option)), "{option}: {}", json!(options));
    }
}
