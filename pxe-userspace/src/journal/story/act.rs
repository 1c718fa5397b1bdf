//! The steps of a boot: questions with their answers, files from the request to the last byte, and single events.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, tz::TimeZone};
use pxe_common::MacAddr;

use crate::{
    journal::{
        attempts::{Attempt, Outcome},
        describe::{human_bytes, printable},
        machine_record::MachineRecord,
        words::{elapsed, human},
    },
    model::{
        client_architecture::ClientArchitecture,
        config_files::ConfigReader,
        event::{ArtifactKind, BootEvent, BootFileName, ClientKind, EventKind, Signs, Transport},
        failure::OTHER_OFFER,
    },
};

/// A step of a boot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Act {
    mac: MacAddr,
    at: SystemTime,
    ended: SystemTime,
    deed: Deed,
}

#[derive(Clone, Debug, PartialEq)]
enum Deed {
    Asks(Question),
    Loads(File),
    /// An event that stands for itself.
    Other(EventKind),
}

/// A question for an address, with the answers to it.
#[derive(Clone, Debug, PartialEq)]
struct Question {
    client: ClientKind,
    signs: Signs,
    architecture: Option<u16>,
    /// The number of DISCOVERs.
    times: u32,
    offered: Option<Option<Ipv4Addr>>,
    is_requested: bool,
    boot_file: Option<BootFileName>,
    result: Answer,
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    None,
    Acknowledged(Option<Ipv4Addr>),
    Refused(&'static str),
    /// Another server assigns it, whose identifier may be known.
    OfOtherServer(Option<Ipv4Addr>),
}

/// A file that the machine asks for.
#[derive(Clone, Debug, PartialEq)]
struct File {
    artifact: ArtifactKind,
    transport: Transport,
    path: Arc<str>,
    end: End,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    None,
    Done { bytes: u64, took: Duration },
    Unconfirmed,
    Failed { bytes: u64, reason: Arc<str> },
}

impl Act {
    /// Returns the steps that events make, in the order of their beginnings.
    pub(super) fn all(events: &[BootEvent]) -> Vec<Self> {
        let mut acts: Vec<Self> = Vec::new();
        for event in events {
            if !continues(&mut acts, event)
                && let Some(deed) = begun(&event.kind)
            {
                acts.push(Self { mac: event.mac, at: event.at, ended: event.at, deed });
            }
        }
        acts
    }

    /// Returns the time of its last event.
    pub(super) fn ended(&self) -> SystemTime {
        self.ended
    }

    /// Returns `true` if the two are the same but for their times and what was measured.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.mac == other.mac
            && match (&self.deed, &other.deed) {
                (Deed::Asks(one), Deed::Asks(other)) => Question { times: other.times, ..one.clone() } == *other,
                (Deed::Loads(one), Deed::Loads(other)) => {
                    (one.artifact, one.transport, &one.path) == (other.artifact, other.transport, &other.path)
                        && one.end.is_like(&other.end)
                }
                (Deed::Other(one), Deed::Other(other)) => one == other,
                _ => false,
            }
    }
}

impl End {
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Done { .. }, Self::Done { .. }) => true,
            (Self::Failed { reason, .. }, Self::Failed { reason: other, .. }) => reason == other,
            _ => self == other,
        }
    }
}

