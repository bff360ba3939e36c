//! `bitloupe sensitivity` as a program: what it prints, and that a killed sweep goes on where it stopped.

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{PROGRAM, bitloupe, fails, fixture, folder, json, ok, sample_set, text};

#[test]
fn a_sweep_that_was_killed_goes_on_and_finds_the_same() {
    let dir = folder();
    let set = sample_set(dir.path(), "set", &[0, 1, 2]);
    let (model, journal) = (fixture(), dir.path().join("sweep.jsonl"));
    let args = [
        "sensitivity",
        text(&model),
        "--samples",
        text(&set),
        "-c",
        text(&set),
        "--method",
        "percentile",
        "-w",
        "4",
        "-a",
        "4",
        "--mode",
        "both",
    ];
    let whole = json(&args);
    let with_journal = [&args[..], &["--journal", text(&journal)]].concat();
    let mut killed = Command::new(PROGRAM)
        .args(&with_journal)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = || std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
    let start = Instant::now();
    while lines() < 40 && killed.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(2));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = lines();
    let total = 2 * 3 * whole["sites"].as_array().unwrap().len();
    assert!(before >= 40 && before < total, "killed after {before} of {total} lines");
    let kept = std::fs::read(&journal).unwrap();
    let resumed = json(&with_journal);
    assert_eq!(resumed, whole);
    // What was there was not run again: the file only grew.
    let after = std::fs::read(&journal).unwrap();
    let last = kept.iter().rposition(|&b| b == b'\n').unwrap();
    assert_eq!(after[..=last], kept[..=last]);
    // Another plan is refused, in words.
    let other = [&with_journal[..], &["--patch-bits", "8"]].concat();
    let done = bitloupe(&other);
    assert!(done.code == 1 && done.err.contains("another plan"), "{}", done.err);
}

#[test]
fn figures_are_printed_for_people_and_for_programs() {
    let dir = folder();
    let set = sample_set(dir.path(), "set", &[0, 1]);
    let model = fixture();
    let base = ["sensitivity", text(&model), "--samples", text(&set), "-c", text(&set), "-w", "3", "-a", "3"];
    let found = json(&[&base[..], &["--by", "layer", "--on", "both", "-n", "1"]].concat());
    assert_eq!((&found["by"], &found["samples"]), (&Value::from("layer"), &Value::from(1)));
    let sites = found["sites"].as_array().unwrap();
    for field in ["site", "isolated_sqnr_db", "cumulative_sqnr_db", "delta_miou", "only", "calibration"] {
        assert!(sites.iter().all(|site| !site[field].is_null()), "{field}");
    }
    // Both sets are the same files here.
    assert!(sites.iter().all(|site| site["only"] == site["calibration"]["only"]));
    let deltas: Vec<f64> = sites.iter().map(|site| site["delta_miou"].as_f64().unwrap()).collect();
    assert!(deltas.is_sorted(), "the most harmful first: {deltas:?}");
    let table =
        ok(&[&base[..], &["--by", "block", "--mode", "all-but", "--top", "3", "--cache", "1M"]].concat());
    assert!(table.contains("Δ all but") && table.lines().count() == 6, "{table}");
    for (wrong, said) in
        [(["--by", "head"], "expected one of site, layer"), (["--cache", "much"], "no amount of memory")]
    {
        let done = bitloupe(&[&base[..], &wrong].concat());
        assert!(done.code == 2 && done.err.contains(said), "{}", done.err);
    }
    fails(&["sensitivity", text(&model), "-c", text(&set)], &["no samples", "--samples"]);
}
