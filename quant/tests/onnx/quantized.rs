//! Files that carry encodings: they open in full precision, with the encodings listed by site.

use super::small::{opened, run};
use super::writer::{Value, bytes, floats, graph, node, raw};

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
