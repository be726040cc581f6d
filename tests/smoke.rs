//! One container from birth to end.

mod common;

use common::{Bundle, cgroups_of, mounts_below};

#[test]
fn a_container_runs_as_pid_1_and_leaves_nothing() {
    need_root!();
    let bundle = Bundle::new("echo $$; hostname");
    let id = bundle.id();
    assert_eq!(bundle.orlop(&["run", &id]).ok(), "1\norlop\n");
    assert_eq!(cgroups_of(&id), Vec::<std::path::PathBuf>::new());
    assert!(mounts_below(&bundle.path()).is_empty());
    assert_eq!(std::fs::read_dir(bundle.root()).unwrap().count(), 0);
}
