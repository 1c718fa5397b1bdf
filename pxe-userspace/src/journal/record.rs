//! The record of one machine: its last events in a compact form, and the state that follows from them.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arrayvec::ArrayVec;

use super::{
    attempts::Phase,
    boot_files::BootFiles,
    doomed::{doomed_after, leads_nowhere},
    interner::{Interner, StaticId, TextId},
    log_budget::LogBudget,
    others::OtherFrames,
    pace::{Chain, begins_a_step},
    policy::Cycle,
    stage::Stage,
    stamp::{Millis, Stamp},
};
use crate::model::{
    event::{ArtifactKind, BootEvent, BootFileName, ClientKind, EventKind, Signs, Transport},
    failure::TOO_OFTEN,
    loader::LoaderFile,
    origin::Origin,
};
use pxe_common::MacAddr;

/// The compact form of an [`EventKind`]. Bytes and milliseconds saturate at 2³² − 1.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Discover { client: ClientKind, client_architecture: Option<u16> },
    Offer { address: Option<Ipv4Addr>, boot_file: Option<KeptBootFile> },
    Request { client: ClientKind, client_architecture: Option<u16>, signs: Signs, other: (bool, Option<Ipv4Addr>) },
    Ack { address: Option<Ipv4Addr>, client: ClientKind, signs: Signs, boot_file: Option<KeptBootFile> },
    Nak { reason: StaticId },
    Decline { address: Ipv4Addr },
    Release,
    Ignored { reason: StaticId },
    ForeignRelay { relay: Ipv4Addr },
    OtherVlan { vlan: u16 },
    LeftToPeer { client: ClientKind, address: Ipv4Addr, chosen: bool },
    Requested { artifact: ArtifactKind, transport: Transport, path: TextId },
    Done { artifact: ArtifactKind, transport: Transport, path: TextId, bytes: u32, took_ms: u32 },
    Unconfirmed { artifact: ArtifactKind, transport: Transport, path: TextId, bytes: u32 },
    Failed { artifact: ArtifactKind, transport: Transport, path: TextId, bytes: u32, reason: TextId },
    Awaits { path: TextId, state: StaticId, percent: Option<u8> },
    WrongArchitecture { client_architecture: u16 },
    SentToDisk,
    Up { port: u16 },
}

/// The compact form of a [`BootFileName`].
#[derive(Clone, Copy, Debug)]
enum KeptBootFile {
    Script,
    Uki,
    Loader(LoaderFile),
    OwnLoader(TextId),
}

/// A fleet of 100,000 machines has millions of these.
const _: () = assert!(size_of::<(Stamp, Kept)>() <= 24);

/// The time for which a frame of the machine itself shows that it is not behind a relay. Systems renew their leases more often.
const OWN_FRAMES_COUNT_FOR: Duration = Duration::from_secs(3_600);

/// The record of one machine.
#[derive(Debug)]
pub(super) struct Record {
    events: VecDeque<(Stamp, Kept)>,
    /// The network cards that events came from, beside the first card of the machine: card 1, card 2 and so on.
    other_cards: Vec<MacAddr>,
    pub(super) stage: Stage,
    stage_since: Millis,
    /// The time at which it came to the step of its stage.
    step_since: Millis,
    /// The way in which it boots.
    pub(super) chain: Chain,
    phase: Phase,
    /// The number of its attempts to boot since an operating system ran.
    pub(super) attempts: u32,
    /// The number of events, from the oldest, that an earlier pxed saw.
    restored: usize,
    /// The number of initramfs and unified kernel images that it has loaded completely, or runs without having acknowledged their end.
    pub(super) boots: u32,
    /// Those that came by TFTP since, and that no operating system has confirmed yet.
    unconfirmed_boots: u32,
    last_error: Option<(Millis, TextId)>,
    /// The last time at which its rate limit dropped packets, as far as it was told of.
    asked_too_often: Option<Millis>,
    /// The steps that were seen of its current boot.
    pub(super) cycle: Cycle,
    files: BootFiles,
    /// The last time at which a frame of its own asked for an address.
    asked_itself: Millis,
    /// The frames in its name that came from elsewhere.
    others: Option<Box<OtherFrames>>,
    pub(super) log_budget: LogBudget,
    /// An operating system had the address before the end of the last file was noticed, so that this end is no other boot.
    ran_before_the_end: bool,
    /// Its firmware cannot start the kernel of the spec, so that its further steps lead nowhere.
    is_doomed: bool,
}

