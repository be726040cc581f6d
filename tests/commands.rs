//! Every command and every flag of the command line, as runc's callers use them (exec has its own file).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::os::fd::AsFd;
use std::process::Command;

use common::actions::{eventually, is_alive};
use common::sockets::Receiver;
use common::{Bundle, cgroups_of};
use serde_json::{Value, json};

/// Runs orlop without any bundle.
fn orlop(args: &[&str]) -> common::Done {
    Command::new(env!("CARGO_BIN_EXE_orlop")).args(args).output().unwrap().into()
}

#[test]
fn version_names_the_specification() {
    for flag in ["--version", "-v"] {
        let said = orlop(&[flag]).ok();
        assert!(said.starts_with(concat!("orlop version ", env!("CARGO_PKG_VERSION"), "\n")), "{said}");
        assert!(said.contains("spec: 1.3.0\n"), "{said}");
    }
}

#[test]
fn help_is_no_error_and_wrong_usage_exits_with_1() {
    for args in [&[][..], &["--help"], &["run", "--help"], &["help", "exec"]] {
        assert!(orlop(args).ok().contains("USAGE:"), "{args:?}");
    }
    for args in [&["no-such-command"][..], &["run"], &["run", "--no-such-flag", "x"], &["--log-format", "xml", "list"]]
    {
        assert!(!orlop(args).fails().is_empty(), "{args:?}");
    }
}

#[test]
fn root_is_where_containers_are_known() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.created();
    assert!(bundle.root().join(&id).is_dir());
    let other = bundle.temp().join("other-root");
    let said = orlop(&["--root", other.to_str().unwrap(), "state", &id]).fails();
    assert!(said.contains("container does not exist"), "{said}");
    assert!(!other.exists());
    assert!(orlop(&["list", "--root", bundle.root().to_str().unwrap()]).ok().contains(&id));
}

#[test]
fn log_gets_the_error_and_stderr_too() {
    need_root!();
    let bundle = Bundle::new("true");
    let log = bundle.temp().join("log");
    let said = bundle.orlop(&["--log", log.to_str().unwrap(), "start", "missing"]).fails();
    assert_eq!(said, "orlop: error: container does not exist\n");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("time=") && text.contains("level=error msg=\"container does not exist\""), "{text}");
    bundle.orlop(&["--log", log.to_str().unwrap(), "start", "missing"]).fails();
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 2);
}

#[test]
fn log_format_json_writes_runcs_keys_and_says_which_step_failed() {
    need_root!();
    let mut bundle = Bundle::new("true");
    bundle.mount("/x", "bind", "/no/such/source", &["bind"]);
    let log = bundle.temp().join("log.json");
    bundle.orlop(&["--log", log.to_str().unwrap(), "--log-format", "json", "run", &bundle.id()]).fails();
    let text = std::fs::read_to_string(&log).unwrap();
    let line: Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!((&line["level"], &line["phase"]), (&json!("error"), &json!("inside")));
    assert!(line["msg"].as_str().unwrap().starts_with("orlop run failed: "), "{line}");
    assert!(line["step"].as_str().unwrap().contains("/no/such/source"), "{line}");
    assert_eq!(line["errno"], "no such file or directory");
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
}

#[test]
fn log_format_json_without_a_file_goes_to_stderr() {
    need_root!();
    let bundle = Bundle::new("true");
    let said = bundle.orlop(&["--log-format", "json", "start", "missing"]).fails();
    let line: Value = serde_json::from_str(said.trim_end()).unwrap();
    assert_eq!(line["msg"], "container does not exist");
}

