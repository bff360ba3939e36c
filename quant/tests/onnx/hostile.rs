//! Broken and hostile files: an error that says where, never a panic, a hang or a huge allocation.

use bitloupe_quant::models::{InputShapes, ModelError, onnx};

use super::small::{open, opened, refused, run};
use super::writer::{Message, Value, external, floats, graph, ints, model, node, raw};

const X: (&str, i64, &[i64]) = ("x", 1, &[1, 2]);

fn has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn a_cycle_names_a_node_of_it() {
    let message = refused(&graph(
        &[node("Add", &["x", "b"], &["a"], &[]), node("Relu", &["a"], &["b"], &[])],
        &[],
        &[X],
        &["b"],
    ));
    has(&message, &["model.onnx", "cycle", "/a", "; export the model again"]);
}

#[test]
fn nodes_out_of_order_are_put_in_order() {
    let model = opened(&graph(
        &[node("Neg", &["a"], &["y"], &[]), node("Relu", &["x"], &["a"], &[])],
        &[],
        &[X],
        &["y"],
    ));
    assert_eq!(run(&model, &[-1.0, 2.0]), [0.0, -2.0]);
}

#[test]
fn every_cut_of_a_file_is_an_error() {
    let bytes = model(
        17,
        &graph(
            &[node("MatMul", &["x", "w"], &["y"], &[])],
            &[floats("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])],
            &[X],
            &["y"],
        ),
    );
    // The last field is the operator set, without which the version is 0.
    for len in 0..bytes.len() {
        assert!(open(&bytes[..len]).is_err(), "{len} of {} bytes opened", bytes.len());
    }
    assert!(open(&bytes).is_ok());
    // And bytes that are no protobuf.
    for byte in 0..=255_u8 {
        assert!(open(&vec![byte; 300]).is_err());
    }
}

#[test]
fn flipped_bits_do_not_crash() {
    let bytes = model(
        17,
        &graph(
            &[
                node("Conv", &["x", "w"], &["c"], &[("pads", Value::Ints(&[1, 1, 1, 1]))]),
                node("Reshape", &["c", "s"], &["r"], &[]),
                node("Softmax", &["r"], &["y"], &[("axis", Value::Int(-1))]),
            ],
            &[floats("w", &[1, 1, 2, 2], &[1.0; 4]), ints("s", &[2], &[1, -1])],
            &[("x", 1, &[1, 1, 3, 3])],
            &["y"],
        ),
    );
    for bit in 0..bytes.len() * 8 {
        let mut broken = bytes.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        if let Ok(model) = open(&broken) {
            assert!(model.graph.nodes().len() < 100);
        }
    }
}

#[test]
fn external_data_stays_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("model");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(folder.path().join("secret"), [0; 64]).unwrap();
    std::fs::write(inside.join("data"), 1.0_f32.to_le_bytes().repeat(8)).unwrap();
    #[cfg(unix)]
    {
        // As the hub's cache lays out a model; and a folder that is a link, which a path could go through.
        std::fs::create_dir(folder.path().join("blobs")).unwrap();
        std::fs::write(folder.path().join("blobs/0a1b"), 1.0_f32.to_le_bytes().repeat(4)).unwrap();
        std::os::unix::fs::symlink("../blobs/0a1b", inside.join("model.onnx_data")).unwrap();
        std::os::unix::fs::symlink(folder.path(), inside.join("folder")).unwrap();
        std::os::unix::fs::symlink("nothing", inside.join("dangling")).unwrap();
    }
    let try_with = |location: &str, offset: &str, length: &str| {
        let bytes = model(
            17,
            &graph(
                &[node("MatMul", &["x", "w"], &["y"], &[])],
                &[external("w", &[2, 2], location, offset, length)],
                &[X],
                &["y"],
            ),
        );
        let path = inside.join("model.onnx");
        std::fs::write(&path, bytes).unwrap();
        onnx::open(&path, &InputShapes::default()).map_err(|e| e.to_string())
    };
    assert!(try_with("data", "16", "16").is_ok());
    assert!(try_with("./data", "0", "16").is_ok());
    let absolute = folder.path().join("secret");
    for location in ["../secret", "/etc/passwd", absolute.to_str().unwrap(), "", "a/../../secret"] {
        has(&try_with(location, "0", "16").unwrap_err(), &["model.onnx", "folder"]);
    }
    #[cfg(unix)]
    {
        assert!(try_with("model.onnx_data", "0", "16").is_ok());
        has(&try_with("folder/secret", "0", "16").unwrap_err(), &["folder/secret", "outside"]);
        has(&try_with("dangling", "0", "16").unwrap_err(), &["dangling"]);
        has(&try_with("folder", "0", "16").unwrap_err(), &["not a regular file"]);
    }
    has(&try_with("missing", "0", "16").unwrap_err(), &["missing"]);
    has(&try_with("data", "24", "16").unwrap_err(), &["`w`", "past the end"]);
    has(&try_with("data", "18446744073709551615", "16").unwrap_err(), &["`w`"]);
    has(&try_with("data", "-1", "16").unwrap_err(), &["`w`", "offset"]);
    has(&try_with("data", "0", "12").unwrap_err(), &["`w`", "12 bytes"]);
}

#[test]
fn impossible_dimensions_are_errors() {
    let huge = 1_i64 << 31;
    let message = refused(&graph(&[node("Relu", &["x"], &["y"], &[])], &[], &[("x", 1, &[1, huge])], &["y"]));
    has(&message, &["`x`", "[1, 2147483648]", "; export"]);
    let message = refused(&graph(
        &[node("Relu", &["x"], &["y"], &[])],
        &[],
        &[("x", 1, &[1, 1 << 20, 1 << 20])],
        &["y"],
    ));
    has(&message, &["`x`"]);
    let message = refused(&graph(
        &[node("Add", &["x", "w"], &["y"], &[])],
        &[floats("w", &[huge, huge], &[1.0])],
        &[X],
        &["y"],
    ));
    has(&message, &["`w`"]);
    has(
        &refused(&graph(
            &[node("Add", &["x", "w"], &["y"], &[])],
            &[floats("w", &[-2], &[1.0])],
            &[X],
            &["y"],
        )),
        &["`w`", "-2"],
    );
}

#[test]
fn a_tensor_must_have_as_many_values_as_its_shape() {
    let message = refused(&graph(
        &[node("Add", &["x", "w"], &["y"], &[])],
        &[floats("w", &[3], &[1.0, 2.0])],
        &[X],
        &["y"],
    ));
    has(&message, &["`w`", "[3]"]);
}

#[test]
fn types_are_called_by_their_names() {
    let relu = [node("Relu", &["x"], &["y"], &[])];
    has(&refused(&graph(&relu, &[], &[("x", 8, &[0, 3])], &["y"])), &["`x`", "STRING", "; export"]);
    let add = [node("Add", &["x", "w"], &["y"], &[])];
    let message = refused(&graph(&add, &[raw("w", 14, &[1], &[0; 8])], &[X], &["y"]));
    has(&message, &["`w`", "COMPLEX64", "; export"]);
}

#[test]
fn a_weight_that_does_not_fit_is_said_with_both_shapes() {
    let w = floats("w", &[3, 1], &[1.0; 3]);
    let message = refused(&graph(&[node("MatMul", &["x", "w"], &["y"], &[])], &[w], &[X], &["y"]));
    has(&message, &["/y", "MatMul", "[1, 2] does not fit weight [1, 3]", "; the file is damaged"]);
}

#[test]
fn a_missing_initializer_is_named() {
    let message = refused(&graph(&[node("Add", &["x", "w"], &["y"], &[])], &[], &[X], &["y"]));
    has(&message, &["`w`", "/y", "Add"]);
    let message = refused(&graph(&[node("Relu", &["x"], &["y"], &[])], &[], &[X], &["z"]));
    has(&message, &["`z`"]);
}

#[test]
fn two_values_of_one_name_are_an_error() {
    let relu = || node("Relu", &["x"], &["y"], &[]);
    has(&refused(&graph(&[relu(), relu()], &[], &[X], &["y"])), &["`y`"]);
    let w = || floats("w", &[1], &[1.0]);
    has(&refused(&graph(&[relu()], &[w(), w()], &[X], &["y"])), &["`w`"]);
}

#[test]
fn small_files_cannot_ask_for_large_tables() {
    let add = || node("Add", &["x", "t"], &["y"], &[]);
    let number = |name: &str, value: i64| ints(name, &[], &[value]);
    let far = i64::MAX;
    let ranges = [(0, far, 1), (0, far, 2), (-far, far, 1), (far, -far, -1)];
    for (start, limit, step) in ranges {
        let tables = [number("a", start), number("b", limit), number("c", step)];
        let range = node("Range", &["a", "b", "c"], &["r"], &[]);
        let cast = node("Cast", &["r"], &["t"], &[("to", Value::Int(1))]);
        has(&refused(&graph(&[range, cast, add()], &tables, &[X], &["y"])), &["Range"]);
    }
    for sizes in [vec![1 << 40], vec![1 << 20, 1 << 20], vec![far, far, far]] {
        let dims = [sizes.len() as i64];
        let shape = ints("s", &dims, &sizes);
        let full = node("ConstantOfShape", &["s"], &["t"], &[]);
        has(
            &refused(&graph(&[full, add()], std::slice::from_ref(&shape), &[X], &["y"])),
            &["ConstantOfShape"],
        );
        let expand = node("Expand", &["v", "s"], &["t"], &[]);
        let v = floats("v", &[1], &[1.0]);
        has(&refused(&graph(&[expand, add()], &[v, shape], &[X], &["y"])), &["Expand"]);
    }
    let tile = node("Tile", &["v", "s"], &["t"], &[]);
    let tables = [floats("v", &[2], &[1.0, 2.0]), ints("s", &[1], &[1 << 33])];
    has(&refused(&graph(&[tile, add()], &tables, &[X], &["y"])), &["Tile"]);
    // Doubling again and again: sixty nodes would make 2^60 values.
    let mut nodes = vec![];
    for i in 0..60 {
        let (from, to) = (format!("d{i}"), format!("d{}", i + 1));
        nodes.push(node("Concat", &[&from, &from], &[&to], &[("axis", Value::Int(0))]));
    }
    nodes.push(node("Add", &["x", "d60"], &["y"], &[]));
    has(&refused(&graph(&nodes, &[floats("d0", &[1], &[1.0])], &[X], &["y"])), &["Concat"]);
}

#[test]
fn branches_within_branches_have_an_end() {
    let condition = || Message::default().int(2, 9).text(8, "c").bytes(9, &[1]);
    let mut inner = graph(&[node("Relu", &["x"], &["r"], &[])], &[], &[], &["r"]);
    let deep = |inner: Message, depth: usize| {
        let name = format!("o{depth}");
        let node = node("If", &["c"], &[&name], &[("then_branch", Value::Graph(inner))]);
        graph(&[node], &[], &[], &[&name])
    };
    // One level opens and is replaced by its branch.
    let one = node("If", &["c"], &["y"], &[("then_branch", Value::Graph(inner.clone()))]);
    let model = opened(&graph(&[one], &[condition()], &[X], &["y"]));
    assert_eq!(run(&model, &[-1.0, 2.0]), [0.0, 2.0]);
    for depth in 0..17 {
        inner = deep(inner, depth);
    }
    let outer = node("If", &["c"], &["y"], &[("then_branch", Value::Graph(inner))]);
    has(&refused(&graph(&[outer], &[condition()], &[X], &["y"])), &["nested"]);
}

#[test]
fn what_is_not_supported_is_listed_and_the_rest_opens() {
    let nodes = [
        node("MatMul", &["x", "first.weight"], &["a"], &[]),
        node("Relu", &["a"], &["b"], &[]),
        node("StringNormalizer", &["b"], &["c"], &[]),
        node("MatMul", &["c", "second.weight"], &["d"], &[]),
        node("Loop", &["d"], &["e"], &[]),
        node("Neg", &["b"], &["y"], &[]),
    ];
    let w = |name: &str| floats(name, &[2, 2], &[1.0, 0.0, 0.0, 1.0]);
    let file = graph(&nodes, &[w("first.weight"), w("second.weight")], &[X], &["y", "e"]);
    let model = opened(&file);
    let found: Vec<(&str, &str)> =
        model.unsupported.iter().map(|u| (u.node.as_str(), u.op.as_str())).collect();
    assert_eq!(found, [("/c", "StringNormalizer"), ("/e", "Loop")]);
    assert_eq!(model.left_out, ["/d"]);
    let layers: Vec<&str> = model.graph.layers().iter().map(|l| l.name.as_str()).collect();
    assert_eq!(layers, ["first"]);
    assert_eq!(run(&model, &[-3.0, 2.0]), [-0.0, -2.0]);
    // Opened as a whole it is an error with both names.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, self::model(17, &file)).unwrap();
    let error = onnx::open(&path, &InputShapes::default()).unwrap_err();
    assert!(matches!(&error, ModelError::UnsupportedOperators { nodes, .. } if nodes.len() == 2));
    has(&error.to_string(), &["model.onnx", "`/c`", "StringNormalizer", "`/e`", "Loop", "2 nodes"]);
}

#[test]
fn a_condition_that_depends_on_the_input_is_not_supported() {
    let branch = graph(&[node("Relu", &["x"], &["r"], &[])], &[], &[], &["r"]);
    let nodes = [
        node("ReduceMax", &["x"], &["m"], &[("keepdims", Value::Int(0))]),
        node("Greater", &["m", "zero"], &["c"], &[]),
        node(
            "If",
            &["c"],
            &["y"],
            &[("then_branch", Value::Graph(branch.clone())), ("else_branch", Value::Graph(branch))],
        ),
    ];
    let message = refused(&graph(&nodes, &[floats("zero", &[], &[0.0])], &[X], &["z"]));
    has(&message, &["`z`"]);
    let model = opened(&graph(&nodes, &[floats("zero", &[], &[0.0])], &[X], &["y"]));
    assert_eq!(model.unsupported[0].op, "If");
}

#[test]
fn versions_that_are_not_read_are_named() {
    let file = graph(&[node("Relu", &["x"], &["y"], &[])], &[], &[X], &["y"]);
    has(&open(&model(99, &file)).err().unwrap().to_string(), &["99"]);
}