/// Returns `true` if a machine at this stage may have sent a request that nobody has answered. Its own next step shows that it goes on, but one
/// that runs takes no such step for days.
fn may_ask_for(stage: Stage, event: &EventKind) -> bool {
    match event {
        _ if matches!(stage, Stage::NeverSeen | Stage::Failed) => true,
        EventKind::Requested { artifact: ArtifactKind::Loader, .. }
        | EventKind::Failed { artifact: ArtifactKind::Loader, .. } => stage <= Stage::LoaderDone,
        _ => stage < Stage::Booting,
    }
}

/// The effect of an event beside the state of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// It completes what the machine boots.
    pub(super) completes: bool,
    /// It repeats the last attempt of the machine to get its configuration.
    pub(super) repeats: bool,
    /// It is another host's doing, and is kept apart.
    pub(super) is_of_others: bool,
    /// An attempt to boot begins with it.
    pub(super) begins: bool,
}

impl Record {
    /// Creates the record of a machine without events.
    pub(super) fn new(since: SystemTime, cycle: Cycle, boots: u32) -> Self {
        Self {
            events: VecDeque::new(),
            other_cards: Vec::new(),
            stage: Stage::NeverSeen,
            stage_since: Millis::of(since),
            step_since: Millis::of(since),
            chain: Chain::default(),
            phase: Phase::default(),
            attempts: 0,
            restored: 0,
            boots,
            unconfirmed_boots: 0,
            last_error: None,
            asked_too_often: None,
            cycle,
            files: BootFiles::default(),
            asked_itself: Millis::default(),
            others: None,
            log_budget: LogBudget::default(),
            ran_before_the_end: false,
            is_doomed: false,
        }
    }

    /// Applies an event to the stage, the number of boots, the last error, and the last `limit` events. `first_card` is that of the
    /// machine.
    pub(super) fn apply(
        &mut self,
        first_card: MacAddr,
        event: &BootEvent,
        limit: usize,
        texts: &mut Interner,
    ) -> Outcome {
        if self.is_of_others(event) {
            return Outcome { completes: false, repeats: false, is_of_others: true, begins: false };
        }
        // Kept apart: the requests of a machine that floods would soon push the event out.
        if event.kind == (EventKind::Ignored { reason: TOO_OFTEN }) {
            self.asked_too_often = Some(Millis::of(event.at));
            return Outcome { completes: false, repeats: false, is_of_others: false, begins: false };
        }
        let is_proven = event.origin.is_proven();
        // Nobody gets anything by a request that nobody answers.
        let completes = event.origin != Origin::Unanswered && self.files.apply(&event.kind);
        let is_late = self.ran_before_the_end && matches!(event.kind, EventKind::Done { .. });
        self.is_doomed = doomed_after(self.is_doomed, &event.kind);
        let (phase, begins) = self.phase.after(&event.kind);
        if begins {
            self.attempts = self.phase.count(self.attempts);
        }
        self.phase = phase;
        if let EventKind::Discover { client, .. } = event.kind {
            self.chain = self.chain.after(client, self.stage);
        }
        let stage = match (self.stage.after(&event.kind), completes) {
            (stage, _) if self.is_doomed && leads_nowhere(stage) => Stage::Failed,
            _ if is_late => self.stage,
            (stage, true) if stage < Stage::Booting => Stage::Booting,
            // The kernel is still missing.
            (Stage::Booting, false) => self.stage,
            (stage, _) => stage,
        };
        if stage != self.stage {
            let is_loading = (Stage::LoadingKernel..Stage::Booting).contains(&self.stage);
            if stage == Stage::Booting || (stage == Stage::Running && is_loading) {
                let boots = if is_proven { &mut self.boots } else { &mut self.unconfirmed_boots };
                *boots = boots.saturating_add(1);
            }
            self.ran_before_the_end = stage == Stage::Running && is_loading;
            self.enter(stage, event.at);
        }
        if is_proven && event.kind.is_operating_system() && stage == Stage::Running {
            self.boots = self.boots.saturating_add(std::mem::take(&mut self.unconfirmed_boots));
        }
        self.cycle = self.cycle.after(event.origin, &event.kind, completes);
        if event.kind.is_failure() {
            if let Some((_, text)) = self.last_error.take() {
                texts.release(text);
            }
            self.last_error = Some((Millis::of(event.at), texts.keep(&Arc::from(event.kind.to_string()))));
        }
        // A machine asks every few seconds while it waits, for a file or for another node's answers, which must not push out how it came there.
        if let Some((_, kept)) = self.events.pop_back_if(|(_, kept)| is_repeated(kept, &event.kind, texts)) {
            release(kept, texts);
        }
        self.restored = self.restored.min(self.events.len());
        self.trim(limit.saturating_sub(1), texts);
        // Doubling the capacity would waste tens of megabytes with 100,000 machines.
        if self.events.len() == self.events.capacity() {
            self.events.reserve_exact(8);
        }
        let card = self.number_of(event.mac, first_card);
        self.events.push_back((Stamp::new(event.at, card, event.origin), keep(&event.kind, texts)));
        Outcome { completes, repeats: self.drop_repetition(texts), is_of_others: false, begins }
    }

