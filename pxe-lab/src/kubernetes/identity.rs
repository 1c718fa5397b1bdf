//! Who is who for the API server: an authority, the server's certificate, the administrator's, and the key that signs the tokens of
//! ServiceAccounts.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde_json::json;

/// The issuer of tokens, which is also their audience.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc";

/// The group whose members may do everything.
const ADMINISTRATORS: &str = "system:masters";

/// The leeway that the API server gives an expired token.
pub(super) const LEEWAY: Duration = Duration::from_secs(60);

/// Certificates and keys, in files of one directory.
#[derive(Debug)]
pub(super) struct Identity {
    directory: PathBuf,
    signing_key: KeyPair,
}

impl Identity {
    /// Makes all of them for a server of this address.
    pub(super) fn new(directory: &Path, address: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "the lab's cluster");
        let key = KeyPair::generate()?;
        let root = params.self_signed(&key)?;
        let issuer = Issuer::from_params(&params, &key);

        let signing_key = KeyPair::generate()?;
        let identity = Self { directory: directory.to_owned(), signing_key };
        identity.write("authority.pem", &root.pem())?;
        let names = [address, "127.0.0.1", "kubernetes.default.svc"].map(str::to_owned).to_vec();
        let mut server = CertificateParams::new(names)?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        identity.certify("server", &server, &issuer)?;
        let mut administrator = CertificateParams::new(Vec::new())?;
        administrator.distinguished_name.push(DnType::OrganizationName, ADMINISTRATORS);
        administrator.distinguished_name.push(DnType::CommonName, "administrator");
        administrator.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        identity.certify("administrator", &administrator, &issuer)?;
        identity.write_signing_key()?;
        Ok(identity)
    }

    /// Returns the path of a file of this name.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Replaces the key that signs tokens. A server that is started again then takes none of the tokens of before.
    pub(super) fn replace_signing_key(&mut self) -> anyhow::Result<()> {
        self.signing_key = KeyPair::generate()?;
        self.write_signing_key()
    }

    /// Returns a token of a ServiceAccount. The server still takes it [`LEEWAY`] after its end.
    pub(super) fn token(&self, namespace: &str, account: &str, uid: &str, end: SystemTime) -> anyhow::Result<String> {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map(|since| since.as_secs());
        // The server's clock is ours, but a token must have existed before it may end in the past.
        let begin = seconds(end)?.min(seconds(SystemTime::now())?).saturating_sub(3600);
        let claims = json!({
            "iss": ISSUER, "aud": [ISSUER], "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "iat": begin, "nbf": begin, "exp": seconds(end)?,
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": uid}},
        });
        let signed =
            format!("{}.{}", base64url(br#"{"alg":"ES256","typ":"JWT"}"#), base64url(claims.to_string().as_bytes()));
        let random = SystemRandom::new();
        let key = self.signing_key.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random)
            .map_err(|error| anyhow!("cannot use the signing key: {error}"))?;
        let signature = key.sign(&random, signed.as_bytes()).map_err(|_| anyhow!("cannot sign a token"))?;
        Ok(format!("{signed}.{}", base64url(signature.as_ref())))
    }

    fn certify(&self, name: &str, params: &CertificateParams, issuer: &Issuer<'_, &KeyPair>) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        self.write(&format!("{name}.pem"), &certificate.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())
    }

    fn write_signing_key(&self) -> anyhow::Result<()> {
        self.write("accounts.key", &self.signing_key.serialize_pem())?;
        self.write("accounts.pub", &self.signing_key.public_key_pem())
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.file(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Returns base64 in the alphabet for URLs, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_of_every_length() {
        // RFC 4648, section 10, without the padding; and two characters in which the alphabets differ.
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }
}
