//! Matchbox's routes, for machines of the fleet and for those of a Matchbox directory.

use std::{ffi::OsStr, net::Ipv4Addr, os::unix::ffi::OsStrExt as _};

use pxe_userspace::cluster_spec::matchbox::{self, Catalog};

use crate::Lab;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_answer_for_a_machine_as_matchbox_does() {
    let lab = Lab::start();
    let boot = "#!ipxe\nchain ipxe?uuid=${uuid}&mac=${mac:hexhyp}&domain=${domain}&hostname=${hostname}\
                &serial=${serial}&arch=${buildarch:uristring}\n";
    let ipxe = "#!ipxe\nkernel /assets/vmlinuz-v1.13.0-amd64 initrd=initramfs.xz talos.platform=metal slab_nomerge pti=on \
                console=tty0 consoleblank=0 printk.devkmsg=on init_on_alloc=1 nvme_core.io_timeout=4294967295 selinux=1 \
                module.sig_enforce=1 proc_mem.force_override=never talos.config.inline=a+b/c= ${nothing} x\n\
                initrd --name initramfs.xz /assets/initramfs-v1.13.0-amd64.xz\nboot\n";
    for (path, status, body) in [
        ("/", 200, "matchbox\n"),
        ("/boot.ipxe", 200, boot),
        ("/boot.ipxe.0", 200, boot),
        ("/ipxe?uuid=&mac=52-54-00-00-00-01&domain=&hostname=&serial=&arch=x86%5F64", 200, ipxe),
        ("/ipxe?mac=52:54:00:00:00:01", 200, ipxe),
        ("/ipxe?mac=52%3a54%3A00:00:00:01&arch=i386", 200, ipxe),
        ("/ipxe?mac=5254.0000.0001", 200, ipxe),
        ("/ipxe?mac=525400000001&mac=52:54:00:00:00:02", 200, ipxe),
        ("/generic?mac=52:54:00:00:00:01", 404, "404 page not found\n"),
        ("/ignition?mac=52:54:00:00:00:01", 404, "404 page not found\n"),
        ("/cloud?mac=52:54:00:00:00:01", 404, "404 page not found\n"),
        ("/elsewhere", 404, "404 page not found\n"),
        // The base URL ends in a slash.
        ("//", 200, "matchbox\n"),
        ("//boot.ipxe", 200, boot),
        ("/./boot.ipxe.0", 200, boot),
        ("http://10.0.0.1:8080//boot.ipxe", 200, boot),
        ("//ipxe?mac=52:54:00:00:00:01", 200, ipxe),
        ("//assets///initramfs-v1.13.0-amd64.xz", 200, "an initramfs"),
        ("/boot.ipxe/", 404, "404 page not found\n"),
        ("/x/../boot.ipxe", 404, "404 page not found\n"),
        // Firmware fills its fields with anything.
        ("/ipxe?serial=\"<1>\"&uuid={|}^`\\[]&hostname=a#b?c/d&mac=52:54:00:00:00:01", 200, ipxe),
        ("/ipxe?serial=\u{ff}\u{ff}&mac=52:54:00:00:00:01", 200, ipxe),
        ("/ipxe?serial=100%&uuid=%zz&=&mac=52:54:00:00:00:01", 200, ipxe),
        ("/ipxe?serial=a;b&mac=52:54:00:00:00:01", 200, ipxe),
        ("/assets/initramfs-v1.13.0-amd64.xz", 200, "an initramfs"),
    ] {
        let (got_status, _, got_body) = lab.get(path).await;
        assert_eq!((got_status, got_body.as_str()), (status, body), "{path}");
    }
    let (_, head, metadata) = lab.get("/metadata?mac=52-54-00-00-00-01&foo=bar&evil=a%0aMAC=b").await;
    assert!(head.contains("plain/text"), "{head}");
    let expected = "ADDRESS=127.0.0.11\nARCHITECTURE=amd64\nCLUSTER=lab\nHOSTNAME=node-1\nMAC=52:54:00:00:00:01\n\
                    REQUEST_QUERY_FOO=bar\nREQUEST_QUERY_MAC=52:54:00:00:00:01\n\
                    REQUEST_RAW_QUERY=mac=52-54-00-00-00-01&foo=bar&evil=a%0aMAC=b\nVERSION=v1.13.0\n";
    assert_eq!(metadata, expected);
    let (_, _, grub) = lab.get("/grub?mac=52-54-00-00-00-01").await;
    let kernel = "linuxefi \"(http,127.0.0.1:8000)/assets/vmlinuz-v1.13.0-amd64\" initrd=initramfs.xz ";
    assert!(grub.starts_with("default=0\nfallback=1\ntimeout=1\nmenuentry ") && grub.contains(kernel), "{grub}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_nothing_without_a_matchbox_directory() {
    let lab = Lab::start_over(true, Catalog::default());
    for path in [
        "/ipxe?mac=52:54:00:00:00:99",
        "/ipxe?mac=nonsense",
        "/ipxe",
        "/grub",
        "/metadata?mac=52:54:00:00:00:99",
        "/generic",
        "/ignition?os=installed",
        "/cloud",
    ] {
        let (status, _, body) = lab.get(path).await;
        assert_eq!((status, body.as_str()), (404, "404 page not found\n"), "{path}");
    }
}

/// Bytes that are not UTF-8, as they are in serial numbers of some firmware.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_bytes_of_a_target_are_taken() {
    let lab = Lab::start();
    for (target, status) in [
        (&b"/ipxe?serial=\xff\xfe\"&mac=52:54:00:ab:cd:01"[..], "200"),
        (b"/metadata?asset=\xe9&mac=52:54:00:ab:cd:01", "200"),
        (b"/assets/caf\xe9", "404"),
        (b"//assets/./caf\xe9", "404"),
        (b"/caf\xe9", "404"),
        (b"/ipxe?serial=a b&mac=52:54:00:ab:cd:01", "400"),
        (b"/ipxe?serial=a\x7f&mac=52:54:00:ab:cd:01", "400"),
        (b"/ipxe?serial=a\x01&mac=52:54:00:ab:cd:01", "400"),
    ] {
        let request = [b"GET ", target, b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"].concat();
        let answer = lab.raw_from(Ipv4Addr::new(127, 0, 0, 11), &request).await;
        assert_eq!(String::from_utf8_lossy(&answer[9..12]), status, "{}", target.escape_ascii());
    }
    std::fs::write(lab.directory.path().join(OsStr::from_bytes(b"caf\xe9")), "strong").unwrap();
    let request = b"GET //assets//caf\xe9 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(lab.raw_from(Ipv4Addr::new(127, 0, 0, 11), request).await.ends_with(b"\r\n\r\nstrong"));
}

/// The expected answers are Matchbox's own from the same directory, byte for byte except for the order of `/metadata`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn matchbox_directory_is_answered_as_matchbox_does() {
    let lab = Lab::start();
    let talos = "#!ipxe\nkernel /assets/vmlinuz-v1.13.0-amd64 initrd=initramfs.xz slab_nomerge pti=on console=tty0 \
                 printk.devkmsg=on talos.platform=metal \
                 talos.config=http://10.0.0.1:8080/generic?uuid=${uuid}&mac=${mac:hexhyp}\n\
                 initrd /assets/initramfs-v1.13.0-amd64.xz\nboot\n";
    let install = "#!ipxe\nkernel /assets/flatcar/flatcar_production_pxe.vmlinuz initrd=main \
                   flatcar.config.url=http://10.0.0.1:8080/ignition?uuid=${uuid}&mac=${mac:hexhyp} \
                   flatcar.first_boot=yes\n\
                   initrd --name main /assets/flatcar/flatcar_production_pxe_image.cpio.gz\nboot\n";
    let grub = "default=0\nfallback=1\ntimeout=1\n\
                menuentry \"CoreOS (EFI)\" {\necho \"Loading kernel\"\n\
                linuxefi \"/assets/flatcar/flatcar_production_pxe.vmlinuz\" initrd=main \
                flatcar.config.url=http://10.0.0.1:8080/ignition?uuid=${uuid}&mac=${mac:hexhyp} flatcar.first_boot=yes\n\
                echo \"Loading initrd\"\n\
                initrdefi  \"--name main /assets/flatcar/flatcar_production_pxe_image.cpio.gz\"\n}\n\
                menuentry \"CoreOS (BIOS)\" {\necho \"Loading kernel\"\n\
                linux \"/assets/flatcar/flatcar_production_pxe.vmlinuz\" initrd=main \
                flatcar.config.url=http://10.0.0.1:8080/ignition?uuid=${uuid}&mac=${mac:hexhyp} flatcar.first_boot=yes\n\
                echo \"Loading initrd\"\n\
                initrd  \"--name main /assets/flatcar/flatcar_production_pxe_image.cpio.gz\"\n}\n";
    let generic = "# The machine configuration of talos-1, row 3; asked for by 52:54:00:ab:cd:01.\n\
                   version: v1alpha1\nmachine:\n  type: worker\n  network:\n    hostname: talos-1\n";
    let metadata = "HOSTNAME=talos-1\nMAC=52:54:00:ab:cd:01\nRACK_POWER=true\nRACK_ROW=3\nREQUEST_QUERY_FOO=a b\n\
                    REQUEST_QUERY_MAC=52:54:00:ab:cd:01\n\
                    REQUEST_RAW_QUERY=mac=52-54-00-AB-CD-01&foo=a+b&evil=%0aMAC=x\n";
    let missing = "404 page not found\n";
    for (path, status, body) in [
        ("/ipxe?uuid=&mac=52-54-00-ab-cd-01&domain=&hostname=&serial=&arch=x86%5F64", 200, talos),
        ("/ipxe?mac=52-54-00-ab-cd-02", 200, install),
        ("//ipxe?serial=\"<>\"&mac=52-54-00-ab-cd-02", 200, install),
        ("/ipxe", 200, install),
        // The profile has no kernel.
        ("/ipxe?os=installed", 404, missing),
        ("/grub?mac=52-54-00-ab-cd-02", 200, grub),
        ("/generic?uuid=&mac=52-54-00-ab-cd-01", 200, generic),
        ("/generic", 404, missing),
        ("/cloud?mac=52-54-00-ab-cd-01", 404, missing),
        ("/metadata?mac=52-54-00-AB-CD-01&foo=a+b&evil=%0aMAC=x", 200, metadata),
        ("/ignition?os=installed", 200, include_str!("../../../examples/matchbox/ignition/flatcar.ign")),
        // A machine of the fleet gets nothing of the directory.
        ("/generic?mac=52:54:00:00:00:01", 404, missing),
        ("/ignition?mac=52:54:00:00:00:01&os=installed", 404, missing),
    ] {
        let (got_status, _, got) = lab.get(path).await;
        assert_eq!((got_status, got.as_str()), (status, body), "{path}");
    }
    let (_, head, _) = lab.get("/ignition").await;
    assert!(head.contains("application/json"), "{head}");
}

