//! `list`: all containers below the root.

use super::Container;
use crate::cli::{Format, Global};
use crate::error::{Error, Kind, Result};
use crate::log::Log;
use crate::state::{Document, Grip, Root, Status};
use std::fmt::Write;

/// Shows them. A container that is gone by the time it is looked at is none; one whose record cannot be read, or is
/// another runtime's, gets a warning, so that it does not hide the others. Each is written down and forgotten before the next one is
/// looked at: with thousands of them, fresh memory would cost more than the kernel's answers.
pub(super) fn run(global: &Global, format: std::result::Result<Format, String>, quiet: bool, log: &Log) -> Result<u8> {
    let root = Root::find(global.root.as_deref())?;
    // once, for all of them
    let users = std::fs::read("/etc/passwd").unwrap_or_default();
    let (mut ids, mut rows, mut objects) = (String::new(), Vec::new(), Vec::new());
    for id in root.ids()? {
        let (container, grip, status) = match look(&root, &id) {
            Ok(found) => found,
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(error) if error.kind() == Kind::Foreign => {
                log.warn(&error.to_string());
                continue;
            }
            Err(error) => {
                log.warn(&format!("load container {id}: {error}"));
                continue;
            }
        };
        let document = container.record.document(status, grip.owner(&users));
        match format {
            _ if quiet => ids += &(id + "\n"),
            Ok(Format::Json) => objects.push(super::json(&document)?),
            Ok(Format::Table) | Err(_) => rows.push(row(&document)),
        }
    }
    let text = match format {
        _ if quiet => ids,
        Ok(Format::Table) => table(&rows),
        // what Go makes of an empty list
        Ok(Format::Json) if objects.is_empty() => "null\n".to_owned(),
        Ok(Format::Json) => format!("[{}]\n", objects.join(",")),
        Err(_) => return Err(Error::msg("invalid format option")),
    };
    super::print(&text).map(|()| 0)
}

/// A container and what it is doing.
fn look(root: &Root, id: &str) -> Result<(Container, Grip, Status)> {
    let (container, grip): (Container, Grip) = root.look(id)?;
    let status = container.status_of(|| grip.claimed(), || container.record.cgroup.frozen())?;
    Ok((container, grip, status))
}

/// Columns at least 12 wide, three blanks between them.
fn table(rows: &[[String; 6]]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let mut text = String::new();
    let width = |column: usize| {
        let widest =
            rows.iter().chain([&head]).filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        (widest.unwrap_or(0) + 3).max(12)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    for [cells @ .., last] in [&head].into_iter().chain(rows) {
        for (cell, width) in cells.iter().zip(&widths) {
            let _infallible = write!(text, "{cell:width$}");
        }
        text += last;
        text += "\n";
    }
    text
}

fn row(document: &Document<'_>) -> [String; 6] {
    [
        document.id.to_owned(),
        document.pid.to_string(),
        document.status.to_string(),
        document.bundle.to_owned(),
        document.created.to_owned(),
        document.owner.clone(),
    ]
}
