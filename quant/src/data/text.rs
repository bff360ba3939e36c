//! Sentences to token ids.
//!
//! LAVT reads BERT ids: lower-cased WordPiece with `[CLS]` and `[SEP]`, cut to the first `max_tokens` ids (so
//! `[SEP]` may be lost), padded with `[PAD]`. CLIP keeps its end token instead when it cuts; see
//! [`Truncation`].

mod vocabulary;

use serde_json::Value;
use tokenizers::Tokenizer;

use super::{DataError, Files};

/// Longest text that is tokenized, in bytes: far beyond what any of these models reads.
const MAX_TEXT: usize = 16 << 10;
/// Most ids that a model may ask for.
const MAX_TOKENS: usize = 4096;
/// Files that a tokenizer can be made from, the first that is there.
const KINDS: [&[&str]; 3] = [&["tokenizer.json"], &["vocab.txt"], &["vocab.json", "merges.txt"]];

/// What is given up when a sentence has too many ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// The first `max_tokens` ids stay, whatever they are (LAVT).
    Cut,
    /// The last id (`[SEP]`, `<|endoftext|>`) stays in the last place (Hugging Face).
    KeepLast,
}

/// Something a person should know about a text that was encoded all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextWarning {
    /// The model reads only the beginning.
    Truncated {
        /// Ids of the whole sentence.
        tokens: usize,
        /// Ids that were kept.
        kept: usize,
    },
    /// Words that are not in the vocabulary, each once, in order.
    UnknownWords(Vec<String>),
}

impl std::fmt::Display for TextWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated { tokens, kept } => {
                write!(f, "the text has {tokens} tokens; the model reads the first {kept}")
            }
            Self::UnknownWords(words) => write!(f, "the model does not know: {}", words.join(", ")),
        }
    }
}

/// Ids ready for the model, both of length `max_tokens`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, padded.
    pub input_ids: Vec<i64>,
    /// 1 for tokens, 0 for padding.
    pub attention_mask: Vec<i64>,
    /// What was lost.
    pub warnings: Vec<TextWarning>,
}

/// A tokenizer with a model's length and padding.
pub struct TextEncoder {
    tokenizer: Tokenizer,
    max_tokens: usize,
    truncation: Truncation,
    pad: u32,
    unknown: Option<u32>,
}

impl std::fmt::Debug for TextEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextEncoder").field("max_tokens", &self.max_tokens).finish_non_exhaustive()
    }
}

impl TextEncoder {
    /// Whether a folder has the files of a tokenizer.
    pub fn is_in(files: &dyn Files) -> bool {
        kind(files).is_some()
    }

    /// Reads `tokenizer.json`, or else `vocab.txt` as BERT's WordPiece, or else `vocab.json` and `merges.txt` as CLIP's
    /// byte pairs. `max_tokens` includes the special tokens.
    pub fn read(files: &dyn Files, max_tokens: usize, truncation: Truncation) -> Result<Self, DataError> {
        let path = kind(files).unwrap_or(KINDS[0][0]);
        let shown = files.display(path);
        let failed = |reason: String| DataError::Tokenizer { path: shown.clone(), reason };
        if !(2..=MAX_TOKENS).contains(&max_tokens) {
            return Err(failed(format!(
                "the model asks for {max_tokens} tokens; expected 2 to {MAX_TOKENS}"
            )));
        }
        let bytes = files.read(path).map_err(|e| match e {
            DataError::Missing { .. } => failed(
                "no tokenizer.json, no vocab.txt and no vocab.json with merges.txt beside the model; copy the tokenizer \
                 there"
                    .to_owned(),
            ),
            other => other,
        })?;
        let mut tokenizer = match path {
            "vocab.txt" => vocabulary::word_piece(&bytes, settings(files).as_ref()).map_err(failed)?,
            "vocab.json" => vocabulary::byte_pairs(&bytes, &files.read("merges.txt")?).map_err(failed)?,
            _ => tokenizer_json(&bytes)
                .map_err(|e| failed(format!("not a tokenizer of the `tokenizers` library: {e}")))?,
        };
        // The file's own settings are for training batches; the model's length is given.
        tokenizer.with_truncation(None).map_err(|e| failed(e.to_string()))?;
        let padding = tokenizer.get_padding().map(|p| p.pad_id);
        tokenizer.with_padding(None);
        let id = |word: &str| tokenizer.token_to_id(word);
        let pad = match padding.or_else(|| named(files, "pad_token").and_then(|word| id(&word))) {
            Some(pad) => pad,
            None => {
                ["[PAD]", "<pad>", "<|endoftext|>"].iter().find_map(|word| id(word)).ok_or_else(|| {
                    failed("no padding token; name it as `pad_token` in tokenizer_config.json".to_owned())
                })?
            }
        };
        let unknown = named(files, "unk_token")
            .and_then(|word| id(&word))
            .or_else(|| ["[UNK]", "<unk>"].iter().find_map(|word| id(word)))
            // CLIP's byte-level tokenizer knows every word and calls its end token the unknown one.
            .filter(|&unknown| id("<|endoftext|>") != Some(unknown));
        Ok(Self { tokenizer, max_tokens, truncation, pad, unknown })
    }

