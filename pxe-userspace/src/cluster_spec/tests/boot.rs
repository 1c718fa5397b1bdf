//! `pxed.dev/boot` and `pxed.dev/talos-config`.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use super::{
    super::{Loader, TalosConfigs},
    Files,
    errors::findings,
};
use crate::{
    boot::talos,
    model::{
        artifact_names::PLAIN_SCHEMATIC,
        boot_method::BootMethod,
        dhcp_answers::DhcpAnswers,
        inventory::{Inventory, Machine},
        secrets::Secrets,
        talos_config::{ConfigPlace, TalosConfig},
        token::TOKEN_LENGTH,
    },
    uki::command_line::LIMIT,
};

/// Returns a cluster with the machines 10.0.0.11 (with kernel arguments, if any) and 10.0.0.12, and these lines of annotations from line 6
/// on.
fn cluster_with(annotations: &str, arguments: &str) -> String {
    let annotations = annotations.lines().fold(String::new(), |text, line| text + "    " + line + "\n");
    format!(
        "apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosCluster
metadata:
  name: lab
  annotations:
{annotations}spec:
  pxeServerSpec: {{address: 10.0.0.1, interface: eth1}}
  workerRef: {{name: rack}}
---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosWorker
metadata: {{name: rack}}
spec:
  version: v1.13.0
  mode: metal
  metalSpec:
    machines:
      - address: 10.0.0.11
        pxeClientSpec: {{macAddress: 52:54:00:00:00:11, cpuArchitecture: amd64, kernelCmdlineArgs: '{arguments}'}}
      - address: 10.0.0.12
        pxeClientSpec: {{macAddress: 52:54:00:00:00:12, cpuArchitecture: arm64}}
"
    )
}

fn cluster(annotations: &str) -> String {
    cluster_with(annotations, "")
}

fn machine(inventory: &Inventory, number: u8) -> Arc<Machine> {
    Arc::clone(inventory.by_address(Ipv4Addr::new(10, 0, 0, number)).unwrap())
}

fn load(text: &str) -> Arc<Inventory> {
    let loaded = Files::new(&[("c.yaml", text)]).load().unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.inventory
}

