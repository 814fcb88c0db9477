//! Tells the program its git commit, and hands the linker the order in which the functions of a start lie in the program (`scripts/bench/start-path.ld`, which
//! `scripts/bench.sh order` writes).
//!
//! It is the program's alone: tests and examples stay as they are. An argument from here and not in `.cargo/config.toml`,
//! since the path has to hold wherever cargo is called from, and a new order has to link the program anew.

use std::env;
use std::path::Path;
use std::process::Command;

/// Linkers that know no linker scripts; with them functions lie as they come.
const WITHOUT_SCRIPTS: [&str; 2] = ["mold", "wild"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=scripts/bench/start-path.ld");
    println!("cargo::rerun-if-env-changed=ONGGI_MAP");
    let variable = |name| env::var(name).unwrap_or_default();
    commit(&variable("CARGO_MANIFEST_DIR"), &variable("OPT_LEVEL"));
    let flags = variable("CARGO_ENCODED_RUSTFLAGS") + &variable("RUSTC_LINKER");
    if variable("CARGO_CFG_TARGET_OS") != "linux" || WITHOUT_SCRIPTS.iter().any(|name| flags.contains(name)) {
        return;
    }
    // functions of the dev profile are others, and nobody waits for its starts
    if variable("OPT_LEVEL") != "0" {
        println!("cargo::rustc-link-arg-bin=onggi=-T{}/scripts/bench/start-path.ld", variable("CARGO_MANIFEST_DIR"));
    }
    // a map of what came to lie where, for whoever makes that order
    if let Ok(map) = env::var("ONGGI_MAP") {
        println!("cargo::rustc-link-arg-bin=onggi=-Wl,-Map={map}");
    }
}

/// Sets `ONGGI_COMMIT`, which `--version` shows, unless whoever builds has set it. A tree that is no git repository of its own (a tarball)
/// has none, and `--version` shows the version instead. The dev profile leaves it out, so that a commit does not build everything again.
fn commit(tree: &str, opt_level: &str) {
    println!("cargo::rerun-if-env-changed=ONGGI_COMMIT");
    if env::var_os("ONGGI_COMMIT").is_some() || opt_level == "0" {
        return;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(tree).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    if git(&["rev-parse", "--show-toplevel"]).is_none_or(|top| Path::new(&top) != Path::new(tree)) {
        return;
    }
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--path-format=absolute", "--git-path", name]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    if let Some(commit) = git(&["rev-parse", "HEAD"]) {
        println!("cargo::rustc-env=ONGGI_COMMIT={commit}");
    }
}
