//! Why an init died before its program began: what its cgroup knows of it.

use oci_spec::runtime::Spec;

use crate::cgroup;

/// `linux.resources.memory.limit`, where there is one.
pub fn memory_limit(spec: &Spec) -> Option<i64> {
    let resources = spec.linux().as_ref()?.resources().as_ref()?;
    resources.memory().as_ref()?.limit().filter(|limit| *limit > 0)
}

/// Adds what the cgroup knows of an unexplained death: that the memory limit was too low.
pub fn explain(error: anyhow::Error, cgroup: &cgroup::Record, limit: Option<i64>) -> anyhow::Error {
    let Some(died) =
        error.downcast_ref::<crate::error::Detailed>().filter(|detailed| detailed.detail.code == "init-died")
    else {
        return error;
    };
    let kills = cgroup.oom_kills();
    // systemd removes a scope as soon as its last process has died, and with it what the kernel has counted.
    if let (None, Some(limit)) = (kills, limit)
        && died.message.contains("killed by signal 9")
    {
        let mut detail = died.detail.clone();
        detail.hint = "raise linux.resources.memory.limit".into();
        let message = format!("{} (the memory limit of {limit} bytes may be too low)", died.message);
        return anyhow::Error::new(crate::error::Detailed { message, detail, errno: None })
            .context("unable to start container process");
    }
    if kills.unwrap_or(0) == 0 {
        return error;
    }
    let numbers = match (cgroup.memory(), limit) {
        (Some(memory), _) => {
            let limit = memory.limit.map_or("unlimited".into(), |bytes| format!("{bytes} bytes"));
            format!(" (limit {limit}, used up to {} bytes)", memory.peak.unwrap_or(memory.usage))
        }
        // systemd may remove the scope between two questions, too.
        (None, Some(limit)) => format!(" (limit {limit} bytes)"),
        (None, None) => String::new(),
    };
    let mut detail = died.detail.clone();
    detail.code = "init-oom-killed";
    detail.hint = "raise linux.resources.memory.limit".into();
    let message = format!("container init was OOM-killed (memory limit too low?){numbers}: {}", died.message);
    anyhow::Error::new(crate::error::Detailed { message, detail, errno: None })
        .context("unable to start container process")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Detail, Detailed, one_line};

    fn told(paths: &[(&str, &str)], message: &str, limit: Option<i64>) -> String {
        let detail = Detail { code: "init-died", phase: "inside", step: String::new(), hint: String::new() };
        let died = anyhow::Error::new(Detailed { message: message.into(), detail, errno: None });
        let paths = paths.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect();
        one_line(&explain(died, &cgroup::Record { paths, ..Default::default() }, limit))
    }

    #[test]
    fn the_limit_is_told_when_the_cgroup_goes_while_it_is_asked() {
        let dir = std::env::temp_dir().join(format!("orlop-death-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let told = || told(&[("", dir.to_str().unwrap())], "the container's init was killed by signal 9", Some(4096));
        std::fs::write(dir.join("memory.events"), "oom 1\noom_kill 1\n").unwrap();
        let half_gone = told();
        for (file, content) in [("memory.current", "1"), ("memory.peak", "4097"), ("memory.max", "4096")] {
            std::fs::write(dir.join(file), content).unwrap();
        }
        let there = told();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(half_gone.contains("OOM-killed (memory limit too low?) (limit 4096 bytes): the"), "{half_gone}");
        assert!(there.contains("(limit 4096 bytes, used up to 4097 bytes): the"), "{there}");
    }

    #[test]
    fn a_killed_init_whose_cgroup_has_gone_is_told_with_the_memory_limit() {
        let told = |message: &str, limit| told(&[("", "/sys/fs/cgroup/there/is/none")], message, limit);
        let killed = "the container's init was killed by signal 9";
        let expected = format!("{killed} (the memory limit of 4096 bytes may be too low)");
        assert!(told(killed, Some(4096)).ends_with(&expected));
        assert!(told(killed, None).ends_with(killed));
        assert!(told("the container's init exited with status 1", Some(4096)).ends_with("status 1"));
    }
}
