use super::*;
use crate::{admin::tests::start as start_server, journal::samples::machine};

fn machine_of(number: u32, hostname: Option<&str>) -> Arc<Machine> {
    Arc::new(Machine { hostname: hostname.map(Into::into), ..machine(number) })
}

#[test]
fn machine_is_found_by_any_of_its_names() {
    let second = MacAddr([2, 0, 0, 0, 0, 2]);
    let bonded = Machine { additional_macs: [second].into(), ..Machine::clone(&machine_of(1, Some("node-1"))) };
    let inventory = Inventory::new(vec![
        Arc::new(bonded.clone()),
        machine_of(2, Some("twin")),
        machine_of(3, Some("twin")),
        machine_of(4, None),
    ]);
    let expected = Target { macs: [bonded.mac, second].into(), address: Some(bonded.address) };
    let dashed = bonded.mac.to_string().replace(':', "-").to_uppercase();
    for name in
        [&bonded.mac.to_string(), &dashed, &second.to_string(), &bonded.address.to_string(), "node-1", " NODE-1 "]
    {
        let found = find(&inventory, name).unwrap();
        assert_eq!(found.target, expected, "{name}");
        assert!(found.about.contains("node-1") && found.about.contains(&bonded.mac.to_string()), "{}", found.about);
    }
    let stranger = find(&inventory, "52:54:00:ff:ff:fe").unwrap();
    assert_eq!(&*stranger.target.macs, [MacAddr([0x52, 0x54, 0, 0xff, 0xff, 0xfe])]);
    assert!(stranger.target.address.is_none() && stranger.about.contains("not a machine of the spec"));
    for (name, status, words) in [
        ("192.0.2.9", StatusCode::NOT_FOUND, "by its MAC address"),
        ("node-9", StatusCode::NOT_FOUND, "neither a MAC address nor"),
        ("", StatusCode::NOT_FOUND, "neither a MAC address nor"),
        ("ff:ff:ff:ff:ff:ff", StatusCode::BAD_REQUEST, "cannot be the address of one machine"),
        ("00:00:00:00:00:00", StatusCode::BAD_REQUEST, "cannot be the address of one machine"),
        ("twin", StatusCode::CONFLICT, "several machines have the host name twin: name one of "),
    ] {
        let (got, error) = find(&inventory, name).unwrap_err();
        assert!(got == status && error.contains(words), "{name}: {got} {error}");
    }
}

/// It has secrets, so whoever may only read gets none, and nobody can have more than a few.
#[tokio::test(flavor = "multi_thread")]
async fn capture_comes_by_the_socket_and_is_bounded_in_number() {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixStream,
    };
    let server = start_server(1).await;
    let path = "/api/v1/captures?machine=52:54:00:00:00:01";
    let headers = "content-type: application/json\r\n";
    let (status, body) = server.ask("POST", path, headers);
    assert!(status == 403 && body.contains("admin.sock"), "{status} {body}");
    let (status, _) = server.ask("GET", path, "");
    assert_eq!(status, 405);
    let begin = |query: &str| {
        let mut stream = UnixStream::connect(server.socket()).unwrap();
        write!(stream, "POST /api/v1/captures?{query} HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut head = [0; 4096];
        let length = stream.read(&mut head).unwrap();
        (stream, String::from_utf8_lossy(&head[..length]).into_owned())
    };
    tokio::task::block_in_place(|| {
        let running: Vec<_> = (0..4).map(|_| begin("machine=52:54:00:00:00:01")).collect();
        for (_, head) in &running {
            assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/x-pcapng"), "{head}");
        }
        let (_, head) = begin("machine=52:54:00:00:00:01");
        assert!(head.starts_with("HTTP/1.1 503") && head.contains("4 captures run already"), "{head}");
        drop(running);
        // Those whose clients have left end by themselves, and make room.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !begin("machine=52:54:00:00:00:01&seconds=1").1.starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "none has ended");
            std::thread::sleep(Duration::from_millis(100));
        }
        for (query, words) in
            [("", "machine"), ("machine=x&frames=1", "frames"), ("machine=52:54:00:00:00:01&seconds=x", "seconds")]
        {
            let (_, head) = begin(query);
            assert!(head.starts_with("HTTP/1.1 400") && head.contains(words), "{query}: {head}");
        }
    });
}
