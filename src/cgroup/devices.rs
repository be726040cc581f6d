//! Which devices the container may use: config-linux.md#allowed-device-list (runtime-spec v1.3.0).
//!
//! v1 has allow and deny lists, where a later entry cannot cut a hole into a wildcard before it. v2
//! has a program that the kernel asks on each open and mknod; it is compiled here, so that the last
//! rule that mentions an access decides about it. To both lists the devices that every container has
//! are added at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::AsFd;

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::dir::Dir;
use crate::error::{Result, Why};
use crate::sys::{self, bpf, process};

/// BPF_DEVCG_ACC_MKNOD.
const MKNOD: u8 = 1;
/// BPF_DEVCG_ACC_READ.
const READ: u8 = 2;
/// BPF_DEVCG_ACC_WRITE.
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// The kinds of devices, with the kernel's BPF_DEVCG_DEV_* numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Block = 1,
    Char = 2,
}

/// Which devices a rule is about; `None` is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Match {
    pub kind: Kind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
}

/// One rule of the list, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub allow: bool,
    /// `None` is every device, which forgets all rules before.
    pub of: Option<Match>,
    pub access: u8,
}

const fn usual(major: u32, minor: Option<u32>) -> Rule {
    Rule { allow: true, of: Some(Match { kind: Kind::Char, major: Some(major), minor }), access: ALL }
}

const fn mknod(kind: Kind) -> Rule {
    Rule { allow: true, of: Some(Match { kind, major: None, minor: None }), access: MKNOD }
}

/// What every container has: mknod, null, random, full, tty, zero, urandom, the pseudo-terminals, ptmx and tun.
const DEFAULTS: [Rule; 11] = [
    mknod(Kind::Char),
    mknod(Kind::Block),
    usual(1, Some(3)),
    usual(1, Some(8)),
    usual(1, Some(7)),
    usual(5, Some(0)),
    usual(1, Some(5)),
    usual(1, Some(9)),
    usual(136, None),
    usual(5, Some(2)),
    usual(10, Some(200)),
];

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = if self.kind == Kind::Block { 'b' } else { 'c' };
        write!(f, "{kind} {}:{}", star(self.major), star(self.minor))
    }
}

pub(super) fn access_text(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].iter().filter(|(bit, _)| access & bit != 0).map(|(_, c)| *c).collect()
}

/// The rules of a config and the defaults.
///
/// # Errors
/// An unknown type or access, or a number out of range.
pub(super) fn rules(list: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut rules = Vec::with_capacity(list.len() + DEFAULTS.len());
    for (index, each) in list.iter().enumerate() {
        let json = format!("linux.resources.devices[{index}]");
        let kind = match each.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A => None,
            LinuxDeviceType::B => Some(Kind::Block),
            LinuxDeviceType::C => Some(Kind::Char),
            other => bail!("{json}.type: invalid cgroup device type {:?}", other.as_str()),
        };
        let text = each.access().as_deref().unwrap_or_default();
        if text.is_empty() {
            bail!("{json}: device access at {index} field cannot be empty");
        }
        let mut access = 0;
        for c in text.chars() {
            access |= match c {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                // As in runc.
                'a' => 0,
                _ => bail!("{json}.access: unknown device access {c:?}"),
            };
        }
        let (major, minor) = (number(each.major(), &json, "major")?, number(each.minor(), &json, "minor")?);
        rules.push(Rule { allow: each.allow(), of: kind.map(|kind| Match { kind, major, minor }), access });
    }
    rules.extend(DEFAULTS);
    Ok(rules)
}

/// Majors have 12 bits and minors 20 in the kernel; -1 is any.
fn number(value: Option<i64>, json: &str, name: &str) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match i32::try_from(value) {
            Ok(number @ 0..) => Ok(Some(number as u32)),
            _ => Err(anyhow!("{json}.{name}: invalid {name} {value}")),
        },
    }
}

/// One eBPF instruction in the kernel's encoding.
fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    let [off_low, off_high] = off.to_ne_bytes();
    let [a, b, c, d] = imm.to_ne_bytes();
    // The register nibbles change places with the byte order.
    let registers = if cfg!(target_endian = "little") { src << 4 | dst } else { dst << 4 | src };
    u64::from_ne_bytes([code, registers, off_low, off_high, a, b, c, d])
}

