//! Operators whose form changed between operator sets, in each form. Results are computed by hand.

use bitloupe_quant::terms::Slot;

use super::small::{open, run};
use super::writer::{Message, Value, bytes, floats, graph, ints, model, node};

/// The numbers that one node makes of `x`, in a file of an operator set.
#[track_caller]
fn of(
    opset: i64,
    op: &str,
    operands: &[&str],
    attributes: &[(&str, Value<'_>)],
    tensors: &[Message],
    (dims, x): (&[i64], &[f32]),
) -> Vec<f32> {
    let inputs: Vec<&str> = std::iter::once("x").chain(operands.iter().copied()).collect();
    let nodes = [node(op, &inputs, &["y"], attributes)];
    let bytes = model(opset, &graph(&nodes, tensors, &[("x", 1, dims)], &["y"]));
    run(&open(&bytes).unwrap_or_else(|e| panic!("{op} {opset}: {e}")), x)
}

const X: (&[i64], &[f32]) = (&[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

#[test]
fn axes_are_attributes_and_then_operands() {
    let axes = || vec![ints("axes", &[1], &[2])];
    for opset in [11, 12] {
        let attributes = [("axes", Value::Ints(&[2])), ("keepdims", Value::Int(0))];
        assert_eq!(of(opset, "ReduceSum", &[], &attributes, &[], X), [6.0, 15.0], "{opset}");
    }
    for opset in [13, 15, 16, 18] {
        let attributes = [("keepdims", Value::Int(0))];
        assert_eq!(of(opset, "ReduceSum", &["axes"], &attributes, &axes(), X), [6.0, 15.0], "{opset}");
        assert_eq!(of(opset, "ReduceSum", &[], &attributes, &[], X), [21.0], "{opset}");
        let none = [("noop_with_empty_axes", Value::Int(1))];
        assert_eq!(of(opset, "ReduceSum", &[], &none, &[], X), X.1, "{opset}");
    }
    for opset in [12, 13, 16, 17] {
        let attributes = [("axes", Value::Ints(&[-1])), ("keepdims", Value::Int(0))];
        assert_eq!(of(opset, "ReduceMean", &[], &attributes, &[], X), [2.0, 5.0], "{opset}");
    }
    let attributes = [("keepdims", Value::Int(0))];
    assert_eq!(of(18, "ReduceMean", &["axes"], &attributes, &axes(), X), [2.0, 5.0]);
}

#[test]
fn shapes_lose_and_gain_axes_in_both_forms() {
    // Along the new axis the values are repeated, so that a wrong place shows.
    let program = |opset: i64, operands: bool| {
        let form = |op: &str, input: &str, output: &str, axes: &str, list: &'static [i64]| {
            if operands {
                node(op, &[input, axes], &[output], &[])
            } else {
                node(op, &[input], &[output], &[("axes", Value::Ints(list))])
            }
        };
        let nodes = [
            form("Squeeze", "x", "s", "first", &[0]),
            form("Unsqueeze", "s", "u", "last", &[1]),
            node("Expand", &["u", "shape"], &["y"], &[]),
        ];
        let tensors = [ints("first", &[1], &[0]), ints("last", &[1], &[1]), ints("shape", &[3], &[2, 2, 3])];
        let bytes = model(opset, &graph(&nodes, &tensors, &[("x", 1, X.0)], &["y"]));
        run(&open(&bytes).unwrap_or_else(|e| panic!("{opset}: {e}")), X.1)
    };
    let expected = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0];
    for opset in [11, 12] {
        assert_eq!(program(opset, false), expected, "{opset}");
    }
    for opset in [13, 15, 16] {
        assert_eq!(program(opset, true), expected, "{opset}");
    }
}

#[test]
fn softmax_is_over_all_axes_from_one_on_and_then_over_the_last() {
    let equal: (&[i64], &[f32]) = (&[1, 2, 4], &[3.0; 8]);
    for opset in [11, 12] {
        assert_eq!(of(opset, "Softmax", &[], &[], &[], equal), [0.125; 8], "{opset}");
    }
    for opset in [13, 15, 16] {
        assert_eq!(of(opset, "Softmax", &[], &[], &[], equal), [0.25; 8], "{opset}");
        let first = [("axis", Value::Int(1))];
        assert_eq!(of(opset, "Softmax", &[], &first, &[], equal), [0.5; 8], "{opset}");
    }
}

#[test]
fn dropout_lets_all_through() {
    assert_eq!(of(11, "Dropout", &[], &[("ratio", Value::Float(0.5))], &[], X), X.1);
    for opset in [12, 13, 15, 16] {
        assert_eq!(of(opset, "Dropout", &["ratio"], &[], &[floats("ratio", &[], &[0.5])], X), X.1, "{opset}");
        assert_eq!(of(opset, "Dropout", &[], &[], &[], X), X.1, "{opset}");
    }
}

#[test]
fn padding_and_its_value_are_operands() {
    let x: (&[i64], &[f32]) = (&[1, 2], &[1.0, 2.0]);
    for opset in [11, 13, 15, 16, 18] {
        let tensors = [ints("pads", &[4], &[0, 1, 0, 2]), floats("value", &[], &[7.0])];
        let found = of(opset, "Pad", &["pads", "value"], &[], &tensors, x);
        assert_eq!(found, [7.0, 1.0, 2.0, 7.0, 7.0], "{opset}");
        let zeros = of(opset, "Pad", &["pads"], &[("mode", Value::Text("constant"))], &tensors[..1], x);
        assert_eq!(zeros, [0.0, 1.0, 2.0, 0.0, 0.0], "{opset}");
    }
    let tensors = [ints("pads", &[2], &[1, 2]), floats("value", &[], &[7.0]), ints("axes", &[1], &[1])];
    let found = of(18, "Pad", &["pads", "value", "axes"], &[], &tensors, x);
    assert_eq!(found, [7.0, 1.0, 2.0, 7.0, 7.0]);
}

#[test]
fn sizes_come_from_scales_or_as_they_are() {
    let x: (&[i64], &[f32]) = (&[1, 1, 1, 2], &[1.0, 3.0]);
    let nearest = || {
        [
            ("mode", Value::Text("nearest")),
            ("nearest_mode", Value::Text("floor")),
            ("coordinate_transformation_mode", Value::Text("asymmetric")),
        ]
    };
    for opset in [11, 12, 13, 15, 16] {
        let tensors = [floats("roi", &[0], &[]), floats("scales", &[4], &[1.0, 1.0, 1.0, 2.0])];
        let found = of(opset, "Resize", &["roi", "scales"], &nearest(), &tensors, x);
        assert_eq!(found, [1.0, 1.0, 3.0, 3.0], "{opset}");
    }
    for opset in [13, 15, 16] {
        // Operands that are not needed are left out.
        let sizes = [ints("sizes", &[4], &[1, 1, 1, 4])];
        let found = of(opset, "Resize", &["", "", "sizes"], &nearest(), &sizes, x);
        assert_eq!(found, [1.0, 1.0, 3.0, 3.0], "{opset}");
        let linear = [("mode", Value::Text("linear"))];
        let found = of(opset, "Resize", &["", "", "sizes"], &linear, &sizes, x);
        assert_eq!(found, [1.0, 1.5, 2.5, 3.0], "{opset}: half pixels");
    }
}

#[test]
fn parts_are_told_by_an_attribute_an_operand_or_their_number() {
    let program = |opset: i64, operands: &[&str], attributes: &[(&str, Value<'_>)]| {
        let inputs: Vec<&str> = std::iter::once("x").chain(operands.iter().copied()).collect();
        let nodes = [
            node("Split", &inputs, &["a", "b"], attributes),
            node("Concat", &["b", "a"], &["y"], &[("axis", Value::Int(2))]),
        ];
        let bytes = model(opset, &graph(&nodes, &[ints("split", &[2], &[1, 2])], &[("x", 1, X.0)], &["y"]));
        run(&open(&bytes).unwrap_or_else(|e| panic!("{opset}: {e}")), X.1)
    };
    let axis = || ("axis", Value::Int(2));
    for opset in [11, 12] {
        let found = program(opset, &[], &[axis(), ("split", Value::Ints(&[1, 2]))]);
        assert_eq!(found, [2.0, 3.0, 1.0, 5.0, 6.0, 4.0], "{opset}");
    }
    for opset in [13, 15, 16, 18] {
        assert_eq!(program(opset, &["split"], &[axis()]), [2.0, 3.0, 1.0, 5.0, 6.0, 4.0], "{opset}");
    }
    // The last part is the shorter one.
    let found = program(18, &[], &[axis(), ("num_outputs", Value::Int(2))]);
    assert_eq!(found, [3.0, 1.0, 2.0, 6.0, 4.0, 5.0]);
}

#[test]
fn limits_are_operands_and_each_may_be_absent() {
    for opset in [11, 12, 13, 16] {
        let tensors = [floats("low", &[], &[2.5]), floats("high", &[], &[4.5])];
        let both = of(opset, "Clip", &["low", "high"], &[], &tensors, X);
        assert_eq!(both, [2.5, 2.5, 3.0, 4.0, 4.5, 4.5], "{opset}");
        assert_eq!(of(opset, "Clip", &["low"], &[], &tensors, X), [2.5, 2.5, 3.0, 4.0, 5.0, 6.0], "{opset}");
        let above = of(opset, "Clip", &["", "high"], &[], &tensors, X);
        assert_eq!(above, [1.0, 2.0, 3.0, 4.0, 4.5, 4.5], "{opset}");
    }
}

#[test]
fn weights_are_scaled_as_a_whole_and_then_by_channel() {
    let axis =
        |axis: Option<i64>| axis.map(|axis| ("axis", Value::Int(axis))).into_iter().collect::<Vec<_>>();
    let opened = |opset: i64, nodes: &[Message], tensors: &[Message]| {
        let bytes = model(opset, &graph(nodes, tensors, &[("x", 1, &[1, 2])], &["y"]));
        open(&bytes).unwrap_or_else(|e| panic!("{opset}: {e}"))
    };
    let product = || node("MatMul", &["x", "d"], &["y"], &[]);
    // Floats that are put on a grid stay what they are; the grid is listed for the weight, whose first axis is the output's.
    let grid = |opset: i64, scale: Message, zero: Message, along: Option<i64>| {
        let nodes = [
            node("QuantizeLinear", &["w", "s", "z"], &["q"], &axis(along)),
            node("DequantizeLinear", &["q", "s", "z"], &["d"], &axis(along)),
            product(),
        ];
        let model = opened(opset, &nodes, &[floats("w", &[2, 2], &[0.9, 2.1, -1.6, 3.9]), scale, zero]);
        let weight = model.encodings.iter().find(|encoding| encoding.site.slot == Slot::Weight).unwrap();
        (weight.scale.clone(), weight.axis)
    };
    // Codes become numbers.
    let codes = |opset: i64, scale: Message, zero: Message, along: Option<i64>| {
        let nodes = [node("DequantizeLinear", &["w", "s", "z"], &["d"], &axis(along)), product()];
        let tensors = [bytes("w", &[2, 2], &[2, 4, -3, 8]), scale, zero];
        run(&opened(opset, &nodes, &tensors), &[1.0, 10.0])
    };
    let whole = || (floats("s", &[], &[0.5]), bytes("z", &[], &[0]));
    for opset in [11, 12, 13, 15, 16] {
        let (scale, zero) = whole();
        assert_eq!(grid(opset, scale, zero, None), (vec![0.5], None), "{opset}");
        let (scale, zero) = whole();
        assert_eq!(codes(opset, scale, zero, None), [1.0 - 15.0, 2.0 + 40.0], "{opset}");
    }
    let by_channel = || (floats("s", &[2], &[0.5, 1.0]), bytes("z", &[2], &[0, 0]));
    for opset in [13, 15, 16] {
        // By column, which is the axis without the attribute too; by row.
        for (along, of_weight, expected) in [
            (Some(1), 0, [1.0 - 15.0, 4.0 + 80.0]),
            (Some(-1), 0, [1.0 - 15.0, 4.0 + 80.0]),
            (None, 0, [1.0 - 15.0, 4.0 + 80.0]),
            (Some(0), 1, [1.0 - 30.0, 2.0 + 80.0]),
        ] {
            let (scale, zero) = by_channel();
            assert_eq!(
                grid(opset, scale, zero, along),
                (vec![0.5, 1.0], Some(of_weight)),
                "{opset} {along:?}"
            );
            let (scale, zero) = by_channel();
            assert_eq!(codes(opset, scale, zero, along), expected, "{opset} {along:?}");
        }
    }
}
