//! What the payload sees of its terminal.

use crate::{call, say, verdict};

/// Prints one fact about the terminal; false when the verb is not one of these.
pub(crate) fn see(verb: &str, args: &[&str]) -> bool {
    match (verb, args) {
        ("tty", []) => tty(),
        ("wait-size", [rows, columns]) => {
            let wanted = (rows.parse().unwrap(), columns.parse().unwrap());
            while call::window(0).ok() != Some(wanted) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            size();
        }
        _ => return false,
    }
    true
}

fn tty() {
    for fd in 0..3 {
        say(&format!("isatty.{fd}"), call::isatty(fd));
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        say(&format!("tty.{fd}"), link.map_or_else(|e| e.to_string(), |l| l.display().to_string()));
    }
    let (session, group, foreground) = call::session();
    say("session", session);
    say("group", group);
    say("foreground", foreground);
    verdict("open /dev/tty", std::fs::File::open("/dev/tty"));
    size();
}

fn size() {
    match call::window(0) {
        Ok((rows, columns)) => say("size", format!("{rows} {columns}")),
        Err(error) => verdict::<()>("size", Err(error)),
    }
}
