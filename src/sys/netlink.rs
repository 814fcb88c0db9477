//! rtnetlink(7) for moving network devices: find, move and bring up links; read and add addresses.
//!
//! For the host half only: this allocates.

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use super::{Answer, Errno, check, owned};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_FLAGS: u16 = 8;
/// The attributes that are copied: `IFA_ADDRESS`, `IFA_LOCAL`, `IFA_BROADCAST`, `IFA_RT_PRIORITY`.
const KEPT: [u16; 4] = [1, 2, 4, 9];

const IFA_F_PERMANENT: u32 = 0x80;
/// `IFA_F_NODAD`, `IFA_F_NOPREFIXROUTE`, `IFA_F_MCAUTOJOIN`: address flags that an administrator set (kept), not derived by the
/// kernel.
const KEPT_FLAGS: u32 = 0x02 | 0x200 | 0x400;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// Bytes of `struct nlmsghdr` and of `struct ifinfomsg`; `struct ifaddrmsg` has half of it.
const HEADER: usize = 16;
/// Enough for any message of the kernel; a dump has several.
const ROOM: usize = 32 * 1024;

/// A network device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
}

/// An address of a network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// Type and value, as received.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A socket to the kernel in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// `struct ifinfomsg`.
fn info(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut message = vec![0; 4];
    for word in [index, flags, change] {
        message.extend_from_slice(&word.to_ne_bytes());
    }
    message
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Takes one message or attribute of this length off the front, with its padding.
fn cut<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let whole = bytes.get(..length)?;
    *bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(whole)
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut list = Vec::new();
    while let Some(length) = half(bytes, 0).map(usize::from).filter(|length| *length >= 4) {
        let Some(whole) = cut(&mut bytes, length) else { break };
        // two bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER)
        list.push((half(whole, 2).unwrap_or_default() & 0x3fff, whole[4..].to_vec()));
    }
    list
}

/// The address in a message, if it moves with the device: permanent and of global scope (config-linux.md, Network Devices).
fn lasting(message: &[u8], index: u32) -> Option<Address> {
    if word(message, 4)? != index || message[3] != RT_SCOPE_UNIVERSE {
        return None;
    }
    let all = attributes(message.get(8..)?);
    let long = all.iter().find(|(kind, _)| *kind == IFA_FLAGS).and_then(|(_, value)| word(value, 0));
    let flags = long.unwrap_or(u32::from(message[2]));
    let kept = all.into_iter().filter(|(kind, _)| KEPT.contains(kind)).collect();
    let address = Address { family: message[0], prefix: message[1], flags: flags & KEPT_FLAGS, attributes: kept };
    (flags & IFA_F_PERMANENT != 0).then_some(address)
}

