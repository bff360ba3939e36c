//! Referring expressions that single out one object, the vocabulary, and the sentence as numbers.

use crate::catalogue::{CATEGORIES, TINTS};
use crate::model::WORDS;
use crate::rng::Rng;
use crate::scene::Object;

/// What an expression relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The category alone.
    Category,
    /// A colour that rivals of the category lack.
    Colour,
    /// Being larger or smaller than all rivals.
    Size,
    /// The place in the picture compared with all rivals.
    Place,
    /// The position relative to another object.
    Relation,
}

/// All kinds.
pub const KINDS: [Kind; 5] = [Kind::Category, Kind::Colour, Kind::Size, Kind::Place, Kind::Relation];

impl Kind {
    /// Short name for tables.
    pub fn name(self) -> &'static str {
        ["category", "colour", "size", "place", "relation"][self as usize]
    }
}

/// An expression and the object it means.
#[derive(Clone, Debug)]
pub struct Expression {
    /// Lower-case words.
    pub text: String,
    /// Index of the object.
    pub target: usize,
    /// What it relies on.
    pub kind: Kind,
}

/// One way to single out one object.
#[derive(Clone, Copy)]
struct Fact {
    target: usize,
    kind: Kind,
    how: How,
}

#[derive(Clone, Copy)]
enum How {
    Category,
    Colour { needed: bool },
    Largest { of: usize },
    Smallest { of: usize },
    Side(usize, usize),
    Beside(usize, usize),
}

const SIZE_RATIO: f32 = 1.35;
const PLACE_GAP: f32 = 0.13;
const RELATION_GAP: f32 = 0.10;

fn rivals(objects: &[Object], i: usize) -> Vec<&Object> {
    objects
        .iter()
        .enumerate()
        .filter(|(j, o)| *j != i && o.category == objects[i].category)
        .map(|(_, o)| o)
        .collect()
}

/// Signed distance of `a` in direction 0 left, 1 right, 2 above, 3 below of `b`, and the offset across.
fn offset(a: &Object, b: &Object, direction: usize) -> (f32, f32) {
    let (dx, dy) = (a.x - b.x, a.y - b.y);
    match direction {
        0 => (-dx, dy),
        1 => (dx, dy),
        2 => (-dy, dx),
        _ => (dy, dx),
    }
}

fn facts(objects: &[Object]) -> Vec<Fact> {
    let mut out = Vec::new();
    for (target, o) in objects.iter().enumerate() {
        let rivals = rivals(objects, target);
        let mut push = |kind, how| out.push(Fact { target, kind, how });
        if rivals.is_empty() {
            push(Kind::Category, How::Category);
        }
        if o.tint.is_some() && rivals.iter().all(|r| r.tint.is_some() && r.tint != o.tint) {
            push(Kind::Colour, How::Colour { needed: !rivals.is_empty() });
        }
        if !rivals.is_empty() {
            let of = rivals.len() + 1;
            if rivals.iter().all(|r| o.size > r.size * SIZE_RATIO) {
                push(Kind::Size, How::Largest { of });
            }
            if rivals.iter().all(|r| r.size > o.size * SIZE_RATIO) {
                push(Kind::Size, How::Smallest { of });
            }
            for side in 0..4 {
                if rivals.iter().all(|r| offset(o, r, side).0 > PLACE_GAP) {
                    push(Kind::Place, How::Side(side, of));
                }
            }
        }
        for (j, mark) in objects.iter().enumerate() {
            if j == target
                || mark.category == o.category
                || objects.iter().filter(|x| x.category == mark.category).count() > 1
            {
                continue;
            }
            for side in 0..4 {
                let (along, across) = offset(o, mark, side);
                let holds = along > RELATION_GAP && across.abs() < 1.6 * along;
                if holds && rivals.iter().all(|r| offset(r, mark, side).0 < 0.0) {
                    push(Kind::Relation, How::Beside(side, j));
                }
            }
        }
    }
    out
}

