//! Derivatives by the outputs of layers against finite differences in f64, for every operation that has one.

use bitloupe_quant::exec::kernels::activation::Activation;
use bitloupe_quant::exec::kernels::elementwise::BinaryOp;
use bitloupe_quant::exec::kernels::function::Function;
use bitloupe_quant::exec::kernels::gather::Reduction;
use bitloupe_quant::exec::kernels::pool::{PoolKind, Pooling};
use bitloupe_quant::exec::kernels::resize::{Coordinates, Interpolation, Rounding, Sampling};
use bitloupe_quant::exec::reference::Reference;
use bitloupe_quant::exec::{Cancel, ExecError, Value};
use bitloupe_quant::graph::{Builder, Conv, Graph, NodeId, Op, Scope};
use bitloupe_quant::models::{ModelError, Weights};
use candle_core::{DType, Device, Tensor};

/// `n` numbers between -2 and 2 without pattern.
fn numbers(n: usize, seed: f64) -> Vec<f32> {
    (0..n).map(|i| (2.0 * (i as f64 * 1.7 + seed).sin() + 0.3 * (i as f64 * 0.11).cos()) as f32).collect()
}

/// Numbers for a parameter of a module; variances are positive.
fn weights(tensors: &[(&str, &[usize])]) -> Weights {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .enumerate()
        .map(|(seed, (name, shape))| {
            let data = numbers(shape.iter().product(), seed as f64);
            let positive = name.ends_with("running_var");
            let number = |x: f32| if positive { x.abs() + 0.5 } else { x };
            ((*name).to_owned(), shape.to_vec(), data.iter().flat_map(|x| number(*x).to_le_bytes()).collect())
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

/// The sum of all outputs, every number with a weight of its own: no derivative is the same as another.
fn weighted(outputs: &[(String, Tensor)]) -> candle_core::Result<Tensor> {
    let mut sum = Tensor::zeros((), DType::F64, &Device::Cpu)?;
    for (at, (_, output)) in outputs.iter().enumerate() {
        let weight = numbers(output.elem_count(), 7.0 + at as f64);
        let weight = Tensor::from_vec(weight, output.shape().clone(), &Device::Cpu)?.to_dtype(DType::F64)?;
        // Squared, so that what is linear has no constant derivative.
        sum = sum.add(&output.add(&output.sqr()?)?.mul(&weight)?.sum_all()?)?;
    }
    Ok(sum)
}

/// The loss when `more` is added to the output of a node.
fn bumped(graph: &Graph, given: &[Value], node: usize, more: &[f64]) -> f64 {
    let reference = Reference::new(graph, Device::Cpu, DType::F64);
    let mut values: Vec<Tensor> = Vec::new();
    let mut given = given.iter();
    for (index, n) in graph.nodes().iter().enumerate() {
        let mut value = if matches!(n.op, Op::Input) {
            let input = given.next().unwrap().as_slice();
            Tensor::from_slice(input, n.shape.as_slice(), &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
        } else {
            let operands: Vec<&Tensor> = n.inputs.iter().map(|id| &values[id.index()]).collect();
            reference.node(n, &operands).unwrap()
        };
        if index == node {
            value = (value + Tensor::from_slice(more, n.shape.as_slice(), &Device::Cpu).unwrap()).unwrap();
        }
        values.push(value);
    }
    let named = |(name, id): &(String, NodeId)| (name.clone(), values[id.index()].clone());
    let outputs: Vec<(String, Tensor)> = graph.outputs().iter().map(named).collect();
    weighted(&outputs).unwrap().to_scalar().unwrap()
}

/// Builds a graph behind a layer on `shape`; all nodes that `build` returns are outputs.
fn graph(
    tensors: &[(&str, &[usize])],
    shape: &[usize],
    build: impl FnOnce(&mut Scope<'_, '_>, NodeId) -> Result<Vec<NodeId>, ModelError>,
) -> Graph {
    let last = shape[shape.len() - 1];
    let first = [last, last];
    let tensors: Vec<(&str, &[usize])> =
        tensors.iter().copied().chain([("first.weight", &first[..])]).collect();
    let weights = weights(&tensors);
    let mut builder = Builder::new(&weights);
    let mut g = builder.root();
    let x = g.input("x", shape).unwrap();
    let first = g.linear("first", x).unwrap();
    // Away from zero in both directions, and not too far for an exponential.
    let small = g.activation("small", Activation::Tanh, first).unwrap();
    let outputs = build(&mut g, small).unwrap();
    for (at, node) in outputs.into_iter().enumerate() {
        builder.output(&format!("out{at}"), node);
    }
    builder.finish(|_| false).unwrap()
}

fn gradients(graph: &Graph, given: &[Value]) -> Result<Vec<(NodeId, Vec<f64>)>, ExecError> {
    let mut found = Vec::new();
    Reference::new(graph, Device::Cpu, DType::F64).gradients(
        given,
        &Cancel::default(),
        weighted,
        |node, gradient| {
            found.push((node, gradient.flatten_all()?.to_vec1::<f64>()?));
            Ok(())
        },
    )?;
    Ok(found)
}

/// Compares the derivative by every layer's output, along a few directions, with central differences.
fn compare(graph: &Graph) {
    let shape = graph.node(graph.inputs()[0]).shape.clone();
    let given = vec![Value::new(shape.clone(), numbers(shape.iter().product(), 0.5))];
    let found = gradients(graph, &given).unwrap();
    assert_eq!(found.len(), graph.layers().len());
    for (node, gradient) in found {
        assert!(gradient.iter().any(|g| *g != 0.0), "{}", graph.node(node).name);
        for direction in 0..3 {
            let along: Vec<f64> =
                numbers(gradient.len(), 31.0 + f64::from(direction)).into_iter().map(f64::from).collect();
            let step = 1e-5;
            let scaled = |by: f64| along.iter().map(|x| x * by).collect::<Vec<f64>>();
            let [up, down] = [step, -step].map(|by| bumped(graph, &given, node.index(), &scaled(by)));
            let expected = (up - down) / (2.0 * step);
            let ours: f64 = gradient.iter().zip(&along).map(|(g, d)| g * d).sum();
            let size: f64 = gradient.iter().zip(&along).map(|(g, d)| (g * d).abs()).sum();
            // Candle writes the derivatives of GELU with six digits.
            let close = (ours - expected).abs() <= 1e-5 * size.max(1e-3);
            assert!(close, "{}: {ours} against {expected}", graph.node(node).name);
        }
    }
}

#[test]
fn functions_and_pairs() {
    let shape = [2, 3, 5];
    compare(&graph(&[], &shape, |g, x| {
        let mut all = Vec::new();
        let positive = g.function(Function::Abs, x)?;
        let positive = g.affine(positive, 1.0, 0.1)?;
        for f in [Function::Neg, Function::Abs, Function::Exp, Function::Sin, Function::Cos, Function::Erf] {
            all.push(g.function(f, x)?);
        }
        for f in [Function::Softplus, Function::HardSigmoid, Function::HardSwish] {
            all.push(g.function(f, x)?);
        }
        for f in [Function::Log, Function::Sqrt, Function::Reciprocal] {
            all.push(g.function(f, positive)?);
        }
        for (at, act) in [
            Activation::Relu,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Tanh,
            Activation::Sigmoid,
            Activation::Silu,
            Activation::None,
        ]
        .into_iter()
        .enumerate()
        {
            all.push(g.activation(&format!("act{at}"), act, x)?);
        }
        let row = g.constant("row", &[5], numbers(5, 3.0).iter().map(|x| x + 0.013).collect())?;
        for op in [BinaryOp::Sub, BinaryOp::Div, BinaryOp::Min, BinaryOp::Max, BinaryOp::Mod] {
            all.push(g.combine(op, x, row)?);
            all.push(g.combine(op, x, positive)?);
        }
        all.push(g.combine(BinaryOp::Pow, positive, row)?);
        all.push(g.combine(BinaryOp::Pow, positive, x)?);
        let column = g.constant("column", &[2, 1, 1], vec![0.0, 1.0])?;
        all.push(g.select(column, x, row)?);
        all.push(g.mul(x, x)?);
        all.push(g.add(x, row)?);
        all.push(g.affine(x, 0.0, 3.0)?);
        Ok(all)
    }));
}

#[test]
fn axes_and_products() {
    let tensors: &[(&str, &[usize])] = &[
        ("norm.weight", &[5]),
        ("norm.bias", &[5]),
        ("batch.weight", &[3]),
        ("batch.bias", &[3]),
        ("batch.running_mean", &[3]),
        ("batch.running_var", &[3]),
        ("second.weight", &[4, 5]),
        ("second.bias", &[4]),
    ];
    compare(&graph(tensors, &[2, 3, 4, 5], |g, x| {
        let mut all = Vec::new();
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
            all.push(g.reduce(kind, x, &[1, 2], true)?);
            all.push(g.reduce(kind, x, &[3], false)?);
        }
        for (exclusive, reverse) in [(false, false), (true, true)] {
            all.push(g.cumulative_sum(x, 2, exclusive, reverse)?);
        }
        let indices = g.constant("indices", &[2, 2], vec![1.0, 0.0, -1.0, -2.0])?;
        all.push(g.gather(x, indices, 3)?);
        let one = g.narrow(x, 2, 1, 1)?;
        all.push(g.expand(one, &[7, 2, 3, 4, 5])?);
        all.push(g.roll(x, &[(2, 1), (3, -2)])?);
        all.push(g.pad(x, &[(2, 1), (1, 2)])?);
        all.push(g.concat(&[x, one, x], 2)?);
        all.push(g.layer_norm("norm", x, 1e-5)?);
        all.push(g.softmax("soft", x)?);
        let second = g.linear("second", x)?;
        all.push(g.matmul("plain", (second, x), false, 0.5)?);
        all.push(g.permute(second, &[0, 3, 1, 2])?);
        let turned = g.roll(x, &[(2, 1)])?;
        all.push(g.matmul("turned", (x, turned), true, 2.0)?);
        let flat = g.reshape(x, &[1, 3, 40])?;
        all.push(g.instance_norm("instance", flat, 1e-5)?);
        let planes = g.narrow(x, 0, 0, 1)?;
        all.push(g.batch_norm("batch", planes, 1e-5)?);
        Ok(all)
    }));
}

#[test]
fn images() {
    let tensors: &[(&str, &[usize])] = &[
        ("wide.weight", &[6, 3, 3, 2]),
        ("wide.bias", &[6]),
        ("even.weight", &[4, 3, 3, 3]),
        ("grouped.weight", &[6, 2, 3, 3]),
        ("line.weight", &[4, 3, 3]),
        ("up.weight", &[6, 4, 3, 2]),
        ("up.bias", &[4]),
    ];
    compare(&graph(tensors, &[1, 3, 11, 8], |g, x| {
        let mut all = Vec::new();
        let geometry = Conv { stride: [2, 1], padding: [1, 0, 0, 2], dilation: [1, 1], groups: 1 };
        let wide = g.conv("wide", x, geometry)?;
        // Rows and columns of which another number is left over.
        all.push(g.conv("even", x, Conv::new(2, 0))?);
        all.push(g.conv("grouped", wide, Conv { dilation: [2, 2], groups: 3, ..Conv::new(1, 1) })?);
        let line = g.reshape(x, &[1, 3, 88])?;
        let stride = Conv { padding: [0, 2, 0, 1], stride: [1, 3], ..Conv::new(1, 0) };
        all.push(g.conv("line", line, stride)?);
        all.push(g.conv_transpose("up", wide, Conv { stride: [2, 3], ..Conv::new(1, 1) }, [1, 0])?);
        for kind in [PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding] {
            let pooling = Pooling { kind, kernel: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] };
            all.push(g.pool("pool", x, pooling, (6, 4))?);
        }
        for (interpolation, coordinates) in [
            (Interpolation::Bilinear, Coordinates::HalfPixel),
            (Interpolation::Bicubic, Coordinates::AlignCorners),
            (Interpolation::Nearest(Rounding::Floor), Coordinates::Asymmetric),
        ] {
            for size in [(22, 18), (7, 13)] {
                all.push(g.resample(x, size, Sampling { interpolation, coordinates })?);
            }
        }
        Ok(all)
    }));
}

#[test]
fn steps_are_errors_unless_they_only_choose() {
    let stepped = |op: fn(&mut Scope<'_, '_>, NodeId) -> Result<NodeId, ModelError>| {
        let graph = graph(&[], &[2, 3], |g, x| {
            let y = op(g, x)?;
            Ok(vec![g.affine(y, 2.0, 0.0)?])
        });
        let given = [Value::new(vec![2, 3], numbers(6, 0.5))];
        gradients(&graph, &given).unwrap_err().to_string()
    };
    for (op, name) in [
        ((|g, x| g.function(Function::Round, x)) as fn(&mut Scope<'_, '_>, NodeId) -> _, "Round"),
        (|g, x| g.function(Function::Sign, x), "Sign"),
        (|g, x| g.combine(BinaryOp::Less, x, x), "Less"),
        (|g, x| g.arg_max(x, 1), "ArgMax"),
    ] {
        let error = stepped(op);
        assert!(error.contains(name) && error.contains("no derivative"), "{error}");
    }
    let infinite = graph(&[], &[2, 3], |g, x| {
        let zero = g.combine(BinaryOp::Sub, x, x)?;
        Ok(vec![g.function(Function::Sqrt, zero)?])
    });
    let given = [Value::new(vec![2, 3], numbers(6, 0.5))];
    assert!(gradients(&infinite, &given).unwrap_err().to_string().contains("not finite"));
    // A comparison that chooses what comes through.
    compare(&graph(&[], &[2, 3], |g, x| {
        let row = g.constant("row", &[3], vec![0.1, -0.2, 0.3])?;
        let chosen = g.combine(BinaryOp::Less, x, row)?;
        Ok(vec![g.select(chosen, x, row)?])
    }));
    let stop = Cancel::default();
    stop.cancel();
    let one = graph(&[], &[2, 3], |_, x| Ok(vec![x]));
    let reference = Reference::new(&one, Device::Cpu, DType::F64);
    let stopped = reference.gradients(&given, &stop, weighted, |_, _| Ok(()));
    assert!(matches!(stopped, Err(ExecError::Cancelled)));
}
