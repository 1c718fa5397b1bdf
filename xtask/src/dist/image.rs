//! The container image: an OCI layout in a tar archive that `docker load`, `podman load`, `ctr images import` and `skopeo` read.

use std::io;

use flate2::Compression;
use serde_json::json;

use super::{
    archive::{Archive, Entry, gzip},
    checksum::sha256,
    release::Release,
};

/// The user and group of pxed in the image. Kubernetes' `runAsNonRoot` wants a number.
const USER: u64 = 65_532;

/// The capabilities of the program in the image, by their numbers in capability.h.
const CAPABILITIES: [(&str, u32); 6] = [
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_IPC_LOCK", 14),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

/// `VFS_CAP_REVISION_2`: the version of the attribute without a user namespace.
const REVISION: u32 = 0x0200_0000;

/// Returns the archive of the image with this program and these certificates (PEM).
///
/// # Errors
///
/// Fails only if memory cannot be written.
pub(super) fn image(release: &Release, program: &[u8], certificates: &str, effort: Compression) -> io::Result<Archive> {
    let Release { version, revision, time, .. } = release;
    let (architecture, created) = (release.architecture(), release.timestamp());
    let tag = format!("pxed:{version}");

    let layer = layer(*time, program, certificates).tar()?;
    let packed = gzip(&layer, effort)?;
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": ["/usr/bin/pxed"],
            "Cmd": ["run"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "pxed",
                "org.opencontainers.image.description": "Network boot server for bare-metal Talos fleets",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.revision": revision,
                "org.opencontainers.image.created": created,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]},
        "history": [{"created": created, "created_by": "cargo xtask dist"}],
    })
    .to_string();
    let blob = |media_type: &str, bytes: &[u8]| {
        json!({
            "mediaType": format!("application/vnd.oci.image.{media_type}"),
            "digest": format!("sha256:{}", sha256(bytes)),
            "size": bytes.len(),
        })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", config.as_bytes()),
        "layers": [blob("layer.v1.tar+gzip", &packed)],
    })
    .to_string();
    let mut listed = blob("manifest.v1+json", manifest.as_bytes());
    listed["platform"] = json!({"architecture": architecture, "os": "linux"});
    listed["annotations"] = json!({"org.opencontainers.image.ref.name": version, "io.containerd.image.name": tag});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [listed],
    });

    let mut archive = Archive::new(*time);
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", sha256(bytes));
    // What `docker load` read before version 25, beside the OCI layout.
    let docker = json!([{"Config": path(config.as_bytes()), "RepoTags": [tag], "Layers": [path(&packed)]}]);
    archive.add("oci-layout", Entry::file(json!({"imageLayoutVersion": "1.0.0"}).to_string()));
    archive.add("index.json", Entry::file(index.to_string()));
    archive.add("manifest.json", Entry::file(docker.to_string()));
    for blob in [config.into_bytes(), manifest.into_bytes(), packed] {
        archive.add(&path(&blob), Entry::file(blob));
    }
    Ok(archive)
}

/// Returns the files of the image.
fn layer(time: u64, program: &[u8], certificates: &str) -> Archive {
    let mut files = Archive::new(time);
    // Permitted without being in effect: pxed puts them into effect itself, and starts if some are missing.
    files.add("usr/bin/pxed", Entry::program(program).with_capabilities(capability_attribute()));
    files.add("etc/ssl/certs/ca-certificates.crt", Entry::file(certificates));
    for directory in ["var/lib/pxed", "var/lib/pxed/artifacts", "var/lib/pxed/state"] {
        files.add(directory, Entry::directory().owned_by(USER));
    }
    files
}

/// Returns `security.capability` with the program's capabilities permitted (struct vfs_cap_data).
fn capability_attribute() -> Vec<u8> {
    let permitted = CAPABILITIES.iter().fold(0_u64, |set, (_, number)| set | 1 << number);
    let [low, high] = [permitted as u32, (permitted >> u32::BITS) as u32];
    [REVISION, low, 0, high, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn release() -> Release {
        Release {
            version: "1.2.3".to_owned(),
            revision: "abc".to_owned(),
            time: 1_700_000_000,
            target: "x86_64-unknown-linux-gnu".to_owned(),
        }
    }

    fn files(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(Result::unwrap).map(|mut entry| {
            let mut content = Vec::new();
            io::copy(&mut entry, &mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        entries.collect()
    }

    #[test]
    fn two_images_of_one_program_have_the_same_bytes() {
        let build = || image(&release(), b"elf", "PEM", Compression::fast()).unwrap().tar().unwrap();
        assert!(build() == build());
    }

    #[test]
    fn every_digest_in_the_image_names_a_file_with_that_digest_and_size() {
        let files = files(&image(&release(), b"elf", "PEM", Compression::fast()).unwrap().tar().unwrap());
        let read = |path: &str| serde_json::from_slice::<serde_json::Value>(&files[path]).unwrap();
        let blob = |descriptor: &serde_json::Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
            let bytes = &files[&format!("blobs/sha256/{digest}")];
            assert_eq!((sha256(bytes), bytes.len() as u64), (digest, descriptor["size"].as_u64().unwrap()));
            bytes.clone()
        };
        let manifest: serde_json::Value = serde_json::from_slice(&blob(&read("index.json")["manifests"][0])).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        let mut layer = Vec::new();
        io::copy(&mut flate2::read::GzDecoder::new(&*blob(&manifest["layers"][0])), &mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", sha256(&layer))]));
        let docker = read("manifest.json");
        assert_eq!(docker[0]["RepoTags"], json!(["pxed:1.2.3"]));
        assert!(files.contains_key(docker[0]["Config"].as_str().unwrap()), "{docker}");
        assert!(files.contains_key(docker[0]["Layers"][0].as_str().unwrap()), "{docker}");
    }

    #[test]
    fn capabilities_are_permitted_and_not_in_effect() {
        let attribute = capability_attribute();
        // The lowest bit of the first word is the effective bit.
        assert_eq!(attribute[..4], [0, 0, 0, 2]);
        assert_eq!(attribute[4..], [0x00, 0x74, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
