#![doc = include_str!("README.md")]

pub mod cgroup;
//pub mod cli;
//pub mod container;
pub mod error;
//pub mod hooks;
pub mod host;
pub mod log;
//pub mod namespaces;
//pub mod network;
pub mod plan;
//pub mod process;
//pub mod rootfs;
//pub mod seccomp;
//pub mod spec;
pub mod sys;
