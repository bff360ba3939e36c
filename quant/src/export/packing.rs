//! Codes as bits.
//!
//! Codes of `b` bits follow each other from the least significant bit of the first byte on; each row starts at
//! a byte. 4-bit codes 0x1, 0x2, 0x3 become the bytes 0x21 0x03.

use crate::terms::Bits;

/// Codes that do not fit their description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// Rows and columns do not give the number of codes or bytes.
    #[error("{found} {what} for {rows} rows of {columns} codes; expected {expected}")]
    Length {
        /// `codes` or `bytes`.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
        /// Rows.
        rows: usize,
        /// Codes a row.
        columns: usize,
    },
    /// A code with more bits.
    #[error("code {code} at {index} does not fit {bits} bits")]
    Code {
        /// The code.
        code: u16,
        /// Where it is.
        index: usize,
        /// Bits a code.
        bits: u8,
    },
    /// Full precision has no codes.
    #[error("values in full precision have no codes to pack")]
    Float,
    /// More than the address space.
    #[error("{rows} rows of {columns} codes are too many")]
    TooLarge {
        /// Rows.
        rows: usize,
        /// Codes a row.
        columns: usize,
    },
}

/// Bytes of a row of `columns` codes; `None` when they are too many.
pub fn row_bytes(columns: usize, bits: u8) -> Option<usize> {
    Some(columns.checked_mul(usize::from(bits))?.div_ceil(8))
}

fn sizes(rows: usize, columns: usize, bits: Bits) -> Result<(u8, usize, usize, usize), PackingError> {
    let bits = bits.get().ok_or(PackingError::Float)?;
    let row = row_bytes(columns, bits);
    let total = row.and_then(|row| row.checked_mul(rows));
    match (row, rows.checked_mul(columns), total) {
        (Some(row), Some(codes), Some(total)) => Ok((bits, row, codes, total)),
        _ => Err(PackingError::TooLarge { rows, columns }),
    }
}

/// Packs `rows * columns` codes, row by row.
pub fn pack(codes: &[u16], rows: usize, columns: usize, bits: Bits) -> Result<Vec<u8>, PackingError> {
    let (bits, row, expected, total) = sizes(rows, columns, bits)?;
    if codes.len() != expected {
        return Err(PackingError::Length { what: "codes", found: codes.len(), expected, rows, columns });
    }
    if let Some((index, &code)) = codes.iter().enumerate().find(|(_, code)| u32::from(**code) >> bits != 0) {
        return Err(PackingError::Code { code, index, bits });
    }
    let mut out = Vec::with_capacity(total);
    if row > 0 {
        for codes in codes.chunks_exact(columns) {
            let (mut pending, mut filled) = (0u32, 0u32);
            for &code in codes {
                pending |= u32::from(code) << filled;
                filled += u32::from(bits);
                while filled >= 8 {
                    out.push(pending as u8);
                    pending >>= 8;
                    filled -= 8;
                }
            }
            if filled > 0 {
                out.push(pending as u8);
            }
        }
    }
    Ok(out)
}

/// Unpacks `rows * columns` codes.
pub fn unpack(bytes: &[u8], rows: usize, columns: usize, bits: Bits) -> Result<Vec<u16>, PackingError> {
    let (bits, row, codes, expected) = sizes(rows, columns, bits)?;
    if bytes.len() != expected {
        return Err(PackingError::Length { what: "bytes", found: bytes.len(), expected, rows, columns });
    }
    // Bounded by the bytes that are there: a code has at least 2 bits, and a row without bytes no codes.
    let mut out = Vec::with_capacity(codes);
    if row > 0 {
        let mask = (1u32 << bits) - 1;
        for bytes in bytes.chunks_exact(row) {
            let (mut pending, mut filled, mut left) = (0u32, 0u32, columns);
            for &byte in bytes {
                pending |= u32::from(byte) << filled;
                filled += 8;
                while filled >= u32::from(bits) && left > 0 {
                    out.push((pending & mask) as u16);
                    pending >>= bits;
                    filled -= u32::from(bits);
                    left -= 1;
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(n: u8) -> Bits {
        Bits::new(n).unwrap()
    }

    #[test]
    fn known_bytes() {
        assert_eq!(pack(&[1, 2, 3], 1, 3, bits(4)).unwrap(), [0x21, 0x03]);
        assert_eq!(pack(&[1, 2, 3, 0], 2, 2, bits(4)).unwrap(), [0x21, 0x03]);
        assert_eq!(pack(&[5, 2, 7], 1, 3, bits(3)).unwrap(), [0b1101_0101, 0b1]);
        assert_eq!(pack(&[0x1234], 1, 1, bits(16)).unwrap(), [0x34, 0x12]);
        assert_eq!(pack(&[], 0, 3, bits(4)).unwrap(), Vec::<u8>::new());
        assert_eq!(pack(&[], 3, 0, bits(4)).unwrap(), Vec::<u8>::new());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(matches!(
            pack(&[16], 1, 1, bits(4)),
            Err(PackingError::Code { code: 16, index: 0, bits: 4 })
        ));
        assert!(matches!(pack(&[1], 1, 2, bits(4)), Err(PackingError::Length { .. })));
        assert!(matches!(pack(&[1], 1, 1, Bits::FLOAT), Err(PackingError::Float)));
        assert!(matches!(unpack(&[1], 1, 3, bits(4)), Err(PackingError::Length { .. })));
        assert!(unpack(&[], usize::MAX, 2, bits(4)).is_err());
        assert!(unpack(&[], usize::MAX, 0, bits(4)).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn codes_come_back(
            width in prop::sample::select(vec![2u8, 3, 4, 5, 6, 7, 8, 16]),
            rows in 0usize..5, columns in 0usize..40, seed in any::<u64>()
        ) {
            let mut state = seed | 1;
            let codes: Vec<u16> = (0..rows * columns).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 33) & ((1 << width) - 1)) as u16
            }).collect();
            let packed = pack(&codes, rows, columns, bits(width)).unwrap();
            prop_assert_eq!(packed.len(), rows * row_bytes(columns, width).unwrap());
            prop_assert_eq!(unpack(&packed, rows, columns, bits(width)).unwrap(), codes);
        }
    }
}
