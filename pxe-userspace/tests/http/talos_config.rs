//! Machine configurations of Talos by HTTP.

use pxe_userspace::artifacts::{CONFIG_LIMIT, config_place};

use super::*;

const PATH: &str = "/boot/52-54-00-00-00-01/config.yaml";
const SECRET: &str = "machine: {token: s3cr3t}\n";
const NODE_1_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const NODE_2_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);

/// Returns a directory with the configurations 1.yaml and 2.yaml.
fn configs() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("1.yaml"), SECRET).unwrap();
    std::fs::write(directory.path().join("2.yaml"), "two").unwrap();
    directory
}

/// Starts with the configurations of a directory, of which machines 1 and 2 have those of their number.
fn start(directory: &Path, check_source: bool) -> Lab {
    let place = config_place(directory, None, 8000).unwrap();
    let is_directory = place.is_directory;
    Lab::start_for(check_source, Catalog::default(), Some(&place), |machines| {
        let with_config = |machine: &Arc<Machine>| {
            let number = machine.mac.0[5];
            let file = is_directory.then(|| format!("{number}.yaml").into());
            let talos_config = (number <= 2).then_some(TalosConfig { file, http_port: 8000 });
            Arc::new(Machine { talos_config, ..Machine::clone(machine) })
        };
        machines.iter().map(with_config).collect()
    })
}

