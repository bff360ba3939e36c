//! The protobuf wire format: fields of one message, borrowed from the file.
//!
//! Nothing is copied and nothing is allocated here, so a damaged length cannot ask for memory.

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    /// An integer, an enum or a bool.
    Varint(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// A string, bytes, a message or a packed list.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32([u8; 4]),
}

/// What is wrong with the bytes.
pub(super) type Damage = &'static str;

/// Reads the fields of a message in order.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field with its number; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Damage> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(self.fixed()?),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| "a length is too large")?;
                let (bytes, rest) =
                    self.rest.split_at_checked(len).ok_or("a field reaches past the end of its message")?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            5 => Field::Fixed32(self.fixed()?),
            _ => return Err("a field has an unknown wire type"),
        };
        Ok(Some((key >> 3, field)))
    }

    fn varint(&mut self) -> Result<u64, Damage> {
        let mut value = 0_u64;
        for shift in 0..10 {
            let (&byte, rest) = self.rest.split_first().ok_or("it ends within a number")?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number has more than ten bytes")
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or("it ends within a number")?;
        self.rest = rest;
        Ok(*bytes)
    }
}

impl<'a> Field<'a> {
    /// As an integer; 0 for anything else.
    pub(super) fn int(self) -> i64 {
        if let Self::Varint(value) = self { value as i64 } else { 0 }
    }

    /// As bytes; none for anything else.
    pub(super) fn bytes(self) -> &'a [u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }

    /// As text; what is not UTF-8 is replaced.
    pub(super) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// Appends the integers of a list, packed or one by one.
    pub(super) fn ints(self, into: &mut Vec<i64>) -> Result<(), Damage> {
        match self {
            Self::Varint(value) => into.push(value as i64),
            Self::Bytes(bytes) => {
                let mut reader = Reader::new(bytes);
                while !reader.rest.is_empty() {
                    into.push(reader.varint()? as i64);
                }
            }
            _ => return Err("a list of integers holds something else"),
        }
        Ok(())
    }

    /// Appends the floats of a list, packed or one by one.
    pub(super) fn floats(self, into: &mut Vec<f32>) -> Result<(), Damage> {
        match self {
            Self::Fixed32(bytes) => into.push(f32::from_le_bytes(bytes)),
            Self::Bytes(bytes) => {
                let (words, []) = bytes.as_chunks::<4>() else { return Err("a list of floats is cut off") };
                into.extend(words.iter().map(|b| f32::from_le_bytes(*b)));
            }
            _ => return Err("a list of floats holds something else"),
        }
        Ok(())
    }

    /// Appends the doubles of a list, packed or one by one.
    pub(super) fn doubles(self, into: &mut Vec<f64>) -> Result<(), Damage> {
        match self {
            Self::Fixed64(bytes) => into.push(f64::from_le_bytes(bytes)),
            Self::Bytes(bytes) => {
                let (words, []) = bytes.as_chunks::<8>() else { return Err("a list of doubles is cut off") };
                into.extend(words.iter().map(|b| f64::from_le_bytes(*b)));
            }
            _ => return Err("a list of doubles holds something else"),
        }
        Ok(())
    }
}
