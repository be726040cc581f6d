//! The short way through the command line, as a runtime is started several times for each container.
//!
//! Describing all commands to clap takes longer than parsing one. So the command's name is looked for
//! first, and clap is shown that command alone. What does not parse this way (help, mistakes, global
//! flags behind the command) goes the whole way, which words the answer.

use std::ffi::{OsStr, OsString};

use clap::Parser;

use super::{Cli, Command, Global};
use crate::error::Result;
use crate::sys::exe::{self, Binary};

/// Global flags that take a value.
const VALUED: [&str; 6] = ["--root", "--log", "--log-format", "--rootless", "--trace", "--criu"];

/// Commands that a container can get hold of while they run.
const ENTERING: [&str; 3] = ["create", "run", "exec"];

#[derive(Debug, Parser)]
#[command(disable_version_flag = true, args_override_self = true)]
struct GlobalOnly {
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Parser)]
#[command(disable_version_flag = true, args_override_self = true)]
struct One<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

/// Prepares to take the runtime's binary out of the container's reach if the command enters one.
///
/// Done before anything else, as what was done before may be lost. A word that only looks like one of
/// these commands costs some needless system calls, nothing more.
///
/// # Errors
/// When the binary can neither be mounted read-only nor copied.
pub fn protect(args: &[OsString]) -> Result<Option<Binary>> {
    if args.iter().skip(1).any(|arg| ENTERING.iter().any(|name| arg == name)) {
        return exe::protect();
    }
    Ok(None)
}

/// The command line, if it is a plain one.
pub fn parse(args: &[OsString]) -> Option<Cli> {
    let at = name_at(args);
    let (before, rest) = args.split_at_checked(at)?;
    let GlobalOnly { global } = GlobalOnly::try_parse_from(before).ok()?;
    if global.version && rest.is_empty() {
        return Some(Cli { global, command: None });
    }
    let command = match rest.first()?.to_str()? {
        "create" => Command::Create(one(rest)?),
        "start" => Command::Start(one(rest)?),
        "run" => Command::Run(one(rest)?),
        "exec" => Command::Exec(Box::new(one(rest)?)),
        "kill" => Command::Kill(one(rest)?),
        "delete" => Command::Delete(one(rest)?),
        "state" => Command::State(one(rest)?),
        "update" => Command::Update(Box::new(one(rest)?)),
        "events" => Command::Events(one(rest)?),
        "ps" => Command::Ps(one(rest)?),
        "pause" => Command::Pause(one(rest)?),
        "resume" => Command::Resume(one(rest)?),
        "checkpoint" => Command::Checkpoint(Box::new(one(rest)?)),
        "restore" => Command::Restore(Box::new(one(rest)?)),
        _ => return None,
    };
    Some(Cli { global, command: Some(command) })
}

/// Parses a command's own words, its name in the place of the program's.
fn one<A: clap::Args>(words: &[OsString]) -> Option<A> {
    One::<A>::try_parse_from(words).ok().map(|one| one.args)
}

/// Where the command's name stands: the first word that is neither a flag nor a flag's value.
fn name_at(args: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(word) = args.get(at).map(OsString::as_os_str).filter(|word| is_flag(word)) {
        at += if VALUED.iter().any(|flag| word == *flag) { 2 } else { 1 };
    }
    at.min(args.len())
}

fn is_flag(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_short_way_finds_the_command_behind_global_flags() {
        let cli = parse(&words("orlop --root /x --debug --log-format=json kill -a c1 9")).unwrap();
        assert_eq!(cli.global.root.as_deref(), Some(std::path::Path::new("/x")));
        assert!(cli.global.debug && matches!(cli.command, Some(Command::Kill(_))));
    }

    #[test]
    fn what_is_not_plain_goes_the_whole_way() {
        for line in
            ["orlop", "orlop help", "orlop kill --help", "orlop kill", "orlop nonsense", "orlop state x --root /y"]
        {
            assert!(parse(&words(line)).is_none(), "{line}");
        }
    }

    #[test]
    fn both_ways_give_the_same() {
        for line in [
            "orlop --version",
            "orlop --root /r --log /l --log-format json create --bundle /b --pid-file /p c1",
            "orlop run -d --preserve-fds 2 --no-pivot --keep c1",
            "orlop exec -u 1:2 -e A=b --cap CAP_KILL -d c1 sh -c -x",
            "orlop --rootless true delete -f c1",
            "orlop update --memory 64M --cpu-quota -1 c1",
            "orlop ps -f json c1",
            "orlop checkpoint --image-path /i --status-fd -1 --manage-cgroups-mode ignore c1",
            "orlop restore -d --image-path /i --pid-file /p c1",
            "orlop checkpoint --leave-running --image-path /i --leave-running --image-path /j c1",
        ] {
            let whole = Cli::try_parse_from(words(line)).unwrap();
            assert_eq!(format!("{:?}", parse(&words(line)).unwrap()), format!("{whole:?}"), "{line}");
        }
    }
}
