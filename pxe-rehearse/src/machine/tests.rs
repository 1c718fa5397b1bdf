//! A machine against a server in memory, on a simulated clock: every run is the same.

use std::collections::BTreeMap;

use super::*;
use crate::http::HttpResponse;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
const INTERFACE: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xcc]);
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// The server's answer to a kind of client.
#[derive(Clone, Copy)]
struct Offer {
    /// Option 67.
    file: &'static str,
    /// Option 60.
    class: &'static str,
    /// The field `file` of the header.
    field: &'static str,
}

/// A small server. It answers by options 77 and 93, as dnsmasq does.
struct Server {
    offer: fn(architecture: Option<u16>, is_ipxe: bool) -> Option<Offer>,
    files: BTreeMap<&'static str, Vec<u8>>,
    transfers: BTreeMap<u16, (String, u32)>,
    next_port: u16,
    /// Every n-th frame to and from the machine is lost. 0 means none.
    loses_every: u32,
    frames: u32,
    /// The number of DISCOVERs, and of those among them after which files come from a dead server.
    discovers: u32,
    dead: u32,
}

/// Returns the usual offers.
fn usual(architecture: Option<u16>, is_ipxe: bool) -> Option<Offer> {
    Some(match (architecture, is_ipxe) {
        (_, true) => Offer { file: "http://10.0.0.1:8000/boot.ipxe", class: "", field: "" },
        (Some(0), _) => Offer { file: "undionly.kpxe", class: "PXEClient", field: "" },
        (Some(16 | 19), _) => Offer { file: "http://10.0.0.1:8000/ipxe.efi", class: "HTTPClient", field: "" },
        (Some(_), _) => Offer { file: "ipxe.efi", class: "PXEClient", field: "" },
        (None, _) => Offer { file: "", class: "", field: "" },
    })
}

impl Server {
    fn new(offer: fn(Option<u16>, bool) -> Option<Offer>) -> Self {
        let script = b"#!ipxe\nkernel /vmlinuz initrd=initramfs.xz mac=${mac}\ninitrd /initramfs.xz\nboot\n".to_vec();
        let files = BTreeMap::from([
            ("undionly.kpxe", vec![1; 5000]),
            ("ipxe.efi", vec![2; 5001]),
            ("boot.ipxe", script),
            ("vmlinuz", vec![3; 3000]),
            ("initramfs.xz", vec![4; 4000]),
        ]);
        Self {
            offer,
            files,
            transfers: BTreeMap::new(),
            next_port: 40000,
            loses_every: 0,
            frames: 0,
            discovers: 0,
            dead: 0,
        }
    }

    fn is_lost(&mut self) -> bool {
        self.frames += 1;
        self.loses_every != 0 && self.frames.is_multiple_of(self.loses_every)
    }

    fn dhcp(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let mut options = BTreeMap::new();
        let mut rest = &request[240..];
        while let [code, length, after @ ..] = rest {
            options.insert(*code, &after[..usize::from(*length)]);
            rest = &after[usize::from(*length)..];
        }
        self.discovers += u32::from(options[&53] == [1]);
        let architecture = options.get(&93).map(|value| u16::from_be_bytes([value[0], value[1]]));
        let offer = (self.offer)(architecture, options.contains_key(&77))?;
        let mut reply = request[..240].to_vec();
        reply[0] = 2;
        reply[16..20].copy_from_slice(&ADDRESS.octets());
        reply[20..24].copy_from_slice(&SERVER.octets());
        reply.extend([53, 1, if options[&53] == [1] { 2 } else { 5 }, 54, 4, 10, 0, 0, 1, 1, 4, 255, 255, 255, 0]);
        reply[108..108 + offer.field.len()].copy_from_slice(offer.field.as_bytes());
        for (code, text) in [(67, offer.file), (60, offer.class)] {
            if !text.is_empty() {
                reply.extend([code, text.len() as u8]);
                reply.extend(text.bytes());
            }
        }
        reply.push(255);
        Some(reply)
    }

