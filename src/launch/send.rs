//! Sends descriptors to the sockets that the caller or the bundle names.

use super::{Child, Record, document};
use crate::error::{Context, Result};
use crate::sys::socket;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Sends the seccomp listener with the `ContainerProcessState`.
///
/// # Errors
/// Nobody listens at the path.
pub fn send_listener(path: &Path, metadata: &str, fd: &OwnedFd, record: &Record, pid: i32, status: &str) -> Result<()> {
    let state = document(record, status, record.init_process_pid);
    let text = serde_json::json!({
        "ociVersion": record.oci_version, "fds": ["seccompFd"], "pid": pid, "metadata": metadata, "state": state,
    });
    let socket = socket::connect_stream(path)
        .context(|| format!("failed to connect with seccomp agent {} (linux.seccomp.listenerPath)", path.display()))?;
    socket::send(socket.as_fd(), text.to_string().as_bytes(), Some(fd.as_fd())).context(|| "send the seccomp listener")
}

/// Sends a pidfd to `--pidfd-socket`.
///
/// # Errors
/// Nobody listens at the path.
pub fn send_pidfd(path: &Path, child: &Child, text: &[u8]) -> Result<()> {
    let socket = socket::connect_stream(path).context(|| format!("connect to pidfd socket {}", path.display()))?;
    socket::send(socket.as_fd(), text, Some(child.pidfd.as_fd())).context(|| "send the pidfd")
}
