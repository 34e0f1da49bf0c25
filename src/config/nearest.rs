//! What somebody probably meant to write.

/// The known word nearest to `word`, if one is near enough to be a slip.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // A distance is only worked out for words of a plausible length: the input is not ours.
    let plain = word.to_ascii_lowercase().replace('-', "_");
    let near = |candidate: &&'k str| {
        let distance = if plain.len() > 64 { usize::MAX } else { distance(&plain, candidate) };
        (distance <= candidate.chars().count().max(3) / 3).then_some((distance, *candidate))
    };
    known.iter().filter_map(near).min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (i, letter) in from.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, other) in to.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&row, j) + usize::from(letter != *other);
            let mut best = replaced.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            if j > 0 && previous == Some(*other) && to.get(j - 1) == Some(&letter) {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        previous = Some(letter);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["burst", "limit", "window", "on_store_error", "cost"];
        assert_eq!(nearest("brust", &known), Some("burst"));
        assert_eq!(nearest("limits", &known), Some("limit"));
        assert_eq!(nearest("onStoreError", &known), Some("on_store_error"));
        assert_eq!(nearest("on-store-error", &known), Some("on_store_error"));
        assert_eq!(nearest("Window", &known), Some("window"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest(&"x".repeat(100_000), &known), None);
    }
}
