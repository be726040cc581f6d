//! Puts the functions that commands call beside each other in a release binary, in the order of `hack/order.txt`.
//!
//! The kernel reads a program in by pages, when they are touched, and a command touches a fifth of this one's
//! functions: scattered over all of it they cost it twice as many page faults.

#![allow(clippy::panic)] // A build ends by panicking.

use std::env;
use std::fmt::Write as _;
use std::path::Path;

const LIST: &str = "hack/order.txt";

fn main() {
    println!("cargo:rerun-if-changed={LIST}");
    println!("cargo:rerun-if-changed=hack/build.rs");
    println!("cargo:rerun-if-env-changed=ORLOP_LINK_MAP");
    // A number for each build, by which a command knows its own file (`sys::exe`).
    println!("cargo:rustc-link-arg-bins=-Wl,--build-id=sha1");
    if env::var("PROFILE").as_deref() != Ok("release") || env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let list = std::fs::read_to_string(LIST).unwrap_or_else(|e| panic!("{LIST}: {e}"));
    let names: Vec<&str> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    // What the C library has in assembly is in sections without a name of their own.
    let mut script = String::from("SECTIONS {\n  .text.first : {\n    *crt1.o(.text)\n");
    for object in ["__set_thread_area", "memcpy", "memmove", "memset", "syscall_cp"] {
        let _ = writeln!(script, "    *:{object}.lo(.text)");
    }
    for name in &names {
        let _ = writeln!(script, "    *({})", sections(name));
    }
    // Another compiler ends the names in other hashes; so do other instances of what is generic, which come behind.
    for (name, _) in names.iter().filter_map(|name| name.rsplit_once("17h")) {
        let _ = writeln!(script, "    *({})", sections(&format!("{name}17h*")));
    }
    script.push_str("  }\n}\nINSERT BEFORE .text;\n");
    // Jump tables and constants likewise, as far as their sections have names that tell whose they are.
    script.push_str("SECTIONS {\n  .rodata.first : {\n    *(.rodata.cst*)\n    *(.rodata..Lswitch.table.*)\n");
    for name in &names {
        let _ = writeln!(script, "    *(.rodata.{name})");
    }
    script.push_str("    *(.rodata.str1.*)\n");
    // The linker adds this to its own script, as it says where it belongs there.
    script.push_str("  }\n}\nINSERT BEFORE .rodata;\n");
    let path = Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("order.ld");
    std::fs::write(&path, script).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", path.display());
    // All that is only read in one segment: each is a mapping that execve, fork and `sys::exe` take some µs for.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,noseparate-code");
    if let Ok(map) = env::var("ORLOP_LINK_MAP") {
        println!("cargo:rustc-link-arg-bins=-Wl,-Map={map}");
    }
}

/// Where the compiler may have put a function; it takes some for cold that are not.
fn sections(name: &str) -> String {
    format!(".text.{name} .text.unlikely.{name}")
}