/// BPF_LDX | BPF_MEM | BPF_W
const LOAD_WORD: u8 = 0x61;
/// BPF_LD | BPF_IMM | BPF_DW: a 64-bit constant, in two slots.
const LOAD_IMM: u8 = 0x18;
/// BPF_ALU64 | BPF_MOV | BPF_X
const MOV: u8 = 0xbf;
/// BPF_ALU64 | BPF_MOV | BPF_K
const MOV_IMM: u8 = 0xb7;
/// BPF_ALU64 | BPF_AND | BPF_X
const AND: u8 = 0x5f;
/// BPF_ALU64 | BPF_AND | BPF_K
const AND_IMM: u8 = 0x57;
/// BPF_ALU64 | BPF_OR | BPF_X
const OR: u8 = 0x4f;
/// BPF_ALU64 | BPF_OR | BPF_K
const OR_IMM: u8 = 0x47;
/// BPF_ALU64 | BPF_XOR | BPF_X
const XOR: u8 = 0xaf;
/// BPF_ALU64 | BPF_XOR | BPF_K
const XOR_IMM: u8 = 0xa7;
/// BPF_ALU64 | BPF_SUB | BPF_K
const SUB_IMM: u8 = 0x17;
/// BPF_ALU64 | BPF_MUL | BPF_K
const MUL_IMM: u8 = 0x27;
/// BPF_ALU64 | BPF_LSH | BPF_K
const LSH_IMM: u8 = 0x67;
/// BPF_ALU64 | BPF_RSH | BPF_K
const RSH_IMM: u8 = 0x77;
/// BPF_JMP | BPF_EXIT
const EXIT: u8 = 0x95;

/// The kernel's device numbers have 12 and 20 bits.
const MAJOR_BITS: u32 = 12;
const MINOR_BITS: u32 = 20;

/// A device program for v2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program(Vec<u64>);

/// Compiles the rules; `None` when they allow everything, which needs no program.
///
/// r0 collects the accesses that are allowed, rule by rule, so the last rule that mentions an access
/// decides about it. There is no jump in the program: the kernel's verifier follows each way through
/// it, and with three jumps a rule that took several times as long as making the cgroup itself.
/// (Nor is a mask of all ones or none: recent verifiers follow both of its values like a jump.)
pub(super) fn compile(rules: &[Rule]) -> Option<Program> {
    let reset = rules.iter().rposition(|rule| rule.of.is_none());
    let default = reset.and_then(|at| rules.get(at)).is_some_and(|rule| rule.allow);
    let rest = rules.get(reset.map_or(0, |at| at + 1)..).unwrap_or_default();
    if default && rest.iter().all(|rule| rule.allow) {
        return None;
    }
    let mut code = vec![
        // r3: the accesses asked for; r2: the kind; r7: kind and major; r6: kind, major and minor.
        insn(LOAD_WORD, 2, 1, 0, 0),
        insn(MOV, 3, 2, 0, 0),
        insn(RSH_IMM, 3, 0, 0, 16),
        insn(AND_IMM, 2, 0, 0, 0xffff),
        insn(LOAD_WORD, 4, 1, 4, 0),
        insn(LOAD_WORD, 5, 1, 8, 0),
        insn(MOV, 7, 2, 0, 0),
        insn(LSH_IMM, 7, 0, 0, MAJOR_BITS as i32),
        insn(OR, 7, 4, 0, 0),
        insn(MOV, 6, 7, 0, 0),
        insn(LSH_IMM, 6, 0, 0, MINOR_BITS as i32),
        insn(OR, 6, 5, 0, 0),
        insn(MOV_IMM, 0, 0, 0, if default { i32::from(ALL) } else { 0 }),
    ];
    let mut rest = rest;
    while let [rule, after @ ..] = rest {
        rest = after;
        match (rule.of, after) {
            // One access to all character devices and then to all block devices is one to all devices.
            (Some(Match { kind, major: None, minor: None }), [next, after @ ..]) if next.completes(rule, kind) => {
                rest = after;
                everything(&mut code, rule);
            }
            (Some(of), _) => one(&mut code, of, rule),
            (None, _) => {}
        }
    }
    code.extend([
        // What is asked for and not allowed, which must be nothing: 1 for 0, and 0 for 1 to 7.
        insn(XOR_IMM, 0, 0, 0, i32::from(ALL)),
        insn(AND, 0, 3, 0, 0),
        insn(SUB_IMM, 0, 0, 0, 1),
        insn(RSH_IMM, 0, 0, 0, 63),
        insn(EXIT, 0, 0, 0, 0),
    ]);
    Some(Program(code))
}