#[test]
fn a_file_does_not_get_the_number_of_a_standard_descriptor_that_is_closed() {
    need_root!();
    let bundle = Bundle::new("true");
    let temp = bundle.temp();
    let log = temp.join("log");
    // What is written to stderr would be in the log too.
    let line = r#"exec "$0" --log "$1" --root "$2" state missing <&- >&- 2>&-"#;
    let root = temp.join("root");
    let orlop = env!("CARGO_BIN_EXE_orlop");
    let status = Command::new("sh").args(["-c", line, orlop]).arg(&log).arg(&root).status().unwrap();
    assert_eq!(status.code(), Some(1));
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!((text.lines().count(), text.matches("container does not exist").count()), (1, 1), "{text}");
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    need_root!();
    let bundle = Bundle::new("true");
    let root = format!("--root={}", bundle.temp().display());
    for command in ["features", "list", "list -f json", "completion bash", "man"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut orlop = Command::new(env!("CARGO_BIN_EXE_orlop"));
        orlop.arg(&root).args(command.split(' ')).stdout(full);
        let said = common::Done::from(orlop.output().unwrap()).fails();
        assert_eq!(said.trim_end(), "orlop: error: writing to standard output: no space left on device", "{command}");
    }
    // Nor does it matter who is told.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_orlop")).args([&root, "state", "missing"]).stderr(full).status();
    assert_eq!(status.unwrap().code(), Some(1));
    // With a reader that is gone there is no signal, and no panic.
    let line = r#"{ sleep 0.1; "$0" features; echo $? >&2; } | true"#;
    let done = Command::new("sh").args(["-c", line, env!("CARGO_BIN_EXE_orlop")]).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(said, "orlop: error: writing to standard output: broken pipe\n1\n");
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error() {
    need_root!();
    let bundle = Bundle::new("echo ran");
    let done = bundle.orlop(&["--log", "/no/such/dir/log", "run", &bundle.id()]);
    assert!(done.stdout.is_empty() && done.fails().contains("/no/such/dir/log"));
}

#[test]
fn debug_logs_what_is_done() {
    need_root!();
    let bundle = Bundle::new("true");
    let log = bundle.temp().join("log");
    let log = log.to_str().unwrap();
    bundle.orlop(&["--log", log, "run", &bundle.id()]).ok();
    assert_eq!(std::fs::read_to_string(log).unwrap(), "");
    bundle.orlop(&["--debug", "--log", log, "run", &bundle.id()]).ok();
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains("level=debug") && text.contains("mounting") && text.contains("/proc"), "{text}");
}

#[test]
fn rootless_takes_auto_true_and_false() {
    need_root!();
    let bundle = Bundle::new("echo ran");
    for flag in ["--rootless=auto", "--rootless=true", "--rootless=false"] {
        assert_eq!(bundle.orlop(&[flag, "run", &bundle.id()]).ok(), "ran\n", "{flag}");
    }
    bundle.orlop(&["--rootless=perhaps", "run", &bundle.id()]).fails();
}

#[test]
fn a_flag_that_older_callers_pass_is_accepted() {
    need_root!();
    let bundle = Bundle::new("echo ran");
    assert_eq!(bundle.orlop(&["--criu", "/usr/sbin/criu", "run", &bundle.id()]).ok(), "ran\n");
}

#[test]
fn trace_writes_the_times_of_the_steps_of_both_processes() {
    need_root!();
    let bundle = Bundle::new("true");
    let file = bundle.temp().join("trace.json");
    bundle.orlop(&["--trace", file.to_str().unwrap(), "run", &bundle.id()]).ok();
    let read = || serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap();
    let trace = read();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |thread: u64| events.iter().filter(|event| event["ph"] == "X" && event["tid"] == json!(thread)).count();
    assert!(of(1) > 5 && of(2) > 10, "{trace}");
    assert!(
        events
            .iter()
            .any(|event| event["name"].as_str().unwrap().contains("\"/proc\"") && event["dur"].as_f64().unwrap() > 0.0)
    );
    std::fs::remove_file(&file).unwrap();
    let id = bundle.id();
    let mut command = bundle.command(&["run", &id]);
    command.env("ORLOP_TRACE", &file);
    bundle.finish(command).ok();
    assert!(read()["traceEvents"].as_array().unwrap().len() > 20);
}

