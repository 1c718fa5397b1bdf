use clap::Args as _;

use super::*;
use crate::dataplane::Addressing;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn line(words: &[&str]) -> Args {
    let words = std::iter::once("pxed").chain(words.iter().copied());
    <Line as clap::Parser>::try_parse_from(words).unwrap().args
}

#[test]
fn command_line_wins_over_the_file_and_the_file_over_the_default() {
    let file =
        toml::from_str("cluster = [\"a.yaml\"]\nhttp-port = 8080\nlease-seconds = 600\nmode = \"proxy\"").unwrap();
    let options = line(&["--lease-seconds", "900"]).over(file).unwrap();
    assert_eq!(options.cluster, [PathBuf::from("a.yaml")]);
    assert_eq!((options.lease_seconds, options.http_port, options.mode), (900, 8080, Mode::Proxy));
    assert_eq!((options.unknown, options.datapath), (Unknown::Pass, Datapath::Auto));
}

#[test]
fn key_and_certificate_are_named_together() {
    let options = |words: &[&str]| line(&[&["--cluster", "a"], words].concat()).resolve();
    let both = options(&["--secure-boot-key", "k", "--secure-boot-cert", "c"]).unwrap();
    assert_eq!(both.secure_boot, Some(("k".into(), "c".into())));
    assert_eq!(options(&[]).unwrap().secure_boot, None);
    for (given, missing) in [("--secure-boot-key", "--secure-boot-cert"), ("--secure-boot-cert", "--secure-boot-key")] {
        let error = options(&[given, "f"]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{given} f: ")) && error.contains(missing), "{error}");
    }
    let file = toml::from_str("secure-boot-key = \"k\"").unwrap();
    let mixed = line(&["--cluster", "a", "--secure-boot-cert", "c"]).over(file).unwrap();
    assert_eq!(mixed.secure_boot, Some(("k".into(), "c".into())));
}

#[test]
fn admin_listener_is_found_where_the_server_finds_it() {
    let mut config = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut config, b"admin = \"http://127.0.0.1:9001/\"\nstate = \"/s\"").unwrap();
    let config = config.path();
    let (of_file, state) = admin_of_server(Some(config)).unwrap();
    assert_eq!(of_file.admin.unwrap().to_url(), "http://127.0.0.1:9001");
    assert_eq!(state, Path::new("/s"));
    let (usual, state) = admin_of_server(None).unwrap();
    assert_eq!((usual.admin, state), (None, "/var/lib/pxed/state".into()));
    assert!(admin_of_server(Some(Path::new("/nowhere.toml"))).unwrap_err().to_string().contains("/nowhere.toml"));
    let path = config.display().to_string();
    let server =
        |words: &[&str]| line(&[&["--cluster", "a"], words].concat()).resolve().unwrap().admin.tcp.unwrap().to_string();
    assert_eq!(server(&[]), "127.0.0.1:8001");
    assert_eq!(server(&["--config", &path]), "127.0.0.1:9001");
    assert_eq!(server(&["--config", &path, "--admin", "127.0.0.1:7001"]), "127.0.0.1:7001");
    let refused = line(&["--cluster", "a", "--admin", "http://pxed.example:8001"]).resolve().unwrap_err().to_string();
    assert!(refused.contains("ADDRESS:PORT"), "{refused}");
    assert!(toml::from_str::<Args>("admin = \"here\"").unwrap_err().to_string().contains("ADDRESS:PORT"));
}

/// The rule for every option is --the-name, PXED_THE_NAME, and the key the-name in the file.
#[test]
fn options_have_their_variable_and_their_key() {
    let mut options = 0;
    for argument in Args::augment_args(clap::Command::new("run")).get_arguments() {
        let name = argument.get_long().unwrap();
        let variable = format!("PXED_{}", name.replace('-', "_").to_uppercase());
        assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(&*variable), "--{name}");
        let unknown = toml::from_str::<Args>(&format!("{name} = {{}}")).unwrap_err().to_string();
        // A file cannot name another file.
        assert_eq!(unknown.contains("unknown field"), name == "config", "{name}: {unknown}");
        options += 1;
    }
    assert!(options > 24, "{options}");
}

