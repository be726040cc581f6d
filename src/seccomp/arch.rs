//! The architectures of a profile: config-linux.md#seccomp, `architectures` (runtime-spec v1.3.0).
//!
//! The kernel tells a filter its caller's *audit architecture* and the system call's number. One audit architecture may
//! carry two ABIs (x32 calls are x86_64 calls with a bit in the number), and old ABIs reach their socket and System V IPC
//! calls through two multiplexers, `socketcall` and `ipc`, whose first argument says which call is meant.

use super::table::{CALLS, Column, Row};
use oci_spec::runtime::Arch;

/// The bit that marks an x32 call among those of x86_64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The size of a register that carries an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Bits32,
    Bits64,
}

/// The order of the two halves of an argument in `struct seccomp_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

/// The numbers of `socketcall` and `ipc`.
#[derive(Clone, Copy, Debug)]
struct Multiplexers {
    socketcall: u32,
    ipc: u32,
}

/// One ABI: a set of system call numbers under one audit architecture.
#[derive(Debug)]
pub(super) struct Abi {
    pub name: Arch,
    /// The value of `AUDIT_ARCH_*` that the kernel reports.
    pub audit: u32,
    pub width: Width,
    pub endian: Endian,
    column: Column,
    multiplexers: Option<Multiplexers>,
}

const fn abi(
    name: Arch,
    audit: u32,
    width: Width,
    endian: Endian,
    column: Column,
    multiplexers: Option<(u32, u32)>,
) -> Abi {
    let multiplexers = match multiplexers {
        Some((socketcall, ipc)) => Some(Multiplexers { socketcall, ipc }),
        None => None,
    };
    Abi { name, audit, width, endian, column, multiplexers }
}

use {Endian::Big, Endian::Little, Width::Bits32, Width::Bits64};

/// Every ABI that a profile may name, as runc knows them.
#[rustfmt::skip]
static ABIS: [Abi; 18] = [
    abi(Arch::ScmpArchX86_64,      0xc000_003e, Bits64, Little, Column::X86_64,      None),
    abi(Arch::ScmpArchX32,         0xc000_003e, Bits32, Little, Column::X32,         None),
    abi(Arch::ScmpArchX86,         0x4000_0003, Bits32, Little, Column::X86,         Some((102, 117))),
    abi(Arch::ScmpArchAarch64,     0xc000_00b7, Bits64, Little, Column::Aarch64,     None),
    abi(Arch::ScmpArchArm,         0x4000_0028, Bits32, Little, Column::Arm,         None),
    abi(Arch::ScmpArchRiscv64,     0xc000_00f3, Bits64, Little, Column::Riscv64,     None),
    abi(Arch::ScmpArchLoongarch64, 0xc000_0102, Bits64, Little, Column::Loongarch64, None),
    abi(Arch::ScmpArchMips,        0x0000_0008, Bits32, Big,    Column::Mips,        Some((4102, 4117))),
    abi(Arch::ScmpArchMipsel,      0x4000_0008, Bits32, Little, Column::Mips,        Some((4102, 4117))),
    abi(Arch::ScmpArchMips64,      0x8000_0008, Bits64, Big,    Column::Mips64,      None),
    abi(Arch::ScmpArchMipsel64,    0xc000_0008, Bits64, Little, Column::Mips64,      None),
    abi(Arch::ScmpArchMips64n32,   0xa000_0008, Bits32, Big,    Column::Mips64N32,   None),
    abi(Arch::ScmpArchMipsel64n32, 0xe000_0008, Bits32, Little, Column::Mips64N32,   None),
    abi(Arch::ScmpArchPpc,         0x0000_0014, Bits32, Big,    Column::Ppc,         Some((102, 117))),
    abi(Arch::ScmpArchPpc64,       0x8000_0015, Bits64, Big,    Column::Ppc64,       Some((102, 117))),
    abi(Arch::ScmpArchPpc64le,     0xc000_0015, Bits64, Little, Column::Ppc64,       Some((102, 117))),
    abi(Arch::ScmpArchS390,        0x0000_0016, Bits32, Big,    Column::S390,        Some((102, 117))),
    abi(Arch::ScmpArchS390x,       0x8000_0016, Bits64, Big,    Column::S390X,       Some((102, 117))),
];

/// The ABI this program is built for; `ScmpArchNative`, which [`find`] does not know, where the table has none for it.
#[rustfmt::skip]
pub(super) const NATIVE: Arch =
    if cfg!(all(target_arch = "x86_64", target_pointer_width = "32")) { Arch::ScmpArchX32 }
    else if cfg!(target_arch = "x86_64") { Arch::ScmpArchX86_64 }
    else if cfg!(target_arch = "x86") { Arch::ScmpArchX86 }
    else if cfg!(target_arch = "aarch64") { Arch::ScmpArchAarch64 }
    else if cfg!(target_arch = "arm") { Arch::ScmpArchArm }
    else if cfg!(target_arch = "riscv64") { Arch::ScmpArchRiscv64 }
    else if cfg!(target_arch = "loongarch64") { Arch::ScmpArchLoongarch64 }
    else if cfg!(target_arch = "s390x") { Arch::ScmpArchS390x }
    else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) { Arch::ScmpArchPpc64le }
    else if cfg!(target_arch = "powerpc64") { Arch::ScmpArchPpc64 }
    else if cfg!(target_arch = "powerpc") { Arch::ScmpArchPpc }
    else if cfg!(all(target_arch = "mips64", target_endian = "little")) { Arch::ScmpArchMipsel64 }
    else if cfg!(target_arch = "mips64") { Arch::ScmpArchMips64 }
    else if cfg!(all(target_arch = "mips", target_endian = "little")) { Arch::ScmpArchMipsel }
    else if cfg!(target_arch = "mips") { Arch::ScmpArchMips }
    else { Arch::ScmpArchNative };