/// Returns the step that an event begins; `None` for what is not worth a sentence.
fn begun(kind: &EventKind) -> Option<Deed> {
    let question = |client, architecture, signs| Question {
        client,
        signs,
        architecture,
        times: 0,
        offered: None,
        is_requested: false,
        boot_file: None,
        result: Answer::None,
    };
    let file = |artifact, transport, path: &Arc<str>, end| {
        Deed::Loads(File { artifact, transport, path: Arc::clone(path), end })
    };
    Some(match kind {
        &EventKind::Discover { client, client_architecture } => {
            Deed::Asks(Question { times: 1, ..question(client, client_architecture, Signs::None) })
        }
        EventKind::Offer { .. } => return None,
        &EventKind::Request { client, client_architecture, of_other_server, other_server, signs } => {
            let is_of_other = of_other_server || other_server.is_some();
            let result = if is_of_other { Answer::OfOtherServer(other_server) } else { Answer::None };
            Deed::Asks(Question { is_requested: true, result, ..question(client, client_architecture, signs) })
        }
        EventKind::Ack { address, client, signs, boot_file } => {
            let (result, boot_file) = (Answer::Acknowledged(*address), boot_file.clone());
            Deed::Asks(Question { is_requested: true, result, boot_file, ..question(*client, None, *signs) })
        }
        // Loaders look for these without expecting them.
        EventKind::Failed { .. } if kind.is_harmless() => return None,
        EventKind::Requested { artifact, transport, path } => file(*artifact, *transport, path, End::None),
        EventKind::Done { artifact, transport, path, bytes, took } => {
            file(*artifact, *transport, path, End::Done { bytes: *bytes, took: *took })
        }
        EventKind::Unconfirmed { artifact, transport, path, .. } => file(*artifact, *transport, path, End::Unconfirmed),
        EventKind::Failed { artifact, transport, path, bytes, reason } => {
            file(*artifact, *transport, path, End::Failed { bytes: *bytes, reason: Arc::clone(reason) })
        }
        EventKind::Nak { .. }
        | EventKind::Decline { .. }
        | EventKind::Release
        | EventKind::Ignored { .. }
        | EventKind::LeftToPeer { .. }
        | EventKind::ForeignRelay { .. }
        | EventKind::OtherVlan { .. }
        | EventKind::Awaits { .. }
        | EventKind::WrongArchitecture { .. }
        | EventKind::SentToDisk
        | EventKind::Up { .. } => Deed::Other(kind.clone()),
    })
}

/// Returns `true` if an event belongs to a step that has begun, and adds it there.
fn continues(acts: &mut Vec<Act>, event: &BootEvent) -> bool {
    let file = match &event.kind {
        EventKind::Requested { artifact, path, .. }
        | EventKind::Done { artifact, path, .. }
        | EventKind::Unconfirmed { artifact, path, .. }
        | EventKind::Failed { artifact, path, .. } => Some((artifact, path)),
        _ => None,
    };
    let is_same = |act: &Act| act.mac == event.mac;
    let index = acts.iter().rposition(|act| {
        is_same(act)
            && match (&act.deed, file) {
                (Deed::Loads(loads), Some((artifact, path))) => loads.artifact == *artifact && loads.path == *path,
                (Deed::Asks(_), None) => true,
                _ => false,
            }
    });
    let Some(act) = index.and_then(|index| acts.get_mut(index)) else { return false };
    let is_added = match &mut act.deed {
        Deed::Asks(question) => question.add(&event.kind),
        Deed::Loads(file) => file.add(&event.kind),
        Deed::Other(_) => false,
    };
    if is_added {
        act.ended = event.at;
    }
    // Nothing is told of a file that need not exist.
    if event.kind.is_harmless()
        && let Some(index) = index
    {
        acts.remove(index);
        return true;
    }
    is_added
}

impl Question {
    /// Adds an event. Returns `false` if it is not about this question.
    fn add(&mut self, kind: &EventKind) -> bool {
        let is_open = self.result == Answer::None;
        match kind {
            EventKind::Discover { client, client_architecture } => {
                let is_repeated = is_open && !self.is_requested && self.client == *client && self.times > 0;
                if is_repeated {
                    self.times += 1;
                    self.architecture = client_architecture.or(self.architecture);
                }
                is_repeated
            }
            EventKind::Offer { address, boot_file } => {
                if is_open {
                    self.offered = Some(*address);
                    self.name(boot_file.as_ref());
                }
                is_open
            }
            &EventKind::Request { client, of_other_server, other_server, signs, client_architecture } => {
                // Firmware asks a boot server once more when it has an address (ProxyDHCP).
                let is_of_this = self.client == client
                    && (is_open || client != ClientKind::Plain && !of_other_server && self.times > 0);
                if is_of_this {
                    self.is_requested = true;
                    self.architecture = self.architecture.or(client_architecture);
                    if is_open {
                        self.signs = signs;
                    }
                    if is_open && (of_other_server || other_server.is_some()) {
                        self.result = Answer::OfOtherServer(other_server);
                    }
                }
                is_of_this
            }
            EventKind::Ack { address, client, signs, boot_file } => {
                let is_of_this = self.client == *client && (is_open || *client != ClientKind::Plain);
                if is_of_this && is_open {
                    self.signs = *signs;
                    self.result = Answer::Acknowledged(*address);
                }
                if is_of_this {
                    self.name(boot_file.as_ref());
                }
                is_of_this
            }
            // The sentence says it by the other server.
            EventKind::Ignored { reason } => {
                *reason == OTHER_OFFER && matches!(self.result, Answer::OfOtherServer(Some(_)))
            }
            EventKind::Nak { reason } => {
                if is_open {
                    self.result = Answer::Refused(reason);
                }
                is_open
            }
            _ => false,
        }
    }

