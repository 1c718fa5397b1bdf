//! Loaders that lead to no script: those that are loaded again and again, and an iPXE that has no HTTP.

use std::time::{Duration, SystemTime};

use super::{
    super::{
        describe::printable,
        machine_record::MachineRecord,
        stage::Stage,
        words::{elapsed, human},
    },
    asking::script_out_of_reach,
    finding::Diagnosis,
    patience::PATIENCE,
};
use crate::model::{
    config_files::ConfigReader,
    event::{ArtifactKind, BootEvent, BootFileName, ClientKind, EventKind, Transport},
};

/// The number of times that a loader is loaded before something is wrong. Firmware may load it once more after a person has restarted the machine.
const LOOPS: usize = 3;

/// Adds what keeps a machine from its script.
pub(super) fn remark(diagnosis: &mut Diagnosis, record: &MachineRecord, now: SystemTime) {
    // Its name looks like a script's, so that its refusal is a failure, for which there is the remedy already.
    if record.stage == Stage::Failed
        && let Some(path) = script_by_tftp(record)
    {
        diagnosis.reached += &asked_by_tftp(path);
    }
    if !(Stage::Discovering..Stage::Scripted).contains(&record.stage) || record.stage == Stage::AwaitingFiles {
        return;
    }
    let by_tftp = script_by_tftp(record);
    if let Some(path) = by_tftp {
        diagnosis.reached += &asked_by_tftp(path);
        diagnosis.advice.insert(0, ANOTHER_IPXE.to_owned());
    } else if let Some(file) = loader_for_ipxe(record) {
        diagnosis.reached += &format!(" This iPXE was built without HTTP, so that pxed gave it another one, {file}.");
        if record.stage == Stage::IpxeAddressed {
            diagnosis.waits_for = format!("Its request for {file}.");
        }
        let is_again = loaded(record).is_some_and(|loaded| loaded.times > 1);
        if is_again || elapsed(record.stage_since, now) > PATIENCE {
            diagnosis.advice.insert(0, format!("If {file} is what it runs: that has no HTTP. {ANOTHER_IPXE}"));
        }
    }
    if let Some(Loaded { path, times, since, ipxe }) = loaded(record).filter(|loaded| loaded.times >= LOOPS) {
        let (path, lasted) = (printable(path), human(elapsed(since, now)));
        diagnosis.reached +=
            &format!(" It has loaded {path} {times} times in {lasted} and asked for no script in between.");
        if ipxe == Ipxe::KnowsItsScript {
            diagnosis.reached += " iPXE started and was told the URL of its script.";
        }
        // An iPXE without HTTP is remarked on already.
        let advice = if by_tftp.is_some() { Vec::new() } else { loop_advice(ipxe) };
        // The stage may have given one of them already.
        diagnosis.advice.retain(|known| !advice.contains(known));
        for (place, text) in advice.into_iter().enumerate() {
            diagnosis.advice.insert(place.min(diagnosis.advice.len()), text);
        }
    }
}

/// Returns what to do about a loader that is loaded again and again, by what was seen of iPXE after it.
fn loop_advice(ipxe: Ipxe) -> Vec<String> {
    let no_network = "If it shows no network card or no link: the loader that uses the driver of the firmware may work (annotation pxed.dev/loader: \
                      snponly).";
    match ipxe {
        Ipxe::Unseen => vec![
            "The loader starts and gives up, or the firmware refuses it and tries again: look at its screen or serial console. With Secure \
             Boot enabled, the firmware refuses an unsigned loader."
                .to_owned(),
            "An iPXE that hides what it is (neither user class iPXE nor option 175) is taken for firmware, and gets the loader again and \
             again: replace it by the one that pxed serves, or chain to http://${next-server}:PORT/ipxe in its own script, where PORT is \
             the port of boot HTTP (--http-port)."
                .to_owned(),
            no_network.to_owned(),
        ],
        Ipxe::Asks => vec![no_network.to_owned()],
        Ipxe::KnowsItsScript => script_out_of_reach().to_vec(),
        // The same.
        Ipxe::KnowsALoader => Vec::new(),
    }
}

