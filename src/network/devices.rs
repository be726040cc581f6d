//! Network devices of the host that move into the container: config-linux.md#network-devices (runtime-spec v1.3.0).
//!
//! The kernel moves and renames a device in one request. It takes the device down, and its addresses and
//! routes away; so they are read before and given back after. What becomes of the device when its
//! namespace ends is the kernel's business: hardware goes back to the host.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use oci_spec::runtime::Spec;

use crate::error::{Result, Why};
use crate::plan::{Outside, Plan, Runtime, Slot};
use crate::spec::At;
use crate::sys::netlink::{self, Message, Refusal, Request, Socket};
use crate::sys::{fd, ns};

/// struct ifinfomsg, struct ifaddrmsg, struct rtmsg.
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ROUTE: usize = 12;

/// One device that is to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    json: String,
    name: String,
    /// Its name in the container, or a template with `%d` for the kernel to fill in.
    wanted: String,
}

/// Where the container's network namespace is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// In a slot of the runtime.
    Slot(Slot),
    /// It was made with the container's process.
    Process,
}

/// Reads `linux.netDevices`, in the order of their names.
pub fn read(spec: &Spec) -> Vec<Device> {
    let devices = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    let mut list: Vec<_> = devices.into_iter().flatten().collect();
    list.sort_by_key(|(name, _)| name.as_str());
    let device = |(name, device): (&String, &oci_spec::runtime::LinuxNetDevice)| Device {
        json: At::Root.key("linux").key("netDevices").key(name).to_string(),
        name: name.clone(),
        wanted: device.name().clone().filter(|wanted| !wanted.is_empty()).unwrap_or_else(|| name.clone()),
    };
    list.into_iter().map(device).collect()
}

/// Adds a look for the devices before anything is made.
pub fn plan_find(devices: &[Device], plan: &mut Plan) {
    if !devices.is_empty() {
        plan.before(Find(devices.to_vec()));
    }
}

/// Adds the moves, beside the inside steps of a turn.
pub fn plan_move(devices: &[Device], target: Target, plan: &mut Plan) {
    for device in devices {
        plan.alongside(Move { device: device.clone(), target });
    }
}

struct Find(Vec<Device>);

impl fmt::Display for Find {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|device| device.name.as_str()).collect();
        write!(f, "looking for network devices {}", names.join(", "))
    }
}

impl Outside for Find {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        let socket = Socket::open().why(|| "netlink")?;
        for device in &self.0 {
            let refused = |refusal: Refusal| device.refused(&refusal);
            let index = link(&socket, &device.name).map_err(refused)?.word(4);
            // A change of nothing: refused where the runtime has no rights over its network namespace, and could
            // not come back to it either.
            socket.ask(Request::new(libc::RTM_NEWLINK, 0, &link_header(index, 0, 0))).map_err(refused)?;
        }
        Ok(())
    }
}

struct Move {
    device: Device,
    target: Target,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "moving network device {:?} into the container", self.device.name)?;
        if self.device.wanted == self.device.name { Ok(()) } else { write!(f, " as {:?}", self.device.wanted) }
    }
}

impl Outside for Move {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        match self.target {
            Target::Slot(slot) => self.device.move_to(runtime.slots.get(slot).why(|| "network namespace")?),
            Target::Process => {
                let path = std::ffi::CString::new(format!("/proc/{}/ns/net", runtime.child()?.pid))?;
                let namespace = fd::open(&path, libc::O_RDONLY, 0).why(|| format!("opening {path:?}"))?;
                self.device.move_to(namespace.as_fd())
            }
        }
    }
}

impl Device {
    fn refused(&self, refusal: &Refusal) -> anyhow::Error {
        let json = &self.json;
        match refusal.errno {
            Errno::ENODEV => anyhow!("config.json: {json}: no such device in the runtime's network namespace"),
            Errno::EEXIST => {
                anyhow!("config.json: {json}.name: the container's network namespace has a {:?} already", self.wanted)
            }
            // Loopbacks, bridges and others belong to one namespace for ever.
            Errno::EINVAL => anyhow!("config.json: {json}: this device cannot change its network namespace: {refusal}"),
            Errno::EPERM => {
                anyhow!(
                    "config.json: {json}: {refusal}: moving a device needs CAP_NET_ADMIN in both network namespaces"
                )
            }
            _ => anyhow!("config.json: {json}: {refusal}"),
        }
    }

