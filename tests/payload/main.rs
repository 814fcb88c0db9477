//! The static program that the integration tests run inside containers: one sub-command per observation.
//!
//! Prints plain `key: value` lines, an errno by name. Several observations in one run are joined by `+`:
//! `/payload id + ns + exit 3`. Depends on `libc` only. It changes nothing before an observation, so that it prints what the
//! runtime has set up.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]
#![allow(clippy::exit, reason = "the exit status is an observation")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a wrong call from a test shall be loud")]

mod acts;
mod call;
mod facts;
mod thief;
mod tty;

use std::process::exit;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        return;
    }
    for act in args.split(|arg| arg == "+") {
        let Some((verb, rest)) = act.split_first() else { continue };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        if !(facts::see(verb, &rest) || acts::act(verb, &rest) || thief::act(verb, &rest) || tty::see(verb, &rest)) {
            eprintln!("payload: no observation called {verb}");
            exit(99);
        }
    }
}

/// Prints one observation and flushes it, because the next one may end the process.
pub(crate) fn say(key: &str, value: impl std::fmt::Display) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // ignore errors: some tests close standard output
    let _ = writeln!(out, "{key}: {value}").and_then(|()| out.flush());
}

/// Prints `ok` or the errno's name.
pub(crate) fn verdict<T>(key: &str, result: std::io::Result<T>) {
    match result {
        Ok(_) => say(key, "ok"),
        Err(error) => say(key, call::errno_name(error.raw_os_error().unwrap_or(0))),
    }
}