    /// Applies an event that an earlier pxed saw. What is remembered of the machine in the state file stays as it is.
    pub(super) fn restore(&mut self, first_card: MacAddr, event: &BootEvent, limit: usize, texts: &mut Interner) {
        let (cycle, boots) = (self.cycle, self.boots);
        self.apply(first_card, event, limit, texts);
        (self.cycle, self.boots) = (cycle, boots);
        self.restored = self.events.len();
    }

    /// Returns how many of the last `count` events an earlier pxed saw. They are the oldest.
    pub(super) fn restored(&self, count: usize) -> usize {
        self.restored.saturating_sub(self.events.len().saturating_sub(count))
    }

    /// Returns `true` if an event is another host's doing, and counts it. A machine whose own frames arrive is not behind a relay, and one
    /// that has come further than a request that nobody has answered has not sent it.
    fn is_of_others(&mut self, event: &BootEvent) -> bool {
        let asks = matches!(event.kind, EventKind::Discover { .. } | EventKind::Request { .. });
        let (from, by_relay) = match event.origin {
            Origin::Machine if asks => {
                self.asked_itself = Millis::of(event.at);
                return false;
            }
            Origin::Machine | Origin::Unproven => return false,
            Origin::Unanswered => return !may_ask_for(self.stage, &event.kind),
            Origin::Relay(from) => (from, true),
            Origin::Other(from) => (from, false),
        };
        let counts_until = self.asked_itself.time() + OWN_FRAMES_COUNT_FOR;
        if by_relay && event.at > counts_until {
            return false;
        }
        // An answer to such a frame is no frame of its own.
        if !matches!(event.kind, EventKind::Offer { .. } | EventKind::Ack { .. } | EventKind::Nak { .. }) {
            self.others.get_or_insert_default().add(from, by_relay, event.at);
        }
        true
    }

    /// Returns the frames in the machine's name that came from elsewhere, if there were any.
    pub(super) fn others(&self) -> Option<OtherFrames> {
        self.others.as_deref().copied()
    }

    /// Returns `true` if it has no events.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns the number of its boots, with those by TFTP that no operating system has confirmed.
    pub(super) fn all_boots(&self) -> u32 {
        self.boots.saturating_add(self.unconfirmed_boots)
    }

    /// Drops the last attempt but one to get a machine configuration if the last one ended in the same way: Talos makes any number, and the
    /// steps of the boot must stay. Returns `true` if it did.
    fn drop_repetition(&mut self, texts: &mut Interner) -> bool {
        let Some(first) = self.events.len().checked_sub(4) else { return false };
        let attempts = self.events.range(first..).map(|(_, kept)| *kept);
        let is_repetition = attempts.clone().step_by(2).all(is_request_for_config)
            && attempts.clone().nth(1).zip(attempts.clone().nth(3)).is_some_and(|(one, other)| is_same_end(one, other));
        if is_repetition {
            attempts.take(2).collect::<ArrayVec<_, 2>>().into_iter().for_each(|kept| release(kept, texts));
            self.events.drain(first..first + 2);
            self.restored -= self.restored.saturating_sub(first).min(2);
        }
        is_repetition
    }

