//! passwd(5) files of images: the home that init finds with its fixed buffer is the one that a plain reading finds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::container::state::name_in;
use orlop::process::user::find_home;

/// The length of init's buffer; longer lines are passed over.
const BUFFER: usize = 4096;

fn home(passwd: &[u8], uid: u32) -> Vec<u8> {
    let homes = passwd.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let own: u32 = std::str::from_utf8(fields.get(2)?).ok()?.parse().ok()?;
        let home = fields.get(5).filter(|home| own == uid && !home.is_empty())?;
        Some(home.to_vec())
    });
    let mut home = homes.into_iter().next().unwrap_or_else(|| b"/".to_vec());
    home.truncate(BUFFER - "HOME=".len() - 1);
    home
}

fuzz_target!(|passwd: &[u8]| {
    let file = orlop_fuzz::folder().join("passwd");
    std::fs::write(&file, passwd).expect("a file in the folder");
    for uid in [0, 1, 1000, u32::MAX] {
        let open = std::fs::File::open(&file).expect("the file");
        let mut found = [b'x'; BUFFER];
        find_home(open.into(), uid, &mut found);
        assert!(found.starts_with(b"HOME="));
        assert_eq!(found.last(), Some(&0), "init hands the buffer to execve as a C string");
        let found = &found[5..found.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)];
        if passwd.split(|byte| *byte == b'\n').all(|line| line.len() < BUFFER - 1) {
            let wanted = home(passwd, uid);
            let wanted = &wanted[..wanted.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)];
            assert_eq!(found, wanted, "user {uid}");
        }
        let text = String::from_utf8_lossy(passwd);
        assert!(name_in(&text, uid).is_none_or(|name| !name.contains([':', '\n'])));
    }
});