impl Netlink {
    /// Opens one in the current network namespace.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn open() -> Answer<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let socket = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })?;
        Ok(Self { socket: owned(socket), sequence: 0 })
    }

    /// The device of a name.
    ///
    /// # Errors
    /// `ENODEV`: there is none.
    pub fn link(&mut self, name: &str) -> Answer<Link> {
        let mut body = info(0, 0, 0);
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        let mut found = None;
        self.ask(RTM_GETLINK, NLM_F_ACK, &body, |message| {
            let (index, flags) = (word(message, 4)?, word(message, 8)?);
            found = Some(Link { index, up: flags & libc::IFF_UP.cast_unsigned() != 0 });
            found.map(drop)
        })?;
        found.ok_or(Errno::ENODEV)
    }

    /// Brings a device up.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn bring_up(&mut self, index: u32) -> Answer<()> {
        let up = libc::IFF_UP.cast_unsigned();
        self.ask(RTM_NEWLINK, NLM_F_ACK, &info(index, up, up), |_| None)
    }

    /// Moves a device into a network namespace and names it there. The kernel takes it down and removes its addresses.
    ///
    /// # Errors
    /// `EEXIST`: another device has the name there. `EINVAL`: it can't be moved (`lo`).
    pub fn move_to(&mut self, index: u32, namespace: BorrowedFd<'_>, name: &str) -> Answer<()> {
        let mut body = info(index, 0, 0);
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        attribute(&mut body, IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        self.ask(RTM_NEWLINK, NLM_F_ACK, &body, |_| None)
    }

    /// The addresses of a device that move with it: permanent ones of global scope, of any family.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn lasting_addresses(&mut self, index: u32) -> Answer<Vec<Address>> {
        // a dump of all addresses; if they change meanwhile the kernel marks it as inconsistent, and it is repeated
        const TRIES: usize = 10;
        for _ in 0..TRIES {
            let mut list = Vec::new();
            let answer = self.ask(RTM_GETADDR, NLM_F_DUMP, &[0; 8], |message| {
                list.push(lasting(message, index)?);
                None
            });
            match answer {
                Err(Errno::EINTR) => {}
                answer => return answer.map(|()| list),
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Gives a device an address.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn add_address(&mut self, index: u32, address: &Address) -> Answer<()> {
        let [low, ..] = address.flags.to_ne_bytes();
        let mut body = vec![address.family, address.prefix, low, RT_SCOPE_UNIVERSE];
        body.extend_from_slice(&index.to_ne_bytes());
        for (kind, value) in &address.attributes {
            attribute(&mut body, *kind, value);
        }
        attribute(&mut body, IFA_FLAGS, &address.flags.to_ne_bytes());
        self.ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &body, |_| None)
    }

    /// Sends a request and reads to the end of the answer: an acknowledgement, or the end of a dump.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(&[u8]) -> Option<()>) -> Answer<()> {
        self.sequence += 1;
        let mut message = Vec::with_capacity(HEADER + body.len());
        let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::EMSGSIZE)?;
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 {
            return Err(Errno::last());
        }
        let mut buffer = vec![0u8; ROOM];
        let mut torn = false;
        loop {
            // SAFETY: the buffer has room for as much as is asked for.
            let got = unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let Ok(got) = usize::try_from(got) else {
                match Errno::last() {
                    Errno::EINTR => continue,
                    errno => return Err(errno),
                }
            };
            let mut rest = &buffer[..got];
            while let Some(whole) = word(rest, 0).and_then(|length| cut(&mut rest, length as usize)) {
                let (Some(kind), Some(flags)) = (half(whole, 4), half(whole, 6)) else { break };
                if word(whole, 8) != Some(self.sequence) {
                    continue;
                }
                torn |= flags & NLM_F_DUMP_INTR != 0;
                let body = whole.get(HEADER..).unwrap_or_default();
                match (kind, word(body, 0).map(u32::cast_signed)) {
                    (NLMSG_ERROR | NLMSG_DONE, Some(errno)) if errno < 0 => return Err(Errno::from_raw(-errno)),
                    (NLMSG_ERROR | NLMSG_DONE, _) if torn => return Err(Errno::EINTR),
                    (NLMSG_ERROR | NLMSG_DONE, _) => return Ok(()),
                    _ => drop(each(body)),
                }
            }
        }
    }
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found() {
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap();
        assert_eq!(lo.index, 1);
        assert_eq!(netlink.link("onggi-no-such"), Err(Errno::ENODEV));
        // its addresses are of this machine alone
        assert_eq!(netlink.lasting_addresses(lo.index).unwrap().iter().filter(|a| a.prefix == 8).count(), 0);
    }

    #[test]
    fn attributes_come_back_as_they_went() {
        let mut bytes = Vec::new();
        attribute(&mut bytes, 1, b"abc");
        attribute(&mut bytes, 2, b"");
        assert_eq!(attributes(&bytes), [(1, b"abc".to_vec()), (2, Vec::new())]);
        assert_eq!(attributes(&[9, 0, 1, 0, 0]), []);
    }
}
