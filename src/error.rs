//! The error type of the whole program: a kind for code that branches on it, a chain of context for people.
//!
//! The text reads outermost first: `create web-1: write memory.max "1G": no space left on device`. A message names the
//! action and its object, in lower case, without a full stop, and never repeats what the inner error says. It is
//! printed once, in `main`. An error may also carry facts for machines (system call, path, step) and a hint with advice for the
//! user; hints must not contain the phrases that engines match on (`permission denied`,
//! `no such file or directory`, `not found`).

use crate::abi::errno::text;
use crate::sys::Errno;
use std::fmt;

/// The result of everything that can fail in the host half.
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds that code branches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Anything else.
    #[default]
    Other,
    /// The command line is wrong.
    Usage,
    /// A verb that does not exist: exit status 3.
    UnknownVerb,
    /// No container of that id.
    NotFound,
    /// The id is in use.
    Exists,
    /// The record of a container is damaged.
    Broken,
    /// The container is another runtime's.
    Foreign,
    /// The container has no process to act on.
    NotRunning,
    /// The bundle, its `config.json` or a process document is not usable.
    Spec,
    /// The program of a foreground `run` or `exec` could not be started: exit status 255.
    Launch,
}

/// A failure: kind, text, and facts for machines.
pub struct Error(Box<Inner>);

#[derive(Default)]
struct Inner {
    kind: Kind,
    /// Innermost first.
    chain: Vec<String>,
    errno: Option<Errno>,
    facts: Vec<(&'static str, String)>,
    hint: Option<String>,
}

impl Error {
    /// An error of a kind, with its innermost message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, chain: vec![message.into()], ..Inner::default() }))
    }

    /// An error of kind `Other`.
    pub fn msg(message: impl Into<String>) -> Self {
        Self::new(Kind::Other, message)
    }

    /// The bundle or a document in it is wrong; `path` is the JSON path of the value.
    pub fn spec(path: impl fmt::Display, message: impl fmt::Display) -> Self {
        let path = path.to_string();
        Self::new(Kind::Spec, format!("{path}: {message}")).fact("path", path)
    }

    /// Prepends what was being done.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        self.0.chain.push(message.into());
        self
    }

    /// Adds advice for the user. Shown after the text, and as `hint` in a JSON record.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds a fact for machines (`syscall`, `path`, `step`, `phase`, `code`).
    #[must_use]
    pub fn fact(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.facts.push((key, value.into()));
        self
    }

    /// Sets the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The errno at the bottom of the chain, if there is one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }

    /// The facts for machines.
    #[must_use]
    pub fn facts(&self) -> &[(&'static str, String)] {
        &self.0.facts
    }

    /// The advice for the user, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, message) in self.0.chain.iter().rev().enumerate() {
            if i > 0 {
                f.write_str(": ")?;
            }
            f.write_str(message)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.0.kind)
    }
}

impl std::error::Error for Error {}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        let mut error = Self::msg(reason(errno));
        error.0.errno = Some(errno);
        error.fact("code", format!("{errno:?}"))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(raw) => Errno::from_raw(raw).into(),
            None => Self::msg(error.to_string()),
        }
    }
}

/// The text of an errno, as in Go: engines match on it.
#[must_use]
pub fn reason(errno: Errno) -> String {
    text(errno as i32).to_owned()
}

/// Adds context to a result.
pub trait Context<T> {
    /// Prepends what was being done; the text is only made on failure.
    ///
    /// # Errors
    /// The error of `self`, with the context in front.
    fn context<S: Into<String>>(self, message: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, message: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().context(message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_outermost_first() {
        let error: Result<()> = Err(Errno::ENOSPC).context(|| "write memory.max \"1G\"").context(|| "create web-1");
        let error = error.err().map(|e| (e.to_string(), e.errno()));
        assert_eq!(
            error,
            Some(("create web-1: write memory.max \"1G\": no space left on device".to_owned(), Some(Errno::ENOSPC)))
        );
    }

    #[test]
    fn reasons_match_what_engines_look_for() {
        assert_eq!(reason(Errno::EACCES), "permission denied");
        assert_eq!(reason(Errno::ENOENT), "no such file or directory");
        assert_eq!(reason(Errno::EPERM), "operation not permitted");
        assert_eq!(reason(Errno::EISDIR), "is a directory");
        // where Go and libc have other words than nix
        for (errno, words) in [
            (Errno::EIO, "input/output error"),
            (Errno::EBADF, "bad file descriptor"),
            (Errno::EAGAIN, "resource temporarily unavailable"),
            (Errno::ENOMEM, "cannot allocate memory"),
            (Errno::EXDEV, "invalid cross-device link"),
            (Errno::ENOTTY, "inappropriate ioctl for device"),
            (Errno::EDOM, "numerical argument out of domain"),
            (Errno::ERANGE, "numerical result out of range"),
            (Errno::EDEADLK, "resource deadlock avoided"),
            (Errno::ELOOP, "too many levels of symbolic links"),
            (Errno::EOVERFLOW, "value too large for defined data type"),
            (Errno::ESTALE, "stale NFS file handle"),
            (Errno::EDQUOT, "disk quota exceeded"),
            (Errno::ENFILE, "too many open files in system"),
            (Errno::ENOEXEC, "exec format error"),
        ] {
            assert_eq!(reason(errno), words);
        }
        assert_eq!(text(0), "unknown error");
        assert_eq!(text(41), "unknown error");
        assert_eq!(text(i32::MAX), "unknown error");
    }
}