    /// Returns the number of a network card: 0 for the first, and for those that are too many to be told apart.
    fn number_of(&mut self, mac: MacAddr, first_card: MacAddr) -> u8 {
        if mac == first_card {
            return 0;
        }
        let known = self.other_cards.iter().position(|&known| known == mac);
        let number = known.unwrap_or(self.other_cards.len()).saturating_add(1);
        let Ok(number) = u8::try_from(number) else { return 0 };
        if known.is_none() {
            self.other_cards.push(mac);
        }
        number
    }

    /// Makes another network card the first.
    pub(super) fn change_first_card(&mut self, from: MacAddr, to: MacAddr) {
        let (was_first, becomes_first) = (self.number_of(from, to), self.number_of(to, from));
        for (stamp, _) in &mut self.events {
            let card = match stamp.card() {
                0 => was_first,
                card if card == becomes_first => 0,
                card => card,
            };
            *stamp = Stamp::new(stamp.time(), card, stamp.origin());
        }
    }

    /// Adds the record of another network card. The events and the stage are those of the card that came to its stage last.
    pub(super) fn merge(&mut self, mut other: Self, texts: &mut Interner) {
        let boots = self.boots.saturating_add(other.boots);
        let unconfirmed_boots = self.unconfirmed_boots.saturating_add(other.unconfirmed_boots);
        if other.stage_since() > self.stage_since() || self.cycle == Cycle::Unknown && self.events.is_empty() {
            std::mem::swap(self, &mut other);
        }
        other.clear(texts);
        self.boots = boots;
        self.unconfirmed_boots = unconfirmed_boots;
    }

    /// Moves the machine to a stage.
    pub(super) fn enter(&mut self, stage: Stage, at: SystemTime) {
        if begins_a_step(self.stage, stage) {
            self.step_since = Millis::of(at);
        }
        self.stage = stage;
        self.stage_since = Millis::of(at);
    }

    /// Drops the oldest events beyond `limit`.
    pub(super) fn trim(&mut self, limit: usize, texts: &mut Interner) {
        while self.events.len() > limit
            && let Some((_, kept)) = self.events.pop_front()
        {
            release(kept, texts);
            self.restored = self.restored.saturating_sub(1);
        }
    }

    /// Releases all texts, before the record itself is dropped.
    pub(super) fn clear(&mut self, texts: &mut Interner) {
        self.trim(0, texts);
        self.events.shrink_to_fit();
        self.other_cards = Vec::new();
        self.others = None;
        if let Some((_, text)) = self.last_error.take() {
            texts.release(text);
        }
    }

    /// Returns the time at which it came to its stage.
    pub(super) fn stage_since(&self) -> SystemTime {
        self.stage_since.time()
    }

    /// Returns the time at which it came to the step of its stage.
    pub(super) fn step_since(&self) -> SystemTime {
        self.step_since.time()
    }

    /// Returns the time and the text of the last error.
    pub(super) fn last_error(&self, texts: &Interner) -> Option<(SystemTime, Arc<str>)> {
        self.last_error.map(|(at, text)| (at.time(), texts.get(text)))
    }

    /// Returns the last time at which its rate limit dropped packets.
    pub(super) fn asked_too_often(&self) -> Option<SystemTime> {
        self.asked_too_often.map(Millis::time)
    }

    /// Returns the time of the last error.
    pub(super) fn last_error_at(&self) -> Option<SystemTime> {
        self.last_error.map(|(at, _)| at.time())
    }

    /// Returns the last `count` events, oldest first.
    pub(super) fn events(&self, mac: MacAddr, count: usize, texts: &Interner) -> Vec<BootEvent> {
        let skipped = self.events.len().saturating_sub(count);
        let events = self.events.iter().skip(skipped);
        let card = |stamp: Stamp| match stamp.card().checked_sub(1) {
            Some(other) => self.other_cards.get(usize::from(other)).copied().unwrap_or(mac),
            None => mac,
        };
        let recalled = |&(stamp, kept): &(Stamp, Kept)| BootEvent {
            mac: card(stamp),
            at: stamp.time(),
            origin: stamp.origin(),
            kind: recall(kept, texts),
        };
        events.map(recalled).collect()
    }
}