#[test]
fn readme_has_every_option() {
    let readme = include_str!("../../../../README.md");
    let mut rows: Vec<_> = readme.lines().filter(|line| line.starts_with("| `--")).collect();
    for argument in Args::augment_args(clap::Command::new("run")).get_arguments() {
        let name = argument.get_long().unwrap();
        let variable = argument.get_env().unwrap().to_str().unwrap();
        let key = if name == "config" { String::new() } else { format!("`{name}` ") };
        let values = argument.get_possible_values();
        let values: Vec<_> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
        let many = if argument.get_num_args().is_some_and(|number| number.max_values() > 1) { "…" } else { "" };
        let value = match argument.get_value_names() {
            Some(names) if values.is_empty() => names.iter().map(ToString::to_string).collect(),
            _ => values.join("\\|"),
        };
        // A switch needs no value.
        let is_switch = argument.get_num_args().is_some_and(|number| number.min_values() == 0);
        let value = if is_switch { String::new() } else { format!(" {value}{many}") };
        let row = format!("| `--{name}{value}` | `{variable}` | {key}| ");
        let found = rows.iter().position(|line| line.starts_with(&row));
        let line = rows.swap_remove(found.unwrap_or_else(|| panic!("no row {row}…")));
        let default = line[row.len()..].split('`').nth(1).filter(|_| line[row.len()..].starts_with('`'));
        let help = argument.get_help().unwrap().to_string();
        let in_help = help.split_once("[default: ").map(|(_, default)| default);
        match (default, in_help) {
            (None, None) => {}
            (Some(default), Some(in_help)) if in_help.starts_with(default) => {}
            _ => panic!("--{name}: the README says {default:?}, the help says {in_help:?}"),
        }
    }
    assert!(rows.is_empty(), "there is no such option: {rows:?}");
}

#[test]
fn strictness_is_a_switch() {
    let strict = |words: &[&str]| line(&[&["--cluster", "a"], words].concat()).over(Args::default()).unwrap().strict;
    assert_eq!([strict(&[]), strict(&["--strict"])], [false, true]);
    assert_eq!([strict(&["--strict=false"]), strict(&["--strict=1"])], [false, true]);
    let file = || toml::from_str("cluster = [\"a\"]\nstrict = true").unwrap();
    assert!(line(&[]).over(file()).unwrap().strict && !line(&["--strict=false"]).over(file()).unwrap().strict);
}

