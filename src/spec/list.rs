//! Lists of CPUs and memory nodes: `0-3,7`, the format of cpuset(7).

use std::fmt;

/// The highest number that a list may hold: kernels are built for 8192 CPUs at most.
const HIGHEST: usize = 8191;

/// A set of CPU or node numbers as the kernel takes it: bit n of the words is number n.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdSet(Vec<u64>);

impl IdSet {
    /// Reads a list. Spaces around entries and empty entries are allowed, as in runc.
    ///
    /// # Errors
    /// What is wrong with which entry.
    pub fn parse(text: &str) -> Result<IdSet, String> {
        let mut set = IdSet::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (first, last) = match entry.split_once('-') {
                Some((first, last)) => (number(first, entry)?, number(last, entry)?),
                None => (number(entry, entry)?, number(entry, entry)?),
            };
            if first > last {
                return Err(format!("invalid range: {entry}"));
            }
            (first..=last).for_each(|id| set.insert(id));
        }
        if set.0.is_empty() {
            return Err(format!("no members found in set {text:?}"));
        }
        Ok(set)
    }

    fn insert(&mut self, id: usize) {
        let word = id / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (id % 64);
    }

    /// The words of the mask, lowest numbers first.
    pub fn words(&self) -> &[u64] {
        &self.0
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether the number is in the set.
    pub fn contains(&self, id: usize) -> bool {
        self.0.get(id / 64).is_some_and(|word| word & (1 << (id % 64)) != 0)
    }

    /// The numbers, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 64).filter(|&id| self.contains(id))
    }
}

impl fmt::Display for IdSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ids = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = ids.next() {
            let mut last = first;
            while let Some(next) = ids.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

fn number(text: &str, entry: &str) -> Result<usize, String> {
    // Only digits: the standard parser would take a plus sign, too.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<usize>() {
        Ok(id) if digits && id <= HIGHEST => Ok(id),
        Ok(id) if digits => Err(format!("{id} is above {HIGHEST}")),
        _ if digits => Err(format!("{text} is above {HIGHEST}")),
        _ => Err(format!("invalid entry {entry:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_runc_reads_them() {
        for (text, printed) in [
            ("0", "0"),
            ("0-3,7", "0-3,7"),
            (",0,1,", "0-1"),
            ("    , 1   , 3  ,  5-7,    ", "1,3,5-7"),
            ("1, 2, 1-2", "1-2"),
            ("127-129, 1", "1,127-129"),
            ("8191", "8191"),
        ] {
            assert_eq!(IdSet::parse(text).unwrap().to_string(), printed, "{text:?}");
        }
        for text in ["", " , ", "-", "1-", "-1", "3-1", "a", "+1", "8192", "1-2-3", "99999999999999999999"] {
            assert!(IdSet::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn words_hold_bit_n_for_number_n() {
        let set = IdSet::parse("0,65").unwrap();
        assert_eq!(set.words(), [1, 2]);
        assert!(set.contains(65) && !set.contains(64) && !set.contains(4000));
    }
}
