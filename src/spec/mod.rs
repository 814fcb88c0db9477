//! What the bundle says: `config.json`, or the process document of `exec`, read and parsed into the types of
//! `oci-spec`. Depends on the error type only.
//!
//! A document that fits is parsed once, straight from its bytes. Only one that does not is looked at again
//! (`mend.rs`): it may hold what runc lets pass, and if it does not, its mistake is to be named with its place. So is
//! one whose types say zero where it may have said nothing.

use crate::error::{Context, Error, Kind, Result};
use crate::sys::paths;
use oci_spec::runtime::{IOPriorityClass, LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use std::path::Path;

mod check;
mod glance;
mod mend;
mod place;
mod starter;
mod strict;

pub use check::{validate, validate_process};
pub use glance::looks_for_network;
pub use starter::template;

/// The version of the OCI runtime spec that we follow.
pub const VERSION: &str = "1.3.0";

/// Most configurations are smaller.
const USUAL: usize = 64 * 1024;

/// A document, its bytes, and what was passed over in it.
#[derive(Debug)]
pub struct Loaded<T> {
    /// What it says. The types are large: to hand them up by value would take a page of stack each time.
    pub spec: Box<T>,
    /// The file as it was read.
    pub bytes: Vec<u8>,
    /// Warnings for the log.
    pub notes: Vec<String>,
}

/// Reads a bundle's `config.json`.
///
/// # Errors
/// When the file cannot be read.
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

/// Parses what `read` has read. Nothing is checked that its types do not demand: see `validate`.
///
/// # Errors
/// When it is no JSON, or holds a value that does not fit.
pub fn config(bytes: Vec<u8>, path: &Path) -> Result<Loaded<Spec>> {
    let (spec, notes) = parse(&bytes, has_doubt, mend::config).context(|| path.display().to_string())?;
    Ok(Loaded { spec, bytes, notes })
}

/// Reads a process document: `exec --process FILE`.
///
/// # Errors
/// When the file cannot be read, is no JSON, or holds a value that does not fit.
pub fn load_process(path: &Path) -> Result<Loaded<Process>> {
    let bytes = paths::document(path, USUAL).context(|| format!("open {}", path.display()))?;
    let (spec, notes) = parse(&bytes, no_class, mend::process).context(|| path.display().to_string())?;
    Ok(Loaded { spec, bytes, notes })
}

/// Parses a document with limits alone: `update --resources`.
///
/// # Errors
/// When it is no JSON or holds a value that does not fit.
pub fn resources(bytes: &[u8]) -> Result<LinuxResources> {
    parse(bytes, no_processes, mend::resources).map(|(resources, _)| *resources)
}

/// A limit of no processes at all: for the type it is also what stands there when nothing does.
fn no_processes(resources: &LinuxResources) -> bool {
    resources.pids().is_some_and(|pids| pids.limit() == 0)
}

/// The class of input and output that the type takes where none stands.
fn no_class(process: &Process) -> bool {
    process.io_priority().as_ref().is_some_and(|priority| priority.class() == IOPriorityClass::default())
}

fn has_doubt(spec: &Spec) -> bool {
    spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()).is_some_and(no_processes)
        || spec.process().as_ref().is_some_and(no_class)
}

/// Parses, and looks again with `mend` when that fails, or leaves a doubt.
fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    is_doubtful: fn(&T) -> bool,
    mend: fn(&mut serde_json::Value, &mut Vec<String>) -> Result<()>,
) -> Result<(Box<T>, Vec<String>)> {
    if let Ok(spec) = strict::from_slice(bytes)
        && !is_doubtful(&spec)
    {
        return Ok((spec, Vec::new()));
    }
    let mut value = serde_json::from_slice(bytes).map_err(|error| Error::new(Kind::Spec, error.to_string()))?;
    let mut notes = Vec::new();
    mend(&mut value, &mut notes)?;
    // as text once more: a second way to read each type would be paid for in size
    let text = serde_json::to_vec(&value).map_err(|error| Error::new(Kind::Spec, error.to_string()))?;
    let spec = strict::from_slice(&text).map_err(|error| named(&text, &error))?;
    Ok((spec, notes))
}

/// A mistake in a text of one line, with its JSON path in the place of the column.
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