    /// Takes note of the boot file that an answer names. An operating system does not load it.
    fn name(&mut self, boot_file: Option<&BootFileName>) {
        if let Some(boot_file) = boot_file
            && self.client != ClientKind::Plain
        {
            self.boot_file = Some(boot_file.clone());
        }
    }

    fn sentence(&self, site: &str, took: Duration) -> String {
        let Self { client, signs, architecture, times, offered, is_requested, boot_file, result } = self;
        let who = match (client, signs, architecture) {
            (ClientKind::Plain, Signs::None, _) => "a DHCP client without a sign of an operating system".to_owned(),
            (ClientKind::Plain, Signs::Talos, _) => "Talos".to_owned(),
            (ClientKind::Plain, Signs::System | Signs::Renewal, _) => "an operating system".to_owned(),
            (ClientKind::Ipxe, ..) | (_, _, None) => client.to_string(),
            (ClientKind::Pxe, _, Some(architecture)) => {
                format!("{} firmware", ClientArchitecture::of(*architecture).name)
            }
            (ClientKind::HttpBoot, _, Some(architecture)) => {
                // The name of some says it, too.
                let name = ClientArchitecture::of(*architecture).name;
                format!("{} firmware (HTTP boot)", name.strip_suffix(", HTTP boot").unwrap_or(name))
            }
        };
        let file = boot_file.as_ref().map_or_else(String::new, |file| format!(", with {file} to load"));
        if *signs == Signs::Renewal
            && let Answer::Acknowledged(Some(address)) = result
        {
            return format!("{who}{site} prolonged its lease of {address}");
        }
        let is_open = !is_requested && *result == Answer::None;
        let asked = match times {
            0 | 1 => "asked for an address".to_owned(),
            2 if is_open => format!("asked twice within {} for an address", brief(took)),
            2 => "asked twice for an address".to_owned(),
            times if is_open => format!("asked {times} times within {} for an address", brief(took)),
            times => format!("asked {times} times for an address"),
        };
        let end = match (result, offered) {
            (Answer::Acknowledged(Some(address)), _) => format!("and got {address} in {}{file}", brief(took)),
            (Answer::Acknowledged(None), _) => format!("and got an answer without one in {}{file}", brief(took)),
            (Answer::Refused(reason), _) => format!("and was refused: {reason}"),
            (Answer::OfOtherServer(server), offered) => {
                let name = server.map_or_else(
                    || "another DHCP server".to_owned(),
                    |server| format!("{server}, another DHCP server"),
                );
                let file = if offered.is_some() { file.replacen(", with", "; pxed offered", 1) } else { String::new() };
                format!("and took that of {name}{file}")
            }
            (Answer::None, _) if *is_requested => "and has no acknowledgement".to_owned(),
            (Answer::None, Some(Some(address))) => format!("and was offered {address}, which it has not taken"),
            (Answer::None, Some(None)) => "and was offered a boot file, without an answer to that".to_owned(),
            (Answer::None, None) => "and got no answer".to_owned(),
        };
        format!("{who}{site} {asked} {end}")
    }
}

impl File {
    /// Adds an event. Returns `false` if it is not about this request.
    fn add(&mut self, kind: &EventKind) -> bool {
        if self.end != End::None {
            return false;
        }
        match kind {
            // Firmware asks for the size first, and for the file then.
            EventKind::Requested { .. } => {}
            EventKind::Done { bytes, took, .. } => self.end = End::Done { bytes: *bytes, took: *took },
            EventKind::Unconfirmed { .. } => self.end = End::Unconfirmed,
            EventKind::Failed { bytes, reason, .. } => {
                self.end = End::Failed { bytes: *bytes, reason: Arc::clone(reason) };
            }
            _ => return false,
        }
        true
    }

