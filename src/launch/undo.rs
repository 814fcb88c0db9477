//! Undoes what was done, in reverse order, unless everything succeeds.

use crate::error::Result;
use crate::log::Log;

type UndoStep<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// What is to be undone.
pub struct Undo<'a> {
    steps: Vec<(&'static str, UndoStep<'a>)>,
    /// What is undone only if everything else was: it knows what is left.
    last: Option<(&'static str, UndoStep<'a>)>,
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
        Self { steps: Vec::new(), last: None, log }
    }

    /// Will undo this, too, before what was pushed earlier.
    pub fn push(&mut self, what: &'static str, step: impl FnOnce() -> Result<()> + 'a) {
        self.steps.push((what, Box::new(step)));
    }

    /// Will undo this after everything else, and only if all of that could be undone: the record says what is left, for
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
                // the caller reports the first failure; this one tells what may be left over
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
