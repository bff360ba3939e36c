//! The interface with a session that makes everything up: `cargo run -p bitloupe-views --example demo -- --ascii`.

#[path = "../tests/support/fake.rs"]
mod fake;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bitloupe_quant::session::messages::{Event, Job, Request};
use bitloupe_views::{Options, SessionHandle, run};
use crossbeam_channel::{Receiver, Sender, unbounded};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options {
        opening: "lavt-mini".into(),
        export_folder: "export".into(),
        plan_path: "plan.json".into(),
        mouse: true,
        ..Options::default()
    };
    let mut panics = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--ascii" => options.ascii = true,
            "--no-mouse" => options.mouse = false,
            // To see that a panic of the engine leaves the screen alone.
            "--panic" => panics = true,
            other => options.color = other.trim_start_matches("--color=").parse()?,
        }
    }
    let (requests, from_interface) = unbounded();
    let (to_interface, events) = unbounded();
    thread::spawn(move || session(&from_interface, &to_interface, panics));
    let exit = run(options, SessionHandle { requests, events })?;
    eprintln!("{exit:?}");
    Ok(())
}

/// Answers in the time a real session would take.
fn session(requests: &Receiver<Request>, events: &Sender<Event>, panics: bool) -> Option<()> {
    let sleep = |milliseconds| thread::sleep(Duration::from_millis(milliseconds));
    sleep(300);
    let model = Arc::new(fake::model());
    events.send(Event::Opened(Arc::clone(&model))).ok()?;
    while let Ok(request) = requests.recv() {
        let mut newest = vec![request];
        newest.extend(requests.try_iter());
        for request in newest {
            match &request {
                Request::Quit => return None,
                Request::Calibrate => {
                    for done in 1..=32 {
                        let eta_seconds = Some(f64::from(32 - done) * 0.03);
                        let progress = Event::Progress {
                            job: Job::Calibration,
                            done: done as usize,
                            total: 32,
                            eta_seconds,
                        };
                        events.send(progress).ok()?;
                        sleep(30);
                    }
                }
                Request::Evaluate { generation, plan } => {
                    for samples in 1..model.samples.len() {
                        let progress = Event::Progress {
                            job: Job::Evaluation,
                            done: samples,
                            total: model.samples.len(),
                            eta_seconds: Some(0.5),
                        };
                        events.send(progress).ok()?;
                        events
                            .send(Event::Set(Arc::new(fake::set(&model, *generation, plan, samples))))
                            .ok()?;
                        sleep(120);
                    }
                }
                Request::Export { .. } if panics => panic!("the made-up session panics on exports"),
                Request::Show { .. } => sleep(40),
                _ => sleep(5),
            }
            for event in fake::respond(&model, &request) {
                events.send(event).ok()?;
            }
        }
    }
    None
}
