//! state.json, whatever it holds: a record that can be written and read again, or an error that names the way out.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::container::id::ContainerId;
use orlop::container::record::Record;
use orlop::container::state::describe;
use orlop::container::status::Status;
use orlop::container::store::Store;
use orlop_fuzz::folder;

fuzz_target!(|text: &[u8]| {
    let root = folder().join("state");
    let id = ContainerId::new("c1").expect("an id");
    std::fs::create_dir_all(root.join("c1")).expect("a folder");
    std::fs::write(root.join("c1/state.json"), text).expect("a file");
    let store = Store::new(root);
    match store.record(&id) {
        Ok(record) => {
            let written = serde_json::to_vec(&record).expect("what is read can be written");
            let again: Record = serde_json::from_slice(&written).expect("what is written can be read");
            assert_eq!(format!("{again:?}"), format!("{record:?}"));
            // The kernel is asked about the process only: nothing is sent to it.
            let state = describe(&record, Status::of(&record, &store.dir(&id)));
            assert!(serde_json::to_string(&state).is_ok());
        }
        Err(error) => {
            let line = orlop::error::one_line(&error);
            assert!(line.contains("is damaged") && line.contains("delete --force"), "{line}");
        }
    }
});
