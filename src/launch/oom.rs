//! `process.oomScoreAdj`: how ready the kernel is to kill the process when memory runs out (`/proc/PID/oom_score_adj`,
//! proc(5)).
//!
//! Root writes the child's. Anybody else may not: a child in a user namespace is not his to write to, once it has become
//! another. It inherits the score then: we take it on for the moment of the clone.
//!
//! The kernel keeps the score of all processes that share their memory the same: until its execve, a child's is ours.

use crate::error::{Context, Result};
use crate::sys::cred;

const OWN: &str = "/proc/self/oom_score_adj";

/// A score that we have taken on; ours comes back when it goes.
pub(super) struct Lent {
    before: String,
}

impl Drop for Lent {
    fn drop(&mut self) {
        // nobody is refused what he had
        let _ours = std::fs::write(OWN, &self.before);
    }
}

/// Takes the score on, for the child to inherit, where the child's can't be written.
///
/// # Errors
/// It is lower than what we have, and we may not lower it.
pub(super) fn lend(score: Option<i32>) -> Result<Option<Lent>> {
    let Some(score) = score.filter(|_| !cred::is_privileged()) else { return Ok(None) };
    let own = own()?;
    write(OWN, score)?;
    Ok(Some(own))
}

/// Gives the score to a child that has not inherited it. If it shares our memory, the score is ours as well until the
/// answer goes, which must be kept until the child has executed its program.
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
