//! Moves network devices into the container's network namespace, and back if the start fails.

use crate::abi::ns::Namespace;
use crate::error::{Context, Error, Result};
use crate::plan::network::{Device, Network};
use crate::sys::netlink::{Address, Link, Netlink};
use crate::sys::{Errno, file, ns};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A device that was moved.
#[derive(Debug)]
struct Moved {
    name: String,
    inside: String,
    before: Link,
    addresses: Vec<Address>,
}

/// The devices that were moved.
#[derive(Debug)]
pub(super) struct Lent {
    /// The caller's network namespace.
    host: OwnedFd,
    /// The container's network namespace.
    container: OwnedFd,
    moved: Vec<Moved>,
}

/// Moves the devices of a plan into the network namespace of a process, or into the one that it will join. If one can't be
/// moved, none is.
///
/// # Errors
/// A device that does not exist or can't be moved, worded like runc's.
pub(super) fn lend(network: &Network, pid: i32, slots: &[Option<OwnedFd>]) -> Result<Option<Lent>> {
    if network.devices.is_empty() {
        return Ok(None);
    }
    let open = |path: &str| File::open(path).map(OwnedFd::from).context(|| format!("open {path}"));
    let host = open("/proc/thread-self/ns/net")?;
    let container = match network.joined {
        Some(slot) => {
            let joined = slots.get(slot.index()).and_then(Option::as_ref);
            let joined =
                joined.ok_or_else(|| Error::msg("internal error: the network namespace to join is not open"))?;
            joined.try_clone().context(|| "fcntl(F_DUPFD_CLOEXEC)")?
        }
        None => open(&format!("/proc/{pid}/ns/net"))?,
    };
    let number = |fd: &OwnedFd| file::stat(fd.as_fd()).map(|stat| stat.st_ino).context(|| "fstat of a namespace");
    if number(&host)? == number(&container)? {
        let text = "unable to move network devices without a private NET namespace";
        return Err(Error::spec("linux.netDevices", text));
    }
    let mut lent = Lent { host, container, moved: Vec::new() };
    match lent.all(&network.devices) {
        Ok(()) => Ok(Some(lent)),
        Err(error) => {
            // the failure to move is the one to report
            let _ = lent.take_back();
            Err(error)
        }
    }
}

/// A netlink socket in a network namespace. We join the namespace only to open it.
fn socket_in(namespace: BorrowedFd<'_>, host: BorrowedFd<'_>) -> Result<Netlink> {
    ns::join(namespace, Namespace::Network.into()).context(|| "setns(network)")?;
    let socket = Netlink::open();
    ns::join(host, Namespace::Network.into()).context(|| "return to our network namespace")?;
    socket.context(|| "could not get network namespace handle")
}

impl Lent {
    fn all(&mut self, devices: &[Device]) -> Result<()> {
        let mut here = Netlink::open().context(|| "could not get network namespace handle")?;
        let mut there = socket_in(self.container.as_fd(), self.host.as_fd())?;
        devices.iter().try_for_each(|device| self.one(device, &mut here, &mut there))
    }

    fn one(&mut self, device: &Device, here: &mut Netlink, there: &mut Netlink) -> Result<()> {
        let (name, at) = (&device.name, format!("linux.netDevices[{:?}]", device.name));
        let before =
            here.link(name).context(|| format!("{at}: link not found for interface {name} on runtime namespace"))?;
        // before the device goes down, which removes its IPv6 addresses
        let addresses = here.lasting_addresses(before.index).context(|| format!("{at}: fail to get ip addresses"))?;
        let inside = free(&device.inside, there).map_err(|error| error.context(at.clone()))?;
        let moved = Moved { name: name.clone(), inside: inside.clone(), before, addresses };
        let moving = here.move_to(before.index, self.container.as_fd(), &inside);
        // recorded even on failure: if only the new name was refused, the device has been moved under its old one
        self.moved.push(moved);
        moving.context(|| format!("{at}: fail to move network device {name} to network namespace"))?;
        let link =
            there.link(&inside).context(|| format!("{at}: link not found for interface {inside} on namespace"))?;
        for address in self.moved.last().map(|moved| moved.addresses.as_slice()).unwrap_or_default() {
            let added = there.add_address(link.index, address);
            added.context(|| format!("{at}: fail to set up address of {inside} on namespace"))?;
        }
        there.bring_up(link.index).context(|| format!("{at}: fail to set up interface {inside} on namespace"))
    }

    /// Moves the devices back and restores their addresses. One that no longer exists is skipped: removing one end of a pair
    /// removes the other.
    ///
    /// # Errors
    /// The first device that could not be moved back; all are tried.
    pub(super) fn take_back(self) -> Result<()> {
        let mut there = socket_in(self.container.as_fd(), self.host.as_fd())?;
        let mut here = Netlink::open().context(|| "could not get network namespace handle")?;
        let mut first = Ok(());
        for moved in self.moved.iter().rev() {
            let back = back(moved, self.host.as_fd(), &mut here, &mut there);
            let back = back.context(|| format!("move network device {} back", moved.name));
            first = first.and(back);
        }
        first
    }
}

fn back(
    moved: &Moved,
    host: BorrowedFd<'_>,
    here: &mut Netlink,
    there: &mut Netlink,
) -> std::result::Result<(), Errno> {
    let Ok(link) = there.link(&moved.inside).or_else(|_| there.link(&moved.name)) else { return Ok(()) };
    there.move_to(link.index, host, &moved.name)?;
    let link = here.link(&moved.name)?;
    // IPv6 addresses can be added only while the device is up
    if moved.before.up {
        here.bring_up(link.index)?;
    }
    for address in &moved.addresses {
        match here.add_address(link.index, address) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A device name that is free in the container: the given one, or the first free one of a template (`eth%d`).
fn free(name: &str, there: &mut Netlink) -> Result<String> {
    const MOST: u32 = 32768;
    let mut names = (0..MOST).map(|number| name.replacen("%d", &number.to_string(), 1));
    let tries = if name.contains("%d") { MOST as usize } else { 1 };
    for name in names.by_ref().take(tries) {
        match there.link(&name) {
            Err(Errno::ENODEV) => return Ok(name),
            Ok(_) => {}
            Err(errno) => return Err(Error::from(errno).context(format!("look for {name}"))),
        }
    }
    Err(Error::from(Errno::EEXIST).context(format!("the network namespace has a network device {name} already")))
}
