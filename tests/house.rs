//! The rules of the house that no compiler checks: layers, where unsafe code and raw descriptors may be, the size
//! of files and functions, and words that say nothing to a reader of the project.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail by panicking, as tests do.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Which modules a layer has, from the floor up: src/README.md. A module imports lower layers and itself.
const LAYERS: [&[&str]; 6] = [
    &["sys", "error", "log"],
    &["spec", "host"],
    &["plan"],
    &[
        "namespaces",
        "rootfs",
        "process",
        "seccomp",
        "cgroup",
        "hooks",
        "network",
        "rdt",
        "procfs",
        "sysctl",
        "rdt",
        "checkpoint",
    ],
    &["container"],
    &["cli", "main", "lib"],
];

const MOST_LINES_OF_A_FILE: usize = 600;
const MOST_LINES_OF_A_FUNCTION: usize = 80;

/// Functions that are longer, each with the reason.
const LONG_FUNCTIONS: [(&str, &str, &str); 1] =
    [("src/container/create.rs", "plan_create", "the order of a container's birth is read in one place")];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A source file: where it is, its text, and the text with comments and literals blanked out.
struct Source {
    name: String,
    text: String,
    code: String,
}

/// The files below a folder of the project, except hidden ones and what the build makes.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') || name == "target" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn sources(folder: &str) -> Vec<Source> {
    let paths = files(&top().join(folder)).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = blank(&text);
        Source { name: path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned(), text, code }
    };
    let all: Vec<_> = paths.map(read).collect();
    assert!(!all.is_empty(), "no sources in {folder}");
    all
}

/// The code alone: comments, strings and characters become spaces, line ends stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = at + literal(&text[at..], at.checked_sub(1).map(|before| bytes[before]));
        if end > at {
            code.extend(text[at..end].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            let char = text[at..].chars().next().unwrap();
            code.push(char);
            at += char.len_utf8();
        }
    }
    code
}

/// The length of the comment or literal that the text begins with; 0 when it begins with neither.
fn literal(text: &str, before: Option<u8>) -> usize {
    let until = |start: usize, end: &str| text[start..].find(end).map_or(text.len(), |at| start + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return until(2, "*/");
    }
    if let Some(rest) = text.strip_prefix('"') {
        let mut escaped = false;
        let end = rest.find(|char| {
            let ends = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            ends
        });
        return end.map_or(text.len(), |at| at + 2);
    }
    let in_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let hashes = text.strip_prefix('r').map_or(0, |rest| rest.len() - rest.trim_start_matches('#').len());
    if !in_word && text.starts_with('r') && text[1 + hashes..].starts_with('"') {
        return until(2 + hashes, &format!("\"{}", "#".repeat(hashes)));
    }
    // A character, not a lifetime.
    if let Some(rest) = text.strip_prefix('\'') {
        let mut chars = rest.char_indices();
        return match (chars.next(), chars.next()) {
            (Some((_, '\\')), Some((at, char))) => until(1 + at + char.len_utf8(), "'"),
            (Some(_), Some((at, '\''))) => at + 2,
            _ => 0,
        };
    }
    0
}

/// The words of code, with the line that each is on.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    code.lines().enumerate().flat_map(move |(line, text)| {
        text.split(move |char| !is_word(char)).filter(|word| !word.is_empty()).map(move |word| (line + 1, word))
    })
}

fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|layer| layer.contains(&module));
    found.unwrap_or_else(|| {
        panic!("module {module} is in no layer: it belongs in LAYERS of this test, and in src/README.md")
    })
}

/// The module of `src/module.rs` or `src/module/…`.
fn module(name: &str) -> &str {
    let name = name.strip_prefix("src/").unwrap();
    name.split_once('/').map_or_else(|| name.strip_suffix(".rs").unwrap(), |(module, _)| module)
}

