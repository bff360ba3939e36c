//! Opcodes of pickle protocols 0 to 5 with their operands (Python's `pickletools` describes each).

/// One step of a pickle, its operand read.
pub(super) enum Opcode<'a> {
    /// Nothing to do: protocol, frame.
    Skip,
    Stop,
    Mark,
    Pop,
    PopMark,
    Dup,
    /// Pushes something of no use for tensors.
    Plain,
    Int(i64),
    Text(&'a str),
    EmptyList,
    /// All above the mark.
    List,
    Append,
    Appends,
    EmptyTuple,
    /// All above the mark.
    Tuple,
    /// The uppermost 1, 2 or 3.
    ShortTuple(usize),
    EmptyDict,
    /// All above the mark.
    Dict,
    SetItem,
    SetItems,
    /// A set, of all above the mark.
    FrozenSet,
    /// Adds all above the mark to a set.
    AddItems,
    Get(u32),
    Put(u32),
    /// Puts the uppermost under the next number.
    Memoize,
    Global(&'a str, &'a str),
    /// Module and name are on the stack.
    StackGlobal,
    /// A persistent name that is on the stack.
    PersistentId,
    /// Callable and arguments are on the stack.
    Reduce,
    Build,
    /// An object of this class, its arguments above the mark.
    Inst(&'a str, &'a str),
    /// Class and arguments above the mark.
    Obj,
    /// Class and arguments on the stack; with named arguments if true.
    NewObj(bool),
}

/// Reads opcodes from bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, rest: bytes }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.bytes.len() - self.rest.len()
    }

    /// The next opcode.
    pub(super) fn next(&mut self) -> Result<Opcode<'a>, String> {
        let [code] = self.array()?;
        Ok(match code {
            b'\x80' => match self.array()? {
                [0..=5] => Opcode::Skip,
                [version] => return Err(format!("pickle protocol {version} is not known")),
            },
            b'\x95' => {
                self.array::<8>()?;
                Opcode::Skip
            }
            b'.' => Opcode::Stop,
            b'(' => Opcode::Mark,
            b'0' => Opcode::Pop,
            b'1' => Opcode::PopMark,
            b'2' => Opcode::Dup,
            // None, true, false, an empty set.
            b'N' | b'\x88' | b'\x89' | b'\x8f' => Opcode::Plain,
            b'F' | b'S' => self.line().map(|_| Opcode::Plain)?,
            b'G' => self.array::<8>().map(|_| Opcode::Plain)?,
            b'I' | b'L' => {
                // `True` and `False` are the integers `01` and `00`.
                let line = self.line()?;
                line.trim_end_matches('L').parse().map_or(Opcode::Plain, Opcode::Int)
            }
            b'J' => Opcode::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Opcode::Int(u8::from_le_bytes(self.array()?).into()),
            b'M' => Opcode::Int(u16::from_le_bytes(self.array()?).into()),
            b'\x8a' => self.sized(1).map(integer)?,
            b'\x8b' => self.sized(4).map(integer)?,
            b'V' => Opcode::Text(self.line()?),
            b'\x8c' => Opcode::Text(self.utf8(1)?),
            b'X' => Opcode::Text(self.utf8(4)?),
            b'\x8d' => Opcode::Text(self.utf8(8)?),
            // Texts of Python 2 are bytes; names of tensors are among them.
            b'U' => self.sized(1).map(bytes)?,
            b'T' => self.sized(4).map(bytes)?,
            b'C' => self.sized(1).map(|_| Opcode::Plain)?,
            b'B' => self.sized(4).map(|_| Opcode::Plain)?,
            b'\x8e' | b'\x96' => self.sized(8).map(|_| Opcode::Plain)?,
            b']' => Opcode::EmptyList,
            b'l' => Opcode::List,
            b'a' => Opcode::Append,
            b'e' => Opcode::Appends,
            b')' => Opcode::EmptyTuple,
            b't' => Opcode::Tuple,
            b'\x85' => Opcode::ShortTuple(1),
            b'\x86' => Opcode::ShortTuple(2),
            b'\x87' => Opcode::ShortTuple(3),
            b'}' => Opcode::EmptyDict,
            b'd' => Opcode::Dict,
            b's' => Opcode::SetItem,
            b'u' => Opcode::SetItems,
            b'\x90' => Opcode::AddItems,
            b'\x91' => Opcode::FrozenSet,
            b'g' => Opcode::Get(self.number()?),
            b'h' => Opcode::Get(u8::from_le_bytes(self.array()?).into()),
            b'j' => Opcode::Get(u32::from_le_bytes(self.array()?)),
            b'p' => Opcode::Put(self.number()?),
            b'q' => Opcode::Put(u8::from_le_bytes(self.array()?).into()),
            b'r' => Opcode::Put(u32::from_le_bytes(self.array()?)),
            b'\x94' => Opcode::Memoize,
            b'c' => Opcode::Global(self.line()?, self.line()?),
            b'\x93' => Opcode::StackGlobal,
            // A persistent name in the old form is a text, which no storage has; extensions name classes by number.
            b'P' => self.line().map(|_| Opcode::Plain)?,
            b'\x82' => self.array::<1>().map(|_| Opcode::Plain)?,
            b'\x83' => self.array::<2>().map(|_| Opcode::Plain)?,
            b'\x84' => self.array::<4>().map(|_| Opcode::Plain)?,
            b'Q' => Opcode::PersistentId,
            b'R' => Opcode::Reduce,
            b'b' => Opcode::Build,
            b'i' => Opcode::Inst(self.line()?, self.line()?),
            b'o' => Opcode::Obj,
            b'\x81' => Opcode::NewObj(false),
            b'\x92' => Opcode::NewObj(true),
            b'\x97' | b'\x98' => return Err("buffers outside the pickle are not supported".to_owned()),
            other => return Err(format!("{other:#04x} is no pickle opcode")),
        })
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let split = usize::try_from(count).ok().and_then(|count| self.rest.split_at_checked(count));
        let Some((taken, rest)) = split else {
            let left = self.rest.len();
            return Err(format!("an operand of {count} bytes, {left} are left"));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err("it ends too early".to_owned());
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// Bytes after their number, which has `width` bytes.
    fn sized(&mut self, width: u64) -> Result<&'a [u8], String> {
        let count = self.take(width)?.iter().rev().fold(0_u64, |n, &byte| n << 8 | u64::from(byte));
        self.take(count)
    }

    fn utf8(&mut self, width: u64) -> Result<&'a str, String> {
        std::str::from_utf8(self.sized(width)?).map_err(|_| "a text that is not UTF-8".to_owned())
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, String> {
        let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') else {
            return Err("a line without an end".to_owned());
        };
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        std::str::from_utf8(line).map_err(|_| "a line that is not UTF-8".to_owned())
    }

    /// A number on a line.
    fn number(&mut self) -> Result<u32, String> {
        let line = self.line()?;
        line.parse().map_err(|_| format!("`{line}` is no place to keep a value"))
    }
}

/// Little-endian bytes in two's complement.
fn integer(bytes: &[u8]) -> Opcode<'_> {
    let Some(&last) = bytes.last() else { return Opcode::Int(0) };
    if bytes.len() > 8 {
        return Opcode::Plain;
    }
    let sign = if last & 0x80 == 0 { 0 } else { -1 };
    Opcode::Int(bytes.iter().rev().fold(sign, |n, &byte| n << 8 | i64::from(byte)))
}

fn bytes(bytes: &[u8]) -> Opcode<'_> {
    std::str::from_utf8(bytes).map_or(Opcode::Plain, Opcode::Text)
}