    fn move_to(&self, namespace: BorrowedFd<'_>) -> Result<()> {
        let here = Socket::open().why(|| "netlink")?;
        let there = open_in(namespace)?;
        let refused = |refusal: Refusal| self.refused(&refusal);
        let index = link(&here, &self.name).map_err(refused)?.word(4);
        // The kernel would rename it after the move: a name that is taken would leave it there.
        if !self.is_template() && link(&there, &self.wanted).is_ok() {
            return Err(self.refused(&Errno::EEXIST.into()));
        }
        let addresses = addresses_of(&here, index).map_err(refused)?;
        let routes = routes_of(&here, index).map_err(refused)?;
        let earlier = if self.is_template() { indexes(&there).map_err(refused)? } else { Vec::new() };

        let mut name = self.wanted.clone().into_bytes();
        name.push(0);
        let request = Request::new(libc::RTM_NEWLINK, 0, &link_header(index, 0, 0))
            .with_fd(libc::IFLA_NET_NS_FD, namespace)
            .with(libc::IFLA_IFNAME, &name);
        here.ask(request).map_err(refused)?;

        let index = self.index_there(&there, &earlier)?;
        for address in &addresses {
            let words = |refusal: Refusal| anyhow!("config.json: {}: giving it its address back: {refusal}", self.json);
            there.ask(address.request(index)).map_err(words)?;
        }
        let up = libc::IFF_UP as u32;
        let words = |refusal: Refusal| anyhow!("config.json: {}: bringing it up: {refusal}", self.json);
        there.ask(Request::new(libc::RTM_NEWLINK, 0, &link_header(index, up, up))).map_err(words)?;
        for route in &routes {
            match there.ask(route.request(index)) {
                Ok(_) => {}
                // The kernel made it with the address; or it leans on an address that was not to be kept.
                Err(Refusal {
                    errno: Errno::EEXIST | Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EINVAL,
                    ..
                }) => {}
                Err(refusal) => bail!("config.json: {}: giving it its route back: {refusal}", self.json),
            }
        }
        Ok(())
    }

    fn is_template(&self) -> bool {
        self.wanted.contains("%d")
    }

    /// The device's number in the container's namespace, where another device may have had the old one.
    fn index_there(&self, there: &Socket, earlier: &[u32]) -> Result<u32> {
        if !self.is_template() {
            return Ok(link(there, &self.wanted).map_err(|refusal| self.refused(&refusal))?.word(4));
        }
        let now = indexes(there).map_err(|refusal| self.refused(&refusal))?;
        let new = now.into_iter().find(|index| !earlier.contains(index));
        new.ok_or_else(|| anyhow!("config.json: {}: it has gone from the container's network namespace", self.json))
    }
}

/// A socket to another network namespace; the runtime is in its own again afterwards.
fn open_in(namespace: BorrowedFd<'_>) -> Result<Socket> {
    let own = fd::open(c"/proc/self/ns/net", libc::O_RDONLY, 0).why(|| "opening /proc/self/ns/net")?;
    ns::setns(namespace, libc::CLONE_NEWNET).why(|| "entering the container's network namespace")?;
    let socket = Socket::open().why(|| "netlink");
    ns::setns(own.as_fd(), libc::CLONE_NEWNET).why(|| "returning to the runtime's own network namespace")?;
    socket
}

/// struct ifinfomsg.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; LINK] {
    let mut header = [0; LINK];
    for (place, value) in header[4..].chunks_exact_mut(4).zip([index, flags, change]) {
        place.copy_from_slice(&value.to_ne_bytes());
    }
    header
}

fn link(socket: &Socket, name: &str) -> std::result::Result<Message, Refusal> {
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    let request = Request::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0)).with(libc::IFLA_IFNAME, &text);
    socket.ask(request)?.into_iter().next().ok_or(Refusal::from(Errno::ENODEV))
}

fn indexes(socket: &Socket) -> std::result::Result<Vec<u32>, Refusal> {
    let list = socket.dump(&Request::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0)))?;
    Ok(list.iter().map(|link| link.word(4)).collect())
}

/// An address or a route, to be made again on the device by another number.
struct Kept {
    kind: u16,
    header: Vec<u8>,
    attributes: Vec<(u16, Vec<u8>)>,
    /// Where the device's number goes: into the structure, or into an attribute.
    place: Place,
}

enum Place {
    Header(usize),
    Attribute(u16),
}

