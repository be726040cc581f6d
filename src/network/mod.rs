//! The network namespace's own business: a new one is made beside init's first mounts; init brings up its loopback device.
//!
//! Making a network namespace takes the kernel longer than all other namespaces and mounts of a container
//! together. So the runtime makes it while init mounts, and hands it over, in the shape of a socket in it, which init has a
//! use for and the namespace can be asked of, so that neither looks for it in /proc; init enters it before the
//! first mount that looks at it (sysfs). In a user namespace of the container's own this cannot be,
//! as the network namespace must belong to that one: there clone3 makes it.

use std::fmt;
use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::error::{Result, Why};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime, Slot};
use crate::sys::{channel, fd, net, ns};

pub mod devices;

/// How a container comes to its new network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From clone3; only its loopback is to be brought up.
    Clone,
    /// From the runtime, over a socket.
    Runtime(Slot),
}

/// Decides where a new network namespace comes from, and adds its making. The runtime keeps it open in `kept`.
pub fn plan_make(user_namespace: bool, kept: Option<Slot>, plan: &mut Plan) -> Origin {
    if user_namespace {
        return Origin::Clone;
    }
    plan.spawn.flags &= !(libc::CLONE_NEWNET as u64);
    let (outside, inside) = (plan.outside_slot(), plan.slot());
    plan.before(MakePair { outside, inside });
    plan.alongside(MakeNetwork { socket: outside, kept });
    Origin::Runtime(inside)
}

/// Adds the entering of the namespace, for a place where the network begins to matter.
pub fn plan_enter(origin: Origin, plan: &mut Plan) {
    match origin {
        Origin::Clone => plan.inside(RaiseLoopback),
        Origin::Runtime(socket) => plan.inside(EnterNetwork(socket)),
    }
}

struct MakePair {
    outside: Slot,
    inside: Slot,
}

impl fmt::Display for MakePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("making a socket for the network namespace")
    }
}

impl Outside for MakePair {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let (ours, theirs) = channel::pair().why(|| "socketpair")?;
        runtime.slots.put(self.outside, ours);
        runtime.slots.put(self.inside, theirs);
        Ok(())
    }
}

struct MakeNetwork {
    socket: Slot,
    kept: Option<Slot>,
}

impl fmt::Display for MakeNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("making the network namespace")
    }
}

impl Outside for MakeNetwork {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let socket = runtime.slots.get(self.socket).why(|| "network namespace")?;
        let own = net::namespace_of(socket).why(|| "the runtime's own network namespace")?;
        ns::unshare(libc::CLONE_NEWNET).why(|| "unshare")?;
        let made = net::socket().why(|| "socket").and_then(|new| {
            channel::send_fds(socket, b"network", &[new.as_fd()]).why(|| "handing over the network namespace")?;
            Ok(new)
        });
        // Hooks, and everything else that the runtime does, belong in its own network.
        ns::setns(own.as_fd(), libc::CLONE_NEWNET).why(|| "returning to the runtime's own network namespace")?;
        let new = made?;
        if let Some(kept) = self.kept {
            runtime.slots.put(kept, net::namespace_of(new.as_fd()).why(|| "network namespace")?);
        }
        Ok(())
    }
}

struct EnterNetwork(Slot);

impl fmt::Display for EnterNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("entering the network namespace and bringing up its loopback")
    }
}

impl Inside for EnterNetwork {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let socket = channel::receive_fd(init.slots.get(self.0)?)?.ok_or(Errno::ECONNRESET)?;
        let namespace = net::namespace_of(socket.as_fd())?;
        ns::setns(namespace.as_fd(), libc::CLONE_NEWNET)?;
        // Init would only wait while the runtime did it.
        Ok(net::raise(socket.as_fd(), c"lo")?)
    }
}

struct RaiseLoopback;

impl fmt::Display for RaiseLoopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bringing up loopback")
    }
}

impl Inside for RaiseLoopback {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(net::raise(net::socket()?.as_fd(), c"lo")?)
    }
}

/// Adds the bringing up of loopback in the network namespace of the process that a plan has restored: whoever keeps
/// images of a container keeps no network in them.
pub fn plan_raise_restored(plan: &mut Plan) {
    plan.outside(RaiseRestored);
}

struct RaiseRestored;

impl fmt::Display for RaiseRestored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bringing up loopback")
    }
}

impl Outside for RaiseRestored {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let own = fd::open(c"/proc/self/ns/net", libc::O_RDONLY, 0).why(|| "opening /proc/self/ns/net")?;
        ns::setns(runtime.child()?.pidfd.as_fd(), libc::CLONE_NEWNET).why(|| "entering the network namespace")?;
        let raised = net::socket().and_then(|socket| net::raise(socket.as_fd(), c"lo")).why(|| "loopback");
        ns::setns(own.as_fd(), libc::CLONE_NEWNET).why(|| "returning to the runtime's own network namespace")?;
        raised
    }
}
