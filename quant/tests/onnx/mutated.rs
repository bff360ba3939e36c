//! Real exports with bytes changed at random: they open or they do not, but nothing panics or hangs.

use std::path::Path;

use super::small::open;

/// A small generator with a fixed seed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

fn mutate(file: &Path, rounds: usize) {
    let bytes = std::fs::read(file).unwrap();
    let mut random = Random(7);
    for _ in 0..rounds {
        let mut broken = bytes.clone();
        for _ in 0..=random.next(4) {
            let place = random.next(broken.len());
            match random.next(3) {
                0 => broken[place] = random.next(256) as u8,
                1 => broken[place] ^= 1 << random.next(8),
                _ => {
                    let end = (place + random.next(16)).min(broken.len());
                    broken.drain(place..end);
                }
            }
        }
        if let Err(error) = open(&broken) {
            assert!(error.to_string().contains("model.onnx") || error.to_string().contains(':'), "{error}");
        }
    }
}

#[test]
fn changed_bytes_of_an_export_do_not_crash() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/onnx");
    mutate(&folder.join("sam_tiny_prompt_decoder.legacy.onnx"), 60);
}

/// `ONNX_FIXTURES`, `ONNX_ROUNDS`: many more, of every file.
#[test]
#[ignore = "takes long"]
fn changed_bytes_of_every_export_do_not_crash() {
    let rounds = std::env::var("ONNX_ROUNDS").map_or(100, |n| n.parse().unwrap());
    for entry in std::fs::read_dir(std::env::var("ONNX_FIXTURES").unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "onnx") {
            let start = std::time::Instant::now();
            mutate(&path, rounds);
            println!("{}: {:?}", path.display(), start.elapsed());
        }
    }
}
