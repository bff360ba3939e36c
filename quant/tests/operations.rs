//! Every operation that imported graphs bring: fused kernels against candle in f64.

use std::collections::HashMap;
use std::sync::Arc;

use bitloupe_quant::exec::kernels::elementwise::BinaryOp;
use bitloupe_quant::exec::kernels::function::Function;
use bitloupe_quant::exec::kernels::gather::Reduction;
use bitloupe_quant::exec::kernels::pool::{PoolKind, Pooling};
use bitloupe_quant::exec::kernels::resize::{Coordinates, Interpolation, Rounding, Sampling};
use bitloupe_quant::exec::reference::Reference;
use bitloupe_quant::exec::{Cancel, Engine, Quantization, Tap, Value};
use bitloupe_quant::graph::{Builder, Conv, Graph, NodeId, Op, Scope};
use bitloupe_quant::models::{ModelError, Weights};
use candle_core::{DType, Device};

/// `n` numbers between -2 and 2 without pattern.
fn numbers(n: usize, seed: f64) -> Vec<f32> {
    (0..n).map(|i| (2.0 * (i as f64 * 1.7 + seed).sin() + 0.3 * (i as f64 * 0.11).cos()) as f32).collect()
}

/// A checkpoint with these tensors.
fn weights(tensors: &[(&str, &[usize])]) -> Weights {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .enumerate()
        .map(|(seed, (name, shape))| {
            let data = numbers(shape.iter().product(), seed as f64);
            ((*name).to_owned(), shape.to_vec(), data.iter().flat_map(|x| x.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data);
        (name.clone(), view.unwrap())
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    Weights::open(&path).unwrap()
}

struct Everything(HashMap<usize, Value>);

impl Tap for Everything {
    fn wants(&self, _: NodeId) -> bool {
        true
    }

    fn value(&mut self, node: NodeId, value: &Value) {
        self.0.insert(node.index(), value.clone());
    }
}

/// Builds a graph on one input and compares every node; returns the graph.
fn compare(
    tensors: &[(&str, &[usize])],
    shape: &[usize],
    build: impl FnOnce(&mut Scope<'_, '_>, NodeId) -> Result<(), ModelError>,
) -> Arc<Graph> {
    let weights = weights(tensors);
    let mut builder = Builder::new(&weights);
    let mut g = builder.root();
    let x = g.input("x", shape).unwrap();
    build(&mut g, x).unwrap();
    let graph = Arc::new(builder.finish(|_| false).unwrap());
    let given = vec![Value::new(shape.to_vec(), numbers(shape.iter().product(), 0.5))];
    let mut tap = Everything(HashMap::new());
    let engine = Engine::new(Arc::clone(&graph));
    engine.run(&given, &Quantization::none(&graph), None, &mut tap, &Cancel::default()).unwrap();
    let exact = Reference::new(&graph, Device::Cpu, DType::F64).run(&given).unwrap();
    for (index, node) in graph.nodes().iter().enumerate() {
        if matches!(node.op, Op::Input | Op::Constant(_)) {
            continue;
        }
        assert_eq!(exact[index].dims(), node.shape, "{}", node.name);
        let theirs: Vec<f64> = exact[index].flatten_all().unwrap().to_vec1().unwrap();
        let ours = tap.0[&index].as_slice();
        assert_eq!(ours.len(), theirs.len(), "{}", node.name);
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            let same = (a.is_nan() && b.is_nan()) || (f64::from(*a) - b).abs() <= 1e-5 * b.abs().max(1.0);
            assert!(same, "{} ({:?}) [{i}]: {a}, not {b}", node.name, node.op);
        }
    }
    graph
}

#[test]
fn functions_and_pairs() {
    compare(&[], &[2, 3, 5], |g, x| {
        let positive = g.function(Function::Abs, x)?;
        for function in [
            Function::Neg,
            Function::Sign,
            Function::Exp,
            Function::Sin,
            Function::Cos,
            Function::Erf,
            Function::Softplus,
            Function::Floor,
            Function::Ceil,
            Function::Round,
            Function::Truncate,
            Function::Not,
            Function::HardSigmoid,
            Function::HardSwish,
        ] {
            g.function(function, x)?;
        }
        for function in [Function::Log, Function::Sqrt, Function::Reciprocal] {
            g.function(function, positive)?;
        }
        let row = g.constant("row", &[5], numbers(5, 3.0))?;
        for op in [
            BinaryOp::Sub,
            BinaryOp::Div,
            BinaryOp::Min,
            BinaryOp::Max,
            BinaryOp::Mod,
            BinaryOp::Equal,
            BinaryOp::Less,
            BinaryOp::LessOrEqual,
            BinaryOp::Greater,
            BinaryOp::GreaterOrEqual,
            BinaryOp::And,
            BinaryOp::Or,
            BinaryOp::Xor,
        ] {
            g.combine(op, x, row)?;
            g.combine(op, row, x)?;
        }
        g.combine(BinaryOp::Pow, positive, row)?;
        let column = g.constant("column", &[2, 1, 1], vec![0.0, 1.0])?;
        g.select(column, x, row)?;
        Ok(())
    });
}

#[test]
fn axes() {
    compare(&[], &[2, 3, 4, 5], |g, x| {
        for kind in [
            Reduction::Sum,
            Reduction::Mean,
            Reduction::Max,
            Reduction::Min,
            Reduction::Product,
            Reduction::L1,
            Reduction::L2,
            Reduction::SumSquares,
        ] {
            for axes in [&[3][..], &[0], &[1, 2], &[0, 1, 2, 3]] {
                g.reduce(kind, x, axes, true)?;
                g.reduce(kind, x, axes, false)?;
            }
        }
        let rounded = g.function(Function::Round, x)?;
        for axis in 0..4 {
            // Whole numbers have ties.
            g.arg_max(rounded, axis)?;
            for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
                g.cumulative_sum(x, axis, exclusive, reverse)?;
            }
            let indices = g.constant("indices", &[2, 2], vec![1.0, 0.0, -1.0, -2.0])?;
            g.gather(x, indices, axis)?;
        }
        let one = g.narrow(x, 2, 1, 1)?;
        g.expand(one, &[2, 3, 4, 5])?;
        g.expand(one, &[7, 2, 3, 1, 5])?;
        Ok(())
    });
}

#[test]
fn images() {
    let tensors: &[(&str, &[usize])] = &[
        ("wide.weight", &[6, 3, 3, 2]),
        ("wide.bias", &[6]),
        ("grouped.weight", &[6, 2, 3, 3]),
        ("line.weight", &[4, 3, 3]),
        ("up.weight", &[6, 4, 3, 2]),
        ("up.bias", &[4]),
    ];
    let graph = compare(tensors, &[1, 3, 11, 9], |g, x| {
        let geometry = Conv { stride: [2, 1], padding: [1, 0, 0, 2], dilation: [1, 1], groups: 1 };
        let wide = g.conv("wide", x, geometry)?;
        let dilated = Conv { dilation: [2, 2], groups: 3, ..Conv::new(1, 1) };
        g.conv("grouped", wide, dilated)?;
        let line = g.reshape(x, &[1, 3, 99])?;
        g.conv("line", line, Conv { padding: [0, 2, 0, 1], stride: [1, 3], ..Conv::new(1, 0) })?;
        g.conv_transpose("up", wide, Conv { stride: [2, 3], ..Conv::new(1, 1) }, [1, 0])?;
        // The same module once more.
        let again = g.conv("wide", x, geometry)?;
        assert_ne!(again, wide);
        for (kind, size) in [
            (PoolKind::Max, (6, 5)),
            (PoolKind::Average, (6, 5)),
            (PoolKind::AverageWithPadding, (6, 5)),
            (PoolKind::Max, (5, 4)),
        ] {
            let pooling = Pooling { kind, kernel: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] };
            g.pool("pool", x, pooling, size)?;
        }
        for (interpolation, coordinates) in [
            (Interpolation::Bilinear, Coordinates::HalfPixel),
            (Interpolation::Bilinear, Coordinates::AlignCorners),
            (Interpolation::Bilinear, Coordinates::Asymmetric),
            (Interpolation::Bicubic, Coordinates::HalfPixel),
            (Interpolation::Bicubic, Coordinates::HalfPixelFromStart),
            (Interpolation::Bicubic, Coordinates::AlignCorners),
            (Interpolation::Nearest(Rounding::Floor), Coordinates::Asymmetric),
            (Interpolation::Nearest(Rounding::HalfDown), Coordinates::HalfPixel),
            (Interpolation::Nearest(Rounding::HalfUp), Coordinates::Asymmetric),
            (Interpolation::Nearest(Rounding::Ceil), Coordinates::Asymmetric),
        ] {
            for size in [(22, 18), (7, 13), (1, 1)] {
                g.resample(x, size, Sampling { interpolation, coordinates })?;
            }
        }
        Ok(())
    });
    let names: Vec<&str> = graph.layers().iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["wide", "grouped", "line", "up", "wide#1"]);
    let up = graph.sites().iter().find(|site| site.id.to_string() == "up:weight").unwrap();
    assert_eq!((up.layout.channels, up.shape.as_slice()), (4, &[6, 4, 3, 2][..]));
    // Every input meets all numbers of its channel's kernels.
    assert_eq!(graph.layers()[3].cost.macs, 6 * 5 * 10 * 24);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let weights = weights(&[("up.weight", &[3, 4, 2, 2])]);
    let mut builder = Builder::new(&weights);
    let mut g = builder.root();
    let x = g.input("x", &[1, 3, 4, 4]).unwrap();
    let y = g.input("y", &[5]).unwrap();
    let pooling = Pooling { kind: PoolKind::Max, kernel: [2, 2], stride: [2, 2], padding: [2; 4] };
    assert!(g.pool("pool", x, pooling, (2, 2)).is_err());
    assert!(g.pool("pool", x, Pooling { padding: [0; 4], stride: [0, 1], ..pooling }, (2, 2)).is_err());
    assert!(g.pool("pool", x, Pooling { padding: [0; 4], ..pooling }, (9, 2)).is_err());
    assert!(g.conv_transpose("up", y, Conv::new(2, 0), [0, 0]).is_err());
    assert!(g.conv_transpose("up", x, Conv::new(2, 9), [0, 0]).is_err());
    assert!(g.conv_transpose("up", x, Conv::new(0, 0), [0, 0]).is_err());
    assert!(g.combine(BinaryOp::Sub, x, y).is_err());
    assert!(g.select(x, y, y).is_err());
    assert!(g.reduce(Reduction::Sum, x, &[4], true).is_err());
    assert!(g.arg_max(x, 4).is_err());
    assert!(g.cumulative_sum(x, 4, false, false).is_err());
    assert!(g.gather(x, y, 4).is_err());
    assert!(g.expand(x, &[4, 4]).is_err());
    assert!(g.expand(y, &[3]).is_err());
}