    fn sentence(&self) -> String {
        let Self { artifact, transport, path, end } = self;
        let name = printable(path.rsplit(['/', '\\']).next().unwrap_or(path));
        let what = match artifact {
            ArtifactKind::Loader | ArtifactKind::Other => name,
            ArtifactKind::Script => match ConfigReader::of(path.as_bytes()) {
                Some(reader) => format!("its {} configuration", reader.name()),
                None => "its script".to_owned(),
            },
            // The file is made for the machine.
            ArtifactKind::Uki | ArtifactKind::Config => format!("its {artifact}"),
            ArtifactKind::Kernel | ArtifactKind::Initramfs => format!("the {artifact} {name}"),
        };
        match end {
            End::None => format!("began to load {what} by {transport}, and nothing is known of the end"),
            End::Done { bytes, took } => {
                format!("loaded {what} by {transport}: {} in {}", human_bytes(*bytes), brief(*took))
            }
            End::Unconfirmed => format!("was sent all of {what} by {transport}, and did not confirm the end"),
            End::Failed { bytes: 0, reason } => {
                format!("asked for {what} by {transport}, which failed: {}", printable(reason))
            }
            End::Failed { bytes, reason } => {
                let after = human_bytes(*bytes);
                format!("asked for {what} by {transport}, which failed after {after}: {}", printable(reason))
            }
        }
    }
}

/// Tells steps of a machine.
#[derive(Debug)]
pub(super) struct Teller {
    interface: Arc<str>,
    first_card: MacAddr,
    begun: Timestamp,
}

impl Teller {
    /// Creates the teller of a story that begins at `begun`.
    pub(super) fn new(record: &MachineRecord, begun: SystemTime) -> Self {
        Self {
            interface: Arc::clone(&record.machine.site.interface),
            first_card: record.machine.mac,
            begun: Timestamp::try_from(begun).unwrap_or_default(),
        }
    }

    /// Returns the sentence about a step.
    pub(super) fn sentence(&self, Act { mac, at, ended, deed }: &Act) -> String {
        let mut text = match deed {
            Deed::Asks(question) => {
                let site = format!(" on {}", printable(&self.interface));
                question.sentence(&site, elapsed(*at, *ended))
            }
            Deed::Loads(file) => file.sentence(),
            Deed::Other(EventKind::Ignored { reason }) => format!("asked and was left without an answer: {reason}"),
            Deed::Other(EventKind::SentToDisk) => "was told to boot from its own disk".to_owned(),
            Deed::Other(EventKind::Up { port }) => format!("answered on TCP port {port}: its Talos API is up"),
            Deed::Other(kind) => kind.to_string(),
        };
        if *mac != self.first_card {
            text += &format!(", from its network card {mac}");
        }
        self.at(*at, &text)
    }

    /// Returns the sentence about steps that were repeated.
    pub(super) fn again(&self, steps: usize, times: usize, until: SystemTime) -> String {
        let what = if steps == 1 { "the same".to_owned() } else { format!("the last {steps} steps") };
        self.at(until, &format!("{what} again, for the {} time", ordinal(times + 1)))
    }

    /// Returns the sentence about an earlier attempt, of this many.
    pub(super) fn earlier(&self, attempt: &Attempt, count: u32) -> String {
        let Attempt { number, began, last, step, outcome, failure, .. } = attempt;
        let after = brief(elapsed(*began, *last));
        let end = match (outcome, failure) {
            (Outcome::Ran, _) => format!("came to an operating system after {after}"),
            (Outcome::SentToDisk, _) => "was sent to the disk".to_owned(),
            (_, Some(failure)) => format!("stopped at {} after {after}: {failure}", step.name()),
            (_, None) => format!("stopped at {} after {after}: the machine began again", step.name()),
        };
        self.at(*began, &format!("attempt {number} of {count} {end}"))
    }

    /// Returns the sentence with which the last of several attempts begins.
    pub(super) fn attempt(&self, at: SystemTime, number: u32) -> String {
        let ordinal = ordinal(usize::try_from(number).unwrap_or(usize::MAX));
        self.at(at, &format!("began its {ordinal} attempt; none before it came to an operating system"))
    }

    /// Returns a sentence with its time, and with the date if that is another than at the beginning.
    fn at(&self, at: SystemTime, text: &str) -> String {
        format!("{} {text}", self.time(at))
    }

    fn time(&self, at: SystemTime) -> String {
        let at = Timestamp::try_from(at).unwrap_or_default().to_zoned(TimeZone::UTC);
        let is_same_day = at.date() == self.begun.to_zoned(TimeZone::UTC).date();
        at.strftime(if is_same_day { "%H:%M:%S" } else { "%H:%M:%S on %Y-%m-%d" }).to_string()
    }
}

/// Returns the ordinal of a number.
fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// Formats a short duration for a person.
fn brief(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ 0..100 => format!("{millis} ms"),
        100..10_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => human(duration),
    }
}