    /// Ids that a sentence is brought to.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Encodes a sentence. One that is too long is cut, with a warning; an empty one is an error.
    pub fn encode(&self, text: &str) -> Result<Encoded, DataError> {
        if text.trim().is_empty() {
            return Err(DataError::EmptyText);
        }
        let end = (0..=text.len().min(MAX_TEXT)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        self.ids(text.get(..end).unwrap_or(text))
    }

    fn ids(&self, text: &str) -> Result<Encoded, DataError> {
        let encoding = guarded(|| self.tokenizer.encode(text, true))
            .map_err(|reason| DataError::Tokenizer { path: "text".to_owned(), reason })?;
        let all = encoding.get_ids();
        let mut input_ids: Vec<i64> = all.iter().take(self.max_tokens).map(|&id| i64::from(id)).collect();
        let mut warnings = Vec::new();
        if all.len() > self.max_tokens {
            if let (Truncation::KeepLast, Some(last), Some(&end)) =
                (self.truncation, input_ids.last_mut(), all.last())
            {
                *last = i64::from(end);
            }
            warnings.push(TextWarning::Truncated { tokens: all.len(), kept: self.max_tokens });
        }
        let mut words: Vec<String> = Vec::new();
        for (id, &(from, to)) in all.iter().zip(encoding.get_offsets()) {
            if Some(*id) == self.unknown
                && let Some(word) = text.get(from..to).filter(|word| !word.is_empty())
                && !words.iter().any(|known| known == word)
            {
                words.push(word.to_owned());
            }
        }
        if !words.is_empty() {
            warnings.push(TextWarning::UnknownWords(words));
        }
        let mut attention_mask = vec![1; input_ids.len()];
        attention_mask.resize(self.max_tokens, 0);
        input_ids.resize(self.max_tokens, i64::from(self.pad));
        Ok(Encoded { input_ids, attention_mask, warnings })
    }
}

/// The first file of the tokenizer that a folder has.
fn kind(files: &dyn Files) -> Option<&'static str> {
    KINDS
        .iter()
        .find(|names| names.iter().all(|name| files.contains(name)))
        .and_then(|names| names.first().copied())
}

/// `tokenizer_config.json`, when a readable one is there.
fn settings(files: &dyn Files) -> Option<Value> {
    let name = "tokenizer_config.json";
    let bytes = files.contains(name).then(|| files.read(name).ok())??;
    serde_json::from_slice(&bytes).ok()
}

/// A special token's text from `tokenizer_config.json` or `special_tokens_map.json`, when one is there.
fn named(files: &dyn Files, field: &str) -> Option<String> {
    ["tokenizer_config.json", "special_tokens_map.json"].iter().find_map(|name| {
        let bytes = files.contains(name).then(|| files.read(name).ok())??;
        let json: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        let token = json.get(field)?;
        token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
    })
}

