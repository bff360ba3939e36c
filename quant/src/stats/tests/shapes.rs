//! Values of known distributions from a small generator, so that tests need no crate and no seed file.

/// xorshift64*: enough for shapes, the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In (0, 1).
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Standard normal (Box–Muller).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Laplace with scale 1, kurtosis 6.
    pub fn laplace(&mut self) -> f64 {
        let side = if self.uniform() < 0.5 { -1.0 } else { 1.0 };
        -side * self.uniform().ln()
    }

    /// Student t with `freedom` degrees of freedom.
    pub fn student(&mut self, freedom: usize) -> f64 {
        let chi: f64 = (0..freedom).map(|_| self.normal().powi(2)).sum();
        self.normal() / (chi / freedom as f64).sqrt()
    }
}

/// `len` values of `value`, scaled.
pub fn values(len: usize, scale: f64, mut value: impl FnMut() -> f64) -> Vec<f32> {
    (0..len).map(|_| (value() * scale) as f32).collect()
}

/// Rows of probabilities: softmax of normal logits with deviation `sharpness`.
pub fn softmax(random: &mut Random, rows: usize, width: usize, sharpness: f64) -> Vec<f32> {
    let mut all = Vec::with_capacity(rows * width);
    for _ in 0..rows {
        let logits: Vec<f64> = (0..width).map(|_| (random.normal() * sharpness).exp()).collect();
        let sum: f64 = logits.iter().sum();
        all.extend(logits.iter().map(|x| (x / sum) as f32));
    }
    all
}

/// GELU in its tanh form.
pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + (0.797_884_560_802_865 * (x + 0.044_715 * x * x * x)).tanh())
}
