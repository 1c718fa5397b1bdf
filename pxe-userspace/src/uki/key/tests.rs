use std::time::Duration;

use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustix::time::{ClockId, clock_gettime};

use super::*;
use crate::uki::{
    command_line,
    digest::Hasher,
    layout::Template,
    pe::PeMachine,
    pieces::Piece,
    testing::{CERTIFICATE, KEY, stub},
};

const PKCS1: &[u8] = include_bytes!("../testdata/pkcs1.key");
const EC: &[u8] = include_bytes!("../testdata/ec.key");
const AUTHORITY: &[u8] = include_bytes!("../testdata/ca.crt");
/// Of the same key as [`CERTIFICATE`], by the authority, for modules only, from 2020 to 2021.
const EXPIRED: &[u8] = include_bytes!("../testdata/expired.crt");

fn error(key: &[u8], certificate: &[u8]) -> String {
    SigningKey::from_pem(key, certificate).unwrap_err().to_string()
}

/// Returns a copy with another label, or other text.
fn replaced(pem: &[u8], old: &str, new: &str) -> Vec<u8> {
    let text = str::from_utf8(pem).unwrap();
    assert!(text.contains(old));
    text.replace(old, new).into_bytes()
}

/// Returns the contents of the only element of this tag, at any depth.
fn find<'a>(der: &'a [u8], path: &[u8]) -> &'a [u8] {
    let mut reader = Reader::new(der);
    for (depth, &tag) in path.iter().enumerate() {
        let element = std::iter::from_fn(|| reader.next()).find(|element| element.tag == tag).unwrap();
        if depth + 1 == path.len() {
            return element.contents;
        }
        reader = Reader::new(element.contents);
    }
    unreachable!()
}

#[test]
fn signature_is_of_the_attributes_which_have_the_hash_of_the_content() {
    let key = SigningKey::from_pem(KEY, CERTIFICATE).unwrap();
    let bytes = key.sign(&[0xab; 32]).unwrap();
    assert_eq!(bytes.len() as u32, key.certificate_length());
    assert_eq!(bytes.len() % 8, 0);
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    assert!((bytes.len() - 7..=bytes.len()).contains(&length));
    assert_eq!(bytes[4..8], [0, 2, 2, 0]);
    assert!(bytes[length..].iter().all(|&byte| byte == 0));
    let signed_data = find(&bytes[8..], &[0x30, 0xa0, 0x30]);
    let content = find(signed_data, &[0x30, 0xa0, 0x30]);
    assert!(content.ends_with(&[&[4, 32], &[0xab; 32][..]].concat()), "the hash of the image is the last of it");
    // The second set is that of the signers.
    let mut fields = Reader::new(signed_data);
    let signers = std::iter::from_fn(|| fields.next()).filter(|element| element.tag == 0x31).nth(1).unwrap();
    let attributes = find(signers.contents, &[0x30, 0xa0]);
    let hash = ring::digest::digest(&ring::digest::SHA256, content);
    assert!(attributes.ends_with(hash.as_ref()));
    let set = crate::uki::der::element(0x31, &[attributes]);
    let signature = find(signers.contents, &[0x30, 0x04]);
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.pair.public_key().as_ref());
    assert!(public.verify(&set, signature).is_ok());
}

#[test]
fn equal_images_have_equal_signatures() {
    let key = SigningKey::from_pem(KEY, CERTIFICATE).unwrap();
    assert_eq!(key.sign(&[1; 32]), key.sign(&[1; 32]));
    assert_ne!(key.sign(&[1; 32]), key.sign(&[2; 32]));
}

#[test]
fn key_is_read_in_both_forms_and_from_a_file_with_both() {
    let both = [KEY, b"Some words in between.\r\n", CERTIFICATE].concat();
    let windows = replaced(CERTIFICATE, "\n", "\r\n");
    for (key, certificate) in [
        (KEY, CERTIFICATE),
        (PKCS1, CERTIFICATE),
        (&both, &both),
        (KEY, &both),
        (&replaced(KEY, "\n", "\r\n"), &windows),
    ] {
        assert_eq!(SigningKey::from_pem(key, certificate).unwrap().sign(&[1; 32]).unwrap().len() % 8, 0);
    }
}

#[test]
fn certificates_of_issuers_are_added_to_the_signature() {
    let alone = SigningKey::from_pem(KEY, EXPIRED).unwrap();
    for certificates in [[EXPIRED, AUTHORITY].concat(), [AUTHORITY, EXPIRED].concat()] {
        let key = SigningKey::from_pem(KEY, &certificates).unwrap();
        let added = key.certificate_length() - alone.certificate_length();
        let length = pem::read(AUTHORITY).unwrap()[0].bytes.len() as u32;
        assert!((length - 8..=length + 8).contains(&added));
        assert!(key.signer.is_for_modules, "the certificate of the key is the signer's, in whatever order");
        assert_eq!(key.sign(&[1; 32]).unwrap().len() as u32, key.certificate_length());
    }
}