impl Rule {
    fn completes(&self, other: &Rule, kind: Kind) -> bool {
        let rest = Match { kind: if kind == Kind::Char { Kind::Block } else { Kind::Char }, major: None, minor: None };
        self.of == Some(rest) && self.allow == other.allow && self.access == other.access
    }
}

fn everything(code: &mut Vec<u64>, rule: &Rule) {
    match rule.allow {
        true => code.push(insn(OR_IMM, 0, 0, 0, i32::from(rule.access))),
        false => code.push(insn(AND_IMM, 0, 0, 0, i32::from(ALL & !rule.access))),
    }
}

fn one(code: &mut Vec<u64>, of: Match, rule: &Rule) {
    let kind = of.kind as u64;
    // No device has a number that is out of range, and it must not be taken for another one's.
    if of.major.is_some_and(|major| major >> MAJOR_BITS != 0) || of.minor.is_some_and(|minor| minor >> MINOR_BITS != 0)
    {
        return;
    }
    // r1 becomes 0 for a device that the rule is about, and something positive for others.
    match (of.major.map(u64::from), of.minor.map(u64::from)) {
        (Some(major), Some(minor)) => {
            let key = (kind << MAJOR_BITS | major) << MINOR_BITS | minor;
            code.extend([insn(LOAD_IMM, 1, 0, 0, key as u32 as i32), insn(0, 0, 0, 0, (key >> 32) as i32)]);
            code.push(insn(XOR, 1, 6, 0, 0));
        }
        (Some(major), None) => {
            code.extend([insn(MOV, 1, 7, 0, 0), insn(XOR_IMM, 1, 0, 0, (kind << MAJOR_BITS | major) as i32)]);
        }
        (None, None) => code.extend([insn(MOV, 1, 2, 0, 0), insn(XOR_IMM, 1, 0, 0, kind as i32)]),
        (None, Some(minor)) => {
            code.extend([insn(MOV, 1, 2, 0, 0), insn(LSH_IMM, 1, 0, 0, MINOR_BITS as i32), insn(OR, 1, 5, 0, 0)]);
            code.push(insn(XOR_IMM, 1, 0, 0, (kind << MINOR_BITS | minor) as i32));
        }
    }
    // 1 for 0 and 0 for the rest, times the accesses.
    code.extend([
        insn(SUB_IMM, 1, 0, 0, 1),
        insn(RSH_IMM, 1, 0, 0, 63),
        insn(MUL_IMM, 1, 0, 0, i32::from(rule.access)),
    ]);
    match rule.allow {
        true => code.push(insn(OR, 0, 1, 0, 0)),
        false => code.extend([insn(XOR_IMM, 1, 0, 0, i32::from(ALL)), insn(AND, 0, 1, 0, 0)]),
    }
}

impl Program {
    /// Loads the program and attaches it; in a cgroup that was there before, it takes the place of the old ones.
    ///
    /// # Errors
    /// Those of bpf(2).
    pub fn attach(&self, dir: &Dir, exists: bool) -> Result<()> {
        let program = load(&self.0).why(|| "bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE)")?;
        let failed = || "failed to call BPF_PROG_ATTACH (BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI)";
        let old = if exists { bpf::device_programs(dir.as_fd()).why(|| "bpf(BPF_PROG_QUERY)")? } else { Vec::new() };
        if let [only] = old.as_slice() {
            match bpf::attach_device_program(dir.as_fd(), program.as_fd(), Some(only.as_fd())) {
                // BPF_F_REPLACE is Linux 5.6; without it both are in force for a moment.
                Err(Errno::EINVAL) => {}
                other => return other.why(failed),
            }
        }
        bpf::attach_device_program(dir.as_fd(), program.as_fd(), None).why(failed)?;
        for program in &old {
            bpf::detach_device_program(dir.as_fd(), program.as_fd()).why(|| "bpf(BPF_PROG_DETACH)")?;
        }
        Ok(())
    }
}