/// The modules that `crate::…` names in code, also in groups: `crate::{a, b::c}`.
fn imports(code: &str) -> Vec<&str> {
    let first_word = |text: &str| {
        let end = text.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(text.len());
        text.len() - text[end..].len()
    };
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(&rest[..first_word(rest)]);
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, char) in group.char_indices() {
            match char {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ if begins && !char.is_whitespace() => {
                    found.push(&group[at..at + first_word(&group[at..])]);
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// Every function of a file: its name, the line it begins on, and how many lines it has.
fn functions(code: &str) -> Vec<(&str, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let in_word = code[..at].ends_with(|char: char| char.is_alphanumeric() || char == '_');
        let rest = &code[at + 3..];
        let name = &rest[..rest.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(rest.len())];
        if in_word || name.is_empty() {
            continue;
        }
        let mut depth = 0;
        let mut brackets = 0;
        for (offset, char) in rest.char_indices() {
            match char {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                // A declaration without a body.
                ';' if depth == 0 && brackets == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => continue,
            }
            if char == '}' && depth == 0 {
                let line = code[..at].matches('\n').count() + 1;
                found.push((name, line, rest[..offset].matches('\n').count() + 1));
                break;
            }
        }
    }
    found
}

/// Fails with all that was found, one a line.
#[track_caller]
fn assert_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn modules_import_lower_layers_and_themselves() {
    let mut found = Vec::new();
    for source in sources("src") {
        let own = module(&source.name);
        for import in imports(&source.code) {
            let is_floor = layer(own) == 0 && layer(import) == 0;
            if import != own && layer(import) >= layer(own) && !is_floor {
                found.push(format!("{}: crate::{import}", source.name));
            }
        }
    }
    assert_none("a module imports its own layer or a higher one", &found);
}

#[test]
fn unsafe_code_and_raw_descriptors_are_in_sys_alone() {
    const WORDS: [&str; 8] =
        ["unsafe", "RawFd", "AsRawFd", "IntoRawFd", "FromRawFd", "as_raw_fd", "into_raw_fd", "from_raw_fd"];
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| module(&source.name) != "sys") {
        for (line, word) in words(&source.code).filter(|(_, word)| WORDS.contains(word)) {
            found.push(format!("{}:{line}: {word}", source.name));
        }
    }
    assert_none("outside src/sys", &found);
}

#[test]
fn there_are_no_threads() {
    // The allocator, the clone of init and what init does with memory rely on it.
    let is_thread = |code: &str| {
        let ways = ["thread::spawn", "thread::scope", "thread::Builder", "pthread_create", "CLONE_THREAD", "CLONE_VM"];
        ways.iter().any(|way| code.contains(way))
    };
    let all = sources("src");
    let code = |source: &Source| source.code.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
    let found: Vec<String> =
        all.iter().filter(|source| is_thread(&code(source))).map(|source| source.name.clone()).collect();
    assert_none("No thread is started.", &found);
}

#[test]
fn every_file_says_what_it_is_about() {
    let mut found = Vec::new();
    for source in sources("src").iter().chain(&sources("tests")) {
        // The crate's own page is src/README.md.
        let included = source.name == "src/lib.rs" && source.text.contains("#![doc = include_str!(\"README.md\")]");
        if !source.text.starts_with("//! ") && !included {
            found.push(source.name.clone());
        }
    }
    assert_none("no //! at the top", &found);
}

#[test]
fn files_and_functions_have_a_size_to_be_read() {
    let mut found = Vec::new();
    for source in sources("src").iter().chain(&sources("tests")) {
        let lines = source.text.lines().count();
        if lines > MOST_LINES_OF_A_FILE && source.name.starts_with("src/") {
            found.push(format!("{}: {lines} lines", source.name));
        }
        for (name, line, lines) in functions(&source.code) {
            let excused = LONG_FUNCTIONS.iter().any(|(file, function, _)| (*file, *function) == (&source.name, name));
            if lines > MOST_LINES_OF_A_FUNCTION && !excused {
                found.push(format!("{}:{line}: fn {name}: {lines} lines", source.name));
            }
        }
    }
    assert_none("too long", &found);
}

/// The project speaks of itself alone: not of the machine it was written on, nor of how it came about.
#[test]
fn no_file_speaks_of_how_it_came_about() {
    // In two parts each, so that this file does not hold them.
    const PHRASES: [(&str, &str); 9] = [
        ("/wor", "k/"),
        ("in this ses", "sion"),
        ("last ses", "sion"),
        ("the br", "ief"),
        ("language mo", "del"),
        ("sub", "agent"),
        ("issue ", "#"),
        ("TO", "DO"),
        ("FIX", "ME"),
    ];
    let mut found = Vec::new();
    let mut read = 0;
    for path in files(top()) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        read += 1;
        for (number, line) in text.lines().enumerate() {
            for (first, second) in PHRASES {
                if line.contains(&format!("{first}{second}")) {
                    found.push(format!(
                        "{}:{}: {}",
                        path.strip_prefix(top()).unwrap().display(),
                        number + 1,
                        line.trim()
                    ));
                }
            }
        }
    }
    assert!(read > 50, "only {read} files");
    assert_none("words that say nothing to a reader of the project", &found);
}