    /// Answers TFTP in lock-step, with `tsize` and `blksize`.
    fn tftp(&mut self, to: u16, request: &[u8]) -> Option<(u16, Vec<u8>)> {
        if self.discovers <= self.dead {
            return None;
        }
        if to == 69 {
            let mut words = request[2..].split(|&byte| byte == 0).map(|word| std::str::from_utf8(word).unwrap());
            let name = words.next()?.to_owned();
            let Some(file) = self.files.get(name.as_str()) else { return Some((40001, error_packet())) };
            let mut acknowledged = vec![0, 6];
            let mut block = 512;
            let mut options = words.skip(1);
            while let (Some(option), Some(value)) = (options.next(), options.next()) {
                let value = match option {
                    "tsize" => file.len().to_string(),
                    "blksize" => {
                        block = value.parse().ok()?;
                        value.to_owned()
                    }
                    _ => continue,
                };
                acknowledged.extend([option.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
            }
            self.next_port += 1;
            self.transfers.insert(self.next_port, (name, block));
            return Some((self.next_port, acknowledged));
        }
        let (name, block) = self.transfers.get(&to)?;
        let [0, 4, high, low] = request else { return None };
        let number = u16::from_be_bytes([*high, *low]);
        let file = &self.files[name.as_str()];
        let start = usize::from(number) * *block as usize;
        let piece = file.get(start..)?.iter().take(*block as usize);
        let header = [&[0, 3][..], &(number + 1).to_be_bytes()].concat();
        Some((to, header.into_iter().chain(piece.copied()).collect()))
    }

    fn http(&self, request: &HttpRequest) -> Result<HttpResponse, String> {
        if self.discovers <= self.dead {
            return Err("no connection: Connection refused".to_owned());
        }
        let body = self.files.get(request.path.trim_start_matches('/'));
        let bytes = body.map_or(0, Vec::len) as u64;
        Ok(HttpResponse {
            status: if body.is_some() { 200 } else { 404 },
            content_length: Some(bytes),
            location: None,
            bytes: if request.head_only { 0 } else { bytes },
            kept: body.map(|body| body[..body.len().min(request.keep)].to_vec()).unwrap_or_default(),
        })
    }
}

/// Returns TFTP error 1.
fn error_packet() -> Vec<u8> {
    b"\0\x05\0\x01File not found\0".to_vec()
}

fn setup(mac: MacAddr, firmware: Firmware, hurry: bool) -> Setup {
    let manner = Manner { hurry, watched: true };
    let ports = [1580, 1581, 1582, 1583].into();
    Setup { mac, firmware, manner, until: Milestone::Booted, seed: 7, interface: INTERFACE, ports }
}

fn take_outputs(machine: &mut Machine) -> Vec<Output> {
    let mut outputs = Vec::new();
    machine.swap_outputs(&mut outputs);
    outputs
}

/// Boots a machine. Returns the result and the steps.
fn boot(firmware: Firmware, hurry: bool, server: &mut Server) -> (MachineReport, Vec<String>) {
    let (report, outputs) = run(setup(MAC, firmware, hurry), server);
    let notes = outputs.iter().filter_map(|output| match output {
        Output::Note(note) => Some(note.to_string()),
        _ => None,
    });
    (report, notes.collect())
}

/// Boots a machine. Returns the result and the outputs except frames and requests.
fn run(setup: Setup, server: &mut Server) -> (MachineReport, Vec<Output>) {
    let mut machine = Machine::new(setup);
    let mut now = Duration::ZERO;
    let mut told = Vec::new();
    machine.power_on(now);
    for _ in 0..10_000 {
        let outputs = take_outputs(&mut machine);
        if outputs.is_empty() {
            if let Some(report) = machine.report() {
                return (report, told);
            }
            now = machine.deadline().expect("a machine that waits for nothing");
            machine.on_timer(now);
            continue;
        }
        for output in outputs {
            now += Duration::from_micros(100);
            match output {
                Output::Configure(lease) => assert_eq!(lease.address, ADDRESS),
                Output::Http(request) => machine.on_http(now, server.http(&request)),
                Output::Frame(_) if server.is_lost() => {}
                Output::Frame(frame) => answer(&mut machine, now, server, &frame),
                output => told.push(output),
            }
        }
    }
    panic!("no end: {told:#?}");
}

fn answer(machine: &mut Machine, now: Duration, server: &mut Server, frame: &[u8]) {
    let Some(frame::Received::Udp { source, from, to, payload }) = frame::parse(frame) else {
        if frame[28..32] != frame[38..42] && !server.is_lost() {
            assert_eq!(frame[38..42], SERVER.octets(), "ARP for the server");
            machine.on_arp(SERVER, SERVER_MAC);
        }
        return;
    };
    let (port, reply) = match to.port() {
        67 => {
            assert_eq!((source, frame[..6] == [0xff; 6]), (MAC, true));
            match server.dhcp(payload) {
                Some(reply) => (67, reply),
                None => return,
            }
        }
        port => {
            assert_eq!((source, &frame[..6]), (INTERFACE, &SERVER_MAC.0[..]));
            match server.tftp(port, payload) {
                Some(reply) => reply,
                None => return,
            }
        }
    };
    if !server.is_lost() {
        machine.on_udp(now, SocketAddrV4::new(SERVER, port), from, &reply);
    }
}

const ALL: [Firmware; 8] = [
    Firmware::Bios,
    Firmware::UefiX64,
    Firmware::UefiIa32,
    Firmware::UefiArm64,
    Firmware::HttpX64,
    Firmware::HttpArm64,
    Firmware::Ipxe,
    Firmware::Plain,
];

#[test]
fn firmware_boots_through_its_stages() {
    use Stage::{Dhcp, Initramfs, IpxeDhcp, Kernel, Loader, Script, System};
    for firmware in ALL {
        let (report, notes) = boot(firmware, false, &mut Server::new(usual));
        assert_eq!(report.outcome, Outcome::Booted, "{firmware:?}: {notes:#?}");
        let stages: Vec<Stage> = report.stages.iter().map(|time| time.stage).collect();
        let from_ipxe = [IpxeDhcp, Script, Kernel, Initramfs, System];
        let expected: Vec<Stage> = match firmware {
            Firmware::Plain => vec![System],
            Firmware::Ipxe => from_ipxe.to_vec(),
            Firmware::Bios => [&[Dhcp, Loader][..], &from_ipxe].concat(),
            // iPXE for EFI looks for autoexec.ipxe.
            _ => [&[Dhcp, Loader, Script][..], &from_ipxe].concat(),
        };
        assert_eq!(stages, expected, "{firmware:?}");
        if firmware != Firmware::Plain {
            assert_eq!(report.kernel_arguments.as_deref(), Some("initrd=initramfs.xz mac=02:00:00:00:00:01"));
            let loader = report.stages.iter().find(|time| time.stage == Loader).map(|time| time.bytes);
            let expected = match firmware {
                Firmware::Ipxe => None,
                Firmware::Bios => Some(5000),
                _ => Some(5001),
            };
            assert_eq!(loader, expected, "{firmware:?}");
        }
    }
}

/// One file over HTTP, and the operating system runs.
#[test]
fn unified_kernel_image_ends_the_boot() {
    const URL: &str = "http://10.0.0.1:8000/boot/02-00-00-00-00-01/talos.efi";
    let named: fn(Option<u16>, bool) -> Option<Offer> = |architecture, is_ipxe| match architecture {
        Some(16 | 19) => Some(Offer { file: URL, class: "HTTPClient", field: "" }),
        _ => usual(architecture, is_ipxe),
    };
    for firmware in [Firmware::HttpX64, Firmware::HttpArm64] {
        let mut server = Server::new(named);
        let missing = boot(firmware, true, &mut server).0.outcome;
        assert!(
            matches!(&missing, Outcome::Failed { stage: Stage::Kernel, reason } if reason.contains("404")),
            "{missing:?}"
        );
        server.files.insert("boot/02-00-00-00-00-01/talos.efi", vec![5; 70_000]);
        let (report, outputs) = run(setup(MAC, firmware, true), &mut server);
        assert_eq!(report.outcome, Outcome::Booted, "{outputs:#?}");
        let stages: Vec<_> = report.stages.iter().map(|time| (time.stage, time.bytes)).collect();
        assert_eq!(stages, [(Stage::Dhcp, 0), (Stage::Kernel, 70_000), (Stage::System, 0)]);
        let steps = outputs.iter().filter_map(|output| match output {
            Output::Took(step @ (Timed::Loader | Timed::Kernel | Timed::Initramfs), _) => Some(*step),
            _ => None,
        });
        assert_eq!(steps.collect::<Vec<_>>(), [Timed::Kernel]);
        let until = Setup { until: Milestone::Kernel, ..setup(MAC, firmware, true) };
        assert_eq!(run(until, &mut server).0.outcome, Outcome::Reached);
    }
}

#[test]
fn firmware_waits_for_offers_unless_in_a_hurry() {
    let seconds = |firmware, hurry| boot(firmware, hurry, &mut Server::new(usual)).0.took.as_secs_f64();
    // EDK2 waits 3.75 s and iPXE 3 s.
    assert!((6.7..6.9).contains(&seconds(Firmware::UefiX64, false)));
    assert!((3.0..3.2).contains(&seconds(Firmware::Ipxe, false)));
    assert!(seconds(Firmware::UefiX64, true) < 0.1);
}

#[test]
fn machines_boot_in_spite_of_losses() {
    for firmware in ALL {
        for loses_every in [3, 4, 5, 7] {
            let mut server = Server { loses_every, ..Server::new(usual) };
            let (report, notes) = boot(firmware, true, &mut server);
            assert_eq!(report.outcome, Outcome::Booted, "{firmware:?}, 1 in {loses_every}: {notes:#?}");
        }
    }
}

/// Returns the number of times that a boot was begun again.
fn begun_again(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Again(Again::Boot))).count()
}

