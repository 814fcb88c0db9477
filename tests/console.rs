//! Terminals: sent through `--console-socket`, and relayed to the caller's terminal in the foreground.

use crate::support::process::apart;
use crate::support::tty::{Receiver, Terminal};
use crate::support::{Bundle, Runtime, json, payload, peer_differs, until};
use nix::sys::termios::{LocalFlags, tcgetattr};

fn with_terminal(name: &str, words: &[&str]) -> Bundle {
    Bundle::new(name).set("/process/terminal", true).sees(words)
}

/// Creates the container with a console socket, and receives the terminal's master.
fn create(bundle: &Bundle) -> (Terminal, String) {
    let receiver = Receiver::new(&bundle.path("c.sock"));
    bundle.launch("create", &["--console-socket", receiver.path.to_str().unwrap()]).finish().ok();
    let (master, name) = receiver.take();
    (Terminal::of(master), name)
}

#[test]
fn the_master_comes_through_the_console_socket() {
    let bundle = with_terminal("socket", &["tty", "+", "stat", "/dev/console", "+", "echo", "done", "+", "pause"]);
    let (mut terminal, name) = create(&bundle);
    // receivers do not depend on the text, but a descriptor cannot be sent without any
    assert!(!name.is_empty());
    bundle.start().ok();
    let seen = terminal.wait_for("done").replace("\r\n", "\n");
    for line in ["isatty.0: true", "isatty.1: true", "isatty.2: true", "session: 1", "group: 1", "foreground: 1"] {
        assert!(seen.lines().any(|seen| seen == line), "{line:?} in {seen}");
    }
    for line in ["tty.0: /dev/pts/0", "open /dev/tty: ok", "/dev/console.type: c", "/dev/console.rdev: 136:0"] {
        if line.starts_with("/dev/console") && peer_differs(&["crun"], "makes /dev/console a link") {
            continue;
        }
        assert!(seen.lines().any(|seen| seen == line), "{line:?} in {seen}");
    }
    bundle.down();
}

#[test]
fn the_terminal_has_the_configured_size() {
    let size = json!({"height": 33, "width": 111});
    let bundle = with_terminal("size", &["tty", "+", "pause"]).set("/process/consoleSize", size);
    let (mut terminal, _) = create(&bundle);
    assert_eq!(terminal.size(), (33, 111));
    bundle.start().ok();
    terminal.wait_for("size: 33 111");
    bundle.down();
}

#[test]
fn the_payload_sees_the_terminal_resized() {
    let bundle = with_terminal("resized", &["wait-size", "44", "99", "+", "pause"]);
    let (mut terminal, _) = create(&bundle);
    bundle.start().ok();
    terminal.resize(44, 99);
    terminal.wait_for("size: 44 99");
    bundle.down();
}

#[test]
fn input_reaches_the_payload() {
    let bundle = with_terminal("typed", &["stdin", "+", "pause"]);
    let (mut terminal, _) = create(&bundle);
    bundle.start().ok();
    terminal.type_in("hello\n\u{4}");
    terminal.wait_for("stdin: \"hello\\n\"");
    bundle.down();
}

#[test]
fn the_terminal_belongs_to_the_user() {
    let words = ["stat", "/dev/pts/0", "+", "echo", "done", "+", "pause"];
    let bundle = with_terminal("tty-owner", &words).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let (mut terminal, _) = create(&bundle);
    bundle.start().ok();
    let seen = terminal.wait_for("done");
    assert!(seen.contains("/dev/pts/0.owner: 1000:5") && seen.contains("/dev/pts/0.mode: 0620"), "{seen}");
    bundle.down();
}

#[test]
fn the_terminal_closes_with_the_container() {
    let bundle = with_terminal("closes", &["echo", "last words"]);
    let (mut terminal, _) = create(&bundle);
    let pid = bundle.pid();
    bundle.start().ok();
    assert!(terminal.rest().contains("last words"));
    assert_eq!(bundle.exit_code(pid), 0);
    bundle.wait_for("stopped");
    bundle.delete().ok();
}

#[test]
fn without_a_terminal_there_is_no_console() {
    Bundle::new("no-console").run(&["stat", "/dev/console"]).ok().has("/dev/console.stat", "ENOENT");
}

#[test]
fn create_with_a_terminal_requires_a_console_socket() {
    let name = &Runtime::get().name;
    let phrase = format!("cannot allocate tty if {name} will detach without setting console socket");
    let bundle = with_terminal("nobody", &["true"]);
    bundle.create().fails(1, &phrase);
    bundle.launch("run", &["--detach"]).finish().fails(1, &phrase);
    bundle.nothing_left();
}

#[test]
fn a_console_socket_without_a_terminal_is_refused() {
    if peer_differs(&["crun"], "ignores the socket") {
        return;
    }
    let bundle = Bundle::new("no-terminal").sees(&["true"]);
    let receiver = Receiver::new(&bundle.path("c.sock"));
    let socket = receiver.path.to_str().unwrap();
    let name = &Runtime::get().name;
    let phrase = format!("cannot use console socket if {name} will not detach or allocate tty");
    bundle.launch("create", &["--console-socket", socket]).finish().fails(1, &phrase);
    bundle.nothing_left();
}

