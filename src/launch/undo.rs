//! Undoes what was done, in reverse order, unless everything succeeds.

use crate::error::Result;
use crate::log::Log;

type UndoStep<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// What is to be undone.
pub struct Undo<'a> {
    steps: Vec<(&'static str, UndoStep<'a>)>,
    log: &'a Log,
}

impl std::fmt::Debug for Undo<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|(what, _)| what)).finish()
    }
}

impl<'a> Undo<'a> {
    /// Nothing to undo yet.
    #[must_use]
    pub fn new(log: &'a Log) -> Self {
        Self { steps: Vec::new(), log }
    }

    /// Will undo this, too, before what was pushed earlier.
    pub fn push(&mut self, what: &'static str, step: impl FnOnce() -> Result<()> + 'a) {
        self.steps.push((what, Box::new(step)));
    }

    /// Everything succeeded: undoes nothing.
    pub fn disarm(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some((what, step)) = self.steps.pop() {
            if let Err(error) = step() {
                // the caller reports the first failure; this one tells what may be left over
                self.log.warn(&format!("{what} after a failure: {error}"));
            }
        }
    }
}