#[test]
fn bundle_may_be_elsewhere_and_relative() {
    need_root!();
    let bundle = Bundle::writable("echo from here");
    for (dir, path) in [
        ("/", bundle.path()),
        ("/tmp", bundle.path()),
        (bundle.path().parent().unwrap().to_str().unwrap(), "bundle".into()),
    ] {
        for flag in ["--bundle", "-b"] {
            let mut command = bundle.command(&["run", flag, path.to_str().unwrap(), &bundle.id()]);
            command.current_dir(dir);
            assert_eq!(bundle.finish(command).ok(), "from here\n");
        }
    }
}

#[test]
fn pid_file_names_the_first_process() {
    need_root!();
    let bundle = Bundle::sleeping();
    let file = bundle.temp().join("pid");
    for command in [&["create"][..], &["run", "-d"]] {
        let id = bundle.id();
        bundle.orlop(&[command, &["--pid-file", file.to_str().unwrap(), &id]].concat()).ok();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), bundle.pid(&id).to_string());
    }
    let id = bundle.id();
    let said = bundle.orlop(&["create", "--pid-file", "/no/such/dir/pid", &id]).fails();
    assert!(said.contains("/no/such/dir/pid"), "{said}");
    bundle.assert_nothing_of(&id);
}

#[test]
fn pidfd_socket_gets_a_pidfd_of_the_first_process() {
    need_root!();
    let bundle = Bundle::sleeping();
    let receiver = Receiver::new(&bundle);
    for command in [&["create"][..], &["run", "-d"]] {
        let id = bundle.id();
        bundle.orlop(&[command, &["--pidfd-socket", receiver.arg(), &id]].concat()).ok();
        let (pidfd, _) = receiver.receive();
        assert_eq!(i64::from(orlop::sys::process::pid_of(pidfd.as_fd()).unwrap()), bundle.pid(&id));
    }
}

#[test]
fn preserve_fds_passes_descriptors_and_no_others() {
    need_root!();
    let bundle = Bundle::new("ls /proc/$$/fd; cat <&3 2>/dev/null; true");
    let file = bundle.temp().join("three");
    std::fs::write(&file, "three\n").unwrap();
    let open = format!("3<{0} 4<{0} 5<{0} 9<{0}", file.display());
    let said = |args: &[&str]| bundle.redirected(&open, &[args, &[&bundle.id()]].concat()).ok();
    assert_eq!(said(&["run"]).split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
    assert_eq!(
        said(&["run", "--preserve-fds", "2"]).split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3", "4", "three"]
    );
    let said = bundle.orlop(&["run", "--preserve-fds", "1", &bundle.id()]).fails();
    assert!(said.contains("file descriptor 3 is not open"), "{said}");
}

#[test]
fn listen_fds_are_passed_on_with_their_environment() {
    need_root!();
    let bundle = Bundle::new("echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; cat <&3");
    let file = bundle.temp().join("three");
    std::fs::write(&file, "three\n").unwrap();
    let orlop = bundle.command(&["run", &bundle.id()]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<\"$FILE\""]).arg(orlop.get_program()).args(orlop.get_args());
    shell.current_dir(bundle.path()).env("FILE", &file).env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "web");
    assert_eq!(bundle.finish(shell).ok(), "1 1 web\nthree\n");
    // Descriptors that were meant for another process are not passed on.
    let mut other = bundle.command(&["run", &bundle.id()]);
    other.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    assert_eq!(bundle.finish(other).stdout, "\n");
}

#[test]
fn no_pivot_gives_the_program_the_same_root() {
    need_root!();
    let bundle = Bundle::new(
        "ls -d /bin /proc/self /dev/null; ls /.. | head -1; awk '$5 == \"/\"' /proc/self/mountinfo | wc -l",
    );
    let pivoted = bundle.run().ok();
    assert_eq!(bundle.orlop(&["run", "--no-pivot", &bundle.id()]).ok(), pivoted);
    assert!(pivoted.starts_with("/bin\n"), "{pivoted}");
}

#[test]
fn a_container_has_a_session_keyring_of_its_own_unless_told_not_to() {
    need_root!();
    let mut bundle = Bundle::new("cat /proc/keys");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    let keyring = |flags: &[&str]| {
        let id = bundle.id();
        let keys = bundle.orlop(&[&["run"], flags, &[id.as_str()]].concat()).ok();
        keys.contains(&format!("_ses.{id}"))
    };
    assert!(keyring(&[]));
    assert!(!keyring(&["--no-new-keyring"]));
}

