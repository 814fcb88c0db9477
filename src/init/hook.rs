//! Hooks in the container: a child of init, which reads the state document from a memory file and writes into two others. The
//! host half has these files open, too.

use super::{State, StepResult};
use crate::plan::image::Image;
use crate::plan::step::{HookStep, Slot};
use crate::sync_socket::Cause;
use crate::sys::signal::End;
use crate::sys::{Errno, exec, file, wait};
use std::os::fd::BorrowedFd;

/// Runs one hook and waits for it.
pub(super) fn run(hook: &HookStep, payload: &Image, state: &mut State<'_>) -> StepResult {
    let [created, stdout, stderr] = Slot::HOOK;
    let stdin = if hook.late { Slot::HOOK_START } else { created };
    file::rewind(state.get(stdin)?)?;
    for (output, appends) in [stdout, stderr].into_iter().zip(hook.appends) {
        if !appends {
            file::truncate(state.get(output)?)?;
        }
    }
    let files = [state.get(stdin)?, state.get(stdout)?, state.get(stderr)?];
    let limit = hook.timeout.map_or(-1, |seconds| i32::try_from(u64::from(seconds) * 1000).unwrap_or(i32::MAX));
    let mut wait = |pidfd: BorrowedFd<'_>, _pid| {
        let [ended] = wait::events([(Some(pidfd), libc::POLLIN)], limit)?;
        Ok(ended != 0)
    };
    let image = &hook.image;
    // as in runc, the working directory of createContainer hooks is the container's root, whose path they may not know
    if !hook.late {
        file::fchdir(state.root()?)?;
    }
    let Some(path) = image.candidates.first() else { return Err(Errno::ENOENT.into()) };
    let env = if hook.inherits { &payload.envp } else { &image.envp };
    let ended = exec::run(path, &image.argv, env, files, state.umask, &mut wait);
    let refused = |errno: Errno| super::StepError { cause: Cause::HookRefused, errno: errno as i32, detail: 0 };
    match ended.map_err(refused)? {
        None => Err(Cause::HookTimeout.into()),
        Some(End::Exited(0)) => Ok(()),
        Some(End::Exited(status)) => Err(super::StepError { cause: Cause::HookExited, errno: 0, detail: status }),
        Some(End::Killed(signal)) => Err(super::StepError { cause: Cause::HookKilled, errno: 0, detail: signal }),
    }
}

/// Appends the output of the last hook, both streams, each truncated to what a message can hold.
#[inline(never)]
pub(super) fn copy_output(state: &State<'_>, to: BorrowedFd<'_>) {
    for output in [Slot::HOOK[1], Slot::HOOK[2]] {
        let Ok(from) = state.get(output) else { return };
        let mut buffer = [0; 4096];
        let length = file::rewind(from).and_then(|()| file::read(from, &mut buffer)).unwrap_or(0);
        let _ = file::write(to, &u32::try_from(length).unwrap_or_default().to_ne_bytes());
        let _ = file::write(to, &buffer[..length]);
    }
}
