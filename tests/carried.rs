//! The plan that a quantized ONNX file carries, from the command line.

mod support;
#[path = "../quant/tests/onnx/writer.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod writer;

use serde_json::Value;
use support::{fails, folder, json, ok, tensors, text, write_tensors};

/// A quantized linear layer: the plan that the file carries is written as it is.
#[test]
fn the_plan_of_a_quantized_file_is_a_preset() {
    use writer::{bytes, floats, graph, node, raw};
    let folder = folder();
    let file = folder.path().join("quantized.onnx");
    let graph = graph(
        &[
            node("QuantizeLinear", &["x", "xs", "xz"], &["xq"], &[]),
            node("DequantizeLinear", &["xq", "xs", "xz"], &["xd"], &[]),
            node("DequantizeLinear", &["w", "ws", "wz"], &["wd"], &[("axis", writer::Value::Int(0))]),
            node("Gemm", &["xd", "wd"], &["embeds"], &[("transB", writer::Value::Int(1))]),
        ],
        &[
            floats("xs", &[], &[0.05]),
            raw("xz", 2, &[], &[128]),
            bytes("w", &[2, 2], &[1, 2, 3, -6]),
            floats("ws", &[2], &[0.5, 0.25]),
            bytes("wz", &[2], &[0, 0]),
        ],
        &[("x", 1, &[1, 2])],
        &["embeds"],
    );
    std::fs::write(&file, writer::model(17, &graph)).unwrap();
    let plan = folder.path().join("plan.json");
    let (model, out) = (text(&file), text(&plan));
    ok(&["plan", "new", model, "--preset", "as in the file", "-o", out]);
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&plan).unwrap()).unwrap();
    assert_eq!(written["method"], "as in the file");
    let written = written["layers"].to_string();
    assert!(written.contains("0.25") && written.contains("0.05"), "{written}");
    assert!(!written.contains("null"), "every number is there: {written}");
    // It runs: the values of x on the grid of the file.
    let inputs = folder.path().join("x.safetensors");
    write_tensors(&inputs, &[("x".to_owned(), (vec![1, 2], vec![0.112, 0.5]))].into());
    let outputs = folder.path().join("y.safetensors");
    let run = ["run", model, "--inputs", text(&inputs), "--plan", out, "-o", text(&outputs)];
    ok(&run);
    let y = &tensors(&outputs)["embeds"].1;
    for (found, expected) in y.iter().zip([0.1 * 0.5 + 0.5, 0.1 * 0.75 - 0.5 * 1.5]) {
        assert!((found - expected).abs() < 1e-6, "{y:?}");
    }
    // The same values as a sample, evaluated against full precision.
    std::fs::write(folder.path().join("samples.jsonl"), "{\"inputs\": \"x.safetensors\"}\n").unwrap();
    let done = json(&["eval", model, "--samples", text(folder.path()), "--plan", out]);
    let cosine = done["agreement"]["cosine"].as_f64().unwrap();
    assert!((0.9..1.0).contains(&cosine), "{done}");
    fails(&["plan", "new", model, "--preset", "as before", "-o", out], &["as before", "\"as in the file\""]);
}
