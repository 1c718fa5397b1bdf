//! The certificate of a mirror, and the authority that it comes from.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;

/// The certificate of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// For 127.0.0.1 and `localhost`, and valid.
    Good,
    /// For another host's name.
    OfAnotherHost,
    /// Not valid any more.
    Expired,
}

/// The certificate in use, with its key, and the authority's file.
#[derive(Debug)]
pub(super) struct Identity {
    server: Arc<ServerConfig>,
    authority: PathBuf,
    _directory: TempDir,
}

impl Identity {
    /// Makes an authority and a certificate of it.
    pub(super) fn new(certificate: Certificate) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "pxed's lab");
        let key = KeyPair::generate()?;
        let root = params.self_signed(&key)?;
        let issuer = Issuer::from_params(&params, &key);

        let names = match certificate {
            Certificate::Good | Certificate::Expired => vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            Certificate::OfAnotherHost => vec!["another.test".to_owned()],
        };
        let mut params = CertificateParams::new(names)?;
        if certificate == Certificate::Expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)?;

        let directory = TempDir::new()?;
        let authority = directory.path().join("authority.pem");
        fs::write(&authority, root.pem()).context("cannot write the authority's certificate")?;
        Ok(Self { server: Arc::new(server), authority, _directory: directory })
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    pub(super) fn authority(&self) -> &Path {
        &self.authority
    }
}