#[test]
fn downloads_are_configured_from_either_place() {
    let file = "offline = true\nipxe-releases-url = \"http://mirror.example/gh\"\nbandwidth-limit = \"20M\"\ntalos-url = \"http://mirror.example/talos/\"\nca-certificates = \"/ca.pem\"";
    let file = || toml::from_str(file).unwrap();
    let options = line(&["--cluster", "a", "--ipxe-url", "https://mirror.example/ipxe"]).over(file()).unwrap();
    assert!(options.offline);
    assert_eq!(options.fetch.bandwidth_limit.map(std::num::NonZeroU64::get), Some(20_000_000));
    assert_eq!(options.fetch.ca_certificates, Some(PathBuf::from("/ca.pem")));
    let Upstreams { talos, factory, ipxe, ipxe_releases } = options.fetch.upstreams;
    let usual = Upstreams::default();
    assert_eq!(
        (&*talos, factory, &*ipxe, &*ipxe_releases),
        ("http://mirror.example/talos", usual.factory, "https://mirror.example/ipxe", "http://mirror.example/gh")
    );
    let given =
        ["--cluster", "a", "--offline=false", "--bandwidth-limit", "500k", "--talos-url", "http://other.example"];
    let options = line(&given).over(file()).unwrap();
    assert!(!options.offline && &*options.fetch.upstreams.talos == "http://other.example");
    assert_eq!(options.fetch.bandwidth_limit.map(std::num::NonZeroU64::get), Some(500_000));
    let plain = line(&["--cluster", "a"]).over(Args::default()).unwrap();
    assert!(!plain.offline && plain.fetch.upstreams == Upstreams::default() && plain.fetch.bandwidth_limit.is_none());
    for wrong in
        ["talos-url = \"ftp://a\"", "factory-url = \"mirror\"", "bandwidth-limit = \"fast\"", "bandwidth-limit = 0"]
    {
        assert!(toml::from_str::<Args>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn paths_may_follow_one_flag() {
    assert_eq!(line(&["--cluster", "a", "b", "--cluster", "c"]).over(Args::default()).unwrap().cluster.len(), 3);
}

#[test]
fn matchbox_directory_is_enough_and_brings_its_assets() {
    let options = |words: &[&str]| line(words).over(Args::default()).unwrap();
    let alone = options(&["--matchbox", "/m"]);
    assert_eq!((alone.cluster.len(), alone.artifacts), (0, PathBuf::from("/m/assets")));
    assert_eq!(options(&["--matchbox", "/m", "--artifacts", "/a"]).artifacts, PathBuf::from("/a"));
    assert_eq!(options(&["--cluster", "a"]).artifacts, PathBuf::from("/var/lib/pxed/artifacts"));
}

#[test]
fn options_that_make_no_sense_are_refused_with_a_reason() {
    let refused = |words: &[&str]| line(words).over(Args::default()).unwrap_err().to_string();
    assert!(refused(&[]).contains("--cluster"));
    assert!(refused(&["--cluster", "a", "--lease-seconds", "9"]).contains("10 seconds"));
    assert!(refused(&["--cluster", "a", "--http-port", "0"]).contains("port"));
    assert!(refused(&["--cluster", "a", "--unknown", "drop", "--datapath", "socket"]).contains("XDP"));
    assert!(toml::from_str::<Args>("http_port = 1").unwrap_err().to_string().contains("unknown field"));
}

#[test]
fn mirrors_are_named_in_either_place() {
    let peers = |words: &[&str], file: &str| -> Vec<String> {
        let options = line(&[&["--cluster", "a"], words].concat()).over(toml::from_str(file).unwrap()).unwrap();
        options.fetch.peers.iter().map(ToString::to_string).collect()
    };
    let (first, second) = ("http://10.0.0.2:8000", "http://10.0.0.3:8000");
    let file = format!("mirror = [\"{second}/\"]");
    assert_eq!(peers(&[], ""), [""; 0]);
    assert_eq!(peers(&[], &file), [second]);
    assert_eq!(peers(&["--mirror", first, second], ""), [first, second]);
    assert_eq!(peers(&["--mirror", first], &file), [first]);
    assert!(toml::from_str::<Args>("mirror = [\"10.0.0.2:8000\"]").is_err());
}

#[test]
fn addresses_to_serve_at_are_named_in_either_place() {
    let addressing = |words: &[&str], file: &str| {
        line(&[&["--cluster", "a"], words].concat()).over(toml::from_str(file).unwrap()).unwrap().node.addressing
    };
    let advertised = |addresses: &[[u8; 4]]| Addressing::OfNode {
        advertised: addresses.iter().copied().map(std::net::Ipv4Addr::from).collect(),
    };
    let file = "advertise = [\"10.0.0.2\"]";
    assert_eq!(addressing(&[], ""), Addressing::OfSpec);
    assert_eq!(addressing(&[], file), advertised(&[[10, 0, 0, 2]]));
    assert_eq!(addressing(&["--advertise", "10.0.0.3,10.0.0.4"], file), advertised(&[[10, 0, 0, 3], [10, 0, 0, 4]]));
    assert!(toml::from_str::<Args>("advertise = [\"here\"]").is_err());
}
