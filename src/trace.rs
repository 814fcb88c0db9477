//! `--trace FILE`: records where the time of a call goes, as Chrome trace events (JSON for Perfetto and chrome://tracing).
//!
//! The host half gathers spans, init marks the moment at which each step begins (`sys::marks`), and the file is written when
//! the call ends. Times are microseconds from the call's `main`. Off, a span is one branch.

use crate::error::{Context, Result};
use crate::sys::marks::{Marks, now};
use crate::sys::paths::{self, Before};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A trace that is being recorded.
#[derive(Debug)]
pub struct Trace {
    path: PathBuf,
    began: u64,
    spans: RefCell<Vec<Lap>>,
    beside: RefCell<Vec<Lap>>,
    marks: &'static Marks,
    init: RefCell<Init>,
}

/// A span: name, start and end in nanoseconds.
#[derive(Debug)]
struct Lap {
    name: &'static str,
    from: u64,
    to: u64,
}

/// The child half: its pid, its steps, and when it became the payload or began to wait.
#[derive(Debug, Default)]
struct Init {
    pid: i32,
    steps: Vec<String>,
    heard: u64,
}

/// A span that ends when it is dropped.
#[derive(Debug)]
#[must_use = "a span lasts as long as it is held"]
pub struct Span<'a> {
    trace: Option<&'a Trace>,
    name: &'static str,
    from: u64,
}

impl<'a> Span<'a> {
    /// Starts a span.
    pub fn begin(trace: Option<&'a Trace>, name: &'static str) -> Self {
        Self { trace, name, from: if trace.is_some() { now() } else { 0 } }
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        if let Some(trace) = self.trace {
            trace.spans.borrow_mut().push(Lap { name: self.name, from: self.from, to: now() });
        }
    }
}

impl Trace {
    /// Starts a trace.
    ///
    /// # Errors
    /// No memory to share.
    pub fn begin(path: &Path) -> Result<Self> {
        // leaked, because init may mark a step after we have exited
        let marks = Marks::leak().context(|| "mmap of a page for --trace")?;
        let path = std::path::absolute(path).context(|| "find the current directory")?;
        Ok(Self {
            path,
            began: now(),
            spans: RefCell::default(),
            beside: RefCell::default(),
            marks,
            init: RefCell::default(),
        })
    }

    /// The page in which init marks its steps.
    pub const fn marks(&self) -> &'static Marks {
        self.marks
    }

    /// Adds spans of another thread of the host half.
    pub fn beside(&self, laps: impl Iterator<Item = (&'static str, u64, u64)>) {
        self.beside.borrow_mut().extend(laps.map(|(name, from, to)| Lap { name, from, to }));
    }

    /// Names the marked steps. Called when the child has become the payload, waits at the gate, or has failed.
    pub fn steps(&self, pid: i32, names: impl Iterator<Item = String>) {
        let heard = now();
        *self.init.borrow_mut() = Init { pid, steps: names.collect(), heard };
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self) -> Result<()> {
        let text = json!({ "displayTimeUnit": "ns", "traceEvents": self.events() }).to_string();
        let mut file = paths::output(&self.path, Before::Goes, 0o666);
        let written = file.as_mut().map_or(Ok(()), |file| file.write_all(text.as_bytes()));
        file.and(written).context(|| format!("write {} (--trace)", self.path.display()))
    }

    fn events(&self) -> Vec<Value> {
        let host = i32::try_from(std::process::id()).unwrap_or(0);
        let init = self.init.borrow();
        let event = |name: &str, kind: &str, (pid, tid): (i32, i32), from: u64, to: u64| {
            let (start, length) = (micros(from.saturating_sub(self.began)), micros(to.saturating_sub(from)));
            json!({ "name": name, "cat": kind, "ph": "X", "pid": pid, "tid": tid, "ts": start, "dur": length })
        };
        let named = |what: &str, (pid, tid): (i32, i32), name: &str| json!({ "name": what, "ph": "M", "pid": pid, "tid": tid, "args": { "name": name } });
        // the second thread's tid is not known here; trace events only need a different number
        let (first, second, child) = ((host, host), (host, host + 1), (init.pid, init.pid));
        let mut events = vec![named("process_name", first, "host half"), named("thread_name", first, "main")];
        events.extend(self.spans.borrow().iter().map(|lap| event(lap.name, "phase", first, lap.from, lap.to)));
        let beside = self.beside.borrow();
        if !beside.is_empty() {
            events.push(named("thread_name", second, "maker"));
        }
        events.extend(beside.iter().map(|lap| event(lap.name, "phase", second, lap.from, lap.to)));
        if init.pid != 0 {
            events.push(named("process_name", child, "init"));
        }
        let began = |step| self.marks.began(step);
        for (step, name) in init.steps.iter().enumerate() {
            // steps after the gate have not begun when the trace ends
            if let Some(from) = began(step) {
                events.push(event(name, "step", child, from, began(step + 1).unwrap_or(init.heard)));
            }
        }
        events
    }
}

/// Microseconds, the unit of trace events.
#[allow(
    clippy::cast_precision_loss,
    reason = "a call lasts less than the 104 days that an f64 holds to the nanosecond"
)]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::{Span, Trace};
    use std::path::Path;

    #[test]
    fn spans_and_steps_become_events() {
        let trace = Trace::begin(Path::new("/nonexistent/trace")).unwrap();
        drop(Span::begin(Some(&trace), "plan"));
        drop(Span::begin(None, "nobody asked"));
        trace.marks().mark(0);
        trace.marks().mark(1);
        trace.marks().mark(super::Marks::COUNT);
        trace.steps(7, ["mount proc", "execve", "behind the gate"].map(str::to_owned).into_iter());
        let events = trace.events();
        let seen: Vec<_> = events.iter().filter(|e| e["ph"] == "X").map(|e| (&e["name"], &e["cat"])).collect();
        assert_eq!(
            seen,
            [("plan", "phase"), ("mount proc", "step"), ("execve", "step")]
                .map(|(n, c)| (n.into(), c.into()))
                .iter()
                .map(|(n, c): &(serde_json::Value, serde_json::Value)| (n, c))
                .collect::<Vec<_>>()
        );
        assert!(
            events
                .iter()
                .filter(|e| e["ph"] == "X")
                .all(|e| e["ts"].as_f64() >= Some(0.0) && e["dur"].as_f64() >= Some(0.0))
        );
        assert_eq!(
            events.iter().filter(|e| e["cat"] == "step").map(|e| e["pid"].as_i64()).collect::<Vec<_>>(),
            [Some(7), Some(7)]
        );
        let error = trace.write().err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("write /nonexistent/trace (--trace): no such file or directory"));
    }
}
