//! The stack machine of pickles.

use std::collections::HashMap;

use super::opcode::{Opcode, Reader};
use super::{Object, Pickle, Problem, Value, deny, torch};

/// Most values on the stack, marks, or kept for later use.
const MAX_STACK: usize = 1 << 20;
const MAX_MEMO: usize = 1 << 22;
/// Most objects, and most values in all of them.
const MAX_OBJECTS: usize = 1 << 22;
const MAX_MEMBERS: usize = 1 << 23;

/// Reads a pickle. Errors say what is wrong and where, without the file's name.
pub(in super::super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, Problem> {
    let mut reader = Reader::new(bytes);
    let mut machine = Machine::default();
    loop {
        let at = reader.position();
        let step = reader.next().map_err(Problem::from).and_then(|opcode| machine.step(opcode));
        if let Some(root) = step.map_err(|problem| problem.at(at))? {
            return Ok(Pickle { objects: machine.objects, root });
        }
    }
}

#[derive(Default)]
struct Machine<'a> {
    objects: Vec<Object<'a>>,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    /// Values in containers.
    members: usize,
}

impl<'a> Machine<'a> {
    /// One step; the result if it was the last.
    fn step(&mut self, opcode: Opcode<'a>) -> Result<Option<Value>, Problem> {
        match opcode {
            Opcode::Skip => {}
            Opcode::Stop => return Ok(self.pop().map(Some)?),
            Opcode::Mark => {
                limit(self.marks.len(), MAX_STACK, "marks")?;
                self.marks.push(self.stack.len());
            }
            // A mark right below goes instead of a value, as in Python.
            Opcode::Pop if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
            }
            Opcode::Pop => {
                self.pop()?;
            }
            // A set's members are of no use for tensors.
            Opcode::PopMark | Opcode::AddItems => {
                self.above_mark()?;
            }
            Opcode::Dup => {
                let top = self.top()?;
                self.push(top)?;
            }
            Opcode::Plain => self.push(Value::Plain)?,
            Opcode::Int(value) => self.push(Value::Int(value))?,
            Opcode::Text(text) => self.make(Object::Text(text))?,
            Opcode::EmptyList => self.make(Object::List(Vec::new()))?,
            Opcode::EmptyTuple => self.make(Object::Tuple(Vec::new()))?,
            Opcode::EmptyDict => self.make(Object::Dict(Vec::new()))?,
            Opcode::List => {
                let items = self.above_mark()?;
                self.grow(items.len())?;
                self.make(Object::List(items))?;
            }
            Opcode::Tuple => {
                let items = self.above_mark()?;
                self.grow(items.len())?;
                self.make(Object::Tuple(items))?;
            }
            Opcode::ShortTuple(count) => {
                let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                self.grow(count)?;
                self.make(Object::Tuple(items))?;
            }
            Opcode::Dict => {
                let items = self.above_mark()?;
                self.make(Object::Dict(Vec::new()))?;
                self.set(&items)?;
            }
            Opcode::FrozenSet => {
                self.above_mark()?;
                self.push(Value::Plain)?;
            }
            Opcode::Append => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            Opcode::Appends => {
                let items = self.above_mark()?;
                self.append(&items)?;
            }
            Opcode::SetItem => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            Opcode::SetItems => {
                let items = self.above_mark()?;
                self.set(&items)?;
            }
            Opcode::Get(number) => {
                let Some(&value) = self.memo.get(&number) else {
                    return Err(format!("no value was kept under {number}").into());
                };
                self.push(value)?;
            }
            Opcode::Put(number) => self.keep(number)?,
            Opcode::Memoize => self.keep(self.memo.len() as u32)?,
            Opcode::Global(module, name) => self.make(Object::Global(module, name))?,
            Opcode::StackGlobal => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.text(module), self.text(name)) else {
                    return Err("a class whose module or name is no text".to_owned().into());
                };
                self.make(Object::Global(module, name))?;
            }
            Opcode::PersistentId => {
                let id = self.pop()?;
                let storage = torch::storage(&self.objects, id)?;
                self.make(Object::Storage(storage))?;
            }
            Opcode::Reduce => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments)?;
            }
            // The state of an object that is not opaque is what torch notes beside an OrderedDict.
            Opcode::Build => {
                self.pop()?;
                self.top()?;
            }
            Opcode::Inst(module, name) => {
                let arguments = self.above_mark()?;
                harmless(module, name)?;
                self.passes(&arguments)?;
                self.make(Object::Opaque(module, name))?;
            }
            Opcode::Obj => {
                let items = self.above_mark()?;
                let class = items.first().copied().unwrap_or(Value::Plain);
                self.passes(&items)?;
                self.opaque(class)?;
            }
            Opcode::NewObj(named) => {
                let mut arguments = self.pop()?;
                if named {
                    arguments = self.pop()?;
                }
                self.passes_all(arguments)?;
                let class = self.pop()?;
                self.opaque(class)?;
            }
        }
        Ok(None)
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        limit(self.stack.len(), MAX_STACK, "values on its stack")?;
        self.stack.push(value);
        Ok(())
    }

    /// Makes an object and pushes it.
    fn make(&mut self, object: Object<'a>) -> Result<(), String> {
        limit(self.objects.len(), MAX_OBJECTS, "objects")?;
        self.objects.push(object);
        self.push(Value::Object(self.objects.len() as u32 - 1))
    }

    /// The uppermost value above the last mark.
    fn top(&self) -> Result<Value, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(<[Value]>::last).copied().ok_or_else(underflow)
    }

    fn pop(&mut self) -> Result<Value, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Takes everything above the last mark, and the mark.
    fn above_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn keep(&mut self, number: u32) -> Result<(), String> {
        limit(self.memo.len(), MAX_MEMO, "values kept")?;
        self.memo.insert(number, self.top()?);
        Ok(())
    }

    /// Makes room for members of containers.
    fn grow(&mut self, count: usize) -> Result<(), String> {
        self.members += count;
        limit(self.members, MAX_MEMBERS, "members in its lists and dicts")
    }

    /// The object that the uppermost value refers to.
    fn target(&mut self) -> Result<Option<&mut Object<'a>>, String> {
        Ok(match self.top()? {
            Value::Object(number) => self.objects.get_mut(number as usize),
            Value::Plain | Value::Int(_) => None,
        })
    }

    /// Appends to the list on top; anything else that takes members is opaque.
    fn append(&mut self, items: &[Value]) -> Result<(), String> {
        self.grow(items.len())?;
        if let Some(Object::List(list)) = self.target()? {
            list.extend_from_slice(items);
        }
        Ok(())
    }

    /// Sets keys and values, one after the other in `items`, in the dict on top.
    fn set(&mut self, items: &[Value]) -> Result<(), String> {
        let (pairs, odd) = items.as_chunks::<2>();
        if !odd.is_empty() {
            return Err("a key without a value".to_owned());
        }
        self.grow(items.len())?;
        if let Some(Object::Dict(dict)) = self.target()? {
            dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        }
        Ok(())
    }

    fn text(&self, value: Value) -> Option<&'a str> {
        match value {
            Value::Object(number) => match self.objects.get(number as usize)? {
                Object::Text(text) => Some(text),
                _ => None,
            },
            Value::Plain | Value::Int(_) => None,
        }
    }

    /// What a call returns: of the functions of [`torch::call`] what they would, of all others nothing that can be
    /// used. Nothing is called.
    fn call(&mut self, callable: Value, arguments: Value) -> Result<(), Problem> {
        self.passes(&[callable])?;
        self.passes_all(arguments)?;
        match torch::call(&self.objects, callable, arguments)? {
            torch::Returned::New(object) => {
                if let Object::Dict(items) = &object {
                    self.grow(2 * items.len())?;
                }
                Ok(self.make(object)?)
            }
            torch::Returned::Same(value) => Ok(self.push(value)?),
            torch::Returned::Unknown => self.opaque(callable),
        }
    }

    /// An error if one of these values, to be called or given to a function, is one that no checkpoint needs.
    fn passes(&self, values: &[Value]) -> Result<(), Problem> {
        let global = |value: &Value| match value {
            Value::Object(number) => match self.objects.get(*number as usize) {
                Some(Object::Global(module, name)) => Some((*module, *name)),
                _ => None,
            },
            Value::Plain | Value::Int(_) => None,
        };
        values.iter().filter_map(global).try_for_each(|(module, name)| harmless(module, name))
    }

    /// The same for the members of a tuple of arguments.
    fn passes_all(&self, arguments: Value) -> Result<(), Problem> {
        let Value::Object(number) = arguments else { return Ok(()) };
        match self.objects.get(number as usize) {
            Some(Object::Tuple(items)) => self.passes(items),
            _ => Ok(()),
        }
    }

    /// An object of a class, or the result of a function, about which nothing is known.
    fn opaque(&mut self, class: Value) -> Result<(), Problem> {
        let named = match class {
            Value::Object(number) => self.objects.get(number as usize),
            Value::Plain | Value::Int(_) => None,
        };
        let (module, name) = match named {
            Some(Object::Global(module, name) | Object::Opaque(module, name)) => (*module, *name),
            _ => ("", "an object"),
        };
        harmless(module, name)?;
        Ok(self.make(Object::Opaque(module, name))?)
    }
}

fn harmless(module: &str, name: &str) -> Result<(), Problem> {
    if deny::runs(module, name) { Err(Problem::Harmful(format!("{module}.{name}"))) } else { Ok(()) }
}

fn limit(count: usize, most: usize, what: &str) -> Result<(), String> {
    if count < most { Ok(()) } else { Err(format!("more than {most} {what}")) }
}

fn underflow() -> String {
    "it takes a value that is not there".to_owned()
}

#[cfg(test)]
mod tests;