/// The number's type differs between C libraries.
#[allow(clippy::unnecessary_cast)]
const MEMLOCK: u32 = libc::RLIMIT_MEMLOCK as u32;

fn load(code: &[u64]) -> sys::Result<std::os::fd::OwnedFd> {
    match bpf::load_device_program(code) {
        // Before Linux 5.11 programs count against RLIMIT_MEMLOCK; the container does not inherit the raised one.
        Err(Errno::EPERM) => {
            let (soft, hard) = process::getrlimit(MEMLOCK)?;
            if process::prlimit(0, MEMLOCK, libc::RLIM_INFINITY, libc::RLIM_INFINITY).is_err() {
                return Err(Errno::EPERM);
            }
            let loaded = bpf::load_device_program(code);
            process::prlimit(0, MEMLOCK, soft, hard)?;
            loaded
        }
        other => other,
    }
}

/// The allow or deny list of a v1 cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct List {
    allowed: bool,
    exceptions: BTreeMap<Match, u8>,
}

impl List {
    /// What the rules come to on v1.
    ///
    /// # Errors
    /// A rule that v1 would silently ignore.
    pub fn of(rules: &[Rule]) -> Result<List> {
        let mut list = List::default();
        for rule in rules {
            match rule.of {
                None => list = List { allowed: rule.allow, exceptions: BTreeMap::new() },
                Some(of) if rule.allow == list.allowed => list.subtract(of, rule.access)?,
                Some(of) => *list.exceptions.entry(of).or_default() |= rule.access,
            }
        }
        Ok(list)
    }

    /// The kernel takes an exception back only where the very same one was made; a hole in a wildcard it ignores.
    fn subtract(&mut self, of: Match, access: u8) -> Result<()> {
        for wild in [Match { major: None, ..of }, Match { minor: None, ..of }, Match { major: None, minor: None, ..of }]
        {
            let wide = self.exceptions.get(&wild).copied().unwrap_or_default();
            if wild != of && wide & access != 0 {
                bail!(
                    "linux.resources.devices: requested rule [{of} {}] not supported by devices cgroupv1 \
                     (cannot punch hole in existing wildcard rule [{wild} {}])",
                    access_text(access),
                    access_text(wide)
                );
            }
        }
        if let Some(left) = self.exceptions.get_mut(&of) {
            *left &= !access;
        }
        self.exceptions.retain(|_, access| *access != 0);
        Ok(())
    }

    /// What the kernel shows in devices.list: allowed devices, or one line for all.
    fn parse(text: &str) -> List {
        let mut list = List::default();
        for line in text.lines() {
            let mut fields = line.split([' ', ':']);
            let kind = match fields.next() {
                Some("a") => return List { allowed: true, exceptions: BTreeMap::new() },
                Some("b") => Kind::Block,
                Some("c") => Kind::Char,
                _ => continue,
            };
            let (major, minor) = (fields.next(), fields.next());
            let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
            let of = Match { kind, major: number(major), minor: number(minor) };
            let bits = [('r', READ), ('w', WRITE), ('m', MKNOD)];
            let access = fields.next().unwrap_or_default();
            let access = bits.iter().filter(|(c, _)| access.contains(*c)).fold(0, |bits, (_, bit)| bits | bit);
            *list.exceptions.entry(of).or_default() |= access;
        }
        list
    }

    /// The writes (file, line) that lead from one list to another, disturbing running programs as little as possible.
    fn steps_from(&self, now: &List) -> Vec<(&'static str, String)> {
        let mut steps = Vec::new();
        let file = |allow| if allow { "devices.allow" } else { "devices.deny" };
        let mut old = now.exceptions.clone();
        // The exceptions of a list that allows by default cannot be read back, so it is always started afresh.
        if now.allowed || self.allowed {
            steps.push((file(self.allowed), "a".to_owned()));
            old.clear();
        }
        for (of, access) in &old {
            let gone = access & !self.exceptions.get(of).copied().unwrap_or_default();
            if gone != 0 {
                steps.push((file(self.allowed), format!("{of} {}", access_text(gone))));
            }
        }
        for (of, access) in &self.exceptions {
            let new = access & !old.get(of).copied().unwrap_or_default();
            if new != 0 {
                steps.push((file(!self.allowed), format!("{of} {}", access_text(new))));
            }
        }
        steps
    }

