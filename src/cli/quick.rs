//! The short way through the command line, as a runtime is started several times for each container.
//!
//! Describing a command to clap, with all its help, takes longer than most else of what a command does by itself. So the words
//! that callers use are read here, when they are plain: flags that are known, then operands. What is not (help, mistakes,
//! flags behind operands) goes the long way, which words the answer: by clap, which is shown the one command where
//! that is enough.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::{Parser, ValueEnum};

use super::{Cli, Command, DeleteArgs, Global, IdArg, LogFormat, Rootless};
use super::{create, exec, kill};
use crate::error::Result;
use crate::sys::exe::{self, Binary};

/// Commands that a container can get hold of while they run.
const ENTERING: [&str; 3] = ["create", "run", "exec"];

#[derive(Debug, Parser)]
#[command(disable_version_flag = true, args_override_self = true)]
struct One<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

/// Takes the runtime's binary out of the container's reach if the command enters one.
///
/// Done before anything else, as what was done before may be lost. A word that only looks like one of
/// these commands costs some needless system calls, nothing more.
///
/// # Errors
/// When the binary can neither be mounted read-only nor copied.
#[inline(never)]
pub fn protect(args: &[OsString]) -> Result<Option<Binary>> {
    if args.iter().skip(1).any(|arg| ENTERING.iter().any(|name| arg == name)) {
        let passes_on = |arg: &OsString| arg.as_bytes().starts_with(b"--preserve-fds");
        return exe::protect(args.iter().any(passes_on) || create::listen_fds().is_some());
    }
    Ok(None)
}

/// The command line, if it is a plain one, or clap understands its command without the others.
#[inline(never)]
pub fn parse(args: &[OsString]) -> Option<Cli> {
    let mut words = Words::new(args.get(1..)?);
    let global = Global::plain(&mut words)?;
    let rest = words.rest()?;
    let Some((name, own)) = rest.split_first() else {
        return global.version.then_some(Cli { global, command: None });
    };
    let name = name.to_str()?;
    let command = plain(name, Words::new(own)).or_else(|| described(name, rest))?;
    Some(Cli { global, command: Some(command) })
}

/// The command as clap reads it, which is shown no other.
#[inline(never)]
fn described(name: &str, words: &[OsString]) -> Option<Command> {
    Some(match name {
        "create" => Command::Create(one(words)?),
        "start" => Command::Start(one(words)?),
        "run" => Command::Run(one(words)?),
        "exec" => Command::Exec(Box::new(one(words)?)),
        "kill" => Command::Kill(one(words)?),
        "delete" => Command::Delete(one(words)?),
        "state" => Command::State(one(words)?),
        "update" => Command::Update(Box::new(one(words)?)),
        "events" => Command::Events(one(words)?),
        "ps" => Command::Ps(one(words)?),
        "pause" => Command::Pause(one(words)?),
        "resume" => Command::Resume(one(words)?),
        "checkpoint" => Command::Checkpoint(Box::new(one(words)?)),
        "restore" => Command::Restore(Box::new(one(words)?)),
        _ => return None,
    })
}

/// Parses a command's own words, its name in the place of the program's.
fn one<A: clap::Args>(words: &[OsString]) -> Option<A> {
    One::<A>::try_parse_from(words).ok().map(|one| one.args)
}

/// The commands that each container needs.
fn plain(name: &str, mut words: Words<'_>) -> Option<Command> {
    let words = &mut words;
    Some(match name {
        "create" => Command::Create(create::Args::plain(words)?),
        "start" => Command::Start(IdArg::plain(words)?),
        "run" => Command::Run(create::RunArgs::plain(words)?),
        "exec" => Command::Exec(Box::new(exec::Args::plain(words)?)),
        "kill" => Command::Kill(kill::Args::plain(words)?),
        "delete" => Command::Delete(DeleteArgs::plain(words)?),
        "state" => Command::State(IdArg::plain(words)?),
        _ => return None,
    })
}

/// The words of a command line that are still to be read. Each method gives nothing where the next words are not plain.
pub struct Words<'a> {
    left: &'a [OsString],
    /// What a flag has behind `=`.
    attached: Option<&'a str>,
}

impl<'a> Words<'a> {
    fn new(left: &'a [OsString]) -> Words<'a> {
        Words { left, attached: None }
    }

    /// The next word's flag, if it is one; [`Words::rest`] tells whether all was well with it.
    pub fn flag(&mut self) -> Option<&'a str> {
        let (word, left) = self.left.split_first()?;
        let word = word.to_str().filter(|word| self.attached.is_none() && word.len() > 1 && word.starts_with('-'))?;
        self.left = left;
        match word.split_once('=') {
            Some((flag, value)) if word.starts_with("--") => {
                self.attached = Some(value);
                Some(flag)
            }
            _ => Some(word),
        }
    }

    /// The value of the flag that was read last.
    pub fn value(&mut self) -> Option<&'a str> {
        let value = match self.attached.take() {
            Some(value) => value,
            None => {
                let (word, left) = self.left.split_first()?;
                self.left = left;
                word.to_str()?
            }
        };
        Some(value).filter(|value| is_operand(value))
    }

    /// All the words behind the flags. Nothing when a flag has got a value that it does not take.
    fn rest(&self) -> Option<&'a [OsString]> {
        self.attached.is_none().then_some(self.left)
    }

    /// The operands, when nothing but them is left.
    pub fn operands(&self) -> Option<Vec<&'a str>> {
        self.rest()?.iter().map(|word| word.to_str().filter(|word| is_operand(word))).collect()
    }

    /// The one operand, when nothing but it is left.
    pub fn operand(&self) -> Option<String> {
        match self.operands()?.as_slice() {
            [one] => Some((*one).to_owned()),
            _ => None,
        }
    }

    /// The operands of a command for which they are another program's words from the second on.
    pub fn command_line(&self) -> Option<Vec<String>> {
        let (first, rest) = self.rest()?.split_first()?;
        let first = first.to_str().filter(|first| is_operand(first))?;
        let rest = rest.iter().map(|word| word.to_str().filter(|word| *word != "--"));
        std::iter::once(Some(first)).chain(rest).map(|word| word.map(str::to_owned)).collect()
    }
}