#[test]
fn run_detach_returns_while_the_program_runs() {
    need_root!();
    let bundle = Bundle::sleeping();
    for flag in ["--detach", "-d"] {
        let id = bundle.id();
        bundle.orlop(&["run", flag, &id]).ok();
        assert_eq!(bundle.state(&id)["status"], "running");
    }
}

#[test]
fn run_keep_leaves_the_stopped_container() {
    need_root!();
    let bundle = Bundle::new("exit 3");
    let id = bundle.id();
    assert_eq!(bundle.orlop(&["run", "--keep", &id]).code, 3);
    assert_eq!(bundle.state(&id)["status"], "stopped");
    bundle.orlop(&["delete", &id]).ok();
}

#[test]
fn run_is_the_parent_of_the_containers_orphans_unless_told_not_to() {
    need_root!();
    let mut bundle = Bundle::writable("(sleep 60 & echo $! >/orphan); sleep 60");
    bundle.without_namespace("pid");
    for (flags, is_parent) in [(&["run"][..], true), (&["run", "--no-subreaper"], false)] {
        let id = bundle.id();
        let mut child = bundle.spawn(&[flags, &[id.as_str()]].concat(), "output");
        let read = || std::fs::read_to_string(bundle.rootfs().join("orphan")).ok()?.trim().parse::<i32>().ok();
        let orphan = eventually("an orphan", read);
        let parent = || {
            let stat = std::fs::read_to_string(format!("/proc/{orphan}/stat")).unwrap();
            stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse::<u32>().unwrap()
        };
        let init = bundle.pid(&id) as u32;
        eventually("the orphan has a new parent", || (parent() != init).then_some(()));
        // The subshell between them may still be there.
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(parent() == child.id(), is_parent, "{flags:?}");
        bundle.end(&id);
        child.wait().unwrap();
        std::fs::remove_file(bundle.rootfs().join("orphan")).unwrap();
    }
}

#[test]
fn kill_takes_names_and_numbers_and_sends_term_by_default() {
    need_root!();
    let bundle =
        Bundle::writable("trap 'exit 15' TERM; trap 'exit 10' USR1; touch /ready; while :; do sleep 0.02; done");
    for (signal, code) in [
        (None, 15),
        (Some("TERM"), 15),
        (Some("SIGTERM"), 15),
        (Some("15"), 15),
        (Some("sigusr1"), 10),
        (Some("10"), 10),
    ] {
        let id = bundle.id();
        let mut child = bundle.spawn(&["run", &id], "output");
        eventually("ready", || std::fs::remove_file(bundle.rootfs().join("ready")).ok());
        bundle.orlop(&[&["kill", &id], signal.as_slice()].concat()).ok();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal:?}");
    }
}

#[test]
fn kill_with_an_unknown_signal_fails_and_sends_nothing() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    for signal in ["NOSUCH", "65", "SIG"] {
        let said = bundle.orlop(&["kill", &id, signal]).fails();
        assert!(said.contains(&format!("{signal:?}")), "{said}");
    }
    assert_eq!(bundle.state(&id)["status"], "running");
}