    /// Writes the list into a v1 devices cgroup.
    ///
    /// # Errors
    /// The refused line and why.
    pub fn write(&self, dir: &Dir) -> Result<()> {
        let now = List::parse(&dir.read("devices.list").why(|| format!("read {}/devices.list", dir.path))?);
        if now == *self && !self.allowed {
            return Ok(());
        }
        let mut open: Option<(&str, std::os::fd::OwnedFd)> = None;
        for (file, line) in self.steps_from(&now) {
            let what = || format!("failed to write {line:?} to {}/{file}", dir.path);
            let fd = match open.take() {
                Some((name, fd)) if name == file => fd,
                _ => dir.file(file, libc::O_WRONLY).why(what)?,
            };
            crate::sys::fd::write_once(fd.as_fd(), line.as_bytes()).why(what)?;
            open = Some((file, fd));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(json: &str) -> Result<Vec<Rule>> {
        rules(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap())
    }

    /// Runs a program as the kernel would, for the instructions that are in use.
    fn ask(program: &Program, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let mut r = [0_u64; 8];
        let mut at = 0;
        loop {
            let [code, registers, low, high, a, b, c, d] = program.0[at].to_le_bytes();
            let (dst, src) = ((registers & 15) as usize, (registers >> 4) as usize);
            let (off, imm) = (i16::from_le_bytes([low, high]), i32::from_le_bytes([a, b, c, d]));
            let wide = imm as i64 as u64;
            at += 1;
            r[dst] = match code {
                LOAD_WORD => u64::from(context[off as usize / 4]),
                LOAD_IMM => {
                    at += 1;
                    u64::from(imm as u32) | program.0[at - 1] >> 32 << 32
                }
                MOV => r[src],
                MOV_IMM => wide,
                AND => r[dst] & r[src],
                AND_IMM => r[dst] & wide,
                OR => r[dst] | r[src],
                OR_IMM => r[dst] | wide,
                XOR => r[dst] ^ r[src],
                XOR_IMM => r[dst] ^ wide,
                SUB_IMM => r[dst].wrapping_sub(wide),
                MUL_IMM => r[dst].wrapping_mul(wide),
                LSH_IMM => r[dst] << imm,
                RSH_IMM => r[dst] >> imm,
                EXIT => return r[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            };
        }
    }

    #[test]
    fn a_container_has_the_usual_devices_and_no_others() {
        let program = compile(&list(r#"[{"allow":false,"access":"rwm"}]"#).unwrap()).unwrap();
        assert!(ask(&program, Kind::Char, 1, 3, READ | WRITE));
        assert!(ask(&program, Kind::Char, 136, 77, ALL));
        assert!(ask(&program, Kind::Block, 8, 0, MKNOD));
        assert!(!ask(&program, Kind::Block, 8, 0, READ));
        assert!(!ask(&program, Kind::Char, 1, 1, READ));
        assert!(!ask(&program, Kind::Char, 1, 11, READ | MKNOD));
        // No list at all is the same.
        assert_eq!(compile(&list("[]").unwrap()), Some(program));
    }

    #[test]
    fn allowing_everything_needs_no_program() {
        assert_eq!(compile(&list(r#"[{"allow":true,"access":"rwm"}]"#).unwrap()), None);
        let but = r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"minor":0,"access":"w"}]"#;
        let program = compile(&list(but).unwrap()).unwrap();
        assert!(!ask(&program, Kind::Block, 8, 0, READ | WRITE));
        assert!(ask(&program, Kind::Block, 8, 0, READ));
        assert!(ask(&program, Kind::Block, 8, 1, ALL));
    }

    #[test]
    fn the_last_rule_that_mentions_an_access_decides() {
        let text = r#"[{"allow":true,"access":"rwm"},{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":10,"minor":-1,"access":"rw"},
            {"allow":false,"type":"c","major":10,"minor":229,"access":"w"},
            {"allow":true,"type":"c","major":7,"minor":1,"access":"r"},
            {"allow":true,"type":"c","major":7,"minor":1,"access":"w"}]"#;
        let program = compile(&list(text).unwrap()).unwrap();
        assert!(ask(&program, Kind::Char, 10, 1, READ | WRITE));
        assert!(ask(&program, Kind::Char, 10, 229, READ));
        assert!(!ask(&program, Kind::Char, 10, 229, READ | WRITE));
        assert!(ask(&program, Kind::Char, 7, 1, READ | WRITE));
        assert!(!ask(&program, Kind::Char, 7, 2, READ));
    }

    #[test]
    fn every_wildcard_matches_what_it_says() {
        let deny = r#"{"allow":false,"access":"rwm"}"#;
        let with = |rule: &str| compile(&list(&format!("[{deny},{rule}]")).unwrap()).unwrap();
        let minor = with(r#"{"allow":true,"type":"b","minor":5,"access":"r"}"#);
        assert!(ask(&minor, Kind::Block, 4095, 5, READ) && !ask(&minor, Kind::Block, 4095, 6, READ));
        assert!(!ask(&minor, Kind::Char, 4095, 5, READ));
        let major = with(r#"{"allow":true,"type":"b","major":4095,"access":"rw"}"#);
        assert!(ask(&major, Kind::Block, 4095, 1_048_575, WRITE) && !ask(&major, Kind::Block, 4094, 0, WRITE));
        let kind = with(r#"{"allow":true,"type":"c","access":"r"}"#);
        assert!(ask(&kind, Kind::Char, 9, 9, READ) && !ask(&kind, Kind::Block, 9, 9, READ));
        // The numbers 5 and 2^20 put together have the bits of 6 and 0.
        let large = with(r#"{"allow":true,"type":"c","major":5,"minor":1048576,"access":"r"}"#);
        assert!(!ask(&large, Kind::Char, 6, 0, READ) && !ask(&large, Kind::Char, 7, 0, READ));
    }

    #[test]
    fn v1_cannot_cut_holes_into_wildcards() {
        let text = r#"[{"allow":true,"type":"c","major":10,"access":"rw"},{"allow":false,"type":"c","major":10,"minor":229,"access":"w"}]"#;
        let error = List::of(&list(text).unwrap()).unwrap_err().to_string();
        assert!(error.contains("[c 10:229 w] not supported by devices cgroupv1 (cannot punch hole in existing wildcard rule [c 10:* rw])"), "{error}");
    }

    #[test]
    fn v1_lists_change_as_little_as_possible() {
        let target =
            List::of(&list(r#"[{"allow":true,"type":"b","major":8,"minor":0,"access":"r"}]"#).unwrap()).unwrap();
        let fresh = target.steps_from(&List::parse("a *:* rwm\n"));
        assert_eq!(fresh.first(), Some(&("devices.deny", "a".to_owned())));
        assert!(
            fresh.contains(&("devices.allow", "b 8:0 r".to_owned()))
                && fresh.contains(&("devices.allow", "c 1:3 rwm".to_owned()))
        );
        let now = List::parse(
            "c *:* m\nb *:* m\nc 1:3 rwm\nc 1:8 rwm\nc 1:7 rwm\nc 5:0 rwm\nc 1:5 rwm\nc 1:9 rwm\nc 136:* rwm\nc 5:2 rwm\nc 10:200 rw\nb 8:1 r\n",
        );
        let steps = target.steps_from(&now);
        let expected = [("devices.deny", "b 8:1 r"), ("devices.allow", "b 8:0 r"), ("devices.allow", "c 10:200 m")];
        assert_eq!(steps, expected.map(|(file, line)| (file, line.to_owned())));
    }

    #[test]
    fn wrong_rules_are_refused_with_their_place() {
        for (text, part) in [
            (r#"[{"allow":true}]"#, "linux.resources.devices[0]: device access at 0 field cannot be empty"),
            (r#"[{"allow":true,"type":"p","access":"r"}]"#, "devices[0].type: invalid cgroup device type"),
            (r#"[{"allow":true,"access":"rx"}]"#, "devices[0].access: unknown device access 'x'"),
            (r#"[{"allow":true,"type":"c","major":-2,"access":"r"}]"#, "devices[0].major: invalid major -2"),
        ] {
            let error = list(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
