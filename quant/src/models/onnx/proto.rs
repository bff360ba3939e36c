//! The messages of an ONNX file (`onnx.proto`), as far as inference needs them. Tensor data stays in the file.

use std::cell::Cell;

use super::wire::{Damage, Field, Reader};

/// Graphs within graphs (the branches of `If`) deeper than this are taken for an attack.
const MAX_DEPTH: usize = 16;
/// More messages than this are taken for an attack: each takes a hundred times the memory of its two bytes.
const MAX_MESSAGES: usize = 1 << 20;

/// A whole file.
#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    /// Version of the default operator set.
    pub(super) opset: i64,
    /// Domains of operators beside the default one.
    pub(super) domains: Vec<String>,
    pub(super) graph: Option<Graph<'a>>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) initializers: Vec<Tensor<'a>>,
    pub(super) inputs: Vec<ValueInfo>,
    pub(super) outputs: Vec<ValueInfo>,
    pub(super) sparse: usize,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Node<'a> {
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) name: String,
    pub(super) op: String,
    pub(super) domain: String,
    pub(super) attributes: Vec<Attribute<'a>>,
    /// Module path that the exporter noted, if it did.
    pub(super) scopes: Option<String>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Attribute<'a> {
    pub(super) name: String,
    pub(super) float: f32,
    pub(super) int: i64,
    pub(super) text: String,
    pub(super) tensor: Option<Box<Tensor<'a>>>,
    pub(super) graph: Option<Box<Graph<'a>>>,
    pub(super) floats: Vec<f32>,
    pub(super) ints: Vec<i64>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Tensor<'a> {
    pub(super) name: String,
    pub(super) dims: Vec<i64>,
    pub(super) dtype: i64,
    pub(super) raw: Option<&'a [u8]>,
    pub(super) floats: Vec<f32>,
    pub(super) ints: Vec<i64>,
    pub(super) doubles: Vec<f64>,
    /// `location`, `offset`, `length` of data in another file.
    pub(super) external: Vec<(String, String)>,
    pub(super) is_external: bool,
}

/// A named value with its type and its dimensions; `None` for one that the file leaves open.
#[derive(Debug, Default, Clone)]
pub(super) struct ValueInfo {
    pub(super) name: String,
    pub(super) dtype: i64,
    pub(super) dims: Vec<Option<i64>>,
    /// Names of open dimensions, by axis.
    pub(super) symbols: Vec<String>,
}

