//! Listens to those who ask by DHCP and are not answered, on all interfaces: strangers, and machines of the spec that ask elsewhere than on the
//! interface of their cluster.
//!
//! The XDP program passes what it does not answer to the host's IP stack, where packet sockets get copies. A program that drops strangers
//! (`--unknown drop`) hides them from here; it tells of some of them itself ([`of_dropped`]).

mod read;

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd as _,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use pxe_common::MacAddr;

use self::read::Asked;
use crate::{
    mistakes,
    model::{inventory::SharedInventory, strangers::SharedStrangers},
    net::{
        packet_socket::{FRAME_CAPACITY, RequestTap, TapView},
        pulse::is_told_to_end,
    },
};

/// The most questions that are read before the thread rests.
const QUESTIONS_A_TURN: usize = 256;
/// The rest after so many questions. A flood costs no more than a few percent of a processor, and the kernel drops what is not read.
const REST: Duration = Duration::from_millis(50);
/// The number of tagged frames that are remembered until they are seen without their tag.
const TAGS_REMEMBERED: usize = 64;

/// Returns a function that remembers the strangers whose requests an XDP program drops, from their frames.
pub fn of_dropped(
    inventory: SharedInventory,
    strangers: SharedStrangers,
) -> impl Fn(&Arc<str>, &[u8], SystemTime) + Send + Sync + 'static {
    move |interface, frame, at| {
        let Some(Asked { mut question, .. }) = read::read(frame, at) else { return };
        question.interface = Arc::clone(interface);
        // The spec may name it by now.
        if inventory.load().by_mac(question.mac).is_none() {
            strangers.lock().note_stranger(question);
        }
    }
}

/// The thread that listens. It ends when this is dropped.
#[derive(Debug)]
pub struct Listener {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the sockets or the thread.
    pub fn start(inventory: SharedInventory, strangers: SharedStrangers) -> io::Result<Self> {
        let tap = RequestTap::open()?;
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let seen = Arc::clone(&stop);
        let mut ear = Ear { tap, inventory, strangers, tags: VecDeque::with_capacity(TAGS_REMEMBERED) };
        let thread = thread::Builder::new().name("pxed-strangers".to_owned()).spawn(move || {
            let listen = || {
                if let Err(error) = ear.listen(&seen) {
                    tracing::error!("pxed does not hear strangers any more: {error}");
                }
            };
            mistakes::persist("hearing strangers", |pause| is_told_to_end(&seen, pause), listen);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // This fails only if the counter is full, and then the thread has already been asked.
        let _ = self.stop.write(1);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that hears strangers panicked");
        }
    }
}

/// A question that was seen with its tag, and the VLAN.
struct Tagged {
    mac: MacAddr,
    transaction: u32,
    interface: u32,
    vlan: u16,
}

struct Ear {
    tap: RequestTap,
    inventory: SharedInventory,
    strangers: SharedStrangers,
    tags: VecDeque<Tagged>,
}

impl Ear {
    fn listen(&mut self, stop: &EventFd) -> io::Result<()> {
        let mut buffer = vec![0; FRAME_CAPACITY];
        while self.tap.wait(stop.as_fd())? {
            let mut read = 0;
            while read < QUESTIONS_A_TURN
                && let Some((frame, interface, view)) = self.tap.receive(&mut buffer)
            {
                read += 1;
                let asked = read::read(frame, SystemTime::now());
                if let Some(asked) = asked {
                    self.hear(asked, interface, view);
                }
            }
            if read == QUESTIONS_A_TURN {
                thread::sleep(REST);
            }
        }
        Ok(())
    }

    fn hear(&mut self, asked: Asked, interface: u32, view: TapView) {
        let Asked { mut question, transaction } = asked;
        let is_this = |tagged: &Tagged| (tagged.mac, tagged.transaction) == (question.mac, transaction);
        match view {
            TapView::Tagged => {
                let Some(vlan) = question.vlan else { return };
                if self.tags.len() == TAGS_REMEMBERED {
                    self.tags.pop_front();
                }
                self.tags.push_back(Tagged { mac: question.mac, transaction, interface, vlan });
                return;
            }
            // Neither broadcast nor for this host: another server's business.
            TapView::Final { is_of_others: true } => {
                let Some(tagged) =
                    self.tags.iter().rev().find(|tagged| is_this(tagged) && tagged.interface == interface)
                else {
                    return;
                };
                question.vlan = Some(tagged.vlan);
            }
            TapView::Final { is_of_others: false } => {}
        }
        // It is gone already.
        let Some(name) = self.tap.name_of(interface) else { return };
        question.interface = name.into();
        let inventory = self.inventory.load();
        match inventory.by_mac(question.mac) {
            None => self.strangers.lock().note_stranger(question),
            // Whoever serves the interface knows of it.
            Some(machine) if *machine.site.interface == *question.interface => {}
            Some(_) => {
                let is_machine = |mac| inventory.by_mac(mac).is_some();
                let cards = inventory.machines().len().saturating_mul(2);
                self.strangers.lock().note_astray(question, cards, is_machine);
            }
        }
    }
}
