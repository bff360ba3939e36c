//! Texts of a fixture against the ids that the published tokenizers made of them.

use bitloupe_quant::models::Model;

use crate::fixture::Fixture;

/// Compares what the model's tokenizer makes of every text in `tokenizer_cases.json` with the recorded ids, padded with
/// `pad` or cut (the last id stays) to the length of the model's input.
pub(crate) fn compare(fixture: &Fixture, model: &Model, pad: i64) {
    let cases = std::fs::read(fixture.path("tokenizer_cases.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&cases).unwrap();
    let encoder = model.text.as_ref().unwrap();
    let tokens = model.graph.node(model.graph.find("input_ids").unwrap()).shape[1];
    assert_eq!(encoder.max_tokens(), tokens);
    let mut compared = 0;
    for case in &cases {
        let text = case["text"].as_str().unwrap();
        let mut ids: Vec<i64> =
            case["input_ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        if text.trim().is_empty() {
            assert!(encoder.encode(text).is_err());
            continue;
        }
        let mut mask = vec![1; ids.len().min(tokens)];
        if ids.len() > tokens {
            ids[tokens - 1] = ids[ids.len() - 1];
            ids.truncate(tokens);
        }
        ids.resize(tokens, pad);
        mask.resize(tokens, 0);
        let encoded = encoder.encode(text).unwrap();
        assert_eq!((encoded.input_ids, encoded.attention_mask), (ids, mask), "{text}");
        compared += 1;
    }
    assert!(compared > 5, "{compared} texts");
}
