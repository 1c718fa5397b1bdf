//! The JSON of machines and events. Scripts depend on it.

use std::{sync::Arc, time::SystemTime};

use pxe_common::MacAddr;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{
    attempts::{Attempt, attempts},
    diagnosis::Diagnosis,
    machine_record::MachineRecord,
    others::OtherFrames,
    stage::Stage,
    step::Step,
    story::story,
};
use crate::model::{
    architecture::Architecture,
    event::{ArtifactKind, BootEvent, ClientKind, EventKind, Transport},
    inventory::{Machine, Role},
    loader::OwnLoaders,
    policy::{BootPolicy, Disposition},
    progress::Progress,
};

/// Formats a time as the API writes it: RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

fn time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

fn mac<S: Serializer>(machine: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(machine)
}

fn optional_mac<S: Serializer>(card: &Option<MacAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    card.map(|card| card.to_string()).serialize(serializer)
}

fn macs<S: Serializer>(cards: &[MacAddr], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(cards.iter().map(MacAddr::to_string))
}

/// Returns the network card that an event came from, if it is not the first card of the machine.
fn other_card(machine: &Machine, event: &BootEvent) -> Option<MacAddr> {
    (event.mac != machine.mac).then_some(event.mac)
}

/// Returns an event in words.
fn text(machine: &Machine, event: &BootEvent) -> String {
    match other_card(machine, event) {
        Some(card) => format!("{}, from its network card {card}", event.kind),
        None => event.kind.to_string(),
    }
}

/// A machine as `GET /api/v1/machines` lists it.
#[derive(Debug, Serialize, ToSchema)]
pub struct MachineJson<'a> {
    #[serde(serialize_with = "mac")]
    #[schema(value_type = String)]
    mac: MacAddr,
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(serialize_with = "macs", skip_serializing_if = "<[MacAddr]>::is_empty")]
    additional_macs: &'a [MacAddr],
    #[schema(value_type = String, format = Ipv4)]
    address: std::net::Ipv4Addr,
    /// The address at which pxed serves it.
    #[schema(value_type = String, format = Ipv4)]
    server: std::net::Ipv4Addr,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_length: Option<u8>,
    #[schema(value_type = Option<String>, format = Ipv4)]
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<std::net::Ipv4Addr>,
    cluster: &'a str,
    role: Role,
    architecture: Architecture,
    version: &'a str,
    hostname: Option<&'a str>,
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    loaders: Option<&'a OwnLoaders>,
    policy: BootPolicy,
    boots_from: Disposition,
    stage: Stage,
    step: Step,
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "time")]
    stage_since: SystemTime,
    /// It has been at its step for much longer than others of its fleet, and no bytes of a file arrive at it.
    stuck: bool,
    boots: u32,
    /// The number of its attempts to boot since an operating system ran, up to the last one.
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressJson>,
    last_error: Option<&'a str>,
    #[schema(format = DateTime)]
    last_error_at: Option<String>,
    events: Vec<EventJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnosis: Option<&'a Diagnosis>,
    /// The last of its attempts to boot since an operating system ran, the oldest first.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<AttemptJson>,
    /// The last boot in sentences.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    story: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames_of_others: Option<OthersJson>,
}