fn is_request_for_config(kept: Kept) -> bool {
    matches!(kept, Kept::Requested { artifact: ArtifactKind::Config, .. })
}

/// Returns `true` if an event is the same as the last one, as it may be any number of times.
fn is_repeated(last: &Kept, event: &EventKind, texts: &Interner) -> bool {
    match (last, event) {
        (Kept::Awaits { path, .. }, EventKind::Awaits { path: awaited, .. }) => texts.get(*path) == *awaited,
        (Kept::LeftToPeer { .. }, EventKind::LeftToPeer { .. }) => true,
        _ => false,
    }
}

/// Returns `true` if two attempts to get a machine configuration ended in the same way.
fn is_same_end(one: Kept, other: Kept) -> bool {
    match (one, other) {
        (
            Kept::Failed { artifact: ArtifactKind::Config, reason, .. },
            Kept::Failed { artifact: ArtifactKind::Config, reason: other, .. },
        ) => reason == other,
        (
            Kept::Done { artifact: ArtifactKind::Config, bytes, .. },
            Kept::Done { artifact: ArtifactKind::Config, bytes: other, .. },
        ) => bytes == other,
        _ => false,
    }
}

fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn keep(kind: &EventKind, texts: &mut Interner) -> Kept {
    match kind {
        &EventKind::Discover { client, client_architecture } => Kept::Discover { client, client_architecture },
        EventKind::Offer { address, boot_file } => {
            Kept::Offer { address: *address, boot_file: keep_boot_file(boot_file.as_ref(), texts) }
        }
        &EventKind::Request { client, client_architecture, of_other_server, other_server, signs } => {
            Kept::Request { client, client_architecture, signs, other: (of_other_server, other_server) }
        }
        EventKind::Ack { address, client, signs, boot_file } => {
            let boot_file = keep_boot_file(boot_file.as_ref(), texts);
            Kept::Ack { address: *address, client: *client, signs: *signs, boot_file }
        }
        EventKind::Nak { reason } => Kept::Nak { reason: texts.keep_static(reason) },
        &EventKind::Decline { address } => Kept::Decline { address },
        EventKind::Release => Kept::Release,
        EventKind::Ignored { reason } => Kept::Ignored { reason: texts.keep_static(reason) },
        &EventKind::ForeignRelay { relay } => Kept::ForeignRelay { relay },
        &EventKind::OtherVlan { vlan } => Kept::OtherVlan { vlan },
        &EventKind::LeftToPeer { client, address, chosen } => Kept::LeftToPeer { client, address, chosen },
        EventKind::Requested { artifact, transport, path } => {
            Kept::Requested { artifact: *artifact, transport: *transport, path: texts.keep(path) }
        }
        EventKind::Done { artifact, transport, path, bytes, took } => Kept::Done {
            artifact: *artifact,
            transport: *transport,
            path: texts.keep(path),
            bytes: saturate(*bytes),
            took_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
        },
        EventKind::Unconfirmed { artifact, transport, path, bytes } => Kept::Unconfirmed {
            artifact: *artifact,
            transport: *transport,
            path: texts.keep(path),
            bytes: saturate(*bytes),
        },
        EventKind::Failed { artifact, transport, path, bytes, reason } => Kept::Failed {
            artifact: *artifact,
            transport: *transport,
            path: texts.keep(path),
            bytes: saturate(*bytes),
            reason: texts.keep(reason),
        },
        EventKind::Awaits { path, state, percent } => {
            Kept::Awaits { path: texts.keep(path), state: texts.keep_static(state), percent: *percent }
        }
        &EventKind::WrongArchitecture { client_architecture } => Kept::WrongArchitecture { client_architecture },
        EventKind::SentToDisk => Kept::SentToDisk,
        &EventKind::Up { port } => Kept::Up { port },
    }
}