/// Requests and their outcomes are all that shows why a machine of a Matchbox directory does not boot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_remembered_with_their_outcomes() {
    let lab = Lab::start();
    let asked = async |host: u8, path: &str| {
        lab.get_from(Ipv4Addr::new(127, 0, 1, host), path).await;
        let visitors = lab.visitors.lock();
        let visitor = visitors.iter().next().unwrap();
        let last = visitor.requests.back().unwrap();
        assert_eq!(&*last.request, path);
        let matched = visitor.matched.as_ref().map(|matched| format!("{}/{}", matched.group, matched.profile));
        (visitor.to_string(), last.status, last.outcome.to_string(), matched.unwrap_or_default())
    };
    let (talos, default) = ("talos-1/talos-1", "default/flatcar-install");
    for (host, path, name, status, outcome, matched) in [
        (1, "/boot.ipxe", "127.0.1.1", 200, "served", ""),
        (1, "/ipxe?uuid=u-1&mac=52-54-00-ab-cd-01", "52:54:00:ab:cd:01", 200, "served", talos),
        (1, "/assets/empty", "52:54:00:ab:cd:01", 200, "served", talos),
        (1, "/assets/nothing", "52:54:00:ab:cd:01", 404, "no such file", talos),
        (1, "/assets/../x", "52:54:00:ab:cd:01", 403, "the path leads out of the artifacts directory", talos),
        (1, "/cloud?mac=52-54-00-ab-cd-01", "52:54:00:ab:cd:01", 404, "the profile has no cloud_id", talos),
        (2, "/generic?uuid=u-2", "u-2", 404, "the profile has no generic_id", default),
        (2, "/metadata?uuid=u-2", "u-2", 200, "served", default),
        (3, "/ipxe?os=installed", "127.0.1.3", 404, "the profile has no boot", "installed/flatcar"),
        (3, "/elsewhere", "127.0.1.3", 404, "there is no such page", "installed/flatcar"),
        // A machine of the cluster spec, which has its journal for the rest.
        (
            4,
            "/ignition?mac=52:54:00:00:00:01",
            "52:54:00:00:00:01",
            404,
            "a machine of the cluster spec has no such configuration",
            "",
        ),
    ] {
        let expected = (name.to_owned(), status, outcome.to_owned(), matched.to_owned());
        assert_eq!(asked(host, path).await, expected, "{path}");
    }
    assert_eq!(lab.visitors.lock().iter().count(), 4);
    // Optional files are expected to be missing, and machines of the spec have their journal.
    lab.get_from(Ipv4Addr::new(127, 0, 1, 5), "/assets/autoexec.ipxe").await;
    for path in ["/boot.ipxe", "/ipxe?mac=52:54:00:00:00:01", "/assets/empty", "/assets/nothing"] {
        lab.get(path).await;
    }
    assert_eq!(lab.visitors.lock().iter().count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_that_no_group_matches_is_remembered_with_the_selectors() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    for name in ["groups", "profiles", "generic"] {
        std::fs::create_dir(directory.path().join(name)).unwrap();
    }
    write("profiles/p.json", r#"{"id": "p", "generic_id": "g"}"#);
    write("generic/g", "{{.rack.row}}");
    write("groups/a.json", r#"{"profile": "p", "selector": {"uuid": "u-1"}, "metadata": {"rack": {}}}"#);
    write("groups/b.json", r#"{"profile": "p", "selector": {"os": "x", "mac": "52:54:00:ab:cd:01"}}"#);
    let lab = Lab::start_over(true, matchbox::load(directory.path()).unwrap().catalog);
    for (path, outcome) in [
        ("/ipxe?uuid=u-2&mac=52:54:00:ab:cd:01", "no group matched; the groups look at mac, os, uuid"),
        ("/ipxe?mac=nonsense", "no group matched; the groups look at mac, os, uuid"),
        ("/generic?uuid=u-1", "the template needs .rack.row, which neither the group's metadata nor the request has"),
    ] {
        assert_eq!(lab.get_from(Ipv4Addr::new(127, 0, 1, 1), path).await.0, 404, "{path}");
        let visitors = lab.visitors.lock();
        assert_eq!(visitors.iter().next().unwrap().requests.back().unwrap().outcome.to_string(), outcome, "{path}");
    }
    let lab = Lab::start_over(true, Catalog::default());
    lab.get_from(Ipv4Addr::new(127, 0, 1, 1), "/ipxe?mac=52:54:00:ab:cd:01").await;
    let outcome = lab.visitors.lock().find("52:54:00:ab:cd:01").unwrap().requests[0].outcome.to_string();
    assert_eq!(outcome, "not in the cluster spec, and no group of a Matchbox directory selects it");
}