impl<'a> MachineJson<'a> {
    /// Returns the form of a machine in a list.
    #[must_use]
    pub fn of(record: &'a MachineRecord, now: SystemTime) -> Self {
        let MachineRecord {
            machine,
            server,
            policy,
            boots_from,
            stage,
            stage_since,
            boots,
            last_error,
            events,
            restored,
            others,
            progress,
            ..
        } = record;
        let Machine { mac, additional_macs, address, cluster, role, architecture, version, hostname, loaders, .. } =
            &**machine;
        Self {
            mac: *mac,
            additional_macs,
            address: *address,
            server: *server,
            prefix_length: machine.prefix_length,
            gateway: machine.gateway,
            cluster,
            role: *role,
            architecture: *architecture,
            version,
            hostname: hostname.as_deref(),
            loaders: loaders.as_deref(),
            policy: *policy,
            boots_from: *boots_from,
            stage: *stage,
            step: stage.step(),
            stage_since: *stage_since,
            stuck: record.is_stuck(now),
            boots: *boots,
            attempt: record.attempt,
            progress: ProgressJson::of(record.stage, *progress),
            last_error: last_error.as_ref().map(|(_, text)| &**text),
            last_error_at: last_error.as_ref().map(|&(at, _)| rfc3339(at)),
            events: events
                .iter()
                .enumerate()
                .map(|(index, event)| EventJson { before_restart: index < *restored, ..EventJson::of(machine, event) })
                .collect(),
            diagnosis: None,
            attempts: Vec::new(),
            story: Vec::new(),
            frames_of_others: others.map(|others| OthersJson::of(machine, others)),
        }
    }

    /// Returns the form of a single machine, with its diagnosis, its last boot and its events in words.
    #[must_use]
    pub fn explained(record: &'a MachineRecord, diagnosis: &'a Diagnosis, now: SystemTime) -> Self {
        let mut machine = Self::of(record, now);
        for (json, event) in machine.events.iter_mut().zip(&record.events) {
            let text = text(&record.machine, event);
            json.text = Some(if json.before_restart { format!("{text} (before pxed was restarted)") } else { text });
        }
        let attempts = attempts(record).into_iter().map(AttemptJson::from).collect();
        Self { diagnosis: Some(diagnosis), attempts, story: story(record), ..machine }
    }
}

/// An attempt of a machine to boot.
#[derive(Debug, Serialize, ToSchema)]
struct AttemptJson {
    number: u32,
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "time")]
    began_at: SystemTime,
    /// The program that began it.
    began_by: ClientKind,
    /// The last time at which something was seen of it.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "time")]
    last_at: SystemTime,
    /// The step that it came to.
    step: Step,
    /// `under-way`, `ran` (an operating system), `sent-to-disk`, `failed`, or `began-again` without a failure that pxed has seen.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

impl From<Attempt> for AttemptJson {
    fn from(Attempt { number, began, by, last, step, outcome, failure }: Attempt) -> Self {
        let outcome = outcome.name();
        Self { number, began_at: began, began_by: by, last_at: last, step, outcome, failure }
    }
}

/// The file that a machine is loading.
#[derive(Debug, Serialize, ToSchema)]
struct ProgressJson {
    artifact: ArtifactKind,
    transport: Transport,
    done: u64,
    total: u64,
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "time")]
    since: SystemTime,
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "time")]
    advanced_at: SystemTime,
}

impl ProgressJson {
    /// Returns the progress of a transfer that runs, unless the machine has moved on without it.
    fn of(stage: Stage, progress: Option<Progress>) -> Option<Self> {
        let Progress { artifact, transport, done, total, since, advanced, is_running, block: _ } = progress?;
        let is_loading =
            matches!(stage, Stage::LoadingLoader | Stage::LoadingKernel | Stage::KernelDone | Stage::LoadingInitramfs);
        (is_running && is_loading).then_some(Self { artifact, transport, done, total, since, advanced_at: advanced })
    }
}

/// The DHCP frames in a machine's name that other hosts sent.
#[derive(Debug, Serialize, ToSchema)]
struct OthersJson {
    count: u32,
    #[schema(value_type = String)]
    #[serde(serialize_with = "mac")]
    last_from: MacAddr,
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "time")]
    last_at: SystemTime,
    by_relay: bool,
    text: String,
}