/// Returns the next two events: a request for the configuration, and the reason of its failure, or its length.
async fn attempt(lab: &mut Lab, path: &str) -> Result<u64, String> {
    let (artifact, transport) = (ArtifactKind::Config, Transport::Http);
    assert_eq!(lab.event().await, EventKind::Requested { artifact, transport, path: path.into() });
    match lab.event().await {
        EventKind::Failed { artifact: ArtifactKind::Config, reason, bytes: 0, .. } => Err(reason.to_string()),
        EventKind::Done { artifact: ArtifactKind::Config, bytes, .. } => Ok(bytes),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_gets_its_own_configuration_in_every_spelling() {
    let configs = configs();
    let mut lab = start(configs.path(), true);
    for path in [
        PATH,
        "/boot/52:54:00:00:00:01/config.yaml",
        "/boot/525400000001/config.yaml",
        // Another card of the machine.
        "/boot/52-54-00-00-00-a1/config.yaml",
    ] {
        let (status, head, text) = lab.get(path).await;
        assert_eq!((status, text.as_str()), (200, SECRET), "{path}");
        assert!(head.contains("Content-Type: application/yaml\r\n"), "{head}");
        assert_eq!(attempt(&mut lab, path).await, Ok(SECRET.len() as u64));
    }
    let (status, _, text) = lab.get(&format!("/{PATH}?x=y")).await;
    assert_eq!((status, text.as_str()), (200, SECRET), "doubled slashes and a query");
    assert_eq!(attempt(&mut lab, PATH).await, Ok(SECRET.len() as u64));

    let request = format!("HEAD {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let head = String::from_utf8(lab.raw_from(NODE_1_ADDRESS, request.as_bytes()).await).unwrap();
    let length = format!("Content-Length: {}\r\n", SECRET.len());
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains(&length) && head.ends_with("\r\n\r\n"), "{head}");
    let request = format!("DELETE {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(lab.raw_from(NODE_1_ADDRESS, request.as_bytes()).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(lab.events.is_empty());

    // Talos unpacks what gzip packed.
    std::fs::write(configs.path().join("1.yaml"), b"\x1f\x8b\x08packed").unwrap();
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = lab.raw_from(NODE_1_ADDRESS, request.as_bytes()).await;
    assert!(answer.ends_with(b"\r\n\r\n\x1f\x8b\x08packed"), "{}", answer.escape_ascii());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_is_for_its_own_machine_alone() {
    let configs = configs();
    // In proxy mode scripts are given to anybody, and secrets are not.
    for check_source in [true, false] {
        let lab = start(configs.path(), check_source);
        for other in [NODE_2_ADDRESS, Ipv4Addr::new(127, 0, 0, 99)] {
            let (status, _, text) = lab.get_from(other, PATH).await;
            let reason = format!(
                "asked from {other}, but only 127.0.0.11 may get the machine configuration of 52:54:00:00:00:01"
            );
            assert_eq!((status, text), (403, format!("{reason}\n")));
        }
        assert_eq!(lab.metrics.refusals(Refused::Source), 2);
        for path in [
            "/boot/52-54-00-00-00-09/config.yaml",
            "/boot/52-54-00-00-00-01/config.yaml/",
            "/boot/52-54-00-00-00-01/sub/config.yaml",
            "/boot/52-54-00-00-00-01/1.yaml",
            "/boot/52-54-00-00-00-01/../52-54-00-00-00-01/config.yaml",
            "/boot/52-54-00-00-00-01/CONFIG.YAML",
            "/boot/52-54-00-00-00-01/",
            "/boot/config.yaml",
            "/assets/1.yaml",
            "/assets/config.yaml",
            "/assets/boot/52-54-00-00-00-01/config.yaml",
            "/assets/../1.yaml",
            "/1.yaml",
        ] {
            let (status, _, text) = lab.get(path).await;
            assert!(
                matches!(status, 403 | 404) && !text.is_empty() && !text.contains("s3cr3t"),
                "{path}: {status} {text}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_that_cannot_be_had_is_an_answer_with_a_body_and_a_failure_with_the_path() {
    let configs = configs();
    let file = configs.path().join("1.yaml");
    let mut lab = start(configs.path(), true);
    let shown = file.display();
    std::fs::remove_file(&file).unwrap();
    let (status, _, text) = lab.get(PATH).await;
    assert_eq!((status, text.as_str()), (404, "no machine configuration\n"));
    assert_eq!(attempt(&mut lab, PATH).await, Err(format!("{shown}: no such file")));

    std::fs::write(&file, "").unwrap();
    let (status, _, text) = lab.get(PATH).await;
    assert_eq!((status, text.as_str()), (500, "empty machine configuration\n"));
    assert_eq!(attempt(&mut lab, PATH).await, Err(format!("{shown}: the file is empty")));

    std::fs::File::create(&file).unwrap().set_len(CONFIG_LIMIT + 1).unwrap();
    let (status, _, text) = lab.get(PATH).await;
    assert_eq!((status, text.as_str()), (500, "machine configuration too long\n"));
    assert!(attempt(&mut lab, PATH).await.unwrap_err().contains("the file has 4194305 bytes, and 4194304 are allowed"));

    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    let (status, _, text) = lab.get(PATH).await;
    assert_eq!((status, text.as_str()), (404, "no machine configuration\n"));
    assert!(attempt(&mut lab, PATH).await.unwrap_err().contains("is a symbolic link to /etc/passwd"));

    // No restart is needed when it is there.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, SECRET).unwrap();
    assert_eq!(lab.get(PATH).await.2, SECRET);
    assert_eq!(attempt(&mut lab, PATH).await, Ok(SECRET.len() as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_for_all_machines_is_for_their_addresses_alone() {
    let configs = configs();
    let lab = start(&configs.path().join("1.yaml"), true);
    assert_eq!(lab.get(PATH).await.2, SECRET);
    assert_eq!(lab.get_from(NODE_2_ADDRESS, "/boot/52-54-00-00-00-02/config.yaml").await.2, SECRET);
    assert_eq!(lab.get_from(NODE_2_ADDRESS, PATH).await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_without_a_configuration_is_told_so() {
    let configs = configs();
    let lab = start(configs.path(), true);
    let (status, _, text) = lab.get_from(Ipv4Addr::new(127, 0, 0, 13), "/boot/52-54-00-00-00-03/config.yaml").await;
    assert_eq!((status, text.as_str()), (404, "no machine configuration\n"));
    let mut lab = Lab::start();
    let (status, _, text) = lab.get(PATH).await;
    assert_eq!((status, text.as_str()), (404, "no machine configuration\n"));
    assert!(attempt(&mut lab, PATH).await.unwrap_err().contains("name one with --talos-config"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_is_named_in_every_way_of_booting() {
    let configs = configs();
    let place = config_place(configs.path(), None, 8000).unwrap();
    let lab = Lab::start_for(true, Catalog::default(), Some(&place), |machines| {
        let with_config = |machine: &Arc<Machine>| {
            let config = TalosConfig { file: Some("1.yaml".into()), http_port: 8000 };
            Arc::new(Machine { talos_config: Some(config), kernel_args: "own=1".into(), ..Machine::clone(machine) })
        };
        machines.iter().map(with_config).collect()
    });
    let expected = "talos.config=http://127.0.0.1:8000/boot/52-54-00-00-00-01/config.yaml own=1";
    for path in
        ["/boot/52-54-00-00-00-01.ipxe", "/ipxe?mac=52-54-00-00-00-01", "/grub?mac=52-54-00-00-00-01", "/grub/grub.cfg"]
    {
        let (status, _, text) = lab.get(path).await;
        assert!(status == 200 && text.contains(expected), "{path}: {text}");
        assert!(!text.contains("s3cr3t"));
    }
    let (_, _, u_boot) = lab.get("/pxelinux.cfg/01-52-54-00-00-00-01").await;
    assert!(u_boot.contains(expected), "{u_boot}");
}