fn asked_by_tftp(path: &str) -> String {
    let path = printable(path);
    format!(" It asked by TFTP for {path}, the URL of its script: the program that asks has no HTTP.")
}

/// The remedy for an iPXE without HTTP.
pub(super) const ANOTHER_IPXE: &str = "Replace that iPXE by a build with HTTP (DOWNLOAD_PROTO_HTTP), such as the one that pxed fetches itself if its name is \
                            not among the artifacts. One in the network card's ROM need not be replaced: it only has to load that.";

/// A loader that the machine has loaded since its last script.
struct Loaded<'a> {
    path: &'a str,
    times: usize,
    /// The end of the first time.
    since: SystemTime,
    /// The furthest that iPXE came after it, in any of these times.
    ipxe: Ipxe,
}

/// The last sign of iPXE after a loader. The variants are in the order of what they prove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Ipxe {
    /// Nothing: the loader need not have started.
    #[default]
    Unseen,
    /// It asked for an address.
    Asks,
    /// It was told another loader, since it has no HTTP.
    KnowsALoader,
    /// It was told the URL of its script.
    KnowsItsScript,
}

impl Ipxe {
    /// Returns what an event shows of it.
    fn of(event: &EventKind) -> Self {
        match event {
            EventKind::Ack { client: ClientKind::Ipxe, boot_file: Some(BootFileName::Script), .. }
            // Another server gives the address.
            | EventKind::Offer { address: None, boot_file: Some(BootFileName::Script) } => Self::KnowsItsScript,
            EventKind::Ack { client: ClientKind::Ipxe, boot_file: Some(_), .. } => Self::KnowsALoader,
            EventKind::Discover { client: ClientKind::Ipxe, .. } => Self::Asks,
            _ => Self::Unseen,
        }
    }
}

/// Returns the events since the machine last had more than a loader, the newest first.
fn without_script(record: &MachineRecord) -> impl Iterator<Item = &BootEvent> {
    record.events.iter().rev().take_while(|event| {
        !event.kind.is_operating_system()
            && !shows_script(&event.kind)
            && !matches!(event.kind, EventKind::SentToDisk | EventKind::Awaits { .. } | EventKind::Up { .. })
    })
}

/// Returns `true` for the request of a program that runs. GRUB and U-Boot fetch all they need by TFTP; iPXE looks for a script there before it asks
/// for an address.
fn shows_script(event: &EventKind) -> bool {
    let EventKind::Requested { artifact, transport, path } = event else { return false };
    match artifact {
        ArtifactKind::Script => *transport == Transport::Http || ConfigReader::of(path.as_bytes()).is_some(),
        ArtifactKind::Kernel | ArtifactKind::Initramfs | ArtifactKind::Uki => true,
        ArtifactKind::Loader | ArtifactKind::Config | ArtifactKind::Other => false,
    }
}

/// Returns the loader that was loaded last, and how often, each time after another question for an address.
fn loaded(record: &MachineRecord) -> Option<Loaded<'_>> {
    let mut last: Option<Loaded<'_>> = None;
    let mut has_asked = true;
    let mut ipxe = Ipxe::default();
    for event in without_script(record) {
        ipxe = ipxe.max(Ipxe::of(&event.kind));
        match &event.kind {
            EventKind::Discover { client, .. } => has_asked |= *client != ClientKind::Plain,
            EventKind::Done { artifact: ArtifactKind::Loader, path, .. }
            | EventKind::Unconfirmed { artifact: ArtifactKind::Loader, path, .. } => {
                let loaded = last.get_or_insert(Loaded { path, times: 0, since: event.at, ipxe });
                if loaded.path == &**path && std::mem::take(&mut has_asked) {
                    (loaded.times, loaded.since, loaded.ipxe) = (loaded.times + 1, event.at, ipxe);
                }
            }
            _ => {}
        }
    }
    last
}

