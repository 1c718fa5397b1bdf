use serde_json::json;

use super::*;
use crate::capture::pcapng;

const TOKEN: &str = "AAAAAQAAAAL_____________________";
const SPEC: &str = "kind: TalosCluster
spec:
  machines:
    - address: 10.0.0.4
      pxeClientSpec:
        macAddress: 52:54:00:00:00:04
        kernelCmdlineArgs: >-
          quiet
          a.b=neighboursecret
    - address: 10.0.0.5
      pxeClientSpec:
        macAddress: 52:54:00:00:00:05
        kernelCmdlineArgs: \"console=tty0 talos.config=http://10.0.0.1/c?t=machinesecret\"
  password: plainsecret
";

fn sources() -> Sources {
    let machine = json!({
        "mac": "52:54:00:00:00:05", "stage": "failed", "hostname": "node-5",
        "source": {"file": "/etc/pxed/clusters/lab.yaml", "line": 12},
        "diagnosis": {"reached": "it got its script", "waits_for": "the kernel", "advice": ["look at the cable"]},
        "events": [
            {"at": "2026-01-01T00:00:00.000Z", "text": format!("asks for script /boot/52-54-00-00-00-05/{TOKEN}.ipxe by HTTP")},
            {"at": "2026-01-01T00:00:01.000Z", "text": "asks for file /x/machinesecret by HTTP"},
        ],
        "last_error": "from http://user:urlsecret@mirror.example/",
    });
    let mut capture = Vec::new();
    pcapng::section_header(&mut capture, "pxed", "", "");
    let frame = {
        let mut frame = Vec::new();
        let request = format!("GET /boot/52-54-00-00-00-05/{TOKEN}/config.yaml HTTP/1.1\r\n");
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 5], [10, 0, 0, 1], 64);
        builder.tcp(5000, 8000, 1, 1).write(&mut frame, request.as_bytes()).unwrap();
        frame
    };
    let (at, direction) = (std::time::UNIX_EPOCH, pcapng::Direction::Inbound);
    let packet =
        pcapng::Packet { interface: 0, at, direction, length: 9, bytes: &frame, comment: "a decision\nwith ```" };
    pcapng::enhanced_packet(&mut capture, &packet);
    let setup = json!({"version": "0.1.0", "command_line": ["pxed", "run", "--config", "/etc/pxed/pxed.toml"], "environment": {}});
    let gone = || Err("there is no such page; Bearer bearersecret".to_owned());
    Sources {
        machine: Ok(machine),
        visitor: gone(),
        strangers: gone(),
        stages: Ok(json!({"failed": 1})),
        health: Ok(json!({"warnings": ["token: healthsecret"]})),
        setup: Ok(setup),
        images: Ok(json!([])),
        nodes: Ok(json!([])),
        spec_errors: Ok(json!([])),
        mac: MacAddr([0x52, 0x54, 0, 0, 0, 5]),
        now: jiff::Timestamp::UNIX_EPOCH,
        capture: Some(capture),
    }
}

#[test]
fn report_has_what_a_maintainer_needs_and_no_secret() {
    let sources = sources();
    assert_eq!(text::spec_file(&sources), Some("/etc/pxed/clusters/lab.yaml".into()));
    assert_eq!(text::configuration_file(&sources), Some("/etc/pxed/pxed.toml".into()));
    let configuration = b"http-port = 8000\nadmin-token = \"/run/tokensecret\"\n";
    let report = text::report(&sources, Some(SPEC.as_bytes()), Some(configuration));
    for wanted in [
        "# pxed report of 52:54:00:00:00:05",
        "- stage: failed",
        "- to do: look at the cable",
        "2026-01-01T00:00:00.000Z  asks for script /boot/52-54-00-00-00-05/***.ipxe by HTTP",
        "/etc/pxed/clusters/lab.yaml, line 12",
        "   12          macAddress: 52:54:00:00:00:05",
        "kernelCmdlineArgs: \"console=tty0 talos.config=***\"",
        "\"hostname\": \"node-5\"",
        "HTTP GET /boot/52-54-00-00-00-05/***/config.yaml HTTP/1.1",
        "                 a decision",
        "\n````\n",
        "http-port = 8000",
        "\"failed\": 1",
        "not known: there is no such page",
        "\"version\": \"0.1.0\"",
    ] {
        assert!(report.contains(wanted), "{wanted} is missing in:\n{report}");
    }
    let secrets = [
        "neighboursecret",
        "machinesecret",
        "plainsecret",
        "urlsecret",
        "bearersecret",
        "healthsecret",
        "tokensecret",
        TOKEN,
    ];
    for secret in secrets {
        assert!(!report.contains(secret), "{secret} is in:\n{report}");
    }
}

#[test]
fn stranger_has_a_report_too() {
    let machine = Err("52:54:00:00:00:05 is not a machine of the spec".to_owned());
    let visitor = Ok(json!({"requests": []}));
    let report = text::report(&Sources { machine, visitor, ..sources() }, None, None);
    assert!(report.contains("The spec does not have it: ") && report.contains("beside the spec"), "{report}");
    let broken = Sources { capture: Some(vec![7; 99]), machine: Ok(json!(null)), ..sources() };
    let report = text::report(&broken, Some(b"\xff\xfe"), Some(b"\xff"));
    assert!(report.contains("is it a file of pxed capture?"), "{report}");
}
