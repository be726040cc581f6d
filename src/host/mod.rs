//! What is there: the kernel's and the host's features, probed once, as plain structs that a test can write by hand.

pub mod cgroup;
