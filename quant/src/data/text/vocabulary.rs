//! Tokenizers from the vocabulary files of folders without a `tokenizer.json`.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::guarded;

/// Longest word of a vocabulary, in bytes.
const MAX_WORD: usize = 4096;
/// CLIP's first and last token; the last one is also padding and the unknown token.
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// How CLIP cuts a text into words before it pairs their bytes: English endings, letters, single digits, the rest.
const CLIP_WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// BERT's WordPiece from a `vocab.txt`, one word a line. `settings` is `tokenizer_config.json`: whether words are
/// lower-cased, lose their accents, and Chinese characters stand alone.
pub(super) fn word_piece(bytes: &[u8], settings: Option<&Value>) -> Result<Tokenizer, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("not UTF-8 text: {e}"))?;
    let mut vocabulary: HashMap<String, u32> = HashMap::new();
    for (i, word) in text.lines().enumerate() {
        if word.len() > MAX_WORD {
            return Err(format!("line {}: a word of {} bytes; expected one word a line", i + 1, word.len()));
        }
        let id = u32::try_from(i).map_err(|_| "too many words".to_owned())?;
        vocabulary.entry(word.trim_end().to_owned()).or_insert(id);
    }
    let id = |word: &str| {
        vocabulary.get(word).copied().ok_or_else(|| format!("no line `{word}`; expected a BERT vocabulary"))
    };
    id("[UNK]")?;
    let (cls, sep) = (id("[CLS]")?, id("[SEP]")?);
    // Written in a sentence, the special tokens mean themselves.
    let added: Vec<Value> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .iter()
        .filter_map(|word| vocabulary.get(*word).map(|id| special(*id, word, false)))
        .collect();
    let setting = |name: &str| settings.and_then(|s| s.get(name)).and_then(Value::as_bool);
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": setting("tokenize_chinese_chars").unwrap_or(true),
            "strip_accents": setting("strip_accents"), "lowercase": setting("do_lower_case").unwrap_or(true)},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", sep], "cls": ["[CLS]", cls]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    guarded(|| Tokenizer::from_bytes(file.to_string()))
}

/// CLIP's pairs of bytes (Radford et al., ICML 2021): `vocab.json` gives every symbol its number, `merges.txt` the pairs
/// that become one, most frequent first.
pub(super) fn byte_pairs(vocabulary: &[u8], merges: &[u8]) -> Result<Tokenizer, String> {
    let vocabulary: HashMap<String, u32> = serde_json::from_slice(vocabulary)
        .map_err(|e| format!("expected a JSON object of symbols and their numbers: {e}"))?;
    let id = |word: &str| {
        vocabulary.get(word).copied().ok_or_else(|| format!("no symbol `{word}`; expected a CLIP vocabulary"))
    };
    let (start, end) = (id(START)?, id(END)?);
    let merges = std::str::from_utf8(merges).map_err(|e| format!("merges.txt: not UTF-8 text: {e}"))?;
    let mut pairs = Vec::new();
    for (i, line) in merges.lines().enumerate() {
        if line.is_empty() || (i == 0 && line.starts_with("#version")) {
            continue;
        }
        let pair = line.split_once(' ').filter(|(_, second)| !second.is_empty() && !second.contains(' '));
        let (first, second) = pair
            .filter(|_| line.len() <= MAX_WORD)
            .ok_or_else(|| format!("merges.txt: line {}: expected two symbols and a space between", i + 1))?;
        pairs.push(json!([first, second]));
    }
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(start, START, true), special(end, END, true)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": CLIP_WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": [END, end], "cls": [START, start],
            "trim_offsets": false, "add_prefix_space": false},
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": END, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
            "merges": pairs},
    });
    guarded(|| Tokenizer::from_bytes(file.to_string()))
}

/// A token that no text is cut within.
fn special(id: u32, word: &str, normalized: bool) -> Value {
    json!({"id": id, "content": word, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": normalized, "special": true})
}
