//! Masked paths, read-only paths, and sysctls.

use super::image::c_string;
use super::mounts::append_label;
use super::step::{COVER, Step, Str};
use crate::error::Result;
use crate::spec::{Sysctl, clean_in_root};
use oci_spec::runtime::Linux;
use std::collections::HashSet;
use std::path::Path;

/// The steps of `linux.readonlyPaths` and `linux.maskedPaths`. `context_type`: the option that takes the label of a cover.
///
/// # Errors
/// A zero byte in a path.
pub(super) fn paths(linux: &Linux, context_type: &str, notes: &mut Vec<String>) -> Result<Vec<Step>> {
    let readonly = linux.readonly_paths().as_deref().unwrap_or_default();
    let masked = linux.masked_paths().as_deref().unwrap_or_default();
    let labelled = linux.mount_label().as_deref().filter(|label| !label.is_empty());
    let cover = labelled.map(|labelled| {
        let mut cover = COVER.to_string_lossy().into_owned();
        append_label(&mut cover, context_type, labelled);
        c_string("linux.mountLabel", cover)
    });
    let cover = cover.transpose()?;
    let mut steps = Vec::with_capacity(readonly.len() + masked.len());
    for (i, path) in readonly.iter().enumerate() {
        steps.push(Step::ReadonlyPath { path: of_root(&format!("linux.readonlyPaths[{i}]"), path, notes)? });
    }
    let mut seen = HashSet::new();
    for (i, path) in masked.iter().enumerate() {
        let path = of_root(&format!("linux.maskedPaths[{i}]"), path, notes)?;
        // a path that is listed twice would be covered twice
        if !seen.insert(path.clone()) {
            continue;
        }
        steps.push(Step::Mask { path, cover: cover.clone() });
    }
    Ok(steps)
}

/// A path of the finished root. It is cleaned, since `/proc/keys/` and `/proc/keys/.` mean `/proc/keys`, which is a file: with
/// the slash the lookup would fail.
fn of_root(at: &str, path: &str, notes: &mut Vec<String>) -> Result<Str> {
    if !path.starts_with('/') {
        notes.push(format!("{at}: {path:?} is not absolute: taken as a path from the root"));
    }
    c_string(at, clean_in_root(Path::new(path)))
}

/// The steps of `linux.sysctl`; `PROC` must be open.
///
/// # Errors
/// A zero byte in a value.
pub(super) fn sysctls(list: &[Sysctl]) -> Result<Vec<Step>> {
    let step = |Sysctl { at, file, value }: &Sysctl| {
        let file = c_string(at, format!("sys/{file}"))?;
        Ok(Step::WriteProc { file, value: c_string(at, value.as_str())? })
    };
    list.iter().map(step).collect()
}
