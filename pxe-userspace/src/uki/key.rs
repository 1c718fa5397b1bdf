//! The key that signs images, and its certificate.

use std::{fmt, time::SystemTime};

use jiff::Timestamp;
use ring::{
    rand::SystemRandom,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use thiserror::Error;

use super::{
    certificate::Certificate,
    der::{Reader, oid, tag},
    pem::{self, Block, PemError},
    pkcs7::Statement,
};

/// The command that makes a key and a certificate that can be used.
const MAKE: &str = "openssl req -new -x509 -newkey rsa:2048 -sha256 -nodes -days 3650 -subj '/CN=pxed Secure Boot/' \
                    -keyout db.key -out db.crt";
/// More certificates than this are a bundle, not the chain of a signer.
const CHAIN_LIMIT: usize = 8;

/// A reason why a key and a certificate cannot sign images. Errors begin with which of the two files is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The file of the key is damaged.
    #[error("the private key: {0}")]
    KeyPem(PemError),
    /// The file of the certificate is damaged.
    #[error("the certificate: {0}")]
    CertificatePem(PemError),
    /// The file of the key has no key.
    #[error("the private key: {0}")]
    NoKey(NotFound),
    /// The file of the certificate has no certificate.
    #[error("the certificate: {0}")]
    NoCertificate(NotFound),
    /// Each file is what the other one should be.
    #[error("the two files are swapped: that of the key contains the certificate, and that of the certificate the key")]
    Swapped,
    /// The key is encrypted.
    #[error(
        "the private key is encrypted, and nobody is there to type its passphrase when pxed starts. A copy without one: \
         openssl pkey -in FILE -out db.key; only pxed's user may read it"
    )]
    Encrypted,
    /// The key is not an RSA key.
    #[error("the private key is {0}, and not every firmware verifies its signatures. An RSA key is needed: {MAKE}")]
    NotRsa(&'static str),
    /// The key is damaged, or its length is not supported.
    #[error("the private key cannot be used ({0}). RSA keys of 2048 to 4096 bits can: {MAKE}")]
    Rejected(String),
    /// A certificate cannot be read.
    #[error("certificate {0} of its file cannot be read: it is damaged")]
    BadCertificate(usize),
    /// No certificate is for the key.
    #[error(
        "the certificate is not for this private key. To compare: openssl x509 -in CERTIFICATE -noout -pubkey; \
         openssl pkey -in KEY -pubout"
    )]
    Mismatch,
    /// There are too many certificates.
    #[error("the file of the certificate has {0} certificates, and a signer's chain has at most {CHAIN_LIMIT}")]
    TooMany(usize),
}

/// The content of a file in place of a key or certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotFound {
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// The file is in the binary form.
    #[error(
        "the file is in binary form (DER or PKCS#12). As PEM: openssl x509 -inform DER -in FILE -out db.crt; \
         openssl pkey -inform DER -in FILE -out db.key; openssl pkcs12 -in FILE -nodes -out both.pem"
    )]
    Binary,
    /// The file has something else.
    #[error("the file contains {0}")]
    Others(String),
    /// The file has no PEM block at all.
    #[error("the file is not in PEM format: it has no line -----BEGIN …-----")]
    NotPem,
}

/// Something about a key or certificate that may keep machines from accepting the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWarning {
    /// The certificate has expired.
    Expired(Timestamp),
    /// The certificate is not valid yet.
    NotYetValid(Timestamp),
    /// The certificate is for kernel modules only, like the key that Ubuntu's and Debian's DKMS makes.
    ModulesOnly,
}

impl fmt::Display for KeyWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(time) => {
                write!(f, "the certificate expired at {time}: most firmware does not look at that, but some may refuse")
            }
            Self::NotYetValid(time) => {
                write!(f, "the certificate is valid from {time} on: is the clock of this host right?")
            }
            Self::ModulesOnly => f.write_str(
                "the certificate is for kernel modules only (1.3.6.1.4.1.2312.16.1.2): shim refuses to start images \
                 that are signed with it",
            ),
        }
    }
}

/// An image could not be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the image cannot be signed: the host has no random numbers")]
pub struct SignError;

