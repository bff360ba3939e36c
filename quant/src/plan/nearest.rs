//! The names a misspelt one may have meant.

/// Longest text that is compared, in bytes; the cost grows with the product of both lengths.
const MAX_LENGTH: usize = 256;

/// Up to `most` of the known names that are closest to `name`, best first; none that has little in common.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<String> {
    if name.len() > MAX_LENGTH {
        return Vec::new();
    }
    let limit = name.len().div_ceil(3).max(1);
    let lower = name.to_lowercase();
    let mut close: Vec<(usize, &str)> = known
        .into_iter()
        .filter(|k| k.len() <= MAX_LENGTH)
        .filter_map(|k| {
            let candidate = k.to_lowercase();
            // A part of a longer path is a likely slip too: `attn.qkv` for `blocks.0.attn.qkv`.
            let part = lower.len() >= 3 && candidate.ends_with(&lower);
            let distance = if part { 1 } else { distance(lower.as_bytes(), candidate.as_bytes()) };
            (distance <= limit).then_some((distance, k))
        })
        .collect();
    close.sort_unstable();
    close.dedup();
    close.into_iter().take(most).map(|(_, k)| k.to_owned()).collect()
}

/// Levenshtein distance: insertions, deletions and substitutions of bytes.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, y) in b.iter().enumerate() {
            let Some(cell) = row.get_mut(j + 1) else { break };
            let best = (diagonal + usize::from(x != y)).min(*cell + 1).min(left + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, d) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("a", "a", 0)]
        {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), d, "{a} {b}");
            assert_eq!(distance(b.as_bytes(), a.as_bytes()), d, "{b} {a}");
        }
    }

    #[test]
    fn close_names_come_first() {
        let known = ["image", "mask", "text", "points"];
        assert_eq!(nearest("imge", known, 2), ["image"]);
        assert_eq!(nearest("Mask", known, 2), ["mask"]);
        assert_eq!(nearest("zebra", known, 2), Vec::<String>::new());
        assert_eq!(nearest("attn.qkv", ["blocks.0.attn.qkv", "head"], 2), ["blocks.0.attn.qkv"]);
    }
}