/// The firmware's next attempt asks DHCP again, and another server may answer.
#[test]
fn firmware_boots_again_if_its_server_dies() {
    for firmware in ALL {
        if firmware == Firmware::Plain {
            continue;
        }
        for (dead, expected) in [(1, 1), (2, 2)] {
            let (report, outputs) = run(setup(MAC, firmware, true), &mut Server { dead, ..Server::new(usual) });
            assert_eq!(report.outcome, Outcome::Booted, "{firmware:?}: {outputs:#?}");
            assert_eq!(begun_again(&outputs), expected, "{firmware:?}");
        }
        let (report, outputs) = run(setup(MAC, firmware, true), &mut Server { dead: u32::MAX, ..Server::new(usual) });
        assert!(matches!(report.outcome, Outcome::Failed { .. }), "{firmware:?}: {:?}", report.outcome);
        assert_eq!(begun_again(&outputs), 2, "{firmware:?}");
    }
}

/// A refusal is final: asking again would not change it.
#[test]
fn refusal_ends_the_boot_at_once() {
    for file in ["ipxe.efi", "boot.ipxe"] {
        let mut server = Server::new(usual);
        server.files.remove(file);
        let (report, outputs) = run(setup(MAC, Firmware::UefiX64, true), &mut server);
        assert!(matches!(report.outcome, Outcome::Failed { .. }), "{file}: {:?}", report.outcome);
        assert_eq!(begun_again(&outputs), 0, "{file}");
    }
}

