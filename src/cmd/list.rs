//! `list`: all containers below the root.

use super::Container;
use crate::cli::{Format, Global};
use crate::error::{Error, Kind, Result};
use crate::log::Log;
use crate::state::{Document, Grip, Root, Status};
use std::fmt::Write;

/// Prints them. Skips a container that is deleted meanwhile, and warns about a record that cannot be read.
pub(super) fn run(global: &Global, format: std::result::Result<Format, String>, quiet: bool, log: &Log) -> Result<u8> {
    let root = Root::find(global.root.as_deref())?;
    let mut containers: Vec<(Container, Status)> = Vec::new();
    for id in root.ids()? {
        match look(&root, &id) {
            Ok(found) => containers.push(found),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => log.warn(&format!("load container {id}: {error}")),
        }
    }
    // read once for all containers
    let users = std::fs::read("/etc/passwd").unwrap_or_default();
    let documents: Vec<Document<'_>> = containers
        .iter()
        .map(|(container, status)| container.record.document(*status, container.dir.owner(&users)))
        .collect();
    if quiet {
        let ids = documents.iter().fold(String::new(), |text, document| text + document.id + "\n");
        return super::print(&ids).map(|()| 0);
    }
    let text = match format {
        Ok(Format::Table) => table(&documents),
        // as Go prints an empty list
        Ok(Format::Json) if documents.is_empty() => "null\n".to_owned(),
        Ok(Format::Json) => super::json(&documents)? + "\n",
        Err(_) => return Err(Error::msg("invalid format option")),
    };
    super::print(&text).map(|()| 0)
}

/// A container and its status.
fn look(root: &Root, id: &str) -> Result<(Container, Status)> {
    let (container, grip): (Container, Grip) = root.look(id)?;
    let status = container.status_of(|| grip.claimed(), || container.record.cgroup.frozen())?;
    Ok((container, status))
}

/// Columns at least 12 wide, three blanks between them.
fn table(documents: &[Document<'_>]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows: Vec<[String; 6]> = documents.iter().map(row).collect();
    let mut text = String::new();
    let width = |column: usize| {
        let widest =
            rows.iter().chain([&head]).filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        (widest.unwrap_or(0) + 3).max(12)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    for [cells @ .., last] in [&head].into_iter().chain(&rows) {
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