impl OthersJson {
    fn of(machine: &Machine, OtherFrames { count, from, by_relay, at }: OtherFrames) -> Self {
        let interface = &machine.site.interface;
        let frames = if count == 1 { "a DHCP frame" } else { "DHCP frames" };
        let relay = if by_relay { ", as if by a relay, although its own frames come without one" } else { "" };
        let last = if count == 1 { "" } else { "the last " };
        let text = format!(
            "{frames} with its address ({count} since pxed started) came from other hosts, {last}from {from} on {interface}{relay}. They \
             changed nothing of the machine's: find the host at {from}, in the switch's table of MAC addresses for example"
        );
        Self { count, last_from: from, last_at: at, by_relay, text }
    }
}

/// An event in the list of its machine.
#[derive(Debug, Serialize, ToSchema)]
struct EventJson<'a> {
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "time")]
    at: SystemTime,
    #[serde(flatten)]
    kind: &'a EventKind,
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_mac")]
    card: Option<MacAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    before_restart: bool,
}

impl<'a> EventJson<'a> {
    fn of(machine: &Machine, event: &'a BootEvent) -> Self {
        Self { at: event.at, kind: &event.kind, card: other_card(machine, event), text: None, before_restart: false }
    }
}

/// An event as it is streamed, with its machine and the stage after it.
#[derive(Clone, Debug)]
pub struct FleetEvent {
    /// The machine.
    pub machine: Arc<Machine>,
    /// Its stage after the event.
    pub stage: Stage,
    /// The event.
    pub event: BootEvent,
}

/// An event of `GET /api/v1/events`.
#[derive(Serialize, ToSchema)]
pub(crate) struct FleetEventJson<'a> {
    #[schema(value_type = String)]
    #[serde(serialize_with = "mac")]
    mac: MacAddr,
    /// The address of the machine in the spec.
    #[schema(value_type = String, format = Ipv4)]
    machine_address: std::net::Ipv4Addr,
    /// The address of the machine, unless the event has one of its own: a key must not be there twice.
    #[schema(value_type = Option<String>, format = Ipv4)]
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<std::net::Ipv4Addr>,
    cluster: &'a str,
    stage: Stage,
    step: Step,
    failure: bool,
    #[serde(flatten)]
    event: EventJson<'a>,
}

impl Serialize for FleetEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { machine, stage, event } = self;
        FleetEventJson {
            mac: machine.mac,
            machine_address: machine.address,
            address: event.kind.address().is_none().then_some(machine.address),
            cluster: &machine.cluster,
            stage: *stage,
            step: stage.step(),
            failure: event.kind.is_failure(),
            event: EventJson { text: Some(text(machine, event)), ..EventJson::of(machine, event) },
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{
        every_event::every_event,
        samples::{MAC, Origin, at, machine},
        testing::{Records, assert_unique_keys},
    };

    /// Every event as it is streamed, in the list of its machine, and in the machine's own answer.
    #[test]
    fn keys_of_events_and_machines_are_unique() {
        let machine = Arc::new(Machine { additional_macs: [MacAddr([2; 6])].into(), ..machine(1) });
        for (name, kind) in every_event() {
            let own = kind.address();
            for mac in [MAC, MacAddr([2; 6])] {
                let event = BootEvent { mac, at: at(0.0), origin: Origin::Machine, kind: kind.clone() };
                let streamed = FleetEvent { machine: Arc::clone(&machine), stage: Stage::default(), event };
                let text = serde_json::to_string(&streamed).unwrap();
                assert_unique_keys(&text);
                let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(shown["machine_address"], "10.0.0.1", "{name}");
                assert_eq!(shown["address"], own.unwrap_or(machine.address).to_string(), "{name}");
            }
            let mut records = Records::new();
            records.apply(&[kind]);
            let record = records.record(&machine);
            assert_unique_keys(&serde_json::to_string(&MachineJson::of(&record, at(60.0))).unwrap());
            let diagnosis = crate::journal::diagnose(&record, &Default::default(), at(60.0));
            assert_unique_keys(&serde_json::to_string(&MachineJson::explained(&record, &diagnosis, at(60.0))).unwrap());
        }
    }
}
