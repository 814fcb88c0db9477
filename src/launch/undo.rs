//! Undoes what was done, in reverse order, unless everything succeeds.

use crate::error::Result;
use crate::log::Log;

type UndoStep<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// The undo steps of the effects so far.
pub struct Undo<'a> {
    steps: Vec<(&'static str, UndoStep<'a>)>,
    /// Undone at the end, and only if everything else could be undone.
    last: Option<(&'static str, UndoStep<'a>)>,
    log: &'a Log,
}

impl std::fmt::Debug for Undo<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|(what, _)| what)).finish()
    }
}

impl<'a> Undo<'a> {
    /// No effects yet.
    #[must_use]
    pub fn new(log: &'a Log) -> Self {
        Self { steps: Vec::new(), last: None, log }
    }

    /// Adds an undo step; it runs before those pushed earlier.
    pub fn push(&mut self, what: &'static str, step: impl FnOnce() -> Result<()> + 'a) {
        self.steps.push((what, Box::new(step)));
    }

    /// Adds an undo step that runs after all others, and only if they succeeded: otherwise the record must stay, for
    /// `delete --force`.
    pub fn push_last(&mut self, what: &'static str, step: impl FnOnce() -> Result<()> + 'a) {
        self.last = Some((what, Box::new(step)));
    }

    /// Everything succeeded: undoes nothing.
    pub fn disarm(mut self) {
        self.steps.clear();
        self.last = None;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let mut left = false;
        while let Some((what, step)) = self.steps.pop() {
            if let Err(error) = step() {
                left = true;
                // the caller reports the original failure; this one says what may be left
                self.log.warn(&format!("{what} after a failure: {error}"));
            }
        }
        match self.last.take() {
            Some(_) if left => self.log.warn("the container's record is kept: `delete --force` removes what is left"),
            Some((what, step)) => {
                if let Err(error) = step() {
                    self.log.warn(&format!("{what} after a failure: {error}"));
                }
            }
            None => {}
        }
    }
}
