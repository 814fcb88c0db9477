//! Attempts to disable masked and read-only paths: by the image's `/dev/null`, by spelling, by symlinks.

use crate::support::{Bundle, Output, json, peer_differs};

/// CVE-2025-31133: masking would bind, writable, whatever the image's `/dev/null` is or points to.
#[test]
fn a_masked_file_is_covered_by_a_real_null_device() {
    let bundle = Bundle::new("null-link").file("/bait", "bait").file("/secret", "secret");
    let bundle = bundle.directory("/dev").symlink("/dev/null", "/bait").set("/linux/maskedPaths", json!(["/secret"]));
    let bundle = ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"].iter().fold(bundle, |b, m| b.without_mount(m));
    let output = bundle.sees(&["read", "/secret", "+", "stat", "/secret", "+", "write", "/secret", "x"]).run_as_is();
    if output.code == 0 && !peer_differs(&["runc<1.2.8", "crun"], "binds the bait, or prints nothing") {
        output.has("read /secret", "0 \"\"").has("/secret.rdev", "1:3");
    } else {
        assert!(!output.stdout.contains("secret\""), "{output}");
    }
}

/// The content that masks must hide.
const SECRET: &str = "SECRET";

fn with_secrets(name: &str) -> Bundle {
    Bundle::new(name).file("/secret", SECRET).file("/secrets/key", SECRET).file("/bait", "bait")
}

/// Whether the start failed with an error, or everything was hidden.
fn hidden_or_refused(output: &Output) -> bool {
    let looked = output.stdout.contains("/secret");
    !output.stdout.contains(SECRET) && (output.code == 0 || !output.stderr.is_empty() && !looked)
}

/// CVE-2025-31133 through a symlink (move t8): the image's `/data` is a symlink to `/dev`, and the volume mounted on it has
/// no `null`, or one that is a symlink, a file or another device.
#[test]
fn a_volume_mounted_on_dev_through_a_link_does_not_disable_masks() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let mut shown = Vec::new();
    for null in ["none", "link", "file", "zero"] {
        for destination in ["/data", "/dev/", "//dev", "/x/../dev", "/data/."] {
            let bundle = with_secrets("null")
                .symlink("/data", "/dev")
                .set("/linux/maskedPaths", json!(["/secret", "/secrets", "/proc/keys"]));
            let volume = bundle.host_directory("volume");
            match null {
                "link" => std::os::unix::fs::symlink("/bait", volume.join("null")).unwrap(),
                "file" => std::fs::write(volume.join("null"), "bait").unwrap(),
                "zero" => mknod(&volume.join("null"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)).unwrap(),
                _ => {}
            }
            let bundle = bundle.bind(&volume, destination, &["rbind", "rw"]);
            let looks = ["peek", "/secret", "/secrets/key", "+", "stat", "/secret", "/proc/keys"];
            let output = bundle.sees(&looks).run_as_is();
            let masked = output.code == 0
                && ["/secret.rdev", "/proc/keys.rdev"].iter().all(|key| output.get(key) == Some("1:3"));
            if !hidden_or_refused(&output) || output.code == 0 && !masked {
                shown.push(format!("{destination} with {null}: {output}"));
            }
        }
    }
    let peers = peer_differs(&["runc<1.2.8", "crun"], "takes what is called null, or nothing, for the mask");
    assert!(shown.is_empty() || peers, "{}: {}", shown.len(), shown[0]);
}

/// CVE-2025-31133, CVE-2025-62161 by spelling: a trailing slash or dot does not disable a mask; nor does a symlink.
#[test]
fn a_masked_path_is_masked_however_it_is_spelled() {
    let mut shown = Vec::new();
    let spelled = [
        "/secret/",
        "/secret/.",
        "//secret",
        "/./secret",
        "/x/../secret",
        "/secret//",
        "/link",
        "/link/",
        "/far/secret",
    ];
    for path in spelled {
        let bundle = with_secrets("mask").symlink("/link", "/secret").symlink("/far", "/proc/self/root/");
        let output = bundle
            .set("/linux/maskedPaths", json!([path, "/secrets/."]))
            .sees(&["read", "/secret", "/secrets/key"])
            .run_as_is();
        if !hidden_or_refused(&output) {
            shown.push(format!("{path}: {}", output.stdout));
        }
    }
    assert!(shown.is_empty() || peer_differs(&["runc", "crun"], "passes over what is no directory"), "{shown:#?}");
}

/// CVE-2025-31133 by spelling, of `readonlyPaths`.
#[test]
fn a_read_only_path_is_read_only_however_it_is_spelled() {
    let mut written = Vec::new();
    for path in ["/secret/", "/secret/.", "//secret", "/./secret", "/x/../secret", "/link/"] {
        let bundle = with_secrets("readonly").symlink("/link", "/secret");
        let words = ["write", "/secret", "x", "+", "write", "/secrets/key", "x"];
        let output = bundle.set("/linux/readonlyPaths", json!([path, "/secrets/."])).sees(&words).run_as_is();
        let holds = output.get("write /secret") == Some("EROFS") && output.get("write /secrets/key") == Some("EROFS");
        if !(holds || output.code != 0 && output.stdout.is_empty()) {
            written.push(format!("{path}: {}", output.stdout));
        }
    }
    assert!(written.is_empty() || peer_differs(&["runc", "crun"], "passes over what is no directory"), "{written:#?}");
}

/// CVE-2025-31133 with unresolvable paths (a symlink loop, a name that is too long): no mask is skipped silently.
#[test]
fn a_mask_that_cannot_be_placed_is_an_error() {
    let long = format!("/secrets/{}", "x".repeat(300));
    for key in ["maskedPaths", "readonlyPaths"] {
        for path in ["/loop/secret", long.as_str()] {
            let bundle =
                with_secrets("unplaced").symlink("/loop", "/loop").set(&format!("/linux/{key}"), json!([path]));
            let output = bundle.sees(&["echo", "ran"]).run_as_is();
            let told = output.code != 0 && output.stderr.contains(&path[..8]);
            assert!(
                told || peer_differs(&["crun", "runc"], "passes over it, or names no path"),
                "{key} {path}: {output}"
            );
        }
    }
}
