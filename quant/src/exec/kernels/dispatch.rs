//! Run-time choice of the instruction set, and the macro that compiles a kernel once for each.

#![allow(
    unsafe_code,
    reason = "calling a #[target_feature] function is unsafe; `isa` proves the feature first"
)]

use std::sync::atomic::{AtomicU8, Ordering};

/// The instruction sets that kernels are compiled for, narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Isa {
    /// What the compilation target guarantees.
    Baseline,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, VL, DQ and BW with FMA.
    Avx512,
}

const UNKNOWN: u8 = u8::MAX;

static CHOSEN: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The widest instruction set of this CPU (detected once).
#[inline]
pub(crate) fn isa() -> Isa {
    match CHOSEN.load(Ordering::Relaxed) {
        0 => Isa::Baseline,
        1 => Isa::Avx2,
        2 => Isa::Avx512,
        _ => {
            let found = detect();
            CHOSEN.store(found as u8, Ordering::Relaxed);
            found
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    let fma = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    let wide = std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512bw");
    match (fma, wide) {
        (true, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        (false, _) => Isa::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Baseline
}

/// Runs `work` with every instruction set that this CPU has, for tests that compare them. Other tests may run at
/// the same time: they only become slower, because results do not depend on the choice.
#[cfg(test)]
pub(crate) fn with_each_isa(mut work: impl FnMut(Isa)) {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let best = detect();
    for isa in [Isa::Baseline, Isa::Avx2, Isa::Avx512] {
        if isa <= best {
            CHOSEN.store(isa as u8, Ordering::Relaxed);
            work(isa);
        }
    }
    CHOSEN.store(best as u8, Ordering::Relaxed);
}

/// Compiles one function body for every instruction set and selects at run time.
///
/// The body must be safe code; helpers that it calls must be `#[inline(always)]` to be compiled with it.
macro_rules! multiversion {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block
    )*) => {$(
        $(#[$meta])*
        #[allow(unsafe_code, reason = "calls a #[target_feature] copy of the safe body after detection")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            match $crate::exec::kernels::dispatch::isa() {
                // SAFETY: `isa` returns a set only after the CPU reported every feature enabled on the copy.
                #[cfg(target_arch = "x86_64")]
                $crate::exec::kernels::dispatch::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::exec::kernels::dispatch::Isa::Avx2 => unsafe { avx2($($arg),*) },
                _ => body($($arg),*),
            }
        }
    )*};
}

pub(crate) use multiversion;
