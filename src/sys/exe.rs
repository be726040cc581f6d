//! The runtime's own binary, out of the container's reach (CVE-2019-5736).
//!
//! A process of the container can open /proc/PID/exe of a runtime process that it sees, or make
//! itself one with `#!/proc/self/exe`, and later write to the file. So a command that enters a container makes a
//! detached, read-only clone of the mount that the binary is on, and moves onto it first thing: it maps its own segments from
//! there in place of the old ones, and names the clone as its executable, which init is then born with.
//! Where the kernel cannot do the last, the runtime executes itself again from the clone; where there can be no
//! clone (no privilege, a kernel before 5.12), from a sealed copy in memory.

use std::ffi::{CStr, CString, c_int, c_void};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::mount::{MountAttr, mount_setattr, open_tree};
use super::process::Strings;
use super::{Errno, Result, check, copy, fd};
use crate::error::{self, Why};

/// Numbers from here on are not those of `--preserve-fds`.
const HIGH: i32 = 512;

const SELF: &CStr = c"/proc/self/exe";

/// A read-only clone of the mount that this program's binary is on, from where this process runs.
///
/// To be dropped at a moment when nobody waits for this process: the kernel takes the mount away then, and waits for
/// the readers of its mount tables.
#[derive(Debug)]
pub struct Binary(OwnedFd);

impl Binary {
    /// The mount's descriptor.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes the binary out of the container's reach, unless this program already runs from a read-only place.
///
/// `passes_on`: whether descriptors of the caller go to the container, whose numbers are then left alone.
///
/// # Errors
/// When neither a read-only clone of the mount nor a sealed copy can be made.
pub fn protect(passes_on: bool) -> error::Result<Option<Binary>> {
    let place = match Place::by_path() {
        Some((mount, file)) => Place::Clone { mount, file },
        None => Place::by_proc()?,
    };
    let file = match place {
        Place::Protected => return Ok(None),
        Place::Clone { mount, file } if move_onto(file.as_fd()).is_ok() => {
            let kept = if passes_on { raised(mount) } else { Ok(mount) };
            return kept.map(|mount| Some(Binary(mount))).why(|| "keeping the clone of the binary's mount");
        }
        Place::Clone { file, .. } | Place::Copy(file) => file,
    };
    let argv = super::start::args().into_iter().filter_map(|arg| CString::new(arg.into_vec()).ok()).collect();
    let env = std::env::vars_os()
        .filter_map(|(key, value)| {
            let mut pair = key.into_vec();
            pair.push(b'=');
            pair.extend(value.into_vec());
            CString::new(pair).ok()
        })
        .collect();
    Err(Strings::new(env).execveat(file.as_fd(), &Strings::new(argv))).why(|| "executing the protected runtime binary")
}

/// Where the binary can be executed from.
enum Place {
    /// It is there already.
    Protected,
    /// The binary in a read-only clone of its mount.
    Clone { mount: OwnedFd, file: OwnedFd },
    /// A sealed copy.
    Copy(OwnedFd),
}

impl Place {
    /// A read-only clone, and the binary in it, by the path that the program was executed by, where it leads to the same program:
    /// /proc is not asked then, which takes the kernel longer than all else here.
    fn by_path() -> Option<(OwnedFd, OwnedFd)> {
        let image = Image::own()?;
        let (dir, name) = executed_path()?;
        let mount = open_tree(fd::cwd(), &dir, libc::OPEN_TREE_CLONE).ok()?;
        // No link, which could lead out of the clone.
        let file = fd::openat(mount.as_fd(), &name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0).ok()?;
        // That this file is on a read-only mount does not say that the program runs from there: a mount on the file itself is
        // not in the clone.
        if !image.is_of(file.as_fd()) || is_read_only(file.as_fd()) {
            return None;
        }
        make_read_only(mount.as_fd()).ok()?;
        Some((mount, file))
    }

    /// By /proc.
    fn by_proc() -> error::Result<Place> {
        let exe = fd::open(SELF, libc::O_RDONLY, 0).why(|| "opening /proc/self/exe")?;
        if is_read_only(exe.as_fd()) || is_sealed(exe.as_fd()) {
            return Ok(Place::Protected);
        }
        let clone = || {
            let mount = open_tree(exe.as_fd(), c"", libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32)?;
            make_read_only(mount.as_fd())?;
            let path = CString::new(format!("/proc/self/fd/{}", mount.as_raw_fd())).map_err(|_| Errno::EINVAL)?;
            Ok::<_, Errno>(Place::Clone { file: fd::open(&path, libc::O_RDONLY, 0)?, mount })
        };
        clone().or_else(|_| sealed_copy(exe).map(Place::Copy).why(|| "making a sealed copy of the runtime's binary"))
    }
}

fn is_read_only(file: BorrowedFd<'_>) -> bool {
    fstatvfs(file).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY))
}

