//! The program: parses argv, runs the verb, reports its error and returns the exit status.
//!
//! 0: success. 1: failure. 3: no such verb. 255: `exec` failed, or a foreground `run` could not start its payload. Anything
//! else is the payload's own status, or 128 plus the signal that ended it.

#![no_main]

use onggi::program::cli::{self, Call, Global, Misuse};
use onggi::program::log::Log;
use onggi::program::trace::Trace;
use onggi::program::{cmd, sys};
use onggi::{Error, Kind, Result};
use std::path::PathBuf;

#[global_allocator]
static HEAP: sys::Arena = sys::Arena::new();

onggi::entry!(crate::start);

fn start() -> i32 {
    let status = match cli::parse(sys::arguments()) {
        Ok(call) => obey(call),
        Err(misuse) => refuse(&misuse),
    };
    i32::from(status)
}

fn obey(call: Call) -> u8 {
    let log = match open_log(&call) {
        Ok(log) => log,
        Err(error) => return report(&Log::stderr(), &error),
    };
    let status = match cmd::run(call, &log) {
        Ok(status) => status,
        Err(error) => report(&log, &error),
    };
    if let Some(Err(error)) = log.trace().map(Trace::write) {
        log.warn(&error.to_string());
    }
    status
}

/// No log is opened for help, the version and completions: they go to standard output.
fn open_log(call: &Call) -> Result<Log> {
    if call.command.only_tells() { Ok(Log::stderr()) } else { log_of(&call.global) }
}

fn log_of(global: &Global) -> Result<Log> {
    let log = Log::open(global.log.as_deref(), global.log_format, global.debug)?;
    match trace_of(global) {
        Some(path) => log.traced(&path),
        None => Ok(log),
    }
}

/// `--trace`, or `$ONGGI_TRACE` for engines, which pass no such flag; not if we have more privileges than the caller.
fn trace_of(global: &Global) -> Option<PathBuf> {
    let asked = || std::env::var_os("ONGGI_TRACE").filter(|path| !path.is_empty()).map(PathBuf::from);
    global.trace.clone().or_else(|| asked().filter(|_| !sys::is_above_caller()))
}

fn refuse(misuse: &Misuse) -> u8 {
    let log = match log_of(&misuse.global) {
        Ok(log) => log,
        Err(error) => return report(&Log::stderr(), &error),
    };
    report(&log, &misuse.error)
}

fn report(log: &Log, error: &Error) -> u8 {
    log.error(error);
    match error.kind() {
        Kind::UnknownVerb => 3,
        Kind::Launch => 255,
        Kind::Other | Kind::Usage | Kind::NotFound | Kind::Exists | Kind::Broken | Kind::Foreign => 1,
        Kind::NotRunning | Kind::Spec => 1,
    }
}
