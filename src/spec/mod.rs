//! `config.json`, and the process document of `exec`: read, parsed into the types of `oci-spec`, and checked. Depends on the
//! error type only.
//!
//! A document that fits the types is parsed once, straight from its bytes. One that does not is parsed a second time after
//! the fix-ups of `fixup.rs`: it may have a form that runc accepts, and if it has not, its mistake is reported with its
//! JSON path. So is one in which a missing key and a zero would look the same to the types.

use crate::error::{Context, Error, Kind, Result};
use crate::sys::paths;
use oci_spec::runtime::{IOPriorityClass, LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use std::path::Path;

pub mod annotation;
mod check;
mod fixup;
mod lenient;
mod mount;
mod namespaces;
mod netns_hint;
mod place;
mod starter;
mod strict;
mod sysctl;

pub use annotation::Extensions;
pub use check::{Checked, Config, check, check_hook, check_process};
pub use mount::{MountEntry, MountKind, MountOptions, added as added_mounts, clean, clean_in_root};
pub use namespaces::{
    IdRange, JoinedNamespace, MOST_RANGES, Maps, NamespaceSet, TimeOffset, namespace_kind, namespaces, too_many_ranges,
};
pub use netns_hint::looks_for_network;
pub use starter::template;
pub use sysctl::Sysctl;

/// The version of the OCI runtime spec that we follow.
pub const VERSION: &str = "1.3.0";

/// The size of the first read: most configurations are smaller.
const USUAL: usize = 64 * 1024;

/// A document that is parsed and not checked yet.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The document. In a box, since the types are large: to return them by value would take a page of stack each time.
    pub spec: Box<T>,
    /// The file as it was read.
    pub bytes: Vec<u8>,
    /// Warnings for the log.
    pub notes: Vec<String>,
}

/// Reads a bundle's `config.json`.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    paths::document(path, USUAL).map_err(|error| {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        if error.kind() == std::io::ErrorKind::NotFound {
            let sentence = format!("JSON specification file {name} not found");
            return Error::new(Kind::Spec, sentence).fact("path", path.to_string_lossy());
        }
        Error::from(error).context(format!("open {}", path.display())).with_kind(Kind::Spec)
    })
}

/// Parses what `read` has read. Only the types are checked, the rest is for `check`.
///
/// # Errors
/// It is not JSON, or has a value that does not fit its type.
pub fn config(bytes: Vec<u8>, path: &Path) -> Result<Loaded<Spec>> {
    let (mut spec, notes) = parse(&bytes, has_doubt, fixup::config).context(|| path.display().to_string())?;
    annotation::receiver(&mut spec)?;
    Ok(Loaded { spec, bytes, notes })
}

/// Reads a process document: `exec --process FILE`.
///
/// # Errors
/// The file cannot be read, is not JSON, or has a value that does not fit its type.
pub fn load_process(path: &Path) -> Result<Loaded<Process>> {
    let bytes = paths::document(path, USUAL).context(|| format!("open {}", path.display()))?;
    let (spec, notes) = parse(&bytes, no_class, fixup::process).context(|| path.display().to_string())?;
    Ok(Loaded { spec, bytes, notes })
}

/// Parses a document of resource limits: `update --resources`.
///
/// # Errors
/// It is not JSON, or has a value that does not fit its type.
pub fn resources(bytes: &[u8]) -> Result<LinuxResources> {
    parse(bytes, no_processes, fixup::resources).map(|(resources, _)| *resources)
}

/// Whether `pids.limit` is 0, which oci-spec also yields when the key is missing.
fn no_processes(resources: &LinuxResources) -> bool {
    resources.pids().is_some_and(|pids| pids.limit() == 0)
}

/// Whether `ioPriority.class` has its default value, which oci-spec also yields when the key is missing.
fn no_class(process: &Process) -> bool {
    process.io_priority().as_ref().is_some_and(|priority| priority.class() == IOPriorityClass::default())
}

fn has_doubt(spec: &Spec) -> bool {
    spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()).is_some_and(no_processes)
        || spec.process().as_ref().is_some_and(no_class)
}

/// Parses. If that fails, or if a missing key may look like a value, applies `fixup` and parses again.
fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    is_doubtful: fn(&T) -> bool,
    fixup: fn(&mut serde_json::Value, &mut Vec<String>) -> Result<()>,
) -> Result<(Box<T>, Vec<String>)> {
    if let Ok(spec) = strict::from_slice(bytes)
        && !is_doubtful(&spec)
    {
        return Ok((spec, Vec::new()));
    }
    let mut notes = Vec::new();
    let mut value = lenient::value(bytes, &mut notes)?;
    fixup(&mut value, &mut notes)?;
    // through text again: reading the types from a `Value` would add a second copy of all their code to the program
    let text = serde_json::to_vec(&value).map_err(|error| Error::new(Kind::Spec, error.to_string()))?;
    let spec = strict::from_slice(&text).map_err(|error| named(&text, &error))?;
    Ok((spec, notes))
}

/// A mistake that callers know by runc's words, which do not name the JSON path `at`.
fn runc_error(at: impl Into<String>, text: impl Into<String>) -> Error {
    Error::new(Kind::Spec, text).fact("path", at)
}

/// A mistake in a text of one line, with its JSON path instead of the column.
fn named(text: &[u8], error: &serde_json::Error) -> Error {
    let sentence = error.to_string();
    let column = format!(" at line {} column {}", error.line(), error.column());
    let sentence = sentence.strip_suffix(&column).unwrap_or(&sentence);
    match place::path_at(text, error.column()) {
        path if path.is_empty() => Error::new(Kind::Spec, sentence),
        path => Error::spec(path, sentence),
    }
}

#[cfg(test)]
mod tests;
