//! What stands before the names of all parameters is taken off.

use super::small::opened;
use super::writer::{Value, floats, graph, node};

/// Names of the layers of two linear layers whose tensors begin with `prefix`.
fn layers(prefix: &str, other: &str) -> Vec<String> {
    let names =
        [format!("{prefix}enc.fc.weight"), format!("{prefix}enc.fc.bias"), format!("{other}head.weight")];
    let model = opened(&graph(
        &[
            node("Gemm", &["x", &names[0], &names[1]], &["h"], &[("transB", Value::Int(1))]),
            node("Gemm", &["h", &names[2]], &["y"], &[("transB", Value::Int(1))]),
        ],
        &[
            floats(&names[0], &[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            floats(&names[1], &[2], &[0.0, 1.0]),
            floats(&names[2], &[1, 2], &[1.0, 1.0]),
        ],
        &[("x", 1, &[1, 2])],
        &["y"],
    ));
    model.graph.layers().iter().map(|layer| layer.name.clone()).collect()
}

#[test]
fn wrappers_and_data_parallel() {
    for prefix in ["", "module.", "model.", "module.model.", "module._orig_mod."] {
        assert_eq!(layers(prefix, prefix), ["enc.fc", "head"], "{prefix}");
    }
    // Only what all have, and only what wraps.
    assert_eq!(layers("module.", ""), ["module.enc.fc", "head"]);
    assert_eq!(layers("module.model.", "module."), ["model.enc.fc", "head"]);
    assert_eq!(layers("vit.", "vit."), ["vit.enc.fc", "vit.head"]);
}

#[test]
fn data_parallel_where_only_nodes_have_names() {
    let model = opened(&graph(
        &[
            node("MatMul", &["x", "onnx::MatMul_7"], &["module/enc/fc/MatMul_output_0"], &[]),
            node("Relu", &["module/enc/fc/MatMul_output_0"], &["y"], &[]),
        ],
        &[floats("onnx::MatMul_7", &[2, 2], &[1.0, 2.0, 3.0, 4.0])],
        &[("x", 1, &[1, 2])],
        &["y"],
    ));
    assert_eq!(model.graph.layers()[0].name, "enc.fc");
}