#[test]
fn a_console_socket_without_a_listener_is_an_error() {
    let bundle = with_terminal("deaf", &["true"]);
    let socket = bundle.path("nobody.sock");
    let output = bundle.launch("create", &["--console-socket", socket.to_str().unwrap()]).finish();
    output.fails(1, "no such file or directory");
    bundle.nothing_left();
}

/// Whether the terminal is in cooked mode.
fn cooked(slave: &std::os::fd::OwnedFd) -> bool {
    tcgetattr(slave).unwrap().local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
}

#[test]
fn in_the_foreground_the_callers_terminal_is_raw_until_the_end() {
    for (words, code) in [(&["stdin", "+", "exit", "6"][..], 6), (&["stdin", "+", "die", "11"], 139)] {
        let bundle = with_terminal("foreground", words);
        let (mut terminal, slave) = Terminal::open();
        let before = tcgetattr(&slave).unwrap();
        assert!(cooked(&slave));
        let run = bundle.launch("run", &[]).stdio(&slave).start();
        until("the raw mode", || (!cooked(&slave)).then_some(()));
        terminal.type_in("typed\n\u{4}");
        terminal.wait_for("stdin: \"typed\\n\"");
        run.finish().code(code);
        let after = tcgetattr(&slave).unwrap();
        assert_eq!(
            (after.local_flags, after.input_flags, after.output_flags),
            (before.local_flags, before.input_flags, before.output_flags)
        );
    }
}

#[test]
fn in_the_foreground_resizes_are_passed_on() {
    let bundle = with_terminal("foreground-size", &["tty", "+", "wait-size", "50", "120"]);
    let (mut terminal, slave) = Terminal::open();
    terminal.resize(40, 100);
    let run = bundle.launch("run", &[]).stdio(&slave).start();
    terminal.wait_for("isatty.0: true");
    terminal.resize(50, 120);
    // it is no controlling terminal of the runtime, so the kernel sends it no SIGWINCH
    run.kill(libc::SIGWINCH);
    terminal.wait_for("size: 50 120");
    run.finish().ok();
}

#[test]
fn in_the_foreground_the_terminal_starts_with_the_callers_size() {
    if peer_differs(&["crun"], "passes the size on only when it changes") {
        return;
    }
    let bundle = with_terminal("foreground-first", &["wait-size", "40", "100"]);
    let (mut terminal, slave) = Terminal::open();
    terminal.resize(40, 100);
    let run = bundle.launch("run", &[]).stdio(&slave).start();
    terminal.wait_for("size: 40 100");
    run.finish().ok();
}

#[test]
fn in_the_foreground_no_output_is_lost() {
    if peer_differs(&["crun"], "loses what it has not copied when the payload ends") {
        return;
    }
    let bundle = with_terminal("foreground-whole", &["flood", "20000", "+", "echo", "the end"]);
    let (mut terminal, slave) = Terminal::open();
    let run = bundle.launch("run", &[]).stdio(&slave).start();
    let seen = terminal.wait_for("the end").to_owned();
    run.finish().ok();
    let lines = seen.lines().filter(|line| line.starts_with("line ")).count();
    assert_eq!(lines, 20000);
}

/// cron, CI and units: nobody would ever type.
#[test]
fn in_the_foreground_a_terminal_needs_one_of_the_callers() {
    if peer_differs(&["crun"], "has other words") {
        return;
    }
    let phrase = "open /dev/tty: no such device or address";
    let bundle = with_terminal("no-tty", &["pause"]);
    bundle.launch("run", &[]).with(apart).finish().fails(1, phrase);
    bundle.nothing_left();
    let bundle = Bundle::new("exec-no-tty").sees(&["pause"]);
    bundle.up();
    let exec = bundle.runtime().args(["exec", "--tty", &bundle.id, payload::INSIDE, "pause"]).with(apart);
    exec.finish().fails(255, phrase);
    bundle.down();
}

#[test]
fn in_the_foreground_the_end_of_what_is_piped_in_is_passed_on() {
    if peer_differs(&["runc", "crun"], "waits for ever") {
        return;
    }
    for (typed, seen) in [("typed\n", "stdin: \"typed\\n\""), ("typed", "stdin: \"typed\""), ("", "stdin: \"\"")] {
        let bundle = with_terminal("piped", &["stdin", "+", "exit", "6"]);
        let (mut terminal, slave) = Terminal::open();
        let run = bundle.launch("run", &[]).stdio(&slave).stdin(typed.as_bytes()).start();
        terminal.wait_for(seen);
        run.finish().code(6);

        let bundle = Bundle::new("exec-piped").sees(&["pause"]);
        bundle.up();
        let words = ["exec", "--tty", &bundle.id, payload::INSIDE, "stdin", "+", "exit", "6"];
        let exec = bundle.runtime().args(words).stdio(&slave).stdin(typed.as_bytes()).start();
        exec.finish().code(6);
        bundle.down();
    }
}