/// Returns the loader that iPXE was told last, which an iPXE with HTTP is never told.
fn loader_for_ipxe(record: &MachineRecord) -> Option<&BootFileName> {
    let told = without_script(record).find_map(|event| match &event.kind {
        EventKind::Ack { client: ClientKind::Plain, .. } => None,
        EventKind::Ack { client, boot_file, .. } => Some((client, boot_file.as_ref())),
        _ => None,
    });
    match told {
        Some((ClientKind::Ipxe, Some(file @ (BootFileName::Loader(_) | BootFileName::OwnLoader(_))))) => Some(file),
        _ => None,
    }
}

/// Returns the path that the machine asked for by TFTP last, if it is the URL of a script.
fn script_by_tftp(record: &MachineRecord) -> Option<&str> {
    let asked = without_script(record).find_map(|event| match &event.kind {
        EventKind::Requested { transport, path, .. } => Some((*transport, &**path)),
        _ => None,
    });
    let (transport, path) = asked?;
    (transport == Transport::Tftp && is_url_of_script(path)).then_some(path)
}

/// Returns `true` for the URL of a script in place of a path, with or without its beginning.
pub(super) fn is_url_of_script(path: &str) -> bool {
    let path = path.trim_start_matches('/').to_ascii_lowercase();
    path.starts_with("http:") || path.starts_with("https:") || path == "ipxe" || path.ends_with("/ipxe")
}