/// Whether it is a memfd that nobody can write to.
fn is_sealed(file: BorrowedFd<'_>) -> bool {
    fcntl(file, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE))
}

fn make_read_only(tree: BorrowedFd<'_>) -> Result<()> {
    mount_setattr(tree, MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() }, 0, None)
}

/// The directory and the name that execve was given (`AT_EXECFN` of getauxval(3)).
fn executed_path() -> Option<(CString, CString)> {
    // SAFETY: getauxval reads what the kernel has given this process at its start.
    let path = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if path.is_null() {
        return None;
    }
    // SAFETY: the kernel has put a C string there, which stays for as long as the program runs.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    let at = path.iter().rposition(|byte| *byte == b'/');
    let (dir, name) = path.split_at(at.map_or(0, |at| at + 1));
    let dir = if dir.is_empty() { b".".as_slice() } else { dir };
    Some((CString::new(dir).ok()?, CString::new(name).ok()?))
}

/// The same with a high number, as low ones are those of descriptors that the caller may want to pass on.
fn raised(fd: OwnedFd) -> Result<OwnedFd> {
    match fd::duplicate_from(fd.as_fd(), HIGH) {
        // Not so many are allowed, or all of them are open.
        Err(Errno::EINVAL | Errno::EMFILE) => {
            let most = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?.0 as i32;
            Ok(fd::duplicate_from(fd.as_fd(), most.saturating_sub(4).max(3)).unwrap_or(fd))
        }
        other => other,
    }
}

/// Makes the file in the clone this process's executable, without an execve.
///
/// The kernel changes /proc/self/exe only when nothing of the old file is mapped (prctl(2),
/// `PR_SET_MM_EXE_FILE`). So what is read-only is mapped again, and what is writable becomes memory of no file.
///
/// # Errors
/// Those of mmap(2) and prctl(2). What has been mapped by then is what was there before.
fn move_onto(file: BorrowedFd<'_>) -> Result<()> {
    let image = Image::own().ok_or(Errno::ENOEXEC)?;
    for segment in image.segments() {
        segment.move_to(file)?;
    }
    image.protect_relocated()?;
    name_executable(file, || Map::own(&image, &Stack::own(), file))
}

/// The program headers of this program, and how far from their addresses it was loaded.
struct Image {
    headers: &'static [libc::Elf64_Phdr],
    bias: usize,
    /// The size of a page, in bytes.
    page: usize,
}

/// A loadable segment in memory, in whole pages.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    start: usize,
    /// As far as it comes from the file; what is behind is memory of no file already.
    len: usize,
    offset: i64,
    prot: c_int,
}

