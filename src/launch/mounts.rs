//! The host half of `mounts add` and `mounts remove`: one process that joins the container and carries out a plan.

use super::spawn::{Spawn, end, reap};
use super::{Mode, Undo, exec, fds, init_error};
use crate::error::{Context, Error, Result};
use crate::log::Log;
use crate::plan::Plan;
use crate::plan::step::Slot;
use crate::state::Held;
use crate::sync_socket::Message;
use crate::sys::cred;
use crate::sys::exe::ExeProtection;
use crate::sys::signal::End;

/// Carries out a plan of `plan::added` in the container of this first process.
///
/// # Errors
/// The step that failed; then no mount of the container has changed.
pub fn change(plan: Plan, init: Held, protection: ExeProtection, log: &Log) -> Result<()> {
    let plan = Box::leak(Box::new(plan));
    let mut slots = fds::open(plan)?;
    slots[Slot::ROOT.index()] = Some(exec::root(&init)?);
    slots[Slot::INIT.index()] = Some(init.into_pidfd());
    // nobody in the container may look into a process that joins it
    cred::set_dumpable(false).context(|| "prctl(PR_SET_DUMPABLE, 0)")?;
    let mut spawn = Spawn::prepare(plan, &mut slots, None, log)?;
    let child = spawn.clone3(None)?;
    let (socket, plan) = spawn.finish(&child, log);
    let mut undo = Undo::new(log);
    undo.push("end the process", || end(&child));
    drop(protection);
    match socket.receive()? {
        None => {}
        Some((Message::Failed(failure), _)) => return Err(init_error::of(Mode::Mounts, plan, failure, &slots)),
        Some((message, _)) => return Err(Error::msg(format!("protocol error: unexpected message {message:?}"))),
    }
    let ended = reap(&child)?;
    undo.disarm();
    match ended {
        Some(End::Exited(0)) => Ok(()),
        ended => Err(Error::msg(format!("the process that changes the mounts ended: {ended:?}"))),
    }
}
