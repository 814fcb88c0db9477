//! Output files of the runtime in directories where other users may write: links that another user has planted are not
//! followed, and planted fifos are not waited for.

use super::Victim;
use crate::support::runtime::Call;
use crate::support::user::USER;
use crate::support::{Bundle, peer_differs};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Creates a sticky directory like `/tmp`.
fn sticky(bundle: &Bundle) -> PathBuf {
    let dir = bundle.host_directory("sticky");
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o1777)).unwrap();
    dir
}

/// A call of `run` that names `file` as one of the output files.
fn run_with(bundle: &Bundle, what: &str, file: &PathBuf) -> Call {
    match what {
        "--pid-file" => bundle.launch("run", &["--pid-file", file.to_str().unwrap()]),
        "ONGGI_TRACE" => bundle.launch("run", &[]).env("ONGGI_TRACE", file),
        flag => bundle.runtime().arg(flag).arg(file).args(["run", "--bundle"]).arg(&bundle.dir).arg(&bundle.id),
    }
}

/// Issue 13 section 3: a link that another user has planted in a sticky directory is not followed.
#[test]
fn a_planted_link_is_not_followed() {
    for what in ["--log", "--pid-file", "ONGGI_TRACE"] {
        let bundle = Bundle::new("planted").sees(&["true"]);
        let victim = Victim::of(&bundle);
        let link = sticky(&bundle).join("file");
        std::os::unix::fs::symlink(victim.dir.join("kept"), &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(USER), Some(USER)).unwrap();
        run_with(&bundle, what, &link).start().finish_within(super::soon());
        if !peer_differs(&["crun", "runc"], "trusts the kernel's setting") {
            victim.assert_unchanged();
        }
    }
}

/// Issue 13 section 3: a fifo without a reader is not waited for.
#[test]
fn a_planted_fifo_is_not_waited_for() {
    if peer_differs(&["crun", "runc"], "waits") {
        return;
    }
    for what in ["--log", "--pid-file", "ONGGI_TRACE"] {
        let bundle = Bundle::new("planted-fifo").sees(&["true"]);
        let fifo = sticky(&bundle).join("file");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        std::os::unix::fs::chown(&fifo, Some(USER), Some(USER)).unwrap();
        run_with(&bundle, what, &fifo).start().finish_within(super::soon());
    }
}
