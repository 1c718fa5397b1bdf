//! A sustained load of complete DHCP exchanges at a given pace, each as firmware makes it: broadcast, without a relay.
//!
//! The machines take turns. Their frames are prebuilt and patched in place. An answer finds its machine by the index in its
//! transaction identifier. Nothing is allocated for a packet.

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use crate::{
    frame::{self, Protocol, Received},
    link::{BATCH, Incoming, Link},
    poll::Signals,
    tally,
};

mod answer;
mod book;
mod plan;
mod summary;
mod template;

use answer::Answer;
use book::Book;
pub use plan::{Load, Pace};
pub use summary::LoadSummary;
use summary::Meter;
use template::{Send, Templates};

/// The time after which an answer is lost. Nothing is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// The number of turns without waiting after which the loop checks for signals.
const TURNS_WITHOUT_A_LOOK: u64 = 1024;

/// Runs the load to its end, or until a signal comes.
///
/// # Errors
///
/// Fails if the interface cannot be used.
pub fn load(load: &Load) -> anyhow::Result<LoadSummary> {
    let mut link = Link::open(&load.interface)?;
    let signals = Signals::new().context("cannot wait for signals")?;
    let templates = Templates::of(&load.machines).context("cannot encode a request")?;
    let mut book = Book::new(&load.machines, &templates, load.seed);
    let mut incoming = Incoming::new();
    let mut meter = Meter::default();
    let cpu = tally::cpu();
    let began = Instant::now();
    let mut turns = 0_u64;
    loop {
        let now = began.elapsed();
        book.expire(now, PATIENCE, &mut meter);
        let is_over = now >= load.duration;
        if is_over && book.under_way() == 0 {
            break;
        }
        let due = if is_over { 0 } else { due(load, &book, &meter, now) };
        for _ in 0..due.min(BATCH) {
            let Some(send) = book.begin(now) else {
                meter.not_begun += 1;
                continue;
            };
            meter.begun += 1;
            transmit(&mut link, &templates, &send, &mut meter);
        }
        link.flush();
        let received = link.receive(&mut incoming);
        let received = received.with_context(|| format!("cannot receive on {}", load.interface))?;
        let now = began.elapsed();
        for number in 0..received {
            let frame = incoming.frame(number);
            let Some(Received::Udp { to, payload, .. }) = frame::parse(frame) else { continue };
            let Some(answer) = (to.port() == crate::dhcp::CLIENT_PORT).then(|| Answer::read(payload)).flatten() else {
                continue;
            };
            meter.traffic.received(Protocol::Dhcp, frame.len());
            if let Some(send) = book.on_answer(now, &answer, &mut meter) {
                transmit(&mut link, &templates, &send, &mut meter);
            }
        }
        link.flush();
        turns += 1;
        let is_idle = received == 0 && due <= BATCH;
        if is_idle {
            wait(&link, &signals, next(load, &book, &meter).saturating_sub(began.elapsed()))?;
        }
        if (is_idle || turns.is_multiple_of(TURNS_WITHOUT_A_LOOK)) && signals.came().is_some() {
            break;
        }
    }
    meter.traffic.unsent_frames = link.unsent();
    Ok(LoadSummary::of(load, &meter, began.elapsed().min(load.duration), tally::cpu().saturating_sub(cpu)))
}

/// Queues the frame of a request.
fn transmit(link: &mut Link, templates: &Templates, send: &Send, meter: &mut Meter) {
    let template = templates.get(send);
    if let Some(place) = link.send_like(template.frame()) {
        template.make_own(place, send);
        meter.traffic.sent(Protocol::Dhcp, place.len());
    }
}

/// Returns the number of exchanges to begin now.
fn due(load: &Load, book: &Book, meter: &Meter, now: Duration) -> usize {
    match load.pace {
        Pace::PerSecond(rate) => {
            // Exchanges that could not begin had their turn.
            let due = (now.as_secs_f64() * rate) as u64 + 1;
            due.saturating_sub(meter.begun + meter.not_begun) as usize
        }
        Pace::Outstanding(wanted) => wanted.min(book.machines()).saturating_sub(book.under_way()),
    }
}

/// Returns when there is something to do even if nothing arrives.
fn next(load: &Load, book: &Book, meter: &Meter) -> Duration {
    let begin = match load.pace {
        Pace::PerSecond(rate) => Duration::from_secs_f64((meter.begun + meter.not_begun) as f64 / rate),
        Pace::Outstanding(_) => Duration::MAX,
    };
    // The end of the time in which exchanges begin counts as well.
    let begin = if begin < load.duration { begin } else { load.duration };
    book.oldest().map_or(begin, |oldest| (oldest + PATIENCE).min(begin.max(oldest)))
}

fn wait(link: &Link, signals: &Signals, limit: Duration) -> anyhow::Result<()> {
    let mut descriptors =
        [PollFd::new(link.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    match ppoll(&mut descriptors, Some(TimeSpec::from_duration(limit.min(PATIENCE))), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for frames"),
    }
}
