//! The program to execute: argv, environment and candidate paths, ready for `execve(2)`.

use crate::error::{Error, Result};
use crate::sys::exec::Strings;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt;

/// A program, ready to be executed.
#[derive(Debug)]
pub struct Image {
    /// What was asked for, for messages.
    pub program: String,
    /// `argv`.
    pub argv: Strings,
    /// Environment.
    pub envp: Strings,
    /// Candidate paths: the path itself, or one for each element of `PATH`.
    pub candidates: Vec<CString>,
    /// Whether it was looked up in `PATH`: the wording of the error depends on it.
    pub searched: bool,
    /// The candidate that [`Step::Find`](super::step::Step::Find) chose, once it has run.
    pub chosen: Option<usize>,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.argv.strings())
    }
}

/// Makes a C string.
///
/// # Errors
/// The value contains a zero byte; the error names `path`.
pub fn c_string(path: &str, value: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(value).map_err(|_| Error::spec(path, "a zero byte is not possible in a string"))
}

/// Removes duplicate variables as runc does: the last setting of each stays, at its position.
#[must_use]
pub fn environment<'a>(env: impl DoubleEndedIterator<Item = &'a str>) -> Vec<&'a str> {
    fn name(variable: &str) -> &str {
        variable.split_once('=').map_or(variable, |(name, _)| name)
    }
    let mut names = BTreeSet::new();
    let mut kept: Vec<&str> = env.rev().filter(|variable| names.insert(name(variable))).collect();
    kept.reverse();
    kept
}

/// The value of a variable.
#[must_use]
pub fn variable<'a>(env: &[&'a str], name: &str) -> Option<&'a str> {
    env.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
}

impl Image {
    /// Plans the lookup of `args[0]` along `PATH` of the environment, as `exec.LookPath` of runc does it: a name with a
    /// slash is taken as it is.
    ///
    /// # Errors
    /// A zero byte in an argument or variable.
    pub fn new(at: &str, args: &[String], env: &[&str], home: bool) -> Result<Self> {
        let program = args.first().cloned().unwrap_or_default();
        let searched = !program.contains('/');
        let mut candidates = Vec::new();
        if !searched {
            candidates.push(c_string(at, program.as_str())?);
        } else if !program.is_empty() {
            for directory in variable(env, "PATH").unwrap_or_default().split(':').filter(|d| d.starts_with('/')) {
                candidates.push(c_string(at, format!("{}/{program}", directory.trim_end_matches('/')))?);
            }
        }
        let argv = args.iter().enumerate().map(|(i, a)| c_string(&format!("{at}.args[{i}]"), a.as_str()));
        let envp = env.iter().enumerate().map(|(i, v)| c_string(&format!("{at}.env[{i}]"), *v));
        let envp = envp.collect::<Result<_>>()?;
        Ok(Self {
            program,
            argv: Strings::new(argv.collect::<Result<_>>()?),
            envp: if home { Strings::with_spare(envp) } else { Strings::new(envp) },
            candidates,
            searched,
            chosen: None,
        })
    }

    /// Takes out what init needs and changes; what messages need stays here.
    #[must_use]
    pub fn part(&mut self) -> Self {
        let words = Self {
            program: self.program.clone(),
            argv: Strings::new(Vec::new()),
            envp: Strings::new(Vec::new()),
            candidates: Vec::new(),
            searched: self.searched,
            chosen: None,
        };
        std::mem::replace(self, words)
    }

    /// A program at a fixed path (a hook).
    ///
    /// # Errors
    /// A zero byte in an argument or variable.
    pub fn fixed(at: &str, path: &str, args: &[String], env: &[&str]) -> Result<Self> {
        let own = [path.to_owned()];
        let mut image = Self::new(at, if args.is_empty() { &own } else { args }, env, false)?;
        path.clone_into(&mut image.program);
        image.searched = false;
        image.candidates = vec![c_string(at, path)?];
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_variable_wins() {
        assert_eq!(environment(["A=1", "B=2", "A=3"].into_iter()), ["B=2", "A=3"]);
    }

    #[test]
    fn looks_along_path() {
        let paths = |program: &str, env: &[&str]| {
            let image = Image::new("process", &[program.to_owned()], env, false).unwrap();
            image.candidates.iter().map(|c| c.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(paths("sh", &["PATH=/bin:/usr/bin/:rel"]), ["/bin/sh", "/usr/bin/sh"]);
        assert_eq!(paths("./x", &["PATH=/bin"]), ["./x"]);
        assert_eq!(paths("sh", &[]), Vec::<String>::new());
        assert_eq!(paths("", &["PATH=/bin"]), Vec::<String>::new());
    }
}