/// The ABI of that name.
pub(super) fn find(name: Arch) -> Option<&'static Abi> {
    ABIS.iter().find(|abi| abi.name == name)
}

/// The ABIs that a machine's kernel may run, where `native` is its own.
pub(super) fn runnable(native: Arch) -> Vec<Arch> {
    let also: &[Arch] = match native {
        Arch::ScmpArchX86_64 => &[Arch::ScmpArchX32, Arch::ScmpArchX86],
        Arch::ScmpArchX32 => &[Arch::ScmpArchX86_64, Arch::ScmpArchX86],
        Arch::ScmpArchAarch64 => &[Arch::ScmpArchArm],
        Arch::ScmpArchMips64 => &[Arch::ScmpArchMips64n32, Arch::ScmpArchMips],
        Arch::ScmpArchMipsel64 => &[Arch::ScmpArchMipsel64n32, Arch::ScmpArchMipsel],
        Arch::ScmpArchPpc64 => &[Arch::ScmpArchPpc],
        Arch::ScmpArchS390x => &[Arch::ScmpArchS390],
        _ => &[],
    };
    [&[native], also].concat()
}

/// A system call known by name: on some ABI it has a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    row: Option<&'static Row>,
    arm_private: Option<u32>,
    socketcall: Option<u32>,
    ipc: Option<u32>,
}

/// How one ABI makes a call: by a number of its own, through a multiplexer, or both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entrances {
    pub direct: Option<u32>,
    /// The multiplexer's number and the value of its first argument.
    pub multiplexed: Option<(u32, u32)>,
}

impl Call {
    /// The call of that name, if any kernel has it.
    pub fn find(name: &str) -> Option<Call> {
        let row = CALLS.binary_search_by_key(&name, |row| row.0).ok().map(|at| &CALLS[at].1);
        let arm_private = arm_private(name);
        if row.is_none() && arm_private.is_none() {
            return None;
        }
        Some(Call { row, arm_private, socketcall: socketcall(name), ipc: ipc(name) })
    }

    /// How `abi` makes the call.
    pub fn on(&self, abi: &Abi) -> Entrances {
        let direct = self.row.and_then(|row| u32::try_from(row[abi.column as usize]).ok());
        let direct = match abi.column {
            Column::Arm => direct.or(self.arm_private),
            Column::X32 => direct.map(|number| number | X32_BIT),
            _ => direct,
        };
        let multiplexed = abi.multiplexers.and_then(|by| {
            let socket = self.socketcall.map(|argument| (by.socketcall, argument));
            socket.or_else(|| self.ipc.map(|argument| (by.ipc, argument)))
        });
        Entrances { direct, multiplexed }
    }
}

/// ARM's private calls, from its `asm/unistd.h`; their numbers lie outside the table's range.
fn arm_private(name: &str) -> Option<u32> {
    Some(match name {
        "breakpoint" => 0xf0001,
        "cacheflush" => 0xf0002,
        "usr26" => 0xf0003,
        "usr32" => 0xf0004,
        "set_tls" => 0xf0005,
        "get_tls" => 0xf0006,
        _ => return None,
    })
}

/// The first argument of `socketcall` for the call, from `linux/net.h`.
fn socketcall(name: &str) -> Option<u32> {
    Some(match name {
        "socket" => 1,
        "bind" => 2,
        "connect" => 3,
        "listen" => 4,
        "accept" => 5,
        "getsockname" => 6,
        "getpeername" => 7,
        "socketpair" => 8,
        "send" => 9,
        "recv" => 10,
        "sendto" => 11,
        "recvfrom" => 12,
        "shutdown" => 13,
        "setsockopt" => 14,
        "getsockopt" => 15,
        "sendmsg" => 16,
        "recvmsg" => 17,
        "accept4" => 18,
        "recvmmsg" => 19,
        "sendmmsg" => 20,
        _ => return None,
    })
}

/// The first argument of `ipc` for the call, from `linux/ipc.h`.
fn ipc(name: &str) -> Option<u32> {
    Some(match name {
        "semop" => 1,
        "semget" => 2,
        "semctl" => 3,
        "semtimedop" => 4,
        "msgsnd" => 11,
        "msgrcv" => 12,
        "msgget" => 13,
        "msgctl" => 14,
        "shmat" => 21,
        "shmdt" => 22,
        "shmget" => 23,
        "shmctl" => 24,
        _ => return None,
    })
}