/// Whether it is certain that no parser takes it for a flag, or for nothing.
fn is_operand(word: &str) -> bool {
    !word.is_empty() && !word.starts_with('-')
}

impl Global {
    fn plain(words: &mut Words<'_>) -> Option<Global> {
        let mut global = Global::default();
        while let Some(flag) = words.flag() {
            match flag {
                "--root" => global.root = Some(words.value()?.into()),
                "--log" => global.log = Some(words.value()?.into()),
                "--log-format" => global.log_format = LogFormat::from_str(words.value()?, false).ok()?,
                "--debug" => global.debug = true,
                "--systemd-cgroup" => global.systemd_cgroup = true,
                "--rootless" => global.rootless = Rootless::from_str(words.value()?, false).ok()?,
                "--trace" => global.trace = Some(words.value()?.into()),
                "--criu" => global.criu = Some(words.value()?.into()),
                "--version" | "-v" => global.version = true,
                _ => return None,
            }
        }
        Some(global)
    }
}

impl IdArg {
    fn plain(words: &mut Words<'_>) -> Option<IdArg> {
        words.operand().map(|id| IdArg { id })
    }
}

impl DeleteArgs {
    fn plain(words: &mut Words<'_>) -> Option<DeleteArgs> {
        let mut force = false;
        while let Some(flag) = words.flag() {
            match flag {
                "--force" | "-f" => force = true,
                _ => return None,
            }
        }
        words.operand().map(|id| DeleteArgs { force, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

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
            "orlop -v",
            "orlop --root=/r --systemd-cgroup --debug --trace /t --criu=/c --rootless=false start c1",
            "orlop --log=/l --log-format=json state c1",
            "orlop create --bundle=/b --bundle /b2 --console-socket=/s c1",
            "orlop run c1",
            "orlop exec c1 sh -c exit --flag=x -e y",
            "orlop exec -e A=b=c -e D= --env=E=f -g 1 -g 2 --tty c1 true",
            "orlop kill c1",
            "orlop kill --all c1 KILL",
            "orlop delete c1",
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

    /// The words of all the flags that clap knows of a command, each with a value if it takes one.
    fn flags(command: &clap::Command) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for arg in command.get_arguments().filter(|arg| !arg.is_positional() && arg.get_id() != "help") {
            let names =
                arg.get_short().map(|c| format!("-{c}")).into_iter().chain(arg.get_long().map(|l| format!("--{l}")));
            for name in names {
                let value = match (arg.get_action().takes_values(), arg.get_id().as_str()) {
                    (false, _) => None,
                    (true, "log_format") => Some("json"),
                    (true, "rootless-mode") => Some("true"),
                    (true, _) => Some("7"),
                };
                if let (Some(value), true) = (value, name.starts_with("--")) {
                    found.push(vec![format!("{name}={value}")]);
                }
                found.push([Some(name.as_str()), value].into_iter().flatten().map(str::to_owned).collect());
            }
        }
        found
    }

    #[test]
    fn each_flag_is_read_as_clap_reads_it() {
        let all = Cli::command();
        let check = |line: Vec<OsString>| {
            let whole = Cli::try_parse_from(&line).unwrap();
            assert_eq!(format!("{:?}", parse(&line).unwrap()), format!("{whole:?}"), "{line:?}");
        };
        for flag in flags(&all).into_iter().filter(|flag| !["-v", "--version"].contains(&flag[0].as_str())) {
            check(
                words("orlop").into_iter().chain(flag.into_iter().map(Into::into)).chain(words("state c1")).collect(),
            );
        }
        for name in ["create", "start", "run", "exec", "kill", "delete", "state"] {
            let known = flags(all.find_subcommand(name).unwrap());
            for flag in &known {
                let own: Vec<OsString> = flag.iter().map(Into::into).chain(words("c1")).collect();
                assert!(plain(name, Words::new(&own)).is_some(), "{name} {flag:?} goes the long way");
                check(words("orlop").into_iter().chain([name.into()]).chain(own).collect());
            }
        }
    }

    #[test]
    fn what_is_not_plain_is_not_guessed() {
        let plain = |line: &str| {
            let words = words(line);
            plain(words[0].to_str().unwrap(), Words::new(&words[1..])).is_some()
        };
        for line in [
            "run --detach=true c1",
            "run --bundle -x c1",
            "run --bundle= c1",
            "run --bundle",
            "run c1 -d",
            "run c1 c2",
            "run -db /b c1",
            "run -- c1",
            "run --preserve-fds x c1",
            "run -",
            "run ",
            "create --keep c1",
            "kill c1 -9",
            "kill c1 9 9",
            "state --all c1",
            "exec",
            "exec -it c1 sh",
            "exec -- c1 sh",
            "exec c1 sh -- x",
        ] {
            assert!(!plain(line), "{line}");
        }
        assert!(plain("run c1") && plain("exec c1 sh -x"));
    }
}
