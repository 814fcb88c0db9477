//! Terminals: `/dev/ptmx` and `/dev/console` of the container are not what they should be.

use super::{Variant, Victim, through};
use crate::support::tty::{Receiver, Terminal};
use crate::support::{Bundle, json, payload, peer_differs, until};
use std::path::Path;

/// Runs `exec --tty`, which prints its terminal; empty if there was none.
fn terminal_of_exec(variant: &Variant, number: usize) -> String {
    let bundle = &variant.bundle;
    let socket = bundle.path(&format!("c{number}"));
    let receiver = Receiver::new(&socket);
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let flags = ["--tty", "--detach", "--console-socket", socket.to_str().unwrap()];
    let call = bundle.runtime().arg("exec").args(flags).args([&bundle.id, payload::INSIDE, "terminal-of", "/dev/pts"]);
    let output = call.start().finish_within(super::soon());
    let said = if output.code == 0 {
        let mut terminal = Terminal::of(receiver.take().0);
        terminal.rest()
    } else {
        String::new()
    };
    std::fs::remove_file(&socket).unwrap();
    said
}

/// CVE-2024-21626 by `/dev/ptmx` (move t25): the symlink leads through a descriptor of the runtime to the host's ptmx, or
/// elsewhere. A terminal must come from the container's own devpts.
#[test]
fn exec_does_not_take_a_host_terminal() {
    let mut foreign = Vec::new();
    for variant in Variant::all_with("ptmx", |bundle| bundle.sees(&["pause"])) {
        if variant.way == "no mount namespace" {
            // without a mount namespace /dev of the container is reached by its host path
            continue;
        }
        variant.create().ok();
        variant.bundle.start().ok();
        let numbers = super::tried(3..16).map(|number| through(number, Path::new("/dev/ptmx")));
        let others =
            ["/proc/1/root/dev/ptmx", "/other/ptmx", "/dev/null", "/nonexistent", "/dev/tty"].map(str::to_owned);
        for (n, target) in numbers.chain(others).enumerate() {
            let words = ["rm", "/dev/ptmx", "+", "link", &target, "/dev/ptmx"];
            crate::exec::sees(&variant.bundle, &[], &words).ok().has("link /dev/ptmx", "ok");
            let said = terminal_of_exec(&variant, n);
            let own = said.is_empty() || said.contains("terminal: true true");
            if !own {
                foreign.push(format!("{}: {target}: {said:?}", variant.way));
            }
        }
        variant.bundle.down();
    }
    assert!(foreign.is_empty(), "{foreign:#?}");
}

/// CVE-2025-52565 (move t25): `/dev/ptmx` is a fifo, a file, a directory or another device: `exec` neither blocks nor uses it.
#[test]
fn exec_accepts_only_a_real_ptmx() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let variant = Variant::of("plain", Bundle::new("no-ptmx").sees(&["pause"]));
    variant.create().ok();
    variant.bundle.start().ok();
    let place = std::path::PathBuf::from(format!("/proc/{}/root/dev/ptmx", variant.pid()));
    for (n, what) in ["fifo", "file", "directory", "zero"].into_iter().enumerate() {
        let _ = std::fs::remove_file(&place).or_else(|_| std::fs::remove_dir(&place));
        match what {
            "fifo" => nix::unistd::mkfifo(&place, Mode::S_IRWXU).unwrap(),
            "file" => std::fs::write(&place, "").unwrap(),
            "directory" => std::fs::create_dir(&place).unwrap(),
            _ => mknod(&place, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)).unwrap(),
        }
        let said = terminal_of_exec(&variant, n);
        let own = said.is_empty() || said.contains("terminal: true true");
        assert!(own, "{what}: {said:?}");
    }
    variant.bundle.down();
}

/// CVE-2025-52565 (move t27): `/dev/console` of the image is a symlink to the host, a file, a link into procfs, a fifo, a device.
#[test]
fn the_console_is_the_containers_terminal() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    if peer_differs(&["runc<1.2.8", "crun"], "binds it elsewhere, or waits") {
        return;
    }
    for what in ["absent", "victim", "bait", "/proc/sys/kernel/domainname", "descriptor", "directory", "fifo", "memory"]
    {
        let bundle = Bundle::new("console").set("/process/terminal", true).file("/bait", "bait");
        let victim = Victim::of(&bundle);
        let bundle = ["/dev/mqueue", "/dev/shm", "/dev"].iter().fold(bundle, |b, point| b.without_mount(point));
        let place = bundle.rootfs().join("dev/console");
        let link = |target: &Path| std::os::unix::fs::symlink(target, &place).unwrap();
        match what {
            "absent" => {}
            "victim" => link(&victim.dir.join("kept")),
            "bait" => link(Path::new("/bait")),
            "descriptor" => link(Path::new(&through(5, &victim.dir.join("kept")))),
            "directory" => std::fs::create_dir(&place).unwrap(),
            "fifo" => nix::unistd::mkfifo(&place, Mode::S_IRWXU).unwrap(),
            "memory" => mknod(&place, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 1)).unwrap(),
            path => link(Path::new(path)),
        }
        let bundle =
            bundle.sees(&["write", "/dev/console", "x", "+", "read", "/bait", "+", "mountinfo", "+", "echo", "done"]);
        let socket = bundle.path("c");
        let receiver = Receiver::new(&socket);
        let call = bundle.launch("create", &["--console-socket", socket.to_str().unwrap()]);
        let output = call.start().finish_within(super::soon());
        if output.code == 0 {
            let mut terminal = Terminal::of(receiver.take().0);
            bundle.start().ok();
            let said = terminal.rest();
            until("its end", || (bundle.status() == "stopped").then_some(()));
            let mounted = crate::support::kernel::mounts(&said);
            assert!(said.contains("read /bait: 4 \"bait\""), "{what}: {said}");
            assert!(!mounted.iter().any(|m| m.point.starts_with("/proc/sys/kernel")), "{what}: {said}");
            bundle.down();
        }
        victim.assert_unchanged();
        assert!(
            output.code == 0 || !output.stderr.is_empty() || peer_differs(&["crun"], "says nothing"),
            "{what}: {output}"
        );
    }
}

/// CVE-2025-52565: if no terminal can be allocated, `process.terminal` is an error, and no host descriptor is handed out.
#[test]
fn a_terminal_that_cannot_be_allocated_is_an_error() {
    let bundle =
        Bundle::new("no-pts").set("/process/terminal", true).set("/mounts", json!([])).without("/linux/maskedPaths");
    let bundle = bundle
        .without("/linux/readonlyPaths")
        .file("/dev/pts/ptmx", "")
        .symlink("/dev/ptmx", "pts/ptmx")
        .sees(&["true"]);
    let socket = bundle.path("c");
    let _receiver = Receiver::new(&socket);
    let output = bundle.launch("create", &["--console-socket", socket.to_str().unwrap()]).start();
    let output = output.finish_within(super::soon());
    assert!(output.code != 0 && !output.stderr.is_empty(), "{output}");
    bundle.nothing_left();
}
