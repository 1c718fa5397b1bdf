//! A machine with secrets, and a host that takes its address.

use std::collections::HashMap;

use pxe_userspace::{
    artifacts::config_place,
    guard::{self, Purpose},
    model::{
        images::{FileState, ImageFile, Images, Stubs},
        machine_path::MachinePath,
        secrets::Secrets,
        token::{Token, Tokens},
    },
};

use super::*;

/// Parts of what must not get out: of the kernel arguments, and of the machine configuration.
const SECRETS: [&str; 2] = ["a+b/c=", "s3cr3t"];
const MACHINE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const HELD: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 3]);

/// Starts with secrets of this kind for all machines, and with a machine configuration for each.
fn start(check_source: bool, secrets: Secrets) -> (Lab, tempfile::TempDir) {
    let configs = tempfile::tempdir().unwrap();
    std::fs::write(configs.path().join("c.yaml"), "machine: {token: s3cr3t}\n").unwrap();
    let place = config_place(&configs.path().join("c.yaml"), None, 8000).unwrap();
    let talos_config = Some(TalosConfig { file: None, http_port: 8000 });
    let lab = Lab::start_for(check_source, example_catalog(), Some(&place), |machines| {
        let with_secrets = |(number, machine): (usize, &Arc<Machine>)| {
            // Machine 2 has its configuration in its arguments, as all of the lab have.
            let kernel_args = if number == 1 { Arc::clone(&machine.kernel_args) } else { "x=s3cr3t-too".into() };
            Arc::new(Machine { secrets, talos_config: talos_config.clone(), kernel_args, ..Machine::clone(machine) })
        };
        machines.iter().enumerate().map(with_secrets).collect()
    });
    (lab, configs)
}

fn now() -> u32 {
    guard::seconds(std::time::SystemTime::now())
}

fn tokens(mac: MacAddr, made: u32) -> Tokens {
    guard().tokens(mac, Ipv4Addr::LOCALHOST, made, 1)
}

/// Every place at which a machine's secrets could be, below this path of the machine.
fn places(path: MachinePath) -> Vec<String> {
    vec![
        format!("{path}.ipxe"),
        format!("{path}/config.yaml"),
        format!("{path}/talos.efi"),
        format!("/{path}//talos.efi"),
    ]
}

/// Asks by GET and by HEAD, and makes sure that the answer has this status and no secret.
async fn is_refused(lab: &Lab, path: &str, expected: u16) -> String {
    let (status, head, body) = lab.get_from(MACHINE, path).await;
    assert_eq!(status, expected, "{path}: {body}");
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let by_head = String::from_utf8(lab.raw_from(MACHINE, request.as_bytes()).await).unwrap();
    assert!(by_head.starts_with(&format!("HTTP/1.1 {expected} ")), "{path}: {by_head}");
    for secret in SECRETS {
        assert!(!(head.clone() + &body).contains(secret), "{path}: {body}");
    }
    body
}

