//! The few names in a pickle that mean something here.

use super::{Object, Storage, Tensor, Value};

/// Most axes of a tensor.
const MAX_RANK: usize = 16;

/// What a call gives.
pub(super) enum Returned<'a> {
    /// A new object.
    New(Object<'a>),
    /// One of its arguments.
    Same(Value),
    /// The function is none of those known here.
    Unknown,
}

/// The result of a known function.
pub(super) fn call<'a>(
    objects: &[Object<'a>],
    callable: Value,
    arguments: Value,
) -> Result<Returned<'a>, String> {
    let Some(Object::Global(module, name)) = get(objects, callable) else { return Ok(Returned::Unknown) };
    let Some(arguments) = tuple(objects, arguments) else {
        return Err(format!("`{module}.{name}` is called with no tuple of arguments"));
    };
    Ok(match (*module, *name) {
        ("collections", "OrderedDict") => Returned::New(Object::Dict(pairs(objects, arguments))),
        // (storage, offset, size, stride, …); what follows concerns training.
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
            let tensor = tensor(objects, arguments).ok_or_else(|| {
                format!("`{name}` is called with something else than a storage, an offset, sizes and strides")
            })?;
            Returned::New(Object::Tensor(tensor))
        }
        // (data, requires_grad, backward_hooks)
        ("torch._utils", "_rebuild_parameter") => match arguments.first() {
            Some(&data) if matches!(get(objects, data), Some(Object::Tensor(_))) => Returned::Same(data),
            _ => Returned::Unknown,
        },
        _ => Returned::Unknown,
    })
}

/// The storage that `("storage", class, key, device, number of values)` stands for.
pub(super) fn storage<'a>(objects: &[Object<'a>], id: Value) -> Result<Storage<'a>, String> {
    let read = || {
        let [kind, class, key, _, len] = *tuple(objects, id)?.first_chunk::<5>()?;
        let Some(Object::Global(_, class)) = get(objects, class) else { return None };
        let Some(Object::Text(key)) = get(objects, key) else { return None };
        let is_storage = matches!(get(objects, kind), Some(Object::Text("storage")));
        is_storage.then_some(Storage { class, key, len: unsigned(len)? })
    };
    read().ok_or_else(|| "a persistent name that is no storage of torch".to_owned())
}

fn tensor(objects: &[Object<'_>], arguments: &[Value]) -> Option<Tensor> {
    let [storage, offset, shape, strides] = *arguments.first_chunk::<4>()?;
    let (Value::Object(number), Some(Object::Storage(_))) = (storage, get(objects, storage)) else {
        return None;
    };
    let numbers = |value: Value| -> Option<Vec<u64>> {
        let items = tuple(objects, value).filter(|items| items.len() <= MAX_RANK)?;
        items.iter().map(|&n| unsigned(n)).collect()
    };
    let (shape, strides) = (numbers(shape)?, numbers(strides)?);
    let same_rank = shape.len() == strides.len();
    same_rank.then_some(Tensor { storage: number, offset: unsigned(offset)?, shape, strides })
}

/// The items that an OrderedDict is made from: a list of pairs, or nothing.
fn pairs(objects: &[Object<'_>], arguments: &[Value]) -> Vec<(Value, Value)> {
    let Some(Object::List(items)) = arguments.first().and_then(|&list| get(objects, list)) else {
        return Vec::new();
    };
    let pair = |&item: &Value| match get(objects, item)? {
        Object::Tuple(pair) | Object::List(pair) => match pair.as_slice() {
            [key, value] => Some((*key, *value)),
            _ => None,
        },
        _ => None,
    };
    items.iter().filter_map(pair).collect()
}

fn get<'o, 'a>(objects: &'o [Object<'a>], value: Value) -> Option<&'o Object<'a>> {
    match value {
        Value::Object(number) => objects.get(number as usize),
        Value::Plain | Value::Int(_) => None,
    }
}

fn tuple<'o>(objects: &'o [Object<'_>], value: Value) -> Option<&'o [Value]> {
    match get(objects, value)? {
        Object::Tuple(items) => Some(items),
        _ => None,
    }
}

fn unsigned(value: Value) -> Option<u64> {
    match value {
        Value::Int(value) => u64::try_from(value).ok(),
        Value::Plain | Value::Object(_) => None,
    }
}