/// The script asks DHCP again and follows the server that answers, with the kernel that it has.
#[test]
fn script_follows_another_server() {
    let script = b"#!ipxe\n\
        isset ${attempt} || set attempt:int32 1\n\
        isset ${has} && goto initramfs ||\n\
        kernel /vmlinuz\n\
        set has yes\n\
        :initramfs\n\
        imgargs vmlinuz attempt=${attempt}\n\
        initrd /initramfs.xz && boot ||\n\
        inc attempt\n\
        imgfetch --name alive --timeout 10000 http://10.0.0.1:8000/ || goto follow\n\
        goto initramfs\n\
        :follow\n\
        ifconf --configurator dhcp netX || ifconf --configurator dhcp net0 || reboot\n\
        chain --replace --timeout 10000 ${filename}\n";
    let mut server = Server::new(usual);
    server.files.insert("boot.ipxe", script.to_vec());
    server.files.insert("", b"alive".to_vec());
    let mut machine = Machine::new(setup(MAC, Firmware::Ipxe, true));
    let mut now = Duration::ZERO;
    machine.power_on(now);
    let mut stages = Vec::new();
    while machine.report().is_none() {
        let outputs = take_outputs(&mut machine);
        if outputs.is_empty() {
            now = machine.deadline().expect("a machine that waits for nothing");
            machine.on_timer(now);
        }
        for output in outputs {
            match output {
                Output::Http(request) => {
                    stages.push(request.path.clone());
                    if request.path == "/initramfs.xz" && server.dead == 0 {
                        server.dead = server.discovers;
                    }
                    machine.on_http(now, server.http(&request));
                }
                Output::Frame(frame) => answer(&mut machine, now, &mut server, &frame),
                _ => {}
            }
        }
    }
    let report = machine.report().unwrap();
    assert_eq!(report.outcome, Outcome::Booted, "{stages:?}");
    assert_eq!(stages, ["/boot.ipxe", "/vmlinuz", "/initramfs.xz", "/", "/boot.ipxe", "/initramfs.xz"]);
    assert_eq!(report.kernel_arguments.as_deref(), Some("attempt=2"));
}

