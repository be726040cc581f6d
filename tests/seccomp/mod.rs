//! What the tests of seccomp filters share: an interpreter of BPF programs, architectures, and profiles.

#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, clippy::panic)]

pub mod oracle;

use oci_spec::runtime::{Arch, LinuxSeccomp};
use orlop::seccomp::Filter;
use serde_json::Value;

/// One instruction as the kernel has it: code, jt, jf, k.
pub type Instruction = (u16, u8, u8, u32);

/// A system call as a filter sees it.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub arch: u32,
    pub number: u32,
    pub args: [u64; 6],
    pub big_endian: bool,
}

/// What a program answered, how many instructions it took, and whether it looked at the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub answer: u32,
    pub steps: usize,
    pub saw_arguments: bool,
}

impl Call {
    /// The word at an offset of `struct seccomp_data`.
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.args[(offset as usize - 16) / 8];
                if (offset % 8 == 4) != self.big_endian { (argument >> 32) as u32 } else { argument as u32 }
            }
            _ => panic!("the program loads a word at {offset}"),
        }
    }
}

/// Runs a program as the kernel does, and refuses what the kernel's checker refuses.
pub fn run(program: &[Instruction], call: &Call) -> Outcome {
    let (mut at, mut accumulator, mut steps, mut saw_arguments) = (0, 0, 0, false);
    loop {
        let &(code, jt, jf, k) = program.get(at).unwrap_or_else(|| panic!("the program jumps to {at}, behind its end"));
        steps += 1;
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x06 => return Outcome { answer: k, steps, saw_arguments },
            0x20 => {
                saw_arguments |= k >= 16;
                accumulator = call.word(k);
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x45 => branch(accumulator & k != 0),
            _ => panic!("the program has the instruction {code:#x}"),
        }
    }
}

/// A filter's program as plain numbers.
pub fn instructions(filter: &Filter) -> Vec<Instruction> {
    filter.program.iter().map(|instruction| (instruction.code, instruction.jt, instruction.jf, instruction.k)).collect()
}

/// An architecture of the tests: its name in profiles, audit value, byte order, and the first numbers of its calls.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub name: &'static str,
    pub audit: u32,
    pub big_endian: bool,
    pub base: u32,
    pub bits: u32,
}

const fn machine(name: &'static str, audit: u32, big_endian: bool, base: u32) -> Machine {
    // Audit values mark 64-bit architectures; x32 and n32 have the registers of one, but pass 32 bits.
    let narrow = base == X32 || base == 6000;
    Machine { name, audit, big_endian, base, bits: if audit & 0x8000_0000 != 0 && !narrow { 64 } else { 32 } }
}

/// The bit in the numbers of x32 calls.
const X32: u32 = 0x4000_0000;

/// Every architecture that a profile may name.
pub const MACHINES: [Machine; 18] = [
    machine("SCMP_ARCH_X86_64", 0xc000_003e, false, 0),
    machine("SCMP_ARCH_X86", 0x4000_0003, false, 0),
    machine("SCMP_ARCH_X32", 0xc000_003e, false, X32),
    machine("SCMP_ARCH_AARCH64", 0xc000_00b7, false, 0),
    machine("SCMP_ARCH_ARM", 0x4000_0028, false, 0),
    machine("SCMP_ARCH_RISCV64", 0xc000_00f3, false, 0),
    machine("SCMP_ARCH_LOONGARCH64", 0xc000_0102, false, 0),
    machine("SCMP_ARCH_MIPS", 0x8, true, 4000),
    machine("SCMP_ARCH_MIPSEL", 0x4000_0008, false, 4000),
    machine("SCMP_ARCH_MIPS64", 0x8000_0008, true, 5000),
    machine("SCMP_ARCH_MIPSEL64", 0xc000_0008, false, 5000),
    machine("SCMP_ARCH_MIPS64N32", 0xa000_0008, true, 6000),
    machine("SCMP_ARCH_MIPSEL64N32", 0xe000_0008, false, 6000),
    machine("SCMP_ARCH_PPC", 0x14, true, 0),
    machine("SCMP_ARCH_PPC64", 0x8000_0015, true, 0),
    machine("SCMP_ARCH_PPC64LE", 0xc000_0015, false, 0),
    machine("SCMP_ARCH_S390", 0x16, true, 0),
    machine("SCMP_ARCH_S390X", 0x8000_0016, true, 0),
];

/// The machine of that name.
pub fn machine_named(name: &str) -> Machine {
    *MACHINES.iter().find(|machine| machine.name == name).unwrap()
}

impl Machine {
    /// Its name as oci-spec has it.
    pub fn arch(&self) -> Arch {
        serde_json::from_value(self.name.into()).unwrap()
    }

    /// A call on it.
    pub fn call(&self, number: u32, args: [u64; 6]) -> Call {
        Call { arch: self.audit, number, args, big_endian: self.big_endian }
    }
}

/// A profile from its JSON.
pub fn profile(json: Value) -> LinuxSeccomp {
    serde_json::from_value(json).unwrap()
}

/// A source of numbers that are the same in each run.
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below the bound.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// One of the choices.
    pub fn one<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}
