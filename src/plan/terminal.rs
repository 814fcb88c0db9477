//! The steps that give a process its terminal.

use super::Open;
use super::opens::Opens;
use super::step::{Slot, Step};
use crate::error::{Error, Result};
use crate::sys::tty::Size;
use oci_spec::runtime::Process;
use std::path::Path;

/// The steps that give a process its terminal. With `console` it is bound on `/dev/console`, too: for a container's first
/// process with a `/dev` of the container's own.
///
/// # Errors
/// An invalid size.
pub(super) fn steps(process: &Process, socket: Option<&Path>, console: bool, opens: &mut Opens) -> Result<Vec<Step>> {
    let side = |length: u64| u16::try_from(length).map_err(|_| Error::spec("process.consoleSize", "too large"));
    let size = process.console_size().filter(|size| size.height() > 0 || size.width() > 0);
    let size = size
        .map(|size| Ok::<_, Error>(Size { rows: side(size.height())?, columns: side(size.width())? }))
        .transpose()?;
    if let Some(path) = socket {
        opens.open_at(Slot::CONSOLE, Open::Console(path.to_owned()));
    }
    let mut steps = vec![Step::OpenTerminal { size }];
    if console {
        steps.push(Step::BindConsole);
    }
    steps.push(Step::SendTerminal { socket: socket.is_some() });
    steps.push(Step::TakeTerminal(process.user().uid()));
    Ok(steps)
}