#[test]
fn silent_server_is_given_up_after_the_back_off_of_the_firmware() {
    for (firmware, seconds) in [(Firmware::UefiX64, 59.75), (Firmware::Ipxe, 15.0), (Firmware::Plain, 124.0)] {
        let (report, _) = boot(firmware, false, &mut Server::new(|_, _| None));
        assert!(matches!(&report.outcome, Outcome::Failed { reason, .. } if reason.contains("no server answered")));
        assert!((report.took.as_secs_f64() - seconds).abs() < 0.01, "{firmware:?}: {:?}", report.took);
    }
}

#[test]
fn unusable_answer_fails_with_its_reason() {
    let without_class: fn(Option<u16>, bool) -> Option<Offer> =
        |architecture, is_ipxe| usual(architecture, is_ipxe).map(|offer| Offer { class: "", ..offer });
    let nothing_named: fn(Option<u16>, bool) -> Option<Offer> =
        |_, _| Some(Offer { file: "", class: "PXEClient", field: "" });
    let no_such_file: fn(Option<u16>, bool) -> Option<Offer> =
        |_, _| Some(Offer { file: "none.efi", class: "PXEClient", field: "" });
    let never_a_script: fn(Option<u16>, bool) -> Option<Offer> =
        |_, _| Some(Offer { file: "ipxe.efi", class: "PXEClient", field: "" });
    for (firmware, offer, stage, expected) in [
        (Firmware::HttpX64, without_class, Stage::Dhcp, "option 60 to be HTTPClient"),
        (Firmware::UefiX64, nothing_named, Stage::Dhcp, "without a boot file"),
        (Firmware::Ipxe, nothing_named, Stage::IpxeDhcp, "names no boot file"),
        (Firmware::UefiX64, no_such_file, Stage::Loader, "File not found"),
        (Firmware::UefiX64, never_a_script, Stage::Script, "does not recognise it"),
    ] {
        let (report, notes) = boot(firmware, false, &mut Server::new(offer));
        let Outcome::Failed { stage: at, reason } = report.outcome else { panic!("{firmware:?}: {notes:#?}") };
        assert!(at == stage && reason.contains(expected), "{firmware:?}: {at}: {reason}");
    }
}

#[test]
fn firmware_prefers_option_67_and_ipxe_the_header_field() {
    let both: fn(Option<u16>, bool) -> Option<Offer> = |architecture, is_ipxe| {
        let offer = usual(architecture, is_ipxe)?;
        Some(if is_ipxe {
            Offer { file: "none", field: offer.file, ..offer }
        } else {
            Offer { field: "none", ..offer }
        })
    };
    for firmware in [Firmware::Bios, Firmware::UefiX64, Firmware::HttpX64, Firmware::Ipxe] {
        let (report, notes) = boot(firmware, true, &mut Server::new(both));
        assert_eq!(report.outcome, Outcome::Booted, "{firmware:?}: {notes:#?}");
    }
}

#[test]
fn file_shorter_than_promised_fails() {
    let mut machine = Machine::new(setup(MAC, Firmware::HttpX64, true));
    machine.power_on(Duration::ZERO);
    machine.url = Some(Url::parse("http://10.0.0.1/ipxe.efi").unwrap());
    machine.activity = Activity::Http { want: Want::Loader, redirects: 0, content_length: Some(10) };
    machine.on_http(Duration::ZERO, Ok(HttpResponse { status: 200, bytes: 9, ..HttpResponse::default() }));
    assert!(
        matches!(machine.outcome, Some(Outcome::Failed { ref reason, .. }) if reason.contains("10 bytes promised, 9"))
    );
}