fn phrase(objects: &[Object], fact: Fact, rng: &mut Rng) -> String {
    let name = |i: usize| CATEGORIES[objects[i].category].0;
    let noun = name(fact.target);
    let pick = |rng: &mut Rng, words: &[&'static str]| *rng.pick(words);
    let article = pick(rng, &["the ", "the ", "the ", "", "a "]);
    // "a" goes with neither "apple" nor "grapes".
    let plural = noun == "grapes";
    let article =
        if article == "a " && (plural || noun.starts_with(['a', 'e', 'o', 'u'])) { "the " } else { article };
    let the = if article.is_empty() { "" } else { "the " };
    let sized = |rng: &mut Rng, of: usize, large: bool| -> &'static str {
        match (large, of) {
            (true, 2) => pick(rng, &["big", "bigger", "larger", "large", "biggest", "largest"]),
            (true, _) => pick(rng, &["biggest", "largest"]),
            (false, 2) => pick(rng, &["small", "smaller", "little", "smallest"]),
            (false, _) => pick(rng, &["smallest"]),
        }
    };
    match fact.how {
        How::Category => format!("{article}{noun}"),
        How::Colour { .. } => {
            let colour = TINTS[objects[fact.target].tint.unwrap_or(0)].0;
            if rng.chance(0.15) {
                format!("{the}{noun} that {} {colour}", if plural { "are" } else { "is" })
            } else {
                format!("{article}{colour} {noun}")
            }
        }
        How::Largest { of } => format!("{the}{} {noun}", sized(rng, of, true)),
        How::Smallest { of } => format!("{the}{} {noun}", sized(rng, of, false)),
        How::Side(side, of) => {
            let end = match side {
                0 => pick(rng, &["on the left", "on the left side", "at the left", "to the left"]),
                1 => pick(rng, &["on the right", "on the right side", "at the right", "to the right"]),
                2 => pick(rng, &["at the top", "on top", "in the upper part"]),
                _ => pick(rng, &["at the bottom", "in the lower part"]),
            };
            let front = match (side, of) {
                (0, 2) => pick(rng, &["left", "leftmost"]),
                (1, 2) => pick(rng, &["right", "rightmost"]),
                (2, 2) => pick(rng, &["upper", "top", "topmost", "higher"]),
                (3, 2) => pick(rng, &["lower", "bottom"]),
                _ => pick(rng, [&["leftmost"], &["rightmost"], &["topmost"], &["bottommost"]][side]),
            };
            // Sometimes the size is said as well, where it agrees.
            let o = &objects[fact.target];
            let rivals = rivals(objects, fact.target);
            let extra = if rng.chance(0.3) && rivals.iter().all(|r| o.size > r.size * SIZE_RATIO) {
                format!("{} ", sized(rng, of, true))
            } else if rng.chance(0.3) && rivals.iter().all(|r| r.size > o.size * SIZE_RATIO) {
                format!("{} ", sized(rng, of, false))
            } else {
                String::new()
            };
            if rng.chance(0.5) { format!("{the}{extra}{noun} {end}") } else { format!("{the}{front} {noun}") }
        }
        How::Beside(side, mark) => {
            let link = match side {
                0 => pick(rng, &["left of", "to the left of", "on the left of"]),
                1 => pick(rng, &["right of", "to the right of", "on the right of"]),
                2 => pick(rng, &["above", "over"]),
                _ => pick(rng, &["below", "under", "beneath"]),
            };
            format!("{the}{noun} {link} {the}{}", name(mark))
        }
    }
}

/// How often sentences of a kind are drawn in training: the difficult ones more often.
fn weight(fact: &Fact, objects: &[Object]) -> f32 {
    match fact.how {
        How::Category => 0.5,
        How::Colour { needed } => {
            if needed {
                1.2
            } else {
                0.3
            }
        }
        How::Largest { .. } | How::Smallest { .. } => 2.6,
        How::Side(..) => 0.8,
        // Without rivals the category alone would do.
        How::Beside(..) => {
            if rivals(objects, fact.target).is_empty() {
                0.15
            } else {
                1.0
            }
        }
    }
}

