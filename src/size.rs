//! Amounts of memory as people say them.

/// Reads `2G`, `512M`, `1.5g`, `100000`: bytes, or powers of 1024.
pub fn bytes(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is no amount of memory; give bytes, or a number with K, M or G");
    let trimmed = text.trim().trim_end_matches(['b', 'B']).trim_end_matches(['i', 'I']);
    let (number, unit) = match trimmed.char_indices().last() {
        Some((at, 'k' | 'K')) => (&trimmed[..at], 1_u64 << 10),
        Some((at, 'm' | 'M')) => (&trimmed[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&trimmed[..at], 1 << 30),
        Some((at, 't' | 'T')) => (&trimmed[..at], 1 << 40),
        _ => (trimmed, 1),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let all = number * unit as f64;
    if number.is_finite() && (0.0..9e15).contains(&all) { Ok(all as usize) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!(bytes("512"), Ok(512));
        assert_eq!(bytes("2G"), Ok(2 << 30));
        assert_eq!(bytes("1.5 MiB"), Ok(3 << 19));
        assert_eq!(bytes("10kb"), Ok(10 << 10));
        for wrong in ["", "G", "-1", "1e300", "NaN", "12Q", "1G2"] {
            assert!(bytes(wrong).unwrap_err().contains("no amount"), "{wrong}");
        }
    }
}
