//! `criu swrk`: CRIU as a child that takes one request over a socket, asks back while it works, and answers.

use super::rpc::{Features, InheritFd, Notification, Request, Response, kind};
use crate::error::{Context, Error, Result};
use crate::sys::{Errno, close, file, socket};
use prost::Message;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

/// The oldest CRIU that is of use, as runc has it.
const OLDEST: u32 = 30_000;

/// Longer than any message of CRIU's; the longest is its sentence about a failure.
const MOST: usize = 64 * 1024;

/// What CRIU asks in the midst of work.
pub(super) type Notified<'a> = dyn FnMut(&Notification, Option<OwnedFd>) -> Result<()> + 'a;

/// A running `criu swrk`; it ends with this value.
#[derive(Debug)]
pub(super) struct Service {
    child: Swrk,
    socket: OwnedFd,
    /// What it inherited stays open here too: CRIU opens the images' directory through `/proc/OUR-PID/fd`.
    _inherited: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Swrk(Child);

impl Drop for Swrk {
    fn drop(&mut self) {
        // has ended and was waited for, or has failed, or (after a pre-dump) waits for a request that never comes
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    /// Starts CRIU. It gets our standard streams, or none, and of our descriptors only those of `inherited`, under their
    /// own numbers.
    pub(super) fn start(streams: bool, inherited: Vec<OwnedFd>) -> Result<Self> {
        let (ours, theirs) = socket::pair().context(|| "socketpair")?;
        close::close_from_on_exec(3).context(|| "close_range")?;
        for fd in inherited.iter().chain([&theirs]) {
            close::close_on_exec(file::raw_fd(fd), false).context(|| "fcntl(F_SETFD)")?;
        }
        let stream = || if streams { Stdio::inherit() } else { Stdio::null() };
        let mut command = Command::new("criu");
        command.arg("swrk").arg(file::raw_fd(&theirs).to_string());
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn();
        let child = child.map_err(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                return Error::from(error).context("exec criu");
            }
            Error::msg("exec: \"criu\": executable file not found in $PATH")
                .hint("checkpoint and restore need CRIU: install your distribution's package criu")
        })?;
        Ok(Self { child: Swrk(child), socket: ours, _inherited: inherited })
    }

    /// The number of its process.
    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.0.id()).unwrap_or_default()
    }

    /// Asks for one thing and answers what CRIU asks meanwhile. If one of our answers is a failure, CRIU takes back what
    /// it did, and that failure is the one that is told.
    pub(super) fn ask(&self, request: &Request, notified: &mut Notified<'_>) -> Result<Response> {
        self.say(request)?;
        let mut failure: Option<Error> = None;
        loop {
            let heard = self.hear();
            // what went wrong on our side explains why CRIU gave up
            if let Some(error) = failure.take_if(|_| !matches!(&heard, Ok((response, _)) if response.success)) {
                return Err(error);
            }
            let (response, fd) = heard?;
            if !response.success {
                return Err(refused(request.kind, &response));
            }
            if response.kind != kind::NOTIFY {
                return failure.map_or(Ok(response), Err);
            }
            let told = response.notify.as_ref().map_or(Ok(()), |notification| notified(notification, fd));
            let answer = Request { kind: kind::NOTIFY, notify_success: Some(told.is_ok()), ..Request::default() };
            failure = failure.or(told.err());
            self.say(&answer)?;
        }
    }

    /// Waits for its end. One that has answered ends by itself when nobody can ask more.
    pub(super) fn finish(self) -> Result<()> {
        let Self { mut child, socket, .. } = self;
        drop(socket);
        child.0.wait().map(drop).context(|| "wait for criu")
    }

    fn say(&self, request: &Request) -> Result<()> {
        match socket::send(self.socket.as_fd(), &request.encode_to_vec(), None) {
            Err(Errno::EPIPE | Errno::ECONNRESET) => Err(ended()),
            answer => answer.context(|| "talk to criu"),
        }
    }

    fn hear(&self) -> Result<(Response, Option<OwnedFd>)> {
        let mut buffer = vec![0; MOST];
        let (length, fd) = match socket::receive(self.socket.as_fd(), &mut buffer) {
            Ok((0, _)) | Err(Errno::ECONNRESET) => return Err(ended()),
            answer => answer.context(|| "listen to criu")?,
        };
        let response = Response::decode(&buffer[..length]);
        let response = response.map_err(|error| Error::msg(error.to_string()).context("read criu's answer"))?;
        Ok((response, fd))
    }
}

fn ended() -> Error {
    Error::msg("criu ended without an answer").hint("criu check says whether it works on this kernel")
}

/// runc's sentence; and CRIU's own where it writes no log, from which `report` takes more.
fn refused(asked: i32, response: &Response) -> Error {
    let text = format!("criu failed: type {} errno {}", kind::name(asked), response.errno.unwrap_or_default());
    let logs = matches!(asked, kind::DUMP | kind::PRE_DUMP | kind::RESTORE);
    match response.message.as_deref().map(str::trim).filter(|message| !logs && !message.is_empty()) {
        Some(message) => Error::msg(message).context(text),
        None => Error::msg(text),
    }
}

/// Nothing to answer.
fn silent(_: &Notification, _: Option<OwnedFd>) -> Result<()> {
    Ok(())
}

/// The version of the machine's CRIU, as five digits: 40102 is 4.1.2.
///
/// # Errors
/// There is no CRIU, it can't run on this kernel, or it is too old.
pub(super) fn version() -> Result<u32> {
    let version = known_version().context(|| "CRIU version check failed")?;
    if version < OLDEST {
        return Err(Error::msg(format!("CRIU version {version} must be {OLDEST} or higher")));
    }
    Ok(version)
}

fn known_version() -> Result<u32> {
    let service = Service::start(false, Vec::new())?;
    let response = service.ask(&Request { kind: kind::VERSION, ..Request::default() }, &mut silent)?;
    let version = response.version.ok_or_else(|| Error::msg("criu does not say"))?;
    let part = |number: i32| u32::try_from(number).unwrap_or_default();
    let (major, minor) = (part(version.major) * 10_000, part(version.minor) * 100);
    Ok(match version.gitid {
        // built on the way to the next one
        Some(_) => major + minor + 100,
        None => major + minor + part(version.sublevel.unwrap_or_default()),
    })
}

/// Whether CRIU and the kernel are able to do all that is asked about.
pub(super) fn check(wanted: Features, flag: &str) -> Result<()> {
    let service = Service::start(false, Vec::new()).context(|| "CRIU feature check failed")?;
    let request = Request { kind: kind::FEATURE_CHECK, features: Some(wanted), ..Request::default() };
    let found = service.ask(&request, &mut silent).context(|| "CRIU feature check failed")?;
    let found = found.features.unwrap_or_default();
    let pairs = [("MemTrack", wanted.mem_track, found.mem_track), ("LazyPages", wanted.lazy_pages, found.lazy_pages)];
    let missing: Vec<_> =
        pairs.iter().filter(|(_, wanted, found)| wanted.is_some() && wanted != found).map(|(name, ..)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("criu is missing features: [{}]", missing.join(" "));
    Err(Error::msg(text).hint(format!("{flag} needs a kernel that is built for it; criu check --all says more")))
}

/// A descriptor of ours, as CRIU is told of it.
pub(super) fn inherit(key: impl Into<String>, fd: &OwnedFd) -> InheritFd {
    InheritFd { key: key.into(), fd: file::raw_fd(fd) }
}
