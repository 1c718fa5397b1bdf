//! A machine's shim and what it asks for, below `/boot/<mac>/`.

use pxe_userspace::model::{
    boot_method::BootMethod,
    loader::{LoaderFile, OwnLoaders},
};

use super::*;

const OWN: &str = "/boot/52-54-00-00-00-01";

/// Starts with a shim of machine 1 in a directory, and GRUB and MokManager beside it.
fn start(boot: BootMethod) -> Lab {
    let lab = Lab::start_for(true, Catalog::default(), None, |machines| {
        let mut own = OwnLoaders::default();
        own.set(Some(LoaderFile::EfiX64), Some("debian/shimx64.efi".into()));
        let loaders = Some(Arc::new(own));
        let with_shim = |machine: &Arc<Machine>| match machine.mac {
            NODE_1 => Arc::new(Machine { boot, loaders: loaders.clone(), ..Machine::clone(machine) }),
            _ => Arc::clone(machine),
        };
        machines.iter().map(with_shim).collect()
    });
    let directory = lab.directory.path().join("debian");
    std::fs::create_dir(&directory).unwrap();
    for name in ["shimx64.efi", "grubx64.efi", "mmx64.efi"] {
        std::fs::write(directory.join(name), format!("this is {name}")).unwrap();
    }
    lab
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shim_and_its_second_stage_are_files_of_the_store() {
    let mut lab = start(BootMethod::Ipxe);
    for (path, expected) in [
        ("shimx64.efi", "this is shimx64.efi"),
        // shim puts two slashes before the name.
        ("/grubx64.efi", "this is grubx64.efi"),
        ("/mmx64.efi", "this is mmx64.efi"),
    ] {
        let (status, head, text) = lab.get(&format!("{OWN}/{path}")).await;
        assert_eq!((status, text.as_str()), (200, expected), "{path}");
        assert!(head.contains("Content-Type: application/efi"), "{head}");
        let path: Arc<str> = format!("{OWN}/{}", path.trim_start_matches('/')).into();
        let (artifact, transport) = (ArtifactKind::Loader, Transport::Http);
        assert_eq!(lab.event().await, EventKind::Requested { artifact, transport, path });
        assert!(matches!(lab.event().await, EventKind::Done { artifact: ArtifactKind::Loader, .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_is_the_second_stage_of_a_machine_that_boots_it() {
    let lab = start(BootMethod::Uki);
    assert_eq!(lab.get(&format!("{OWN}/shimx64.efi")).await.2, "this is shimx64.efi");
    assert_eq!(lab.get(&format!("{OWN}//mmx64.efi")).await.2, "this is mmx64.efi");
    // The lab's kernel is none, so that nothing can be made of it; GRUB it is not in any case.
    let (image, grub) = (lab.get(&format!("{OWN}/talos.efi")).await, lab.get(&format!("{OWN}//grubx64.efi")).await);
    assert_eq!((image.0, &image.2), (grub.0, &grub.2));
    assert!(!grub.2.contains("this is"), "{}", grub.2);
}

/// shim hangs for good on a 404 without a body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_not_there_is_told_with_a_body() {
    for boot in [BootMethod::Uki, BootMethod::Ipxe] {
        let mut lab = start(boot);
        for path in
            ["revocations_sku.efi", "/revocations_sbat.efi", "shim_certificate_0.efi", "/autoexec.ipxe", "nothing", ""]
        {
            let (status, _, text) = lab.get(&format!("{OWN}/{path}")).await;
            assert!(status == 404 && text.len() > 1, "{path}: {status} {text:?}");
        }
        // Only what shim does not expect is an event.
        while let Ok(event) = lab.events.try_recv() {
            let path = match &event.kind {
                EventKind::Requested { path, .. } | EventKind::Failed { path, .. } => Arc::clone(path),
                other => panic!("{other:?}"),
            };
            assert_eq!(*path, *format!("{OWN}/nothing"));
        }
        for path in [
            "/",
            "//",
            "/nothing",
            "/assets/",
            "/assets/nothing",
            "/assets//revocations.efi",
            "/assets/shim_certificate.efi",
            "/boot/",
            "/boot/x",
            "/boot/x.ipxe",
            "/boot/52-54-00-00-00-09.ipxe",
            "/boot/52-54-00-00-00-09/talos.efi",
            "/ipxe",
            "/grub",
            "/grub/grub.cfg-00000000",
            "/pxelinux.cfg/default",
            "/ignition",
            "/generic",
            "/cloud",
            "/metadata",
            "/boot-from-disk",
            "/assets/boot-from-disk",
            "/autoexec.ipxe",
            "/assets/autoexec.ipxe",
        ] {
            let (status, _, text) = lab.get(path).await;
            assert!(status == 200 || text.len() > 1, "{path}: {status} {text:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shim_of_a_machine_is_for_its_address_alone() {
    let lab = start(BootMethod::Uki);
    for path in ["shimx64.efi", "/grubx64.efi", "talos.efi"] {
        let (status, _, text) = lab.get_from(Ipv4Addr::new(127, 0, 0, 12), &format!("{OWN}/{path}")).await;
        assert!(status == 403 && text.starts_with(ASKED_FROM), "{path}: {status} {text}");
    }
}
