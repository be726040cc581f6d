//! The program; everything is in the library, so that tests can call it.
#![no_main]

// Not the library's: tests have threads.
#[cfg(not(debug_assertions))]
#[global_allocator]
static ALLOCATOR: orlop::sys::alloc::OneThread = orlop::sys::alloc::OneThread::new();

orlop::start!(orlop::cli::main);
