//! Files that carry encodings: they open in full precision, with the encodings listed by site.

use bitloupe_quant::models::onnx::OnnxModel;
use bitloupe_quant::terms::Role;

use super::small::{opened, run};
use super::writer::{self, Value, bytes, floats, graph, ints32, node, raw};

const X: (&str, i64, &[i64]) = ("x", 1, &[1, 2]);

#[test]
fn quantize_and_dequantize_give_the_sites_their_encodings() {
    let model = opened(&graph(
        &[
            node("QuantizeLinear", &["x", "xs", "xz"], &["xq"], &[]),
            node("DequantizeLinear", &["xq", "xs", "xz"], &["xd"], &[]),
            node(
                "DequantizeLinear",
                &["fc.weight_quantized", "ws", "wz"],
                &["wd"],
                &[("axis", Value::Int(0))],
            ),
            node("Gemm", &["xd", "wd", "fc.bias"], &["y"], &[("transB", Value::Int(1))]),
        ],
        &[
            floats("xs", &[], &[0.05]),
            raw("xz", 2, &[], &[128]),
            bytes("fc.weight_quantized", &[3, 2], &[1, 2, 3, 4, 5, -6]),
            floats("ws", &[3], &[0.5, 0.25, 2.0]),
            bytes("wz", &[3], &[0, 0, 0]),
            floats("fc.bias", &[3], &[0.0, 1.0, 0.0]),
        ],
        &[X],
        &["y"],
    ));
    assert_eq!(run(&model, &[1.0, 10.0]), [0.5 + 10.0, 0.75 + 10.0 + 1.0, 10.0 - 120.0]);
    let sites: Vec<String> = model.encodings.iter().map(|e| e.site.to_string()).collect();
    assert_eq!(sites, ["fc:input", "fc:weight"]);
    let (x, w) = (&model.encodings[0], &model.encodings[1]);
    assert_eq!((x.bits, x.signed, x.symmetric, x.axis), (8, false, true, None));
    assert_eq!((x.scale.as_slice(), x.zero_point.as_slice()), (&[0.05][..], &[128][..]));
    assert_eq!((w.bits, w.signed, w.symmetric, w.axis), (8, true, true, Some(0)));
    assert_eq!(w.scale, [0.5, 0.25, 2.0]);
}

#[test]
fn dynamic_integer_products_are_float_products() {
    let model = opened(&graph(
        &[
            node("DynamicQuantizeLinear", &["x"], &["xq", "xs", "xz"], &[]),
            node("MatMulInteger", &["xq", "w", "xz", "wz"], &["i"], &[]),
            node("Cast", &["i"], &["f"], &[("to", Value::Int(1))]),
            node("Mul", &["xs", "ws"], &["s"], &[]),
            node("Mul", &["f", "s"], &["p"], &[]),
            node("Add", &["p", "fc.bias"], &["y"], &[]),
        ],
        &[
            bytes("w", &[2, 2], &[3, 1, 1, 5]),
            bytes("wz", &[], &[1]),
            floats("ws", &[], &[0.5]),
            floats("fc.bias", &[2], &[10.0, 20.0]),
        ],
        &[X],
        &["y"],
    ));
    // ([3, 1; 1, 5] - 1) / 2 = [1, 0; 0, 2].
    assert_eq!(run(&model, &[1.5, 4.0]), [11.5, 28.0]);
    let layers: Vec<&str> = model.graph.layers().iter().map(|l| l.name.as_str()).collect();
    assert_eq!(layers, ["fc"]);
    let (x, w) = (&model.encodings[0], &model.encodings[1]);
    assert!(x.is_dynamic() && x.site.to_string() == "fc:input");
    assert_eq!((w.scale.as_slice(), w.zero_point.as_slice(), w.symmetric), (&[0.5][..], &[1][..], false));
}

#[test]
fn integer_convolutions_and_their_scales_are_convolutions() {
    let model = opened(&graph(
        &[
            node("DynamicQuantizeLinear", &["x"], &["xq", "xs", "xz"], &[]),
            node("ConvInteger", &["xq", "w", "xz"], &["i"], &[("kernel_shape", Value::Ints(&[1, 1]))]),
            node("Cast", &["i"], &["f"], &[("to", Value::Int(1))]),
            node("Mul", &["xs", "ws"], &["s"], &[]),
            node("Mul", &["f", "s"], &["y"], &[]),
        ],
        &[bytes("w", &[2, 1, 1, 1], &[2, -4]), floats("ws", &[2, 1, 1], &[0.5, 0.25])],
        &[("x", 1, &[1, 1, 1, 2])],
        &["y"],
    ));
    assert_eq!(run(&model, &[3.0, 8.0]), [3.0, 8.0, -3.0, -8.0]);
    assert_eq!(model.encodings[1].axis, Some(0));
    assert_eq!(model.encodings[1].scale, [0.5, 0.25]);
}