#[test]
fn kill_all_signals_every_process() {
    need_root!();
    let mut bundle = Bundle::writable("(trap '' HUP; sleep 60) & sleep 60 & touch /ready; wait; sleep 60");
    bundle.without_namespace("pid");
    let id = bundle.running();
    eventually("ready", || bundle.rootfs().join("ready").exists().then_some(()));
    let pids: Vec<i64> = serde_json::from_str(&bundle.orlop(&["ps", "-f", "json", &id]).ok()).unwrap();
    assert!(pids.len() >= 3, "{pids:?}");
    bundle.orlop(&["kill", "--all", &id, "KILL"]).ok();
    eventually("all are dead", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
    bundle.wait_for(&id, "stopped");
    // runc's callers send it once more when the container has stopped.
    bundle.orlop(&["kill", "-a", &id, "KILL"]).ok();
}

#[test]
fn list_prints_a_table_ids_or_json() {
    need_root!();
    let bundle = Bundle::sleeping();
    std::fs::create_dir(bundle.root()).unwrap();
    assert_eq!(bundle.orlop(&["list", "-q"]).ok(), "");
    assert_eq!(bundle.orlop(&["list", "--format", "json"]).ok().trim_end(), "null");
    assert_eq!(
        bundle.orlop(&["list"]).ok().split_whitespace().collect::<Vec<_>>(),
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    let mut ids = [bundle.created(), bundle.running(), bundle.running()];
    bundle.orlop(&["kill", &ids[2], "KILL"]).ok();
    bundle.wait_for(&ids[2], "stopped");
    let table = bundle.orlop(&["list"]).ok();
    for (id, status) in ids.iter().zip(["created", "running", "stopped"]) {
        let state = bundle.state(id);
        let row: Vec<_> =
            table.lines().find(|line| line.starts_with(&format!("{id} "))).unwrap().split_whitespace().collect();
        let (pid, created) = (state["pid"].to_string(), state["created"].as_str().unwrap());
        assert_eq!(row, [id, &pid, status, bundle.path().to_str().unwrap(), created, "root"]);
    }
    let listed: Vec<Value> = serde_json::from_str(&bundle.orlop(&["list", "-f", "json"]).ok()).unwrap();
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|entry| *entry == bundle.state(entry["id"].as_str().unwrap())));
    ids.sort();
    assert_eq!(bundle.orlop(&["list", "--quiet"]).ok().lines().collect::<Vec<_>>(), ids);
}

#[test]
fn ps_prints_the_containers_processes_as_a_table_or_json() {
    need_root!();
    let bundle = Bundle::new("sleep 61 & sleep 62 & wait");
    let id = bundle.running();
    let pids = || serde_json::from_str::<Vec<i64>>(&bundle.orlop(&["ps", "--format", "json", &id]).ok()).unwrap();
    let mut pids = eventually("three processes", || Some(pids()).filter(|pids| pids.len() == 3));
    assert!(pids.contains(&bundle.pid(&id)));
    let column = |table: &str, at: usize| -> Vec<i64> {
        table.lines().skip(1).map(|line| line.split_whitespace().nth(at).unwrap().parse().unwrap()).collect()
    };
    let table = bundle.orlop(&["ps", &id]).ok();
    assert!(table.starts_with("UID ") && table.contains("sleep 61") && table.contains("sleep 62"), "{table}");
    let mut found = column(&table, 1);
    found.sort_unstable();
    pids.sort_unstable();
    assert_eq!(found, pids);
    let table = bundle.orlop(&["ps", &id, "-e", "-o", "pid,comm"]).ok();
    let mut found = column(&table, 0);
    found.sort_unstable();
    assert_eq!(found, pids);
}

