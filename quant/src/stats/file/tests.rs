use super::StatsFile;
use super::decode::decode;
use crate::stats::{Sketch, StatsError};
use crate::terms::{Layout, Role, SiteId, Slot};
use std::path::PathBuf;

fn example(samples: &[u32]) -> StatsFile {
    let mut file = StatsFile {
        model_fingerprint: "m".to_owned(),
        calibration_fingerprint: "c".to_owned(),
        samples: samples.iter().map(|id| format!("s{id}")).collect(),
        ..StatsFile::default()
    };
    for (name, channels, role) in [("fc1", 3, Role::PostLayerNorm), ("qk", 1, Role::Other)] {
        let mut sketch = Sketch::sampling(channels);
        for &id in samples {
            let mut values: Vec<f32> =
                (0..900).map(|i| ((i * 37 + id * 11) % 101) as f32 * 0.1 - 3.0).collect();
            values[5] = f32::NAN;
            values[7] = -0.0;
            sketch.observe(&values, Layout { outer: 900 / channels, channels, inner: 1 }).unwrap();
        }
        file.sites.insert(SiteId::new(name, Slot::Input), (role, sketch));
    }
    file
}

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("a.safetensors")
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for samples in [&[][..], &[1], &[1, 2, 3]] {
        let file = example(samples);
        file.write(&path(&folder)).unwrap();
        assert_eq!(StatsFile::read(&path(&folder)).unwrap(), file);
    }
    // Nothing temporary is left behind.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn parts_merge_to_the_whole() {
    let mut file = example(&[2, 4]);
    file.merge(&example(&[1, 3]), false).unwrap();
    assert_eq!(file, example(&[1, 2, 3, 4]));
}

#[test]
fn parts_of_several_calibration_sets_merge_in_any_order() {
    let part =
        |set: &str, sample: u32| StatsFile { calibration_fingerprint: set.to_owned(), ..example(&[sample]) };
    let parts = [part("b", 1), part("a", 2), part("b", 3)];
    let merged = |order: [usize; 3]| {
        let mut all = parts[order[0]].clone();
        for &i in &order[1..] {
            all.merge(&parts[i], false).unwrap();
        }
        all
    };
    let all = merged([0, 1, 2]);
    assert_eq!(all.calibration_fingerprint, "a+b");
    assert_eq!(all, merged([2, 1, 0]));
    assert_eq!(all, merged([1, 2, 0]));
    assert_eq!(all.sites, example(&[1, 2, 3]).sites);
}

#[test]
fn nothing_is_counted_twice_unless_stated() {
    let mut file = example(&[1, 2]);
    let before = file.clone();
    let error = file.merge(&example(&[2, 3]), false).unwrap_err();
    assert!(matches!(error, StatsError::SharedSample { shared: 1, .. }), "{error}");
    assert_eq!(file, before);
    file.merge(&example(&[2, 3]), true).unwrap();
    assert_eq!(file.sites.values().next().unwrap().1.count(), 3600);
}

#[test]
fn other_models_and_sites_are_refused() {
    let mut file = example(&[1]);
    let mut other = example(&[2]);
    other.model_fingerprint = "x".to_owned();
    assert!(matches!(file.merge(&other, false), Err(StatsError::Fingerprint { .. })));
    let mut other = example(&[2]);
    other.sites.pop_first();
    assert!(matches!(file.merge(&other, false), Err(StatsError::MissingSite { .. })));
    assert!(matches!(other.merge(&file, false), Err(StatsError::MissingSite { .. })));
}

#[test]
fn damaged_files_are_errors_and_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    example(&[1]).write(&path(&folder)).unwrap();
    let bytes = std::fs::read(path(&folder)).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut silent = 0;
    for at in (0..bytes.len()).step_by(if bytes.len() > 20_000 { 13 } else { 1 }) {
        for flip in [0xff_u8, 0x01] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            match decode(&damaged, "a.safetensors") {
                Ok(_) => silent += usize::from(at < 8 + header),
                Err(error) => assert!(error.to_string().contains("a.safetensors"), "{error}"),
            }
        }
    }
    // A changed letter in a fingerprint or a name is not damage that can be seen.
    assert!(silent < header, "{silent}");
    for cut in [0, 7, 8, 100, header, bytes.len() - 1] {
        std::fs::write(path(&folder), &bytes[..cut]).unwrap();
        assert!(StatsFile::read(&path(&folder)).is_err());
    }
    std::fs::write(path(&folder), [&u64::MAX.to_le_bytes()[..], &bytes[8..]].concat()).unwrap();
    assert!(StatsFile::read(&path(&folder)).is_err());
    assert!(matches!(StatsFile::read(&folder.path().join("none")), Err(StatsError::Io { .. })));
}