#[test]
fn weights_cast_and_scaled_by_hand_carry_their_encoding() {
    let model = opened(&graph(
        &[
            node("Cast", &["fc.weight"], &["c"], &[("to", Value::Int(1))]),
            node("Sub", &["c", "z"], &["d"], &[]),
            node("Mul", &["d", "s"], &["w"], &[]),
            node("MatMul", &["x", "w"], &["y"], &[]),
        ],
        &[
            raw("fc.weight", 2, &[2, 2], &[130, 128, 128, 126]),
            floats("z", &[], &[128.0]),
            floats("s", &[1, 2], &[0.5, 1.0]),
        ],
        &[X],
        &["y"],
    ));
    assert_eq!(run(&model, &[4.0, 3.0]), [4.0, -6.0]);
    let [w] = model.encodings.as_slice() else { panic!("{:?}", model.encodings) };
    assert_eq!(w.site.to_string(), "fc:weight");
    assert_eq!((w.bits, w.signed, w.symmetric, w.axis), (8, false, true, Some(0)));
    assert_eq!((w.scale.as_slice(), w.zero_point.as_slice()), (&[0.5, 1.0][..], &[128][..]));
}

#[test]
fn four_bit_codes_are_unpacked_lower_half_first() {
    let model = opened(&graph(
        &[
            node("DequantizeLinear", &["fc.weight", "s"], &["w"], &[]),
            node("Gemm", &["x", "w"], &["y"], &[("transB", Value::Int(1))]),
        ],
        &[raw("fc.weight", 22, &[1, 2], &[0xf3]), floats("s", &[], &[1.0])],
        &[X],
        &["y"],
    ));
    assert_eq!(run(&model, &[1.0, 1.0]), [2.0]);
    assert_eq!(model.encodings[0].bits, 4);
}

#[test]
fn fully_quantized_operators_are_float_layers() {
    let model = opened(&graph(
        &[
            node("QuantizeLinear", &["x", "xs", "xz"], &["xq"], &[]),
            node("QLinearMatMul", &["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz"], &["yq"], &[]),
            node("DequantizeLinear", &["yq", "ys", "yz"], &["y"], &[]),
        ],
        &[
            floats("xs", &[], &[0.1]),
            raw("xz", 2, &[], &[0]),
            bytes("w", &[2, 1], &[2, 4]),
            floats("ws", &[], &[0.5]),
            bytes("wz", &[], &[0]),
            floats("ys", &[], &[1.0]),
            raw("yz", 2, &[], &[0]),
        ],
        &[X],
        &["y"],
    ));
    assert_eq!(run(&model, &[0.25, 1.0]), [2.25]);
    assert_eq!(model.encodings.len(), 2);
}

/// `Conv(x, -1)` and a pair of the given type and zero point, with a scale of 0.1; then a product with 1.
fn negated_pair(dtype: i64, zero: u8, scale: f32) -> OnnxModel {
    opened(&graph(
        &[
            node("Conv", &["x", "w"], &["c"], &[("kernel_shape", Value::Ints(&[1, 1]))]),
            node("QuantizeLinear", &["c", "s", "z"], &["q"], &[]),
            node("DequantizeLinear", &["q", "s", "z"], &["d"], &[]),
            node("Conv", &["d", "next.weight"], &["y"], &[("kernel_shape", Value::Ints(&[1, 1]))]),
        ],
        &[
            floats("w", &[1, 1, 1, 1], &[-1.0]),
            floats("s", &[], &[scale]),
            raw("z", dtype, &[], &[zero]),
            floats("next.weight", &[1, 1, 1, 1], &[1.0]),
        ],
        &[("x", 1, &[1, 1, 1, 3])],
        &["y"],
    ))
}

#[test]
fn a_grid_that_begins_at_zero_is_a_relu_that_was_taken_away() {
    const X: [f32; 3] = [-3.0, 0.5, 70.0];
    for (dtype, lowest, highest) in [(2, 0, 255), (3, 0x80, 0x7f)] {
        let model = negated_pair(dtype, lowest, 0.1);
        assert_eq!(run(&model, &X), [3.0, 0.0, 0.0]);
        let site = "next:input".parse().unwrap();
        assert_eq!(model.graph.site(&site).unwrap().role, Role::PostRelu);
        // The grid belongs to what the next layer reads.
        assert_eq!(model.encodings.len(), 1);
        assert_eq!(model.encodings[0].site, site);
        // One that ends at zero lets nothing above it through, and its other end is not a part of the model.
        assert_eq!(run(&negated_pair(dtype, highest, 0.1), &X), [0.0, -0.5, -70.0]);
        // One with room on both sides is rounding only.
        assert_eq!(run(&negated_pair(dtype, 100, 0.1), &X), [3.0, -0.5, -70.0]);
        assert_eq!(run(&negated_pair(dtype, lowest.wrapping_add(1), 0.1), &X), [3.0, -0.5, -70.0]);
        // ReLU6 leaves the grid from 0 to 6.
        assert_eq!(run(&negated_pair(dtype, lowest, 6.0 / 255.0), &[-8.0, 0.5, -2.0]), [6.0, 0.0, 2.0]);
    }
}

