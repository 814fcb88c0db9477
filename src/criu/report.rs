//! Why CRIU failed: its own words, out of its log.

use crate::error::Error;
use crate::sys::paths;
use std::path::Path;

/// How many of CRIU's errors go into ours: the first is the reason, the second often names what it was about.
const MOST: usize = 2;

/// The error, with the reasons from the log.
pub(super) fn failed(error: Error, log: &Path) -> Error {
    let text = paths::written(log).unwrap_or_default();
    let found = reasons(&String::from_utf8_lossy(&text)).join("; ");
    let path = log.display().to_string();
    if found.is_empty() {
        return error.fact("path", path);
    }
    Error::msg(found).context(error.to_string()).fact("path", &path).with_hint(format!("see {path}"))
}

/// The errors in a log, without times and places; not those of limits that CRIU would like to raise and can do without,
/// nor its last words, which say no more than that it failed.
fn reasons(log: &str) -> Vec<&str> {
    let errors = log.lines().filter_map(|line| line.split_once("Error (")?.1.split_once("): ").map(|(_, text)| text));
    errors.filter(|text| !text.starts_with("rlimit:") && !text.ends_with("FAILED.")).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "(00.000001) Version: 4.1\n\
        (00.027134) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n\
        (00.040243) Error (criu/files-reg.c:1790): Can't lookup mount=27 for fd=1 path=/a\n\
        (00.040251)     22: Error (criu/cr-dump.c:1681): Dump files (pid: 22338) failed with -1\n\
        (00.098391) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";

    #[test]
    fn the_reason_is_in_the_error() {
        let reason = ["Can't lookup mount=27 for fd=1 path=/a", "Dump files (pid: 22338) failed with -1"];
        assert_eq!(reasons(LOG), reason);
        let path = std::env::temp_dir().join(format!("onggi-criu-report-{}.log", std::process::id()));
        std::fs::write(&path, LOG).unwrap();
        let error = Error::msg("criu failed: type DUMP errno 22");
        let expected = format!("criu failed: type DUMP errno 22: {}; {}", reason[0], reason[1]);
        assert_eq!(failed(error, &path).to_string(), expected);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            failed(Error::msg("criu failed: type DUMP errno 22"), &path).to_string(),
            "criu failed: type DUMP errno 22"
        );
    }
}