/// A `tokenizer.json`. The library panics on some files that are not JSON or have an unknown decoder; so the
/// JSON is checked first, and the decoder, which is for the way back to text, is left out.
fn tokenizer_json(bytes: &[u8]) -> Result<Tokenizer, String> {
    let mut file: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let fields = file.as_object_mut().ok_or("expected a JSON object")?;
    fields.insert("decoder".to_owned(), Value::Null);
    guarded(|| Tokenizer::from_bytes(file.to_string()))
}

/// A call of the library with its panics as errors: the file that it works by may come from a stranger.
fn guarded<T, E: std::fmt::Display>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("the tokenizer library failed on it; take the original file of the model".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::EmbeddedFiles;

    const JSON: &[u8] = include_bytes!("../../../tests/fixtures/lavt_one_tiny/tokenizer.json");
    const VOCAB: &[u8] = include_bytes!("../../../tests/fixtures/lavt_one_tiny/vocab.txt");
    const CASES: &[u8] = include_bytes!("../../../tests/fixtures/lavt_one_tiny/tokenizer_cases.json");
    const FOLDERS: [EmbeddedFiles; 2] =
        [EmbeddedFiles(&[("tokenizer.json", JSON)]), EmbeddedFiles(&[("vocab.txt", VOCAB)])];

    fn ids(value: &serde_json::Value) -> Vec<i64> {
        value.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
    }

    #[test]
    fn equals_the_original_tokenization() {
        let cases: Vec<serde_json::Value> = serde_json::from_slice(CASES).unwrap();
        for files in FOLDERS {
            let encoder = TextEncoder::read(&files, 20, Truncation::Cut).unwrap();
            for case in &cases {
                let text = case["text"].as_str().unwrap();
                let encoded = encoder.ids(text).unwrap();
                assert_eq!(encoded.input_ids, ids(&case["lavt20_input_ids"]), "{text}");
                assert_eq!(encoded.attention_mask, ids(&case["lavt20_attention_mask"]), "{text}");
            }
        }
    }

    #[test]
    fn what_is_lost_is_said() {
        let encoder = TextEncoder::read(&FOLDERS[0], 6, Truncation::KeepLast).unwrap();
        assert!(encoder.encode("the red car").unwrap().warnings.is_empty());
        let unknown = encoder.encode("漢 red 漢").unwrap().warnings;
        assert_eq!(unknown, [TextWarning::UnknownWords(vec!["漢".to_owned()])]);
        assert_eq!(unknown[0].to_string(), "the model does not know: 漢");
        let long = encoder.encode("man in blue shirt sitting on the couch").unwrap();
        assert_eq!(long.warnings, [TextWarning::Truncated { tokens: 10, kept: 6 }]);
        assert_eq!((long.input_ids.len(), long.input_ids[5]), (6, 6));
        for empty in ["", "  \n"] {
            assert!(matches!(encoder.encode(empty), Err(DataError::EmptyText)));
        }
        assert_eq!(encoder.encode(&"é".repeat(100_000)).unwrap().input_ids.len(), 6);
    }

    #[test]
    fn bad_tokenizers_are_errors() {
        let read =
            |files: EmbeddedFiles, n| TextEncoder::read(&files, n, Truncation::Cut).unwrap_err().to_string();
        assert!(read(EmbeddedFiles(&[]), 20).contains("copy the tokenizer"));
        assert!(read(EmbeddedFiles(&[("tokenizer.json", b"{}")]), 20).contains("tokenizer.json"));
        assert!(read(EmbeddedFiles(&[("vocab.txt", b"a\nb")]), 20).contains("[UNK]"));
        assert!(read(EmbeddedFiles(&[("vocab.txt", b"\xff\xfe")]), 20).contains("UTF-8"));
        assert!(read(FOLDERS[0], 0).contains("0 tokens"));
        assert!(read(FOLDERS[0], usize::MAX).contains("expected 2"));
    }

    const CLIP: EmbeddedFiles = EmbeddedFiles(&[
        ("vocab.json", include_bytes!("../../../tests/fixtures/clip_tiny/vocab.json")),
        ("merges.txt", include_bytes!("../../../tests/fixtures/clip_tiny/merges.txt")),
    ]);
    const CLIP_CASES: &[u8] = include_bytes!("../../../tests/fixtures/clip_tiny/tokenizer_cases.json");

    #[test]
    fn byte_pairs_equal_the_original_tokenization() {
        let cases: Vec<serde_json::Value> = serde_json::from_slice(CLIP_CASES).unwrap();
        let encoder = TextEncoder::read(&CLIP, 24, Truncation::KeepLast).unwrap();
        for case in &cases {
            let text = case["text"].as_str().unwrap();
            let encoded = encoder.ids(text).unwrap();
            assert_eq!(encoded.input_ids, ids(&case["padded24_input_ids"]), "{text}");
            assert_eq!(encoded.attention_mask, ids(&case["padded24_attention_mask"]), "{text}");
            assert!(encoded.warnings.iter().all(|w| matches!(w, TextWarning::Truncated { .. })), "{text}");
        }
    }

    #[test]
    fn the_case_of_words_is_kept_where_the_settings_say_so() {
        let vocabulary: &[u8] = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nRed\nred\ncar\n";
        let read = |settings: &'static [u8]| {
            let files: Vec<(&str, &[u8])> =
                vec![("vocab.txt", vocabulary), ("tokenizer_config.json", settings)];
            let files = EmbeddedFiles(Vec::leak(files));
            TextEncoder::read(&files, 5, Truncation::KeepLast).unwrap().ids("Red car").unwrap().input_ids
        };
        assert_eq!(read(br#"{"do_lower_case": false}"#), [2, 4, 6, 3, 0]);
        assert_eq!(read(br#"{"do_lower_case": true}"#), [2, 5, 6, 3, 0]);
        assert_eq!(read(b"no json"), [2, 5, 6, 3, 0]);
    }

    #[test]
    fn bad_byte_pairs_are_errors() {
        let read = |vocabulary: &'static [u8], merges: &'static [u8]| {
            let files = EmbeddedFiles(Vec::leak(vec![("vocab.json", vocabulary), ("merges.txt", merges)]));
            TextEncoder::read(&files, 24, Truncation::KeepLast).unwrap_err().to_string()
        };
        let ends: &[u8] = br#"{"a": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}"#;
        assert!(read(b"[1]", b"").contains("JSON object"));
        assert!(read(br#"{"a": 0}"#, b"").contains("<|startoftext|>"));
        assert!(read(br#"{"a": -1}"#, b"").contains("JSON object"));
        assert!(read(ends, b"#version: 0.2\na b c").contains("line 2"));
        assert!(read(ends, b"a\n").contains("line 1"));
        assert!(read(ends, b"\xff").contains("UTF-8"));
        // A pair that no symbol came from.
        assert!(read(ends, b"a a").contains("vocab.json"));
        // Without merges.txt there is no tokenizer.
        assert!(!TextEncoder::is_in(&EmbeddedFiles(&[("vocab.json", b"{}")])));
    }

    #[test]
    fn damaged_tokenizers_never_panic() {
        let unknown_decoder = br#"{"version": "1.0", "decoder": {"type": 3}}"#;
        assert!(tokenizer_json(unknown_decoder).is_err());
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize
        };
        for _ in 0..500 {
            let mut bytes = JSON.to_vec();
            let at = next() % bytes.len();
            if next() % 2 == 0 {
                bytes[at] = b'0' + (next() % 10) as u8;
            } else {
                bytes.remove(at);
            }
            if let Ok(tokenizer) = tokenizer_json(&bytes) {
                let _ = guarded(|| tokenizer.encode("the RED car, [MASK] z\u{fc}rich \u{6f22}", true));
            }
        }
    }
}
