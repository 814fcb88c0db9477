//! `process.oomScoreAdj` (`/proc/PID/oom_score_adj`, proc(5)).
//!
//! Root writes the child's. An unprivileged caller cannot write it once the child has changed its credentials in a user
//! namespace: so we set our own around the clone, and the child inherits it.
//!
//! Processes that share memory have the same score: until its execve, such a child's score is ours, too.

use crate::error::{Context, Result};
use crate::sys::cred;

const OWN: &str = "/proc/self/oom_score_adj";

/// Our own score was changed; it is restored on drop.
pub(super) struct Lent {
    before: String,
}

impl Drop for Lent {
    fn drop(&mut self) {
        // the kernel always accepts the score that we had before
        let _ours = std::fs::write(OWN, &self.before);
    }
}

/// Sets our own score, for the child to inherit, if we can't write the child's.
///
/// # Errors
/// It is lower than ours, and we may not lower it.
pub(super) fn lend(score: Option<i32>) -> Result<Option<Lent>> {
    let Some(score) = score.filter(|_| !cred::is_privileged()) else { return Ok(None) };
    let own = own()?;
    write(OWN, score)?;
    Ok(Some(own))
}

/// Sets the score of a child that has not inherited it. If the child shares our memory (`shared`), our own score changes,
/// too: the returned value, which restores it, must be kept until the child has executed the payload.
///
/// # Errors
/// As [`lend`].
pub(super) fn give(pid: i32, score: Option<i32>, shared: bool) -> Result<Option<Lent>> {
    let Some(score) = score.filter(|_| cred::is_privileged()) else { return Ok(None) };
    let before = shared.then(own).transpose()?;
    write(&format!("/proc/{pid}/oom_score_adj"), score)?;
    Ok(before)
}

fn own() -> Result<Lent> {
    let before = std::fs::read_to_string(OWN).context(|| format!("read {OWN}"))?;
    Ok(Lent { before })
}

fn write(path: &str, score: i32) -> Result<()> {
    std::fs::write(path, score.to_string())
        .context(|| format!("write {path} \"{score}\" (process.oomScoreAdj)"))
        .map_err(|error| error.with_hint("lowering the score needs CAP_SYS_RESOURCE"))
}