#[test]
fn files_that_cannot_sign_are_refused_with_the_reason() {
    let ec = "the private key is an EC key, and not every firmware verifies its signatures. An RSA key is needed: openssl \
              req -new -x509 -newkey rsa:2048 -sha256 -nodes -days 3650 -subj '/CN=pxed Secure Boot/' -keyout db.key -out \
              db.crt";
    assert_eq!(error(EC, CERTIFICATE), ec);
    assert_eq!(error(&replaced(EC, "PRIVATE", "EC PRIVATE"), CERTIFICATE), ec);
    assert_eq!(
        error(CERTIFICATE, KEY),
        "the two files are swapped: that of the key contains the certificate, and that of the certificate the key"
    );
    assert_eq!(error(CERTIFICATE, CERTIFICATE), "the private key: the file contains \"CERTIFICATE\"");
    assert_eq!(error(KEY, KEY), "the certificate: the file contains \"PRIVATE KEY\"");
    assert_eq!(error(b"", CERTIFICATE), "the private key: the file is empty");
    assert_eq!(error(KEY, b"\n"), "the certificate: the file is empty");
    let not_pem = "the private key: the file is not in PEM format: it has no line -----BEGIN …-----";
    assert_eq!(error(b"hunter2", CERTIFICATE), not_pem);
    let der = &pem::read(CERTIFICATE).unwrap()[0].bytes;
    assert!(error(KEY, der).starts_with("the certificate: the file is in binary form (DER or PKCS#12)."));
    let mismatch = "the certificate is not for this private key. To compare: openssl x509 -in CERTIFICATE -noout -pubkey; \
                    openssl pkey -in KEY -pubout";
    assert_eq!(error(KEY, AUTHORITY), mismatch);
    let many = CERTIFICATE.repeat(9);
    assert_eq!(error(KEY, &many), "the file of the certificate has 9 certificates, and a signer's chain has at most 8");
}

#[test]
fn encrypted_key_is_refused_with_the_command_that_decrypts_it() {
    let encrypted = "the private key is encrypted, and nobody is there to type its passphrase when pxed starts. A copy \
                     without one: openssl pkey -in FILE -out db.key; only pxed's user may read it";
    assert_eq!(error(&replaced(KEY, "PRIVATE", "ENCRYPTED PRIVATE"), CERTIFICATE), encrypted);
    let old = "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\nMII";
    assert_eq!(error(&replaced(PKCS1, "-----\nMII", old), CERTIFICATE), encrypted);
}

#[test]
fn damaged_file_is_refused_with_the_line() {
    let text = str::from_utf8(KEY).unwrap();
    let cut_off = &text[..text.len() - 40];
    let begins = "the private key: line 1: the block \"PRIVATE KEY\" does not end: the file was cut off";
    assert_eq!(error(cut_off.as_bytes(), CERTIFICATE), begins);
    let line = text.lines().nth(2).unwrap();
    let strange = replaced(KEY, line, &format!("{}*", &line[1..]));
    assert_eq!(error(&strange, CERTIFICATE), "the private key: line 3: not base64, in the block \"PRIVATE KEY\"");
    let short = replaced(KEY, line, &line[1..]);
    let end = text.lines().count();
    let message = format!("the private key: line {end}: not base64, in the block \"PRIVATE KEY\"");
    assert_eq!(error(&short, CERTIFICATE), message);
    let missing = replaced(KEY, &format!("{line}\n"), "");
    assert!(error(&missing, CERTIFICATE).starts_with("the private key cannot be used ("));
    let line = str::from_utf8(CERTIFICATE).unwrap().lines().nth(4).unwrap();
    let missing = replaced(CERTIFICATE, &format!("{line}\n"), "");
    assert_eq!(error(KEY, &missing), "certificate 1 of its file cannot be read: it is damaged");
}

#[test]
fn certificate_that_machines_may_refuse_causes_warnings() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let warnings = |now| {
        let key = SigningKey::from_pem(KEY, EXPIRED).unwrap();
        key.warnings(now).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let modules = "the certificate is for kernel modules only (1.3.6.1.4.1.2312.16.1.2): shim refuses to start images that \
                   are signed with it";
    assert_eq!(warnings(at(1_577_836_800)), [modules], "on its first day");
    assert_eq!(warnings(at(1_609_459_200)), [modules], "on its last day");
    let expired =
        "the certificate expired at 2021-01-01T00:00:00Z: most firmware does not look at that, but some may refuse";
    assert_eq!(warnings(at(1_609_459_201)), [expired, modules]);
    let early = "the certificate is valid from 2020-01-01T00:00:00Z on: is the clock of this host right?";
    assert_eq!(warnings(at(1_577_836_799)), [early, modules]);
    assert!(SigningKey::from_pem(KEY, CERTIFICATE).unwrap().warnings(at(1_800_000_000)).is_empty());
}

#[test]
fn key_is_not_shown_in_debug_output() {
    assert_eq!(format!("{:?}", SigningKey::from_pem(KEY, CERTIFICATE).unwrap()), "SigningKey");
}

/// A figure, not a test: `cargo test --release -p pxe-userspace --lib uki::key -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn signing_cost() {
    const INITRAMFS_LENGTH: usize = 100 << 20;
    let cpu_time = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let key = SigningKey::from_pem(KEY, CERTIFICATE).unwrap();
    let template = Template::from_stub(&stub().write(), 1, INITRAMFS_LENGTH as u64, PeMachine::AMD64).unwrap();
    let template = template.with_certificate(key.certificate_length()).unwrap();
    let files = vec![7; INITRAMFS_LENGTH];
    let mut hasher = Hasher::new(&template);
    let begin = cpu_time();
    for piece in template.pieces() {
        match piece {
            Piece::Bytes(bytes) => hasher.update(bytes),
            Piece::File { range, .. } => hasher.update(&files[range.start as usize..range.end as usize]),
        }
    }
    let midstate = hasher.finish().unwrap();
    println!("the shared part of 100 MiB: {:.1} ms", (cpu_time() - begin).as_secs_f64() * 1000.0);
    let mut of_machine = Duration::MAX;
    for number in 0..1000 {
        let begin = cpu_time();
        let section = command_line::encode(&format!("talos.platform=metal hostname=machine-{number}")).unwrap();
        std::hint::black_box(key.sign(&midstate.digest(&section)).unwrap());
        of_machine = of_machine.min(cpu_time() - begin);
    }
    println!("a machine's own part, signed: {:.3} ms", of_machine.as_secs_f64() * 1000.0);
}