/// The texts in backquotes and in indented lines.
fn quoted(text: &str) -> Vec<&str> {
    let indented = text.lines().filter_map(|line| line.strip_prefix("    "));
    let prose = text.lines().filter(|line| !line.starts_with("    "));
    indented.chain(prose.flat_map(|line| line.split('`').skip(1).step_by(2))).collect()
}

#[test]
fn commands_and_files_that_the_documents_name_exist() {
    let help = Command::new(env!("CARGO_BIN_EXE_orlop")).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let commands: Vec<_> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .chain(["help", "man", "COMMAND"])
        .collect();
    let mut found = Vec::new();
    let mut seen = 0;
    let documents = [top().join("README.md")].into_iter().chain(files(&top().join("docs")));
    for document in documents.filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(&document).unwrap();
        for quote in quoted(&text) {
            let mut after = quote.split_whitespace().skip_while(|word| *word != "orlop").skip(1);
            let first = if quote.trim_start().starts_with("orlop ") { after.next() } else { None };
            if let Some(word) = first.filter(|word| word.starts_with(char::is_alphabetic)) {
                seen += 1;
                if !commands.contains(&word) {
                    found.push(format!("{}: orlop {word}", document.display()));
                }
            }
            for word in quote.split([' ', '"', '$', '(', ')']) {
                let is_file =
                    ["hack/", "docs/", "src/", "tests/", "integration/"].iter().any(|start| word.starts_with(start));
                if is_file && !word.contains(['*', '…', '<']) {
                    seen += 1;
                    if !top().join(word).exists() {
                        found.push(format!("{}: {word}", document.display()));
                    }
                }
            }
        }
    }
    assert!(seen > 10, "only {seen} found");
    assert_none("named, but not there", &found);
}

/// The rows of README.md's table of commands are the commands of `orlop --help`.
#[test]
fn the_table_of_commands_is_complete() {
    let help = Command::new(env!("CARGO_BIN_EXE_orlop")).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let readme = std::fs::read_to_string(top().join("README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let named: Vec<_> =
        rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter_map(|text| text.split(' ').next()).collect();
    let commands: Vec<_> =
        list.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    assert!(commands.contains(&"create") && commands.contains(&"plan"), "{commands:?}");
    let missing: Vec<_> = commands.iter().filter(|name| !named.contains(name)).map(ToString::to_string).collect();
    assert_none("not in README.md's table", &missing);
}

#[test]
fn the_scanner_knows_code_from_literals() {
    let code = blank(
        "fn a() { \"unsafe\\\"\" ; '{'; r#\"}\"#; '\\''; } // unsafe\nfn b<'a>(x: [u8; 2]);\nfn c() -> u8 {\n{}\n}\n",
    );
    assert!(words(&code).all(|(_, word)| word != "unsafe"));
    assert_eq!(functions(&code), [("a", 1, 1), ("c", 3, 3)]);
    let code = "use crate::{\n    a::{b, c},\n    d,\n};\nuse crate::e::f; crate::g::h();";
    assert_eq!(imports(code), ["a", "d", "e", "g"]);
}
