//! Keys that sign EFI programs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{namespace::output, requires};

/// An RSA key of 2,048 bits and its self-signed certificate, in files that are deleted when it is dropped.
#[derive(Debug)]
pub struct SigningKey {
    directory: TempDir,
}

impl SigningKey {
    /// Makes a key and its certificate.
    ///
    /// # Errors
    ///
    /// Fails with [`requires::Skip`] without OpenSSL.
    pub fn generate(common_name: &str) -> anyhow::Result<Self> {
        requires::tools(&["openssl"])?;
        let key = Self { directory: TempDir::new()? };
        let subject = format!("/CN={common_name}");
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-sha256", "-days", "3650", "-subj", &subject]);
        output(command.arg("-keyout").arg(key.key()).arg("-out").arg(key.certificate()))?;
        let mut command = Command::new("openssl");
        command.args(["x509", "-outform", "der", "-in"]).arg(key.certificate()).arg("-out").arg(key.in_der());
        output(&mut command)?;
        Ok(key)
    }

    /// Returns the file of the private key, in PEM.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// Returns the file of the certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    fn in_der(&self) -> PathBuf {
        self.directory.path().join("certificate.der")
    }

    /// Returns the certificate in DER.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read.
    pub fn certificate_der(&self) -> anyhow::Result<Vec<u8>> {
        fs::read(self.in_der()).context("cannot read the certificate")
    }

    /// Returns the EFI program with a signature.
    ///
    /// # Errors
    ///
    /// Fails with [`requires::Skip`] without `sbsign`, or with its output.
    pub fn sign(&self, program: &[u8]) -> anyhow::Result<Vec<u8>> {
        requires::tools(&["sbsign"])?;
        let (unsigned, signed) = (self.directory.path().join("unsigned.efi"), self.directory.path().join("signed.efi"));
        fs::write(&unsigned, program)?;
        let mut command = Command::new("sbsign");
        command.arg("--key").arg(self.key()).arg("--cert").arg(self.certificate()).arg("--output").arg(&signed);
        output(command.arg(&unsigned))?;
        let bytes = fs::read(&signed)?;
        for file in [unsigned, signed] {
            fs::remove_file(file)?;
        }
        Ok(bytes)
    }

    /// Checks that an EFI program has a signature of this key.
    ///
    /// # Errors
    ///
    /// Fails with [`requires::Skip`] without `sbverify`, or with its output.
    pub fn verify(&self, program: &Path) -> anyhow::Result<()> {
        requires::tools(&["sbverify"])?;
        output(Command::new("sbverify").arg("--cert").arg(self.certificate()).arg(program)).map(drop)
    }
}
