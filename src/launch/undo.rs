//! What was done, to be taken back in reverse order unless everything succeeds.

use crate::error::Result;
use crate::log::Log;

type Reversal<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Armed reversals.
pub struct Undo<'a> {
    steps: Vec<(&'static str, Reversal<'a>)>,
    /// What is taken back only if everything else was: it knows what is left.
    last: Option<(&'static str, Reversal<'a>)>,
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
        Self { steps: Vec::new(), last: None, log }
    }

    /// Takes this back too, before what was pushed earlier.
    pub fn push(&mut self, what: &'static str, step: impl FnOnce() -> Result<()> + 'a) {
        self.steps.push((what, Box::new(step)));
    }

    /// Takes this back behind everything else, and only if all of that could be taken back: the record says what is left, for
    /// `delete --force`.
    pub fn push_last(&mut self, what: &'static str, step: impl FnOnce() -> Result<()> + 'a) {
        self.last = Some((what, Box::new(step)));
    }

    /// Everything succeeded: nothing is taken back.
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
                // the first failure is the one to report; this one is for whoever looks for leftovers
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
