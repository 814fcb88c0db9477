//! `--log`, `--log-format`, `--debug`: records in runc's formats. The log is passed by reference; there is no global state.
//!
//! Container engines read them: containerd decodes the JSON records of the file and takes the last one of level `error`, Podman
//! expects exactly one record. So a failing call writes one error record, last.

use crate::error::{Context, Error, Result};
use crate::sys::clock;
use crate::sys::paths::{self, Before};
use crate::trace::{Span, Trace};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The format of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// `time="…" level=error msg="…"`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where records go, and in which format.
#[derive(Debug)]
pub struct Log {
    /// `None` is standard error.
    file: Option<File>,
    form: Form,
    debug: bool,
    trace: Option<Trace>,
}

impl Log {
    /// Opens the log. The file is opened now, not at the first record: if it cannot be written, the call must fail before it has
    /// done anything, as in runc.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(file: Option<&Path>, form: Form, debug: bool) -> Result<Self> {
        let open = |path: &Path| {
            let file = paths::output(path, Before::Stays, 0o644);
            file.context(|| format!("open {}", path.display()))
        };
        Ok(Self { file: file.map(open).transpose()?, form, debug, trace: None })
    }

    /// A log for the time before the flags are known: text on standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self { file: None, form: Form::Text, debug: false, trace: None }
    }

    /// Also traces the call into a file.
    ///
    /// # Errors
    /// See `Trace::begin`.
    pub fn traced(mut self, path: &Path) -> Result<Self> {
        self.trace = Some(Trace::begin(path)?);
        Ok(self)
    }

    /// The trace, if there is one.
    #[must_use]
    pub const fn trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    /// Begins a phase of the call for the trace; it ends when the span is dropped.
    pub fn span(&self, name: &'static str) -> Span<'_> {
        Span::begin(self.trace.as_ref(), name)
    }

    /// Records what is being done; the text is only made with `--debug`.
    pub fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            self.record("debug", &message(), &[], None);
        }
    }

    /// Records a warning.
    pub fn warn(&self, message: &str) {
        self.record("warning", message, &[], None);
    }

    /// Records why the call fails. Called once, last. With a log file the plain text also goes to standard error, for conmon
    /// and people.
    pub fn error(&self, error: &Error) {
        let text = error.to_string();
        self.record("error", &text, error.facts(), error.hint());
        if self.file.is_some() {
            let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            emit(&mut std::io::stderr(), &format!("{text}{hint}\n"));
        }
    }

    fn record(&self, level: &str, message: &str, facts: &[(&'static str, String)], hint: Option<&str>) {
        let time = clock::now().seconds();
        let line = match self.form {
            Form::Text => text(&time, level, message, hint),
            Form::Json => json(&time, level, message, facts, hint),
        };
        match &self.file {
            Some(file) => emit(&mut &*file, &line),
            None => emit(&mut std::io::stderr(), &line),
        }
    }
}

/// Writes the line in one call, so that the records of two processes do not mix. Errors are ignored: a full disk or a closed
/// pipe must not make a call fail that works.
fn emit(to: &mut impl Write, line: &str) {
    let _lost = to.write_all(line.as_bytes());
}

/// `time="…" level=error msg="…"`, and the hint if there is one.
fn text(time: &str, level: &str, message: &str, hint: Option<&str>) -> String {
    let hint = hint.map(|hint| format!(" hint={}", quoted(hint))).unwrap_or_default();
    format!("time=\"{time}\" level={level} msg={}{hint}\n", quoted(message))
}

/// One object with its keys in alphabetical order: runc's three, the facts for programs and the hint.
fn json(time: &str, level: &str, message: &str, facts: &[(&'static str, String)], hint: Option<&str>) -> String {
    let mut record: serde_json::Map<String, serde_json::Value> =
        facts.iter().map(|(key, value)| ((*key).to_owned(), value.as_str().into())).collect();
    record.extend(hint.map(|hint| ("hint".to_owned(), hint.into())));
    // after the facts, so that none of these can be overwritten by one
    record.extend(
        [("time", time), ("level", level), ("msg", message)].map(|(key, value)| (key.to_owned(), value.into())),
    );
    format!("{}\n", serde_json::Value::Object(record))
}

/// A value as logrus writes it: in quotes unless it is one plain word.
fn quoted(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/@^+".contains(&byte);
    if !value.is_empty() && value.bytes().all(plain) {
        return value.to_owned();
    }
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            control if control.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(control))),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::sys::Errno;

    const TIME: &str = "2026-11-20T23:49:41Z";

    #[test]
    fn text_records() {
        let rows = [
            ("container does not exist", "msg=\"container does not exist\""),
            ("word", "msg=word"),
            ("unknown signal \"BOGUS\"", "msg=\"unknown signal \\\"BOGUS\\\"\""),
            ("two\nlines\tand \\ \u{1b}", "msg=\"two\\nlines\\tand \\\\ \\x1b\""),
            ("옹기", "msg=\"옹기\""),
            ("", "msg=\"\""),
        ];
        for (message, expected) in rows {
            assert_eq!(text(TIME, "error", message, None), format!("time=\"{TIME}\" level=error {expected}\n"));
        }
        let hint = text(TIME, "error", "no", Some("try that"));
        assert_eq!(hint, format!("time=\"{TIME}\" level=error msg=no hint=\"try that\"\n"));
    }

    #[test]
    fn json_records() {
        let plain = json(TIME, "error", "container does not exist", &[], None);
        assert_eq!(
            plain,
            format!("{{\"level\":\"error\",\"msg\":\"container does not exist\",\"time\":\"{TIME}\"}}\n")
        );
        let error =
            Error::from(Errno::ENOSPC).fact("path", "/x \"y\"\n").fact("level", "forged").with_hint("make room");
        let full = json(TIME, "error", &error.to_string(), error.facts(), error.hint());
        let expected = format!(
            "{{\"code\":\"ENOSPC\",\"hint\":\"make room\",\"level\":\"error\",\"msg\":\"no space left on device\",\
             \"path\":\"/x \\\"y\\\"\\n\",\"time\":\"{TIME}\"}}\n"
        );
        assert_eq!(full, expected);
    }

    #[test]
    fn a_file_gathers_records_and_must_be_openable() {
        let path = std::env::temp_dir().join(format!("onggi-log-{}", std::process::id()));
        let log = Log::open(Some(&path), Form::Json, false).unwrap();
        log.debug(|| unreachable!("nobody asked"));
        log.warn("one");
        Log::open(Some(&path), Form::Json, true).unwrap().debug(|| "two".to_owned());
        log.error(&Error::new(Kind::NotFound, "three"));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let records: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let seen: Vec<_> = records.iter().map(|record| (record["level"].as_str(), record["msg"].as_str())).collect();
        let expected = [("warning", "one"), ("debug", "two"), ("error", "three")];
        assert_eq!(seen, expected.map(|(level, message)| (Some(level), Some(message))));

        let error = Log::open(Some(Path::new("/nonexistent/x")), Form::Text, false).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("open /nonexistent/x: no such file or directory"));
    }
}
