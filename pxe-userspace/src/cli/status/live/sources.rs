//! What the live view waits for, each in a thread of its own: keys, signals, the list of machines, the event stream.

use std::{
    io::BufRead as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{SigSet, Signal};
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::view::Key;
use crate::cli::{
    ending::text_of,
    status::{
        client::AdminClient,
        machines::{self, Machine},
        watch::{self, Piece},
    },
};

/// The list is read again after this time at the earliest, and at the latest.
const EARLIEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(15);
/// The list is read for this part of the time at most.
const SHARE: u32 = 20;
/// The time after which a broken stream is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// A message to the live view.
#[derive(Debug)]
pub(super) enum News {
    Key(Key),
    /// The terminal has another size.
    Resized,
    Signal(Signal),
    List(Vec<Machine>),
    /// The list is as it was.
    Same,
    Piece(Piece),
    /// pxed does not answer, for this reason.
    Lost(String),
}

/// Blocks the signals that end a program, in this thread and those that it starts, and passes them on.
pub(super) fn signals(news: SyncSender<News>) {
    let set = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]);
    if set.thread_block().is_err() {
        return;
    }
    thread::spawn(move || {
        while let Ok(signal) = set.wait() {
            if news.send(News::Signal(signal)).is_err() {
                return;
            }
        }
    });
}

/// Reads keys. Without a terminal to read from, there are none.
pub(super) fn keys(news: SyncSender<News>) {
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            let told = match event {
                event::Event::Resize(..) => Some(News::Resized),
                event::Event::Key(key) => meaning(key).map(News::Key),
                _ => None,
            };
            if told.is_some_and(|told| news.send(told).is_err()) {
                return;
            }
        }
    });
}

/// Returns what a key means.
fn meaning(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let has_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') if has_control => Some(Key::Quit),
        KeyCode::Char(_) if has_control => None,
        KeyCode::Esc | KeyCode::Char('q' | 'Q') => Some(Key::Quit),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Down),
        KeyCode::PageUp => Some(Key::PageUp),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(Key::PageDown),
        KeyCode::Home | KeyCode::End | KeyCode::Char('g') => Some(Key::Home),
        _ => None,
    }
}

/// Reads the list of machines again and again, for a small part of the time.
pub(super) fn list(client: Arc<AdminClient>, news: SyncSender<News>) {
    thread::spawn(move || {
        let mut tag = None;
        loop {
            let begin = Instant::now();
            let told = match read_list(&client, &mut tag) {
                Ok(Some(machines)) => News::List(machines),
                Ok(None) => News::Same,
                Err(error) => News::Lost(text_of(&error)),
            };
            let is_lost = matches!(told, News::Lost(_));
            if news.send(told).is_err() {
                return;
            }
            let pause = if is_lost { EARLIEST } else { (begin.elapsed() * SHARE).clamp(EARLIEST, LATEST) };
            thread::sleep(pause);
        }
    });
}

/// Reads the list of machines once; `None` if it is the one with this tag. Sets the tag to that of the list.
pub(super) fn read_list(client: &AdminClient, tag: &mut Option<String>) -> anyhow::Result<Option<Vec<Machine>>> {
    let query = [("events", "0".to_owned())];
    let Some((text, new)) = client.get_unless("/api/v1/machines", &query, tag.as_deref())? else { return Ok(None) };
    let machines = machines::read(&text)?.into_iter().map(|listed| listed.machine).collect();
    *tag = new;
    Ok(Some(machines))
}

/// Follows the event stream until `stop`, and opens it again when it breaks.
pub(super) fn events(client: Arc<AdminClient>, news: SyncSender<News>, stop: Arc<AtomicBool>) {
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            if let Ok(stream) = client.stream("/api/v1/events") {
                let mut name = String::new();
                for line in stream.lines().map_while(Result::ok) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Some(event) = line.strip_prefix("event: ") {
                        event.clone_into(&mut name);
                    } else if let Some(data) = line.strip_prefix("data: ")
                        && let Ok(piece) = watch::read(&name, data)
                        && news.send(News::Piece(piece)).is_err()
                    {
                        return;
                    }
                }
            }
            thread::sleep(AGAIN);
        }
    });
}

#[cfg(test)]
mod tests {
    use tokio::task::block_in_place;

    use super::*;
    use crate::{
        admin::tests::start,
        journal::samples::{MAC, discover},
        model::event::ClientKind,
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn list_that_has_not_changed_is_not_sent_again() {
        let server = start(3).await;
        let client = AdminClient::new(&server.address.to_string().parse().unwrap(), None);
        let mut tag = None;
        let mut read = || block_in_place(|| read_list(&client, &mut tag)).unwrap();
        assert_eq!(read().map(|machines| machines.len()), Some(3));
        assert!(read().is_none() && read().is_none());
        server.feed(MAC, [discover(ClientKind::Pxe)]).await;
        let changed = read().unwrap();
        assert_eq!(&*changed[0].stage, "discovering");
        assert!(read().is_none());
    }

    #[test]
    fn key_that_quits_is_one_of_three() {
        let key = |code, modifiers| meaning(KeyEvent::new(code, modifiers));
        for (code, modifiers, expected) in [
            (KeyCode::Esc, KeyModifiers::NONE, Some(Key::Quit)),
            (KeyCode::Char('q'), KeyModifiers::NONE, Some(Key::Quit)),
            (KeyCode::Char('c'), KeyModifiers::CONTROL, Some(Key::Quit)),
            (KeyCode::Char('c'), KeyModifiers::NONE, None),
            (KeyCode::Char('q'), KeyModifiers::CONTROL, None),
            (KeyCode::Up, KeyModifiers::NONE, Some(Key::Up)),
            (KeyCode::Char(' '), KeyModifiers::NONE, Some(Key::PageDown)),
            (KeyCode::Enter, KeyModifiers::NONE, None),
        ] {
            assert_eq!(key(code, modifiers), expected, "{code:?} {modifiers:?}");
        }
    }
}