/// Reads all events. None of them has a part of a token or a secret.
fn events(lab: &mut Lab) -> Vec<EventKind> {
    let mut events = Vec::new();
    while let Ok(event) = lab.events.try_recv() {
        events.push(event.kind);
    }
    let text = format!("{events:?}") + &serde_json::to_string(&events).unwrap();
    assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "{text}");
    let token = tokens(NODE_1, now()).boot.unwrap().text();
    // The time and the number of the boot are the same in all.
    assert!(!text.contains(str::from_utf8(&token[..4]).unwrap()), "{text}");
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_of_a_machine_with_secrets_is_not_enough() {
    let (mut lab, _configs) = start(true, Secrets::Guarded);
    let of_others = [
        "/ipxe?mac=52-54-00-00-00-01",
        "/ipxe?mac=52:54:00:00:00:01&arch=x86_64",
        "/grub?mac=52-54-00-00-00-01",
        "/grub/grub.cfg",
        "/assets/grub.cfg-01-52-54-00-00-00-01",
        "/grub.cfg-7F00000B",
        "/pxelinux.cfg/01-52-54-00-00-00-01",
        "/assets/pxelinux.cfg/7F00000B",
    ];
    let other_card = MachinePath::plain(MacAddr([0x52, 0x54, 0, 0, 0, 0xa1]));
    let places =
        [places(MachinePath::plain(NODE_1)), places(other_card), of_others.map(str::to_owned).to_vec()].concat();
    for path in &places {
        let body = is_refused(&lab, path, 403).await;
        assert!(body.contains("52:54:00:00:00:01 is not given to its IP address alone"), "{path}: {body}");
        assert!(body.contains("pxed.dev/secrets: by-address") && body.contains("DHCP"), "{path}: {body}");
    }
    for path in ["/metadata?mac=52-54-00-00-00-01", "/boot.ipxe"] {
        is_refused(&lab, path, 200).await;
    }
    for path in ["/ignition", "/generic", "/cloud"].map(|route| format!("{route}?mac=52-54-00-00-00-01")) {
        is_refused(&lab, &path, 404).await;
    }
    // The machine itself may have done nothing of all this.
    let mut count = 0;
    while let Ok(BootEvent { origin, kind, .. }) = lab.events.try_recv() {
        let is_refusal = matches!(&kind, EventKind::Failed { reason, .. } if reason.contains("its IP address alone"));
        assert!(!is_refusal || !origin.is_proven(), "{kind:?}");
        assert!(!format!("{kind:?}").contains(SECRETS[1]), "{kind:?}");
        count += usize::from(is_refusal);
    }
    assert!(count >= 12, "{count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_and_old_tokens_are_refused() {
    let (mut lab, _configs) = start(true, Secrets::Guarded);
    let good = tokens(NODE_1, now());
    let life = u32::try_from(Purpose::Config.life().as_secs()).unwrap();
    let flipped = |token: Option<Token>| token.map(|token| Token { nonce: token.nonce ^ 1, ..token });
    let elsewhere = guard().tokens(NODE_1, Ipv4Addr::new(127, 0, 0, 9), now(), 1);
    let foreign = Guard::new(&[8; KEY_LENGTH]).tokens(NODE_1, Ipv4Addr::LOCALHOST, now(), 1);
    for (name, Tokens { boot, config }) in [
        ("altered", Tokens { boot: flipped(good.boot), config: flipped(good.config) }),
        ("for each other's purpose", Tokens { boot: good.config, config: good.boot }),
        ("another machine's", tokens(MacAddr([0x52, 0x54, 0, 0, 0, 2]), now())),
        ("another card's", tokens(MacAddr([0x52, 0x54, 0, 0, 0, 0xa1]), now())),
        ("another address'", elsewhere),
        ("another node's", foreign),
        ("old", tokens(NODE_1, now() - life - 60)),
        ("from the future", tokens(NODE_1, now() + life + 60)),
    ] {
        let path = |token| MachinePath { mac: NODE_1, token };
        for place in [
            format!("{}.ipxe", path(boot)),
            format!("{}/talos.efi", path(boot)),
            format!("{}/config.yaml", path(config)),
        ] {
            let body = is_refused(&lab, &place, 403).await;
            assert!(body.contains("let 52:54:00:00:00:01 ask by DHCP again"), "{name}: {body}");
            assert_eq!(body.contains("expired"), ["old", "from the future"].contains(&name), "{name}: {body}");
        }
    }
    events(&mut lab);
    // The token alone does not do, either.
    let path = MachinePath { mac: NODE_1, token: good.boot };
    let (status, _, body) = lab.get_from(Ipv4Addr::new(127, 0, 0, 12), &format!("{path}.ipxe")).await;
    assert!(status == 403 && body.starts_with(ASKED_FROM), "{body}");
    // Refused as what they are, in the metrics.
    assert!(lab.metrics.refusals(Refused::Token) > 0 && lab.metrics.refusals(Refused::Source) == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_that_was_told_the_url_gets_everything_that_it_leads_to() {
    let (mut lab, _configs) = start(true, Secrets::Guarded);
    let path = MachinePath { mac: NODE_1, token: tokens(NODE_1, now()).boot };
    let (status, _, script) = lab.get(&format!("{path}.ipxe")).await;
    assert_eq!(status, 200, "{script}");
    assert!(script.contains("x=s3cr3t-too"), "{script}");
    let config = script.split_once("talos.config=http://127.0.0.1:8000").expect("a configuration").1;
    let config = config.split_whitespace().next().unwrap();
    assert!(MachinePath::split(config.as_bytes()).unwrap().0.token.is_some(), "{config}");
    let (status, _, text) = lab.get(config).await;
    assert_eq!((status, text.as_str()), (200, "machine: {token: s3cr3t}\n"));
    // Twice is as good: iPXE and Talos try again.
    assert_eq!(lab.get(&format!("{path}.ipxe")).await.0, 200);
    assert_eq!(lab.get(config).await.0, 200);
    let paths: Vec<_> = events(&mut lab)
        .into_iter()
        .filter_map(|event| match event {
            EventKind::Requested { path, .. } => Some(path.to_string()),
            _ => None,
        })
        .collect();
    let (script, config) = ("/boot/52-54-00-00-00-01/***.ipxe", "/boot/52-54-00-00-00-01/***/config.yaml");
    assert_eq!(paths, [script, config, script, config]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_script_leads_back_to_a_new_url() {
    let (lab, _configs) = start(true, Secrets::Guarded);
    let state = FileState::Fetching { done: 43, total: Some(100), rest: None };
    let files = [("initramfs-v1.13.0-amd64.xz".into(), ImageFile::from(state))].into();
    lab.images.store(Arc::new(Images::new(files, HashMap::default(), Stubs::default())));
    // It was made half a life ago.
    let made = now() - 1800;
    let path = MachinePath { mac: NODE_1, token: tokens(NODE_1, made).boot };
    let (status, _, script) = lab.get(&format!("{path}.ipxe")).await;
    assert_eq!(status, 200, "{script}");
    let line = script.lines().find(|line| line.trim_start().starts_with("chain ")).expect("a way back");
    let next = line.split_whitespace().find_map(|word| word.strip_prefix("http://127.0.0.1:8000")).expect("a URL");
    let token = MachinePath::split(next.as_bytes()).unwrap().0.token.unwrap();
    assert!(token.made >= now() - 60, "{}", token.made);
    assert_eq!(lab.get(next).await.0, 200);
    // Nobody else is told to wait there.
    is_refused(&lab, "/boot/52-54-00-00-00-01.ipxe", 403).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn way_to_the_disk_is_no_secret() {
    let (lab, _configs) = start(true, Secrets::Guarded);
    for path in [MachinePath::plain(HELD), MachinePath { mac: HELD, token: tokens(HELD, now()).boot }] {
        let (status, _, script) = lab.get_from(Ipv4Addr::new(127, 0, 0, 13), &format!("{path}.ipxe")).await;
        assert!(status == 200 && script.contains("boots from its own disk"), "{script}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_is_enough_where_the_spec_or_the_mode_says_so() {
    for (check_source, secrets) in [(true, Secrets::ByAddress), (true, Secrets::None), (false, Secrets::Guarded)] {
        let (lab, _configs) = start(check_source, secrets);
        for path in ["/boot/52-54-00-00-00-01.ipxe", "/ipxe?mac=52-54-00-00-00-01", "/pxelinux.cfg/7F00000B"] {
            let (status, _, text) = lab.get(path).await;
            assert!(status == 200 && text.contains("x=s3cr3t-too"), "{check_source} {secrets:?} {path}: {text}");
            assert!(text.contains("/boot/52-54-00-00-00-01/config.yaml "), "{text}");
        }
        assert_eq!(lab.get("/boot/52-54-00-00-00-01/config.yaml").await.0, 200, "{check_source} {secrets:?}");
    }
}