#[test]
fn spec_writes_an_example_once() {
    let dir = std::env::temp_dir().join(format!("orlop-test-{}-spec", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let at = dir.to_str().unwrap();
    let config = |flags: &[&str]| -> Value {
        orlop(&[&["spec", "-b", at], flags].concat()).ok();
        let text = std::fs::read(dir.join("config.json")).unwrap();
        let again = orlop(&["spec", "--bundle", at]).fails();
        assert!(again.contains("File config.json exists. Remove it first"), "{again}");
        std::fs::remove_file(dir.join("config.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let (plain, rootless) = (config(&[]), config(&["--rootless"]));
    std::fs::remove_dir(&dir).unwrap();
    let has = |config: &Value, kind: &str| {
        config["linux"]["namespaces"].as_array().unwrap().iter().any(|one| one["type"] == kind)
    };
    assert_eq!((&plain["ociVersion"], &plain["process"]["args"]), (&json!("1.3.0"), &json!(["sh"])));
    assert!(!has(&plain, "user") && has(&plain, "network"));
    assert!(has(&rootless, "user") && !has(&rootless, "network"));
}

#[test]
fn features_are_json_with_the_specifications_keys() {
    let features: Value = serde_json::from_str(&orlop(&["features"]).ok()).unwrap();
    assert_eq!((&features["ociVersionMin"], &features["ociVersionMax"]), (&json!("1.0.0"), &json!("1.3.0")));
    let hooks: Vec<String> = serde_json::from_value(features["hooks"].clone()).unwrap();
    assert!(hooks.contains(&"createContainer".to_owned()) && hooks.len() == 6, "{hooks:?}");
    let options = features["mountOptions"].as_array().unwrap();
    assert!(options.contains(&json!("rbind")) && options.contains(&json!("rro")));
    let linux = &features["linux"];
    assert_eq!(linux["namespaces"].as_array().unwrap().len(), 8);
    assert!(linux["capabilities"].as_array().unwrap().contains(&json!("CAP_CHECKPOINT_RESTORE")));
    for (section, fields) in [
        ("seccomp", &["enabled"][..]),
        ("apparmor", &["enabled"]),
        ("selinux", &["enabled"]),
        ("intelRdt", &["enabled", "schemata", "monitoring"]),
        ("netDevices", &["enabled"]),
        ("cgroup", &["v1", "v2", "systemd", "systemdUser", "rdma"]),
    ] {
        assert!(fields.iter().all(|field| linux[section][field] == true), "{section}: {}", linux[section]);
    }
    assert_eq!(linux["mountExtensions"], json!({"idmap": {"enabled": true}}));
    assert_eq!(linux["memoryPolicy"]["modes"].as_array().unwrap().len(), 7);
    assert_eq!(linux["memoryPolicy"]["flags"].as_array().unwrap().len(), 3);
    for list in ["actions", "operators", "archs", "knownFlags", "supportedFlags"] {
        assert!(linux["seccomp"][list].as_array().is_some_and(|list| !list.is_empty()), "{list}");
    }
    assert_eq!(features["potentiallyUnsafeConfigAnnotations"], json!(["org.criu.config", "org.systemd.property."]));
    assert_eq!(features["annotations"], json!({"org.opencontainers.runc.checkpoint.enabled": "true"}));
}

#[test]
fn completion_is_made_for_each_shell() {
    for (shell, words) in [("bash", "complete -F"), ("zsh", "#compdef orlop"), ("fish", "complete -c orlop")] {
        let said = orlop(&["completion", shell]).ok();
        assert!(said.contains(words) && said.contains("no-new-keyring"), "{shell}");
    }
    orlop(&["completion", "nosuchshell"]).fails();
}

#[test]
fn man_is_a_roff_page_with_every_command() {
    let page = orlop(&["man"]).ok();
    assert!(page.contains(".TH orlop 1"), "{}", page.lines().take(5).collect::<String>());
    for word in ["create", "exec", "ps", "features"] {
        assert!(page.contains(word), "{word}");
    }
    assert!(page.contains("pidfd\\-socket"));
}

#[test]
fn plan_prints_the_steps_and_does_nothing() {
    need_root!();
    let bundle = Bundle::new("true");
    let id = bundle.id();
    let plan = bundle.orlop(&["plan", &id]).ok();
    for line in ["spawn ", "inside   mounting \"proc\" to rootfs at \"/proc\"", "outside  "] {
        assert!(plan.lines().any(|found| found.starts_with(line)), "{line:?} in {plan}");
    }
    assert!(!bundle.root().exists());
    assert_eq!(cgroups_of(&id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn plan_needs_no_privileges() {
    need_root!();
    let bundle = Bundle::new("true");
    let command = bundle.command(&["plan", "--bundle", bundle.path().to_str().unwrap()]);
    let readable = bundle.temp().join("orlop");
    common::copy_program(env!("CARGO_BIN_EXE_orlop"), &readable);
    let mut user = Command::new("setpriv");
    user.args(["--reuid=54321", "--regid=54321", "--clear-groups"])
        .arg(readable)
        .args(command.get_args())
        .current_dir("/");
    let plan = bundle.finish(user).ok();
    assert!(plan.contains("mounting \"proc\""), "{plan}");
}
