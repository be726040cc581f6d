//! A config.json, whatever it holds, becomes a plan or an error in one line, on every kind of host. The text's length
//! chooses the host, so that inputs are configurations as they are.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let kind = (text.len() as u8).wrapping_mul(37);
    let _ = orlop_fuzz::read_and_plan(text, kind);
    let _ = orlop_fuzz::read_and_plan(text, 0);
    // The same text as the process of `exec --process`.
    if let Err(error) = orlop::spec::read_process(text) {
        assert!(!orlop::error::one_line(&error).is_empty());
    }
});
