//! Lines of the debug log, and of `--trace`, about the stages of a start. Where runc has the same stage they are runc's:
//! people and scripts look for them.

use crate::error::reason;
use crate::log::Log;
use crate::plan::Plan;
use crate::plan::step::Step;
use crate::sys::Errno;
use crate::sys::netns::NetnsThread;

/// Before the clone.
pub(super) fn before_clone(plan: &Plan, log: &Log) {
    let clone_spec = &plan.clone_spec;
    log.debug(|| format!("nsexec container setup: clone3({})", clone_spec.new));
    if !clone_spec.affinity.is_empty() {
        log.debug(|| format!("nsexec: affinity: {}", mask(&clone_spec.affinity)));
    }
    for step in &plan.steps {
        if let Step::Seccomp { flags, .. } = step {
            log.debug(|| format!("seccomp filter flags: {flags}"));
        }
    }
}

/// After the clone.
pub(super) fn after_clone(pid: i32, plan: &Plan, log: &Log) {
    log.debug(|| format!("child process in init(): pid {pid}, {} steps", plan.steps.len()));
}

/// For `exec`: everything is done but the execution.
pub(super) fn about_to_exec(plan: &Plan, log: &Log) {
    log.debug(|| format!("setns_init: about to exec {}", plan.image));
}

/// Init is done: it waits for `start`, or its execve has closed the socket.
pub(super) fn complete(netns: Option<&NetnsThread>, log: &Log) {
    if let Some(errno) = netns.and_then(NetnsThread::loopback_down) {
        loopback_down(errno, log);
    }
    log.debug(|| "init: closing the pipe to signal completion".to_owned());
}

/// The loopback device stays down: the container can do without it.
pub(super) fn loopback_down(errno: Errno, log: &Log) {
    log.warn(&format!("bring lo up: {}: the container's loopback device stays down (CAP_NET_ADMIN)", reason(errno)));
}

/// Adds what init and the netns thread did to the trace.
pub(super) fn trace(netns: Option<&NetnsThread>, pid: i32, plan: &Plan, log: &Log) {
    if let Some(trace) = log.trace() {
        trace.beside(netns.into_iter().flat_map(NetnsThread::timings));
        trace.steps(pid, plan.steps.iter().map(ToString::to_string));
    }
}

/// A CPU mask as one hexadecimal number.
fn mask(words: &[u64]) -> String {
    let used = words.iter().rposition(|word| *word != 0).unwrap_or(0);
    let mut text = String::from("0x");
    for (at, word) in words[..=used].iter().rev().enumerate() {
        text.push_str(&if at == 0 { format!("{word:x}") } else { format!("{word:016x}") });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn masks() {
        let rows: [(&[u64], &str); 4] =
            [(&[1], "0x1"), (&[3, 0], "0x3"), (&[0x10, 2], "0x20000000000000010"), (&[0, 0], "0x0")];
        for (words, expected) in rows {
            assert_eq!(mask(words), expected);
        }
    }
}