/// A key that signs images, and its certificate.
pub struct SigningKey {
    pair: RsaKeyPair,
    signer: Certificate,
    chain: Vec<Certificate>,
    certificate_length: u32,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Reads a private key (RSA, PKCS#8 or PKCS#1) and its certificate in PEM. Further certificates, those of the issuers, are added to
    /// signatures. Either file may have both.
    ///
    /// # Errors
    ///
    /// The files do not have a key and its certificate that can sign images.
    pub fn from_pem(key: &[u8], certificate: &[u8]) -> Result<Self, KeyError> {
        let key_blocks = pem::read(key).map_err(KeyError::KeyPem)?;
        let certificate_blocks = pem::read(certificate).map_err(KeyError::CertificatePem)?;
        let found_key = key_blocks.iter().find(|block| block.is_private_key());
        let mut certificates = Vec::new();
        for block in certificate_blocks.iter().filter(|block| block.is_certificate()) {
            let read = Certificate::read(&block.bytes);
            certificates.push(read.ok_or(KeyError::BadCertificate(certificates.len() + 1))?);
        }
        let has = |blocks: &[Block], is: fn(&Block) -> bool| blocks.iter().any(is);
        let is_swapped = has(&key_blocks, Block::is_certificate) && has(&certificate_blocks, Block::is_private_key);
        let Some(found_key) = found_key else {
            let reason = NotFound::of(key, &key_blocks);
            return Err(if is_swapped { KeyError::Swapped } else { KeyError::NoKey(reason) });
        };
        if certificates.is_empty() {
            return Err(KeyError::NoCertificate(NotFound::of(certificate, &certificate_blocks)));
        }
        if certificates.len() > CHAIN_LIMIT {
            return Err(KeyError::TooMany(certificates.len()));
        }
        let pair = read_key(found_key)?;
        let of_key = certificates.iter().position(|one| one.public_key == pair.public_key().as_ref());
        let signer = certificates.remove(of_key.ok_or(KeyError::Mismatch)?);
        let mut key = Self { pair, signer, chain: certificates, certificate_length: 0 };
        // Neither the hash nor the signature has an influence on the length.
        let signature = vec![0; key.pair.public().modulus_len()];
        let length = Statement::new(&[0; 32]).certificate(&key.signer, &key.chain, &signature).len();
        key.certificate_length = u32::try_from(length).unwrap_or(u32::MAX);
        Ok(key)
    }

    /// Returns the length of every signature in bytes, for [`super::layout::Template::with_certificate`].
    #[must_use]
    pub const fn certificate_length(&self) -> u32 {
        self.certificate_length
    }

    /// Returns what may keep machines from accepting the signature.
    #[must_use]
    pub fn warnings(&self, now: SystemTime) -> Vec<KeyWarning> {
        let now = Timestamp::try_from(now).unwrap_or(Timestamp::MAX);
        let Certificate { not_before, not_after, is_for_modules, .. } = self.signer;
        let mut warnings = Vec::new();
        if now > not_after {
            warnings.push(KeyWarning::Expired(not_after));
        }
        if now < not_before {
            warnings.push(KeyWarning::NotYetValid(not_before));
        }
        if is_for_modules {
            warnings.push(KeyWarning::ModulesOnly);
        }
        warnings
    }

    /// Returns the signature of an image with this hash ([`super::digest::Midstate::digest`]), as it is appended to the image. It has
    /// [`Self::certificate_length`] bytes, and equal images have equal signatures.
    ///
    /// # Errors
    ///
    /// The host has no random numbers, which protect the key while it is used.
    pub fn sign(&self, image_hash: &[u8; 32]) -> Result<Vec<u8>, SignError> {
        let statement = Statement::new(image_hash);
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let (random, message) = (SystemRandom::new(), statement.to_sign());
        self.pair.sign(&RSA_PKCS1_SHA256, &random, &message, &mut signature).map_err(|_| SignError)?;
        Ok(statement.certificate(&self.signer, &self.chain, &signature))
    }
}

/// Reads a private key.
fn read_key(block: &Block) -> Result<RsaKeyPair, KeyError> {
    if block.is_encrypted || block.label == "ENCRYPTED PRIVATE KEY" {
        return Err(KeyError::Encrypted);
    }
    let read = match block.label.as_str() {
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&block.bytes),
        "EC PRIVATE KEY" => return Err(KeyError::NotRsa("an EC key")),
        "DSA PRIVATE KEY" => return Err(KeyError::NotRsa("a DSA key")),
        "OPENSSH PRIVATE KEY" => return Err(KeyError::NotRsa("a key of OpenSSH")),
        _ => match key_algorithm(&block.bytes) {
            Some(oid::EC) => return Err(KeyError::NotRsa("an EC key")),
            Some(oid::ED25519) => return Err(KeyError::NotRsa("an Ed25519 key")),
            Some(oid::RSA) | None => RsaKeyPair::from_pkcs8(&block.bytes),
            Some(_) => return Err(KeyError::NotRsa("not an RSA key")),
        },
    };
    read.map_err(|rejected| KeyError::Rejected(rejected.to_string()))
}

/// Returns the identifier of the algorithm of a key in PKCS#8.
fn key_algorithm(der: &[u8]) -> Option<&[u8]> {
    let mut fields = Reader::new(der).enter(tag::SEQUENCE)?;
    fields.expect(tag::INTEGER)?;
    Some(fields.enter(tag::SEQUENCE)?.expect(tag::OBJECT_IDENTIFIER)?.contents)
}

impl Block {
    fn is_private_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }

    fn is_certificate(&self) -> bool {
        matches!(self.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE")
    }
}

impl NotFound {
    /// Returns what a file has instead.
    fn of(file: &[u8], blocks: &[Block]) -> Self {
        if file.trim_ascii().is_empty() {
            Self::Empty
        } else if !blocks.is_empty() {
            let labels: Vec<_> = blocks.iter().map(|block| format!("\"{}\"", block.label)).collect();
            Self::Others(labels.join(", "))
        } else if file.starts_with(&[tag::SEQUENCE]) {
            Self::Binary
        } else {
            Self::NotPem
        }
    }
}

#[cfg(test)]
mod tests;