fn recall(kept: Kept, texts: &Interner) -> EventKind {
    match kept {
        Kept::Discover { client, client_architecture } => EventKind::Discover { client, client_architecture },
        Kept::Offer { address, boot_file } => {
            EventKind::Offer { address, boot_file: recall_boot_file(boot_file, texts) }
        }
        Kept::Request { client, client_architecture, signs, other: (of_other_server, other_server) } => {
            EventKind::Request { client, client_architecture, of_other_server, other_server, signs }
        }
        Kept::Ack { address, client, signs, boot_file } => {
            EventKind::Ack { address, client, signs, boot_file: recall_boot_file(boot_file, texts) }
        }
        Kept::Nak { reason } => EventKind::Nak { reason: texts.get_static(reason) },
        Kept::Decline { address } => EventKind::Decline { address },
        Kept::Release => EventKind::Release,
        Kept::Ignored { reason } => EventKind::Ignored { reason: texts.get_static(reason) },
        Kept::ForeignRelay { relay } => EventKind::ForeignRelay { relay },
        Kept::OtherVlan { vlan } => EventKind::OtherVlan { vlan },
        Kept::LeftToPeer { client, address, chosen } => EventKind::LeftToPeer { client, address, chosen },
        Kept::Requested { artifact, transport, path } => {
            EventKind::Requested { artifact, transport, path: texts.get(path) }
        }
        Kept::Done { artifact, transport, path, bytes, took_ms } => EventKind::Done {
            artifact,
            transport,
            path: texts.get(path),
            bytes: bytes.into(),
            took: Duration::from_millis(took_ms.into()),
        },
        Kept::Unconfirmed { artifact, transport, path, bytes } => {
            EventKind::Unconfirmed { artifact, transport, path: texts.get(path), bytes: bytes.into() }
        }
        Kept::Failed { artifact, transport, path, bytes, reason } => EventKind::Failed {
            artifact,
            transport,
            path: texts.get(path),
            bytes: bytes.into(),
            reason: texts.get(reason),
        },
        Kept::Awaits { path, state, percent } => {
            EventKind::Awaits { path: texts.get(path), state: texts.get_static(state), percent }
        }
        Kept::WrongArchitecture { client_architecture } => EventKind::WrongArchitecture { client_architecture },
        Kept::SentToDisk => EventKind::SentToDisk,
        Kept::Up { port } => EventKind::Up { port },
    }
}

fn keep_boot_file(boot_file: Option<&BootFileName>, texts: &mut Interner) -> Option<KeptBootFile> {
    boot_file.map(|boot_file| match boot_file {
        BootFileName::Script => KeptBootFile::Script,
        BootFileName::Uki => KeptBootFile::Uki,
        BootFileName::Loader(loader) => KeptBootFile::Loader(*loader),
        BootFileName::OwnLoader(name) => KeptBootFile::OwnLoader(texts.keep(name)),
    })
}

fn recall_boot_file(kept: Option<KeptBootFile>, texts: &Interner) -> Option<BootFileName> {
    kept.map(|kept| match kept {
        KeptBootFile::Script => BootFileName::Script,
        KeptBootFile::Uki => BootFileName::Uki,
        KeptBootFile::Loader(loader) => BootFileName::Loader(loader),
        KeptBootFile::OwnLoader(name) => BootFileName::OwnLoader(texts.get(name)),
    })
}

fn release(kept: Kept, texts: &mut Interner) {
    match kept {
        Kept::Requested { path: text, .. }
        | Kept::Done { path: text, .. }
        | Kept::Unconfirmed { path: text, .. }
        | Kept::Awaits { path: text, .. } => texts.release(text),
        Kept::Offer { boot_file: Some(KeptBootFile::OwnLoader(text)), .. }
        | Kept::Ack { boot_file: Some(KeptBootFile::OwnLoader(text)), .. } => texts.release(text),
        Kept::Failed { path, reason, .. } => {
            texts.release(path);
            texts.release(reason);
        }
        Kept::Discover { .. }
        | Kept::Offer { .. }
        | Kept::Request { .. }
        | Kept::Ack { .. }
        | Kept::Nak { .. }
        | Kept::Decline { .. }
        | Kept::Release
        | Kept::Ignored { .. }
        | Kept::ForeignRelay { .. }
        | Kept::OtherVlan { .. }
        | Kept::LeftToPeer { .. }
        | Kept::WrongArchitecture { .. }
        | Kept::SentToDisk
        | Kept::Up { .. } => {}
    }
}

#[cfg(test)]
#[path = "record/tests.rs"]
mod tests;
