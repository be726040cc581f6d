//! The kernel's words.
#![allow(unsafe_code)]
pub mod seccomp;