/// Returns what to do about a system that has an address, and whose Talos API has not answered.
pub(super) fn not_up(record: &MachineRecord, since: Duration) -> String {
    format!(
        "pxed has not seen Talos' API (TCP port 50000) answer in the {} since it got its address; it tries for ten minutes. If talosctl --nodes {} --insecure get disks gets no answer either, look at the machine's console: a firewall in \
         between, or a system that is not Talos.",
        human(since),
        record.machine.address
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::diagnose, *};
    use crate::{
        journal::{fleet::Fleet, remembered::State, samples::*},
        model::{event::Signs, failure::NO_SUCH_FILE, images::Images, loader::LoaderFile},
    };

    /// Returns the diagnosis this many seconds after the last of these events.
    fn explained(events: &[EventKind], later: u64) -> String {
        explained_by(true, events, later)
    }

    /// The same by a pxed that finds out, or not, whether Talos is up.
    fn explained_by(verifies_up: bool, events: &[EventKind], later: u64) -> String {
        let mut fleet = Fleet::new(&State::new(), at(-60.0), 1);
        fleet.verify_up(verifies_up);
        timed(MAC, events.iter().cloned()).iter().for_each(|event| _ = fleet.apply(event));
        let record = fleet.machine(&Arc::new(machine(1)), usize::MAX);
        let last = record.events.last().map_or(at(0.0), |event| event.at);
        let Diagnosis { reached, waits_for, advice } =
            diagnose(&record, &Images::default(), last + Duration::from_secs(later));
        format!("{reached} | {waits_for} | {}", advice.join(" | "))
    }

    fn again(times: usize, events: &[EventKind]) -> Vec<EventKind> {
        vec![events; times].concat()
    }

    /// Returns the events of a loader that is loaded this many times.
    fn rounds(times: usize) -> Vec<EventKind> {
        again(times, &[&dora(Pxe)[..], &[requested(Loader)], &load(Loader)].concat())
    }

    fn by_tftp(artifact: ArtifactKind, path: &str) -> [EventKind; 1] {
        [EventKind::Requested { artifact, transport: Tftp, path: path.into() }]
    }

    /// Returns the offer of a script by ProxyDHCP.
    fn told_script() -> EventKind {
        EventKind::Offer { address: None, boot_file: Some(BootFileName::Script) }
    }

    fn told_a_loader() -> EventKind {
        let boot_file = Some(BootFileName::Loader(LoaderFile::EfiX64));
        EventKind::Ack { address: Some(machine(1).address), client: Ipxe, signs: Signs::None, boot_file }
    }

    #[test]
    fn loader_that_is_loaded_again_and_again_is_a_loop() {
        let text = explained(&rounds(3), 2);
        for part in
            ["loaded ipxe-efi-x86_64.efi 3 times", "no script in between", "Secure Boot", "hides what it is", "snponly"]
        {
            assert!(text.contains(part), "no {part} in {text}");
        }
        let asks_again = explained(&[&rounds(4)[..], &[discover(Pxe), offer()]].concat(), 2);
        assert!(asks_again.contains("ipxe-efi-x86_64.efi 4 times"), "{asks_again}");
        for harmless in [
            rounds(1),
            rounds(2),
            // One attempt that reads the file several times.
            [&dora(Pxe)[..], &load(Loader), &load(Loader), &load(Loader)].concat(),
            // Each time it came further.
            again(4, &[&dora(Pxe)[..], &load(Loader), &dora(Ipxe), &load(Script)].concat()),
            again(3, &[&uefi_boot()[..], &rounds(1)].concat()),
            // A chain of two loaders.
            [rounds(2), uefi_boot()].concat(),
        ] {
            let text = explained(&harmless, 2);
            assert!(!text.contains("in between"), "{text}");
        }
    }

    /// GRUB has all it needs by TFTP, and its kernel panics.
    #[test]
    fn loader_that_got_its_configuration_or_kernel_by_tftp_is_in_no_loop() {
        for (artifact, path) in
            [(Script, "/grub/grub.cfg"), (Kernel, "vmlinuz-v1.13.0-amd64"), (Initramfs, "initramfs-v1.13.0-amd64.xz")]
        {
            let round = [&dora(Pxe)[..], &load(Loader), &by_tftp(artifact, path)].concat();
            let text = explained(&[again(3, &round), rounds(1)].concat(), 2);
            assert!(!text.contains("in between"), "{path}: {text}");
        }
    }

    #[test]
    fn script_that_ipxe_looks_for_by_tftp_ends_no_loop() {
        let round = [&dora(Pxe)[..], &load(Loader), &by_tftp(Script, "autoexec.ipxe")].concat();
        let text = explained(&[again(3, &round), vec![discover(Pxe)]].concat(), 2);
        assert!(text.contains("3 times"), "{text}");
    }

    #[test]
    fn loop_after_ipxe_has_named_itself_is_no_fault_of_the_loader() {
        let round = [&dora(Pxe)[..], &load(Loader), &dora(Ipxe)].concat();
        let proxied_round = [&proxied(Pxe)[..], &load(Loader), &[discover(Ipxe), told_script()]].concat();
        for (round, last) in [(&round, &[][..]), (&round, &dora(Pxe)[..1]), (&round, &dora(Pxe)), (&proxied_round, &[])]
        {
            for later in [2, 60] {
                let text = explained(&[&again(3, round)[..], last].concat(), later);
                let (_, advice) = text.split_once("| Do all firewalls").unwrap_or_else(|| panic!("{text}"));
                assert!(advice.contains("--http-port") && advice.contains("built without HTTP"), "{text}");
                assert_eq!(text.matches("--http-port").count(), 1, "{text}");
                for wrong in ["Secure Boot enabled", "hides what it is", "snponly"] {
                    assert!(!advice.contains(wrong), "{wrong} in {text}");
                }
                assert_eq!(text.matches(" | ").count() - advice.matches(" | ").count(), 2, "{text}");
            }
        }
        // It started, and has no network.
        let silent = explained(&again(3, &[&dora(Pxe)[..], &load(Loader), &[discover(Ipxe)]].concat()), 2);
        assert!(silent.contains("snponly") && !silent.contains("hides") && !silent.contains("--http-port"), "{silent}");
    }

    #[test]
    fn advice_names_no_port_that_may_be_another() {
        let text = explained(&rounds(3), 2);
        assert!(text.contains("(--http-port)") && !text.contains("8000"), "{text}");
    }

    #[test]
    fn ipxe_without_http_is_told_apart_from_a_firewall() {
        let first =
            [&dora(Pxe)[..], &load(Loader), &[discover(Ipxe), offer(), request(Ipxe), told_a_loader()]].concat();
        let text = explained(&first, 2);
        assert!(text.contains("built without HTTP") && text.contains("Its request for ipxe-efi-x86_64.efi."), "{text}");
        let again = [&first[..], &load(Loader), &[discover(Ipxe), offer(), request(Ipxe), told_a_loader()]].concat();
        let text = explained(&again, 2);
        assert!(text.contains("that has no HTTP") && text.contains("DOWNLOAD_PROTO_HTTP"), "{text}");
        let round = [&dora(Pxe)[..], &load(Loader), &[discover(Ipxe), offer(), request(Ipxe), told_a_loader()]];
        let looping = explained(&self::again(3, &round.concat()), 2);
        assert!(looping.contains("| If ipxe-efi-x86_64.efi is what it runs"), "{looping}");
        assert!(looping.contains("3 times") && !looping.contains("Secure Boot"), "{looping}");
        let with_http = explained(&[&first[..], &load(Loader), &dora(Ipxe)].concat(), 2);
        assert!(!with_http.contains("HTTP ("), "{with_http}");
        assert!(!with_http.contains("without HTTP"), "{with_http}");
    }

    #[test]
    fn url_that_is_asked_for_by_tftp_shows_an_ipxe_without_http() {
        let asked = |path: &str| {
            let requested = EventKind::Requested { artifact: ArtifactKind::Other, transport: Tftp, path: path.into() };
            explained(&[&dora(Ipxe)[..], &[requested]].concat(), 2)
        };
        for path in
            ["http://10.0.0.1:8000/ipxe", "/http://10.0.0.1/ipxe", "HTTPS://boot/x", "boot/52-54-00-00-00-01/ipxe"]
        {
            let text = asked(path);
            assert!(text.contains("asked by TFTP for") && text.contains("DOWNLOAD_PROTO_HTTP"), "{path}: {text}");
        }
        for path in ["ipxe.efi", "autoexec.ipxe", "httpd.efi"] {
            assert!(!asked(path).contains("asked by TFTP for"), "{path}");
        }
        // The URL that pxed names ends like the name of a script, which must not be missing.
        let path: Arc<str> = "http://10.0.0.1:8000/boot/52:54:00:00:00:01.ipxe".into();
        let refused = [
            EventKind::Requested { artifact: Script, transport: Tftp, path: Arc::clone(&path) },
            EventKind::Failed { artifact: Script, transport: Tftp, path, bytes: 0, reason: NO_SUCH_FILE.into() },
        ];
        let text = explained(&[&dora(Ipxe)[..], &refused].concat(), 2);
        assert!(
            text.contains("asked by TFTP for") && text.contains("| Replace that iPXE by a build with HTTP"),
            "{text}"
        );
        assert!(!text.contains("among the artifacts:"), "{text}");
        assert!(!asked("http://\u{1b}[2J/ipxe").contains('\u{1b}'));
        let round = [&dora(Pxe)[..], &load(Loader), &dora(Ipxe), &by_tftp(ArtifactKind::Other, "http://10.0.0.1/ipxe")];
        let looping = explained(&again(3, &round.concat()), 2);
        assert!(looping.contains("3 times") && looping.contains("| Replace that iPXE"), "{looping}");
        assert!(!looping.contains("firewall") && !looping.contains("Secure Boot"), "{looping}");
    }

    #[test]
    fn system_without_talos_api_is_remarked_on_after_a_while() {
        let boot = uefi_boot();
        let early = explained(&boot, 60);
        assert!(!early.contains("50000"), "{early}");
        let late = explained(&boot, 200);
        assert!(late.contains("50000") && late.contains("talosctl --nodes 10.0.0.1"), "{late}");
        let up = explained(&[&boot[..], &[EventKind::Up { port: 50_000 }]].concat(), 200);
        assert!(!up.contains("50000"), "{up}");
        let not_tried = explained_by(false, &boot, 200);
        assert!(!not_tried.contains("50000"), "{not_tried}");
    }
}
