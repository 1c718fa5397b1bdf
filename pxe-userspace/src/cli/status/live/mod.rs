//! The live view of `pxed status --watch` and `pxed watch` on a terminal.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::Timestamp;

mod estimate;
mod frame;
mod screen;
mod sections;
mod sources;
mod style;
#[cfg(test)]
mod testing;
mod view;

use super::{client::AdminClient, colour::Colours, machines::Machine, select::SelectorArgs, target};
use screen::Screen;
use sources::News;
use view::{Link, View};

/// The time that pxed may take for an answer before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// The shortest time between two frames.
const FRAME: Duration = Duration::from_millis(100);
/// The longest time between two frames: ages change each second.
const TICK: Duration = Duration::from_secs(1);
/// The news that may wait. The stream waits when there are more, and pxed then says how many were lost.
const WAITING: usize = 4_096;

/// The live view that is asked for.
pub(super) struct Asked {
    /// The only machine.
    pub(super) machine: Option<String>,
    pub(super) selector: SelectorArgs,
    /// Set if the events are shown.
    pub(super) has_events: bool,
}

/// Shows the live view until a key or a signal ends it.
pub(super) fn run(client: AdminClient, asked: Asked) -> anyhow::Result<ExitCode> {
    let Asked { machine, selector, has_events } = asked;
    let client = Arc::new(client.with_patience(PATIENCE));
    let machines = sources::read_list(&client, &mut None)?.unwrap_or_default();
    let all: Vec<&Machine> = machines.iter().collect();
    let only = machine.map(|name| target::find(&all, &name)).transpose()?.map(|machine| machine.mac.clone());
    let selection = selector.resolve(all.iter().copied())?;
    let mut view = View::new(client.place(), has_events, selection, only);
    view.has_colours = Colours::of_stdout() == Colours::On;
    view.list(machines, Timestamp::now());
    let (sender, news) = sync_channel(WAITING);
    // Before all other threads, so that these have the signals blocked as well.
    sources::signals(sender.clone());
    let mut screen = Screen::take().context("the terminal")?;
    sources::keys(sender.clone());
    sources::list(Arc::clone(&client), sender.clone());
    let mut stop = Arc::new(AtomicBool::new(false));
    let follow = |stop: &Arc<AtomicBool>| sources::events(Arc::clone(&client), sender.clone(), Arc::clone(stop));
    follow(&stop);
    let mut page = 1;
    loop {
        let now = Timestamp::now();
        screen.terminal.draw(|frame| page = frame::draw(frame, &view, now)).context("the terminal")?;
        let was_lost = view.link != Link::Up;
        if let Some(code) = take(&news, &mut view, page) {
            return Ok(code);
        }
        // The stream of a host that vanished may be silent for ever.
        if was_lost && view.link == Link::Up {
            stop.store(true, Ordering::Relaxed);
            stop = Arc::new(AtomicBool::new(false));
            follow(&stop);
        }
    }
}

/// Takes what there is for the next frame. Returns the exit status if the view ends.
fn take(news: &Receiver<News>, view: &mut View, page: usize) -> Option<ExitCode> {
    let begin = Instant::now();
    let mut until = begin + TICK;
    loop {
        let next = match news.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(next) => next,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        match next {
            News::Key(key) if !view.key(key, page) => return Some(ExitCode::SUCCESS),
            // As a shell has it.
            News::Signal(signal) => return Some(ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(1))),
            // Somebody waits for the effect.
            News::Key(_) | News::Resized => return None,
            News::List(machines) => view.list(machines, Timestamp::now()),
            News::Same => view.same(Timestamp::now()),
            News::Piece(piece) => view.piece(piece),
            News::Lost(why) => view.lost(&why, Timestamp::now()),
        }
        until = until.min(begin + FRAME);
        // However much waits, it is shown now and then.
        if Instant::now() >= until {
            return None;
        }
    }
}