impl Image {
    fn own() -> Option<Image> {
        extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
            let found: *mut Option<Image> = found.cast();
            // SAFETY: the C library passes a structure that it has filled.
            let info = unsafe { &*info };
            // SAFETY: headers of the program itself are mapped as long as it runs, and there are that many.
            let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
            // SAFETY: this is the pointer that was passed below, to a value that outlives the call.
            unsafe { *found = Some(Image { headers, bias: info.dlpi_addr as usize, page: page_size() }) };
            1 // The program itself comes first; libraries do not matter.
        }
        let mut found: Option<Image> = None;
        // SAFETY: the callback takes the pointer for what it is.
        unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut found).cast()) };
        found
    }

    /// Whether the file has this very program: as far as the number that the linker gives each build (NT_GNU_BUILD_ID), which
    /// is behind the headers, it begins with what is in memory, and it is as long.
    fn is_of(&self, file: BorrowedFd<'_>) -> bool {
        let Some(head) = self.head() else { return false };
        let size = self.loaded().map(|header| header.p_offset + header.p_filesz).max().unwrap_or(u64::MAX);
        if !fd::stat(file).is_ok_and(|stat| stat.st_size as u64 >= size) {
            return false;
        }
        let mut theirs = [0; 1024];
        theirs
            .get_mut(..head.len())
            .is_some_and(|theirs| copy::pread(file, theirs, 0) == Ok(head.len()) && theirs == head)
    }

    /// The beginning of the file, with the number of the build, if it is there.
    fn head(&self) -> Option<&'static [u8]> {
        const NUMBER: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
        let loaded = self.loaded().find(|header| header.p_offset == 0)?;
        let notes = self.headers.iter().filter(|header| header.p_type == libc::PT_NOTE);
        let end = notes.map(|note| note.p_offset + note.p_filesz).filter(|end| *end <= loaded.p_filesz).max()?;
        let start = (self.bias + loaded.p_vaddr as usize) as *const u8;
        // SAFETY: that much of the segment comes from the file; it is read-only.
        let head = unsafe { std::slice::from_raw_parts(start, end as usize) };
        // Notes are in words of four bytes; the name comes behind the sizes of name and number, and the type.
        let mut words = (size_of::<libc::Elf64_Ehdr>()..head.len()).step_by(4);
        words.any(|at| head.get(at..).is_some_and(|rest| rest.starts_with(NUMBER))).then_some(head)
    }

    /// The headers of what execve has mapped.
    fn loaded(&self) -> impl Iterator<Item = &'static libc::Elf64_Phdr> {
        self.headers.iter().filter(|header| header.p_type == libc::PT_LOAD)
    }

    fn segments(&self) -> impl Iterator<Item = Segment> {
        self.loaded().filter(|header| header.p_filesz > 0).map(|header| {
            let begin = self.bias + header.p_vaddr as usize;
            let start = self.page_down(begin);
            let flag = |flag, prot| if header.p_flags & flag != 0 { prot } else { 0 };
            Segment {
                start,
                len: self.page_down(begin + header.p_filesz as usize + self.page - 1) - start,
                offset: self.page_down(header.p_offset as usize) as i64,
                prot: flag(libc::PF_R, libc::PROT_READ)
                    | flag(libc::PF_W, libc::PROT_WRITE)
                    | flag(libc::PF_X, libc::PROT_EXEC),
            }
        })
    }

    /// Makes what the linker has marked as constant after relocation read-only again, as it was at the start. musl leaves it
    /// writable in a program at a fixed address, which has nothing relocated.
    fn protect_relocated(&self) -> Result<()> {
        if cfg!(target_env = "musl") && self.bias == 0 {
            return Ok(());
        }
        for header in self.headers.iter().filter(|header| header.p_type == libc::PT_GNU_RELRO) {
            let begin = self.bias + header.p_vaddr as usize;
            let (start, end) = (self.page_down(begin), self.page_down(begin + header.p_memsz as usize));
            if end > start {
                // SAFETY: by the linker's word nothing in these pages is written after the start.
                check(unsafe { libc::mprotect(start as *mut c_void, end - start, libc::PROT_READ) }.into())?;
            }
        }
        Ok(())
    }

    fn page_down(&self, address: usize) -> usize {
        address & !(self.page - 1)
    }
}

fn page_size() -> usize {
    // SAFETY: it reads what the kernel has given this process at its start.
    unsafe { libc::getauxval(libc::AT_PAGESZ) as usize }
}

impl Segment {
    fn move_to(&self, file: BorrowedFd<'_>) -> Result<()> {
        if self.prot & libc::PROT_WRITE == 0 { self.map(file) } else { self.detach() }
    }

    /// Maps the same part of the same file in the same place.
    fn map(&self, file: BorrowedFd<'_>) -> Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        // SAFETY: the bytes that are there afterwards are those that are there now.
        let at =
            unsafe { libc::mmap(self.start as *mut c_void, self.len, self.prot, flags, file.as_raw_fd(), self.offset) };
        if at == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
    }

    /// Replaces it by a copy in memory of no file.
    #[cfg(target_arch = "x86_64")]
    fn detach(&self) -> Result<()> {
        // As much as there is today. Pages of the stack are touched from its top, whether they are used or not.
        let mut room = [const { std::mem::MaybeUninit::<u8>::uninit() }; 2 * 4096];
        if self.len > room.len() {
            return self.detach_far();
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_POPULATE;
        let place = self.start as *mut c_void;
        // SAFETY: that much is mapped, and that much room is there.
        unsafe { std::ptr::copy_nonoverlapping(self.start as *const u8, room.as_mut_ptr().cast(), self.len) };
        let ret: i64;
        // SAFETY: between the call and the end of the copy no static memory is read, as these are all instructions.
        // Afterwards all of it is as before: there is one thread.
        unsafe {
            std::arch::asm!(
                "syscall",
                "cmp rax, r12",
                "jne 2f",
                "mov rdi, r12",
                "mov rsi, r14",
                "mov rcx, r13",
                "rep movsb",
                "2:",
                inlateout("rax") libc::SYS_mmap => ret,
                inlateout("rdi") place => _,
                inlateout("rsi") self.len => _,
                in("rdx") self.prot as i64,
                in("r10") flags as i64,
                in("r8") -1i64,
                in("r9") 0i64,
                in("r12") place,
                in("r13") self.len,
                in("r14") room.as_ptr(),
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        if ret == place as i64 { Ok(()) } else { Err(Errno::from_raw(-ret as i32)) }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detach(&self) -> Result<()> {
        self.detach_far()
    }

    /// The same by way of another place.
    fn detach_far(&self) -> Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
        let copy = unsafe { libc::mmap(std::ptr::null_mut(), self.len, self.prot, flags, -1, 0) };
        if copy == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // SAFETY: both are mapped with that length, and do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(self.start as *const u8, copy.cast(), self.len) };
        let place = self.start as *mut c_void;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: there is one thread, and it has written to no static memory since the copy was made.
        let moved = unsafe { libc::mremap(copy, self.len, self.len, flags, place) };
        if moved == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
    }
}

/// prctl(2): what /proc/self/exe is. `PR_SET_MM_EXE_FILE` takes CAP_SYS_RESOURCE; `PR_SET_MM_MAP`
/// takes CAP_CHECKPOINT_RESTORE (Linux 5.9) or CAP_SYS_ADMIN, and the rest of what the kernel notes of a program.
fn name_executable(file: BorrowedFd<'_>, map: impl FnOnce() -> Map) -> Result<()> {
    // SAFETY: no pointer is passed.
    let set =
        unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_EXE_FILE, file.as_raw_fd() as usize, 0usize, 0usize) };
    match check(set.into()) {
        Err(Errno::EPERM) => {}
        other => return other.map(drop),
    }
    let map = map();
    // SAFETY: the kernel reads a structure of the size passed.
    let set = unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<Map>(), 0usize) };
    check(set.into()).map(drop)
}