/// Returns the way to boot and the machine configuration of both machines.
fn settings(text: &str) -> [(&'static str, Option<String>); 2] {
    let inventory = load(text);
    [11, 12].map(|number| {
        let machine = machine(&inventory, number);
        (
            machine.boot.name(),
            machine.talos_config.as_ref().and_then(|config| config.file.as_ref()).map(ToString::to_string),
        )
    })
}

fn of(boot: &'static str, config: &str) -> (&'static str, Option<String>) {
    (boot, Some(config.to_owned()).filter(|config| !config.is_empty()))
}

/// The role's own resource has its annotations in one line.
fn with_role(text: &str, annotations: &str) -> String {
    text.replace("metadata: {name: rack}", &format!("metadata: {{name: rack, annotations: {{{annotations}}}}}"))
}

#[test]
fn settings_hold_at_every_level_and_the_nearest_counts() {
    let none = "other.dev/x: y";
    let of_cluster = "pxed.dev/boot: uki\npxed.dev/talos-config: all.yaml";
    let own = "---
apiVersion: talos.alperen.cloud/v1alpha1
kind: TalosMachine
metadata: {name: m11, annotations: {pxed.dev/boot: ipxe, pxed.dev/talosConfig: own.yaml}}
spec:
  endpoint: 10.0.0.11
  version: v1.13.0
  workerRef: {name: rack}
  pxeClientSpec: {macAddress: 52:54:00:00:00:11, cpuArchitecture: amd64}
";
    for (text, expected) in [
        (cluster(none), [of("ipxe", ""), of("ipxe", "")]),
        (cluster(of_cluster), [of("uki", "all.yaml"), of("uki", "all.yaml")]),
        (
            with_role(&cluster(of_cluster), "pxed.dev/boot: ipxe, pxed.dev/talos-config: role/w.yaml"),
            [of("ipxe", "role/w.yaml"), of("ipxe", "role/w.yaml")],
        ),
        (
            cluster("pxed.dev/boot.52-54-00-00-00-12: uki\npxed.dev/talos-config.10.0.0.11: 11.yaml"),
            [of("ipxe", "11.yaml"), of("uki", "")],
        ),
        (
            cluster(&format!("{of_cluster}\npxed.dev/machines: |\n  10.0.0.12: {{boot: ipxe, talosConfig: 12.yaml}}")),
            [of("uki", "all.yaml"), of("ipxe", "12.yaml")],
        ),
        (
            cluster("pxed.dev/machines: |\n  10.0.0.11: {boot: uki, talos-config: ' a b/é.yaml '}"),
            [of("uki", "a b/é.yaml"), of("ipxe", "")],
        ),
        (cluster(of_cluster) + own, [of("ipxe", "own.yaml"), of("uki", "all.yaml")]),
    ] {
        assert_eq!(settings(&text), expected, "{text}");
    }
}

#[test]
fn ways_to_boot_have_the_names_of_the_readme() {
    let image = format!(
        "    machineSpec: {{image: factory.talos.dev/metal-installer/{PLAIN_SCHEMATIC}:v1.13.0}}\n    machines:\n"
    );
    for method in BootMethod::ALL {
        let text = cluster(&format!("pxed.dev/boot: {}", method.name())).replace("    machines:\n", &image);
        assert_eq!(settings(&text).map(|(boot, _)| boot), [method.name(); 2], "{text}");
    }
}

#[test]
fn mistakes_are_errors_with_their_place() {
    let long = format!("{}.yaml", "d/".repeat(600));
    let long_part = "x".repeat(256);
    for (value, expected) in [
        ("boot: UKI", "pxed.dev/boot: \"UKI\" is not a way to boot: write ipxe, uki or factory-uki"),
        ("boot: ''", "pxed.dev/boot: \"\" is not a way to boot"),
        ("boot: [uki]", "pxed.dev/boot: is a list, but must be text"),
        ("bot: uki", "pxed.dev/bot: is not an annotation of pxed: did you mean pxed.dev/boot?"),
        ("talosConfg: x", "pxed.dev/talosConfg: is not an annotation of pxed: did you mean pxed.dev/talos-config?"),
        ("talos-config: ''", "pxed.dev/talos-config: is empty: write the path of a file below"),
        ("talos-config: ' '", "pxed.dev/talos-config: is empty"),
        ("talos-config: /etc/shadow", "pxed.dev/talos-config: is an absolute path"),
        ("talos-config: ../x.yaml", "pxed.dev/talos-config: leaves its directory"),
        ("talos-config: a/../x.yaml", "pxed.dev/talos-config: leaves its directory"),
        ("talos-config: ..", "pxed.dev/talos-config: leaves its directory"),
        ("talos-config: a//x.yaml", "pxed.dev/talos-config: has an empty part"),
        ("talos-config: ./x.yaml", "pxed.dev/talos-config: has an empty part"),
        ("talos-config: a/", "pxed.dev/talos-config: has an empty part"),
        ("talos-config: a\\x.yaml", "pxed.dev/talos-config: has a backslash"),
        ("talos-config: \"a\\0.yaml\"", "pxed.dev/talos-config: has the control character U+0000"),
        ("talos-config: \"a\\nb\"", "pxed.dev/talos-config: has the control character U+000A"),
        ("talos-config: http://10.0.0.9/x.yaml", "pxed.dev/talos-config: is a URL"),
        ("talos-config: {a: b}", "pxed.dev/talos-config: is a mapping, but must be text"),
        (&format!("talos-config: {long}"), "pxed.dev/talos-config: is 1205 bytes long, and 1024 are allowed"),
        (&format!("talos-config: {long_part}"), "pxed.dev/talos-config: has a file name of 256 bytes"),
    ] {
        let (errors, _) = findings(&cluster(&format!("pxed.dev/{value}")));
        let [error] = &errors[..] else { panic!("{value}: {errors:#?}") };
        assert!(error.starts_with("6:") && error.contains(&format!("metadata.annotations.{expected}")), "{error}");
    }
    let (errors, _) =
        findings(&cluster("pxed.dev/machines: '{10.0.0.11: {boot: uki}, 10.0.0.12: {boot: x, talosConfig: /y}}'"));
    assert!(errors.len() == 2 && errors.iter().all(|error| error.contains("machines.10.0.0.12.")), "{errors:#?}");
}

#[test]
fn command_line_that_the_stub_would_cut_is_an_error_of_its_machine_alone() {
    let talos =
        talos::arguments(&machine(&load(&cluster("other.dev/x: y")), 11), Ipv4Addr::UNSPECIFIED, None).len() + 1;
    for (boot, length, expected) in [
        ("uki", LIMIT, None),
        ("uki", LIMIT + 1, Some("makes a kernel command line of 2048 bytes (")),
        ("uki", 4000, Some("makes a kernel command line of 4000 bytes (")),
        ("ipxe", 4000, None),
    ] {
        let arguments = "x".repeat(length - talos);
        let text = cluster_with(&format!("pxed.dev/boot: {boot}"), &arguments);
        let files = Files::new(&[("c.yaml", &text)]);
        let loaded = Loader::new().load(&[files.directory.path().to_owned()]);
        let served: Vec<_> = loaded.inventory.machines().iter().map(|machine| machine.address.octets()[3]).collect();
        let errors: Vec<_> = loaded.faults.faults.iter().map(|fault| fault.finding.to_string()).collect();
        match expected {
            None => assert!(served == [11, 12] && errors.is_empty(), "{boot} {length}: {errors:#?}"),
            Some(expected) => {
                assert_eq!(served, [12], "{boot} {length}");
                let [error] = &errors[..] else { panic!("{errors:#?}") };
                let place = "c.yaml:19:9: spec.metalSpec.machines[0].pxeClientSpec.kernelCmdlineArgs: ";
                assert!(error.contains(&format!("{place}{expected}")), "{error}");
                assert!(error.contains(&format!("shorten it by {},", length - LIMIT)), "{error}");
                assert!(error.contains(&format!("has room for {LIMIT}")), "{error}");
            }
        }
    }
}

#[test]
fn character_that_the_stub_would_drop_is_an_error_of_its_machine_alone() {
    let served = |boot: &str, arguments: &str| {
        let text = cluster_with(&format!("pxed.dev/boot: {boot}"), arguments);
        let files = Files::new(&[("c.yaml", &text)]);
        let loaded = Loader::new().load(&[files.directory.path().to_owned()]);
        let errors: Vec<_> = loaded.faults.faults.iter().map(|fault| fault.finding.to_string()).collect();
        (loaded.inventory.machines().len(), errors)
    };
    assert_eq!(served("uki", "note=grüße-€"), (2, vec![]));
    assert_eq!(served("ipxe", "note=😀"), (2, vec![]));
    let (machines, errors) = served("uki", "note=😀");
    let expected = "c.yaml:19:9: spec.metalSpec.machines[0].pxeClientSpec.kernelCmdlineArgs: the kernel command line has the \
                    character '😀' (U+1F600), and EFI stubs drop characters above U+FFFF: remove it, or set boot ipxe";
    assert!(machines == 1 && errors.len() == 1 && errors[0].contains(expected), "{errors:#?}");
}

#[test]
fn settings_that_do_not_go_together_are_one_warning_for_all_machines() {
    const ANNOTATION: &str = "metadata.annotations.pxed.dev";
    for (annotations, arguments, expected) in [
        ("pxed.dev/boot: uki", "a=b", &[][..]),
        ("pxed.dev/boot: uki\npxed.dev/loader: {bios: ipxe.pxe}", "", &[]),
        ("pxed.dev/boot: uki\npxed.dev/loader: {uefi-ia32: grubia32.efi}", "", &[]),
        ("pxed.dev/boot: uki\npxed.dev/loader: {uefi-x64: snponly, uefi-arm64: shim/shimaa64.efi}", "", &[]),
        ("pxed.dev/boot: ipxe\npxed.dev/loader: grubx64.efi", "", &[]),
        ("pxed.dev/loader: {uefi-x64: x64/ipxe-shimx64.efi, uefi-arm64: arm/ipxe-shimaa64.efi}", "", &[]),
        ("pxed.dev/loader: {uefi-x64: ipxe-shimx64.efi, uefi-arm64: snponly-shimaa64.efi}", "", &[]),
        ("pxed.dev/loader: {uefi-x64: ipxe.efi, uefi-arm64: snponly-shimaa64.efi}", "", &[]),
        (
            "pxed.dev/loader: {uefi-x64: ipxe-shimx64.efi, uefi-arm64: ipxe-shimaa64.efi}",
            "",
            &["pxed.dev/loader: has 10.0.0.12 start a file that iPXE's shim starts on another architecture"],
        ),
        (
            "pxed.dev/boot: uki\npxed.dev/loader: {uefi-x64: a/snponly-shim.efi, uefi-arm64: a/snponly-shim.efi}",
            "",
            &["a directory for each architecture"],
        ),
        (
            "pxed.dev/loader: {uefi-x64: ipxe.efi, uefi-arm64: ipxe-shimaa64.efi}",
            "",
            &["pxed.dev/loader: has 10.0.0.12 start a file"],
        ),
        (
            "pxed.dev/boot: uki\npxed.dev/loader: grubx64.efi",
            "",
            &[
                "7:22: metadata.annotations.pxed.dev/loader: is loaded by 10.0.0.11 and 1 more in place of the unified kernel image",
            ],
        ),
        (
            "pxed.dev/boot: factory-uki",
            "a=b",
            &["kernelCmdlineArgs of 10.0.0.11 are not used", "the image of 10.0.0.11 and 1 more names no schematic"],
        ),
        (
            "pxed.dev/boot.10.0.0.12: factory-uki\npxed.dev/talos-config: all.yaml",
            "",
            &["the image of 10.0.0.12 names no schematic", "pxed.dev/talos-config: has no effect for 10.0.0.12:"],
        ),
    ] {
        let text = cluster_with(annotations, arguments);
        let (errors, mut warnings) = findings(&text);
        assert_eq!((errors.len(), warnings.len()), (0, expected.len()), "{annotations}: {errors:#?} {warnings:#?}");
        for expected in expected {
            let found = warnings.iter().position(|warning| warning.contains(expected));
            let found = found.unwrap_or_else(|| panic!("{annotations}: {expected} is not in {warnings:#?}"));
            assert!(warnings.swap_remove(found).contains(ANNOTATION));
        }
    }
    let schematic = "ab".repeat(32);
    let text = cluster("pxed.dev/boot: factory-uki").replace(
        "    machines:\n",
        &format!("    machineSpec: {{image: factory.talos.dev/metal-installer-secureboot/{schematic}:v1.13.0}}\n    machines:\n"),
    );
    assert_eq!(machine(&load(&text), 11).boot, BootMethod::FactoryUki);
}

/// Loads with this place of machine configurations. Returns the errors, and of each machine that is served its configuration.
fn with_configs(text: &str, configs: TalosConfigs) -> (Vec<String>, Vec<Option<TalosConfig>>) {
    let files = Files::new(&[("c.yaml", text)]);
    let loaded = Loader::new().with_talos_configs(configs).load(&[files.directory.path().to_owned()]);
    let findings: Vec<_> = loaded.faults.faults.iter().map(|fault| fault.finding.clone()).collect();
    let configs = loaded.inventory.machines().iter().map(|machine| machine.talos_config.clone());
    (files.relative(&findings), configs.collect())
}

#[test]
fn configuration_comes_from_the_directory_or_is_the_file_of_all() {
    let place = |is_directory| {
        TalosConfigs::At(ConfigPlace { path: Path::new("/etc/pxed/talos").into(), is_directory, http_port: 8080 })
    };
    let config = |file: Option<&str>| Some(TalosConfig { file: file.map(Arc::from), http_port: 8080 });
    let one = cluster("pxed.dev/talos-config.10.0.0.11: 11.yaml");
    let none = cluster("other.dev/x: y");
    assert_eq!(with_configs(&none, TalosConfigs::Nowhere), (vec![], vec![None, None]));
    assert_eq!(with_configs(&none, place(true)), (vec![], vec![None, None]));
    assert_eq!(with_configs(&none, place(false)), (vec![], vec![config(None), config(None)]));
    assert_eq!(with_configs(&one, place(true)), (vec![], vec![config(Some("11.yaml")), None]));
}

#[test]
fn configuration_without_a_directory_is_one_error_of_its_machines() {
    let file = || {
        TalosConfigs::At(ConfigPlace {
            path: Path::new("/etc/pxed/all.yaml").into(),
            is_directory: false,
            http_port: 80,
        })
    };
    let one = cluster("pxed.dev/talos-config.10.0.0.11: 11.yaml");
    let all = cluster("pxed.dev/talos-config: all.yaml");
    let field = "metadata.annotations.pxed.dev/talos-config";
    let (errors, served) = with_configs(&one, TalosConfigs::Nowhere);
    let expected = format!(
        "c.yaml:6:38: {field}.10.0.0.11: names the machine configuration 11.yaml, and there is no directory to take it from: name that \
         with --talos-config DIR"
    );
    assert_eq!((errors, served.len()), (vec![expected], 1));
    let (errors, served) = with_configs(&all, TalosConfigs::Nowhere);
    assert_eq!((errors.len(), served.len()), (1, 0), "{errors:#?}");
    let (errors, served) = with_configs(&all, file());
    assert!(
        errors.len() == 1 && errors[0].contains("--talos-config /etc/pxed/all.yaml is one file for all"),
        "{errors:#?}"
    );
    assert_eq!(served, []);
    // Both machines have their own, so these are two mistakes.
    let both = cluster("pxed.dev/machines: |\n  10.0.0.11: {talosConfig: a}\n  10.0.0.12: {talosConfig: a}");
    assert_eq!(with_configs(&both, TalosConfigs::Nowhere).0.len(), 2);
}

#[test]
fn url_of_the_configuration_counts_for_the_command_line() {
    let place = || TalosConfigs::At(ConfigPlace { path: Path::new("/x").into(), is_directory: false, http_port: 8000 });
    let talos =
        talos::arguments(&machine(&load(&cluster("other.dev/x: y")), 11), Ipv4Addr::UNSPECIFIED, None).len() + 1;
    let text = |length: usize| cluster_with("pxed.dev/boot: uki", &"x".repeat(length));
    // It has secrets, and so the URL has an unguessable part. A node answers with its own address, which may be longer than that of the spec.
    let url = " talos.config=http://192.168.100.200:8000/boot/52-54-00-00-00-11//config.yaml".len() + TOKEN_LENGTH;
    let room = LIMIT - talos - url;
    assert_eq!(with_configs(&text(room), place()).0, Vec::<String>::new());
    let (errors, served) = with_configs(&text(room + 1), place());
    assert!(errors.len() == 1 && errors[0].contains("makes a kernel command line of 2048 bytes"), "{errors:#?}");
    assert_eq!(served.len(), 1);
    assert_eq!(with_configs(&text(room + 1), TalosConfigs::Nowhere).0, Vec::<String>::new());
}

#[test]
fn configuration_that_the_arguments_name_already_is_pointed_out() {
    for (arguments, is_warned) in
        [("talos.config=http://x", true), ("a talos.config.inline=x", true), ("talos.config.early=x", false)]
    {
        let (_, warnings) = findings(&cluster_with("pxed.dev/talos-config: all.yaml", arguments));
        let expected =
            "pxed.dev/talos-config: is not used for 10.0.0.11: kernelCmdlineArgs name a machine configuration already";
        assert_eq!(
            warnings.iter().filter(|warning| warning.contains(expected)).count(),
            usize::from(is_warned),
            "{warnings:#?}"
        );
        assert_eq!(warnings.len(), usize::from(is_warned));
    }
}

#[test]
fn secrets_are_guarded_unless_an_annotation_says_otherwise() {
    let load_with = |annotation: &str, arguments: &str| load(&cluster_with(annotation, arguments));
    let secrets = |annotation: &str, arguments: &str| machine(&load_with(annotation, arguments), 11).secrets;
    for (annotation, arguments, expected) in [
        ("other.dev/x: y", "console=ttyS0", Secrets::None),
        ("other.dev/x: y", "talos.config.inline=x", Secrets::Guarded),
        ("pxed.dev/secrets: auto", "talos.config.inline=x", Secrets::Guarded),
        ("pxed.dev/secrets: guarded", "console=ttyS0", Secrets::Guarded),
        ("pxed.dev/secrets: by-address", "talos.config.inline=x", Secrets::ByAddress),
        ("pxed.dev/secrets.10.0.0.11: by-address", "talos.config.inline=x", Secrets::ByAddress),
        ("pxed.dev/machines: |\n  10.0.0.11: {secrets: by-address}", "talos.config.inline=x", Secrets::ByAddress),
        ("pxed.dev/talos-config: a.yaml", "console=ttyS0", Secrets::Guarded),
        ("pxed.dev/talos-config: a.yaml\npxed.dev/secrets: by-address", "console=ttyS0", Secrets::ByAddress),
    ] {
        if annotation.contains("talos-config") {
            let place = ConfigPlace { path: Path::new("/x").into(), is_directory: true, http_port: 8000 };
            let (errors, served) = with_configs(&cluster_with(annotation, arguments), TalosConfigs::At(place));
            assert!(errors.is_empty() && !served.is_empty(), "{errors:?}");
            continue;
        }
        assert_eq!(secrets(annotation, arguments), expected, "{annotation} {arguments}");
    }
    for (value, error) in [
        ("secrets: yes", "pxed.dev/secrets: \"yes\" is not a way to guard secrets: write auto, guarded or by-address"),
        (
            "dhcp-answers: both",
            "pxed.dev/dhcp-answers: \"both\" is not a kind of DHCP answers: write unicast or broadcast",
        ),
        ("secret: x", "did you mean pxed.dev/secrets?"),
    ] {
        let (errors, _) = findings(&cluster(&format!("pxed.dev/{value}")));
        assert!(errors.len() == 1 && errors[0].contains(error), "{errors:?}");
    }
    let answers = |annotation: &str| machine(&load(&cluster(annotation)), 11).answers;
    assert_eq!(answers("pxed.dev/dhcp-answers: broadcast"), DhcpAnswers::Broadcast);
    assert_eq!(answers("pxed.dev/machines: |\n  10.0.0.11: {dhcpAnswers: broadcast}"), DhcpAnswers::Broadcast);
    assert_eq!(answers("pxed.dev/dhcp-answers.10.0.0.12: broadcast"), DhcpAnswers::Unicast);
}

#[test]
fn secrets_behind_grub_are_pointed_out() {
    let hint = "has 10.0.0.11 ask for a configuration by TFTP";
    for (annotations, arguments, is_hinted) in [
        ("pxed.dev/loader: shimx64.efi", "a.b=secret", true),
        ("pxed.dev/loader: grubnetx64.efi", "a.b=secret", true),
        ("pxed.dev/loader: shimx64.efi", "quiet", false),
        ("pxed.dev/loader: shimx64.efi\npxed.dev/secrets: by-address", "a.b=secret", false),
        ("pxed.dev/loader: shimx64.efi\npxed.dev/boot: uki", "a.b=secret", false),
        ("pxed.dev/loader: snponly", "a.b=secret", false),
        ("pxed.dev/loader: x86_64-sb/ipxe-shimx64.efi", "a.b=secret", false),
    ] {
        let (errors, warnings) = findings(&cluster_with(annotations, arguments));
        assert_eq!(
            warnings.iter().any(|warning| warning.contains(hint)),
            is_hinted,
            "{annotations} {errors:?} {warnings:?}"
        );
    }
}
