//! Pictures and masks brought to the size of a few cells.

/// An averaged picture, three channels from 0 to 255.
#[derive(Debug, Clone, PartialEq)]
pub struct Small {
    /// Pixels a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Pixels, rows from the top.
    pub pixels: Vec<[f32; 3]>,
}

/// The size of a picture inside `width × height` square pixels, its shape kept.
pub fn fit(picture: (usize, usize), width: u16, height: u16) -> (u16, u16) {
    let (w, h) = (picture.0 as f64, picture.1 as f64);
    if w < 1.0 || h < 1.0 || width == 0 || height == 0 {
        return (0, 0);
    }
    let scale = (f64::from(width) / w).min(f64::from(height) / h);
    let side = |length: f64, limit: u16| ((length * scale).round() as u16).clamp(1, limit);
    (side(w, width), side(h, height))
}

impl Small {
    /// The average of every area of `rgb`.
    pub fn of(rgb: &[u8], size: (usize, usize), width: u16, height: u16) -> Self {
        let mut pixels = Vec::with_capacity(usize::from(width) * usize::from(height));
        for y in 0..height {
            let rows = area(y, height, size.1);
            for x in 0..width {
                let columns = area(x, width, size.0);
                let mut sum = [0u64; 3];
                let mut count = 0u64;
                for row in rows.clone() {
                    let start = 3 * (row * size.0 + columns.start);
                    let end = 3 * (row * size.0 + columns.end);
                    for pixel in rgb.get(start..end).unwrap_or_default().chunks_exact(3) {
                        for (total, value) in sum.iter_mut().zip(pixel) {
                            *total += u64::from(*value);
                        }
                        count += 1;
                    }
                }
                pixels.push(sum.map(|total| total as f32 / count.max(1) as f32));
            }
        }
        Self { width, height, pixels }
    }

    /// A pixel; black outside.
    pub fn at(&self, x: u16, y: u16) -> [f32; 3] {
        if x >= self.width {
            return [0.0; 3];
        }
        self.pixels
            .get(usize::from(y) * usize::from(self.width) + usize::from(x))
            .copied()
            .unwrap_or_default()
    }
}

/// Share of every area that a mask covers.
#[derive(Debug, Clone, PartialEq)]
pub struct Coverage {
    width: u16,
    height: u16,
    shares: Vec<f32>,
}

impl Coverage {
    /// The covered share of every area of a mask given as a function of column and row.
    pub fn of(inside: impl Fn(usize, usize) -> bool, size: (usize, usize), width: u16, height: u16) -> Self {
        let mut shares = Vec::with_capacity(usize::from(width) * usize::from(height));
        for y in 0..height {
            let rows = area(y, height, size.1);
            for x in 0..width {
                let columns = area(x, width, size.0);
                let total = (rows.len() * columns.len()).max(1);
                let covered = rows
                    .clone()
                    .map(|row| columns.clone().filter(|column| inside(*column, row)).count())
                    .sum::<usize>();
                shares.push(covered as f32 / total as f32);
            }
        }
        Self { width, height, shares }
    }

    /// The covered share; 0 outside.
    pub fn at(&self, x: i32, y: i32) -> f32 {
        if x < 0 || y < 0 || x >= i32::from(self.width) || y >= i32::from(self.height) {
            return 0.0;
        }
        self.shares.get(y as usize * usize::from(self.width) + x as usize).copied().unwrap_or_default()
    }

    /// Whether most of the area is covered.
    pub fn inside(&self, x: u16, y: u16) -> bool {
        self.at(i32::from(x), i32::from(y)) >= 0.5
    }

    /// Whether the area is covered and a neighbour is not.
    pub fn outline(&self, x: u16, y: u16) -> bool {
        let (cx, cy) = (i32::from(x), i32::from(y));
        self.inside(x, y)
            && [(1, 0), (-1, 0), (0, 1), (0, -1)].into_iter().any(|(dx, dy)| self.at(cx + dx, cy + dy) < 0.5)
    }
}

/// The source pixels under a target pixel; at least one.
fn area(index: u16, targets: u16, sources: usize) -> std::ops::Range<usize> {
    let (index, targets) = (usize::from(index), usize::from(targets.max(1)));
    let first = (index * sources / targets).min(sources.saturating_sub(1));
    let last = ((index + 1) * sources / targets).clamp(first + 1, sources.max(first + 1));
    first..last
}

#[cfg(test)]
mod tests {
    use super::{Coverage, Small, fit};

    #[test]
    fn the_shape_is_kept() {
        assert_eq!(fit((640, 480), 40, 40), (40, 30));
        assert_eq!(fit((10, 1000), 40, 40), (1, 40));
        assert_eq!(fit((0, 5), 40, 40), (0, 0));
    }

    #[test]
    fn areas_are_averaged() {
        let rgb = [0, 0, 0, 200, 100, 50];
        let small = Small::of(&rgb, (2, 1), 1, 1);
        assert_eq!(small.at(0, 0), [100.0, 50.0, 25.0]);
        let mask = Coverage::of(|x, _| x == 1, (2, 1), 1, 1);
        assert_eq!(mask.at(0, 0), 0.5);
    }

    #[test]
    fn enlarging_repeats_pixels() {
        let small = Small::of(&[10, 10, 10, 20, 20, 20], (2, 1), 4, 2);
        assert_eq!(small.at(1, 1), [10.0; 3]);
        assert_eq!(small.at(2, 0), [20.0; 3]);
    }
}