/// A sentence for training.
pub fn draw(objects: &[Object], rng: &mut Rng) -> Option<Expression> {
    let facts = facts(objects);
    let weights: Vec<f32> = facts.iter().map(|f| weight(f, objects)).collect();
    let fact = *facts.get(rng.weighted(&weights))?;
    Some(Expression { text: phrase(objects, fact, rng), target: fact.target, kind: fact.kind })
}

/// Sentences for evaluation: one for every possible kind and target, in random order.
pub fn all(objects: &[Object], rng: &mut Rng) -> Vec<Expression> {
    let mut facts = facts(objects);
    rng.shuffle(&mut facts);
    let mut seen = Vec::new();
    facts.retain(|f| {
        let new = !seen.contains(&(f.kind, f.target));
        seen.push((f.kind, f.target));
        new
    });
    let say = |f: &Fact| (f.target, f.kind, *f);
    let list: Vec<_> = facts.iter().map(say).collect();
    list.into_iter()
        .map(|(target, kind, f)| Expression { text: phrase(objects, f, rng), target, kind })
        .collect()
}

/// Every word, special tokens first; the position is the token id.
pub fn vocabulary() -> Vec<&'static str> {
    let mut words = vec!["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    words.extend(
        "a above and are at beneath below big bigger biggest bottom bottommost higher in is large larger largest left \
         leftmost little lower of on over part right rightmost side small smaller smallest that the to top topmost \
         under upper"
            .split_whitespace(),
    );
    words.extend(TINTS.iter().map(|t| t.0));
    words.extend(CATEGORIES.iter().map(|c| c.0));
    words
}

/// Token ids and mask, `[CLS]` ... `[SEP]` and padding.
pub fn encode(text: &str) -> ([u32; WORDS], [f32; WORDS]) {
    let vocabulary = vocabulary();
    let mut ids = [0; WORDS];
    let mut mask = [0.0; WORDS];
    let words = text.split_whitespace().map(|w| vocabulary.iter().position(|v| *v == w).unwrap_or(1) as u32);
    let tokens = std::iter::once(2).chain(words.take(WORDS - 2)).chain(std::iter::once(3));
    for (i, token) in tokens.enumerate() {
        ids[i] = token;
        mask[i] = 1.0;
    }
    (ids, mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(category: usize, tint: Option<usize>, x: f32, y: f32, size: f32) -> Object {
        Object { category, style: 0, tint, x, y, size }
    }

    #[test]
    fn sentences_single_out_their_target() {
        // Two cats (a small red one on the left, a large green one on the right) and a pizza below the right one.
        let objects = [
            object(12, Some(0), 0.2, 0.3, 32.0),
            object(12, Some(2), 0.7, 0.3, 60.0),
            object(8, None, 0.7, 0.8, 40.0),
        ];
        for seed in 0..200 {
            for e in all(&objects, &mut Rng::new(seed, 0)) {
                let words: Vec<&str> = e.text.split(' ').collect();
                let has = |w: &str| words.contains(&w);
                match e.kind {
                    Kind::Category => assert_eq!(e.target, 2, "{}", e.text),
                    Kind::Colour => assert_eq!(has("red"), e.target == 0, "{}", e.text),
                    Kind::Size => {
                        let small = ["small", "smaller", "smallest", "little"].into_iter().any(has);
                        assert_eq!(small, e.target == 0, "{}", e.text);
                    }
                    Kind::Place => assert_eq!(has("left") || has("leftmost"), e.target == 0, "{}", e.text),
                    Kind::Relation => assert_ne!(e.target, 0, "{}", e.text),
                }
                let (ids, mask) = encode(&e.text);
                assert!(!ids.contains(&1), "a word outside the vocabulary: {}", e.text);
                assert_eq!(mask.iter().sum::<f32>() as usize, words.len() + 2);
            }
        }
    }

    #[test]
    fn vocabulary_has_no_doubles() {
        let mut words = vocabulary();
        let n = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), n);
    }
}
