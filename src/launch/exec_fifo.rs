//! Between `create` and `start`: the exec fifo, at which init waits for `start`, and the status lock, which says whether it
//! still waits.
//!
//! Init holds both open; its execve closes them. The kernel releases the lock exactly when the payload runs or init has
//! exited. If a step after the exec fifo fails, init writes its failure report, and the output of a hook, into the locked
//! file, where `start` reads them.

use super::patience::{self, Told};
use super::{Mode, Record, hooks, init_error};
use crate::error::{Context, Error, Kind, Result, reason};
use crate::plan::step::Slot;
use crate::state::{Awaited, Dir, Held};
use crate::sync_socket::{self, Cause, Message, SIZE};
use crate::sys::file::{self, cwd};
use crate::sys::signal::End;
use crate::sys::{Errno, proc};
use oci_spec::runtime::Spec;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The fifo's name, which is runc's.
const FIFO: &str = "exec.fifo";

fn fifo(directory: &Path) -> PathBuf {
    directory.join(FIFO)
}

/// Makes the exec fifo and the status lock. Both descriptors are for init alone.
///
/// # Errors
/// The kernel's answer.
pub(super) fn make(dir: &Dir, slots: &mut [Option<OwnedFd>]) -> Result<()> {
    let path = fifo(dir.path());
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::msg("a path with a zero byte"))?;
    file::mknod(cwd(), &name, libc::S_IFIFO | 0o622, 0).context(|| format!("mkfifo {}", path.display()))?;
    // open for writing, too: then a read waits for a writer, instead of returning 0 when there is none
    let fifo = file::open(cwd(), &name, libc::O_RDWR, 0).context(|| format!("open {}", path.display()))?;
    slots[Slot::EXEC_FIFO.index()] = Some(fifo);
    slots[Slot::STATUS_LOCK.index()] = Some(dir.make_status_lock()?.into());
    Ok(())
}

/// Lets init go on, and waits until the payload runs. If two calls try, one succeeds.
///
/// # Errors
/// Another call was faster, init has exited, or a step after the exec fifo failed.
pub fn open(dir: &Dir, spec: &Spec, told: Told<'_>) -> Result<()> {
    let path = fifo(dir.path());
    let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let mut fifo = match opened {
        Ok(fifo) => fifo,
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            return Err(Error::new(Kind::NotRunning, "cannot start a container that has stopped"));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(already()),
        Err(error) => return Err(Error::from(error).context(format!("open {}", path.display()))),
    };
    let mut lock = OpenOptions::new().read(true).write(true).open(dir.gate()).context(|| "open the status lock")?;
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(already()),
        Err(error) => return Err(Error::from(error).context(format!("remove {}", path.display()))),
    }
    fifo.write_all(&[0]).context(|| format!("write {}", path.display()))?;
    // init closes the fifo and the lock in the same instant, and only the fifo can be polled: its last reader is gone
    let awaited = || {
        let step = "startContainer hooks, and the execution of the payload".to_owned();
        (Awaited { phase: "start".to_owned(), step }, told.record.init_process_pid)
    };
    patience::until([(Some(fifo.as_fd()), 0), (None, 0)], None, told, &awaited)?;
    lock.lock_shared().context(|| "wait for the payload")?;
    late_failure(&mut lock, spec)
}

/// Whether init has executed the payload, now that it has let the lock go: it does so too when it is killed. Of one that was
/// reaped by its parent meanwhile the kernel only says how it ended (Linux 6.15): one that was not killed is taken for a
/// payload that was fast.
///
/// # Errors
/// It was killed; the kernel does not say.
pub fn executed(record: &Record, init: &Held) -> Result<()> {
    /// How long the kernel may take from closing the files of a process to the end of it.
    const MOST: Duration = Duration::from_secs(5);
    let look = || proc::stat(init.pid).context(|| format!("read /proc/{}/stat", init.pid));
    let own = |stat: &proc::Stat| stat.start == record.init_process_start;
    let reaped = || proc::pidfd_status(init.fd()).map(End::from_raw);
    let end = match look()?.filter(own) {
        Some(stat) if stat.executed => return Ok(()),
        Some(_) => {
            init.wait(MOST).context(|| "wait for the end of init")?;
            look()?.filter(own).and_then(|stat| stat.status).map(End::from_raw).or_else(reaped)
        }
        None => match reaped() {
            killed @ Some(End::Killed(_)) => killed,
            Some(End::Exited(_)) | None => return Ok(()),
        },
    };
    if end == Some(End::Exited(sync_socket::REFUSED)) {
        // execve refused the program: init has written why to the payload's standard error
        return Ok(());
    }
    Err(init_error::vanished(Mode::Run, end, &record.cgroup).with_kind(Kind::Launch).fact("phase", "start"))
}

fn already() -> Error {
    Error::msg("cannot start an already running container")
}

/// The failure that init has reported after the exec fifo, if it failed there.
fn late_failure(lock: &mut File, spec: &Spec) -> Result<()> {
    let mut bytes = Vec::new();
    lock.rewind().and_then(|()| lock.read_to_end(&mut bytes)).context(|| "read the status lock")?;
    let Some(Message::Failed(failure)) = bytes.get(..SIZE).and_then(Message::decode) else { return Ok(()) };
    let mut rest = &bytes[SIZE..];
    let mut piece = || -> String {
        let Some((length, more)) = rest.split_first_chunk::<4>() else { return String::new() };
        let (text, more) = more.split_at(more.len().min(u32::from_ne_bytes(*length) as usize));
        rest = more;
        String::from_utf8_lossy(text).into_owned()
    };
    let (stdout, stderr) = (piece(), piece());
    let errno = Errno::from_raw(failure.errno);
    let list = spec.hooks().as_ref().and_then(|h| h.start_container().clone()).unwrap_or_default();
    let end = match failure.cause {
        Cause::HookExited => Some(End::Exited(failure.detail)),
        Cause::HookKilled => Some(End::Killed(failure.detail)),
        Cause::HookTimeout => None,
        Cause::Gate => {
            let text = format!("error during container init: wait for start: {}", reason(errno));
            return Err(Error::new(Kind::Launch, text).fact("phase", "start"));
        }
        Cause::HookRefused => {
            let programs: Vec<_> = list.iter().map(|hook| hook.path().to_string_lossy()).collect();
            let text =
                format!("error running startContainer hook: fork/exec {}: {}", programs.join(" or "), reason(errno));
            return Err(Error::new(Kind::Launch, text).fact("phase", "start"));
        }
        Cause::Kernel
        | Cause::NoProgram
        | Cause::CwdOutside
        | Cause::NotOrdinary
        | Cause::NotProcfs
        | Cause::OtherNode
        | Cause::NotNull
        | Cause::InProc
        | Cause::ForeignDev
        | Cause::NotDevpts
        | Cause::NoNetwork
        | Cause::NoLoopback => {
            let program = spec.process().as_ref().and_then(|p| p.args().as_ref()?.first().cloned()).unwrap_or_default();
            return Err(Error::new(Kind::Launch, format!("exec {program}: {}", reason(errno))).fact("phase", "start"));
        }
    };
    let timeout = list.iter().find_map(|hook| u32::try_from(hook.timeout()?).ok());
    let how = hooks::how(end, timeout);
    Err(hooks::failed("startContainer hook", "", &how, &stdout, &stderr).with_kind(Kind::Launch).fact("phase", "start"))
}
