//! Id maps: what is accepted is what the kernel accepts (user_namespaces(7)), for the container and for a mount.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop_fuzz::{Choices, read_and_plan};
use serde_json::{Value, json};

/// Small numbers meet often, and so do those at the end of the range.
fn id(choices: &mut Choices) -> u32 {
    match choices.below(4) {
        0 => u32::from(choices.byte() % 16),
        1 => u32::MAX - u32::from(choices.byte() % 16),
        2 => 100_000 + u32::from(choices.byte()),
        _ => choices.word(),
    }
}

fn map(choices: &mut Choices) -> Vec<[u32; 3]> {
    let count = if choices.byte() == 255 { 335 + choices.below(10) } else { choices.below(6) };
    (0..count).map(|_| [id(choices), id(choices), id(choices)]).collect()
}

fn written(map: &[[u32; 3]]) -> Value {
    map.iter().map(|[inside, outside, size]| json!({"containerID": inside, "hostID": outside, "size": size})).collect()
}

/// Whether the kernel would take it.
fn is_valid(map: &[[u32; 3]]) -> bool {
    let range = |start: u32, size: u32| (u64::from(start), u64::from(start) + u64::from(size));
    let fits = |(_, end): (u64, u64)| end <= u64::from(u32::MAX);
    let apart = |a: (u64, u64), b: (u64, u64)| a.1 <= b.0 || b.1 <= a.0;
    map.len() <= 340
        && map.iter().enumerate().all(|(index, [inside, outside, size])| {
            let (inside, outside) = (range(*inside, *size), range(*outside, *size));
            let others = map.iter().take(index);
            *size > 0
                && fits(inside)
                && fits(outside)
                && others
                    .into_iter()
                    .all(|other| apart(inside, range(other[0], other[2])) && apart(outside, range(other[1], other[2])))
        })
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices(bytes);
    // For root on v1 and v2: other hosts have other reasons to refuse.
    let (kind, of_mount) = (choices.byte() & 1, choices.byte() & 1 == 1);
    let (uids, gids) = (map(&mut choices), map(&mut choices));
    let mut config = json!({"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": {"args": ["x"], "cwd": "/"},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}});
    if of_mount {
        config["mounts"] = json!([{"destination": "/a", "type": "bind", "source": "/", "options": ["bind", "idmap"],
            "uidMappings": written(&uids), "gidMappings": written(&gids)}]);
    } else {
        config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
        config["linux"]["uidMappings"] = written(&uids);
        config["linux"]["gidMappings"] = written(&gids);
    }
    let planned = read_and_plan(config.to_string().as_bytes(), kind);
    let valid = is_valid(&uids) && is_valid(&gids) && !uids.is_empty() && !gids.is_empty();
    assert_eq!(planned.is_ok(), valid, "{:?}: {config}", planned.err());
    if let Ok((_, plan)) = planned {
        let text = plan.to_string();
        for [inside, outside, size] in uids.iter().chain(&gids) {
            assert!(text.contains(&format!("{inside} {outside} {size}")), "{text}");
        }
    }
});