#[test]
fn a_grid_that_holds_all_values_adds_nothing() {
    // Each of these is never negative, or by less than half a step; squares are products of a value with itself.
    let half = floats("half", &[], &[0.5]);
    let cases: [&[writer::Message]; 6] = [
        &[node("Softmax", &["x"], &["v"], &[])],
        &[node("Sigmoid", &["x"], &["v"], &[])],
        &[node("Relu", &["x"], &["r"], &[]), node("Transpose", &["r"], &["v"], &[])],
        &[node("Neg", &["x"], &["n"], &[]), node("Mul", &["n", "n"], &["v"], &[])],
        &[node("Erf", &["x"], &["e"], &[]), node("Add", &["e", "one"], &["v"], &[])],
        &[
            node("Div", &["x", "root"], &["t"], &[]),
            node("Erf", &["t"], &["e"], &[]),
            node("Add", &["e", "one"], &["g"], &[]),
            node("Mul", &["x", "g"], &["v"], &[]),
        ],
    ];
    for (i, nodes) in cases.into_iter().enumerate() {
        let scale = if i == 5 { 0.7 } else { 0.01 };
        let tables = [
            floats("one", &[], &[1.0]),
            floats("root", &[], &[2.0_f32.sqrt()]),
            half.clone(),
            floats("s", &[], &[scale]),
            raw("z", 2, &[], &[0]),
        ];
        let count = |pair: bool| {
            let mut nodes = nodes.to_vec();
            if pair {
                nodes.push(node("QuantizeLinear", &["v", "s", "z"], &["q"], &[]));
                nodes.push(node("DequantizeLinear", &["q", "s", "z"], &["d"], &[]));
            }
            nodes.push(node("Mul", &[if pair { "d" } else { "v" }, "half"], &["y"], &[]));
            opened(&graph(&nodes, &tables, &[X], &["y"])).graph.nodes().len()
        };
        assert_eq!(count(true), count(false), "case {i}");
    }
}

#[test]
fn fully_quantized_operators_keep_the_relu_that_their_grid_is() {
    let model = opened(&graph(
        &[
            node("QuantizeLinear", &["x", "xs", "xz"], &["xq"], &[]),
            node(
                "QGemm",
                &["xq", "xs", "xz", "w", "ws", "wz", "b", "ys", "yz"],
                &["hq"],
                &[("transB", Value::Int(1))],
            ),
            node("QLinearMul", &["hq", "ys", "yz", "m", "ws", "wz", "ys", "yz"], &["mq"], &[]),
            node(
                "QLinearConcat",
                &["ys", "yz", "hq", "ys", "yz", "mq", "ys", "yz"],
                &["cq"],
                &[("axis", Value::Int(1))],
            ),
            node("DequantizeLinear", &["cq", "ys", "yz"], &["y"], &[]),
        ],
        &[
            floats("xs", &[], &[0.5]),
            bytes("xz", &[], &[0]),
            bytes("w", &[2, 2], &[2, 0, 0, 4]),
            floats("ws", &[], &[0.5]),
            bytes("wz", &[], &[0]),
            ints32("b", &[2], &[4, -4]),
            bytes("m", &[2], &[2, 4]),
            floats("ys", &[], &[1.0]),
            bytes("yz", &[], &[-128]),
        ],
        &[X],
        &["y"],
    ));
    // [x0 + 1, 2 x1 - 1] without what is below zero, and that times [1, 2].
    assert_eq!(run(&model, &[2.0, 3.0]), [3.0, 5.0, 3.0, 10.0]);
    assert_eq!(run(&model, &[2.0, -3.0]), [3.0, 0.0, 3.0, 0.0]);
}

#[test]
fn a_scale_that_is_no_number_leaves_the_value_in_floats() {
    for scale in [f32::INFINITY, f32::NAN, 0.0] {
        let model = opened(&graph(
            &[
                node("QuantizeLinear", &["x", "s", "z"], &["q"], &[]),
                node("DequantizeLinear", &["q", "s", "z"], &["d"], &[]),
                node("MatMul", &["d", "fc.weight"], &["y"], &[]),
            ],
            &[floats("s", &[], &[scale]), bytes("z", &[], &[0]), floats("fc.weight", &[2, 1], &[1.0, 2.0])],
            &[X],
            &["y"],
        ));
        assert_eq!(run(&model, &[1.5, 4.0]), [9.5]);
        assert!(model.encodings.is_empty());
        assert_eq!(model.warnings.len(), 1, "{:?}", model.warnings);
        assert!(model.warnings[0].contains("`/q`") && model.warnings[0].contains(&scale.to_string()));
    }
}