#[test]
fn boot_server_of_a_proxy_is_asked_on_port_4011() {
    // Replays the exchange of real firmware with a DHCP server and a ProxyDHCP server.
    let datagrams = crate::captures::datagrams("ovmf-x64-proxydhcp");
    let mac = MacAddr([0x52, 0x54, 0, 0x99, 0, 1]);
    let mut machine = Machine::new(setup(mac, Firmware::UefiX64, false));
    let mut now = Duration::ZERO;
    machine.power_on(now);
    let mut sent = Vec::new();
    for datagram in &datagrams[..8] {
        for output in take_outputs(&mut machine) {
            if let Output::Frame(frame) = output {
                match frame::parse(&frame) {
                    Some(frame::Received::Udp { to, payload, .. }) => sent.push((to, payload.to_vec())),
                    _ => machine.on_arp(Ipv4Addr::from(<[u8; 4]>::try_from(&frame[38..42]).unwrap()), SERVER_MAC),
                }
            }
        }
        for output in take_outputs(&mut machine) {
            if let Output::Frame(frame) = output
                && let Some(frame::Received::Udp { to, payload, .. }) = frame::parse(&frame)
            {
                sent.push((to, payload.to_vec()));
            }
        }
        if matches!(datagram.from.port(), 67 | 4011) && datagram.payload[0] == 2 {
            let mut reply = datagram.payload.clone();
            let xid = sent.last().expect("something was sent").1[4..8].to_vec();
            reply[4..8].copy_from_slice(&xid);
            machine.on_udp(now, datagram.from, datagram.to, &reply);
            if machine.deadline().is_some() && sent.len() == 1 && reply[16..20] == [0; 4] {
                now = machine.deadline().unwrap_or(now);
                machine.on_timer(now);
            }
        }
    }
    let ports: Vec<_> = sent.iter().map(|(to, _)| to.to_string()).collect();
    assert_eq!(ports[..3], ["255.255.255.255:67", "255.255.255.255:67", "10.99.0.2:4011"]);
    take_outputs(&mut machine);
    assert_eq!(machine.stage, Stage::Loader);
    assert_eq!(machine.url.as_ref().map(ToString::to_string).as_deref(), Some("tftp://10.99.0.2/snponly.efi"));
}

#[test]
fn boot_ends_at_its_milestone() {
    use Milestone::{Booted, Kernel, Lease, Loader, Offer};
    for (until, last_stage) in
        [(Offer, Stage::Dhcp), (Lease, Stage::Dhcp), (Loader, Stage::Loader), (Kernel, Stage::Initramfs)]
    {
        let setup = Setup { until, ..setup(MAC, Firmware::UefiX64, true) };
        let (report, told) = run(setup, &mut Server::new(usual));
        assert_eq!(report.outcome, Outcome::Reached, "{until}");
        assert_eq!(report.stages.last().map(|time| time.stage), Some(last_stage), "{until}");
        let reached: Vec<_> = told
            .iter()
            .filter_map(|output| match output {
                Output::Reached(milestone) => Some(*milestone),
                _ => None,
            })
            .collect();
        let expected: Vec<_> =
            [Offer, Lease, Loader, Kernel, Booted].into_iter().filter(|known| *known <= until).collect();
        assert_eq!(reached, expected, "each milestone once");
    }
}

#[test]
fn retransmissions_and_times_of_steps_are_put_out() {
    let setup = Setup { manner: Manner { hurry: true, watched: false }, ..setup(MAC, Firmware::UefiX64, true) };
    let (_, told) = run(setup.clone(), &mut Server::new(usual));
    assert!(!told.iter().any(|output| matches!(output, Output::Note(_) | Output::Again(_))), "{told:#?}");
    let steps = told.iter().filter_map(|output| match output {
        Output::Took(step, time) if !time.is_zero() => Some(*step),
        _ => None,
    });
    let steps: std::collections::BTreeSet<_> = steps.collect();
    assert_eq!(steps.into_iter().collect::<Vec<_>>(), Timed::ALL);
    let (_, told) = run(setup, &mut Server { loses_every: 4, ..Server::new(usual) });
    assert!(told.iter().any(|output| matches!(output, Output::Again(_))), "{told:#?}");
}
