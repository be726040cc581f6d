//! The start of the program without what Rust does before `main`: a dozen system calls and two mappings for the message of
//! a stack overflow, an eightieth of a command. What a command needs of it is done here.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The arguments as the C library has passed them, where [`run`] has begun the program.
static ARGV: AtomicPtr<*const c_char> = AtomicPtr::new(std::ptr::null_mut());
static ARGC: AtomicUsize = AtomicUsize::new(0);

fn list() -> Option<&'static [*const c_char]> {
    let argv = ARGV.load(Ordering::Relaxed);
    // SAFETY: the list is that long, and stays as execve has made it.
    (!argv.is_null()).then(|| unsafe { std::slice::from_raw_parts(argv, ARGC.load(Ordering::Relaxed)) })
}

/// The program's arguments, its name first.
pub fn args() -> Vec<OsString> {
    let Some(list) = list() else { return std::env::args_os().collect() };
    // SAFETY: each is a string that ends with NUL.
    let bytes = list.iter().map(|arg| unsafe { CStr::from_ptr(*arg) }.to_bytes());
    bytes.map(|bytes| OsStr::from_bytes(bytes).to_owned()).collect()
}

/// How many those are.
pub fn count() -> usize {
    list().map_or_else(|| std::env::args_os().len(), <[_]>::len)
}

/// Runs the program's `main`, and gives its exit status.
///
/// # Safety
/// `argc` and `argv` are what the C library has passed to the C main.
pub unsafe fn run(argc: c_int, argv: *mut *const c_char, main: fn() -> u8) -> c_int {
    ARGC.store(argc as usize, Ordering::Relaxed);
    ARGV.store(argv, Ordering::Relaxed);
    open_stdio();
    // A reader that is gone is an error of the write.
    // SAFETY: there is no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    main().into()
}

/// Gives standard descriptors that are closed a file, so that none that is opened later is taken for one of them.
fn open_stdio() {
    let mut files = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: the array is that long.
    if unsafe { libc::poll(files.as_mut_ptr(), 3, 0) } == 0 {
        return;
    }
    for file in files.iter().filter(|file| file.revents & libc::POLLNVAL != 0) {
        // SAFETY: the path is a constant. The lowest number that is free is this one.
        if unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } != file.fd {
            // SAFETY: abort has no preconditions.
            unsafe { libc::abort() };
        }
    }
}

/// The C main of a program whose main is this function.
#[macro_export]
macro_rules! start {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: std::ffi::c_int, argv: *mut *const std::ffi::c_char) -> std::ffi::c_int {
            // SAFETY: this is the C main.
            unsafe { $crate::sys::start::run(argc, argv, $main) }
        }
    };
}