/// `struct prctl_mm_map` of linux/prctl.h.
#[repr(C)]
struct Map {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

impl Map {
    /// What it is now, by the rules of execve, with another executable. The end of the heap is taken for all of it.
    fn own(image: &Image, stack: &Stack, file: BorrowedFd<'_>) -> Map {
        let loaded = || image.loaded();
        let code = || loaded().filter(|header| header.p_flags & libc::PF_X != 0);
        let begin = |header: &libc::Elf64_Phdr| image.bias as u64 + header.p_vaddr;
        let end = |header: &libc::Elf64_Phdr| begin(header) + header.p_filesz;
        // SAFETY: an address that cannot be is answered with the end of the heap as it is.
        let brk = unsafe { libc::syscall(libc::SYS_brk, 0usize) } as u64;
        Map {
            start_code: code().map(begin).min().unwrap_or_default(),
            end_code: code().map(end).max().unwrap_or_default(),
            start_data: loaded().map(begin).max().unwrap_or_default(),
            end_data: loaded().map(end).max().unwrap_or_default(),
            start_brk: brk,
            brk,
            start_stack: stack.within,
            arg_start: stack.args,
            arg_end: stack.env,
            env_start: stack.env,
            env_end: stack.end,
            auxv: 0,
            auxv_size: 0,
            exe_fd: file.as_raw_fd() as u32,
        }
    }
}

/// Where execve has put the arguments and the environment: one behind the other, and behind them the program's path.
#[derive(Debug)]
struct Stack {
    /// An address in it.
    within: u64,
    args: u64,
    env: u64,
    end: u64,
}

impl Stack {
    fn own() -> Stack {
        unsafe extern "C" {
            /// environ(7). Nothing in this program changes it.
            static environ: *const *const libc::c_char;
        }
        let argc = super::start::count();
        // SAFETY: the C library has set it before main, and it is not written any more.
        let env = unsafe { environ };
        // SAFETY: in the memory that execve makes, the list of the environment is behind the NULL that ends the arguments.
        let argv = unsafe { env.sub(argc + 1) };
        // SAFETY: getauxval reads what the kernel has given this process at its start.
        let end = unsafe { libc::getauxval(libc::AT_EXECFN) };
        // SAFETY: each list has at least the NULL at its end.
        let [first_env, first_arg] = [env, argv].map(|list| unsafe { *list } as u64);
        let env_start = if first_env == 0 { end } else { first_env };
        let args = if first_arg == 0 { env_start } else { first_arg };
        Stack { within: env as u64, args, env: env_start, end }
    }
}

fn sealed_copy(exe: OwnedFd) -> std::io::Result<OwnedFd> {
    let name = c"orlop";
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a constant C string.
    let raw = unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) };
    let raw = super::check(raw).map_err(std::io::Error::from)?;
    // SAFETY: a descriptor just made, owned by nobody else.
    let mut copy = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(raw as i32) };
    std::io::copy(&mut File::from(exe), &mut copy)?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).map_err(std::io::Error::from)?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_the_kernels() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
        // By the numbers of proc_pid_stat(5).
        let field = |number: usize| fields[number - 3].parse::<u64>().unwrap();
        let map = Map::own(&Image::own().unwrap(), &Stack::own(), fd::cwd());
        let ours = [map.start_code, map.end_code, map.start_data, map.end_data];
        assert_eq!(ours, [26, 27, 45, 46].map(field));
        let ours = [map.arg_start, map.arg_end, map.env_start, map.env_end];
        assert_eq!(ours, [48, 49, 50, 51].map(field));
        assert!(map.brk >= field(47) && map.start_stack.abs_diff(field(28)) < 1 << 16, "{stat}");
    }
}