/// Reads a file.
pub(super) fn model(bytes: &[u8]) -> Result<Model<'_>, Damage> {
    let mut model = Model::default();
    let left = &Left::new(MAX_MESSAGES);
    each(bytes, |number, field| {
        match number {
            7 => model.graph = Some(graph(field.bytes(), 0, left)?),
            8 => {
                let (mut domain, mut version) = (String::new(), 0);
                each(field.bytes(), |number, field| {
                    match number {
                        1 => domain = field.text(),
                        2 => version = field.int(),
                        _ => {}
                    }
                    Ok(())
                })?;
                if domain.is_empty() || domain == "ai.onnx" {
                    model.opset = version;
                } else {
                    push(left, &mut model.domains, domain)?;
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(model)
}

/// Reads a file of one tensor.
#[cfg(test)]
pub(super) fn single_tensor(bytes: &[u8]) -> Result<Tensor<'_>, Damage> {
    tensor(bytes, &Left::new(MAX_MESSAGES))
}

fn graph<'a>(bytes: &'a [u8], depth: usize, left: &Left) -> Result<Graph<'a>, Damage> {
    if depth > MAX_DEPTH {
        return Err("graphs are nested too deeply");
    }
    let mut graph = Graph::default();
    each(bytes, |number, field| {
        match number {
            1 => push(left, &mut graph.nodes, node(field.bytes(), depth, left)?)?,
            5 => push(left, &mut graph.initializers, tensor(field.bytes(), left)?)?,
            11 => push(left, &mut graph.inputs, value_info(field.bytes(), left)?)?,
            12 => push(left, &mut graph.outputs, value_info(field.bytes(), left)?)?,
            15 => graph.sparse += 1,
            _ => {}
        }
        Ok(())
    })?;
    Ok(graph)
}

fn node<'a>(bytes: &'a [u8], depth: usize, left: &Left) -> Result<Node<'a>, Damage> {
    let mut node = Node::default();
    each(bytes, |number, field| {
        match number {
            1 => push(left, &mut node.inputs, field.text())?,
            2 => push(left, &mut node.outputs, field.text())?,
            3 => node.name = field.text(),
            4 => node.op = field.text(),
            5 => push(left, &mut node.attributes, attribute(field.bytes(), depth, left)?)?,
            7 => node.domain = field.text(),
            9 => {
                let (key, value) = entry(field.bytes())?;
                if key == "pkg.torch.onnx.name_scopes" {
                    node.scopes = Some(value);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(node)
}

fn attribute<'a>(bytes: &'a [u8], depth: usize, left: &Left) -> Result<Attribute<'a>, Damage> {
    let mut attribute = Attribute::default();
    each(bytes, |number, field| {
        match number {
            1 => attribute.name = field.text(),
            2 => {
                if let Field::Fixed32(bytes) = field {
                    attribute.float = f32::from_le_bytes(bytes);
                }
            }
            3 => attribute.int = field.int(),
            4 => attribute.text = field.text(),
            5 => attribute.tensor = Some(Box::new(tensor(field.bytes(), left)?)),
            6 => attribute.graph = Some(Box::new(graph(field.bytes(), depth + 1, left)?)),
            7 => field.floats(&mut attribute.floats)?,
            8 => field.ints(&mut attribute.ints)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(attribute)
}

fn tensor<'a>(bytes: &'a [u8], left: &Left) -> Result<Tensor<'a>, Damage> {
    let mut tensor = Tensor::default();
    each(bytes, |number, field| {
        match number {
            1 => field.ints(&mut tensor.dims)?,
            2 => tensor.dtype = field.int(),
            4 => field.floats(&mut tensor.floats)?,
            5 | 7 | 11 => field.ints(&mut tensor.ints)?,
            8 => tensor.name = field.text(),
            9 => tensor.raw = Some(field.bytes()),
            10 => field.doubles(&mut tensor.doubles)?,
            13 => push(left, &mut tensor.external, entry(field.bytes())?)?,
            14 => tensor.is_external = field.int() == 1,
            _ => {}
        }
        Ok(())
    })?;
    Ok(tensor)
}

fn value_info(bytes: &[u8], left: &Left) -> Result<ValueInfo, Damage> {
    let mut info = ValueInfo::default();
    each(bytes, |number, field| {
        match number {
            1 => info.name = field.text(),
            // TypeProto.tensor_type
            2 => each(field.bytes(), |number, field| {
                if number == 1 {
                    tensor_type(field.bytes(), &mut info, left)?;
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(info)
}

fn tensor_type(bytes: &[u8], info: &mut ValueInfo, left: &Left) -> Result<(), Damage> {
    each(bytes, |number, field| {
        match number {
            1 => info.dtype = field.int(),
            2 => each(field.bytes(), |number, field| {
                if number != 1 {
                    return Ok(());
                }
                let (mut size, mut symbol) = (None, String::new());
                each(field.bytes(), |number, field| {
                    match number {
                        1 => size = Some(field.int()),
                        2 => symbol = field.text(),
                        _ => {}
                    }
                    Ok(())
                })?;
                push(left, &mut info.dims, size)?;
                push(left, &mut info.symbols, symbol)
            })?,
            _ => {}
        }
        Ok(())
    })
}

/// A `StringStringEntryProto`.
fn entry(bytes: &[u8]) -> Result<(String, String), Damage> {
    let (mut key, mut value) = (String::new(), String::new());
    each(bytes, |number, field| {
        match number {
            1 => key = field.text(),
            2 => value = field.text(),
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, value))
}

fn each<'a>(
    bytes: &'a [u8],
    mut see: impl FnMut(u64, Field<'a>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        see(number, field)?;
    }
    Ok(())
}

/// Messages that may still be read.
type Left = Cell<usize>;

fn push<T>(left: &Left, list: &mut Vec<T>, entry: T) -> Result<(), Damage> {
    let now = left.get().checked_sub(1).ok_or("it holds more than a million messages")?;
    left.set(now);
    list.push(entry);
    Ok(())
}

impl<'a> Node<'a> {
    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.iter().find(|a| a.name == name)
    }
}