impl Kept {
    fn request(&self, index: u32) -> Request {
        let mut header = self.header.clone();
        if let Place::Header(at) = self.place
            && let Some(place) = header.get_mut(at..at + 4)
        {
            place.copy_from_slice(&index.to_ne_bytes());
        }
        let mut request = Request::new(self.kind, netlink::CREATE, &header);
        for (kind, value) in &self.attributes {
            request = request.with(*kind, value);
        }
        match self.place {
            Place::Attribute(kind) => request.with(kind, &index.to_ne_bytes()),
            Place::Header(_) => request,
        }
    }
}

/// The permanent addresses of global scope.
fn addresses_of(socket: &Socket, index: u32) -> std::result::Result<Vec<Kept>, Refusal> {
    /// What was asked for, as against what the kernel has found out.
    const ASKED: u32 = libc::IFA_F_NODAD | libc::IFA_F_HOMEADDRESS | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN;
    const IFA_F_NOPREFIXROUTE: u32 = 0x200;
    const IFA_F_MCAUTOJOIN: u32 = 0x400;
    const IFA_FLAGS: u16 = 8;
    const IFA_RT_PRIORITY: u16 = 9;
    const KEPT: [u16; 4] = [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_BROADCAST, IFA_RT_PRIORITY];
    let list = socket.dump(&Request::new(libc::RTM_GETADDR, 0, &[0; ADDRESS]))?;
    let mut found = Vec::new();
    for message in list.iter().filter(|message| message.word(4) == index) {
        let all = message.attributes(ADDRESS);
        let wide = all.iter().find(|(kind, _)| *kind == IFA_FLAGS).map(|(_, value)| netlink::word(value));
        let flags = wide.unwrap_or_else(|| u32::from(message.byte(2)));
        if flags & libc::IFA_F_PERMANENT == 0 || message.byte(3) != libc::RT_SCOPE_UNIVERSE {
            continue;
        }
        let kept = all.into_iter().filter(|(kind, _)| KEPT.contains(kind));
        let mut attributes: Vec<_> = kept.map(|(kind, value)| (kind, value.to_vec())).collect();
        attributes.push((IFA_FLAGS, (flags & ASKED).to_ne_bytes().to_vec()));
        // Family, length of the prefix, flags, scope, device.
        let header = vec![message.byte(0), message.byte(1), 0, message.byte(3), 0, 0, 0, 0];
        found.push(Kept { kind: libc::RTM_NEWADDR, header, attributes, place: Place::Header(4) });
    }
    Ok(found)
}

/// The routes that somebody has added for good, those without a gateway first.
fn routes_of(socket: &Socket, index: u32) -> std::result::Result<Vec<Kept>, Refusal> {
    const RTA_OIF: u16 = libc::RTA_OIF;
    const RTA_CACHEINFO: u16 = libc::RTA_CACHEINFO;
    const RTA_NH_ID: u16 = 30;
    const RTNH_F_ONLINK: u32 = 4;
    const PERMANENT: [u8; 2] = [libc::RTPROT_BOOT, libc::RTPROT_STATIC];
    let list = socket.dump(&Request::new(libc::RTM_GETROUTE, 0, &[0; ROUTE]))?;
    let mut found = Vec::new();
    for message in list {
        let all = message.attributes(ROUTE);
        let of_device = all.iter().any(|(kind, value)| *kind == RTA_OIF && netlink::word(value) == index);
        let by_object = all.iter().any(|(kind, _)| *kind == RTA_NH_ID);
        let plain = message.byte(7) == libc::RTN_UNICAST && PERMANENT.contains(&message.byte(5));
        if !of_device || by_object || !plain {
            continue;
        }
        let kept = all.iter().filter(|(kind, _)| ![RTA_OIF, RTA_CACHEINFO].contains(kind));
        let attributes: Vec<_> = kept.map(|(kind, value)| (*kind, value.to_vec())).collect();
        let mut header = message.0.get(..ROUTE).unwrap_or_default().to_vec();
        let flags = message.word(8) & RTNH_F_ONLINK;
        if let Some(place) = header.get_mut(8..) {
            place.copy_from_slice(&flags.to_ne_bytes());
        }
        found.push(Kept { kind: libc::RTM_NEWROUTE, header, attributes, place: Place::Attribute(RTA_OIF) });
    }
    found.sort_by_key(|route| route.attributes.iter().any(|(kind, _)| *kind == libc::RTA_GATEWAY));
    Ok(found)
}
