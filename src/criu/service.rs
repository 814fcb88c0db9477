//! `criu swrk`: CRIU as a child process, which takes one request over a socket, sends notifications while it works, and
//! answers.

use super::rpc::{Features, InheritFd, Notification, Request, Response, kind};
use crate::error::{Context, Error, Result};
use crate::sys::{Errno, close, file, socket};
use prost::Message;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

/// The oldest version of CRIU that we support, which is runc's minimum.
const OLDEST: u32 = 30_000;

/// More than the longest message of CRIU, which is an error message.
const MOST: usize = 64 * 1024;

/// Answers a notification; a failure makes CRIU give up.
pub(super) type Notified<'a> = dyn FnMut(&Notification, Option<OwnedFd>) -> Result<()> + 'a;

/// A running `criu swrk`; it is killed when this value is dropped.
#[derive(Debug)]
pub(super) struct Service {
    child: Swrk,
    socket: OwnedFd,
    /// Descriptors that it inherited. They stay open here: CRIU opens the directory of the images through `/proc/OUR-PID/fd`.
    _inherited: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Swrk(Child);

impl Drop for Swrk {
    fn drop(&mut self) {
        // it has ended and was waited for, or it failed, or (after a pre-dump) it waits for another request
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    /// Starts CRIU with our standard streams, or with `/dev/null`, and of our other descriptors only with those of `inherited`,
    /// under the same numbers.
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
                .with_hint("checkpoint and restore need CRIU: install your distribution's package criu")
        })?;
        Ok(Self { child: Swrk(child), socket: ours, _inherited: inherited })
    }

    /// Its pid.
    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.0.id()).unwrap_or_default()
    }

    /// Makes a request and answers notifications until it is done. If an answer is a failure, CRIU undoes what it did, and
    /// that failure is returned.
    pub(super) fn request(&self, request: &Request, notified: &mut Notified<'_>) -> Result<Response> {
        self.send(request)?;
        let mut failure: Option<Error> = None;
        loop {
            let received = self.receive();
            // our own failure explains why CRIU gave up
            if let Some(error) = failure.take_if(|_| !matches!(&received, Ok((response, _)) if response.success)) {
                return Err(error);
            }
            let (response, fd) = received?;
            if !response.success {
                return Err(refused(request.kind, &response));
            }
            if response.kind != kind::NOTIFY {
                return failure.map_or(Ok(response), Err);
            }
            let answered = response.notify.as_ref().map_or(Ok(()), |notification| notified(notification, fd));
            let answer = Request { kind: kind::NOTIFY, notify_success: Some(answered.is_ok()), ..Request::default() };
            failure = failure.or(answered.err());
            self.send(&answer)?;
        }
    }

    /// Waits for its end. After its answer CRIU ends when the socket is closed.
    pub(super) fn finish(self) -> Result<()> {
        let Self { mut child, socket, .. } = self;
        drop(socket);
        child.0.wait().map(drop).context(|| "wait for criu")
    }

    fn send(&self, request: &Request) -> Result<()> {
        match socket::send(self.socket.as_fd(), &request.encode_to_vec(), None) {
            Err(Errno::EPIPE | Errno::ECONNRESET) => Err(ended()),
            answer => answer.context(|| "send to criu"),
        }
    }

    fn receive(&self) -> Result<(Response, Option<OwnedFd>)> {
        let mut buffer = vec![0; MOST];
        let (length, fd) = match socket::receive(self.socket.as_fd(), &mut buffer) {
            Ok((0, _)) | Err(Errno::ECONNRESET) => return Err(ended()),
            answer => answer.context(|| "receive from criu")?,
        };
        let response = Response::decode(&buffer[..length]);
        let response = response.map_err(|error| Error::msg(error.to_string()).context("read criu's answer"))?;
        Ok((response, fd))
    }
}

fn ended() -> Error {
    Error::msg("criu ended without an answer").with_hint("criu check says whether it works on this kernel")
}

/// runc's message; and CRIU's own if it writes no log, from which `report` takes more.
fn refused(asked: i32, response: &Response) -> Error {
    let text = format!("criu failed: type {} errno {}", kind::name(asked), response.errno.unwrap_or_default());
    let logs = matches!(asked, kind::DUMP | kind::PRE_DUMP | kind::RESTORE);
    match response.message.as_deref().map(str::trim).filter(|message| !logs && !message.is_empty()) {
        Some(message) => Error::msg(message).context(text),
        None => Error::msg(text),
    }
}

/// For requests during which CRIU notifies of nothing that concerns us.
fn ignore(_: &Notification, _: Option<OwnedFd>) -> Result<()> {
    Ok(())
}

/// The version of CRIU on this machine, as five digits: 40102 is 4.1.2.
///
/// # Errors
/// CRIU is missing, can't run on this kernel, or is too old.
pub(super) fn version() -> Result<u32> {
    let version = known_version().context(|| "CRIU version check failed")?;
    if version < OLDEST {
        return Err(Error::msg(format!("CRIU version {version} must be {OLDEST} or higher")));
    }
    Ok(version)
}

fn known_version() -> Result<u32> {
    let service = Service::start(false, Vec::new())?;
    let response = service.request(&Request { kind: kind::VERSION, ..Request::default() }, &mut ignore)?;
    let version = response.version.ok_or_else(|| Error::msg("criu reports no version"))?;
    let part = |number: i32| u32::try_from(number).unwrap_or_default();
    let (major, minor) = (part(version.major) * 10_000, part(version.minor) * 100);
    Ok(match version.gitid {
        // built from a commit after that version
        Some(_) => major + minor + 100,
        None => major + minor + part(version.sublevel.unwrap_or_default()),
    })
}

/// Checks that CRIU and the kernel have the features.
pub(super) fn check(wanted: Features, flag: &str) -> Result<()> {
    let service = Service::start(false, Vec::new()).context(|| "CRIU feature check failed")?;
    let request = Request { kind: kind::FEATURE_CHECK, features: Some(wanted), ..Request::default() };
    let found = service.request(&request, &mut ignore).context(|| "CRIU feature check failed")?;
    let found = found.features.unwrap_or_default();
    let pairs = [("MemTrack", wanted.mem_track, found.mem_track), ("LazyPages", wanted.lazy_pages, found.lazy_pages)];
    let missing: Vec<_> =
        pairs.iter().filter(|(_, wanted, found)| wanted.is_some() && wanted != found).map(|(name, ..)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("criu is missing features: [{}]", missing.join(" "));
    Err(Error::msg(text).with_hint(format!("{flag} needs a kernel that is built for it; criu check --all says more")))
}

/// A descriptor that CRIU inherits, under the key that it has in the images.
pub(super) fn inherit(key: impl Into<String>, fd: &OwnedFd) -> InheritFd {
    InheritFd { key: key.into(), fd: file::raw_fd(fd) }
}
