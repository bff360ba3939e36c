//! What can be drawn: the categories with their emoji code points, the drawing styles and the tints.

/// Category name (one word of the vocabulary) and the code point whose emoji draws it.
pub const CATEGORIES: [(&str, &str); 40] = [
    ("apple", "1f34e"),
    ("banana", "1f34c"),
    ("strawberry", "1f353"),
    ("grapes", "1f347"),
    ("watermelon", "1f349"),
    ("pineapple", "1f34d"),
    ("carrot", "1f955"),
    ("mushroom", "1f344"),
    ("pizza", "1f355"),
    ("hamburger", "1f354"),
    ("doughnut", "1f369"),
    ("cake", "1f382"),
    ("cat", "1f431"),
    ("dog", "1f436"),
    ("pig", "1f437"),
    ("panda", "1f43c"),
    ("fox", "1f98a"),
    ("monkey", "1f435"),
    ("elephant", "1f418"),
    ("penguin", "1f427"),
    ("owl", "1f989"),
    ("turtle", "1f422"),
    ("butterfly", "1f98b"),
    ("car", "1f697"),
    ("bicycle", "1f6b2"),
    ("airplane", "2708"),
    ("rocket", "1f680"),
    ("guitar", "1f3b8"),
    ("camera", "1f4f7"),
    ("clock", "23f0"),
    ("umbrella", "2602"),
    ("balloon", "1f388"),
    ("book", "1f4d5"),
    ("crown", "1f451"),
    ("shoe", "1f45f"),
    ("house", "1f3e0"),
    ("flower", "1f33c"),
    ("star", "2b50"),
    ("heart", "2764"),
    ("robot", "1f916"),
];

/// Drawing styles: Fluent Emoji 3D, Fluent Emoji Flat, Noto Emoji. Also the folder names under `samples/art`.
pub const STYLES: [&str; 3] = ["d3", "flat", "noto"];

/// Longer side of a stored sprite in pixels.
#[cfg(feature = "art")]
pub const SPRITE: usize = 96;

/// Photographs whose crops serve as backgrounds (all public domain or CC0).
pub const PHOTOS: [&str; 5] = ["astronaut", "chelsea", "coffee", "hubble", "rocket"];

/// Tint names with their colours; the luminance of the sprite is kept, its hue replaced.
pub const TINTS: [(&str, [f32; 3]); 6] = [
    ("red", [235.0, 45.0, 45.0]),
    ("yellow", [250.0, 220.0, 40.0]),
    ("green", [50.0, 190.0, 60.0]),
    ("blue", [50.0, 105.0, 245.0]),
    ("purple", [165.0, 65.0, 215.0]),
    ("white", [250.0, 250.0, 250.0]),
];

/// Drawings that training never sees: the Noto version of every fifth category. They are evaluated separately.
pub fn held_out(category: usize, style: usize) -> bool {
    style == 2 && category % 5 == 2
}
