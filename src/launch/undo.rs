//! What was done, to be taken back in reverse order unless everything succeeds.

use crate::error::Result;
use crate::log::Log;

type Reversal<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Armed reversals.
pub struct Undo<'a> {
    steps: Vec<(&'static str, Reversal<'a>)>,
    log: &'a Log,
}

impl std::fmt::Debug for Undo<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|(what, _)| what)).finish()
    }
}

impl<'a> Undo<'a> {
    /// Nothing to take back yet.
    #[must_use]
    pub fn new(log: &'a Log) -> Self {
        Self { steps: Vec::new(), log }
    }

    /// Takes this back too, before what was pushed earlier.
    pub fn push(&mut self, what: &'static str, step: impl FnOnce() -> Result<()> + 'a) {
        self.steps.push((what, Box::new(step)));
    }

    /// Everything succeeded: nothing is taken back.
    pub fn disarm(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some((what, step)) = self.steps.pop() {
            if let Err(error) = step() {
                // the first failure is the one to report; this one is for whoever looks for leftovers
                self.log.warn(&format!("{what} after a failure: {error}"));
            }
        }
    }
}
