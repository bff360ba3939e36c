//! Writes small ONNX files: the protobuf messages that the tests need.

/// A protobuf message.
#[derive(Clone, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(crate) fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub(crate) fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub(crate) fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }
}

/// An attribute of a node.
pub(crate) enum Value<'v> {
    Int(i64),
    Ints(&'v [i64]),
    Float(f32),
    Text(&'v str),
    Graph(Message),
}

pub(crate) fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Value<'_>)]) -> Message {
    let mut node = Message::default();
    for input in inputs {
        node = node.text(1, input);
    }
    for output in outputs {
        node = node.text(2, output);
    }
    node = node.text(3, &format!("/{}", outputs[0])).text(4, op);
    for (name, value) in attributes {
        let attribute = Message::default().text(1, name);
        let attribute = match value {
            Value::Int(x) => attribute.int(3, *x),
            Value::Float(x) => attribute.float(2, *x),
            Value::Text(x) => attribute.text(4, x),
            Value::Graph(x) => attribute.message(6, x),
            Value::Ints(x) => x.iter().fold(attribute, |a, x| a.int(8, *x)),
        };
        node = node.message(5, &attribute);
    }
    node
}

/// A tensor of any type from its bytes.
pub(crate) fn raw(name: &str, dtype: i64, dims: &[i64], bytes: &[u8]) -> Message {
    let tensor = dims.iter().fold(Message::default(), |t, d| t.int(1, *d));
    tensor.int(2, dtype).text(8, name).bytes(9, bytes)
}

pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> Message {
    raw(name, 1, dims, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

pub(crate) fn ints(name: &str, dims: &[i64], values: &[i64]) -> Message {
    raw(name, 7, dims, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

pub(crate) fn ints32(name: &str, dims: &[i64], values: &[i32]) -> Message {
    raw(name, 6, dims, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

pub(crate) fn bytes(name: &str, dims: &[i64], values: &[i8]) -> Message {
    raw(name, 3, dims, &values.iter().map(|x| *x as u8).collect::<Vec<u8>>())
}

/// A tensor whose values lie in another file.
pub(crate) fn external(name: &str, dims: &[i64], location: &str, offset: &str, length: &str) -> Message {
    let entry = |key: &str, value: &str| Message::default().text(1, key).text(2, value);
    let tensor = dims.iter().fold(Message::default(), |t, d| t.int(1, *d)).int(2, 1).text(8, name);
    tensor
        .message(13, &entry("location", location))
        .message(13, &entry("offset", offset))
        .message(13, &entry("length", length))
        .int(14, 1)
}

fn value_info(name: &str, dtype: i64, dims: &[i64]) -> Message {
    let shape = dims.iter().fold(Message::default(), |s, d| s.message(1, &Message::default().int(1, *d)));
    let tensor = Message::default().int(1, dtype).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

pub(crate) fn graph(
    nodes: &[Message],
    initializers: &[Message],
    inputs: &[(&str, i64, &[i64])],
    outputs: &[&str],
) -> Message {
    let mut graph = nodes.iter().fold(Message::default(), |g, n| g.message(1, n)).text(2, "g");
    for tensor in initializers {
        graph = graph.message(5, tensor);
    }
    for (name, dtype, dims) in inputs {
        graph = graph.message(11, &value_info(name, *dtype, dims));
    }
    outputs.iter().fold(graph, |g, name| g.message(12, &value_info(name, 1, &[])))
}

pub(crate) fn model(opset: i64, graph: &Message) -> Vec<u8> {
    Message::default().int(1, 8).message(7, graph).message(8, &Message::default().int(2, opset)).0
}
