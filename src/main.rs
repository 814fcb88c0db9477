//! argv in, exit status out. Errors are reported here and nowhere else.
//!
//! 0: done. 1: failed. 3: no such verb. 255: `exec` failed, or init of a foreground `run` did before its payload ran.
//! Anything else is the payload's own status, or 128 and the signal that ended it.

#![no_main]

use onggi::cli::{self, Call, Global, LogFormat, Misuse};
use onggi::cmd;
use onggi::error::{Error, Kind, Result};
use onggi::log::{Form, Log};
use onggi::trace::Trace;
use std::io::Write;
use std::path::PathBuf;

onggi::entry!(crate::start);

fn start() -> i32 {
    let status = match cli::parse(onggi::sys::entry::arguments()) {
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

/// Help and version are for whoever reads them there and then: no log is opened for them.
fn open_log(call: &Call) -> Result<Log> {
    if call.command.only_tells() { Ok(Log::stderr()) } else { log_of(&call.global) }
}

fn log_of(global: &Global) -> Result<Log> {
    let form = match global.log_format {
        LogFormat::Text => Form::Text,
        LogFormat::Json => Form::Json,
    };
    let log = Log::open(global.log.as_deref(), form, global.debug)?;
    match trace_of(global) {
        Some(path) => log.traced(&path),
        None => Ok(log),
    }
}

/// Engines pass no flags of ours: the environment does for them. Not that of a caller who has less rights than we.
fn trace_of(global: &Global) -> Option<PathBuf> {
    let asked = || std::env::var_os("ONGGI_TRACE").filter(|path| !path.is_empty()).map(PathBuf::from);
    global.trace.clone().or_else(|| asked().filter(|_| !onggi::sys::cred::is_above_caller()))
}

fn refuse(misuse: &Misuse) -> u8 {
    let log = match log_of(&misuse.global) {
        Ok(log) => log,
        Err(error) => return report(&Log::stderr(), &error),
    };
    if let Some((line, topic)) = &misuse.shown {
        let text = format!("{line}\n\n{}", cli::help_text(&misuse.name, *topic));
        // nobody may be there to read it; the record still says what is wrong
        let mut out = std::io::stdout();
        let _lost = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
    report(&log, &misuse.error)
}

fn report(log: &Log, error: &Error) -> u8 {
    log.error(error);
    match error.of() {
        Kind::UnknownVerb => 3,
        Kind::Launch => 255,
        Kind::Other | Kind::Usage | Kind::NotFound | Kind::Exists | Kind::Broken | Kind::NotRunning | Kind::Spec => 1,
    }
}
