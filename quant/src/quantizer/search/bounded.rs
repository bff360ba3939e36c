//! Minimum of a function of one variable within bounds.

/// Steps after which the search gives up improving.
const MOST_STEPS: usize = 500;
/// How close the minimum is located, in the unit of the variable.
const TOLERANCE: f64 = 1e-5;

/// The bracket and the three best points: `best` lowest, `second`, `third`.
struct State {
    low: f64,
    high: f64,
    best: (f64, f64),
    second: (f64, f64),
    third: (f64, f64),
}

/// `(x, f(x))` with the least value found in `[low, high]`: Brent's method with golden section and parabolic steps
/// (Forsythe, Malcolm and Moler, *Computer Methods for Mathematical Computations*, `fmin`), tolerance 1e-5, at most 500
/// evaluations, in the variant that SciPy calls `fminbound`, so that searches of the papers can be reproduced.
pub(in crate::quantizer) fn bounded_minimum(
    low: f64,
    high: f64,
    mut f: impl FnMut(f64) -> f64,
) -> (f64, f64) {
    let root_epsilon = 2.2e-16_f64.sqrt();
    let golden = 0.5 * (3.0 - 5.0_f64.sqrt());
    let first = low + golden * (high - low);
    let at = (first, f(first));
    let mut state = State { low, high, best: at, second: at, third: at };
    let (mut step, mut before) = (0.0_f64, 0.0_f64);
    for _ in 1..MOST_STEPS {
        let x = state.best.0;
        let middle = 0.5 * (state.low + state.high);
        let least = root_epsilon * x.abs() + TOLERANCE / 3.0;
        if (x - middle).abs() <= 2.0 * least - 0.5 * (state.high - state.low) {
            break;
        }
        let parabola = if before.abs() > least { state.parabola(before) } else { None };
        if let Some(to) = parabola {
            before = step;
            step = to;
            let trial = x + step;
            if trial - state.low < 2.0 * least || state.high - trial < 2.0 * least {
                step = if middle >= x { least } else { -least };
            }
        } else {
            before = if x >= middle { state.low - x } else { state.high - x };
            step = golden * before;
        }
        let trial = x + if step >= 0.0 { step.abs().max(least) } else { -step.abs().max(least) };
        state.take((trial, f(trial)));
    }
    state.best
}

impl State {
    /// The step to the minimum of the parabola through the three points, if it lies inside and is shorter than half
    /// of the step before the last.
    fn parabola(&self, before: f64) -> Option<f64> {
        let ((x, fx), (w, fw), (v, fv)) = (self.best, self.second, self.third);
        let r = (x - w) * (fx - fv);
        let q = (x - v) * (fx - fw);
        let p = (x - v) * q - (x - w) * r;
        let q = 2.0 * (q - r);
        let p = if q > 0.0 { -p } else { p };
        let q = q.abs();
        let inside = p.abs() < (0.5 * q * before).abs() && p > q * (self.low - x) && p < q * (self.high - x);
        inside.then(|| p / q)
    }

    /// Narrows the bracket around the better point.
    fn take(&mut self, trial: (f64, f64)) {
        let (u, fu) = trial;
        if fu <= self.best.1 {
            if u >= self.best.0 {
                self.low = self.best.0;
            } else {
                self.high = self.best.0;
            }
            (self.third, self.second, self.best) = (self.second, self.best, trial);
        } else {
            if u < self.best.0 {
                self.low = u;
            } else {
                self.high = u;
            }
            if fu <= self.second.1 || self.second.0 == self.best.0 {
                (self.third, self.second) = (self.second, trial);
            } else if fu <= self.third.1 || self.third.0 == self.best.0 || self.third.0 == self.second.0 {
                self.third = trial;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bounded_minimum;

    #[test]
    fn minima_inside_and_at_the_ends_are_found() {
        let (x, fx) = bounded_minimum(-3.0, 5.0, |x| (x - 2.0).powi(2) + 1.0);
        assert!((x - 2.0).abs() < 1e-5 && (fx - 1.0).abs() < 1e-9, "{x} {fx}");
        let (x, _) = bounded_minimum(0.1, 1.0, |x| x);
        assert!((x - 0.1).abs() < 2e-5, "{x}");
        let (x, _) = bounded_minimum(0.0, 4.0, |x| (x - 1.0).abs().powf(1.3));
        assert!((x - 1.0).abs() < 1e-4, "{x}");
    }

    #[test]
    fn it_ends_on_functions_without_a_minimum() {
        let mut calls = 0;
        let (x, _) = bounded_minimum(0.0, 1.0, |_| {
            calls += 1;
            f64::NAN
        });
        assert!((0.0..=1.0).contains(&x) && calls <= 500);
        assert_eq!(bounded_minimum(2.0, 2.0, |x| x), (2.0, 2.0));
    }
}
